"""The first lines of an upload: its delimiter and its labels."""

import csv
import io
import itertools
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.application.header import DELIMITERS, Header, read_header
from rollcall.application.records import RecordReader
from rollcall.domain.fields import WHITE_SPACE
from rollcall.domain.record import normal_label
from rollcall.domain.rejection import Code, Fault
from rollcall.domain.user import USERS
from support.builders import completed_text, reader_of

MIB = 1024 * 1024


def _header(text: str) -> Header:
    header = read_header(reader_of(completed_text(text)), USERS)
    assert isinstance(header, Header), header
    return header


def _fault(*pieces: str) -> Fault:
    fault = read_header(reader_of(*pieces), USERS)
    assert isinstance(fault, Fault), fault
    return fault


def _columns(header: Header) -> list[str]:
    """Return the normal labels at the positions of the columns."""
    return [header.record_type.by_label[normal_label(label)] for label in header.cells_of(header.labels)]


@st.composite
def _spellings(draw: st.DrawFn, column: str) -> str:
    """Spellings of a label with the same meaning."""
    padding = st.text(st.sampled_from(WHITE_SPACE.replace("\n", "").replace("\r", "")), max_size=2)
    return draw(padding) + draw(st.sampled_from((column, column.upper(), column.title()))) + draw(padding)


@given(
    order=st.permutations(USERS.columns),
    # A label of nothing but another delimiter would make that one right, too.
    others=st.lists(
        st.text("xyz ,;\t\"'\r\n", max_size=4).filter(lambda text: not text or text.strip(" ,;\t")), max_size=3
    ),
    delimiter=st.sampled_from(DELIMITERS),
    quoting=st.booleans(),
    says=st.booleans(),
    blank_lines=st.integers(0, 2),
    data=st.data(),
)
def test_a_header_is_read_in_any_spelling_and_order(
    order: list[str],
    others: list[str],
    delimiter: str,
    quoting: bool,  # noqa: FBT001 - what varies
    says: bool,  # noqa: FBT001 - what varies
    blank_lines: int,
    data: st.DataObject,
) -> None:
    """Any order, case, white space, quoting and delimiter; other columns are reported as ignored."""
    labels = data.draw(st.permutations([*(data.draw(_spellings(column)) for column in order), *others]))
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL if quoting else csv.QUOTE_MINIMAL)
    writer.writerow(labels)
    before = "\n" * blank_lines + (f"sep={delimiter}\n" if says else "")
    reader = reader_of(before, text.getvalue(), "next")
    header = read_header(reader, USERS)
    following = reader.take(delimiter)

    assert isinstance(header, Header)
    assert header.delimiter == delimiter
    assert header.labels == tuple(labels)
    assert header.separator_line == says
    assert _columns(header) == list(USERS.columns)
    assert sorted(header.ignored) == sorted(others)
    assert following
    assert following.cells == ["next"]


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_a_header_that_begins_with_blank_labels_is_not_skipped(delimiter: str) -> None:
    """Under another delimiter, its first line alone would be blank."""
    header = _header(delimiter.join(["", '"\n"', *USERS.columns]) + "\n")

    assert header.labels == ("", "\n", *USERS.columns)


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_rows_of_blank_cells_before_the_header_are_skipped(delimiter: str) -> None:
    blank = [delimiter.join(cells) + "\n" for cells in (["", " ", ""], ['""', '" "', '""'], ["", '"\n"', ""])]

    assert _header("".join(blank) + delimiter.join(USERS.columns) + "\n").delimiter == delimiter


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_blank_labels_longer_than_a_record_are_refused(delimiter: str) -> None:
    """The rest of such a record is not taken for a header."""
    labels = ["", *['"\n"'] * MIB, *USERS.columns]

    assert _fault(delimiter.join(labels) + f"\n{','.join(USERS.columns)}\n").code is Code.FORMAT_ERROR


def test_a_label_may_span_several_lines() -> None:
    """Excel writes such labels in quotes."""
    header = _header('"Remark\n(if any)";"\r\nname";country;"age "\r\n')

    assert _columns(header) == list(USERS.columns)
    assert header.ignored == ("Remark\n(if any)",)


def test_a_header_in_another_order_gives_each_column_a_position() -> None:
    """Ignored labels are reported as written, in their order."""
    header = _header("Note, AGE,name,Extra,country\n")

    assert _columns(header) == list(USERS.columns)
    assert header.ignored == ("Note", "Extra")


@pytest.mark.parametrize(("delimiter", "other"), [*itertools.permutations(DELIMITERS, 2)])
def test_the_delimiter_is_the_one_that_gives_all_labels(delimiter: str, other: str) -> None:
    """An ignored label may contain another delimiter, quoted or not."""
    for label in (f"x{other}y{other}z{other}", f'"{other}"'):
        header = _header(delimiter.join(["name", label, "country", "age"]) + "\n")

        assert header.delimiter == delimiter


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_a_quoted_header_is_read_with_every_delimiter(delimiter: str) -> None:
    """Under the other delimiters its quotes do not match."""
    assert _header(delimiter.join(['"name"', '"country"', '"age"']) + "\n").delimiter == delimiter


@pytest.mark.parametrize(
    ("line", "delimiter"),
    [("sep=;", ";"), ("SEP=,", ","), ("sep=\t", "\t"), ("sep=|", "|"), ("Sep=:", ":"), ('"sep=;"', ";")],
)
def test_a_sep_line_sets_the_delimiter(line: str, delimiter: str) -> None:
    """Also for a delimiter that is never guessed."""
    header = _header(f"{line}\r\n{delimiter.join(USERS.columns)}\r\n")

    assert (header.delimiter, header.separator_line) == (delimiter, True)


