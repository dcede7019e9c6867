"""The rejected-rows file, for a person to read in a spreadsheet, correct and upload again."""

import codecs
import csv
import hashlib
import io
import re
from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.application.header import DELIMITERS, OWN_LABELS, Header, read_header
from rollcall.application.records import BEGINNING_BYTES, Record
from rollcall.application.rejected_rows import CUT_MARK, MAX_RAW_BYTES, RejectedRow, RejectedRowsFile
from rollcall.application.spreadsheets import restored_text
from rollcall.domain.correction import NO_VERDICT, Verdict
from rollcall.domain.rejection import Code, Fault, Rejection
from rollcall.domain.user import USERS
from support.builders import reader_of

HEADER = Header(record_type=USERS, delimiter=",", labels=("Name", " country", "AGE", "note"), positions=(0, 1, 2))
_MARKS = {"utf-8": codecs.BOM_UTF8, "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}

VERDICT = Verdict(7, b"secret")


def _token_of(line: int) -> str:
    return f"i7-{line}-{VERDICT.origin(line).proof}"


TOKEN = _token_of(2)

cells = st.text(st.sampled_from("'=+-@\t\r\n,;\"ab é山\0\u2028"), max_size=6) | st.text(max_size=6)


def _refused(
    row: list[str], *, message: str = "age is bad", line: int = 2, text: str = "raw", fault: Code | None = None
) -> RejectedRow:
    faults = (Fault(fault or Code.TYPE_ERROR, message),)
    return RejectedRow(Record(line, line, text, row, fault), Rejection(line, line, faults))


def _file(
    rows: list[RejectedRow],
    *,
    header: Header = HEADER,
    encoding: str = "utf-8",
    verdict: Verdict = VERDICT,
    tried_before: Sequence[str] = (),
) -> tuple[str, bytes]:
    """Return the name and the bytes of the file of these rows."""
    rejected = RejectedRowsFile(io.BytesIO(), header, encoding, verdict, tried_before)
    for row in rows:
        rejected.add(row)
    name, content = rejected.content()
    return name, content.read()


def _read(data: bytes, *, encoding: str = "utf-8", delimiter: str = ",") -> list[list[str]]:
    """Read the file with Python's reader, including the header."""
    text = data.removeprefix(_MARKS.get(encoding, b"")).decode(encoding)
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))


def _unescaped(cell: str) -> str:
    """Restore a cell as a correction does."""
    return restored_text(cell, ",")


def test_the_file_has_the_uploaded_columns_and_four_more() -> None:
    """Labels and cells as uploaded, then the line, the reason, the record as written, and the import."""
    _, data = _file([_refused(["Ann", " Chile", "thirty", "x, y"]), _refused(["a"], line=9, text='a,"b')])

    assert data == (
        b"\xef\xbb\xbf"
        b"Name, country,AGE,note,rollcall_line,rollcall_reason,rollcall_record,rollcall_import\r\n"
        b'Ann, Chile,thirty,"x, y",2,[type-error] age is bad,,%b\r\n'
        b',,,,9,[type-error] age is bad,"a,""b",%b\r\n' % (TOKEN.encode(), _token_of(9).encode())
    )


@given(rows=st.lists(st.lists(cells, min_size=4, max_size=4), max_size=5))
def test_a_whole_row_keeps_every_cell(rows: list[list[str]]) -> None:
    """Any cell: without the quote that precedes a formula, it is the original."""
    _, data = _file([_refused(row) for row in rows])
    found = _read(data)[1:]

    assert [[_unescaped(cell) for cell in row[:4]] for row in found] == rows
    assert [row[4:] for row in found] == [["2", "[type-error] age is bad", "", TOKEN]] * len(rows)


