"""A second, simplest implementation of the contract, to compare the code with."""

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal

import attrs

from rollcall.domain.rejection import Code

BIDI_CONTROLS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

KIB = 1024


def is_white_space(character: str) -> bool:
    """Whether a character has Unicode's White_Space property: the separators and six controls."""
    return character in "\t\n\v\f\r\x85" or unicodedata.category(character) in {"Zs", "Zl", "Zp"}


def trimmed(cell: str) -> str:
    """Return a cell without white space at its ends."""
    start, end = 0, len(cell)
    while start < end and is_white_space(cell[start]):
        start += 1
    while start < end and is_white_space(cell[end - 1]):
        end -= 1
    return cell[start:end]


def is_blank(cell: str) -> bool:
    """Whether a cell contains only white space and format characters."""
    return all(is_white_space(character) or unicodedata.category(character) == "Cf" for character in cell)


def is_forbidden(character: str) -> bool:
    """Whether a character is forbidden in text."""
    return unicodedata.category(character) in {"Cc", "Zl", "Zp", "Cs"} or character in BIDI_CONTROLS


def text_verdict(cell: str) -> str | Code:
    """Return the value of a text cell, or the code of its fault."""
    text = trimmed(cell)
    if is_blank(text):
        return Code.BLANK_CELL
    if len(text) > 200:
        return Code.CONSTRAINT_ERROR
    if any(map(is_forbidden, text)):
        return Code.FORBIDDEN_VALUE
    return text


def age_verdict(cell: str) -> int | Code:
    """Return the value of an age cell, or the code of its fault."""
    text = trimmed(cell)
    if is_blank(text):
        return Code.BLANK_CELL
    if not all(character in "0123456789" for character in text):
        return Code.TYPE_ERROR
    value = Decimal(text)
    return int(value) if 0 <= value <= 150 else Code.CONSTRAINT_ERROR


def row_verdict(cells: Sequence[str]) -> tuple[str | int | Code, ...]:
    """Return the value or fault of each cell: name, country and age."""
    name, country, age = cells
    return text_verdict(name), text_verdict(country), age_verdict(age)


@attrs.frozen(kw_only=True)
class Limits:
    """Limits of a quoted cell and of a record, and how many characters of a long record are kept."""

    quoted_bytes: int = 64 * KIB
    quoted_line_ends: int = 100
    record_bytes: int = KIB * KIB
    beginning: int = 64 * KIB


@attrs.frozen
class Expected:
    """One expected record. Its cells count only if it has no fault.

    An unfinished record is the last one, without a line end.
    """

    line: int
    last_line: int
    text: str
    cells: tuple[str, ...]
    fault: Code | None = None
    ended: bool = True


def read_records(text: str, delimiter: str, limits: Limits = Limits()) -> list[Expected]:
    """Split a text into records, one character at a time."""
    records = []
    at, line = 0, 1
    while at < len(text):
        record, at = read_record(text, at, line, delimiter, limits)
        records.append(record)
        line = record.last_line + 1
    return records


def read_record(text: str, start: int, line: int, delimiter: str, limits: Limits) -> tuple[Expected, int]:
    """Read the record that starts at an index. Return it with the index of the next one."""
    cells: list[str] = []
    cell = ""
    state = "start"
    malformed = False
    line_ends = 0
    at = start
    while at < len(text):
        character = text[at]
        if character in "\r\n" or (character == delimiter):
            cells.append(cell)
            cell, state = "", "start"
            if character != delimiter:
                break
            at += 1
        elif character == '"' and state == "start":
            closing = _closing_quote(text, at, limits)
            if closing is None:
                malformed = True
                at = _end_of_line(text, at)
                break
            inside = text[at + 1 : closing]
            cell = inside.replace('""', '"')
            line_ends += count_line_ends(inside)
            state = "closed"
            at = closing + 1
        else:
            malformed |= state == "closed"
            cell += character
            state = "unquoted"
            at += 1
    else:
        cells.append(cell)
    raw = text[start:at]
    fault = (
        Code.RECORD_TOO_LONG
        if len(raw.encode(errors="surrogatepass")) > limits.record_bytes
        else Code.MALFORMED_QUOTING
        if malformed
        else None
    )
    line_end = _line_end_at(text, at)
    record = Expected(line, line + line_ends, raw, () if fault else tuple(cells), fault, ended=bool(line_end))
    return record, at + len(line_end)


def _closing_quote(text: str, opening: int, limits: Limits) -> int | None:
    """Index of the quote that closes a cell; None if the quote runs away."""
    at = opening + 1
    octets = line_ends = 0
    while at < len(text) and octets < limits.quoted_bytes and line_ends < limits.quoted_line_ends:
        step = 1
        if text[at] == '"':
            if text[at : at + 2] != '""':
                return at
            step = 2
        elif line_end := _line_end_at(text, at):
            step = len(line_end)
            line_ends += 1
        octets += len(text[at : at + step].encode(errors="surrogatepass"))
        at += step
    return None


def _line_end_at(text: str, at: int) -> str:
    for line_end in ("\r\n", "\n", "\r"):
        if text.startswith(line_end, at):
            return line_end
    return ""


def _end_of_line(text: str, at: int) -> int:
    while at < len(text) and text[at] not in "\r\n":
        at += 1
    return at


def count_line_ends(text: str) -> int:
    """Number of line ends in a text."""
    return len(re.findall("\r\n|\r|\n", text))
