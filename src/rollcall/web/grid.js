// A table of any length. Only its visible rows are elements. The keys are those of the ARIA grid pattern.
import { fill, h, icon, style } from './dom.js';
import { columnNamed, t, wrong } from './text.js';

/**
 * @typedef {object} Row
 * @property {number} line
 * @property {Cells} cells
 * @property {Cells} original
 * @property {string | null} record the raw text of a row that could not be split
 * @property {Fault[]} faults of the original cells
 * @property {Fault[] | null} now the faults of the present cells; null if the server did not judge them yet
 * @property {boolean} edited
 * @property {Cells} [offers] likely corrections by column
 */

/**
 * Return the likely corrections of a row, in one text.
 * @param {Row} row
 */
export const offered = (row) => Object.values(row.offers ?? {}).join(' · ');

/**
 * Return why a row is wrong.
 * @param {Row} row
 * @param {Fault} fault
 */
export function why(row, { code, column }) {
	const value = column && row.offers?.[column];
	const wide = value && code === 'type-error' && /[\uff10-\uff19]/.test(row.cells[column]);
	return wide ? t('grid.full_width', { column, value }) : wrong(code, column);
}

const SPARE = 4; // rows above and below the visible ones
let count = 0;

export class Grid {
	/**
	 * @param {object} given
	 * @param {string[]} given.columns
	 * @param {string} given.label
	 * @param {boolean} given.editable
	 * @param {(row: Row, column: string, value: string) => void} given.onedit
	 * @param {(row: Row, column: string | null) => void} given.onactive
	 * @param {(row: Row) => void} given.onoffer applies the likely corrections of a row
	 * @param {(rows: Row[]) => void} given.onvisible
	 * @param {() => void} given.onundo
	 */
	constructor(given) {
		this.given = given;
		this.columns = given.columns;
		/** @type {(Row | undefined)[]} */
		this.rows = [];
		this.total = 0;
		this.active = { row: 0, column: 1 };
		/** @type {Map<number, HTMLElement>} */
		this.shown = new Map();
		/** @type {{input: HTMLInputElement, row: Row, column: string, end: (keep: boolean) => void} | null} */
		this.editor = null;
		count += 1;
		this.id = `grid${count}`;
		this.body = h('tbody');
		const labels = [t('grid.line'), ...this.columns, t('grid.problem')];
		this.table = h(
			'table',
			{ role: 'grid', id: this.id, 'aria-label': given.label, 'aria-readonly': given.editable ? null : 'true' },
			h(
				'thead',
				h(
					'tr',
					{ 'aria-rowindex': 1 },
					...labels.map((label, index) => h('th', { scope: 'col', 'aria-colindex': index + 1 }, label)),
				),
			),
			this.body,
		);
		this.table.setAttribute('aria-colcount', String(labels.length));
		this.element = h(
			'div.grid',
			{
				tabindex: -1,
				onscroll: () => this.render(),
				onkeydown: (event) => this.press(event),
			},
			this.table,
		);
		this.table.addEventListener('mousedown', (event) => this.point(event));
		this.table.addEventListener('dblclick', () => this.edit());
		new ResizeObserver(() => this.render()).observe(this.element);
	}

	/**
	 * Show rows; some may not have arrived yet.
	 * @param {(Row | undefined)[]} rows
	 * @param {number} total
	 */
	show(rows, total) {
		this.end(true);
		this.rows = rows;
		this.total = total;
		this.active.row = Math.min(this.active.row, Math.max(total - 1, 0));
		this.table.setAttribute('aria-rowcount', String(total + 1));
		this.shown.clear();
		this.body.replaceChildren();
		this.render();
	}

	/** Rows have arrived. */
	extend() {
		for (const [index, element] of this.shown) {
			if (element.classList.contains('waiting') && this.rows[index]) {
				element.remove();
				this.shown.delete(index);
			}
		}
		this.render();
	}

	/**
	 * Show a row as it is now.
	 * @param {Row} row
	 */
	refresh(row) {
		for (const [index, element] of this.shown) {
			if (this.rows[index] !== row || this.editor?.row === row) continue;
			const focused = element.contains(document.activeElement);
			const fresh = this.make(index);
			element.replaceWith(fresh);
			this.shown.set(index, fresh);
			if (focused) this.cell()?.focus({ preventScroll: true });
		}
	}

