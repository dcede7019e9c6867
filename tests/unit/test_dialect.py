"""The first lines of an upload: its delimiter, and which column is which."""

import csv
import io
import itertools
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.application.dialect import DELIMITERS, Header, read_header
from rollcall.application.records import RecordReader
from rollcall.domain.rejection import Code, Fault
from rollcall.domain.user import COLUMNS, WHITE_SPACE

MIB = 1024 * 1024


def _header(*pieces: str) -> Header:
    header = read_header(RecordReader(iter(pieces)))
    assert isinstance(header, Header), header
    return header


def _fault(*pieces: str) -> Fault:
    fault = read_header(RecordReader(iter(pieces)))
    assert isinstance(fault, Fault), fault
    return fault


@st.composite
def _spellings(draw: st.DrawFn, column: str) -> str:
    """Ways to write a label that mean the same."""
    padding = st.text(st.sampled_from(WHITE_SPACE.replace("\n", "").replace("\r", "")), max_size=2)
    return draw(padding) + draw(st.sampled_from((column, column.upper(), column.title()))) + draw(padding)


@given(
    order=st.permutations(COLUMNS),
    others=st.lists(st.text("xyz ,;\t\"'\r\n", max_size=4), max_size=3),
    delimiter=st.sampled_from(DELIMITERS),
    quoting=st.booleans(),
    says=st.booleans(),
    blank_lines=st.integers(0, 2),
    data=st.data(),
)
def test_a_header_is_understood_however_it_is_written(
    order: list[str],
    others: list[str],
    delimiter: str,
    quoting: bool,  # noqa: FBT001 - what varies
    says: bool,  # noqa: FBT001 - what varies
    blank_lines: int,
    data: st.DataObject,
) -> None:
    """Any order, case, white space, quoting and delimiter; other columns are known to be ignored."""
    labels = data.draw(st.permutations([*(data.draw(_spellings(column)) for column in order), *others]))
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL if quoting else csv.QUOTE_MINIMAL)
    writer.writerow(labels)
    before = "\n" * blank_lines + (f"sep={delimiter}\n" if says else "")
    reader = RecordReader(iter([before, text.getvalue(), "next"]))
    header = read_header(reader)
    following = reader.take(delimiter)

    assert isinstance(header, Header)
    assert header.delimiter == delimiter
    assert header.labels == tuple(labels)
    assert header.separator_line == says
    assert [labels[position].strip(WHITE_SPACE).lower() for position in header.positions] == list(COLUMNS)
    assert sorted(header.ignored) == sorted(others)
    assert following
    assert following.cells == ["next"]


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_a_header_that_begins_with_blank_labels_is_not_passed_over(delimiter: str) -> None:
    """Its first line alone may look blank, under another delimiter."""
    header = _header(delimiter.join(["", '"\n"', *COLUMNS]) + "\n")

    assert header.labels == ("", "\n", *COLUMNS)


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_rows_of_blank_cells_before_the_header_are_passed_over(delimiter: str) -> None:
    """As they are after it, quoted or not."""
    blank = [delimiter.join(cells) + "\n" for cells in (["", " ", ""], ['""', '" "', '""'], ["", '"\n"', ""])]

    assert _header(*blank, delimiter.join(COLUMNS) + "\n").delimiter == delimiter


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_blank_labels_longer_than_a_record_may_be_are_refused(delimiter: str) -> None:
    """What is left of them is no header."""
    labels = ["", *['"\n"'] * MIB, *COLUMNS]

    assert _fault(delimiter.join(labels) + f"\n{','.join(COLUMNS)}\n").code is Code.FORMAT_ERROR


def test_a_label_may_stand_on_several_lines() -> None:
    """Quoted, as Excel writes it."""
    header = _header('"Remark\n(if any)";"\r\nname";country;"age "\r\n')

    assert header.positions == (1, 2, 3)
    assert header.ignored == ("Remark\n(if any)",)


