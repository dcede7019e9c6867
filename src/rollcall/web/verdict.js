// An upload: being checked, its verdict, its corrections, its registration.
import { call, Problem, uploadIn } from './api.js';
import { Correcting } from './correcting.js';
import { announce, fill, h, icon } from './dom.js';
import { another, backToReceipt, badge, failure, reasonOf, steps, sum, waiting } from './parts.js';
import { correctionsOf, rowsLeft } from './receipt.js';
import { sendCorrections } from './registering.js';
import * as store from './store.js';
import { fileName, list, number, t } from './text.js';
import { Workbench } from './workbench.js';

/**
 * @param {HTMLElement} main
 * @param {View} page
 * @param {string} id
 */
export async function uploadView(main, page, id) {
	fill(main, steps(0), waiting(t('verdict.checking'), h('p.soft', t('home.nothing_yet'))));
	announce(t('verdict.checking'));
	const upload = await uploadIn(id, ['checked', 'registering', 'registered', 'expired'], page.signal);
	const draft = await store.find(`uploads/${id}`);
	const { state, check } = upload;
	if (state === 'expired' && !check) {
		fill(main, failure(t('problems.expired'), another()));
	} else if (check && (state === 'expired' || (state === 'checked' && !draft?.registering))) {
		await showVerdict(main, page, id, check, state === 'expired');
	} else {
		await goOn(main, page, id, check?.etag, draft?.asNew ?? false, state !== 'checked');
	}
}

/**
 * @param {HTMLElement} main
 * @param {View} page
 * @param {string} id
 * @param {Checked} check
 * @param {boolean} expired
 */
async function showVerdict(main, page, id, { etag, receipt }, expired) {
	const { counts } = receipt;
	const name = fileName(receipt.source);
	const refused = receipt.status === 'refused';
	const closed = refused || expired;
	const copies = receipt.code === 'too-many-rejections' && !receipt.corrects && !expired; // of the list, corrected
	const good = counts.registered + counts.updated;
	/** @param {number} corrected */
	const title = (corrected) => {
		if (refused) return t('verdict.refused');
		if (counts.rejected > corrected) return t('verdict.partly', { n: good + corrected, of: counts.read });
		return t('verdict.good', { n: good + corrected });
	};
	/** @param {number} corrected */
	const parts = (corrected) => [
		{ name: t('counts.would_register'), value: counts.registered, kind: 'good' },
		{ name: t('counts.would_update'), value: counts.updated, kind: 'good' },
		{ name: t('counts.would_correct'), value: corrected, kind: 'good' },
		{ name: t('counts.unchanged'), value: counts.unchanged, kind: 'rest' },
		{ name: t('counts.rejected'), value: counts.rejected - corrected, kind: 'bad' },
		{ name: t('counts.withheld'), value: counts.withheld, kind: 'rest' },
	];
	const heading = h('h1', { tabindex: -1 }, title(0));
	const numbers = h('div');
	const bench = h('div');
	const button = h('button.primary.large');
	const note = h('span.note');
	const bar = closed && !copies ? h('div.actions.start', another()) : h('div.actionbar', note, button);
	fill(
		main,
		steps(refused && !copies ? 0 : counts.rejected ? 1 : 2),
		h(
			'header.verdict',
			heading,
			h(
				'p.lead',
				h('bdi', name),
				' · ',
				t(expired ? 'problems.expired' : refused ? 'verdict.lead_refused' : 'home.nothing_yet'),
			),
			h('div.numbers', counts.read ? numbers : null, facts(receipt)),
		),
		refused ? reasonOf(receipt) : null,
		copies ? h('p', t('verdict.correct_here')) : null,
		bench,
		closed ? null : unchecked(page.policy.policy),
		bar,
	);
	announce(title(0));

	const correcting = new Correcting(`uploads/${id}`, name, page.policy, counts.rejected, page.signal);
	const update = () => {
		const corrected = correcting.corrected.length;
		heading.textContent = title(corrected);
		fill(numbers, sum(counts.read, parts(corrected)));
		fill(button, t(copies ? 'verdict.check_again' : 'verdict.register', { n: good + corrected }), icon('arrow'));
		const waits = correcting.unjudged.size > 0;
		const none = !copies && good + corrected === 0;
		button.hidden = none;
		button.toggleAttribute('disabled', copies ? !correcting.edited.length : waits);
		note.textContent = copies
			? t('grid.left', { n: correcting.left })
			: waits
				? t('verdict.waits', { n: correcting.unjudged.size })
				: correcting.left && !none
					? t('verdict.left_out', { n: correcting.left })
					: corrected
						? t('verdict.both', { n: good, corrected })
						: '';
	};
	update();
	button.addEventListener('click', async () => {
		workbench?.grid.end(true);
		if (copies) return checkCopy(main, page, id, etag, correcting);
		if (correcting.unjudged.size) return update();
		correcting.draft.registering = true;
		await correcting.keep([]);
		await goOn(main, page, id, etag, false, false);
	});
	/** @type {Workbench | null} */
	let workbench = null;
	if (counts.rejected) {
		workbench = new Workbench(correcting, receipt.totals, !closed || copies);
		bench.append(workbench.element);
		correcting.addEventListener('change', update);
		correcting.addEventListener('rows', update);
		await correcting.load();
	}
}

