"""Rows without a file are judged as an import judges the rows of a file."""

import pytest

from rollcall.application.check_rows import check_rows
from rollcall.application.errors import UnreadableCellError
from rollcall.application.records import MAX_QUOTED_BYTES, MAX_QUOTED_LINE_ENDS
from rollcall.domain.rejection import Code
from rollcall.domain.user import USERS
from support.builders import cells_of, reader_of

GOOD = cells_of()


def test_each_row_has_its_faults_in_order() -> None:
    bad = dict(reversed(cells_of(" ", age="thirty").items()))

    checked = check_rows(USERS, [GOOD, bad, GOOD])

    assert [[(fault.code, fault.column) for fault in faults] for faults in checked] == [
        [],
        [(Code.BLANK_CELL, "name"), (Code.TYPE_ERROR, "age")],
        [],
    ]


def test_no_rows_have_no_faults() -> None:
    assert check_rows(USERS, []) == []


@pytest.mark.parametrize(
    "cell",
    [
        "\n" * (MAX_QUOTED_LINE_ENDS - 1),
        "\r\n" * (MAX_QUOTED_LINE_ENDS - 1),
        "\n" + "é" * (MAX_QUOTED_BYTES // 2 - 1),
        "\n" + '"' * (MAX_QUOTED_BYTES // 2 - 1),
        "x" * (MAX_QUOTED_BYTES + 1),
        'x"' * MAX_QUOTED_BYTES,
    ],
    ids=["LF", "CRLF", "letters", "quotes", "not quoted", "literal quotes"],
)
def test_a_cell_that_a_file_can_contain_is_judged(cell: str) -> None:
    assert _read_again(cell) == [cell]
    assert check_rows(USERS, [{**GOOD, "name": cell}])[0]


@pytest.mark.parametrize(
    "cell",
    [
        "\n" * MAX_QUOTED_LINE_ENDS,
        "\r" * MAX_QUOTED_LINE_ENDS + "Ann",
        "\n" + "é" * (MAX_QUOTED_BYTES // 2),
        "\n" + '"' * (MAX_QUOTED_BYTES // 2),
        '"' + "x" * MAX_QUOTED_BYTES,
    ],
    ids=["LF", "CR", "letters", "quotes", "first quote"],
)
def test_a_cell_that_no_file_can_contain_is_no_cell(cell: str) -> None:
    assert _read_again(cell) == []
    with pytest.raises(UnreadableCellError) as caught:
        check_rows(USERS, [GOOD, {**GOOD, "country": cell}])
    assert (caught.value.row, caught.value.column) == (1, "country")
    assert cell not in str(caught.value)


def _read_again(cell: str) -> list[str]:
    """Write a cell to a file, quoted if it must be, and return the cells that are read."""
    must = cell.startswith('"') or "\n" in cell or "\r" in cell
    raw = '"' + cell.replace('"', '""') + '"' if must else cell
    record = reader_of(raw + "\n").take(",")
    assert record
    return [] if record.fault else record.cells
