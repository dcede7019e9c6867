// The first view: choose a list, see how it goes on, continue what was begun.
import { Problem } from './api.js';
import { announce, fill, h, icon, saveAs } from './dom.js';
import { another, badge, failure, steps, when } from './parts.js';
import { isGzip, send } from './send.js';
import * as store from './store.js';
import { advice, kindOf, list, percent, size, t } from './text.js';

const MOST_VALUES = 12; // that a column shows

/**
 * @param {HTMLElement} main
 * @param {View} page
 */
export async function home(main, page) {
	const { policy } = page;
	/** @type {HTMLInputElement} */
	const input = h('input', {
		type: 'file',
		id: 'file',
		accept: '.csv,.tsv,.txt,.gz,text/csv',
		hidden: true,
		onchange: () => input.files?.[0] && take(input.files[0]),
	});
	const zone = h(
		'div.drop',
		{
			onclick: (event) => {
				if (!(/** @type {HTMLElement} */ (event.target).closest('button, input'))) input.click();
			},
		},
		h('span.drop-icon', { 'aria-hidden': 'true' }, icon('up')),
		h('p.drop-title', t('home.drop')),
		h('button.primary', { onclick: () => input.click() }, t('home.choose')),
		h('p.soft', t('home.limit', { size: size(policy.limits.max_csv_bytes) })),
		input,
	);
	const drafts = h('div');
	fill(
		main,
		h('header.intro', h('h1', t('home.title')), h('p.lead', t('home.lead'))),
		zone,
		drafts,
		h(
			'section.about',
			{ 'aria-labelledby': 'columns' },
			h('h2', { id: 'columns' }, t('home.columns')),
			h('dl.columns', ...policy.columns.map(described)),
			h('p.soft', t('home.columns_more')),
			h('button.plain', { onclick: () => saveAs(template(policy.columns), 'users.csv') }, t('home.template')),
		),
	);

	let depth = 0;
	/** @param {DragEvent} event */
	const over = (event) => {
		event.preventDefault();
		if (event.type === 'dragenter') depth += 1;
		if (event.type === 'dragleave') depth -= 1;
		zone.classList.toggle('over', depth > 0 && event.type !== 'drop');
		if (event.type !== 'drop') return;
		depth = 0;
		const file = event.dataTransfer?.files[0];
		if (file) take(file);
	};
	for (const type of ['dragenter', 'dragover', 'dragleave', 'drop']) {
		document.addEventListener(type, /** @type {EventListener} */ (over), { signal: page.signal });
	}

	const found = await store.all().catch(() => []);
	const begun = found.filter((draft) => draft.corrected > 0);
	if (begun.length && !page.signal.aborted) {
		fill(
			drafts,
			h(
				'section.drafts',
				{ 'aria-labelledby': 'drafts' },
				h('h2', { id: 'drafts' }, t('home.drafts')),
				...begun.slice(0, 5).map((draft) => begunList(draft, page)),
			),
		);
	}

	/** @param {File} file */
	async function take(file) {
		const packed = await isGzip(file);
		const { max_upload_bytes: most, max_csv_bytes: mostUnpacked } = policy.limits;
		const limit = packed ? most : mostUnpacked;
		if (!file.size || file.size > limit) {
			const values = { name: file.name, size: size(file.size), limit: size(limit) };
			fill(main, failure(t(file.size ? 'home.too_large' : 'home.empty', values), another()));
			return;
		}
		const cancelled = new AbortController();
		const signal = AbortSignal.any([page.signal, cancelled.signal]);
		const bar = h('progress', { max: 1, value: 0, 'aria-labelledby': 'phase' });
		const phase = h('span', { id: 'phase' });
		const share = h('span.share');
		fill(
			main,
			steps(0),
			h(
				'section.card.state',
				{ 'aria-busy': 'true' },
				badge('file', 'busy'),
				h('h1', h('bdi', file.name)),
				h('p.soft', size(file.size)),
				bar,
				h('p.phase', phase, share),
				h('p.soft', t('home.nothing_yet')),
				h('button.plain', { onclick: () => cancelled.abort() }, t('actions.cancel')),
			),
		);
		try {
			const id = await send(
				file,
				packed,
				(name, part) => {
					const done = packed ? part : (part + (name === 'sending' ? 1 : 0)) / 2;
					bar.value = done;
					const sentence = t(`home.phase_${name}`);
					if (phase.textContent !== sentence) {
						phase.textContent = sentence;
						announce(sentence);
					}
					share.textContent = percent(done);
				},
				signal,
			);
			page.go(`#/uploads/${id}`);
		} catch (error) {
			if (page.signal.aborted) return;
			if (cancelled.signal.aborted) {
				await page.go('#/');
				announce(t('home.cancelled'));
				return;
			}
			const sentence = error instanceof Problem ? error.sentence : t('home.unreadable');
			const help = error instanceof Problem && advice(error.code, null);
			const again = help ? null : h('button.primary', { onclick: () => take(file) }, t('actions.again'));
			fill(main, failure(sentence, again, another()), help && h('p.soft.center', help));
			if (!(error instanceof Problem)) console.warn(/** @type {Error} */ (error).name);
		}
	}
}

/**
 * @param {store.Draft} draft
 * @param {View} page
 */
function begunList({ id, name, updated, corrected, rejected }, page) {
	const discard = async () => {
		await store.remove(id);
		page.go('#/');
	};
	return h(
		'div.draft',
		h(
			'a.row',
			{ href: id.startsWith('imports/') ? `#/${id}/correct` : `#/${id}` },
			h('span.row-icon', icon('file')),
			h('span.row-main', h('bdi', name), h('span.soft', when(updated))),
			h('span.row-side', t('home.draft', { n: corrected, of: rejected })),
		),
		h('button.plain', { onclick: discard }, t('actions.discard')),
	);
}

/** @param {Column[]} columns */
const template = (columns) =>
	new Blob([`\ufeff${columns.map(({ name }) => name).join(',')}\r\n`], { type: 'text/csv' });

/** @param {Column} column */
function described({ name, schema, optional }) {
	const { minimum, maximum, maxLength: length, enum: all = [] } = schema;
	const values = list(all.length > MOST_VALUES ? [...all.slice(0, MOST_VALUES), '…'] : all);
	const rule = t(`home.${kindOf(schema)}`, { minimum, maximum, length, values });
	return h('div', h('dt', name), h('dd', optional ? t('home.optional', { rule }) : rule));
}
