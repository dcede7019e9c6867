"""Text that a spreadsheet may run as a formula: made safe when it is written, and restored when it is read again.

OWASP, "CSV Injection", names the characters; their full-width forms run in Japanese Excel. A spreadsheet may split
a file elsewhere than Rollcall does, so the start of each piece between separators is made safe, too.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from rollcall.domain.user import WHITE_SPACE

MARK = "'"
# Before one of these a mark does not help, or cannot be recognised.
UNSAFE_DELIMITERS = "=+-@'"

_STARTS = "=+\\-@＝＋－＠\t\r\n"  # noqa: RUF001 - the full-width forms
_SEPARATORS = ",;|\t\r\n"
# White space without the characters that are a start themselves, and quotes; Python counts U+001C to U+001F, too.
_SKIPPED = "".join(set(WHITE_SPACE) - set("\t\r\n")) + "\x1c\x1d\x1e\x1f'\""


def safe_text(text: str, delimiter: str) -> str:
    """Put a mark before each piece of a cell or label that a spreadsheet may run.

    Args:
        text: The cell or label.
        delimiter: The delimiter of the file that it is written to; none of `UNSAFE_DELIMITERS`.
    """

    def mark(found: re.Match[str]) -> str:
        if not found[2]:
            return found[1]
        # What follows a delimiter at the very end is a piece of its own, found next.
        return MARK + found[1][:-1].replace(delimiter, delimiter + MARK) + found[1][-1:]

    return _pieces(delimiter).sub(mark, text) if _may_run(delimiter).search(text) else text


def safe_row(cells: Sequence[str], delimiter: str) -> Sequence[str]:
    """Make all cells of a row safe; see `safe_text`. Few rows need it, and one look at all of a row tells."""
    if not _may_run(delimiter).search(delimiter.join(cells)):
        return cells
    return [safe_text(cell, delimiter) for cell in cells]


def restored_text(text: str, delimiter: str) -> str:
    """Remove one mark before each piece that a spreadsheet may run: the reverse of `safe_text`.

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
    """Make the pattern that finds whether any piece may run; few texts have one."""
    skipped = _SKIPPED.replace(delimiter, "")  # what follows the last of them is a piece, too
    return re.compile(rf"(?:\A|[{_SEPARATORS}{re.escape(delimiter)}])[{skipped}]*+[{_STARTS}]")


@lru_cache
def _pieces(delimiter: str) -> re.Pattern[str]:
    """Make the pattern of the start of a piece: what is skipped, and then, if it may run, what makes it so.

    What is skipped is taken even where nothing follows that may run, so that no character is looked at twice.
    """
    starts = rf"\A|(?<=[{_SEPARATORS}{re.escape(delimiter)}])(?!(?<=\r)\n)"  # CRLF is one line end
    return re.compile(rf"(?:{starts})([{_SKIPPED}]*+)(?=([{_STARTS}])?)")