def test_no_other_delimiter_is_tried_after_a_sep_line() -> None:
    assert _fault("sep=;\nname,country,age\n").code is Code.MISSING_LABEL


@pytest.mark.parametrize(
    "text",
    [
        *("", "\n", "\r\n \r\n", ",,,\n", ", ,\n", '"",""\n', '"";" "\n', ";;\n\t\n", "\u200b\n"),
        *(" , \n", "sep=;", "sep=;\n", "sep=|\n\n|"),
    ],
)
def test_a_file_without_content_is_empty(text: str) -> None:
    """Blank lines are not a header."""
    assert _fault(text).code is Code.EMPTY_FILE


@pytest.mark.parametrize("blank", ["", " ", "{0}{0}", " {0} {0}\t", '{0}""', '" "'])
@pytest.mark.parametrize("delimiter", [*DELIMITERS, "|"])
def test_blank_rows_before_the_header_are_skipped(delimiter: str, blank: str) -> None:
    """Also between a `sep=` line and the header."""
    row = blank.format(delimiter)
    header = delimiter.join(USERS.columns)
    says = f"sep={delimiter}"

    assert _header(f"\n{says}\n{row}\n\n{header}\n").labels == USERS.columns
    assert delimiter == "|" or _header(f"{row}\n\n{row}\n{header}\n").labels == USERS.columns


@pytest.mark.parametrize("blank", [",", ";\r", "\t", " ", ";;\n,"])
def test_many_blank_rows_before_the_header_cost_little(blank: str) -> None:
    """They are not split one by one, up to five times each, and their lines still count."""
    reader = reader_of(f"{blank}\n" * 1000 + ",".join(USERS.columns) + "\n")
    split = RecordReader._scan  # noqa: SLF001 - what is costly

    with patch.object(RecordReader, "_scan", autospec=True, side_effect=split) as splits:
        assert isinstance(read_header(reader, USERS), Header)

    assert reader.line == 1000 * (1 + blank.count("\n")) + 2
    assert splits.call_count <= 5


def test_a_missing_label_is_named_with_the_labels_found() -> None:
    """So that the uploader sees what was taken for the header."""
    fault = _fault("nmae,country,years old\n")

    assert fault == Fault(
        Code.MISSING_LABEL,
        f"no column is called {', '.join(column for column in USERS.columns if column != 'country')}; "
        f"the first line has 'nmae', 'country', 'years old' and must name {', '.join(USERS.columns)}",
    )


def test_the_message_uses_the_likeliest_delimiter() -> None:
    """The likeliest delimiter splits the line into the most cells."""
    assert "has 'nmae', 'country', 'age' and" in _fault("nmae;country;age\n").message
    assert "has 'nmae', 'country', 'age' and" in _fault('"nmae"\t"country"\t"age"\n').message


def test_a_wide_header_is_shortened_in_the_message() -> None:
    fault = _fault(",".join(f"column {number}" for number in range(5000)) + "\n")

    assert "'column 9' and 4,990 more and must name" in fault.message
    assert len(fault.message) < 300


@pytest.mark.parametrize(
    "label", ["\uff4e\uff41\uff4d\uff45", "na\u200bme", "name\u200b", "\ufeffname", "namé", "#name"]
)
def test_a_lookalike_of_a_required_label_is_not_accepted(label: str) -> None:
    """Only white space and case are ignored."""
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
def test_only_nuls_between_all_letters_suggest_utf_16(text: str, utf_16: bool) -> None:  # noqa: FBT001 - what varies
    """UTF-16 without a BOM is also valid UTF-8; other NULs have other causes."""
    fault = _fault(text)

    assert fault.code is Code.MISSING_LABEL
    assert ("looks like UTF-16 without its mark" in fault.message) == utf_16


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_a_required_label_that_occurs_twice_is_refused(delimiter: str) -> None:
    """Either column might be meant; other labels may occur several times."""
    fault = _fault(delimiter.join([*USERS.columns, "x", "Name", "x", " NAME"]) + "\n")

    assert fault.code is Code.DUPLICATE_LABEL
    assert fault.column == "name"
    assert fault.message == "3 columns are called name; remove or rename all but one"


@pytest.mark.parametrize(
    "text", ['"name"x,country,age\n', 'name,country,"age\nAnn,Chile,30\n', '"name,country,age\n']
)
def test_a_header_with_unmatched_quotes_is_refused(text: str) -> None:
    fault = _fault(text)

    assert fault.code is Code.FORMAT_ERROR
    assert "has quotes that do not match; it should be: " + ",".join(USERS.columns) in fault.message


@pytest.mark.parametrize("says", ["", "sep=,\n"])
@pytest.mark.parametrize("end", ["\n", ",name,country,age\n", "\nname,country,age\n", '"\n', ""])
@pytest.mark.parametrize("junk", ["x", ",", '"'])
def test_a_header_longer_than_a_record_is_refused(junk: str, end: str, says: str) -> None:
    """Its end is never read as a header, for any size of the pieces."""
    for pieces in ([says, junk * 65536] + [junk * 65536] * 17 + [end], [says + junk * (2 * MIB) + end]):
        fault = _fault(*pieces)

        assert fault.code is Code.FORMAT_ERROR
        assert "is longer than 1 MiB" in fault.message or junk == '"'


@pytest.mark.parametrize(("columns", "refused"), [(10_000, False), (10_001, True)])
def test_a_header_of_too_many_columns_is_refused(columns: int, refused: bool) -> None:  # noqa: FBT001 - what varies
    header = read_header(reader_of(",".join(USERS.columns) + ",x" * (columns - len(USERS.columns)) + "\n"), USERS)

    assert isinstance(header, Fault) == refused
    assert not isinstance(header, Fault) or header.code is Code.FORMAT_ERROR
