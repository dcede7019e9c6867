// Words, numbers and times in the language of the reader. Every sentence is in a catalogue.

/** @typedef {string | {[name: string]: Sentence}} Sentence a sentence, its forms by number, or a group of sentences */

const LANGUAGES = ['en', 'ja'];
const KEPT = 'rollcall.language';

/** @type {Sentence} */
let catalogue = {};
let language = 'en';
/** @type {Record<string, Schema>} */
let schemas = {};
let plural = new Intl.PluralRules('en');

/** @returns {string} */
export function currentLanguage() {
	return language;
}

/** @returns {string} the language that was chosen before, or that of the browser */
export function preferredLanguage() {
	const kept = localStorage.getItem(KEPT);
	const wanted = [...(kept ? [kept] : []), ...navigator.languages].map((tag) => tag.slice(0, 2));
	return wanted.find((tag) => LANGUAGES.includes(tag)) ?? 'en';
}

/**
 * Take a language.
 * @param {string} chosen
 * @param {boolean} [keep] whether it is kept for the next visit
 */
export async function useLanguage(chosen, keep = false) {
	const answer = await fetch(`/assets/${chosen}.json`);
	catalogue = await answer.json();
	language = chosen;
	plural = new Intl.PluralRules(chosen);
	document.documentElement.lang = chosen;
	if (keep) localStorage.setItem(KEPT, chosen);
}

/**
 * Return a sentence.
 * @param {string} path "group.name"
 * @param {Record<string, string | number | undefined>} [values] for the names in braces; `n` decides between singular and plural
 * @returns {string}
 */
export function t(path, values = {}) {
	const sentence = lookUp(path);
	return sentence === undefined ? path : filled(sentence, values);
}

/**
 * @param {string} path
 * @returns {boolean} whether the catalogue has a sentence
 */
export function has(path) {
	return lookUp(path) !== undefined;
}

/**
 * @param {string} path
 * @returns {Sentence | undefined}
 */
function lookUp(path) {
	/** @type {Sentence | undefined} */
	let found = catalogue;
	for (const name of path.split('.')) found = typeof found === 'object' ? found[name] : undefined;
	return found;
}

/**
 * @param {Sentence} sentence
 * @param {Record<string, string | number | undefined>} values
 */
function filled(sentence, values) {
	const forms = typeof sentence === 'string' ? { other: sentence } : sentence;
	const chosen = (plural.select(Number(values.n)) === 'one' && forms.one) || forms.other;
	return String(chosen).replace(/\{(\w+)\}/g, (whole, name) => {
		const value = values[name];
		return value === undefined ? whole : typeof value === 'number' ? number(value) : String(value);
	});
}

/** @param {number} value */
export function number(value) {
	return new Intl.NumberFormat(language).format(value);
}

/** @param {number} value a share of 1 */
export function percent(value) {
	return new Intl.NumberFormat(language, { style: 'percent' }).format(value);
}

/** @param {number} bytes */
export function size(bytes) {
	const units = ['byte', 'kilobyte', 'megabyte', 'gigabyte'];
	let unit = 0;
	while (bytes >= 1024 && unit < units.length - 1) {
		bytes /= 1024;
		unit += 1;
	}
	const unitDisplay = unit ? 'short' : 'long';
	return new Intl.NumberFormat(language, {
		style: 'unit',
		unit: units[unit],
		unitDisplay,
		maximumFractionDigits: bytes < 10 ? 1 : 0,
	}).format(bytes);
}

/** @param {string | Date} time */
export function dateAndTime(time) {
	return new Intl.DateTimeFormat(language, { dateStyle: 'long', timeStyle: 'short' }).format(new Date(time));
}

/** @param {string | Date} time */
export function clock(time) {
	return new Intl.DateTimeFormat(language, { timeStyle: 'short' }).format(new Date(time));
}

/** @param {string | Date} time */
export function day(time) {
	const date = new Date(time);
	const days = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(date).setHours(0, 0, 0, 0)) / 86_400_000);
	if (days === 0 || days === 1) {
		const word = new Intl.RelativeTimeFormat(language, { numeric: 'auto' }).format(-days, 'day');
		return word.charAt(0).toUpperCase() + word.slice(1);
	}
	return new Intl.DateTimeFormat(language, { dateStyle: 'full' }).format(date);
}

/** @param {string[]} items */
export function list(items) {
	return new Intl.ListFormat(language, { type: 'conjunction' }).format(items);
}

/**
 * Know the rules of the columns, whose limits are in the sentences.
 * @param {Column[]} columns of the policy
 */
export function useColumns(columns) {
	schemas = Object.fromEntries(columns.map(({ name, schema }) => [name, schema]));
}

/**
 * Return what is wrong, in one short sentence.
 * @param {string | null} code
 * @param {string | null} column null if the row or the file as a whole is wrong
 * @returns {string}
 */
export function wrong(code, column) {
	return aboutCode(code, 'title', column);
}

/**
 * Return what would be correct.
 * @param {string | null} code
 * @param {string | null} column
 * @returns {string}
 */
export function advice(code, column) {
	return aboutCode(code, 'help', column);
}

/**
 * @param {string | null} code
 * @param {string} part
 * @param {string | null} column
 */
function aboutCode(code, part, column) {
	const schema = schemas[column ?? ''];
	const special = `codes.${code}.${part}_${schema?.type}`;
	return t(has(special) ? special : `codes.${code}.${part}`, {
		column: column ?? t('grid.row'),
		minimum: schema?.minimum,
		maximum: schema?.maximum,
		length: schema?.maxLength,
	});
}

/**
 * Return the name that a file had on the uploader's machine.
 * @param {Receipt['source']} source
 * @returns {string}
 */
export function fileName(source) {
	if (source.bucket === 'api:') return t('receipt.one_user');
	return source.key.split('/').at(-1) || source.key;
}
