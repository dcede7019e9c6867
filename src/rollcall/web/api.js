// Asks the Web API. Every failure is a `Problem`, whose sentence is in the catalogues.
import { has, t } from './text.js';

const SECONDS = 30;
const TRIES = 4;
const KEPT = 'rollcall.token';

/** @type {string | null} */
let token = null;

export const events = new EventTarget(); // "signedout", "offline" and "online"

/** A request that failed. */
export class Problem extends Error {
	/**
	 * @param {number} status 0 if there was no answer
	 * @param {string} code
	 * @param {ProblemBody | null} [body]
	 * @param {Headers} [headers]
	 */
	constructor(status, code, body, headers) {
		super(code);
		this.status = status;
		this.code = code;
		this.errors = body?.errors ?? [];
		this.detail = body?.detail ?? '';
		this.seconds = Number(headers?.get('retry-after')) || 2;
		const related = headers?.get('link')?.match(/\/api\/imports\/(\d+)>/);
		this.importId = related ? Number(related[1]) : null;
	}

	/** Whether the same request may work later. */
	get passes() {
		return [0, 429, 500, 502, 503, 504].includes(this.status);
	}

	/** What happened, for a person. */
	get sentence() {
		return sentenceOf(this.code);
	}
}

/**
 * @param {string} code
 * @returns {string} what happened, for a person
 */
export function sentenceOf(code) {
	const known = [`problems.${code}`, `network.${code}`, `codes.${code}.title`].find(has);
	return t(known ?? 'problems.internal-error');
}

/**
 * Take the token of an address that `rollcall serve` opened, or the one of this tab.
 * @returns {boolean} whether there is one
 */
export function findToken() {
	const [, found] = location.hash.match(/^#token=([\w-]+)$/) ?? [];
	if (found) {
		sessionStorage.setItem(KEPT, found); // of this machine only; the token of an issuer stays in memory
		history.replaceState(null, '', `${location.pathname}#/`);
	}
	token = sessionStorage.getItem(KEPT);
	return token !== null;
}

/** @param {string | null} given */
export function setToken(given) {
	token = given;
}

export function forgetToken() {
	token = null;
	sessionStorage.removeItem(KEPT);
}

export const isSignedIn = () => token !== null;

/** @returns {boolean} whether the token, if it can be read, allows to undo */
export function mayOperate() {
	try {
		const claims = JSON.parse(atob((token ?? '').split('.')[1].replaceAll('-', '+').replaceAll('_', '/')));
		return String(claims.scope ?? claims.scp ?? '').includes('rollcall/operate');
	} catch {
		return true; // it is not to be read; the server decides
	}
}

/** @typedef {{body?: object, headers?: Record<string, string>, signal?: AbortSignal}} More */

/**
 * Ask once.
 * @template {string} Path
 * @param {string} method
 * @param {Path} path
 * @param {More} more
 * @returns {Promise<Answer<Path>>} the body
 */
async function ask(method, path, { body, headers = {}, signal }) {
	const timeout = AbortSignal.timeout(SECONDS * 1000);
	/** @type {Response} */
	let answer;
	let read = null;
	try {
		answer = await fetch(path, {
			method,
			headers: {
				...(token ? { Authorization: `Bearer ${token}` } : {}),
				...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
				...headers,
			},
			body: body === undefined ? undefined : JSON.stringify(body),
			signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
			cache: 'no-store',
			redirect: 'error',
		});
		const type = answer.headers.get('content-type') ?? '';
		read = type.includes('json') ? await answer.json() : type.startsWith('text/csv') ? await answer.blob() : null;
	} catch {
		signal?.throwIfAborted();
		events.dispatchEvent(new Event('offline'));
		throw new Problem(0, 'offline');
	}
	events.dispatchEvent(new Event('online'));
	if (answer.ok) return read;
	const code = read?.type?.split(':').at(-1) ?? (answer.status === 429 ? 'too-many-requests' : 'internal-error');
	if (answer.status === 401) {
		forgetToken();
		events.dispatchEvent(new Event('signedout'));
		throw new Problem(401, 'not-signed-in', read, answer.headers);
	}
	throw new Problem(answer.status, code, read, answer.headers);
}

/**
 * Ask, and again if the server is busy. Only for requests that may be repeated: all of the page's are.
 * @template {string} Path
 * @param {string} method
 * @param {Path} path
 * @param {More} [more]
 * @returns {Promise<Answer<Path>>} the body
 */
export async function call(method, path, more = {}) {
	for (let tries = 1; ; tries += 1) {
		try {
			return await ask(method, path, more);
		} catch (error) {
			if (!(error instanceof Problem) || ![429, 503].includes(error.status) || tries === TRIES) throw error;
			await sleep(Math.min(error.seconds, 10) * 1000 * tries, more.signal);
		}
	}
}

/**
 * Wait.
 * @param {number} milliseconds
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function sleep(milliseconds, signal) {
	return new Promise((resolve, reject) => {
		if (signal?.aborted) return reject(signal.reason);
		const timer = setTimeout(resolve, milliseconds);
		signal?.addEventListener('abort', () => {
			clearTimeout(timer);
			reject(signal.reason);
		});
	});
}

/**
 * Wait until an upload is in one of some states.
 * @template {Upload['state']} State
 * @param {string} id
 * @param {State[]} states
 * @param {AbortSignal} signal
 * @returns {Promise<Extract<Upload, {state: State}>>}
 */
export async function uploadIn(id, states, signal) {
	let wait = 300;
	for (;;) {
		const upload = await call('GET', `/api/uploads/${id}`, { signal });
		if (states.some((state) => state === upload.state)) return /** @type {any} */ (upload);
		await sleep(wait, signal);
		wait = Math.min(wait * 1.5, 3000);
	}
}
