"""Protection against text that a spreadsheet may run as a formula.

`safe_text` puts a mark before such text when it is written; `restored_text` removes the marks when it is read.
OWASP, "CSV Injection", lists the characters; their full-width forms run in Japanese Excel. A spreadsheet may split
a file elsewhere than Rollcall does, so the start of each piece between separators is made safe, too.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from rollcall.domain.fields import WHITE_SPACE

MARK = "'"
# With one of these as delimiter, a mark does not help or cannot be recognised.
UNSAFE_DELIMITERS = "=+-@'"

_STARTS = "=+\\-@＝＋－＠\t\r\n"  # noqa: RUF001 - the full-width forms
_SEPARATORS = ",;|\t\r\n"
# Characters that may stand before a start: quotes, and white space other than the starts themselves.
# Python also counts U+001C to U+001F as white space.
_SKIPPED = "".join(set(WHITE_SPACE) - set("\t\r\n")) + "\x1c\x1d\x1e\x1f'\""

_start = re.compile(f"[{_STARTS}]")


def safe_text(text: str, delimiter: str) -> str:
    """Return a cell or label with a mark before each piece that a spreadsheet may run.

    Args:
        text: The cell or label.
        delimiter: The delimiter of the file that it is written to; none of `UNSAFE_DELIMITERS`.
    """

    def mark(found: re.Match[str]) -> str:
        if not found[2]:
            return found[1]
        # A delimiter at the very end gets no mark here: the text after it is a piece that is found next.
        return MARK + found[1][:-1].replace(delimiter, delimiter + MARK) + found[1][-1:]

    return _pieces(delimiter).sub(mark, text) if _may_run(delimiter).search(text) else text


def safe_row(cells: Sequence[str], delimiter: str) -> Sequence[str]:
    """Return the cells of a row made safe; see `safe_text`. Two searches show whether the row needs it."""
    text = delimiter.join(cells)
    if not _start.search(text) or not _may_run(delimiter).search(text):
        return cells
    return [safe_text(cell, delimiter) for cell in cells]


def restored_text(text: str, delimiter: str) -> str:
    """Return a cell or label without the marks that `safe_text` adds: one before each piece that may run.

    Args:
        text: The cell or label.
        delimiter: The delimiter of the file that it is read from.
    """

    def unmark(found: re.Match[str]) -> str:
        if not found[2]:
            return found[1]
        return found[1].removeprefix(MARK).replace(delimiter + MARK, delimiter)

    return _pieces(delimiter).sub(unmark, text) if MARK in text and _may_run(delimiter).search(text) else text


@lru_cache
def _may_run(delimiter: str) -> re.Pattern[str]:
    """Return the pattern that matches if any piece may run; few texts match."""
    skipped = _SKIPPED.replace(delimiter, "")  # after it begins a new piece
    return re.compile(rf"(?:\A|[{_SEPARATORS}{re.escape(delimiter)}])[{skipped}]*+[{_STARTS}]")


@lru_cache
def _pieces(delimiter: str) -> re.Pattern[str]:
    """Return the pattern of the beginning of a piece.

    Group 1 has the skipped characters. Group 2 has the character that makes the piece run; it is None if the piece
    cannot run. The pattern also matches pieces that cannot run, so that no character is read twice.
    """
    starts = rf"\A|(?<=[{_SEPARATORS}{re.escape(delimiter)}])(?!(?<=\r)\n)"  # CRLF is one line end
    return re.compile(rf"(?:{starts})([{_SKIPPED}]*+)(?=([{_STARTS}])?)")
