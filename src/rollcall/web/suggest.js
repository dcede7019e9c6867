// Likely corrections of cells. The server judges them before they are offered, and only a person applies them.

const UNSEEN = /[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]+/gu;

/**
 * Return what a cell probably means, the most careful change first.
 * @param {string} cell
 * @param {Schema} schema
 * @returns {string[]}
 */
export function candidates(cell, schema) {
	const plain = cell.replace(UNSEEN, ' ').replace(/ +/g, ' ').trim();
	const found = [plain];
	if (schema.type === 'integer') {
		const narrow = plain.normalize('NFKC').trim();
		const [, digits] = narrow.match(/^\D{0,12}?(\d{1,18})(?:[.,]0+)?\D{0,12}$/u) ?? [];
		found.push(narrow);
		if (digits && !/[-−]\s*\d/u.test(narrow)) found.push(digits);
	}
	return [...new Set(found)].filter((value) => value !== '' && value !== cell);
}
