"""What the contract says, written a second time and as plainly as possible, to hold the code against."""

import codecs
import gzip
import hashlib
import re
import unicodedata
import zlib
from collections.abc import Sequence
from decimal import Decimal

import attrs

from rollcall.domain.rejection import Code

BIDI_CONTROLS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

SEPARATOR_LINE = re.compile(r"(?i:sep)=([\t !#-/:-@\[-`{-~])(?:\r\n|\n|\r|\Z)", re.ASCII)

KIB = 1024


def is_white_space(character: str) -> bool:
    """Unicode's White_Space: the separators, and six controls."""
    return character in "\t\n\v\f\r\x85" or unicodedata.category(character) in {"Zs", "Zl", "Zp"}


def trimmed(cell: str) -> str:
    """A cell without the white space at its ends."""
    start, end = 0, len(cell)
    while start < end and is_white_space(cell[start]):
        start += 1
    while start < end and is_white_space(cell[end - 1]):
        end -= 1
    return cell[start:end]


def is_blank(cell: str) -> bool:
    """Whether there is nothing in it but white space and format characters."""
    return all(is_white_space(character) or unicodedata.category(character) == "Cf" for character in cell)


def is_forbidden(character: str) -> bool:
    """Whether no text may hold it."""
    return unicodedata.category(character) in {"Cc", "Zl", "Zp", "Cs"} or character in BIDI_CONTROLS


def text_verdict(cell: str) -> str | Code:
    """What a text field makes of a cell: its value, or the code of its fault."""
    text = trimmed(cell)
    if is_blank(text):
        return Code.BLANK_CELL
    if len(text) > 200:
        return Code.CONSTRAINT_ERROR
    if any(map(is_forbidden, text)):
        return Code.FORBIDDEN_VALUE
    return text


def age_verdict(cell: str) -> int | Code:
    """What the age makes of a cell: its value, or the code of its fault."""
    text = trimmed(cell)
    if is_blank(text):
        return Code.BLANK_CELL
    if not all(character in "0123456789" for character in text):
        return Code.TYPE_ERROR
    value = Decimal(text)
    return int(value) if 0 <= value <= 150 else Code.CONSTRAINT_ERROR


def row_verdict(cells: Sequence[str]) -> tuple[str | int | Code, ...]:
    """What `User` makes of the cells of name, country and age."""
    name, country, age = cells
    return text_verdict(name), text_verdict(country), age_verdict(age)


@attrs.frozen(kw_only=True)
class Limits:
    """Where a quoted cell runs away, and a record is too long."""

    quoted_bytes: int = 64 * KIB
    quoted_line_ends: int = 100
    record_bytes: int = KIB * KIB


@attrs.frozen
class Expected:
    """One record as the contract wants it; its cells count only where it has no fault."""

    line: int
    last_line: int
    text: str
    cells: tuple[str, ...]
    fault: Code | None = None


def read_records(text: str, delimiter: str, limits: Limits = Limits()) -> list[Expected]:
    """Split a whole text into records, one character after the other."""
    records = []
    at, line = 0, 1
    while at < len(text):
        record, at = read_record(text, at, line, delimiter, limits)
        records.append(record)
        line = record.last_line + 1
    return records


def read_record(text: str, start: int, line: int, delimiter: str, limits: Limits) -> tuple[Expected, int]:
    """Split off the record that starts at an index, and say where the next one does."""
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
    record = Expected(line, line + line_ends, raw, () if fault else tuple(cells), fault)
    return record, at + len(_line_end_at(text, at))


def _closing_quote(text: str, opening: int, limits: Limits) -> int | None:
    """Where a quoted cell ends; None if it runs away."""
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
    """How many times a text breaks the line."""
    return len(re.findall("\r\n|\r|\n", text))


Fault = tuple[Code, str | None]


@attrs.frozen(kw_only=True)
class Reading:
    """A whole upload as the contract wants it to be read.

    Attributes:
        code: Why it is refused before any row is read; None if rows are read.
        sha256: Of what is inside, or of what is stored where that cannot be had.
        compression: "gzip" or None.
        encoding: The one that decodes it.
        delimiter: What separates its cells; None without a header.
        ignored: The labels that no field has.
        users: The values of the good rows.
        rejected: The first and last line of each bad row, and its faults.
        blank: How many rows are passed over.
    """

    code: Code | None = None
    sha256: str
    compression: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    ignored: tuple[str, ...] = ()
    users: tuple[tuple[str | int, ...], ...] = ()
    rejected: tuple[tuple[int, int, tuple[Fault, ...]], ...] = ()
    blank: int = 0


