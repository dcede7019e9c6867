// A receipt by its address, and the history of imports.
import { call, mayOperate, Problem } from './api.js';
import { Correcting } from './correcting.js';
import { announce, fill, h, icon, saveAs } from './dom.js';
import { another, backToReceipt, badge, confirmed, failure, reasonOf, sum, waiting, when } from './parts.js';
import * as store from './store.js';
import { clock, day, daysOf, fileName, searched, size, t, wrong } from './text.js';
import { Workbench } from './workbench.js';

const PAGE = 50;

/** @param {Imported} receipt */
const registered = (receipt) => receipt.counts.registered + receipt.counts.updated;

/**
 * Return the imports in force that correct an import, the oldest first.
 * @param {number} id
 * @param {AbortSignal} signal
 * @returns {Promise<Imported[]>}
 */
export async function correctionsOf(id, signal) {
	const found = [];
	/** @type {ImportsPath | null} */
	let next = `/api/imports?corrects=${id}`;
	while (next !== null) {
		/** @type {Imports} */
		const page = await call('GET', next, { signal });
		found.push(...page.imports);
		next = page.next;
	}
	return found.reverse();
}

const ICONS = { rest: 'undo', good: 'check', warn: 'warn', bad: 'cross' };

/**
 * @param {Imported} receipt
 * @param {number} left rows that are still to correct
 */
function kindOf(receipt, left) {
	if (receipt.undone) return 'rest';
	if (!['loaded', 'partially_loaded'].includes(receipt.status)) return 'bad';
	return left ? 'warn' : 'good';
}

/** @param {Imported[]} imports */
const registeredBy = (imports) => imports.reduce((total, one) => total + registered(one), 0);

/**
 * Return how many rejected rows of an import nobody corrected yet.
 * @param {Imported} receipt
 * @param {Imported[]} corrections
 */
export const rowsLeft = ({ counts }, corrections) => Math.max(0, counts.rejected - registeredBy(corrections));

/**
 * @param {HTMLElement} main
 * @param {View} page
 * @param {number} id
 */
export async function receiptView(main, page, id) {
	fill(main, waiting(t('app.loading')));
	const receipt = await call('GET', `/api/imports/${id}`, { signal: page.signal });
	const corrections = await correctionsOf(id, page.signal);
	const { counts } = receipt;
	const corrected = registeredBy(corrections);
	const all = registered(receipt) + corrected;
	const name = fileName(receipt.source);
	const left = rowsLeft(receipt, corrections);
	const kind = kindOf(receipt, left);
	const good = kind === 'good' || kind === 'warn';
	const said = { rest: 'undone', good: 'registered', warn: 'partly', bad: receipt.status }[kind];
	const title = t(`receipt.${said}`, { n: all, of: counts.read });
	const draft = await store.find(`imports/${id}`);
	const unused = draft?.unused;
	if (draft?.unused) await store.save({ ...draft, unused: 0 });
	if (draft && !draft.corrected) await store.remove(draft.id).catch(() => {});
	const parts = [
		{
			name: t(receipt.undone ? 'counts.removed' : 'counts.registered'),
			value: counts.registered,
			kind: receipt.undone ? 'rest' : 'good',
		},
		{ name: t('counts.updated'), value: counts.updated, kind: 'good' },
		{ name: t('counts.unchanged'), value: counts.unchanged, kind: 'rest' },
		{ name: t('counts.corrected'), value: Math.min(corrected, counts.rejected), kind: 'good' },
		{ name: t('counts.rejected_done'), value: left, kind: receipt.undone ? 'rest' : 'bad' },
		{ name: t('counts.withheld'), value: counts.withheld, kind: 'rest' },
	];
	const original = receipt.corrects && String(receipt.corrects);
	const done = corrections.map((one) => {
		const id = String(one.import_id);
		const sentence = t('receipt.correction', { n: registered(one), id });
		return h('li', icon('check'), h('a', { href: `#/imports/${id}` }, sentence));
	});
	fill(
		main,
		h(
			`article.receipt.${kind}`,
			badge(ICONS[kind], kind),
			h('h1', { tabindex: -1 }, title),
			h('p.lead', h('bdi', name)),
			receipt.undone && h('p.lead', t('receipt.undone_more')),
			!!unused && h('p.center', { role: 'status' }, icon('warn'), ' ', t('receipt.unused', { n: unused })),
			counts.read ? sum(counts.read, parts) : null,
			corrections.length ? h('ul.corrections', { 'aria-label': t('receipt.corrections') }, ...done) : null,
			original &&
				h('p.center', h('a', { href: `#/imports/${original}` }, t('receipt.corrects', { id: original }))),
			!good && !receipt.undone ? reasonOf(receipt) : null,
			h(
				'div.paper',
				h(
					'dl',
					line(t('receipt.import'), String(receipt.import_id)),
					line(t('receipt.when'), when(receipt.started)),
				),
				h('details', h('summary', t('receipt.file')), h('dl', ...aboutFile(receipt.source))),
			),
			good && left ? leftOver(receipt, left, page) : null,
			h(
				'div.actions',
				another(good && left ? 'plain' : 'primary'),
				copyLink(),
				good && mayOperate()
					? h(
							'button.plain',
							{ onclick: () => undo(main, page, receipt, corrections) },
							icon('undo'),
							t('undo.button'),
						)
					: null,
			),
		),
	);
	announce(title);
	if (receipt.status === 'refused' && counts.rejected) await showRows(main, page, receipt);
}

