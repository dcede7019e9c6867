"""Pages of rejected rows, read from a part of the rejected-rows file of any size and encoding."""

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import attrs

from rollcall.application.errors import WrongPositionError, raise_without_context
from rollcall.application.header import IMPORT, LINE, OWN_LABELS, REASON, RECORD, Header, read_header
from rollcall.application.ports import RangeReader
from rollcall.application.records import Record, RecordReader, as_utf8
from rollcall.application.rejected_rows import (
    BYTE_ORDER_MARKS,
    TOKEN_CHARACTERS,
    last_cells,
    origin_of,
    restored,
    token_of,
)
from rollcall.application.reports import Reports
from rollcall.domain.correction import Origin
from rollcall.domain.receipt import Receipt
from rollcall.domain.record import RecordType
from rollcall.domain.rejection import Code, Fault

# Lambda takes 6 MB, in which each quote and backslash has another backslash. A row has at most 2 MiB.
MAX_PAGE_BYTES = 5 * 1024 * 1024 // 2

# A record has at most 1 MiB in UTF-8, and at most four times that in another encoding.
_MOST_BYTES = 4 * 1024 * 1024 + 1024
_LEAST_BYTES = 128 * 1024
_BYTES_A_ROW = 512
_SCANNED_BYTES = 4 * 1024 * 1024
_DECODED_BYTES = 64 * 1024

# This encoding names its character set once, before the first Korean letter of the file.
_KOREAN = "iso2022_kr"
_KOREAN_BEGINS = b"\x1b$)C"

_LINE_END = "\r\n"
_code = re.compile(r"\[([a-z-]+)\] ")
_number = re.compile("[0-9]{1,18}")


