// One press registers the good rows, and then the corrected rows as corrections of that import.
import { call, Problem, uploadIn } from './api.js';
import * as store from './store.js';

const ROWS = 5000; // at a time
const BYTES = 3 * 1024 * 1024;

/**
 * Send all corrections that are kept for an import and that the server found good.
 * @param {number} importId
 * @param {string[]} columns
 * @param {(done: number, total: number) => void} progress
 * @param {AbortSignal} signal
 */
export async function sendCorrections(importId, columns, progress, signal) {
	const id = `imports/${importId}`;
	const edits = (await store.editsOf(id)).filter((edit) => edit.faults?.length === 0);
	let done = 0;
	while (edits.length) {
		const part = taken(edits, columns);
		progress(done, done + part.length + edits.length);
		let rows = part;
		/** @type {Upload | undefined} */
		let answer;
		while (rows.length && !answer) {
			try {
				answer = await call('POST', `/api/imports/${importId}/corrections`, {
					body: { rows: rows.map(({ line, cells }) => ({ line, cells })) },
					signal,
				});
			} catch (error) {
				if (!(error instanceof Problem) || error.code !== 'already-corrected' || !error.errors.length) throw error;
				// These rows were corrected before, perhaps by somebody else.
				const known = new Set(error.errors.map(({ pointer }) => Number(pointer.split('/')[2])));
				rows = rows.filter((_, index) => !known.has(index));
			}
		}
		if (answer) await uploadIn(answer.id, ['registered'], signal);
		await dropSent(id, part, part.length - rows.length);
		done += part.length;
	}
}

/**
 * @param {store.Edit[]} edits
 * @param {string[]} columns
 */
function taken(edits, columns) {
	let bytes = 0;
	let rows = 0;
	while (rows < edits.length && rows < ROWS && bytes < BYTES) {
		bytes += 40 + columns.reduce((sum, column) => sum + 3 * edits[rows].cells[column].length, 0);
		rows += 1;
	}
	return edits.splice(0, rows);
}

/**
 * @param {string} id
 * @param {store.Edit[]} edits
 * @param {number} unused how many of them were corrected already
 */
async function dropSent(id, edits, unused) {
	const draft = await store.find(id);
	if (!draft) return;
	const corrected = Math.max(0, draft.corrected - edits.length);
	await store.save({ ...draft, corrected, unused: (draft.unused ?? 0) + unused });
	await store.dropEdits(
		id,
		edits.map((edit) => edit.line),
	);
}
