// Keeps corrections in this browser until they are registered, also if the page is closed or reloaded.

/**
 * @typedef {object} Draft
 * @property {string} id "uploads/…" or "imports/…"
 * @property {string} name of the file
 * @property {number} rejected rows
 * @property {number} corrected rows
 * @property {string} updated
 * @property {boolean} [asNew] whether a list of the same name is to be registered as a new list
 * @property {boolean} [registering] whether Register was pressed
 * @property {number} [unused] corrections of rows that were corrected already
 */
/**
 * @typedef {object} Edit
 * @property {string} draft
 * @property {number} line
 * @property {Cells} cells
 * @property {Fault[] | null} faults null if the server did not judge them yet
 */

const DAYS = 30;

/** @type {Promise<IDBDatabase> | undefined} */
let opened;

/** @returns {Promise<IDBDatabase>} */
function open() {
	opened ??= new Promise((resolve, reject) => {
		const request = indexedDB.open('rollcall', 1);
		request.onupgradeneeded = () => {
			request.result.createObjectStore('drafts', { keyPath: 'id' });
			request.result.createObjectStore('edits', { keyPath: ['draft', 'line'] });
		};
		request.onsuccess = () => resolve(request.result);
		request.onerror = () => reject(request.error);
	});
	return opened;
}

/**
 * @template Result
 * @param {IDBTransactionMode} mode
 * @param {(drafts: IDBObjectStore, edits: IDBObjectStore) => IDBRequest<Result>} use
 * @returns {Promise<Result>} the result of the request, once it is on the disk
 */
async function transact(mode, use) {
	const database = await open();
	return new Promise((resolve, reject) => {
		const transaction = database.transaction(['drafts', 'edits'], mode, { durability: 'strict' });
		const request = use(transaction.objectStore('drafts'), transaction.objectStore('edits'));
		transaction.oncomplete = () => resolve(request.result);
		transaction.onabort = () => reject(transaction.error);
	});
}

/** @param {string} draft */
const linesOf = (draft) => IDBKeyRange.bound([draft], [draft, []]);

/**
 * @param {Draft} draft
 * @param {Edit[]} [edits]
 */
export function save(draft, edits = []) {
	return transact('readwrite', (drafts, kept) => {
		for (const edit of edits) kept.put(edit);
		return drafts.put({ ...draft, updated: new Date().toISOString() });
	});
}

/**
 * @param {string} draft
 * @param {number[]} lines
 */
export function dropEdits(draft, lines) {
	return transact('readwrite', (drafts, edits) => {
		for (const line of lines) edits.delete([draft, line]);
		return drafts.count();
	});
}

/**
 * @param {string} id
 * @returns {Promise<Draft | undefined>} undefined, too, if this browser keeps nothing
 */
export function find(id) {
	return transact('readonly', (drafts) => drafts.get(id)).catch(() => undefined);
}

/**
 * @param {string} draft
 * @returns {Promise<Edit[]>}
 */
export function editsOf(draft) {
	return transact('readonly', (_drafts, edits) => edits.getAll(linesOf(draft)));
}

/**
 * Give the corrections of an upload to the import of the same file.
 * @param {string} from
 * @param {string} to
 */
export async function move(from, to) {
	const draft = await find(from);
	if (!draft) return;
	const edits = await editsOf(from);
	await transact('readwrite', (drafts, kept) => {
		drafts.put({ ...draft, id: to });
		for (const edit of edits) kept.put({ ...edit, draft: to });
		drafts.delete(from);
		return kept.delete(linesOf(from));
	});
}

/** @param {string} id */
export function remove(id) {
	return transact('readwrite', (drafts, edits) => {
		drafts.delete(id);
		return edits.delete(linesOf(id));
	});
}

/** @returns {Promise<Draft[]>} the drafts that are under way, the newest first; old ones are removed */
export async function all() {
	/** @type {Draft[]} */
	const found = await transact('readonly', (drafts) => drafts.getAll());
	const oldest = new Date(Date.now() - DAYS * 86_400_000).toISOString();
	await Promise.all(found.filter((draft) => draft.updated < oldest).map((draft) => remove(draft.id)));
	return found.filter((draft) => draft.updated >= oldest).sort((a, b) => (a.updated < b.updated ? 1 : -1));
}