	get height() {
		return this.rowHeight || 44;
	}

	render() {
		if (!this.element.isConnected || this.rendering) return;
		const head = this.table.tHead?.offsetHeight ?? 0;
		const first = Math.max(0, Math.floor(this.element.scrollTop / this.height) - SPARE);
		const room = Math.ceil((this.element.clientHeight - head) / this.height);
		const last = Math.min(this.total, first + room + 2 * SPARE + 1);
		if (this.editor) {
			const at = this.rows.indexOf(this.editor.row);
			if (at < first || at >= last) this.end(true);
		}
		this.rendering = true;
		const held = this.element.contains(document.activeElement) && document.activeElement !== this.element;
		for (const [index, element] of this.shown) {
			if (index < first || index >= last) {
				element.remove();
				this.shown.delete(index);
			}
		}
		/** @type {Element | null} */
		let after = null;
		for (let index = first; index < last; index += 1) {
			let element = this.shown.get(index);
			if (!element) {
				element = this.make(index);
				this.shown.set(index, element);
				if (after) after.after(element);
				else this.body.prepend(element);
			}
			after = element;
		}
		this.rendering = false;
		this.setSpace(first, last);
		const measured = /** @type {HTMLElement | null} */ (this.body.firstElementChild)?.getBoundingClientRect()
			.height;
		if (measured && Math.abs(measured - this.height) > 0.1) {
			this.rowHeight = measured;
			this.setSpace(first, last);
		}
		// A row that is scrolled away takes the focus with it; the keys go on in the grid.
		if (held && !this.element.contains(document.activeElement)) this.element.focus({ preventScroll: true });
		// One element is always in the order of Tab, also if the active row is not visible.
		this.element.tabIndex = this.shown.has(this.active.row) || !this.total ? -1 : 0;
		const visible = [];
		for (let index = first; index < last; index += 1) if (this.rows[index]) visible.push(this.rows[index]);
		this.given.onvisible(/** @type {Row[]} */ (visible));
	}

	/**
	 * @param {number} first
	 * @param {number} last
	 */
	setSpace(first, last) {
		style(
			this.id,
			`#${this.id} tbody::before { height: ${first * this.height}px }` +
				`#${this.id} tbody::after { height: ${(this.total - last) * this.height}px }`,
		);
	}

	/**
	 * @param {number} index
	 * @returns {HTMLElement}
	 */
	make(index) {
		const row = this.rows[index];
		const element = h(row ? 'tr' : 'tr.waiting', { 'aria-rowindex': index + 2, 'data-index': index });
		if (!row) {
			element.append(
				this.bare('th', index, 0, '…'),
				...[...this.columns, ''].map((_, column) => this.bare('td', index, column + 1, '')),
			);
			return element;
		}
		const state = row.now === null ? 'judging' : row.now.length ? 'bad' : 'good';
		element.dataset.state = state;
		const header = this.bare('th', index, 0);
		header.append(
			h('span.state', state === 'bad' ? icon('cross') : state === 'judging' ? icon('clock') : icon('check')),
			h('span.hidden', t(`grid.state_${state}`)),
			String(row.line),
		);
		element.append(header);
		this.columns.forEach((column, number) => {
			const fault = (row.now ?? row.faults).find((one) => one.column === column || one.column === null);
			const cell = this.bare('td', index, number + 1);
			const value = row.cells[column];
			cell.append(h('span.value', { dir: 'auto' }, value));
			if (row.now !== null && fault) {
				cell.setAttribute('aria-invalid', 'true');
				cell.setAttribute('aria-describedby', this.reasonId(row, fault));
			}
			if (value !== row.original[column]) cell.classList.add('edited');
			if (!this.given.editable) cell.setAttribute('aria-readonly', 'true');
			element.append(cell);
		});
		element.append(this.makeReasons(index, row));
		return element;
	}

