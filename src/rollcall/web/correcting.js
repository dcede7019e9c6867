// The rejected rows of a check or an import, and their corrections: kept here, judged by the server.
import { call, Problem, sleep } from './api.js';
import { offered } from './grid.js';
import * as store from './store.js';
import { candidates } from './suggest.js';

const PAGE = 1000;
const BATCH = 200;
const DELAY = 250;
const MOST_ROWS = 100_000; // that a person corrects one by one

/** @typedef {import('./grid.js').Row} Row */

export class Correcting extends EventTarget {
	/**
	 * @param {string} id "uploads/…" or "imports/…"
	 * @param {string} name of the file
	 * @param {Policy} policy
	 * @param {number} total rejected rows that nobody corrected yet
	 * @param {AbortSignal} signal
	 */
	constructor(id, name, policy, total, signal) {
		super();
		this.id = id;
		this.policy = policy;
		this.columns = policy.columns.map((column) => column.name);
		this.total = total;
		this.signal = signal;
		/** @type {Row[]} */
		this.rows = [];
		/** @type {store.Draft} */
		this.draft = { id, name, rejected: total, corrected: 0, updated: '' };
		/** @type {string | null} why corrections are not judged at the moment */
		this.trouble = null;
		/** @type {boolean} whether this browser keeps corrections */
		this.kept = true;
		/** @type {Set<Row>} */
		this.unjudged = new Set();
		/** @type {{row: Row, cells: Cells}[]} */
		this.history = [];
		/** @type {Map<number, store.Edit>} */
		this.edits = new Map();
	}

	get tooMany() {
		return this.total > MOST_ROWS;
	}

	/** Load the rows, page by page; "rows" is dispatched at each page. */
	async load() {
		if (this.tooMany) return;
		try {
			this.draft = { ...this.draft, ...(await store.find(this.id)), rejected: this.total };
			for (const edit of await store.editsOf(this.id)) this.edits.set(edit.line, edit);
		} catch {
			this.kept = false;
		}
		/** @type {RejectionsPath | null} */
		let next = `/api/${this.id}/rejections?limit=${PAGE}`;
		while (next !== null) {
			/** @type {Rejections} */
			let page;
			try {
				page = await call('GET', next, { signal: this.signal });
			} catch (error) {
				if (!(error instanceof Problem) || !error.passes) throw error;
				this.setTrouble(error.code);
				await sleep(3000, this.signal);
				continue;
			}
			for (const found of page.rows) if (!found.corrected) this.add(found);
			next = page.next;
			if (next === null) this.total = this.rows.length;
			this.dispatchEvent(new Event('rows'));
		}
		this.draft.rejected = this.total;
		this.judgeSoon();
	}

	/** @param {FoundRow} found */
	add(found) {
		/** @type {Row} */
		const row = {
			line: found.line,
			record: found.record,
			cells: { ...found.cells },
			original: found.cells,
			faults: found.faults,
			now: found.faults,
			edited: false,
		};
		const edit = this.edits.get(row.line);
		if (edit) {
			row.cells = edit.cells;
			row.now = edit.faults;
			row.edited = true;
			if (!edit.faults) this.unjudged.add(row);
		}
		this.rows.push(row);
	}

	/** Rows that would be registered as they are now. */
	get corrected() {
		return this.rows.filter((row) => row.edited && row.now?.length === 0);
	}

	/** Rows that were changed, right or wrong. */
	get edited() {
		return this.rows.filter((row) => row.edited);
	}

	get left() {
		return this.total - this.corrected.length;
	}

	/**
	 * Change a cell.
	 * @param {Row} row
	 * @param {Cells} cells the new text of some columns
	 */
	change(row, cells) {
		this.history.push({ row, cells: row.cells });
		this.set(row, { ...row.cells, ...cells });
	}

	/** @returns {{row: Row, column: number} | undefined} the cell whose last change was undone */
	undo() {
		const last = this.history.pop();
		if (!last) return undefined;
		const { row, cells } = last;
		const column = this.columns.findIndex((name) => cells[name] !== row.cells[name]);
		this.set(row, cells);
		return { row, column };
	}

	/**
	 * @param {Row} row
	 * @param {Cells} cells
	 */
	set(row, cells) {
		row.cells = cells;
		row.offers = undefined;
		row.edited = this.columns.some((column) => cells[column] !== row.original[column]);
		row.now = row.edited ? null : row.faults;
		if (row.edited) this.unjudged.add(row);
		else this.unjudged.delete(row);
		this.keep([row]);
		this.dispatchEvent(new CustomEvent('change', { detail: [row] }));
		this.judgeSoon();
	}