def read_upload(stored: bytes, encodings: Sequence[str] = ("utf-8",)) -> Reading:
    """Read a whole upload, all of it in memory, one step after the other."""
    compression = "gzip" if stored.startswith(b"\x1f\x8b") else None
    try:
        data = gzip.decompress(stored) if compression else stored
    except (OSError, EOFError, zlib.error):
        sha256 = hashlib.sha256(stored).hexdigest()
        return Reading(code=Code.COMPRESSION_ERROR, sha256=sha256, compression=compression)
    reading = Reading(sha256=hashlib.sha256(data).hexdigest(), compression=compression)
    if data.startswith((b"PK\x03\x04", b"%PDF-", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")):
        return attrs.evolve(reading, code=Code.FORMAT_ERROR)
    if not data:
        return attrs.evolve(reading, code=Code.EMPTY_FILE)
    encoding, text = _decode(data, encodings)
    if encoding is None:
        return attrs.evolve(reading, code=Code.ENCODING_ERROR)
    return _read_text(attrs.evolve(reading, encoding=encoding), text)


def _decode(data: bytes, encodings: Sequence[str]) -> tuple[str | None, str]:
    marks = {
        codecs.BOM_UTF8: "utf-8",
        codecs.BOM_UTF16_LE: "utf-16-le",
        codecs.BOM_UTF16_BE: "utf-16-be",
    }
    for mark, encoding in marks.items():
        if data.startswith(mark):
            data, encodings = data.removeprefix(mark), [encoding]
            break
    for encoding in encodings:
        try:
            return encoding, data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return None, ""


def _read_text(reading: Reading, text: str) -> Reading:
    at, line = _after_blank_rows(text, 0, 1, ",;\t")
    said = SEPARATOR_LINE.match(text, at)
    if said:
        at, line = _after_blank_rows(text, said.end(), line + 1, said[1])
    faults = []
    for delimiter in said[1] if said else ",;\t":
        if at == len(text):
            return attrs.evolve(reading, code=Code.EMPTY_FILE)
        record, after = _read_record(text, at, line, delimiter, Limits())
        labels = [trimmed(label).lower() for label in record.cells]
        if record.fault:
            faults.append((record.text.count(delimiter), Code.FORMAT_ERROR))
        elif not {"name", "country", "age"} <= set(labels):
            faults.append((len(labels) - 1, Code.MISSING_LABEL))
        elif any(labels.count(label) > 1 for label in ("name", "country", "age")):
            return attrs.evolve(reading, code=Code.DUPLICATE_LABEL)
        else:
            places = [labels.index(label) for label in ("name", "country", "age")]
            ignored = tuple(label for place, label in enumerate(record.cells) if place not in places)
            found = attrs.evolve(reading, delimiter=delimiter, ignored=ignored)
            return _read_rows(found, text, after, record.last_line + 1, places)
    # It is refused for what is wrong under the delimiter that splits it into the most cells.
    return attrs.evolve(reading, code=max(faults, key=lambda fault: fault[0])[1])


def _after_blank_rows(text: str, at: int, line: int, delimiters: str) -> tuple[int, int]:
    """Pass over rows in which nothing can be seen but delimiters and quotes."""
    while at < len(text):
        record, after = _read_record(text, at, line, delimiters[0], Limits())
        if record.fault or not all(
            character in delimiters + '"' or is_blank(character) for character in record.text
        ):
            break
        at, line = after, record.last_line + 1
    return at, line


def _read_rows(reading: Reading, text: str, at: int, line: int, places: Sequence[int]) -> Reading:
    users: list[tuple[str | int, ...]] = []
    rejected = []
    blank = 0
    width = len(places) + len(reading.ignored)
    while at < len(text):
        record, at = _read_record(text, at, line, reading.delimiter or "", Limits())
        line = record.last_line + 1
        faults: tuple[Fault, ...] = ()
        if record.fault:
            faults = ((record.fault, None),)
        elif all(map(is_blank, record.cells)):
            blank += 1
            continue
        elif len(record.cells) != width:
            faults = ((Code.MISSING_CELL if len(record.cells) < width else Code.EXTRA_CELL, None),)
        else:
            values = row_verdict([record.cells[place] for place in places])
            columns = zip(values, ("name", "country", "age"), strict=True)
            faults = tuple((value, column) for value, column in columns if isinstance(value, Code))
        if faults:
            rejected.append((record.line, record.last_line, faults))
        else:
            users.append(tuple(value for value in values if not isinstance(value, Code)))
    return attrs.evolve(reading, users=tuple(users), rejected=tuple(rejected), blank=blank)