	/**
	 * @param {number} index
	 * @param {Row} row
	 */
	makeReasons(index, row) {
		const cell = this.bare('td', index, this.columns.length + 1);
		cell.classList.add('reasons');
		if (row.now === null) cell.append(t('grid.state_judging'));
		else if (!row.now.length) cell.append(h('span.fine', t('grid.state_good')));
		else {
			const value = offered(row);
			if (value && this.given.editable) {
				cell.append(
					h('button.offer', { tabindex: -1, onclick: () => this.given.onoffer(row) }, t('grid.offer', { value })),
				);
			}
			for (const fault of row.now) {
				cell.append(h('span.reason', { id: this.reasonId(row, fault) }, why(row, fault)));
			}
		}
		return cell;
	}

	/**
	 * @param {Row} row
	 * @param {Fault} fault
	 */
	reasonId(row, fault) {
		return `${this.id}-${row.line}-${fault.column === null ? 'row' : this.columns.indexOf(fault.column)}`;
	}

	/**
	 * @param {'td' | 'th'} tag
	 * @param {number} index
	 * @param {number} column
	 * @param {string} [text]
	 */
	bare(tag, index, column, text) {
		const cell = h(tag, {
			scope: tag === 'th' ? 'row' : null,
			'aria-colindex': column + 1,
			tabindex: index === this.active.row && column === this.active.column ? 0 : -1,
			onfocus: () => this.activated(index, column),
		});
		if (text !== undefined) cell.append(text);
		return cell;
	}

	/** @returns {HTMLElement | undefined} the active cell */
	cell() {
		const row = /** @type {HTMLTableRowElement | undefined} */ (this.shown.get(this.active.row));
		return row?.cells[this.active.column];
	}

	/**
	 * @param {number} row
	 * @param {number} column
	 */
	activated(row, column) {
		const before = this.cell();
		if (before) before.tabIndex = -1;
		this.active = { row, column };
		const cell = this.cell();
		if (cell) cell.tabIndex = 0;
		const found = this.rows[row];
		if (found) this.given.onactive(found, this.columns[column - 1] ?? null);
	}

	/** Focus the active cell, and scroll to it. */
	focus() {
		if (!this.total) return;
		const head = this.table.tHead?.offsetHeight ?? 0;
		const top = this.active.row * this.height;
		const box = this.element;
		if (top < box.scrollTop) box.scrollTop = top;
		else if (top + this.height > box.scrollTop + box.clientHeight - head) {
			box.scrollTop = top + this.height - box.clientHeight + head;
		}
		this.render();
		const cell = this.cell();
		cell?.focus({ preventScroll: true });
		// Neither the head of the table, nor the line's number, nor the bar at the bottom hides it: see scroll-padding.
		cell?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
	}

	/**
	 * @param {number} row
	 * @param {number} column
	 */
	go(row, column) {
		const before = this.cell();
		if (before) before.tabIndex = -1;
		this.active = {
			row: Math.max(0, Math.min(this.total - 1, row)),
			column: Math.max(0, Math.min(this.columns.length + 1, column)),
		};
		this.focus();
	}

	/**
	 * Go to the next cell that is wrong, if there is one among the rows that arrived.
	 * @returns {boolean} whether there is one
	 */
	goToNextFault() {
		for (let step = 0; step <= this.total; step += 1) {
			const index = (this.active.row + step) % this.total;
			const row = this.rows[index];
			if (!row) continue;
			const wrong = this.wrongCells(row).filter((at) => step > 0 || at + 1 > this.active.column);
			if (!wrong.length) continue;
			this.go(index, Math.min(...wrong) + 1);
			return true;
		}
		return false;
	}

	/**
	 * Return the columns that are wrong; in a row that is wrong as a whole, those that are needed and empty.
	 * @param {Row} row
	 * @returns {number[]}
	 */
	wrongCells(row) {
		const needed = this.columns.filter((name) => !columnNamed(name)?.optional);
		const names = (row.now ?? row.faults).flatMap(({ column }) =>
			column === null ? needed.filter((name) => !row.cells[name]) : [column],
		);
		// While the server judges a row, a cell that was changed counts as right.
		const wrong = names.filter((name) => row.now || row.cells[name] === row.original[name]);
		return wrong.map((name) => this.columns.indexOf(name));
	}

