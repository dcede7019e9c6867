// The grid of rejected rows with its filters, its count of what is left, and the reason of the active row.
import { sentenceOf } from './api.js';
import { announce, fill, h, icon } from './dom.js';
import { Grid, offered, why } from './grid.js';
import { advice, t, wrong } from './text.js';

/** @typedef {import('./grid.js').Row} Row */
/** @typedef {import('./correcting.js').Correcting} Correcting */

/** @param {{code: string, column: string | null}} fault */
const nameOf = ({ code, column }) => `${code}/${column ?? ''}`;

export class Workbench {
	/**
	 * @param {Correcting} correcting
	 * @param {Receipt['totals']} totals
	 * @param {boolean} editable
	 */
	constructor(correcting, totals, editable) {
		this.correcting = correcting;
		this.editable = editable;
		/** @type {string | null} */
		this.filter = null;
		this.grid = new Grid({
			columns: correcting.columns,
			label: t('grid.label'),
			editable,
			onedit: (row, column, value) => correcting.change(row, { [column]: value }),
			onactive: (row, column) => this.explain(row, column),
			onoffer: (row) => {
				this.grid.end(false);
				correcting.applyOffer(row);
			},
			onvisible: (rows) => this.offerSoon(rows),
			onundo: () => this.undo(),
		});
		this.left = h('p.left', { role: 'status' });
		this.meter = h('progress.meter', { 'aria-label': t('grid.meter') });
		this.filters = h('div.filters', { role: 'group', 'aria-label': t('grid.filters') });
		/** @type {Map<string | null, {button: HTMLElement, label: (n: number) => string}>} */
		this.buttons = new Map();
		this.totals = new Map(totals.map((one) => [nameOf(one), one.count]));
		this.addFilter(null, () => t('grid.all', { n: correcting.total }));
		if (editable) this.addFilter('left', () => t('grid.still'));
		for (const one of totals) {
			this.addFilter(nameOf(one), (n) => t('grid.filter', { n, wrong: wrong(one.code, one.column) }));
		}
		this.next = h('button.plain', { onclick: () => this.grid.goToNextFault() }, t('grid.next'));
		this.trouble = h('div.trouble', { role: 'alert' });
		this.reason = h(
			'div.explain',
			{ 'aria-live': 'off' },
			h('p.soft', t(editable ? 'grid.keys' : 'grid.read_only')),
		);
		this.element = h(
			'section.workbench',
			{ 'aria-labelledby': 'correct' },
			h(
				'div.workbench-head',
				h('h2', { id: 'correct' }, t(editable ? 'grid.title' : 'grid.label')),
				editable ? this.left : null,
				editable ? this.meter : null,
			),
			h('div.tools', this.filters, editable ? this.next : null),
			this.trouble,
			// The reason stays in view, but over nothing except the grid.
			this.correcting.tooMany ? h('p', t('grid.too_many')) : h('div', this.grid.element, this.reason),
		);
		correcting.addEventListener('rows', () => this.arrived());
		correcting.addEventListener('change', (event) => this.changed(/** @type {CustomEvent} */ (event).detail));
		correcting.addEventListener('trouble', () => this.showTrouble());
		this.count();
		this.grid.show([], correcting.total);
	}

	/**
	 * @param {string | null} name
	 * @param {(n: number) => string} label
	 */
	addFilter(name, label) {
		const button = h('button.filter', {
			'aria-pressed': String(name === this.filter),
			onclick: () => this.choose(name),
		});
		this.buttons.set(name, { button, label });
		this.filters.append(button);
	}

	/** @returns {Map<string, number>} how many rows have each fault now; until all rows are here, how many had it */
	faults() {
		const { rows, total } = this.correcting;
		if (rows.length < total) return this.totals;
		const found = new Map();
		for (const row of rows) {
			for (const name of (row.now ?? row.faults).map(nameOf)) found.set(name, (found.get(name) ?? 0) + 1);
		}
		return found;
	}

	/** @param {string | null} name */
	choose(name) {
		this.filter = name;
		for (const [one, { button }] of this.buttons) button.setAttribute('aria-pressed', String(one === name));
		this.grid.active.row = 0;
		this.grid.element.scrollTop = 0;
		this.arrange();
		announce(t('grid.shown', { n: this.grid.total }));
	}

