"""The fast path and the precise path of the screen give the same result for any file."""

import csv
import io
import re
import string
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from unittest.mock import patch

import attrs
import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from rollcall.application import screening
from rollcall.application.clean_records import CleanRecords, InPlace, OutOfPlace, clean_records
from rollcall.application.header import DELIMITERS, Header, read_header
from rollcall.application.records import RecordReader, as_utf8
from rollcall.application.rejected_rows import RejectedRow
from rollcall.application.screening import screen
from rollcall.domain.correction import Origin
from rollcall.domain.fields import WHITE_SPACE, Text
from rollcall.domain.rejection import Code, Fault
from rollcall.domain.user import USERS, User
from support.builders import USUAL, completed_text, reader_of
from support.fast_path import BARE_AGES, BARE_TRAPS, MISSHAPEN, without_fast_path
from support.strategies import is_clean

Forms = Callable[[Header], Sequence[CleanRecords]]

# Text that a slightly too lax pattern would accept.
TRAPS = (*BARE_TRAPS, "\r", "\n", "\r\n", "\ud800", "\udfff")

# All that a line `sep=` allows.
EVERY_DELIMITER = (string.punctuation + "\t ").replace('"', "")

# Padding and quotes around a cell, valid or not.
WRAPPINGS = ('"{}"', " {} ", "\t{}", ' "{}"', '"{}" ', '" {} "', '"{}"x', '"{}', '{}"', '""{}""', "{}\u00a0")

bare_cells = st.lists(st.sampled_from([*TRAPS, "a", "B", "7", " ", "_"]), max_size=4).map("".join)
wrappings = st.sampled_from(["{}", *WRAPPINGS])
cells = st.builds(str.format, wrappings, bare_cells)
ages = st.builds(str.format, wrappings, st.sampled_from(BARE_AGES)) | cells
line_ends = st.sampled_from(["\n", "\r\n", "\r", "\n\n"])


@attrs.frozen
class Judged:
    """Result of screening the rows of an upload."""

    rows: list[list[str]]
    lines: list[int]
    origins: list[Origin]
    rejected: list[RejectedRow]
    blank: int


def judged(pieces: Iterable[bytes], rejected_on_merge: Iterable[int] = ()) -> Judged | None:
    """Screen an upload in which some lines are rejected as duplicates; return None if its header has a fault."""
    reader = RecordReader(iter(pieces))
    header = read_header(reader, USERS)
    if not isinstance(header, Header):
        return None
    whole = Judged([], [], [], [], 0)
    faults = [(line, Fault(Code.DUPLICATE_ROW, "is there already")) for line in sorted(rejected_on_merge)]
    for screened in screen(reader, header, faults):
        assert b"\r" not in screened.accepted.csv
        rows = csv.reader(io.StringIO(screened.accepted.csv.decode(), newline=""), strict=True)
        whole = Judged(
            whole.rows + list(rows),
            whole.lines + list(screened.accepted.lines),
            whole.origins + list(screened.accepted.origins or ()),
            whole.rejected + list(screened.rejected),
            whole.blank + screened.blank,
        )
    assert len(whole.rows) == len(whole.lines)
    return whole


@st.composite
def uploads(draw: st.DrawFn) -> str:
    """Files that are nearly clean, under every header that the fast path accepts."""
    labels = draw(st.permutations([*USERS.columns, *draw(st.lists(st.sampled_from(["id", "note"]), max_size=2))]))
    delimiter = draw(st.sampled_from(",;\t") | st.sampled_from(EVERY_DELIMITER))
    end = draw(line_ends)
    records = [delimiter.join(labels)]
    records.insert(0, f"sep={delimiter}")
    for _ in range(draw(st.integers(0, 6))):
        record = [draw(ages) if label == "age" else draw(cells) for label in labels]
        if draw(st.booleans()):
            record = [cell if draw(st.booleans()) else "7" for cell in record]
        records.append(delimiter.join(record))
    if draw(st.booleans()):
        end = draw(line_ends)
    return end.join(records) + draw(st.sampled_from(["", "\n", "\r\n", "\r"]))


