// Makes elements. Text is set only as text, never as markup, so no cell can become an element.

/**
 * Make an element.
 * @template {string} What
 * @param {What} what "tag.class.class"
 * @param {...(Child | Attributes)} rest its attributes, if any, and its children; a function is a listener:
 *   {onclick: …}; null and false are left out
 * @returns {Made<What>}
 */
export function h(what, ...rest) {
	const attributes = rest[0]?.constructor === Object ? rest.shift() : {};
	const [tag, ...classes] = what.split('.');
	const element = document.createElement(tag);
	if (classes.length) element.className = classes.join(' ');
	for (const [name, value] of Object.entries(attributes ?? {})) {
		if (typeof value === 'function') element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
		else if (value === true) element.setAttribute(name, '');
		else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, String(value));
	}
	element.append(...kept(/** @type {Child[]} */ (rest)));
	return /** @type {Made<What>} */ (element);
}

/**
 * Replace what is in an element.
 * @param {Element} element
 * @param {...Child} children
 */
export function fill(element, ...children) {
	element.replaceChildren(...kept(children));
}

/**
 * @param {Child[]} children
 * @returns {(Node | string)[]}
 */
function kept(children) {
	return /** @type {(Node | string)[]} */ (
		children.filter((child) => child !== null && child !== undefined && child !== false)
	);
}

/**
 * Let the browser save a file.
 * @param {Blob} file
 * @param {string} download its name
 */
export function saveAs(file, download) {
	const link = h('a', { download });
	link.href = URL.createObjectURL(file);
	link.click();
	URL.revokeObjectURL(link.href);
}

const SVG = 'http://www.w3.org/2000/svg';
/** @type {Record<string, string>} */
const PATHS = {
	check: 'm5 12.5 4.5 4.5L19 7',
	cross: 'M6 6l12 12M18 6 6 18',
	warn: 'M12 4 3 19.5h18L12 4Zm0 6v4m0 2.6v.1',
	file: 'M7 3h7l4 4v14H7zM14 3v4h4',
	up: 'M12 19V6m-6 6 6-6 6 6',
	undo: 'M8 5 4 9l4 4M4 9h9a6 6 0 0 1 0 12h-3',
	clock: 'M12 7v5l3.5 2M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18Z',
	cloud: 'M4 4l16 16M8 9.5A5 5 0 0 0 7.5 19H17m2.5-1.5A4 4 0 0 0 17 11a5.5 5.5 0 0 0-6-4.4',
	lock: 'M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3',
	arrow: 'M5 12h13m-5-5 5 5-5 5',
};

/**
 * Make a picture that is only decoration.
 * @param {string} name one of PATHS
 * @returns {Element}
 */
export function icon(name) {
	const svg = document.createElementNS(SVG, 'svg');
	svg.setAttribute('viewBox', '0 0 24 24');
	svg.setAttribute('class', 'icon');
	svg.setAttribute('aria-hidden', 'true');
	const path = document.createElementNS(SVG, 'path');
	path.setAttribute('d', PATHS[name]);
	svg.append(path);
	return svg;
}

/** @type {Map<string, CSSStyleSheet>} */
const sheets = new Map();

/**
 * Set rules whose numbers are only known now; the policy of the page allows no style in an attribute.
 * @param {string} name identifies the rules, which replace those of the same name
 * @param {string} rules
 */
export function style(name, rules) {
	let sheet = sheets.get(name);
	if (!sheet) {
		sheet = new CSSStyleSheet();
		sheets.set(name, sheet);
		document.adoptedStyleSheets.push(sheet);
	}
	sheet.replaceSync(rules);
}

/** The region that a screen reader reads out. */
export const status = h('div.status', { role: 'status', 'aria-live': 'polite' });

/**
 * Say something to a screen reader.
 * @param {string} text
 */
export function announce(text) {
	status.textContent = text;
}