def test_a_header_in_another_order_tells_where_each_cell_stands() -> None:
    """And which columns nobody asked for, as they were written, in their order."""
    header = _header("Note, AGE,name,Extra,country\n")

    assert header.positions == (2, 4, 1)
    assert header.ignored == ("Note", "Extra")


@pytest.mark.parametrize(("delimiter", "other"), [*itertools.permutations(DELIMITERS, 2)])
def test_the_delimiter_is_the_one_under_which_all_labels_are_found(delimiter: str, other: str) -> None:
    """Another may stand in a label that is ignored, quoted or not."""
    for label in (f"x{other}y{other}z{other}", f'"{other}"'):
        header = _header(delimiter.join(["name", label, "country", "age"]) + "\n")

        assert header.delimiter == delimiter


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_a_quoted_header_is_understood_under_every_delimiter(delimiter: str) -> None:
    """Though its quotes do not match under the others."""
    assert _header(delimiter.join(['"name"', '"country"', '"age"']) + "\n").delimiter == delimiter


@pytest.mark.parametrize(
    ("line", "delimiter"), [("sep=;", ";"), ("SEP=,", ","), ("sep=\t", "\t"), ("sep=|", "|"), ("Sep=:", ":")]
)
def test_a_line_that_says_the_delimiter_is_obeyed(line: str, delimiter: str) -> None:
    """Also one that nobody would guess."""
    header = _header(f"{line}\r\n{delimiter.join(COLUMNS)}\r\n")

    assert (header.delimiter, header.separator_line) == (delimiter, True)


def test_a_delimiter_that_was_said_is_not_guessed_again() -> None:
    """What it leaves unsplit is reported."""
    assert _fault("sep=;\nname,country,age\n").code is Code.MISSING_LABEL


@pytest.mark.parametrize(
    "text",
    [
        *("", "\n", "\r\n \r\n", ",,,\n", ", ,\n", '"",""\n', '"";" "\n', ";;\n\t\n", "\u200b\n"),
        *(" , \n", "sep=;", "sep=;\n", "sep=|\n\n|"),
    ],
)
def test_a_file_without_content_is_empty(text: str) -> None:
    """Blank lines are no header."""
    assert _fault(text).code is Code.EMPTY_FILE


@pytest.mark.parametrize("blank", ["", " ", "{0}{0}", " {0} {0}\t", '{0}""', '" "'])
@pytest.mark.parametrize("delimiter", [*DELIMITERS, "|"])
def test_blank_rows_before_the_header_are_passed_over(delimiter: str, blank: str) -> None:
    """Also those between it and the line that says the delimiter."""
    row = blank.format(delimiter)
    header = delimiter.join(COLUMNS)
    says = f"sep={delimiter}"

    assert _header(f"\n{says}\n{row}\n\n{header}\n").positions == (0, 1, 2)
    assert delimiter == "|" or _header(f"{row}\n\n{row}\n{header}\n").positions == (0, 1, 2)


@pytest.mark.parametrize("blank", [",", ";\r", "\t", " ", ";;\n,"])
def test_many_blank_rows_before_the_header_cost_little(blank: str) -> None:
    """They are not split one by one, up to five times each, and their lines still count."""
    reader = RecordReader(iter([f"{blank}\n" * 1000 + ",".join(COLUMNS) + "\n"]))
    split = RecordReader._scan  # noqa: SLF001 - what is costly

    with patch.object(RecordReader, "_scan", autospec=True, side_effect=split) as splits:
        assert isinstance(read_header(reader), Header)

    assert reader.line == 1000 * (1 + blank.count("\n")) + 2
    assert splits.call_count <= 5


def test_a_missing_label_is_named_beside_those_that_were_found() -> None:
    """So that the uploader sees what was taken for the header."""
    fault = _fault("nmae,country,years old\n")

    assert fault == Fault(
        Code.MISSING_LABEL,
        "no column is called name, age; the first line has 'nmae', 'country', 'years old' "
        "and must name name, country, age",
    )