def one_trap_each(delimiter: str) -> Iterable[str]:
    """Yield files with one row that is clean except for one trap in a cell, or for its shape."""
    for rows in _one_trap_each(("{}", "{}a", "a{}", "a{}a") if delimiter in DELIMITERS else ("{}a",)):
        yield completed_text(f"sep={delimiter}\n" + rows.replace(",", delimiter))
        if delimiter != "," and "|" not in rows:
            # The commas are part of a cell.
            yield completed_text(
                f"sep={delimiter}\n" + rows.replace("a,", "a|").replace(",", delimiter).replace("|", ",")
            )


def _one_trap_each(around: Sequence[str]) -> Iterable[str]:
    for trap in TRAPS:
        for bare in (places.format(trap) for places in around):
            for name in (bare, f'"{bare}"', f" {bare} "):
                yield f"name,country,age\n{name},X,1\n"
            for note in (bare, f'"{bare}"'):
                yield f"note,name,country,age\n{note},a,X,1\n"
    for wrapping in WRAPPINGS:
        yield f"name,country,age\n{wrapping.format('a')},X,1\n"
        yield f"country,name,age,note\nX,{wrapping.format('a')},1,{wrapping.format('b')}\n"
    for age in BARE_AGES:
        for cell in (age, f'"{age}"', f" {age} "):
            yield f"name,country,age\na,X,{cell}\n"
    for row in MISSHAPEN:
        yield f"name,country,age\na,X,1\n{row}b,Y,2\n"
        yield f"note,name,country,age\n, a ,X,1\n{row}, b ,Y,2\n"
        yield f"name,country,age,note\n a ,X,1,\n{row} b ,Y,2,\n"


@pytest.mark.parametrize("delimiter", EVERY_DELIMITER)
def test_a_single_trap_is_not_taken_for_clean(delimiter: str) -> None:
    """In a row that is otherwise clean."""
    for text in one_trap_each(delimiter):
        assert_sound(text)


@given(
    text=uploads(), size=st.sampled_from([1, 3, 1000]), rejected_on_merge=st.sets(st.integers(2, 9), max_size=4)
)
def test_the_fast_path_and_the_precise_path_agree(text: str, size: int, rejected_on_merge: set[int]) -> None:
    """Rows, lines, rejections and blank rows, for pieces of any size and any lines rejected as duplicates."""
    data = as_utf8(text)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]

    with without_fast_path():
        precise = judged(pieces, rejected_on_merge)

    with patch.object(screening, "WORTHWHILE_BYTES", 0):
        assert precise == judged(pieces, rejected_on_merge)


@given(text=uploads())
def test_a_clean_cell_parses_to_itself(text: str) -> None:
    """Every cell that the pattern accepts is the value that `User` parses from it."""
    assert_sound(text)


def clean_runs(text: str, forms: Forms) -> Iterable[tuple[Header, str, str]]:
    """Yield each kind of clean run at the beginning of an upload, as uploaded and as passed on."""
    header = read_header(reader_of(text), USERS)
    if not isinstance(header, Header):
        return
    for records in forms(header):
        reader = reader_of(text)
        read_header(reader, USERS)
        lines, rows = records.take(reader)
        assert lines.stop == reader.line
        yield header, _lines(text, lines.start, lines.stop), rows.decode(errors="surrogatepass")


def _lines(text: str, first: int, end: int) -> str:
    """Return the lines of a text from `first` up to, but not including, `end`."""
    return "".join(re.findall(r"[^\r\n]*(?:\r\n|\r|\n)", text)[first - 1 : end - 1])


def assert_sound(text: str, forms: Forms = clean_records) -> None:
    """Check each clean run of an upload against the rules."""
    for header, run, rows in clean_runs(text, forms):
        in_the_file = csv.reader(io.StringIO(run, newline=""), delimiter=header.delimiter, strict=True)
        users = [USERS.parse(header.cells_of(cells)) for cells in in_the_file]
        values = [[str(value) for value in USERS.values(user)] for user in users if isinstance(user, User)]

        assert len(values) == len(users) == rows.count("\n")
        assert not rows or rows.endswith("\n")
        assert "\r" not in rows
        assert list(as_copy_reads(rows)) == values


