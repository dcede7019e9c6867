"""Judge rows without a file, for a person who corrects them one by one."""

from collections.abc import Mapping, Sequence

from rollcall.application.errors import UnreadableCellError
from rollcall.application.records import can_be_read
from rollcall.domain.rejection import Fault
from rollcall.domain.user import COLUMNS, User

MAX_ROWS = 500


def check_rows(rows: Sequence[Mapping[str, str]]) -> list[tuple[Fault, ...]]:
    """Judge rows by the rules of `User`, as an import judges the rows of a file. Nothing is read or stored.

    Only an import can find duplicates, and only in a file is a blank row skipped.

    Args:
        rows: The cells of each row, by column; each row has all of `COLUMNS`.

    Returns:
        The faults of each row, in the order of `COLUMNS`; empty for a good row.

    Raises:
        UnreadableCellError: A cell cannot be in a file, so an import has no verdict on it.
    """
    return [_faults(number, row) for number, row in enumerate(rows)]


def _faults(number: int, row: Mapping[str, str]) -> tuple[Fault, ...]:
    cells = [row[column] for column in COLUMNS]
    for column, cell in zip(COLUMNS, cells, strict=True):
        if not can_be_read(cell):
            raise UnreadableCellError(number, column)
    user = User.parse(cells)
    return () if isinstance(user, User) else user