	/** @param {MouseEvent} event */
	point(event) {
		const target = /** @type {HTMLElement} */ (event.target);
		const cell = target.closest('td, th');
		const row = target.closest('tr');
		if (!cell || !row?.dataset.index || target.closest('input, button')) return;
		event.preventDefault();
		this.end(true);
		const again = cell === this.cell() && cell === document.activeElement;
		this.go(Number(row.dataset.index), Number(cell.getAttribute('aria-colindex')) - 1);
		const touched = matchMedia('(pointer: coarse)').matches && cell.hasAttribute('aria-invalid');
		if (again || touched) this.edit();
	}

	/** @param {KeyboardEvent} event */
	press(event) {
		if (this.editor) return;
		const { row, column } = this.active;
		const page = Math.max(1, Math.floor(this.element.clientHeight / this.height) - 2);
		const ctrl = event.ctrlKey || event.metaKey;
		/** @type {Record<string, () => void>} */
		const moves = {
			ArrowUp: () => this.go(ctrl ? 0 : row - 1, column),
			ArrowDown: () => this.go(ctrl ? this.total - 1 : row + 1, column),
			ArrowLeft: () => this.go(row, column - 1),
			ArrowRight: () => this.go(row, column + 1),
			PageUp: () => this.go(row - page, column),
			PageDown: () => this.go(row + page, column),
			Home: () => this.go(ctrl ? 0 : row, 0),
			End: () => this.go(ctrl ? this.total - 1 : row, this.columns.length + 1),
			Enter: () => this.edit(),
			F2: () => this.edit(),
			Delete: () => this.commit(''),
			Backspace: () => this.commit(''),
		};
		if (event.altKey) return;
		if (ctrl && event.key === 'z') this.given.onundo();
		else if (moves[event.key]) moves[event.key]();
		else if (event.keyCode === 229 || event.key === 'Process') {
			this.edit('');
			return; // the composition begins in the field
		} else if (event.key.length === 1 && !ctrl && event.key !== ' ') this.edit(event.key);
		else return;
		event.preventDefault();
	}

	/** @param {string} value */
	commit(value) {
		const row = this.rows[this.active.row];
		const column = this.columns[this.active.column - 1];
		if (row && column && this.given.editable) this.given.onedit(row, column, value);
	}

	/**
	 * Edit the active cell.
	 * @param {string} [typed] replaces the cell's text
	 */
	edit(typed) {
		const row = this.rows[this.active.row];
		const column = this.columns[this.active.column - 1];
		const cell = this.cell();
		if (!row || !cell || !this.given.editable) return;
		if (!column) {
			if (offered(row) && typed === undefined) this.given.onoffer(row);
			return;
		}
		this.end(true);
		const input = h('input.cell', {
			type: 'text',
			dir: 'auto',
			autocomplete: 'off',
			spellcheck: 'false',
			'aria-label': t('grid.edit', { column, line: String(row.line) }),
			'aria-describedby': cell.getAttribute('aria-describedby'),
		});
		input.value = typed ?? row.cells[column];
		const index = this.active.row;
		/** @param {boolean} keep */
		const end = (keep) => {
			if (this.editor?.input !== input) return;
			this.editor = null;
			const value = input.value;
			if (keep && value !== row.cells[column]) this.given.onedit(row, column, value);
			this.refresh(row);
		};
		input.addEventListener('keydown', (event) => {
			event.stopPropagation();
			if (event.isComposing || event.keyCode === 229) return; // Enter and Escape belong to the composition
			if (event.key === 'Enter') {
				end(true);
				if (event.shiftKey) this.go(index - 1, this.active.column);
				else if (!this.goToNextFault()) this.focus();
			} else if (event.key === 'Tab') {
				const to = this.active.column + (event.shiftKey ? -1 : 1);
				if (to < 1 || to > this.columns.length) return; // Tab leaves the grid, and blur keeps the text
				end(true);
				this.go(index, to);
			} else if (event.key === 'Escape') {
				end(false);
				this.focus();
			} else return;
			event.preventDefault();
		});
		input.addEventListener('blur', () => end(true));
		this.editor = { input, row, column, end };
		fill(cell, input);
		cell.removeAttribute('tabindex'); // only the field takes the focus
		input.focus({ preventScroll: true });
		if (typed === undefined) input.select();
	}

	/** @param {boolean} keep */
	end(keep) {
		this.editor?.end(keep);
	}
}
