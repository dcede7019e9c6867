"""From records to users: each row is judged by the rules of the record."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import attrs

from rollcall.application.clean_records import CleanRecords, clean_records
from rollcall.application.header import Header
from rollcall.application.records import Record, RecordReader
from rollcall.application.rejected_rows import RejectedRow, read_origin, restored
from rollcall.application.values import Block
from rollcall.domain.correction import Origin
from rollcall.domain.fields import is_blank
from rollcall.domain.record import AnyUser
from rollcall.domain.rejection import Code, Fault, Rejection

# The size of a batch that is worth passing on.
BATCH_BYTES = 128 * 1024
# The most text to judge at once. The objects for a record take many times the memory of its text, so a short
# record counts for more than its length.
JUDGED_BYTES = 16 * 1024
LEAST_BYTES_OF_A_RECORD = 32
# For a smaller upload, loading the clean patterns takes longer than judging every row cell by cell.
WORTHWHILE_BYTES = 32 * 1024


@attrs.frozen
class Screened:
    """The result of screening one batch of records.

    Attributes:
        accepted: The accepted rows; may be empty.
        rejected: The rejected rows.
        blank: The number of blank lines and rows of blank cells, which were skipped.
    """

    accepted: Block
    rejected: Sequence[RejectedRow]
    blank: int

    @property
    def read(self) -> int:
        """The number of rows in the batch without blank rows."""
        return self.accepted.rows + len(self.rejected)


def screen(
    reader: RecordReader, header: Header, rejected_on_merge: Iterable[tuple[int, Fault]] = ()
) -> Iterator[Screened]:
    """Screen all records after the header of an upload.

    Runs of clean records are accepted together; each other record is judged cell by cell. Both ways give the same
    results.

    Args:
        reader: The upload, at its first row.
        header: The header.
        rejected_on_merge: The line of each valid row that is rejected on merge, and the fault, in their order.

    Yields:
        The results in the order of the file, in batches of about `BATCH_BYTES`.
    """
    clean = clean_records(header)
    screening = Screening(header, rejected_on_merge)
    size = 1
    while True:
        screening.skip_blank_lines(reader.take_empty_lines())
        # Other forms than the first are worth trying if a row was good without being clean.
        forms = clean if screening.accepted_last else clean[:1]
        if reader.bytes_read >= WORTHWHILE_BYTES and _accept_run(reader, forms, screening):
            size = 1
        # The longer no record is clean, the more is judged before the clean patterns are tried again.
        enough = screening.size + size
        while records := reader.take_some(header.delimiter, size):
            for record in records:
                screening.judge(record)
            if screening.size >= enough:
                break
        size = min(size * 2, JUDGED_BYTES)
        if screening.size >= BATCH_BYTES or not records:
            yield screening.flush()
        if not records:
            return


def _accept_run(reader: RecordReader, clean: Iterable[CleanRecords], screening: "Screening") -> bool:
    for records in clean:
        lines, rows = records.take(reader, screening.next_rejected_on_merge)
        if rows:
            screening.accept_run(lines, rows)
            return True
    return False


def origins(reader: RecordReader, header: Header) -> Iterator[Origin]:
    """Read which rejected rows the further rows of a file of corrected rows claim to correct, good rows or bad.

    Args:
        reader: The upload behind its header.
        header: How to understand it.
    """
    while records := reader.take_some(header.delimiter, JUDGED_BYTES):
        for record in records:
            origin, _ = read_origin(_as_meant(record, header), header)
            if origin:
                yield origin


class Screening:
    """Judges records, and collects the results of a batch.

    Args:
        header: The header of the upload.
        rejected_on_merge: See `screen`.
    """

    def __init__(self, header: Header, rejected_on_merge: Iterable[tuple[int, Fault]] = ()) -> None:
        self._header = header
        self._rejected_on_merge = iter(rejected_on_merge)
        self._next_rejected_on_merge = next(self._rejected_on_merge, None)
        self.accepted_last = True
        self._clear()

    @property
    def next_rejected_on_merge(self) -> int | None:
        """The line of the next valid row that is rejected on merge; None if there is none."""
        return self._next_rejected_on_merge and self._next_rejected_on_merge[0]

    def _clear(self) -> None:
        self.size = 0
        self._rows: list[bytes] = []
        self._spans: list[range] = []
        self._origins: list[Origin] = []
        self._rejected: list[RejectedRow] = []
        self._blank = 0

    def accept_run(self, lines: range, rows: bytes) -> None:
        """Accept clean rows.

        Args:
            lines: The physical line, 1-based, of each row.
            rows: The rows as a `Block` has them.
        """
        self._rows.append(rows)
        self._spans.append(lines)
        self.size += len(rows)

    def skip_blank_lines(self, lines: int) -> None:
        """Count empty lines."""
        self._blank += lines

    def judge(self, record: Record) -> None:
        """Accept or reject one record, or count it as blank."""
        self.size += max(len(record.text), LEAST_BYTES_OF_A_RECORD)
        record = _as_meant(record, self._header)
        origin, unidentified = read_origin(record, self._header) if self._header.corrects else (None, None)
        user = (unidentified,) if unidentified else self._read_user(record)
        self.accepted_last = not isinstance(user, tuple)
        if not isinstance(user, tuple):
            self._rows.append(_as_row(self._header.record_type.texts(user)))
            self._spans.append(range(record.line, record.line + 1))
            if origin:
                self._origins.append(origin)
        elif _is_blank_row(record):
            self._blank += 1
        else:
            self._rejected.append(RejectedRow(record, Rejection(record.line, record.last_line, user), origin))

    def flush(self) -> Screened:
        """Return the results since the last call."""
        origins = self._origins if self._header.corrects else None
        block = Block(b"".join(self._rows), self._spans, origins)
        screened = Screened(block, self._rejected, self._blank)
        self._clear()
        return screened

    def _read_user(self, record: Record) -> AnyUser | tuple[Fault, ...]:
        width = len(self._header.labels)
        if record.fault or len(record.cells) != width:
            return _record_faults(record.fault, len(record.cells), width)
        user = self._header.record_type.parse(self._header.cells_of(record.cells))
        if self._next_rejected_on_merge and self._next_rejected_on_merge[0] == record.line:
            user = (self._next_rejected_on_merge[1],)
            self._next_rejected_on_merge = next(self._rejected_on_merge, None)
        return user


def _as_meant(record: Record, header: Header) -> Record:
    """Undo what a spreadsheet, or the guard against it, has done to a record."""
    if len(record.cells) < len(header.labels):
        record = _completed(record, header)
    return restored(record, header.delimiter) if header.corrects else record


def _completed(record: Record, header: Header) -> Record:
    """Return the record with the empty cells that a spreadsheet leaves out at the end of a row.

    A last record without a line end is returned unchanged, because it may have been cut off.
    """
    lacking = len(header.labels) - len(record.cells)
    if lacking <= 0 or len(record.cells) < header.least_cells or record.fault or not record.ended:
        return record
    return attrs.evolve(record, cells=[*record.cells, *[""] * lacking])


def _is_blank_row(record: Record) -> bool:
    return record.fault is None and all(map(is_blank, record.cells))


@lru_cache  # every row may have the same
def _record_faults(code: Code | None, found: int, width: int) -> tuple[Fault]:
    return (_record_fault(code, found, width),)


def _record_fault(code: Code | None, found: int, width: int) -> Fault:
    if code is Code.MALFORMED_QUOTING:
        return Fault(
            code,
            "the quotes of this row do not match; "
            'put a cell that holds a quote in quotes and double the quote: "Ann ""Nan"" Lee"',
        )
    if code:
        return Fault(code, f"the row {code.says}; look for a line end that is missing")
    if found < width:
        return Fault(
            Code.MISSING_CELL,
            f"the row has {_cells(found)} where the header has {width}; add what is missing",
        )
    return Fault(
        Code.EXTRA_CELL,
        f"the row has {_cells(found)} where the header has {width}; put a cell that holds the delimiter in quotes",
    )


def _cells(number: int) -> str:
    return f"{number:,} cell" if number == 1 else f"{number:,} cells"


def _as_row(texts: Iterable[str]) -> bytes:
    """Return the texts of a user as a CSV record by RFC 4180; none contains a line end."""
    return (",".join(map(_as_cell, texts)) + "\n").encode()


def _as_cell(text: str) -> str:
    # In a table of one column, a line of `\\.` without quotes ends COPY.
    return '"' + text.replace('"', '""') + '"' if '"' in text or "," in text or text == r"\." else text


def merge_fault(code: Code, unique_by: Sequence[str]) -> Fault:
    """Return the fault of a valid row that is rejected on merge.

    Args:
        code: `DUPLICATE_ROW`, `ALREADY_CORRECTED` or `NOTHING_TO_CORRECT`.
        unique_by: The columns that identify a user.
    """
    messages = {
        Code.DUPLICATE_ROW: f"a user with the same {', '.join(unique_by)} already exists; remove the row",
        Code.ALREADY_CORRECTED: "the row was corrected and registered before; remove it",
        Code.NOTHING_TO_CORRECT: "the ledger does not confirm that an import in force rejected this row; "
        "correct the rejected-rows file that it comes from",
    }
    return Fault(code, messages[code])
