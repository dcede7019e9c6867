"""Correct a list that its check refused: write a copy with the corrected rows into the inbox, to be checked."""

import codecs
import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import BinaryIO

import attrs

from rollcall.application.correct_rows import CorrectedRow, CorrectionsRefusedError, require_readable
from rollcall.application.decoding import Content, inspected, read_utf8, size_fault
from rollcall.application.errors import ObjectChangedError, ObjectNotFoundError, UploadNotAcceptedError
from rollcall.application.find_upload import FindUpload
from rollcall.application.header import Header, read_header
from rollcall.application.ports import WebUploads
from rollcall.application.records import Record, RecordReader
from rollcall.application.register_upload import changed, checked_version, expired
from rollcall.domain.fields import is_blank
from rollcall.domain.record import RecordType
from rollcall.domain.rejection import Code, counted
from rollcall.domain.upload import WebUpload

# A request has half a minute for the whole copy.
MAX_BYTES = 32 * 1024 * 1024


@attrs.frozen(kw_only=True)
class CorrectList:
    """The use case.

    Attributes:
        record_type: What a user consists of.
        find: Returns the state of an upload.
        inbox: The uploads that are not registered; each object there is checked.
        encodings: The names of the encodings to try, in order.
        spool: Opens a temporary file.
    """

    record_type: RecordType
    find: FindUpload
    inbox: WebUploads
    encodings: Sequence[str]
    spool: Callable[[], BinaryIO]

    def __call__(self, upload: WebUpload, etag: str, rows: Sequence[CorrectedRow]) -> WebUpload:
        """Write a copy of a refused list, in which the corrected rows replace those of the same lines.

        Args:
            upload: The refused list.
            etag: The ETag of the check that a person saw.
            rows: The corrected rows, by the lines of the check.

        Returns:
            The upload of the copy. The same rows have the same copy.

        Raises:
            RegistrationRefusedError: There is no such check, or the list expired.
            CorrectionsRefusedError: The check refused the list for another reason, or a row cannot be replaced.
            UploadNotAcceptedError: The list is too large to be copied here.
            UnreadableCellError: A cell cannot be in a file.
            StoreUnavailableError: A store failed.
        """
        received, check = checked_version(self.find(upload), etag)
        if check.code is not Code.TOO_MANY_REJECTIONS:
            raise CorrectionsRefusedError(
                Code.NOTHING_TO_CORRECT, "the check did not refuse the list for its rows; correct the original"
            )
        require_readable(self.record_type, rows)
        asked = json.dumps([upload.id, etag, [[row.line, *row.cells] for row in rows]])
        copy = WebUpload.written(upload.owner, hashlib.sha256(asked.encode()).hexdigest()[:32])
        if self.find(copy).received:
            return copy
        if received.upload.size > MAX_BYTES:
            raise _too_large()
        try:
            with self.inbox.open(received.reference) as stored, self.spool() as spool:
                content = inspected(self.encodings, MAX_BYTES, stored)
                self._write(stored.reread(), content, rows, spool)
                stored.verify()
                spool.seek(0)
                self.inbox.create(copy.key(received.reference.key.rpartition("/")[2]), spool)
        except ObjectNotFoundError:
            raise expired() from None
        except ObjectChangedError:
            raise changed() from None
        return copy

    def _write(self, stream: BinaryIO, content: Content, rows: Sequence[CorrectedRow], spool: BinaryIO) -> None:
        """Write the copy in UTF-8, which has every character that a corrected cell may have."""
        if content.fault:
            raise _too_large() if content.fault.code is Code.SIZE_LIMIT else changed()
        reader = _read(stream, content)
        header = read_header(reader, self.record_type)
        if not isinstance(header, Header):
            raise changed()
        missing = [
            column
            for number, (column, position) in enumerate(
                zip(header.record_type.columns, header.positions, strict=True)
            )
            if position is None and not all(is_blank(row.cells[number]) for row in rows)
        ]
        if missing:
            raise CorrectionsRefusedError(
                Code.NOTHING_TO_CORRECT,
                f"the list has no column {', '.join(missing)}; add it to the original file",
            )
        if header.corrects:
            raise CorrectionsRefusedError(
                Code.NOTHING_TO_CORRECT, "the list has corrected rows itself; correct them in that file"
            )
        places = {row.line: number for number, row in enumerate(rows) if row.line >= reader.line}
        left = set(range(len(rows))) - set(places.values())
        _copy(_read(stream, content), header, rows, places, spool)
        if wrong := sorted(left | set(places.values())):
            raise CorrectionsRefusedError(
                Code.NOTHING_TO_CORRECT,
                f"{counted(len(wrong), 'row')} of {len(rows):,} cannot be corrected: no row begins on the line, "
                "or the line occurs twice",
                wrong,
            )


def _copy(
    reader: RecordReader, header: Header, rows: Sequence[CorrectedRow], places: dict[int, int], spool: BinaryIO
) -> None:
    """Copy an upload from its beginning, with some of its rows replaced.

    Args:
        reader: The upload.
        header: Its header.
        rows: The corrected rows.
        places: The number of the corrected row for the line of each row to replace; emptied row by row.
        spool: Takes the copy.
    """
    spool.write(codecs.BOM_UTF8)
    text = io.TextIOWrapper(spool, "utf-8", newline="", write_through=True)
    writer = csv.writer(text, delimiter=header.delimiter, lineterminator="\r\n")
    lines = iter(sorted(places))
    following = next(lines, None)
    while True:
        data, start, end = reader.lines(before=following)
        if found := _usual_records(header.delimiter).match(data, start, end):
            spool.write(data[start : found.end()])
            reader.take_lines(found.end())
        record = reader.take(header.delimiter)
        if not record:
            break
        number = places.pop(record.line, None)
        if number is not None:
            writer.writerow(_corrected(record, header, rows[number]))
        elif record.fault is Code.RECORD_TOO_LONG:
            raise CorrectionsRefusedError(
                record.fault, f"line {record.line:,} is too long to be copied; correct it, too"
            )
        else:
            text.write(record.text + "\r\n" * record.ended)
        while following is not None and following <= record.last_line:
            following = next(lines, None)
    text.detach()


def _read(stream: BinaryIO, content: Content) -> RecordReader:
    stream.seek(0)
    return RecordReader(read_utf8(stream, content))


@lru_cache
def _usual_records(delimiter: str) -> re.Pattern[bytes]:
    """Return a pattern of records of one line that are short, and whose only quotes are around cells."""
    mark = re.escape(delimiter).encode()
    cell = rb'(?:"[^"\r\n]{0,1000}+"|[^"%b\r\n]{0,1000}+)' % mark
    # Greedy and not possessive: before Python 3.11.5 a possessive group matched what its inside does not.
    # A limited number, because the engine keeps a state for each.
    return re.compile(rb"(?:%b(?:%b%b){0,100}\r?\n){0,1000}" % (cell, mark, cell))


def _corrected(record: Record, header: Header, row: CorrectedRow) -> list[str]:
    """Return the cells of a corrected row; columns that are ignored keep theirs, if the row could be split."""
    lacking = len(header.labels) - len(record.cells)
    whole = not record.fault and lacking >= 0 and len(record.cells) >= header.least_cells
    cells = [*record.cells, *[""] * lacking] if whole else [""] * len(header.labels)
    for position, cell in zip(header.positions, row.cells, strict=True):
        if position is not None:
            cells[position] = cell
    return cells


def _too_large() -> UploadNotAcceptedError:
    return UploadNotAcceptedError(size_fault("a list that is corrected here", MAX_BYTES))
