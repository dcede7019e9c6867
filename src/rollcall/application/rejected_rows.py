"""The rejected-rows file: the uploader's own rows, each with the reason why it was rejected."""

import codecs
import csv
import hashlib
import io
import math
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import BinaryIO

import attrs

from rollcall.application.decoding import CHUNK_BYTES
from rollcall.application.header import IMPORT, LINE, OWN_LABELS, RECORD, Header
from rollcall.application.reasons import reason
from rollcall.application.records import LINE_END, MAX_QUOTED_BYTES, MAX_QUOTED_LINE_ENDS, MAX_RECORD_BYTES, Record
from rollcall.application.spreadsheets import MARK, UNSAFE_DELIMITERS, restored_text, safe_row, safe_text
from rollcall.domain.correction import NO_VERDICT, Origin, Verdict
from rollcall.domain.fields import WHITE_SPACE
from rollcall.domain.rejection import Code, Fault, Rejection, preview

CUT_MARK = " [cut here]"
# Under a wider header, the file has only the columns that are needed to correct the rows.
MAX_WRITTEN_COLUMNS = 1000

_PENDING_CHARACTERS = 64 * 1024

# The file is read again, so it must stay within the reader's limits: a cell together with `CUT_MARK`, and the
# uploader's cells together with the `rollcall_` cells.
MAX_RAW_BYTES = MAX_QUOTED_BYTES - 64
_MAX_CELLS_BYTES = MAX_RECORD_BYTES - 4 * MAX_QUOTED_BYTES
# Quoted and made safe for spreadsheets, a character takes at most five bytes.
_CERTAINLY_FITTING = MAX_QUOTED_BYTES // 8

_number = re.compile(r"0*([0-9]{1,18})")
# It begins with a letter, so that no spreadsheet takes it for a number or a date.
_ORIGIN = r"i([0-9]{1,18})-([0-9]{1,18})-([0-9a-f]{24})"
_token = re.compile(rf"\b{_ORIGIN}\b")
TOKEN_CHARACTERS = 100  # no token is longer, with what is around it

BYTE_ORDER_MARKS = {
    "utf-8": codecs.BOM_UTF8,  # always, because Excel reads UTF-8 without it in another encoding
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
}


@attrs.frozen
class RejectedRow:
    """A rejected row.

    Attributes:
        record: The row as the uploader wrote it.
        rejection: Why the row was rejected.
        origin: The rejected row that it should correct; None in a file of users, or if it is not known.
    """

    record: Record
    rejection: Rejection
    origin: Origin | None = None


def restored(record: Record, delimiter: str) -> Record:
    """Return a corrected row without the `'` that made its cells safe in a spreadsheet."""
    if MARK not in record.text:
        return record
    return attrs.evolve(record, cells=[restored_text(cell, delimiter) for cell in record.cells])


def read_origin(record: Record, header: Header) -> tuple[Origin | None, Fault | None]:
    """Return the origin of a corrected row.

    Args:
        record: The row; it need not have been split.
        header: The header of a file of corrected rows.

    Returns:
        The origin, or None if it cannot be identified; and the fault of the `rollcall_` cells, or None. A row with
        a fault can have an origin, which it keeps through another round.
    """
    if record.fault or len(record.cells) != len(header.labels):
        found = {_as_origin(token) for token in _token.finditer(record.text)}
        return (found.pop() if len(found) == 1 else None), None
    line_cell, cell = (record.cells[header.own_positions[label]].strip(WHITE_SPACE) for label in (LINE, IMPORT))
    line = _number.fullmatch(line_cell)
    origin = origin_of(cell)
    number = _number.fullmatch(cell)
    if not (origin or number):
        return None, _unidentified(IMPORT, cell)
    if not line or not int(line[1]) or (origin and origin.line != int(line[1])):
        return origin, _unidentified(LINE, line_cell)
    # Earlier versions wrote only the number.
    return origin or Origin(int(number[1]) if number else 0, int(line[1])), None


def origin_of(token: str) -> Origin | None:
    """Return the origin whose `token_of` a text is; None if there is none, or if it has no proof."""
    found = _token.fullmatch(token)
    return _as_origin(found) if found else None


def _as_origin(token: re.Match[str]) -> Origin:
    return Origin(int(token[1]), int(token[2]), token[3])


def last_cells(text: str, delimiter: str, lines: Container[int]) -> Iterator[Origin]:
    """Yield each origin of some lines that is the last cell of a row, in the text of a rejected-rows file."""
    found = re.finditer(rf"{re.escape(delimiter)}{_ORIGIN}\r\n", text)
    return (_as_origin(token) for token in found if int(token[2]) in lines)


def token_of(origin: Origin) -> str:
    """Return an origin as the text of the column `rollcall_import`, from which `read_origin` reads it."""
    return f"i{origin.import_id}-{origin.line}-{origin.proof}" if origin.proof else str(origin.import_id)


def _unidentified(label: str, cell: str) -> Fault:
    return Fault(
        Code.TYPE_ERROR if cell else Code.BLANK_CELL,
        f"{label} is {preview(cell) if cell else 'blank'}, so it is not known which row this was; "
        "restore the value from the rejected-rows file, and add new users in a file of their own",
        label,
    )