@given(cell=cells)
def test_no_cell_is_a_formula_in_a_spreadsheet(cell: str) -> None:
    """No cell begins as a formula, in any column, and nothing else is changed."""
    header = attrs.evolve(HEADER, labels=("Name", " country", "AGE", cell))
    _, data = _file([_refused(["Ann", "Chile", "30", cell]), _refused([], text=cell)], header=header)
    found = _read(data)
    written = [found[0][3], found[1][3], found[2][6]]

    assert not any(re.match(r"[=+\-@\t\r\n]", cell) for row in found for cell in row)
    assert [_unescaped(cell) for cell in written] == [cell, cell, cell]


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"),
        ("'=1+1", "''=1+1"),
        ("''@x", "'''@x"),
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        ("\nx", "'\nx"),
        ("x;=1", "x;'=1"),
        ("\uff1d1", "'\uff1d1"),
        ("-5", "'-5"),
        ("'x", "'x"),
        ("'", "'"),
        ("O'Brien", "O'Brien"),
        (" =1", "' =1"),
        ("", ""),
    ],
)
def test_a_cell_that_would_be_a_formula_gets_a_quote(cell: str, written: str) -> None:
    """In addition to the quotes that it has."""
    _, data = _file([_refused([cell, "", "", ""])])

    assert _read(data)[1][0] == written


@pytest.mark.parametrize("delimiter", [*DELIMITERS, "|"])
@pytest.mark.parametrize("says", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "cp932"])
def test_the_file_has_the_dialect_of_the_upload(
    encoding: str,
    says: bool,  # noqa: FBT001 - what varies
    delimiter: str,
) -> None:
    """Its delimiter, encoding, BOM and `sep=` line; UTF-8 always has a BOM, for Excel."""
    labels = (*USERS.columns, "note")
    positions = tuple(range(len(USERS.columns)))
    header = Header(
        record_type=USERS, delimiter=delimiter, labels=labels, positions=positions, separator_line=says
    )
    row = ["山田", f"a{delimiter}b", "é" if encoding != "cp932" else "e", *[""] * (len(labels) - 3)]
    _, data = _file([_refused(row)], header=header, encoding=encoding)
    text = data.removeprefix(_MARKS.get(encoding, b"")).decode(encoding)
    reader = reader_of(text)
    understood = read_header(reader, USERS)

    assert data.startswith(_MARKS.get(encoding, b""))
    assert text.startswith(f"sep={delimiter}\r\n") == says
    assert "\ufeff" not in text
    assert (
        understood
        == attrs.evolve(
            header,
            labels=(*header.labels, *OWN_LABELS),
            own_positions={label: place for place, label in enumerate(OWN_LABELS, len(header.labels))},
        )
        if says or delimiter in DELIMITERS
        else isinstance(understood, Fault)
    )
    assert _read(data, encoding=encoding, delimiter=delimiter)[1 + says][: len(labels)] == row


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "iso2022_jp", "utf-7", "cp500"])
def test_the_file_can_be_in_every_encoding_of_an_upload(encoding: str) -> None:
    """With one BOM at the beginning if the encoding has one, and none between the rows."""
    rows = [["Ann", "Chile", "x", ""], ["Bob", "Kenya", "y", ""]]
    _, data = _file([_refused(row) for row in rows], encoding=encoding)
    text = data.decode(encoding)

    assert "\ufeff" not in text
    assert [row[:4] for row in csv.reader(io.StringIO(text, newline=""), strict=True)][1:] == rows


@pytest.mark.parametrize(
    ("name", "encoding", "tried_before"),
    [("Ann", "cp932", "utf-8"), ("山", "cp932", "utf-8"), ("é", "cp1252", "utf-8"), ("", "cp1252", "cp932")],
)
def test_unambiguous_rows_keep_the_encoding_of_the_upload(name: str, encoding: str, tried_before: str) -> None:
    """Without a BOM: in the encodings tried before, the rows are the same text or invalid."""
    _, data = _file([_refused([name, "Chile", "x", ""])], encoding=encoding, tried_before=[tried_before])

    assert data.startswith(b"Name")
    assert _read(data, encoding=encoding)[1][:4] == [name, "Chile", "x", ""]


@pytest.mark.parametrize(
    ("name", "encoding", "tried_before"),
    [("ﾆｼ", "cp932", "utf-8"), ("Ã©", "cp1252", "utf-8"), ("éa", "cp1252", "cp932")],
)
def test_ambiguous_rows_are_written_in_utf_8(name: str, encoding: str, tried_before: str) -> None:
    """With a BOM, which decides the encoding."""
    _, data = _file([_refused([name, "Chile", "x", ""])], encoding=encoding, tried_before=[tried_before])

    assert data.startswith(codecs.BOM_UTF8)
    assert _read(data)[1][:4] == [name, "Chile", "x", ""]


