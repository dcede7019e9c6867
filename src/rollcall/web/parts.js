// Parts that several views show.
import { h, icon, style } from './dom.js';
import { advice, dateAndTime, number, t, wrong } from './text.js';

/** @typedef {{name: string, value: number, kind: string}} Part */

/**
 * Show numbers that add up: a bar, and below it the sum.
 * @param {number} read
 * @param {Part[]} parts
 * @returns {HTMLElement}
 */
export function sum(read, parts) {
	const shown = parts.filter((part) => part.value > 0);
	style('sum', shown.map((part, index) => `.bar .part${index} { flex-grow: ${part.value} }`).join(' '));
	return h(
		'div.sum',
		h('div.bar', { 'aria-hidden': 'true' }, ...shown.map((part, index) => h(`span.${part.kind}.part${index}`))),
		h(
			'dl.equation',
			h('div', h('dt', t('counts.read', { n: read })), h('dd', number(read))),
			...shown.map((part) => h(`div.${part.kind}`, h('dt', part.name), h('dd', number(part.value)))),
		),
	);
}

/**
 * Say what happened to a file as a whole.
 * @param {Receipt} receipt
 * @returns {HTMLElement}
 */
export function reasonOf(receipt) {
	const code = receipt.code;
	return h(
		'section.reason-card',
		h('h2', wrong(code, null) || code),
		h('p', advice(code, null)),
		receipt.message &&
			h(
				'details',
				h('summary', t('receipt.details')),
				h('p.message', { lang: 'en', dir: 'auto' }, receipt.message),
			),
	);
}

/**
 * Show that something did not work.
 * @param {string} sentence
 * @param {...(Node | null)} actions
 */
export function failure(sentence, ...actions) {
	return h(
		'section.card.state',
		{ role: 'alert' },
		badge('warn', 'warn'),
		h('h1', sentence),
		h('div.actions', ...actions),
	);
}

/** Offer to register another list. */
export const another = (kind = 'primary') => h(`a.button.${kind}`, { href: '#/' }, t('actions.another'));

/** @param {number} id of an import */
export const backToReceipt = (id) => h('a.button.primary', { href: `#/imports/${id}` }, t('undo.back'));

/**
 * @param {string} picture
 * @param {string} kind
 */
export function badge(picture, kind) {
	return h(`span.badge.${kind}`, { 'aria-hidden': 'true' }, icon(picture));
}

/**
 * Show that something goes on.
 * @param {string} title
 * @param {...(Node | string | null)} more
 */
export function waiting(title, ...more) {
	return h(
		'section.card.state',
		{ 'aria-busy': 'true' },
		h('span.badge.busy', { 'aria-hidden': 'true' }, h('span.spinner')),
		h('h1', title),
		...more.filter((one) => one !== null),
	);
}

/**
 * Show where one is between the file and the receipt.
 * @param {number} current 0 to 2
 * @param {boolean} [corrected] whether rows were corrected
 */
export function steps(current, corrected = false) {
	/** @param {number} index */
	const done = (index) => index < current && (index !== 1 || corrected);
	return h(
		'ol.steps',
		{ 'aria-label': t('steps.label') },
		...['check', 'correct', 'register'].map((name, index) =>
			h(
				done(index) ? 'li.done' : 'li',
				{ 'aria-current': index === current ? 'step' : null },
				h('span.dot', { 'aria-hidden': 'true' }, done(index) ? icon('check') : String(index + 1)),
				t(`steps.${name}`),
			),
		),
	);
}

/**
 * Show a time.
 * @param {string} time
 * @param {(time: string) => string} [format]
 */
export function when(time, format = dateAndTime) {
	return h('time', { datetime: time }, format(time));
}

/**
 * Ask before something that cannot be taken back.
 * @param {string} title
 * @param {(string | Node)[]} body
 * @param {string} action
 * @returns {Promise<boolean>}
 */
export function confirmed(title, body, action) {
	return new Promise((resolve) => {
		/** @type {HTMLDialogElement} */
		const dialog = h(
			'dialog',
			{
				'aria-labelledby': 'ask',
				onclose: () => {
					dialog.remove();
					resolve(dialog.returnValue === 'yes');
				},
			},
			h('h2', { id: 'ask' }, title),
			...body.map((one) => (typeof one === 'string' ? h('p', one) : one)),
			h(
				'div.actions',
				h('button.plain', { autofocus: true, onclick: () => dialog.close('no') }, t('actions.cancel')),
				h('button.danger', { onclick: () => dialog.close('yes') }, action),
			),
		);
		document.body.append(dialog);
		dialog.showModal();
	});
}