class RejectedRowsFile:
    """Writes any number of rejected rows with the uploader's delimiter and encoding, in constant memory.

    Args:
        spool: The file for the bytes; its content is replaced.
        header: The upload's header.
        encoding: The upload's encoding.
        verdict: The verdict that rejected the rows; `NO_VERDICT` if they cannot be corrected in this file.
        tried_before: The encodings that are tried before the upload's on a file without a byte order mark.
        max_bytes: The largest disk space in bytes for the file and its copies.

    Attributes:
        overflowed: Whether there was no room for all rows.
        holds_origins: Whether the origin of any row is known.
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
        self._tried_before = () if encoding in BYTE_ORDER_MARKS else tried_before
        self._mistakable = False
        # A store may write a copy. If the file is written again in UTF-8, each byte becomes at most three, and the
        # store copies these too.
        self._bytes_left = max_bytes / (7 if self._tried_before else 2)
        self.overflowed = False
        self.holds_origins = False
        # Incremental, because some encodings begin with a byte order mark, which must be written once.
        self._encoder = codecs.getincrementalencoder(encoding)("backslashreplace")
        self._verdict = NO_VERDICT if header.corrects else verdict
        self._hash = hashlib.sha256()
        self._pending = io.StringIO(newline="")
        self._writer = csv.writer(self._pending, delimiter=self._delimiter, lineterminator="\r\n")
        self._write(BYTE_ORDER_MARKS.get(encoding, b""))
        if header.separator_line and not unsafe:
            self._pending.write(f"sep={self._delimiter}\r\n")
        columns = _written_columns(header, self._delimiter)
        self._positions = [position for position, _ in columns]
        # Under a wide header, writing it cell by cell for each row is slow.
        self._empty_cells = self._delimiter * len(columns)
        *own, last = OWN_LABELS
        self._write_row([*(label for _, label in columns), *own], token=last)

    def add(self, row: RejectedRow) -> None:
        """Append a row, unless the disk space is used up. A corrected row keeps its origin if that is known."""
        if self.overflowed:
            return
        cells = self._whole_cells(row.record)
        self.holds_origins |= row.origin is not None
        # If a corrected row is rejected again, it keeps its first import and line.
        origin = row.origin or self._verdict.origin(row.rejection.line)
        in_order = (  # of OWN_LABELS
            str(origin.line),
            _as_ascii(reason(row.rejection.faults)),
            _cut(row.record, self._delimiter) if cells is None else self._raw_text_kept(row.record),
        )
        after = "" if cells else self._empty_cells
        self._write_row([*(cells or ()), *in_order], after=after, token=token_of(origin))
        # Bytes are counted as pieces are written, so at most one piece too many is written.
        self.overflowed = self._bytes_left < 0

    def _whole_cells(self, record: Record) -> Sequence[str] | None:
        """Return the cells to write; None if the row can only be written as raw text."""
        if record.fault or len(record.cells) != len(self._header.labels):
            return None
        cells = [record.cells[position] for position in self._positions]
        return cells if len(record.text) <= _CERTAINLY_FITTING or _fit(cells, self._delimiter) else None

    def content(self) -> tuple[str, BinaryIO]:
        """Finish the file.

        Returns:
            The file's name, which contains the first 12 digits of its SHA-256, and the file at its beginning.
        """
        self._write_pending()
        self._spool.seek(self._write_again_in_utf_8() if self._mistakable else 0)
        return f"rejected-{self._hash.hexdigest()[:12]}.csv", self._spool

    def _raw_text_kept(self, record: Record) -> str:
        """Return the raw text in `rollcall_record`, if the row of an earlier round could not be split."""
        position = self._header.own_positions.get(RECORD)
        text = "" if position is None else record.cells[position]
        return (
            text
            if not text or _fit([text.removesuffix(CUT_MARK)], self._delimiter)
            else _shortened(text, self._delimiter)
        )

    def _write_again_in_utf_8(self) -> int:
        """Append the whole file to the spool in UTF-8, whose byte order mark makes the encoding certain.

        Returns:
            The position in the spool at which the copy begins.
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
        """Return whether an encoding that is tried before the upload's decodes a cell to another text.

        If this holds for no cell, no corrected file that still contains one of the cells is misread.
        """
        # A delimiter of a `sep=` line may be the second byte of a character, such as the bar in cp932.
        text = cell + self._delimiter
        data = text.encode(self._encoding, "backslashreplace")
        for encoding in self._tried_before:
            with suppress(UnicodeError):
                if data.decode(encoding) != text:
                    return True
        return False

    def _write_row(self, cells: Sequence[str], *, after: str = "", token: str) -> None:
        if self._tried_before and not self._mistakable:
            self._mistakable = any(map(self._looks_otherwise, (*cells, token)))
        self._pending.write(after)
        self._writer.writerow([*safe_row(cells, self._delimiter), token])  # a token is no formula
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


def _as_ascii(text: str) -> str:
    return text if text.isascii() else text.encode("ascii", "backslashreplace").decode("ascii")


def _written_columns(header: Header, delimiter: str) -> Sequence[tuple[int, str]]:
    """Choose the columns of the upload that the file contains.

    Returns:
        The index of each column in the upload, and its label. These are all columns of the uploader, or only those
        of the fields if there are too many or their labels could not be read again.
    """
    uploaders = [(position, header.labels[position]) for position in header.uploaders_positions]
    if len(uploaders) <= MAX_WRITTEN_COLUMNS and _fit((label for _, label in uploaders), delimiter):
        return uploaders
    fields = list(header.columns.items())
    named = [(position, header.labels[position]) for position, _ in fields]
    return named if _fit((label for _, label in named), delimiter) else fields


def _in_quotes(text: str, delimiter: str) -> bytes:
    return safe_text(text, delimiter).replace('"', '""').encode(errors="surrogatepass")


def _fit(cells: Iterable[str], delimiter: str) -> bool:
    """Return whether cells can be read again after they are written, made safe and quoted."""
    sizes = [len(_in_quotes(cell, delimiter)) for cell in cells]
    return max(sizes, default=0) <= MAX_RAW_BYTES and sum(sizes) <= _MAX_CELLS_BYTES


def _cut(record: Record, delimiter: str) -> str:
    """Return the raw text of a record, cut to what can be read again from one cell."""
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