def test_a_delimiter_may_make_rows_ambiguous() -> None:
    """In cp932, é and the bar after it are one character; only a `sep=` line allows a bar."""
    header = attrs.evolve(HEADER, delimiter="|", separator_line=True)
    _, data = _file(
        [_refused(["René", "Chile", "x", ""])], header=header, encoding="cp1252", tried_before=["cp932"]
    )

    assert data.startswith(codecs.BOM_UTF8)
    assert _read(data, delimiter="|")[2][:4] == ["René", "Chile", "x", ""]


@given(row=st.lists(cells, max_size=6).filter(lambda row: len(row) != 4), text=cells)
def test_a_row_with_missing_or_extra_cells_has_its_raw_text(row: list[str], text: str) -> None:
    """Its cells are empty, for the uploader to fill."""
    _, data = _file([_refused(row, text=text)])
    found = _read(data)[1]

    assert found[:4] == [""] * 4
    assert _unescaped(found[6]) == text


@pytest.mark.parametrize("fault", [Code.MALFORMED_QUOTING, Code.RECORD_TOO_LONG])
def test_a_row_that_could_not_be_split_has_its_raw_text(fault: Code) -> None:
    """Its cells are empty, for any cells that the reader found."""
    _, data = _file([_refused(["a", "b", "c", "d"], text='"a"b,"c', fault=fault)])
    found = _read(data)[1]

    assert found[:4] == [""] * 4
    assert found[6].startswith('"a"b,"c')


@pytest.mark.parametrize("character", ["x", '"', "é", "山", "👍"])
def test_raw_text_is_cut_before_64_kib_and_marked(character: str) -> None:
    """Counted as written, in UTF-8 and with doubled quotes, and never inside a character."""
    octets = len(character.replace('"', '""').encode())
    fitting = character * (MAX_RAW_BYTES // octets)
    _, data = _file([_refused([], text=fitting), _refused([], text=fitting + character)])
    csv.field_size_limit(2**20)
    whole, cut = (row[6] for row in _read(data)[1:])

    assert 65_000 < MAX_RAW_BYTES < 65_536
    assert whole == fitting
    assert cut == fitting + CUT_MARK


def test_a_record_that_is_too_long_is_marked_as_cut() -> None:
    """Only its beginning is known."""
    _, data = _file([_refused([], text="x" * BEGINNING_BYTES, fault=Code.RECORD_TOO_LONG)])

    assert _read(data)[1][6] == "x" * MAX_RAW_BYTES + CUT_MARK


def test_raw_text_may_hold_lone_surrogates() -> None:
    """Some encodings decode to lone surrogates, and their rows must be reported too."""
    _, data = _file([_refused([], text="\ud800,x")], encoding="utf-7")

    assert "\ud800,x" in data.decode("utf-7") or r"\ud800,x" in data.decode("utf-7")


def test_the_reason_is_ascii_and_has_every_fault() -> None:
    """So a spreadsheet shows it correctly in any encoding that it assumes."""
    row = RejectedRow(
        Record(2, 3, "raw", ["é", "山", "x", ""]),
        Rejection(
            2, 3, (Fault(Code.TYPE_ERROR, "age is 'é'", "age"), Fault(Code.BLANK_CELL, "name is blank", "name"))
        ),
    )
    _, data = _file([row])

    assert _read(data)[1][5] == r"[type-error] age is '\xe9' [blank-cell] name is blank"


def test_rows_of_a_check_name_an_import_that_no_ledger_has() -> None:
    _, data = _file([_refused(["a", "b", "c", "d"])], verdict=NO_VERDICT)

    assert _read(data)[1][7].startswith("i0-2-")


@given(one=st.lists(cells, min_size=4, max_size=4), other=st.lists(cells, min_size=4, max_size=4))
def test_the_name_contains_the_hash_of_the_file(one: list[str], other: list[str]) -> None:
    """Equal files have equal names, and different files have different names."""
    first, data = _file([_refused(one)])
    second, _ = _file([_refused(other)])

    assert first == f"rejected-{hashlib.sha256(data).hexdigest()[:12]}.csv"
    assert (first == second) == (one == other)
