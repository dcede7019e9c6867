"""The file of rejected rows: the uploader's own rows, and beside each the reason why it was rejected."""

import codecs
import csv
import hashlib
import io
import math
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import BinaryIO

import attrs

from rollcall.application.decoding import CHUNK_BYTES
from rollcall.application.dialect import IMPORT, LINE, OWN_LABELS, RECORD, Header
from rollcall.application.reasons import reason
from rollcall.application.records import LINE_END, MAX_QUOTED_BYTES, MAX_QUOTED_LINE_ENDS, MAX_RECORD_BYTES, Record
from rollcall.application.spreadsheets import MARK, UNSAFE_DELIMITERS, restored_text, safe_row, safe_text
from rollcall.domain.correction import NO_VERDICT, Origin, Verdict
from rollcall.domain.rejection import Code, Fault, Rejection, shown
from rollcall.domain.user import COLUMNS, WHITE_SPACE

CUT_MARK = " [cut here]"
# Under a wider header, the file has only the columns that are needed to correct it.
MAX_WRITTEN_COLUMNS = 1000

_PENDING_CHARACTERS = 64 * 1024

# What is written here is read again, so it must stay within the reader's limits: a cell together with the mark of
# a cut, and the uploader's cells together with those beside them.
MAX_RAW_BYTES = MAX_QUOTED_BYTES - 64
_MAX_CELLS_BYTES = MAX_RECORD_BYTES - 4 * MAX_QUOTED_BYTES
# In quotes and made safe, no character takes more than five bytes.
_CERTAINLY_FITTING = MAX_QUOTED_BYTES // 8

_number = re.compile(r"0*([0-9]{1,18})")
# A letter first, so that no spreadsheet takes it for a number or a date.
_token = re.compile(r"\bi([0-9]{1,18})-([0-9]{1,18})-([0-9a-f]{24})\b")

_MARKS = {
    "utf-8": codecs.BOM_UTF8,  # always, for Excel takes UTF-8 without it for something else
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
}


@attrs.frozen
class RejectedRow:
    """A row that was rejected.

    Attributes:
        record: What the uploader wrote.
        rejection: Why it was rejected.
        origin: The rejected row that it was to correct; None in a file of users, or where it is not known.
    """

    record: Record
    rejection: Rejection
    origin: Origin | None = None


def restored(record: Record, delimiter: str) -> Record:
    """Remove from the cells of a corrected row what made them safe in a spreadsheet."""
    if MARK not in record.text:
        return record
    return attrs.evolve(record, cells=[restored_text(cell, delimiter) for cell in record.cells])


def read_origin(record: Record, header: Header) -> tuple[Origin | None, Fault | None]:
    """Read from a corrected row which rejected row it stands for.

    Args:
        record: The row, whether or not it could be split.
        header: The header of a file of corrected rows.

    Returns:
        Its origin, as far as it can still be identified; and what is wrong with the columns that name it. A row
        with a fault of its own may have an origin, too, so that it keeps it through another round.
    """
    if record.fault or len(record.cells) != len(header.labels):
        found = {_as_origin(token) for token in _token.finditer(record.text)}
        return (found.pop() if len(found) == 1 else None), None
    line_cell, cell = (record.cells[header.own_positions[label]].strip(WHITE_SPACE) for label in (LINE, IMPORT))
    line = _number.fullmatch(line_cell)
    token = _token.fullmatch(cell)
    number = _number.fullmatch(cell)
    origin = _as_origin(token) if token else None
    if not (token or number):
        return None, _unidentified(IMPORT, cell)
    if not line or not int(line[1]) or (origin and origin.line != int(line[1])):
        return origin, _unidentified(LINE, line_cell)
    # Earlier versions wrote only the number.
    return origin or Origin(int(number[1]) if number else 0, int(line[1])), None


def _as_origin(token: re.Match[str]) -> Origin:
    return Origin(int(token[1]), int(token[2]), token[3])


def token_of(origin: Origin) -> str:
    """Write an origin as `read_origin` reads it from the column `rollcall_import`."""
    return f"i{origin.import_id}-{origin.line}-{origin.proof}" if origin.proof else str(origin.import_id)


