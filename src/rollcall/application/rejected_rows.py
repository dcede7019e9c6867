"""The file of rejected rows: the uploader's own rows, and beside each the reason it was refused."""

import codecs
import csv
import hashlib
import io
import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import BinaryIO

import attrs

from rollcall.application.decoding import CHUNK_BYTES
from rollcall.application.dialect import IMPORT, LINE, OWN_LABELS, RECORD, Header
from rollcall.application.ports import Origin
from rollcall.application.records import LINE_END, MAX_QUOTED_BYTES, MAX_QUOTED_LINE_ENDS, MAX_RECORD_BYTES, Record
from rollcall.application.spreadsheets import restored_cell, safe_cell
from rollcall.domain.policy import NO_IMPORT
from rollcall.domain.rejection import Code, Fault, Rejection, shown
from rollcall.domain.user import WHITE_SPACE

CUT_MARK = " [cut here]"

_PENDING_CHARACTERS = 64 * 1024

# What is written here is read again, so it must stay within the reader's limits: a cell together with the mark of
# a cut and the quote that makes it safe, and the uploader's cells together with those beside them.
MAX_RAW_BYTES = MAX_QUOTED_BYTES - 64
_MAX_CELLS_BYTES = MAX_RECORD_BYTES - 4 * MAX_QUOTED_BYTES
# In quotes, no character takes more than four bytes.
_CERTAINLY_FITTING = MAX_QUOTED_BYTES // 8

_number = re.compile(r"0*([0-9]{1,18})")

_MARKS = {
    "utf-8": codecs.BOM_UTF8,  # always, for Excel takes UTF-8 without it for something else
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
}


@attrs.frozen
class RejectedRow:
    """A row that was refused.

    Attributes:
        record: What the uploader wrote.
        rejection: Why it was refused.
        origin: The rejected row that it was to mend; None if it was to mend none, or does not say.
    """

    record: Record
    rejection: Rejection
    origin: Origin | None = None


def restored(record: Record) -> Record:
    """Take off a record that comes back what made its cells safe in a spreadsheet."""
    return attrs.evolve(record, cells=list(map(restored_cell, record.cells)))


def origin_of(record: Record, header: Header) -> Origin | Fault:
    """Read from a row that comes back which row it was.

    Args:
        record: The row, with as many cells as the header.
        header: The header of a file of rejected rows.
    """
    numbers = []
    for label, least in ((IMPORT, NO_IMPORT), (LINE, 1)):
        cell = record.cells[header.own_positions[label]].strip(WHITE_SPACE)
        number = _number.fullmatch(cell)
        if not number or int(number[1]) < least:
            return Fault(
                Code.TYPE_ERROR if cell else Code.BLANK_CELL,
                f"{label} is {shown(cell) if cell else 'blank'}, so it is not known which row this was; "
                "put back what stood there, and add new users in a file of their own",
                label,
            )
        numbers.append(int(number[1]))
    return Origin(*numbers)


