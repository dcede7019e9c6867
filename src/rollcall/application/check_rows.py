"""Judge rows without a file, for a person who corrects them one by one."""

from collections.abc import Mapping, Sequence

from rollcall.application.errors import UnreadableCellError
from rollcall.application.records import can_be_read
from rollcall.domain.record import RecordType
from rollcall.domain.rejection import Fault

MAX_ROWS = 500


def check_rows(record_type: RecordType, rows: Sequence[Mapping[str, str]]) -> list[tuple[Fault, ...]]:
    """Judge rows by the rules of the record, as an import judges the rows of a file. Nothing is read or stored.

    Only an import can find duplicates, and only in a file is a blank row skipped.

    Args:
        record_type: The record.
        rows: The cells of each row, by column; each row has all columns of the record.

    Returns:
        The faults of each row, in the order of the columns; empty for a good row.

    Raises:
        UnreadableCellError: A cell cannot be in a file, so an import has no verdict on it.
    """
    return [_faults(record_type, number, row) for number, row in enumerate(rows)]


def _faults(record_type: RecordType, number: int, row: Mapping[str, str]) -> tuple[Fault, ...]:
    cells = [row[column] for column in record_type.columns]
    for column, cell in zip(record_type.columns, cells, strict=True):
        if not can_be_read(cell):
            raise UnreadableCellError(number, column)
    user = record_type.parse(cells)
    return user if isinstance(user, tuple) else ()
