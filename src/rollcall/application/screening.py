"""From records to users: every row is judged by the rules of `User`."""

from collections.abc import Iterator, Sequence

import attrs

from rollcall.application.dialect import Header
from rollcall.application.ports import Block, Origin
from rollcall.application.records import Record
from rollcall.application.rejected_rows import RejectedRow, origin_of, restored
from rollcall.domain.rejection import Code, Fault, Rejection
from rollcall.domain.user import User, is_blank


@attrs.frozen
class Screened:
    """What became of one batch of records.

    Attributes:
        accepted: The good rows; may be empty.
        rejected: The bad ones.
        blank: How many blank lines and rows of blank cells were passed over.
    """

    accepted: Block
    rejected: Sequence[RejectedRow]
    blank: int

    @property
    def origins(self) -> Iterator[Origin]:
        """The rejected rows that rows of the batch say they mend, good or bad."""
        yield from self.accepted.origins or ()
        yield from (row.origin for row in self.rejected if row.origin)

    @property
    def read(self) -> int:
        """How many rows the batch held, blank ones left out."""
        return len(self.accepted.lines) + len(self.rejected)


def screen(records: Sequence[Record], header: Header) -> Screened:
    """Judge a batch of records.

    Args:
        records: What the reader split off, in the order of the file.
        header: How to understand them.
    """
    if header.corrects:
        return _screen_mended(records, header)
    rows: list[str] = []
    lines: list[int] = []
    rejected: list[RejectedRow] = []
    blank = 0
    for record in records:
        user = _read_user(record, header)
        if isinstance(user, User):
            rows.append(_as_row(user))
            lines.append(record.line)
        elif _is_blank_row(record):
            blank += 1
        else:
            rejected.append(RejectedRow(record, Rejection(record.line, record.last_line, user)))
    return Screened(_block(rows, lines), rejected, blank)


def _screen_mended(records: Sequence[Record], header: Header) -> Screened:
    """Judge rejected rows that come back; each must say which row it was."""
    rows: list[str] = []
    lines: list[int] = []
    origins: list[Origin] = []
    rejected: list[RejectedRow] = []
    blank = 0
    for escaped in records:
        record = restored(escaped)
        if _is_blank_row(record):
            blank += 1
            continue
        user: User | tuple[Fault, ...]
        origin = None
        if fault := _record_fault(record, len(header.labels)):
            user = (fault,)
        elif isinstance(found := origin_of(record, header), Fault):
            user = (found,)
        else:
            origin = found
            user = _read_user(record, header)
        if isinstance(user, User) and origin:
            rows.append(_as_row(user))
            lines.append(record.line)
            origins.append(origin)
        elif not isinstance(user, User):
            rejected.append(RejectedRow(record, Rejection(record.line, record.last_line, user), origin))
    return Screened(_block(rows, lines, origins), rejected, blank)


def _block(rows: Sequence[str], lines: Sequence[int], origins: Sequence[Origin] | None = None) -> Block:
    return Block("".join(rows).encode(), lines, origins)


def _is_blank_row(record: Record) -> bool:
    return record.fault is None and all(map(is_blank, record.cells))


def _read_user(record: Record, header: Header) -> User | tuple[Fault, ...]:
    fault = _record_fault(record, len(header.labels))
    if fault:
        return (fault,)
    return User.parse([record.cells[position] for position in header.positions])


def _record_fault(record: Record, width: int) -> Fault | None:
    found = len(record.cells)
    if record.fault is Code.MALFORMED_QUOTING:
        return Fault(
            record.fault,
            "the quotes of this row do not match; "
            'put a cell that holds a quote in quotes and double the quote: "Ann ""Nan"" Lee"',
        )
    if record.fault:
        return Fault(record.fault, f"the row {record.fault.says}; look for a line end that is missing")
    if found < width:
        return Fault(
            Code.MISSING_CELL,
            f"the row has {_cells(found)} where the header has {width}; add what is missing",
        )
    if found > width:
        return Fault(
            Code.EXTRA_CELL,
            f"the row has {_cells(found)} where the header has {width}; "
            "put a cell that holds the delimiter in quotes",
        )
    return None


def _cells(number: int) -> str:
    return f"{number:,} cell" if number == 1 else f"{number:,} cells"


def _as_row(user: User) -> str:
    """Write a user as a CSV record by RFC 4180; no value holds a line end."""
    return ",".join(map(_as_cell, user.values())) + "\n"


def _as_cell(value: str | int) -> str:
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if '"' in text or "," in text else text


def turned_down_row(record: Record, header: Header, code: Code, unique_by: Sequence[str]) -> RejectedRow:
    """Make a rejected row of one that was good in itself.

    Args:
        record: What the uploader wrote.
        header: How to understand it.
        code: Why the repository turned it down.
        unique_by: The columns that tell users apart.
    """
    origin = None
    if header.corrects:
        record = restored(record)
        found = origin_of(record, header)
        origin = None if isinstance(found, Fault) else found
    messages = {
        Code.DUPLICATE_ROW: f"a user with the same {', '.join(unique_by)} is there already; remove the row",
        Code.ALREADY_CORRECTED: "the row was mended and registered before; remove it",
        Code.NOTHING_TO_CORRECT: "the row comes from an import that is not loaded here; mend the original file",
    }
    return RejectedRow(record, Rejection(record.line, record.last_line, (Fault(code, messages[code]),)), origin)
