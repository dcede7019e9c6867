// Sends a file: compressed here, then with a form that the Web API signed.
import { call, Problem } from './api.js';

const PIECE = 64 * 1024;
const WORK_MILLISECONDS = 30;

/** @typedef {(phase: string, done: number) => void} Progress `done` is a share of 1 */

/** @param {File} file */
export async function isGzip(file) {
	const [first, second] = new Uint8Array(await file.slice(0, 2).arrayBuffer());
	return first === 0x1f && second === 0x8b;
}

/**
 * Send a file to the inbox. Nothing is registered.
 * @param {File} file
 * @param {boolean} packed
 * @param {Progress} progress
 * @param {AbortSignal} signal
 * @returns {Promise<string>} the id of the upload
 */
export async function send(file, packed, progress, signal) {
	const data = packed ? file : await compressed(file, progress, signal);
	const form = await call('POST', '/api/uploads', {
		body: { filename: [...file.name].slice(-200).join(''), size: data.size },
		signal,
	});
	const fields = new FormData();
	for (const [name, value] of Object.entries(form.fields)) fields.append(name, String(value));
	fields.append('file', data);
	await post(form.url, fields, progress, signal);
	return form.id;
}

/**
 * @param {File} file
 * @param {Progress} progress
 * @param {AbortSignal} signal
 * @returns {Promise<Blob>}
 */
async function compressed(file, progress, signal) {
	let done = 0;
	let rested = performance.now();
	const counted = new TransformStream({
		/** @param {Uint8Array} chunk */
		async transform(chunk, controller) {
			for (let start = 0; start < chunk.byteLength; start += PIECE) {
				const piece = chunk.subarray(start, start + PIECE);
				controller.enqueue(piece);
				done += piece.byteLength;
				progress('packing', done / file.size);
				if (performance.now() - rested < WORK_MILLISECONDS) continue;
				await new Promise((rest) => setTimeout(rest)); // the page answers meanwhile
				rested = performance.now();
			}
		},
	});
	const stream = file.stream().pipeThrough(counted, { signal }).pipeThrough(new CompressionStream('gzip'));
	return new Response(stream).blob();
}

/**
 * @param {string} url
 * @param {FormData} fields
 * @param {Progress} progress
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
function post(url, fields, progress, signal) {
	return new Promise((resolve, reject) => {
		const request = new XMLHttpRequest(); // `fetch` does not tell how much is sent
		request.open('POST', url);
		request.upload.onprogress = (event) => progress('sending', event.loaded / event.total);
		request.onload = () => {
			if (request.status < 300) return resolve();
			reject(new Problem(request.status, request.status === 413 ? 'size-limit' : 'length-required'));
		};
		request.onerror = () => reject(new Problem(0, 'offline'));
		request.onabort = () => reject(signal.reason);
		signal.addEventListener('abort', () => request.abort());
		progress('sending', 0);
		request.send(fields);
	});
}