def _unidentified(label: str, cell: str) -> Fault:
    return Fault(
        Code.TYPE_ERROR if cell else Code.BLANK_CELL,
        f"{label} is {shown(cell) if cell else 'blank'}, so it is not known which row this was; "
        "restore the value from the rejected-rows file, and add new users in a file of their own",
        label,
    )


class RejectedRows:
    """Writes rejected rows in the uploader's own dialect, however many, in constant memory.

    Args:
        spool: Takes the bytes, in place of those it holds; is read back from its beginning by `content`.
        header: The upload's header.
        encoding: The upload's encoding.
        verdict: The verdict that rejected them; `NO_VERDICT` where they cannot be corrected in this file.
        tried_before: The encodings that are tried before it on a file that comes without a mark.
        max_bytes: How much disk space may be used for the file, its copies included.

    Attributes:
        overflowed: Whether there was no room for all rows.
        holds_origins: Whether any row was to correct a rejected row that is known.
    """

    def __init__(
        self,
        spool: BinaryIO,
        header: Header,
        encoding: str,
        verdict: Verdict,
        tried_before: Sequence[str] = (),
        max_bytes: float = math.inf,
    ) -> None:
        spool.seek(0)
        spool.truncate()
        self._spool = spool
        self._header = header
        unsafe = header.delimiter in UNSAFE_DELIMITERS
        self._delimiter = "," if unsafe else header.delimiter
        self._encoding = encoding
        self._tried_before = () if encoding in _MARKS else tried_before
        self._mistakable = False
        # A store may write a copy. A file that is written again in UTF-8 takes three bytes for one at most, twice.
        self._bytes_left = max_bytes / (7 if self._tried_before else 2)
        self.overflowed = False
        self.holds_origins = False
        # Incremental, for some encodings begin with a mark of their own, and must do so once.
        self._encoder = codecs.getincrementalencoder(encoding)("backslashreplace")
        self._verdict = NO_VERDICT if header.corrects else verdict
        self._hash = hashlib.sha256()
        self._pending = io.StringIO(newline="")
        self._writer = csv.writer(self._pending, delimiter=self._delimiter, lineterminator="\r\n")
        self._write(_MARKS.get(encoding, b""))
        if header.separator_line and not unsafe:
            self._pending.write(f"sep={self._delimiter}\r\n")
        columns = _written_columns(header, self._delimiter)
        self._positions = [position for position, _ in columns]
        # Written so often under a wide header that it matters not to write it cell by cell.
        self._empty_cells = self._delimiter * len(columns)
        self._write_row([*(label for _, label in columns), *OWN_LABELS])

    def add(self, row: RejectedRow) -> None:
        """Append a row, as long as there is room; a corrected row keeps its origin where that is known."""
        if self.overflowed:
            return
        cells = self._whole_cells(row.record)
        # A corrected row stands for the rejected row that it was to correct, if that is known.
        self.holds_origins |= row.origin is not None
        origin = row.origin or self._verdict.origin(row.rejection.line)
        in_order = (  # of OWN_LABELS
            str(origin.line),
            reason(row.rejection.faults).encode("ascii", "backslashreplace").decode("ascii"),
            _cut(row.record, self._delimiter) if cells is None else self._raw_text_kept(row.record),
            token_of(origin),
        )
        self._write_row([*(cells or ()), *in_order], after="" if cells else self._empty_cells)
        # Looked at after each piece and not before each row, so that at most one piece more is written.
        self.overflowed = self._bytes_left < 0

    def _whole_cells(self, record: Record) -> Sequence[str] | None:
        """Return the cells to write; None for a row that can only be written as raw text."""
        if record.fault or len(record.cells) != len(self._header.labels):
            return None
        cells = [record.cells[position] for position in self._positions]
        return cells if len(record.text) <= _CERTAINLY_FITTING or _fit(cells, self._delimiter) else None

    def content(self) -> tuple[str, BinaryIO]:
        """Finish the file.

        Returns:
            Its name, which carries the beginning of its own SHA-256, and its bytes at their beginning.
        """
        self._write_pending()
        self._spool.seek(self._write_again_in_utf_8() if self._mistakable else 0)
        return f"rejected-{self._hash.hexdigest()[:12]}.csv", self._spool

    def _raw_text_kept(self, record: Record) -> str:
        """Return the raw text that came with a row which could not be split the first time."""
        position = self._header.own_positions.get(RECORD)
        text = "" if position is None else record.cells[position]
        return (
            text
            if not text or _fit([text.removesuffix(CUT_MARK)], self._delimiter)
            else _shortened(text, self._delimiter)
        )

    def _write_again_in_utf_8(self) -> int:
        """Append the whole file in an encoding of which its mark leaves no doubt.

        Returns:
            Where in the spool that begins.
        """
        end = self._spool.tell()
        decoder = codecs.getincrementaldecoder(self._encoding)()
        self._hash = hashlib.sha256()
        self._write(codecs.BOM_UTF8)
        for start in range(0, end, CHUNK_BYTES):
            self._spool.seek(start)
            data = self._spool.read(min(CHUNK_BYTES, end - start))
            self._spool.seek(0, io.SEEK_END)
            self._write(decoder.decode(data, final=start + len(data) == end).encode())
        return end

    def _looks_otherwise(self, cell: str) -> bool:
        """Tell whether a cell alone is another text in an encoding that is tried before the upload's own.

        Where no cell is, no mended file is either that still holds one of them.
        """
        # A delimiter that an upload says itself may be the second byte of a character, as the bar is in cp932.
        text = cell + self._delimiter
        data = text.encode(self._encoding, "backslashreplace")
        for encoding in self._tried_before:
            with suppress(UnicodeError):
                if data.decode(encoding) != text:
                    return True
        return False

    def _write_row(self, cells: Sequence[str], *, after: str = "") -> None:
        if self._tried_before and not self._mistakable:
            self._mistakable = any(map(self._looks_otherwise, cells))
        self._pending.write(after)
        self._writer.writerow(safe_row(cells, self._delimiter))
        if self._pending.tell() >= _PENDING_CHARACTERS:
            self._write_pending()

    def _write_pending(self) -> None:
        self._write(self._encoder.encode(self._pending.getvalue()))
        self._pending.seek(0)
        self._pending.truncate()

    def _write(self, data: bytes) -> None:
        self._bytes_left -= len(data)
        self._hash.update(data)
        self._spool.write(data)