def as_copy_reads(rows: str) -> Iterator[list[str]]:
    """Read CSV as PostgreSQL does: a quote opens and closes anywhere in a cell."""
    record, cell = list[str](), ""
    for piece in re.findall(r'"(?:[^"]|"")*"|[,\n]|[^",\n]+', rows):
        if piece in {",", "\n"}:
            record.append(cell)
            cell = ""
            if piece == "\n":
                yield record
                record = []
        else:
            cell += piece[1:-1].replace('""', '"') if piece.startswith('"') else piece


@pytest.mark.parametrize(
    ("strict", "lax"),
    [
        (r"[\pL\pN]", ""),
        (f"{WHITE_SPACE}]", "]"),
        (r"\x{2028}", ""),
        (r"\x{202a}-\x{202e}", ""),
        (r"\x{d800}-\x{dfff}", ""),
        (r"\x00-\x1f", r"\n"),
        ('",', ","),
        ('",', '"'),
        ('"', ""),
    ],
)
def test_a_laxer_rule_is_noticed(strict: str, lax: str) -> None:
    """The checks above notice it if a rule's clean pattern loses one of its parts."""

    def laxer(rule: Text, without: str = "") -> str:
        return clean(rule, without).replace(strict, lax)

    clean = Text.clean
    with patch.object(Text, "clean", laxer):
        assert_found_out()


@pytest.mark.parametrize(
    ("name", "lax"),
    [
        ("rollcall.application.clean_records._LINE_END", r"\r?\n?"),
        ("rollcall.application.clean_records._PADDING", b" \t_"),
        ("rollcall.application.clean_records.InPlace.short_line", 220),
        ("rollcall.domain.fields.Text.clean_length", 201),
    ],
)
def test_a_laxer_form_is_noticed(name: str, lax: object) -> None:
    """The same for what surrounds the rules."""
    with patch(name, lax):
        assert_found_out()


@attrs.frozen
class LaxOutOfPlace(OutOfPlace):
    """Records out of place, in some way too lax."""

    strict: bytes = b""
    lax: bytes = b""
    forgive: Callable[[Header, bytes], bytes] = lambda _, lines: lines

    def _rows(self, lines: bytes) -> bytes:
        return super()._rows(self.forgive(self.header, lines))

    def _record_of(self, group: bytes) -> bytes:
        return (
            super()._record_of(group).replace(self.strict, self.lax) if self.strict else super()._record_of(group)
        )


@pytest.mark.parametrize(
    ("strict", "lax"),
    [
        (rb'"[^"\r\n]*+"', rb'"[^"\r\n]*+"?'),
        (rb'"[^"\r\n]*+"', rb'"[^"\n]*+"'),
        (rb'|[^"', rb"|[^"),
    ],
)
def test_a_laxer_frame_is_noticed(strict: bytes, lax: bytes) -> None:
    """The same for the pattern of a record with quotes."""
    assert_found_out(lambda header: [LaxOutOfPlace(header, InPlace(USERS), strict, lax)])


def refilled(header: Header, lines: bytes) -> bytes:
    """Put all cells of some lines into records of the right width."""
    mark = header.delimiter.encode()
    *cells, _ = lines.replace(b"\r\n", b"\n").replace(b"\n", mark).split(mark)
    width = len(header.labels)
    records = [cells[at : at + width] for at in range(0, len(cells) - width + 1, width)]
    return b"".join(mark.join(record) + b"\n" for record in records)


def of_width(header: Header, lines: bytes) -> bytes:
    """Give each line the right number of cells: the first ones, or empty ones after the last."""
    mark, width = header.delimiter.encode(), len(header.labels)
    *records, _ = (line.removesuffix(b"\r").split(mark) for line in lines.split(b"\n"))
    return b"".join(mark.join((record + [b""] * width)[:width]) + b"\n" for record in records)