class RejectedRows:
    """Writes rejected rows in the uploader's own dialect, however many, in constant memory.

    Args:
        spool: Takes the bytes, in place of those it holds; is read back from its beginning by `content`.
        header: The upload's header.
        encoding: The upload's encoding.
        import_id: The import that refused them; `NO_IMPORT` where they cannot come back; None in a dry run.
        tried_before: The encodings that are tried before it on a file that comes without a mark.
    """

    def __init__(
        self,
        spool: BinaryIO,
        header: Header,
        encoding: str,
        import_id: int | None,
        tried_before: Sequence[str] = (),
    ) -> None:
        spool.seek(0)
        spool.truncate()
        self._spool = spool
        self._header = header
        self._uploaders_positions = header.uploaders_positions
        self._encoding = encoding
        self._tried_before = () if encoding in _MARKS else tried_before
        self._mistakable = False
        # Incremental, for some encodings begin with a mark of their own, and must do so once.
        self._encoder = codecs.getincrementalencoder(encoding)("backslashreplace")
        self._import_id = "" if import_id is None else str(import_id)
        self._hash = hashlib.sha256()
        self._pending = io.StringIO(newline="")
        self._writer = csv.writer(self._pending, delimiter=header.delimiter, lineterminator="\r\n")
        self._write(_MARKS.get(encoding, b""))
        if header.separator_line:
            self._pending.write(f"sep={header.delimiter}\r\n")
        # Written so often under a wide header that it matters not to write it cell by cell.
        self._empty_cells = header.delimiter * len(self._uploaders_positions)
        self._write_row([*(header.labels[position] for position in self._uploaders_positions), *OWN_LABELS])

    def add(self, row: RejectedRow) -> None:
        """Append a row; one that says which row it was to mend keeps saying so."""
        whole = row.record.fault is None and len(row.record.cells) == len(self._header.labels) and _fit(row.record)
        reason = "; ".join(fault.message for fault in row.rejection.faults)
        line, import_id = self._which(row)
        self._write_row(
            [
                *(row.record.cells[position] for position in self._uploaders_positions if whole),
                line,
                reason.encode("ascii", "backslashreplace").decode("ascii"),
                import_id,
                self._raw_text_kept(row.record) if whole else _cut(row.record),
            ],
            after="" if whole else self._empty_cells,
        )

    def content(self) -> tuple[str, BinaryIO]:
        """Finish the file.

        Returns:
            Its name, which carries the beginning of its own SHA-256, and its bytes at their beginning.
        """
        self._write_pending()
        self._spool.seek(self._write_again_in_utf_8() if self._mistakable else 0)
        return f"rejected-{self._hash.hexdigest()[:12]}.csv", self._spool

    def _raw_text_kept(self, record: Record) -> str:
        """Hand on the raw text that came with a row which could not be split the first time."""
        position = self._header.own_positions.get(RECORD)
        return "" if position is None else record.cells[position]

    def _which(self, row: RejectedRow) -> tuple[str, str]:
        """Say which row it is; of one that came back without saying so, only the uploader can tell."""
        if any(fault.column in {LINE, IMPORT} for fault in row.rejection.faults):
            line, import_id = (row.record.cells[self._header.own_positions[label]] for label in (LINE, IMPORT))
            return line, import_id
        if row.origin:
            return str(row.origin.line), str(row.origin.import_id)
        return str(row.rejection.line), self._import_id

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
        text = cell + self._header.delimiter
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
        self._writer.writerow(map(safe_cell, cells))
        if self._pending.tell() >= _PENDING_CHARACTERS:
            self._write_pending()

    def _write_pending(self) -> None:
        self._write(self._encoder.encode(self._pending.getvalue()))
        self._pending.seek(0)
        self._pending.truncate()

    def _write(self, data: bytes) -> None:
        self._hash.update(data)
        self._spool.write(data)


def _in_quotes(text: str) -> bytes:
    return text.replace('"', '""').encode(errors="surrogatepass")


def _fit(record: Record) -> bool:
    """Tell whether cells that were read once can be read again with quotes around them."""
    if len(record.text) <= _CERTAINLY_FITTING:
        return True
    sizes = [len(_in_quotes(cell)) for cell in record.cells]
    return max(sizes) <= MAX_RAW_BYTES and sum(sizes) <= _MAX_CELLS_BYTES


def _cut(record: Record) -> str:
    """Give as much of a record's raw text as can be read again from one cell."""
    line_ends = list(islice(LINE_END.finditer(record.text), MAX_QUOTED_LINE_ENDS))
    text = record.text[: line_ends[-1].start()] if len(line_ends) == MAX_QUOTED_LINE_ENDS else record.text
    quoted = _in_quotes(text)
    if len(quoted) > MAX_RAW_BYTES:
        text = quoted[:MAX_RAW_BYTES].decode(errors="ignore").replace('""', '"')
    whole = len(text) == len(record.text) and record.fault is not Code.RECORD_TOO_LONG
    return text if whole else text + CUT_MARK