/**
 * Let the server check a copy of a refused list, with all rows as they are now.
 * @param {HTMLElement} main
 * @param {View} page
 * @param {string} id
 * @param {string} etag
 * @param {Correcting} correcting
 */
async function checkCopy(main, page, id, etag, correcting) {
	fill(main, steps(0), waiting(t('verdict.checking'), h('p.soft', t('home.nothing_yet'))));
	try {
		const rows = correcting.edited.map(({ line, cells }) => ({ line, cells }));
		const copy = await call('POST', `/api/uploads/${id}/corrections`, {
			headers: { 'If-Match': etag },
			body: { rows },
			signal: page.signal,
		});
		await store.remove(correcting.id).catch(() => {});
		page.go(`#/uploads/${copy.id}`);
	} catch (error) {
		notRegistered(main, page, error, `#/uploads/${id}`);
	}
}

/**
 * Register, or go on where a press of Register was interrupted.
 * @param {HTMLElement} main
 * @param {View} page
 * @param {string} id
 * @param {string | undefined} etag
 * @param {boolean} asNew
 * @param {boolean} pressed whether the server has the request already
 */
async function goOn(main, page, id, etag, asNew, pressed) {
	const detail = h('p.soft', t('registering.list'));
	const from = `uploads/${id}`;
	const corrected = !!(await store.find(from))?.corrected;
	fill(main, steps(2, corrected), waiting(t('registering.title'), detail, h('p.soft', t('registering.safe'))));
	announce(t('registering.title'));
	try {
		if (!pressed && etag) {
			await call('PUT', `/api/uploads/${id}/registration`, {
				headers: { 'If-Match': etag },
				body: asNew ? { as_new: true } : {},
				signal: page.signal,
			});
		}
		const upload = await uploadIn(id, ['registered'], page.signal);
		const { receipt } = upload.import;
		if (!['loaded', 'partially_loaded'].includes(receipt.status)) {
			await stopRegistering(from);
			if (receipt.code === 'key-already-loaded') {
				const other = receipt.remedies.find((one) => one.import_id)?.import_id ?? null;
				return choose(main, page, id, etag, corrected, other);
			}
			return page.go(`#/imports/${upload.import.id}`);
		}
		await store.move(from, `imports/${upload.import.id}`);
		await sendKept(page, upload.import.id, detail);
	} catch (error) {
		if (error instanceof Problem && error.code === 'key-already-loaded') {
			await stopRegistering(from);
			return choose(main, page, id, etag, corrected, error.importId);
		}
		const lasts = error instanceof Problem && !error.passes && error.status !== 401;
		if (lasts) await stopRegistering(from);
		notRegistered(main, page, error, `#/uploads/${id}`);
	}
}

/**
 * Send the corrections that are kept for an import, and show its receipt.
 * @param {View} page
 * @param {number} id
 * @param {HTMLElement} detail says how far it is
 */
async function sendKept(page, id, detail) {
	const columns = page.policy.columns.map((column) => column.name);
	await sendCorrections(
		id,
		columns,
		(done, total) => {
			detail.textContent = t('registering.corrected', { n: done, of: total });
		},
		page.signal,
	);
	await stopRegistering(`imports/${id}`);
	page.go(`#/imports/${id}`);
}

/**
 * @param {HTMLElement} main
 * @param {View} page
 * @param {unknown} error
 * @param {string} view
 */
function notRegistered(main, page, error, view) {
	if (page.signal.aborted) return;
	if (!(error instanceof Problem)) throw error;
	const retry = h('button.primary', { onclick: () => page.go(view) }, t('actions.again'));
	fill(main, failure(error.sentence, retry, another()), h('p.soft.center', t('registering.kept')));
}

/** @param {string} id */
async function stopRegistering(id) {
	const draft = await store.find(id);
	if (draft) await store.save({ ...draft, registering: false });
}

/**
 * A list of that name is registered already: ask what this one is.
 * @param {HTMLElement} main
 * @param {View} page
 * @param {string} id
 * @param {string | undefined} etag
 * @param {boolean} corrected
 * @param {number | null} other
 */
