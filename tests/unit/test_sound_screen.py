"""The fast way and the precise way give the same, whatever the file."""

import csv
import io
import re
from collections.abc import Iterable
from unittest.mock import patch

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.application import screening
from rollcall.application.dialect import Header, read_header
from rollcall.application.ports import Origin
from rollcall.application.records import RecordReader
from rollcall.application.rejected_rows import RejectedRow
from rollcall.application.screening import clean_records, screen
from rollcall.domain.user import COLUMNS, RULES, WHITE_SPACE, Text, User

# What a pattern that is a little too lax would let through.
TRAPS = (
    *"\x00\t\x0b\x0c\x1c\x1f\x7f\x85\x9f\xad\u00a0\u061c\u180e\u200b\u200d\u200e\u2028\u2029\u202e\u2066\u3000\ufeff",
    *"\"',;\t\\.|=",
    "\r",
    "\n",
    "\r\n",
    "\\.",
    "NULL",
    "é",
    "e\u0301",
    "山",
    "👩\u200d👧",
    "x" * 199,
    "x" * 200,
    "x" * 201,
)
AGES = ("0", "7", "42", "100", "149", "150", "151", "007", "1000", "-1", "+1", "1.0", "٣", "²", " 5", "5 ", "")

cells = st.lists(st.sampled_from([*TRAPS, "a", "B", "7", " ", "_"]), max_size=4).map("".join)
ages = st.sampled_from(AGES) | cells
line_ends = st.sampled_from(["\n", "\r\n", "\r", "\n\n"])


@attrs.frozen
class Judged:
    """All that comes of an upload behind its header."""

    rows: list[list[str]]
    lines: list[int]
    origins: list[Origin]
    rejected: list[RejectedRow]
    blank: int


def judged(pieces: Iterable[str]) -> Judged | None:
    """Screen an upload; None if its header is not understood."""
    reader = RecordReader(iter(pieces))
    header = read_header(reader)
    if not isinstance(header, Header):
        return None
    whole = Judged([], [], [], [], 0)
    for screened in screen(reader, header):
        assert "\r" not in screened.accepted.csv.decode()
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
    """Files that are nearly clean, under every header that the fast way takes."""
    labels = draw(st.permutations([*COLUMNS, *draw(st.lists(st.sampled_from(["id", "note"]), max_size=2))]))
    delimiter = draw(st.sampled_from([",", ";", "\t"]))
    end = draw(line_ends)
    records = [delimiter.join(labels)]
    for _ in range(draw(st.integers(0, 6))):
        record = [draw(ages) if label == "age" else draw(cells) for label in labels]
        if draw(st.booleans()):
            record = [cell if draw(st.booleans()) else "a" for cell in record]
        records.append(delimiter.join(record))
    if draw(st.booleans()):
        end = draw(line_ends)
    return end.join(records) + draw(st.sampled_from(["", "\n", "\r\n", "\r"]))


def one_trap_each() -> Iterable[str]:
    """Yield files of one row that is clean but for one trap in its name, or for its age."""
    for trap in TRAPS:
        for name in (trap, f"{trap}a", f"a{trap}", f"a{trap}a"):
            yield f"name,country,age\n{name},X,1\n"
            yield f"name;country;age\n{name};X;1\n"
    for age in AGES:
        yield f"name,country,age\na,X,{age}\n"


@pytest.mark.parametrize("text", list(one_trap_each()))
def test_one_trap_alone_is_not_taken_for_clean(text: str) -> None:
    """However clean the rest of the row is."""
    assert_sound(text)


@given(text=uploads(), size=st.sampled_from([1, 3, 1000]))
def test_screened_or_not_a_file_gives_the_same(text: str, size: int) -> None:
    """Rows, lines, rejections and blank rows, wherever the text is cut."""
    pieces = [text[start : start + size] for start in range(0, len(text), size)]

    with patch.object(screening, "clean_records", lambda _: None):
        precise = judged(pieces)

    assert precise == judged(pieces)


@given(text=uploads())
def test_what_is_taken_for_clean_parses_to_itself(text: str) -> None:
    """Every cell that the pattern lets through is the value that `User` makes of it."""
    assert_sound(text)


def assert_sound(text: str) -> None:
    """Check each clean run of an upload against the rules."""
    reader = RecordReader(iter([text]))
    header = read_header(reader)
    clean = clean_records(header) if isinstance(header, Header) else None
    if not clean:
        return
    _, run = reader.take_run(clean.pattern)
    for row in clean.as_rows(run).split("\n")[:-1]:
        assert '"' not in row, "COPY would take it for the beginning of a quoted cell"
        cells = row.split(",")
        user = User.parse(cells)
        assert isinstance(user, User)
        assert cells == [str(value) for value in user.values()]


@pytest.mark.parametrize(
    ("strict", "lax"),
    [
        (r"(?=\w)", ""),
        (f"(?<![{WHITE_SPACE}])", ""),
        (r"\u2028", ""),
        (r"\u202a-\u202e", ""),
        (r"\x00-\x1f", r"\n"),
        (r"{1,200}", r"{1,201}"),
        ('",', ","),
        (",;", ";"),
    ],
)
def test_a_laxer_pattern_is_found_out(strict: str, lax: str) -> None:
    """The checks above bite: take one thing away from the pattern, and a file shows it."""

    def laxer(rule: Text, without: str = "") -> str:
        pattern = clean(rule, without)
        return pattern.replace(strict, lax)

    def unsound(text: str) -> bool:
        try:
            assert_sound(text)
        except (AssertionError, ValueError):
            return True
        return False

    clean = Text.clean
    with patch.object(Text, "clean", laxer):
        found = [text for text in one_trap_each() if unsound(text)]

    assert found
    assert not any(map(unsound, found))


@given(text=cells | ages)
def test_clean_text_is_its_own_value(text: str) -> None:
    """For every rule by itself, too."""
    for rule in RULES:
        if re.fullmatch(rule.clean(), text):
            value = rule.parse(text)

            assert isinstance(value, str | int)
            assert text == str(value)


@pytest.mark.parametrize("label_line", ["name,country,age", "age;country;name", "id\tname\tcountry\tage"])
def test_what_people_write_is_clean(label_line: str) -> None:
    """A screen that lets nothing through would be sound, and slow."""
    reader = RecordReader(iter([label_line + "\n"]))
    header = read_header(reader)
    assert isinstance(header, Header)
    clean = clean_records(header)
    assert clean

    for name in ("Taro", "Søren Ørsted", "O'Brien", "山田太郎", "Jean-Luc B. d'Arc (jr.)"):
        cells = {"name": name, "country": "Côte d'Ivoire", "age": "150", "id": ""}
        line = header.delimiter.join(cells[label] for label in header.labels)

        assert clean.pattern.fullmatch(line + "\n")
        assert clean.pattern.fullmatch(line + "\r\n")