def _written_columns(header: Header, delimiter: str) -> Sequence[tuple[int, str]]:
    """Choose the columns that the file has beside its own.

    Returns:
        The position of each in the upload, and its label: all of the uploader's where they are not too many and
        can be read again, else those of the fields.
    """
    uploaders = [(position, header.labels[position]) for position in header.uploaders_positions]
    if len(uploaders) <= MAX_WRITTEN_COLUMNS and _fit((label for _, label in uploaders), delimiter):
        return uploaders
    fields = sorted(zip(header.positions, COLUMNS, strict=True))
    named = [(position, header.labels[position]) for position, _ in fields]
    return named if _fit((label for _, label in named), delimiter) else fields


def _in_quotes(text: str, delimiter: str) -> bytes:
    return safe_text(text, delimiter).replace('"', '""').encode(errors="surrogatepass")


def _fit(cells: Iterable[str], delimiter: str) -> bool:
    """Tell whether cells can be read again as they are written: made safe, and in quotes."""
    sizes = [len(_in_quotes(cell, delimiter)) for cell in cells]
    return max(sizes, default=0) <= MAX_RAW_BYTES and sum(sizes) <= _MAX_CELLS_BYTES


def _cut(record: Record, delimiter: str) -> str:
    """Return as much of a record's raw text as can be read again from one cell."""
    if len(record.text) < MAX_QUOTED_LINE_ENDS:
        return record.text  # too short to reach any limit
    line_ends = list(islice(LINE_END.finditer(record.text), MAX_QUOTED_LINE_ENDS))
    text = record.text[: line_ends[-1].start()] if len(line_ends) == MAX_QUOTED_LINE_ENDS else record.text
    if len(text) < len(record.text) or record.fault is Code.RECORD_TOO_LONG:
        return _shortened(text, delimiter)
    return text if _fit([text], delimiter) else _shortened(text, delimiter)


def _shortened(text: str, delimiter: str) -> str:
    """Cut a text to what can be read again, and mark it as cut."""
    quoted = _in_quotes(text, delimiter)
    if len(quoted) > MAX_RAW_BYTES:
        text = restored_text(quoted[:MAX_RAW_BYTES].decode(errors="ignore").replace('""', '"'), delimiter)
    return text + CUT_MARK
