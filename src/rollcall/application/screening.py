"""From records to users: every row is judged by the rules of `User`."""

from collections.abc import Iterator, Sequence

import attrs

from rollcall.application.dialect import Header
from rollcall.application.ports import Block
from rollcall.application.records import Record
from rollcall.domain.rejection import Code, Fault, Rejection
from rollcall.domain.user import User, is_blank


@attrs.frozen
class RejectedRow:
    """A row that was refused.

    Attributes:
        record: What the uploader wrote.
        rejection: Why it was refused.
    """

    record: Record
    rejection: Rejection


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
    def read(self) -> int:
        """How many rows the batch held, blank ones left out."""
        return len(self.accepted.lines) + len(self.rejected)


def screen(records: Sequence[Record], header: Header) -> Screened:
    """Judge a batch of records.

    Args:
        records: What the reader split off, in the order of the file.
        header: How to understand them.
    """
    rows: list[str] = []
    lines: list[int] = []
    rejected: list[RejectedRow] = []
    blank = 0
    for record in records:
        user = _read_user(record, header)
        if isinstance(user, User):
            rows.append(",".join(map(_as_csv, user.values())))
            lines.append(record.line)
        elif record.fault is None and all(map(is_blank, record.cells)):
            blank += 1
        else:
            rejected.append(RejectedRow(record, Rejection(record.line, record.last_line, user)))
    rows.append("")
    return Screened(Block("\n".join(rows).encode(), lines), rejected, blank)


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


def _as_csv(value: str | int) -> str:
    """Write one value as a CSV cell by RFC 4180; no value of a `User` holds a line end."""
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if '"' in text or "," in text else text


def screened(batches: Iterator[list[Record]], header: Header) -> Iterator[Screened]:
    """Judge batch after batch."""
    return (screen(batch, header) for batch in batches)
