// Words, numbers and times in the reader's language. Every sentence is in a catalogue.

/** @typedef {string | {[name: string]: Sentence}} Sentence a sentence, its forms by number, or a group of sentences */

const LANGUAGES = ['en', 'ja'];
const KEPT = 'rollcall.language';

/** @type {Sentence} */
let catalogue = {};
let language = 'en';
/** @type {Record<string, Column>} */
let columns = {};
let plural = new Intl.PluralRules('en');

export const currentLanguage = () => language;

/** @returns {string} the language chosen before, or the browser's */
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
	return filled(lookUp(path) ?? path, values);
}

/**
 * @param {string} path
 * @returns {boolean} whether the catalogue has a sentence
 */
export const has = (path) => lookUp(path) !== undefined;

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
export const number = (value) => value.toLocaleString(language);

/** @param {number} value a share of 1 */
export const percent = (value) => value.toLocaleString(language, { style: 'percent' });

/** @param {number} bytes */
export function size(bytes) {
	const units = ['byte', 'kilobyte', 'megabyte', 'gigabyte'];
	const power = Math.min(Math.floor(Math.log2(bytes || 1) / 10), units.length - 1);
	const value = bytes / 1024 ** power;
	const unitDisplay = power ? 'short' : 'long';
	const maximumFractionDigits = value < 10 ? 1 : 0;
	return value.toLocaleString(language, { style: 'unit', unit: units[power], unitDisplay, maximumFractionDigits });
}

/** @param {string} time */
export const dateAndTime = (time) => date(time, language, { dateStyle: 'long', timeStyle: 'short' });

/** @param {string} time */
export const clock = (time) => date(time, language, { timeStyle: 'short' });

/**
 * @param {string} time
 * @param {string} locale
 * @param {Intl.DateTimeFormatOptions} [options]
 */
const date = (time, locale, options) => new Intl.DateTimeFormat(locale, options).format(new Date(time));

/** @type {[string, Intl.DateTimeFormatOptions?][]} */
const WAYS = [
	['sv'], // 2026-11-29
	['ja'],
	['en'],
	['en', { dateStyle: 'long' }],
	['ja', { dateStyle: 'long' }],
	['ja', { month: 'long', day: 'numeric' }],
];

/**
 * Return the ways to write a day.
 * @param {string} time
 */
export const daysOf = (time) => [day(time), ...WAYS.map((way) => date(time, ...way))];

/**
 * Return a text as it is searched: in small letters of usual width, without spaces and leading zeros.
 * @param {string} text
 */
export const searched = (text) =>
	text
		.normalize('NFKC')
		.toLowerCase()
		.replace(/\s+|(?<!\d)0+(?=\d)/g, '');

/** @param {string} time */
export function day(time) {
	const days = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(time).setHours(0, 0, 0, 0)) / 86_400_000);
	if (days === 0 || days === 1) {
		const word = new Intl.RelativeTimeFormat(language, { numeric: 'auto' }).format(-days, 'day');
		return word.charAt(0).toUpperCase() + word.slice(1);
	}
	return date(time, language, { dateStyle: 'full' });
}

/** @param {string[]} items */
export const list = (items) => new Intl.ListFormat(language, { type: 'conjunction' }).format(items);

/**
 * Know the rules of the columns, whose limits are in the sentences.
 * @param {Column[]} known columns of the policy
 */
export function useColumns(known) {
	columns = Object.fromEntries(known.map((column) => [column.name, column]));
}

/**
 * Return a column of the policy; faults may name other columns.
 * @param {string | null} name
 * @returns {Column | undefined}
 */
export const columnNamed = (name) => columns[name ?? ''];

/** The pattern of text without a form of its own. */
const PLAIN = String.raw`^[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]*$`;

/**
 * Return what the values of a column are.
 * @param {Schema} schema
 */
export function kindOf({ type, format, enum: values, pattern, maxLength }) {
	if (type !== 'string') return type;
	if (values) return 'choice';
	if (pattern === PLAIN) return 'text';
	if (format === 'date') return format;
	return format || maxLength ? 'form' : 'number'; // only the text of a number has no length
}

/**
 * Return what is wrong, in one short sentence.
 * @param {string | null} code
 * @param {string | null} column null if the row or the file as a whole is wrong
 */
export const wrong = (code, column) => aboutCode(code, 'title', column);

/**
 * Return what would be correct; nothing if only the server's message says that.
 * @param {string | null} code
 * @param {string | null} column
 */
export const advice = (code, column) => aboutCode(code, 'help', column);

/**
 * @param {string | null} code
 * @param {string} part
 * @param {string | null} column
 */
function aboutCode(code, part, column) {
	const schema = columnNamed(column)?.schema;
	const general = `codes.${code}.${part}`;
	const path = [`${general}_${schema && kindOf(schema)}`, general].find(has);
	if (!path) return '';
	return t(path, {
		column: column ?? t('grid.row'),
		minimum: schema?.minimum,
		maximum: schema?.maximum,
		length: schema?.maxLength,
		columns: list(Object.keys(columns).filter((name) => !columns[name].optional)),
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