	/**
	 * Write rows to the disk, so that nothing is lost.
	 * @param {Row[]} rows
	 */
	async keep(rows) {
		this.draft.corrected = this.corrected.length;
		/** @type {store.Edit[]} */
		const edits = rows
			.filter((row) => row.edited)
			.map((row) => ({ draft: this.id, line: row.line, cells: row.cells, faults: row.now }));
		try {
			await store.save(this.draft, edits);
			await store.dropEdits(
				this.id,
				rows.filter((row) => !row.edited).map((row) => row.line),
			);
		} catch {
			this.kept = false;
			this.dispatchEvent(new Event('trouble'));
		}
	}

	judgeSoon() {
		clearTimeout(this.timer);
		this.timer = setTimeout(() => this.judge(), DELAY);
	}

	async judge() {
		if (this.judging || !this.unjudged.size || this.signal.aborted) return;
		this.judging = true;
		const rows = [...this.unjudged].slice(0, BATCH);
		const asked = rows.map((row) => row.cells);
		try {
			const judged = await this.check(asked);
			const settled = rows.filter((row, index) => row.cells === asked[index]);
			rows.forEach((row, index) => {
				if (row.cells !== asked[index]) return; // it was edited meanwhile, and is judged again
				row.now = judged[index];
				this.unjudged.delete(row);
			});
			this.setTrouble(null);
			await this.keep(settled);
			this.dispatchEvent(new CustomEvent('change', { detail: settled }));
		} catch (error) {
			if (this.signal.aborted) return;
			this.setTrouble(error instanceof Problem ? error.code : 'internal-error');
			this.timer = setTimeout(
				() => this.judge(),
				error instanceof Problem && error.status === 401 ? 60_000 : 3000,
			);
		} finally {
			this.judging = false;
		}
		if (this.unjudged.size && !this.trouble) this.judgeSoon();
	}

	/**
	 * @param {Cells[]} cells
	 * @returns {Promise<Fault[][]>} the faults of each row
	 */
	async check(cells) {
		if (!cells.length) return [];
		try {
			const answer = await call('POST', '/api/rows/check', { body: { rows: cells }, signal: this.signal });
			return answer.rows.map((row) => row.faults);
		} catch (error) {
			if (!(error instanceof Problem) || error.status !== 422) throw error;
			// One cell cannot be in any file; the others are judged one by one.
			if (cells.length === 1) {
				const column = error.errors[0]?.pointer.split('/').at(-1) ?? null;
				return [[{ code: error.code, column, message: error.detail }]];
			}
			const middle = cells.length >> 1;
			return [...(await this.check(cells.slice(0, middle))), ...(await this.check(cells.slice(middle)))];
		}
	}

	/**
	 * Find likely corrections of rows, once for each row.
	 * @param {Row[]} rows
	 */
	async offer(rows) {
		const asked = [];
		for (const row of rows) {
			if (row.offers || !row.now?.length) continue;
			row.offers = {};
			for (const { name, schema } of this.policy.columns) {
				if (!row.now.some((fault) => fault.column === name)) continue;
				for (const value of candidates(row.cells[name], schema)) {
					asked.push({ row, column: name, value, before: row.cells });
				}
			}
		}
		try {
			for (let start = 0; start < asked.length; start += BATCH) {
				const part = asked.slice(start, start + BATCH);
				const judged = await this.check(part.map(({ row, column, value }) => ({ ...row.cells, [column]: value })));
				const changed = new Set();
				part.forEach(({ row, column, value, before }, index) => {
					const good = !judged[index].some((fault) => fault.column === column);
					if (!good || row.cells !== before || !row.offers || row.offers[column]) return;
					row.offers[column] = value;
					changed.add(row);
				});
				if (changed.size) this.dispatchEvent(new CustomEvent('change', { detail: [...changed] }));
			}
		} catch (error) {
			if (!this.signal.aborted && !(error instanceof Problem)) throw error;
			for (const { row } of asked) if (!offered(row)) row.offers = undefined;
		}
	}

	/**
	 * @param {Row} row
	 * @returns {void}
	 */
	applyOffer(row) {
		if (row.offers && offered(row)) this.change(row, row.offers);
	}

	/** @param {string | null} code */
	setTrouble(code) {
		if (this.trouble === code) return;
		this.trouble = code;
		this.dispatchEvent(new Event('trouble'));
	}
}