/**
 * Show rows to read.
 * @param {HTMLElement} main
 * @param {View} page
 * @param {Imported} receipt
 */
async function showRows(main, page, receipt) {
	const { import_id: id, source, counts, totals } = receipt;
	const correcting = new Correcting(`imports/${id}`, fileName(source), page.policy, counts.rejected, page.signal);
	main.append(
		new Workbench(correcting, totals, false).element,
		h('div.actions', downloadButton(id, counts.rejected, page)),
	);
	await correcting.load().catch((error) => {
		if (error.status !== 404) throw error;
	});
}

/** @param {Receipt['source']} source */
function aboutFile(source) {
	const stored = source.size === null ? [] : [size(source.size), source.compression];
	return [
		line(t('receipt.size'), stored.filter(Boolean).join(' · ') || '–'),
		source.encoding && line(t('receipt.encoding'), source.encoding.toUpperCase()),
		source.sha256 && line(t('receipt.content'), source.sha256, 'mono'),
	];
}

/**
 * @param {string} name
 * @param {Child} value
 * @param {string} [kind]
 */
function line(name, value, kind = 'plain') {
	return h('div', h('dt', name), h(`dd.${kind}`, value));
}

function copyLink() {
	const button = h(
		'button.plain',
		{
			onclick: async () => {
				await navigator.clipboard.writeText(location.href);
				button.textContent = t('receipt.copied');
				announce(t('receipt.copied'));
			},
		},
		t('receipt.copy'),
	);
	return button;
}

/**
 * @param {Imported} receipt
 * @param {number} left
 * @param {View} page
 */
function leftOver(receipt, left, page) {
	const id = receipt.import_id;
	return h(
		'section.left-over',
		{ 'aria-labelledby': 'left' },
		h('h2', { id: 'left' }, t('receipt.left', { n: left })),
		left === receipt.counts.rejected &&
			h(
				'ul',
				...receipt.totals
					.slice(0, 6)
					.map((one) => h('li', t('grid.filter', { n: one.count, wrong: wrong(one.code, one.column) }))),
			),
		h(
			'div.actions.start',
			h('a.button.primary', { href: `#/imports/${id}/correct` }, t('receipt.correct', { n: left })),
			downloadButton(id, left, page),
		),
	);
}

/**
 * @param {number} id
 * @param {number} n rows
 * @param {View} page
 */
function downloadButton(id, n, page) {
	const download = async () => {
		try {
			const body = await call('GET', `/api/imports/${id}/rejected?as=link`, { signal: page.signal });
			if (body instanceof Blob) saveAs(body, `rejected-${id}.csv`);
			else location.assign(body.url); // an attachment, so the page stays
		} catch (error) {
			if (!(error instanceof Problem)) throw error;
			button.after(h('p.soft', { role: 'alert' }, error.sentence));
		}
	};
	const button = h('button.plain', { onclick: download }, t('receipt.download', { n }));
	return button;
}

/**
 * Undo an import, and before it the imports that correct it.
 * @param {HTMLElement} main
 * @param {View} page
 * @param {Imported} receipt
 * @param {Imported[]} corrections
 */
async function undo(main, page, receipt, corrections) {
	const all = [...corrections].reverse().concat(receipt);
	const users = registeredBy(all);
	const body = [t('undo.what', { n: users, name: fileName(receipt.source) })];
	if (corrections.length) body.push(t('undo.with', { n: corrections.length }));
	body.push(t(receipt.corrects ? 'undo.again_rows' : 'undo.again'));
	if (!(await confirmed(t('undo.title', { n: users }), body, t('undo.yes', { n: users })))) return;
	fill(main, waiting(t('undo.doing', { n: users })));
	try {
		for (const one of all) {
			await undoOne(one.import_id, page.signal);
		}
		page.go(`#/imports/${receipt.import_id}`);
	} catch (error) {
		if (page.signal.aborted) return;
		if (!(error instanceof Problem)) throw error;
		fill(
			main,
			failure(error.sentence, backToReceipt(receipt.import_id)),
			error.detail && h('p.soft.center', { lang: 'en' }, error.detail),
		);
	}
}

