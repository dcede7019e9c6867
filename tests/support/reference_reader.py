"""A second, simplest implementation of how an upload is read, to compare the code with.

It reads the upload as a whole, one character at a time, and shares no reading code with `rollcall`.
"""

import codecs
import re
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial

import attrs

from rollcall.domain.rejection import Code
from rollcall.domain.user import USERS

BIDI_CONTROLS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

KIB = 1024

OWN_LABELS = ("rollcall_line", "rollcall_reason", "rollcall_record", "rollcall_import")
LINE, _, RECORD, IMPORT = OWN_LABELS

MOST_COLUMNS, MOST_COLUMNS_WRITTEN = 10_000, 1000

# A spreadsheet may run text that starts like this, and may split cells at the separators.
RUNS = re.compile(r"""['"\s]*[=+\-@＝＋－＠\t\r\n]""")  # noqa: RUF001 - full-width forms also run
SEPARATORS = ",;|\t\r\n"
# A file with one of these cannot be made safe.
UNSAFE_DELIMITERS = "=+-@'"

TOKEN = re.compile(r"(?<!\w)i([0-9]{1,18})-([0-9]{1,18})-([0-9a-f]{24})(?!\w)")

# Formats that are refused by name. tar and Parquet need more than the first bytes.
SIGNATURES = (
    *(b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08", b"PK00PK", b"%PDF-", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"SQLite format 3\0"),
    *(
        b"\x1f\x8b",
        b"\x1f\x9d",
        b"\x1f\xa0",
        b"\xfd7zXZ\0",
        b"\x28\xb5\x2f\xfd",
        b"\x04\x22\x4d\x18",
        b"\x02\x21\x4c\x18",
    ),
    *(b"LZIP\0", b"LZIP\1", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"),
    *(b"BZh%d%s" % (level, body) for level in range(1, 10) for body in (b"1AY&SY", b"\x17rE8P\x90")),
)

Values = tuple[str | int, ...]
# Import, line and proof.
Origin = tuple[int, int, str]


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


# The rule of each field, once more. A text has at most 200 characters unless its field says otherwise.
VERDICTS: dict[str, Callable[[str], str | int | Code]] = dict.fromkeys(USERS.columns, text_verdict) | {
    "age": age_verdict
}


def row_verdict(cells: Sequence[str]) -> tuple[str | int | Code, ...]:
    """Return the value or fault of each cell, in the order of `USERS.columns`."""
    return tuple(VERDICTS[column](cell) for column, cell in zip(USERS.columns, cells, strict=True))


@attrs.frozen(kw_only=True)
class Limits:
    """Limits of a quoted cell and of a record, and how many bytes of a long record are kept."""

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


def beginning_of(text: str, size: int) -> str:
    """Return the whole characters in the first bytes of a text in UTF-8."""
    return text[:size].encode(errors="replace")[:size].decode(errors="ignore")


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


@attrs.frozen(kw_only=True)
class Row:
    """One record after the header.

    Attributes:
        line: The line on which it starts.
        last_line: The line on which it ends.
        cells: Its cells; None if it could not be split, or has the wrong number of cells.
        whole_text: Its raw text, if the rejected-rows file contains the whole text instead of cells.
        values: The values to register; None if its own cells reject it.
        faults: The code and column of each fault.
        origin: The rejected row that it corrects, if it still names one.
    """

    line: int
    last_line: int
    cells: tuple[str, ...] | None = None
    whole_text: str | None = None
    values: Values | None = None
    faults: tuple[tuple[Code, str | None], ...] = ()
    origin: Origin | None = None


@attrs.frozen(kw_only=True)
class Sheet:
    """An upload with a header.

    Attributes:
        delimiter: Its delimiter.
        labels: The labels as uploaded.
        rows: All rows except blank ones.
        blank: The number of blank rows.
    """

    delimiter: str
    labels: tuple[str, ...]
    rows: tuple[Row, ...]
    blank: int

    def place(self, label: str) -> int:
        """Index of a label's cell in a row."""
        return _normal(self.labels).index(label)

    def has(self, label: str) -> bool:
        """Whether a column has this label."""
        return label in _normal(self.labels)

    @property
    def uploaders_places(self) -> list[int]:
        """Indexes of the uploader's own columns."""
        return [place for place, label in enumerate(_normal(self.labels)) if label not in OWN_LABELS]

    @property
    def written_places(self) -> list[int]:
        """Indexes of the columns that the rejected-rows file contains."""
        places = self.uploaders_places
        if len(places) <= MOST_COLUMNS_WRITTEN:
            return places
        return sorted(map(self.place, USERS.columns))

    @property
    def ignored(self) -> tuple[str, ...]:
        """Labels of the uploader's columns that belong to no field."""
        normal = _normal(self.labels)
        return tuple(self.labels[place] for place in self.uploaders_places if normal[place] not in USERS.columns)

    @property
    def holds_corrected_rows(self) -> bool:
        """Whether the upload contains corrected rows."""
        return self.has(LINE)

    @property
    def corrects(self) -> Origin | None:
        """Return the first origin that names an import; otherwise the first origin, or None."""
        origins = [row.origin for row in self.rows if row.origin]
        return next((origin for origin in origins if origin[0]), origins[0] if origins else None)


def text_of(stored: bytes, encodings: Sequence[str], most_bytes: int) -> tuple[str, str] | Code:
    """Decode an upload. Return its encoding and text, or the code that refuses it."""
    content = unpacked(stored)
    if content is None:
        return Code.COMPRESSION_ERROR
    stored = content
    if len(stored) > most_bytes:
        return Code.SIZE_LIMIT
    if not stored:
        return Code.EMPTY_FILE
    if code := not_read(stored):
        return code
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if stored.startswith(mark):
            stored, encodings = stored.removeprefix(mark), (encoding,)
            break
    for encoding in encodings:
        try:
            return encoding, codecs.getincrementaldecoder(encoding)("strict").decode(stored, final=True)
        except UnicodeError:
            continue
    return Code.ENCODING_ERROR


def not_read(content: bytes) -> Code | None:
    """Return the code that refuses a known format or encoding, or None."""
    if content.startswith(SIGNATURES) or is_parquet(content) or is_tar(content):
        return Code.FORMAT_ERROR
    return Code.ENCODING_ERROR if is_utf_32(content) else None


def is_parquet(content: bytes) -> bool:
    """Return whether the content starts with Parquet's signature and a byte that is not text."""
    return (
        content.startswith(b"PAR1")
        and content[4:5] != b""
        and content[4] < 0x20
        and content[4:5] not in b"\t\n\v\f\r"
    )


def is_tar(content: bytes) -> bool:
    """Return whether the content starts with a tar header: a name that ends in NUL, and tar's signature."""
    return content[257:262] == b"ustar" and 1 <= content.find(b"\0") <= 100


def is_utf_32(content: bytes) -> bool:
    """Return whether the content has UTF-32's byte order mark, and not UTF-16's before a NUL."""
    if content.startswith(b"\xff\xfe\0\0"):
        return len(content) == 4 or (len(content) >= 8 and content[6] <= 0x10 and content[7] == 0)
    return content.startswith(b"\0\0\xfe\xff")


def unpacked(stored: bytes) -> bytes | None:
    """Decompress gzip, and return other content unchanged. Return None if the gzip data is damaged."""
    if not stored.startswith(b"\x1f\x8b"):
        return stored
    content = b""
    while stored:
        member = zlib.decompressobj(wbits=31)
        try:
            content += member.decompress(stored)
        except zlib.error:
            return None
        if not member.eof:
            return None
        stored = member.unused_data.lstrip(b"\0")
    return content


def sheet_of(text: str, limits: Limits) -> Sheet | Code:
    """Find the header and judge each row by its own cells. Return a code if the header refuses the upload."""
    at, line, delimiters = _beginning(text, limits)
    if at == len(text):
        return Code.EMPTY_FILE
    faults = []
    for delimiter in delimiters:
        header, behind = read_record(text, at, line, delimiter, limits)
        if header.fault is Code.RECORD_TOO_LONG:
            return Code.FORMAT_ERROR
        labels = header.cells
        if LINE in _normal(labels):
            labels = tuple(restored(label, delimiter) for label in labels)
        code = Code.FORMAT_ERROR if header.fault else _header_fault(labels)
        if not code:
            records = read_records(text[behind:], delimiter, limits)
            return _judged(delimiter, labels, records, header.last_line, limits)
        faults.append((code is Code.DUPLICATE_LABEL, header.text.count(delimiter), code))
    # The uploader most likely meant the delimiter that finds more labels, or that gives more cells.
    return max(faults, key=lambda fault: fault[:2])[-1]


def header_at(text: str, labels: Sequence[str]) -> tuple[int, str] | None:
    """Return the index of a header that has some labels, and its delimiter; None if there is no such header."""
    at, line, delimiters = _beginning(text, Limits())
    for delimiter in delimiters if at < len(text) else "":
        header, _ = read_record(text, at, line, delimiter, Limits())
        if not header.fault and set(labels) <= set(_normal(header.cells)):
            return at, delimiter
    return None


def _beginning(text: str, limits: Limits) -> tuple[int, int, str]:
    """Return the index and line of the header, and the delimiters that it may have."""
    delimiters = ",;\t"
    at, line = _behind_blank_rows(text, 0, 1, delimiters, limits)
    said = re.match('(?i)("?)sep=([\x20\t!#-/:-@\\[-`{-~])\\1(\r\n|\r|\n|\\Z)', text[at:])
    if said:
        delimiters = said[2]
        at, line = _behind_blank_rows(text, at + said.end(), line + 1, delimiters, limits)
    return at, line, delimiters


def _behind_blank_rows(text: str, at: int, line: int, delimiters: str, limits: Limits) -> tuple[int, int]:
    """Skip rows whose cells are all blank under one of the delimiters."""
    while at < len(text):
        for delimiter in delimiters:
            record, behind = read_record(text, at, line, delimiter, limits)
            if record.fault is Code.RECORD_TOO_LONG:
                return at, line
            if not record.fault and all(map(is_blank, record.cells)):
                at, line = behind, record.last_line + 1
                break
        else:
            return at, line
    return at, line


def restored(cell: str, delimiter: str) -> str:
    """Return a cell as it was before it was made safe for a spreadsheet."""
    return "".join(
        character
        for place, character in enumerate(cell)
        if not (
            character == "'"
            and (
                place == 0 or (cell[place - 1] in SEPARATORS + delimiter and cell[place - 1 : place + 1] != "\r\n")
            )
            and RUNS.match(cell, place + 1)
        )
    )


def _normal(labels: Sequence[str]) -> list[str]:
    return [trimmed(label).lower() for label in labels]


def _header_fault(labels: Sequence[str]) -> Code | None:
    if len(labels) > MOST_COLUMNS:
        return Code.FORMAT_ERROR
    normal = _normal(labels)
    if not set(USERS.columns) <= set(normal):
        return Code.MISSING_LABEL
    if any(normal.count(label) > 1 for label in (*USERS.columns, *OWN_LABELS)):
        return Code.DUPLICATE_LABEL
    ours = set(OWN_LABELS) & set(normal)
    return Code.MISSING_LABEL if ours and not {LINE, IMPORT} <= ours else None


def _judged(
    delimiter: str, labels: tuple[str, ...], records: Sequence[Expected], lines_before: int, limits: Limits
) -> Sheet:
    rows = []
    blank = 0
    for record in records:
        row = _row(record, labels, delimiter, lines_before, limits)
        if row:
            rows.append(row)
        else:
            blank += 1
    return Sheet(delimiter=delimiter, labels=labels, rows=tuple(rows), blank=blank)


def _row(
    record: Expected, labels: tuple[str, ...], delimiter: str, lines_before: int, limits: Limits
) -> Row | None:
    row = partial(Row, line=lines_before + record.line, last_line=lines_before + record.last_line)
    normal = _normal(labels)
    corrected = LINE in normal
    cells = record.cells
    if corrected:
        cells = tuple(restored(cell, delimiter) for cell in cells)
    if not record.fault and all(map(is_blank, cells)):
        return None
    if record.ended and not record.fault and not {*USERS.columns, LINE, IMPORT} & set(normal[len(cells) :]):
        cells += ("",) * (len(labels) - len(cells))
    if record.fault or len(cells) != len(labels):
        text = beginning_of(record.text, limits.beginning) if record.fault is Code.RECORD_TOO_LONG else record.text
        named = {_origin(*token) for token in TOKEN.findall(text)} if corrected else set()
        code = record.fault or (Code.MISSING_CELL if len(cells) < len(labels) else Code.EXTRA_CELL)
        whole = record.fault is not Code.RECORD_TOO_LONG and count_line_ends(text) < Limits().quoted_line_ends
        return row(
            whole_text=text if whole else None,
            faults=((code, None),),
            origin=named.pop() if len(named) == 1 else None,
        )
    origin = None
    if corrected:
        origin, fault = _identity(*(trimmed(cells[normal.index(label)]) for label in (LINE, IMPORT)))
        if fault:
            return row(cells=cells, faults=(fault,), origin=origin)
    verdict = row_verdict([cells[normal.index(column)] for column in USERS.columns])
    faults = tuple(
        (value, column) for value, column in zip(verdict, USERS.columns, strict=True) if isinstance(value, Code)
    )
    values = tuple(value for value in verdict if not isinstance(value, Code))
    return row(cells=cells, values=None if faults else values, faults=faults, origin=origin)


def _identity(line: str, cell: str) -> tuple[Origin | None, tuple[Code, str] | None]:
    """Read the origin of a corrected row, and the code of a fault in it."""
    token = TOKEN.fullmatch(cell)
    origin = _origin(*token.groups()) if token else None
    number = re.fullmatch("0*([0-9]{1,18})", cell)
    if not token and not number:
        return None, (Code.TYPE_ERROR if cell else Code.BLANK_CELL, IMPORT)
    if not re.fullmatch("0*[1-9][0-9]{0,17}", line) or (origin and origin[1] != int(line)):
        return origin, (Code.TYPE_ERROR if line else Code.BLANK_CELL, LINE)
    # Earlier versions wrote only a number, which proves nothing.
    return origin or (int(cell), int(line), ""), None


def _origin(import_id: str, line: str, digits: str) -> Origin:
    return int(import_id), int(line), digits