	/** Show the rows of the filter. Until all rows are here, a filter shows those that are. */
	arrange() {
		const { rows, total } = this.correcting;
		const shown = this.filter === null ? rows : rows.filter((row) => this.passes(row));
		this.grid.show(shown, this.filter === null ? total : shown.length);
	}

	/** @param {Row} row */
	passes(row) {
		if (this.filter === 'left') return row.now?.length !== 0;
		return (row.now ?? row.faults).some((fault) => this.filter === nameOf(fault));
	}

	arrived() {
		if (this.filter === null && this.grid.total === this.correcting.total) {
			this.grid.rows = this.correcting.rows;
			this.grid.extend();
		} else this.arrange();
		this.count();
	}

	/** @param {Row[]} rows */
	changed(rows) {
		for (const row of rows) this.grid.refresh(row);
		const active = this.grid.rows[this.grid.active.row];
		if (active && rows.includes(active)) {
			this.explain(active, this.correcting.columns[this.grid.active.column - 1] ?? null);
		}
		this.count();
	}

	count() {
		const { left, total } = this.correcting;
		const corrected = total - left;
		const sentence = left ? t('grid.left', { n: left }) : t('grid.none_left', { n: corrected });
		if (this.left.textContent !== sentence) fill(this.left, left ? null : icon('check'), sentence);
		this.left.classList.toggle('fine', !left);
		this.meter.value = corrected;
		this.meter.max = total;
		const faults = this.faults();
		for (const [name, { button, label }] of this.buttons) {
			const n = name && name !== 'left' ? (faults.get(name) ?? 0) : 1;
			button.textContent = label(n);
			button.hidden = !n && name !== this.filter;
		}
		this.next.toggleAttribute('disabled', !left);
	}

	undo() {
		const undone = this.correcting.undo();
		if (!undone) return;
		const { row, column } = undone;
		const at = this.grid.rows.indexOf(row);
		if (at >= 0) this.grid.go(at, column + 1);
		announce(t('grid.undone', { line: String(row.line) }));
	}

	showTrouble() {
		const { trouble, kept } = this.correcting;
		const count = this.correcting.unjudged.size;
		const why = trouble && sentenceOf(trouble);
		fill(
			this.trouble,
			...[
				why && (count ? t('grid.trouble', { why, n: count }) : `${why} ${t('signin.kept')}`),
				!kept && t('grid.not_kept'),
			].flatMap((sentence) => (sentence ? [h('p', icon('warn'), sentence)] : [])),
		);
	}

	/** @param {Row[]} rows */
	offerSoon(rows) {
		if (!this.editable) return;
		clearTimeout(this.timer);
		this.timer = setTimeout(() => this.correcting.offer(rows), 120);
	}

	/**
	 * @param {Row} row
	 * @param {string | null} column
	 */
	explain(row, column) {
		const faults = row.now ?? [];
		const about = faults.filter((fault) => fault.column === column || fault.column === null || column === null);
		fill(
			this.reason,
			h(
				'p.explain-head',
				h('span.soft', t('grid.line_number', { line: String(row.line) }), column ? ` · ${column}` : ''),
				column && row.cells[column] ? h('span.whole', { dir: 'auto' }, row.cells[column]) : null,
			),
			...about.map((fault) =>
				h(
					'p',
					h('strong', why(row, fault)),
					' ',
					advice(fault.code, fault.column) || h('span', { lang: 'en', dir: 'auto' }, fault.message),
				),
			),
			this.editable &&
				offered(row) &&
				h(
					'button.offer',
					{ onclick: () => this.grid.given.onoffer(row) },
					t('grid.offer', { value: offered(row) }),
				),
			row.record !== null &&
				h('p', h('span.soft', t('grid.record')), h('code.record', { dir: 'auto' }, row.record)),
			row.record === null &&
				column &&
				row.cells[column] !== row.original[column] &&
				h(
					'p.soft',
					t('grid.before'),
					' ',
					h('span.whole.old', { dir: 'auto' }, row.original[column] || t('grid.nothing')),
				),
			!about.length && !row.record && h('p.soft', t(this.editable ? 'grid.keys' : 'grid.read_only')),
		);
	}
}