def test_the_message_speaks_of_the_likeliest_delimiter() -> None:
    """The one that splits the line into most cells."""
    assert "has 'nmae', 'country', 'age' and" in _fault("nmae;country;age\n").message
    assert "has 'nmae', 'country', 'age' and" in _fault('"nmae"\t"country"\t"age"\n').message


def test_a_wide_header_is_shown_in_part() -> None:
    """A message stays short."""
    fault = _fault(",".join(f"column {number}" for number in range(5000)) + "\n")

    assert "'column 9' and 4,990 more and must name" in fault.message
    assert len(fault.message) < 300


@pytest.mark.parametrize(
    "label", ["\uff4e\uff41\uff4d\uff45", "na\u200bme", "name\u200b", "\ufeffname", "namé", "#name"]
)
def test_a_label_that_only_looks_like_a_required_one_is_not(label: str) -> None:
    """Nothing but white space and case is passed over."""
    assert _fault(f"{label},country,age\n").code is Code.MISSING_LABEL


@pytest.mark.parametrize(
    ("text", "utf_16"),
    [
        ("name,country,age\n".encode("utf-16-le").decode(), True),
        ("name,country,age\n".encode("utf-16-be").decode(), True),
        ("na\0me,country,age\n", False),
        ("name\0\0\0,country,age\n", False),
        ("\0\0\0\0\n", False),
        ("PK\x05\x06\0\0\0\0", False),
    ],
)
def test_only_nuls_between_all_letters_look_like_utf_16(text: str, utf_16: bool) -> None:  # noqa: FBT001 - what varies
    """For as UTF-8 such a file decodes without complaint; other NULs have other causes."""
    fault = _fault(text)

    assert fault.code is Code.MISSING_LABEL
    assert ("looks like UTF-16 without its mark" in fault.message) == utf_16


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_a_required_label_that_stands_twice_is_refused(delimiter: str) -> None:
    """For either might be meant; of other labels there may be many."""
    fault = _fault(delimiter.join(["name", "x", "country", "Name", "age", "x", " NAME"]) + "\n")

    assert fault.code is Code.DUPLICATE_LABEL
    assert fault.column == "name"
    assert fault.message == "3 columns are called name; remove or rename all but one"


@pytest.mark.parametrize(
    "text", ['"name"x,country,age\n', 'name,country,"age\nAnn,Chile,30\n', '"name,country,age\n']
)
def test_a_header_whose_quotes_do_not_match_is_refused_with_an_example(text: str) -> None:
    """Without a header no row can be understood."""
    fault = _fault(text)

    assert fault.code is Code.FORMAT_ERROR
    assert "has quotes that do not match; it should be: name,country,age" in fault.message


@pytest.mark.parametrize("says", ["", "sep=,\n"])
@pytest.mark.parametrize("end", ["\n", ",name,country,age\n", "\nname,country,age\n", '"\n', ""])
@pytest.mark.parametrize("junk", ["x", ",", '"'])
def test_a_header_longer_than_a_record_may_be_is_refused(junk: str, end: str, says: str) -> None:
    """Its end is never taken for a header of its own, however the pieces fall."""
    for pieces in ([says, junk * 65536] + [junk * 65536] * 17 + [end], [says + junk * (2 * MIB) + end]):
        fault = _fault(*pieces)

        assert fault.code is Code.FORMAT_ERROR
        assert "is longer than 1 MiB" in fault.message or junk == '"'


@pytest.mark.parametrize(("columns", "refused"), [(10_000, False), (10_001, True)])
def test_a_header_of_too_many_columns_is_refused(columns: int, refused: bool) -> None:  # noqa: FBT001 - what varies
    header = read_header(RecordReader(iter(["name,country,age" + ",x" * (columns - 3) + "\n"])))

    assert isinstance(header, Fault) == refused
    assert not isinstance(header, Fault) or header.code is Code.FORMAT_ERROR