/**
 * @param {number} id
 * @param {AbortSignal} signal
 */
async function undoOne(id, signal) {
	const path = `/api/imports/${id}/undo`;
	try {
		await call('POST', path, { body: {}, signal });
	} catch (error) {
		if (!(error instanceof Problem) || error.code !== 'undo-unconfirmed') throw error;
		const ask = [t('undo.fewer', { detail: error.detail })];
		if (!(await confirmed(t('undo.fewer_title'), ask, t('undo.fewer_yes')))) throw error;
		await call('POST', path, { body: { confirmed: true }, signal });
	}
}

/**
 * @param {HTMLElement} main
 * @param {View} page
 */
export async function historyView(main, page) {
	fill(main, waiting(t('app.loading')));
	/** @type {Imported[]} */
	const entries = [];
	/** @type {ImportsPath | null} */
	let next = `/api/imports?limit=${PAGE}`;
	const listed = h('div.days');
	const search = h('input.search', {
		type: 'search',
		placeholder: t('history.search'),
		'aria-label': t('history.search'),
		oninput: () => show(),
	});
	const more = h('button.plain', { onclick: () => load() }, t('history.more'));
	const show = () => {
		const words = searched(search.value);
		const known = new Map(entries.map((one) => [one.import_id, one]));
		/** @param {Imported} one */
		const name = (one) => {
			if (!one.corrects) return fileName(one.source);
			const list = known.get(one.corrects);
			const number = t('receipt.number', { id: String(one.corrects) });
			return t('history.corrections', { name: list ? fileName(list.source) : number });
		};
		const found = entries.filter((one) => {
			const id = String(one.import_id);
			return (
				searched(name(one)).includes(words) ||
				[id, searched(t('receipt.number', { id }))].includes(words) ||
				(/\D/.test(words) && daysOf(one.started).some((form) => searched(form).startsWith(words)))
			);
		});
		// Corrections are newer than what they correct, so they have arrived before it.
		const corrections = Map.groupBy(entries, (one) => (one.undone ? null : one.corrects));
		const days = Map.groupBy(found, (one) => day(one.started));
		/** @param {Imported} one */
		const item = (one) => {
			const corrected = registeredBy(corrections.get(one.import_id) ?? []);
			return h('li', entry(one, name(one), corrected));
		};
		fill(
			listed,
			...[...days].map(([title, ones]) => h('section', h('h2', title), h('ul.rows', ...ones.map(item)))),
			entries.length && !found.length
				? h('p.soft.center', t('history.none_found'), ' ', next && t('history.not_loaded'))
				: null,
		);
		more.hidden = next === null;
	};
	const load = async () => {
		if (next === null) return;
		const found = await call('GET', next, { signal: page.signal });
		entries.push(...found.imports);
		next = found.next;
		show();
	};
	await load();
	if (!entries.length) {
		fill(
			main,
			h(
				'section.card.state',
				badge('clock', 'rest'),
				h('h1', t('history.empty')),
				h('p.soft', t('history.empty_more')),
				h('div.actions', h('a.button.primary', { href: '#/' }, t('home.choose'))),
			),
		);
		return;
	}
	fill(
		main,
		h('header.intro.slim', h('h1', { tabindex: -1 }, t('app.history')), search),
		listed,
		h('div.actions', more),
	);
}

/**
 * @param {Imported} receipt
 * @param {string} name
 * @param {number} corrected how many of its rejected rows are registered since
 */
function entry(receipt, name, corrected) {
	const left = Math.max(0, receipt.counts.rejected - corrected);
	const kind = kindOf(receipt, left);
	const said = [];
	if (kind === 'rest') said.push(t('history.undone', { n: registered(receipt) }));
	else if (kind === 'bad') said.push(wrong(receipt.code, null));
	else said.push(t('history.registered', { n: registered(receipt) + corrected }));
	if (kind === 'warn') said.push(t('history.rejected', { n: left }));
	return h(
		'a.row',
		{ href: `#/imports/${receipt.import_id}` },
		badge(ICONS[kind], kind),
		h('span.row-main', h('bdi', name), h('span.soft', said.join(' · '))),
		h(
			'span.row-side',
			h('span', when(receipt.started, clock)),
			h('span.soft', t('receipt.number', { id: String(receipt.import_id) })),
		),
	);
}
