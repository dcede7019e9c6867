"""Cells that a spreadsheet may run as formulas are made safe, and can be restored."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rollcall.application.spreadsheets import restored_text, safe_row, safe_text

DELIMITERS = [",", ";", "|", "\t", " ", "_", ":", "."]
SEPARATORS = ",;|\t\r\n"

delimiters = st.sampled_from(DELIMITERS)
cells = st.text(st.sampled_from(" '\"=+-@＝＋－＠,;|\t\r\n_:.ab山"), max_size=12) | st.text(max_size=12)  # noqa: RUF001 - full-width forms run, too


def _marked(text: str, delimiter: str) -> str:
    """Mark a cell as the contract says, character by character."""
    marked = ""
    for place, character in enumerate(text):
        inside_crlf = text[place - 1 : place + 1] == "\r\n"
        starts_a_piece = place == 0 or (text[place - 1] in SEPARATORS + delimiter and not inside_crlf)
        runs = re.match(r"""['"\s]*[=+\-@＝＋－＠\t\r\n]""", text[place:])  # noqa: RUF001 - as above
        marked += "'" * bool(starts_a_piece and runs) + character
    return marked


@given(cell=cells, delimiter=delimiters)
@example(cell=" -", delimiter=" ")
def test_each_piece_that_may_run_gets_one_mark(cell: str, delimiter: str) -> None:
    assert safe_text(cell, delimiter) == _marked(cell, delimiter)


@given(cell=cells, delimiter=delimiters)
def test_no_piece_of_a_split_cell_starts_a_formula(cell: str, delimiter: str) -> None:
    for separator in ["\r\n", *SEPARATORS, delimiter]:
        for piece in safe_text(cell, delimiter).replace("\r\n", "\n").split(separator):
            assert not re.match(r"\s*[=+\-@＝＋－＠]|[\t\r\n]", piece)  # noqa: RUF001 - as above


@given(row=st.lists(cells, max_size=3), delimiter=delimiters)
def test_a_row_is_made_safe_cell_by_cell(row: list[str], delimiter: str) -> None:
    assert list(safe_row(row, delimiter)) == [safe_text(cell, delimiter) for cell in row]


@given(cell=cells, delimiter=delimiters)
def test_a_safe_cell_can_be_restored(cell: str, delimiter: str) -> None:
    assert restored_text(safe_text(cell, delimiter), delimiter) == cell


@pytest.mark.parametrize("text", ["x", "O'Brien", "a-b", "don't; won't", "12:30", "'t Hooft", "x = y"])
def test_other_text_stays_unchanged(text: str) -> None:
    assert safe_text(text, ",") == restored_text(text, ",") == text