@attrs.frozen
class PageRow:
    """A row of the rejected-rows file.

    Attributes:
        line: The physical line, 1-based, on which the row started in the upload of its origin.
        cells: The cells by column, as the uploader wrote them; empty if the row could not be split.
        record: The raw text of a row that could not be split; None for any other row.
        faults: Why it was rejected.
        proof: The `token_of` its origin, which proves that an import rejected the row; None for a row of a check.
    """

    line: int
    cells: dict[str, str]
    record: str | None
    faults: tuple[Fault, ...]
    proof: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return the row as values that JSON has."""
        return attrs.asdict(self)


@attrs.frozen
class Page:
    """Some rejected rows, in the order of the file.

    Attributes:
        rows: The rows.
        next: The position of the next page; None if there is none.
    """

    rows: tuple[PageRow, ...]
    next: int | None


@attrs.frozen
class Rejections:
    """The rejected rows of an import or a check.

    Attributes:
        store: The store of reports.
        key: The key of the rejected-rows file.
        encoding: The encoding of the upload.
        record_type: What its rows are read as.
    """

    store: RangeReader
    key: str
    encoding: str
    record_type: RecordType

    @classmethod
    def of(
        cls, receipt: Receipt, reports: Reports, store: RangeReader, record_type: RecordType
    ) -> "Rejections | None":
        """Return the rejected rows of a receipt; None if there are none.

        Args:
            receipt: The receipt.
            reports: Gives the place of the file.
            store: The store of these reports.
            record_type: What the rows of the upload are read as.
        """
        key = reports.rejected_rows_key(receipt)
        return cls(store, key, receipt.source.encoding or "utf-8", record_type) if key else None

    def page(self, after: int, limit: int) -> Page:
        """Return a page, with at most two reads for rows of usual length.

        Args:
            after: 0 for the first page; otherwise `Page.next` of the page before.
            limit: The largest number of rows. A page has fewer if they would be too large.

        Raises:
            WrongPositionError: No row begins at this position.
            ObjectNotFoundError: The file does not exist.
            StoreUnavailableError: The store could not be reached.
        """
        length = max(_LEAST_BYTES, limit * _BYTES_A_ROW)
        head = self._read(0, length)
        part = head.rows if after <= head.rows.start else self._read_rows(head, after, length)
        page = self._page(head, part, limit)
        if not page.rows and page.next is not None:
            part = self._read_rows(head, part.start, _MOST_BYTES)
            page = self._page(head, part, limit)
        if not page.rows and page.next is not None:
            raise WrongPositionError
        return page

    def origins(self, lines: set[int]) -> dict[int, set[Origin]]:
        """Return the origins of rejected rows by their lines. The whole file is read, in parts.

        An uploader's cell may look like an origin, but cannot have its proof.

        Args:
            lines: The lines; others are left out.

        Raises:
            WrongPositionError: It is no file of rejected rows.
            ObjectNotFoundError: The file does not exist.
            StoreUnavailableError: The store could not be reached.
        """
        head = self._read(0, _LEAST_BYTES)
        found: dict[int, set[Origin]] = {}
        text = ""
        for more in _texts(self._parts(head.rows.start), head.encoding):
            text = text[-TOKEN_CHARACTERS:] + more
            for origin in last_cells(text, head.header.delimiter, lines):
                found.setdefault(origin.line, set()).add(origin)
        return found

    def _parts(self, start: int) -> Iterator[bytes]:
        while data := self.store.read(self.key, start, _SCANNED_BYTES):
            yield data
            start += len(data)

    def _read(self, start: int, length: int) -> "_Head":
        data = self.store.read(self.key, start, length)
        head = _Head.read(data, self.encoding, self.record_type, whole=len(data) < length)
        if not head and len(data) == length < _MOST_BYTES:
            return self._read(start, _MOST_BYTES)
        if not head:
            raise WrongPositionError
        return head

    def _read_rows(self, head: "_Head", start: int, length: int) -> "_Part":
        before = _LINE_END.encode(head.encoding)
        data = self.store.read(self.key, start - len(before), len(before) + length)
        if data and not data.startswith(before):
            raise WrongPositionError
        return _Part(start, data[len(before) :], last=len(data) < len(before) + length)

    def _page(self, head: "_Head", part: "_Part", limit: int) -> Page:
        rows: list[PageRow] = []
        position, size = part.start, 0
        for record, record_bytes in head.records(part):
            if len(rows) == limit:
                break
            row = head.row(record)
            size += len(json.dumps(row.as_dict()))
            if rows and size > MAX_PAGE_BYTES:
                break
            rows.append(row)
            position += record_bytes
        ended = part.last and position == part.start + len(part.data)
        return Page(tuple(rows), None if ended else position)


@attrs.frozen
class _Part:
    """A part of the file that starts with a row.

    Attributes:
        start: Its position in the file.
        data: Its bytes; the last row may be cut off.
        last: Whether the file ends with it.
    """

    start: int
    data: bytes
    last: bool


@attrs.frozen
class _Head:
    """The beginning of the file: how to read its rows.

    Attributes:
        header: Its header.
        encoding: Its encoding.
        rows: The rows that were read with it.
    """

    header: Header
    encoding: str
    rows: _Part

    @classmethod
    def read(cls, data: bytes, encoding: str, record_type: RecordType, *, whole: bool) -> "_Head | None":
        """Return the beginning of a file; None if no header can be read.

        Args:
            data: The first bytes of the file.
            encoding: The encoding of the upload.
            record_type: What its rows are read as.
            whole: Whether the file has no more bytes.
        """
        encoding, mark = next(
            (
                (marked, mark)
                for marked, mark in BYTE_ORDER_MARKS.items()
                # A file that would be mistaken for another encoding is in UTF-8.
                if marked in {"utf-8", encoding} and data.startswith(mark)
            ),
            (encoding, b""),
        )
        data = data[len(mark) :]
        header = read_header(RecordReader(map(as_utf8, _texts(_pieces(data), encoding))), record_type)
        if not isinstance(header, Header) or not set(OWN_LABELS) <= header.own_positions.keys():
            return None
        lines = 1 + header.separator_line
        sizes = [size for _, size in islice(_records(data, encoding, header.delimiter), lines)]
        if len(sizes) < lines:
            return None
        return cls(header, encoding, _Part(len(mark) + sum(sizes), data[sum(sizes) :], last=whole))

    def records(self, part: _Part) -> Iterator[tuple[Record, int]]:
        """Yield the whole rows of a part, each with its size in bytes."""
        return _records(part.data, self.encoding, self.header.delimiter)

    def row(self, record: Record) -> PageRow:
        """Return a row.

        Raises:
            WrongPositionError: It is no whole row.
        """
        cells = restored(record, self.header.delimiter).cells
        own = self.header.own_positions
        if len(cells) != len(self.header.labels) or not _number.fullmatch(cells[own[LINE]]):
            raise WrongPositionError
        origin = origin_of(cells[own[IMPORT]])
        record_type = self.header.record_type
        found = self.header.cells_of(cells)
        return PageRow(
            line=int(cells[own[LINE]]),
            cells=dict(zip(record_type.columns, found, strict=True)),
            record=cells[own[RECORD]] or None,
            faults=_faults(record_type, found, cells[own[REASON]]),
            proof=token_of(origin) if origin and origin.provable else None,
        )


def _faults(record_type: RecordType, cells: Sequence[str], reason: str) -> tuple[Fault, ...]:
    """Return the faults in a reason.

    Raises:
        WrongPositionError: The text is no reason.
    """
    codes = list(_code.finditer(reason))
    ends = [*(found.start() - 1 for found in codes[1:]), len(reason)]
    try:
        shown = [_fault(Code(found[1]), reason[found.end() : end]) for found, end in zip(codes, ends, strict=True)]
    except ValueError:
        raise_without_context(WrongPositionError())
    # The reason has only ASCII and no column, so the cells are judged again.
    user = record_type.parse(cells)
    judged = user if isinstance(user, tuple) else ()
    return judged if [fault.code for fault in judged] == [fault.code for fault in shown] else tuple(shown)


def _fault(code: Code, message: str) -> Fault:
    column = next((label for label in OWN_LABELS if message.startswith(f"{label} ")), None)
    return Fault(code, message.replace(r"\x5b", "["), column)


def _records(data: bytes, encoding: str, delimiter: str) -> Iterator[tuple[Record, int]]:
    """Yield the whole records of a part of the file, each with its size in bytes.

    A record that is cut off has an open quote or no line end, and no record of the file has a fault.
    """
    reader = RecordReader(map(as_utf8, _texts(_pieces(data), encoding)))
    position = 0
    while (record := reader.take(delimiter)) and record.ended and not record.fault:
        if encoding == _KOREAN:
            end = position
            for _ in range(record.text.count("\n") + 1):
                end = data.find(b"\n", end) + 1
            size = end - position
        else:
            size = len((record.text + _LINE_END).encode(encoding, "backslashreplace"))
        position += size
        yield record, size


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), _DECODED_BYTES):
        yield data[start : start + _DECODED_BYTES]


def _texts(pieces: Iterable[bytes], encoding: str) -> Iterator[str]:
    """Decode a part of the file, without a character cut off at its end.

    Raises:
        WrongPositionError: The part does not begin with a row.
    """
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    if encoding == _KOREAN:
        decoder.decode(_KOREAN_BEGINS)
    for piece in pieces:
        try:
            text = decoder.decode(piece)
        except UnicodeError:
            raise_without_context(WrongPositionError())
        if text:
            yield text