@pytest.mark.parametrize(
    "forgive",
    [
        lambda _, lines: lines.replace(b"\r\n", b"\n").replace(b"\r", b" "),
        lambda _, lines: lines.replace(b"\r\n", b"\n").replace(b"\r", b"\n"),
        lambda _, lines: lines.replace("\u3000".encode(), b" "),
        lambda _, lines: lines.replace(b" ", b""),
        lambda _, lines: lines.replace(b'"', b""),
        lambda _, lines: lines.replace(b",", b""),
        of_width,
        refilled,
    ],
    ids=[
        *("a lone CR is padding", "a lone CR ends a line", "any space is padding", "no space", "no quote"),
        *("no comma", "width", "refilled"),
    ],
)
def test_a_laxer_split_is_noticed(forgive: Callable[[Header, bytes], bytes]) -> None:
    """The same for the code that splits lines."""
    assert_found_out(lambda header: [LaxOutOfPlace(header, InPlace(USERS), forgive=forgive)])


def assert_found_out(forms: Forms = clean_records) -> None:
    """Check that a file with one trap shows the unsoundness."""

    def unsound(text: str) -> bool:
        try:
            assert_sound(text, forms)
        except (AssertionError, IndexError, ValueError, csv.Error):
            return True
        return False

    assert any(unsound(text) for delimiter in ",;" for text in one_trap_each(delimiter))


@given(text=cells | ages)
def test_clean_text_is_its_own_value(text: str) -> None:
    """For each rule by itself."""
    for rule in USERS.rules:
        if is_clean(rule, text):
            value = rule.parse(text)

            assert isinstance(value, str | int)
            assert text == str(value)


@pytest.mark.parametrize("around", ["{}", "a{}", "a{}a"])
def test_no_character_is_clean_that_a_rule_rejects(around: str) -> None:
    """Of all code points: the classes of RE2 and those of this Python are not the same."""
    texts = [around.format(chr(point)) for point in range(sys.maxunicode + 1)]
    for rule in set(USERS.rules):
        pattern = re2.compile(rule.clean())
        clean = [text for text in texts if pattern.fullmatch(text.encode(errors="surrogatepass"))]

        assert [str(rule.parse(text)) for text in clean] == clean


@pytest.mark.parametrize("label_line", ["name,country,age", "age;country;name", "id\tname\tcountry\tage"])
def test_ordinary_rows_are_clean(label_line: str) -> None:
    """A screen that accepts nothing would be sound, but slow."""
    header = read_header(reader_of(completed_text(label_line + "\n")), USERS)
    assert isinstance(header, Header)
    kinds = clean_records(header)

    def takes_all(records: CleanRecords, line: str) -> bool:
        reader = reader_of(line * 7)
        return records.take(reader)[1].count(b"\n") == 7 and reader.take(header.delimiter) is None

    for name in ("Taro", "Søren Ørsted", "O'Brien", "山田太郎", "Jean-Luc B. d'Arc (jr.)"):
        cells = {**USUAL, "name": name, "country": "Côte d'Ivoire", "age": "150", "id": ""}
        line = header.delimiter.join(cells[label] for label in header.labels)

        assert all(takes_all(records, line + "\n") for records in kinds)
        assert all(takes_all(records, line + "\r\n") for records in kinds)
        quoted = header.delimiter.join(f'"{cell}"' for cell in line.split(header.delimiter))
        assert all(takes_all(records, quoted + "\n") for records in kinds)
        padded = header.delimiter.join(f" {cell} " for cell in line.split(header.delimiter))
        assert all(takes_all(records, padded + "\n") for records in kinds[-1:])


@given(
    lengths=st.lists(
        st.tuples(st.sampled_from([1, 20, 199, 200, 201]), st.sampled_from("aé山😀"), st.sampled_from(["", '"'])),
        min_size=1,
        max_size=6,
    ),
    many=st.sampled_from([1, 100]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_long_lines_are_judged_alike(lengths: list[tuple[int, str, str]], many: int, end: str) -> None:
    """With cells around the limit, which have one to four bytes a character."""
    rows = [f"{quote}{character * length}{quote},{'x' * 190},1{end}" for length, character, quote in lengths]
    text = completed_text(f"name,country,age{end}{''.join(rows * many)}")
    pieces = [text.encode()]

    with patch.object(screening, "WORTHWHILE_BYTES", 0):
        fast = judged(pieces)
    with without_fast_path():
        assert judged(pieces) == fast