function choose(main, page, id, etag, corrected, other) {
	const asNew = async () => {
		const draft = await store.find(`uploads/${id}`);
		if (draft) await store.save({ ...draft, registering: true, asNew: true });
		await goOn(main, page, id, etag, true, false);
	};
	/**
	 * @param {string} name
	 * @param {string} href
	 */
	const choice = (name, href) =>
		h(
			'a.choice',
			{ href },
			h('strong', t(`choices.${name}`)),
			h('span.soft', t(`choices.${name}_more`, { id: String(other) })),
		);
	fill(
		main,
		steps(2, corrected),
		h(
			'section.card.choices',
			h('h1', t('codes.key-already-loaded.title')),
			h('p.lead', t('choices.lead')),
			other && choice('correct', `#/imports/${other}/correct`),
			other && choice('look', `#/imports/${other}`),
			h('button.choice', { onclick: asNew }, h('strong', t('choices.new')), h('span.soft', t('choices.new_more'))),
		),
	);
	announce(t('codes.key-already-loaded.title'));
}

/** @param {Receipt} receipt */
function facts(receipt) {
	const { encoding, ignored_columns: ignored, last_line_ended: ended } = receipt.source;
	const { blank } = receipt.counts;
	const shown = [
		encoding && t('facts.encoding', { encoding: encoding.toUpperCase() }),
		ignored.length && t('facts.ignored', { n: ignored.length, columns: list(ignored.slice(0, 8)) }),
		blank && t('facts.blank', { n: blank }),
		ended === false && t('facts.last_line'),
	].flatMap((fact) => (fact ? h('li', { dir: 'auto' }, fact) : []));
	return shown.length ? h('ul.facts', ...shown) : null;
}

/** @param {Policy['policy']} policy */
function unchecked(policy) {
	const items = [t('unchecked.repeat')];
	if (policy.unique_by) items.push(t('unchecked.users', { columns: list(policy.unique_by.split(',')) }));
	return h(
		'aside.unchecked',
		{ 'aria-labelledby': 'unchecked' },
		h('h2', { id: 'unchecked' }, t('unchecked.title')),
		h('ul', ...items.map((item) => h('li', item))),
	);
}

/**
 * Correct rows of an import that is registered.
 * @param {HTMLElement} main
 * @param {View} page
 * @param {number} id
 */
export async function correctView(main, page, id) {
	fill(main, waiting(t('app.loading')));
	const receipt = await call('GET', `/api/imports/${id}`, { signal: page.signal });
	const left = rowsLeft(receipt, await correctionsOf(id, page.signal));
	const draft = await store.find(`imports/${id}`);
	const name = fileName(receipt.source);
	const correcting = new Correcting(`imports/${id}`, name, page.policy, left, page.signal);
	const workbench = new Workbench(correcting, receipt.totals, true);
	const button = h('button.primary.large');
	const note = h('span.note');
	const register = async () => {
		workbench.grid.end(true);
		if (correcting.unjudged.size) return;
		correcting.draft.registering = true;
		await correcting.keep([]);
		const detail = h('p.soft');
		fill(main, steps(2, true), waiting(t('registering.title'), detail, h('p.soft', t('registering.safe'))));
		try {
			await sendKept(page, id, detail);
		} catch (error) {
			if (!page.signal.aborted) await stopRegistering(`imports/${id}`);
			notRegistered(main, page, error, `#/imports/${id}/correct`);
		}
	};
	button.addEventListener('click', register);
	const update = () => {
		const corrected = correcting.corrected.length;
		heading.textContent = t('correct.title', { n: correcting.total });
		fill(button, t('verdict.register', { n: corrected }), icon('arrow'));
		button.hidden = !corrected;
		button.toggleAttribute('disabled', correcting.unjudged.size > 0);
		note.textContent = corrected && correcting.left ? t('verdict.left_out', { n: correcting.left }) : '';
	};
	const heading = h('h1', { tabindex: -1 });
	update();
	fill(
		main,
		steps(1),
		h(
			'header.verdict',
			h(
				'p.eyebrow',
				h('a', { href: `#/imports/${id}` }, t('receipt.number', { id: String(id) })),
				' · ',
				h('bdi', name),
			),
			heading,
			h('p.lead', t('correct.lead', { registered: number(receipt.counts.registered + receipt.counts.updated) })),
		),
		workbench.element,
		h('div.actionbar', note, button),
	);
	correcting.addEventListener('change', update);
	correcting.addEventListener('rows', update);
	await correcting.load();
	if (!correcting.total) {
		fill(main, h('section.card.state', badge('check', 'good'), h('h1', t('correct.nothing')), backToReceipt(id)));
	} else if (draft?.registering) await register();
}
