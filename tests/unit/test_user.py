"""The rule of each field of a user."""

import re
import sys
import unicodedata

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from rollcall.domain.fields import WholeNumber, is_blank
from rollcall.domain.rejection import Code, Fault, counted, preview
from rollcall.domain.user import USERS, User
from support.builders import ANN, USUAL, a_user, row_of
from support.reference_reader import (
    BIDI_CONTROLS,
    age_verdict,
    is_forbidden,
    is_white_space,
    row_verdict,
    text_verdict,
)
from support.reference_reader import is_blank as looks_blank

_WHITE_SPACE = "".join(filter(is_white_space, map(chr, range(sys.maxunicode + 1))))
_NASTY = _WHITE_SPACE + BIDI_CONTROLS
_NASTY += "\0\x1c\x1f\x7f\u200b\u200d\u200e\ufeff\ud800\U000e0001é👨👩\"',;=0123456789-+."

cells = st.text(st.sampled_from(_NASTY) | st.characters(exclude_categories=()), max_size=30)
padding = st.text(st.sampled_from(_WHITE_SPACE), max_size=5)
ages = st.integers(0, 150)


def _judged(column: str, cell: str) -> str | int | Fault:
    """Parse one cell in a row whose other cells are good."""
    judged = USERS.parse(list({**USUAL, column: cell}.values()))
    if isinstance(judged, User):
        value: str | int = getattr(judged, column)
        return value
    (fault,) = judged
    return fault


def _code(judged: str | int | Fault) -> str | int:
    return judged.code if isinstance(judged, Fault) else judged


@given(cell=cells)
def test_text_is_judged_as_the_contract_says(cell: str) -> None:
    """Trimmed, then blank, too long, forbidden, or the value as uploaded."""
    assert _code(_judged("name", cell)) == text_verdict(cell)
    assert _code(_judged("country", cell)) == text_verdict(cell)


@given(cell=cells | st.text("0123456789", max_size=6) | st.from_regex(r"\s*[-+]?0*[0-9]{1,4}(\.0|e2)?\s*"))
def test_age_is_judged_as_the_contract_says(cell: str) -> None:
    """Trimmed, then blank, not a whole number, out of range, or the number."""
    assert _code(_judged("age", cell)) == age_verdict(cell)


def test_every_special_character_is_judged_as_the_contract_says() -> None:
    """Inside a text, at its end, and alone: controls, formats, separators, surrogates, marks."""
    special = [
        chr(point)
        for point in range(sys.maxunicode + 1)
        if unicodedata.category(chr(point)) in {"Cc", "Cf", "Cs", "Zs", "Zl", "Zp", "Me"}
    ]
    wrong = [
        hex(ord(character))
        for character in special
        for cell in (f"a{character}b", f"a{character}", character)
        if _code(_judged("name", cell)) != text_verdict(cell)
    ]

    assert wrong == []
    assert len(special) > 2048


@given(text=cells)
def test_blank_is_what_shows_nothing(text: str) -> None:
    """White space and format characters, or nothing at all."""
    assert is_blank(text) == looks_blank(text)


@given(before=padding, after=padding)
def test_white_space_around_a_value_is_trimmed(before: str, after: str) -> None:
    """All of Unicode's white space, at both ends."""
    assert _judged("name", f"{before}Ann Lee{after}") == "Ann Lee"
    assert _judged("age", f"{before}30{after}") == 30


@pytest.mark.parametrize("control", ["\x1c", "\x1d", "\x1e", "\x1f"])
def test_information_separators_are_controls_and_not_white_space(control: str) -> None:
    """Though `str.strip` would remove them."""
    assert _code(_judged("name", f"Ann{control}")) == Code.FORBIDDEN_VALUE
    assert _code(_judged("name", control)) == Code.FORBIDDEN_VALUE
    assert _code(_judged("age", f"30{control}")) == Code.TYPE_ERROR


@pytest.mark.parametrize("cell", ["", " ", "\t", "\u3000", "\u200b", "\ufeff", " \u200b\u00a0\u2060 ", "\u202e"])
def test_a_cell_without_a_visible_character_is_blank(cell: str) -> None:
    """In a text and in a number."""
    assert _code(_judged("name", cell)) == Code.BLANK_CELL
    assert _code(_judged("age", cell)) == Code.BLANK_CELL


@pytest.mark.parametrize(
    ("cell", "verdict"),
    [
        ("x", "x"),
        ("x" * 200, "x" * 200),
        ("x" * 201, Code.CONSTRAINT_ERROR),
        (" " + "x" * 200 + " ", "x" * 200),
        ("👍" * 200, "👍" * 200),
        ("👍" * 201, Code.CONSTRAINT_ERROR),
        ("u\u0308" * 100, "u\u0308" * 100),
        ("u\u0308" * 101, Code.CONSTRAINT_ERROR),
    ],
)
def test_a_text_has_1_to_200_code_points_after_trimming(cell: str, verdict: str | Code) -> None:
    """Counted in code points, not in bytes or graphemes."""
    assert _code(_judged("name", cell)) == verdict


@pytest.mark.parametrize("character", [*"\0\n\r\t\x85\u2028\u2029\ud800", *BIDI_CONTROLS])
def test_a_forbidden_character_inside_a_text_is_named(character: str) -> None:
    """By its code point, because it is invisible."""
    judged = _judged("name", f"Ann{character}Lee")

    assert is_forbidden(character)
    assert isinstance(judged, Fault)
    assert judged.code is Code.FORBIDDEN_VALUE
    assert f"U+{ord(character):04X}" in judged.message


@pytest.mark.parametrize(
    "text",
    [
        "👨\u200d👩\u200d👧",
        "می\u200cشود",
        "a\u200eb",
        "u\u0308",
        "ü",
        "MASSE",
        "Maße",
        "O'Brien",
        '"',
        "=1+1",
        "ﬁ",
    ],
)
def test_a_text_is_stored_as_uploaded(text: str) -> None:
    """Joiners stay, nothing is folded or normalised, and no character is special."""
    assert _judged("name", text) == text


@pytest.mark.parametrize(
    ("cell", "verdict"),
    [
        ("0", 0),
        ("150", 150),
        ("151", Code.CONSTRAINT_ERROR),
        ("007", 7),
        ("0" * 5000, 0),
        ("0" * 5000 + "150", 150),
        ("0" * 5000 + "151", Code.CONSTRAINT_ERROR),
        ("9" * 5000, Code.CONSTRAINT_ERROR),
        ("1" + "0" * 20, Code.CONSTRAINT_ERROR),
        ("-5", Code.TYPE_ERROR),
        ("-0", Code.TYPE_ERROR),
        ("+5", Code.TYPE_ERROR),
        ("1.0", Code.TYPE_ERROR),
        ("1e2", Code.TYPE_ERROR),
        ("1_0", Code.TYPE_ERROR),
        ("0x1f", Code.TYPE_ERROR),
        ("5 5", Code.TYPE_ERROR),
        ("３０", Code.TYPE_ERROR),  # noqa: RUF001 - full-width digits, as a Japanese keyboard types them
        ("٣٠", Code.TYPE_ERROR),
        ("²", Code.TYPE_ERROR),
        ("thirty", Code.TYPE_ERROR),
        ("30\u200b", Code.TYPE_ERROR),
        ("", Code.BLANK_CELL),
    ],
)
def test_an_age_is_ascii_digits_from_0_to_150(cell: str, verdict: int | Code) -> None:
    """Any number of leading zeros is ignored; signs, points and other digits are not."""
    assert _code(_judged("age", cell)) == verdict


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("３１", "age is '３１', not in half-width digits (0-9); give 31"),  # noqa: RUF001 - full-width digits
        ("０３１", "age is '０３１', not in half-width digits (0-9); give 31"),  # noqa: RUF001 - as before
        ("3１", "age is '3１', not in half-width digits (0-9); give 31"),  # noqa: RUF001 - as before
        ("٣١", "age is '٣١', not in half-width digits (0-9); give 31"),
        ("９" * 5000, f"age is '{'９' * 40}...', not in half-width digits (0-9); give 0 to 150"),  # noqa: RUF001 - as before
        ("３１歳", "age is '３１歳', not a whole number; give digits only, 0 to 150"),
        ("²", "age is '²', not a whole number; give digits only, 0 to 150"),
    ],
)
def test_digits_of_other_forms_are_given_in_half_width(cell: str, message: str) -> None:
    """The advice "give digits only" would not help: they are digits."""
    assert _judged("age", cell) == Fault(Code.TYPE_ERROR, message, "age")


@given(row=st.tuples(*[cells | ages.map(str)] * len(USERS.columns)))
def test_all_bad_cells_of_a_row_are_reported(row: tuple[str, ...]) -> None:
    """One fault for each, in the order of the fields, with the name of its column."""
    expected = [
        (column, verdict)
        for column, verdict in zip(USERS.columns, row_verdict(row), strict=True)
        if isinstance(verdict, Code)
    ]
    judged = USERS.parse(row)
    faults = () if isinstance(judged, User) else judged

    assert [(fault.column, fault.code) for fault in faults] == expected
    assert all(fault.message.startswith(f"{fault.column} ") for fault in faults)


@given(row=st.tuples(*[cells | ages.map(str)] * len(USERS.columns)))
def test_the_text_of_a_value_parses_to_the_value(row: tuple[str, ...]) -> None:
    """An accepted value is accepted unchanged again."""
    user = USERS.parse(row)

    assert not isinstance(user, User) or USERS.parse([str(value) for value in USERS.values(user)]) == user


@given(column=st.sampled_from(USERS.columns), cell=cells, times=st.integers(1, 400))
def test_a_message_about_a_long_cell_is_one_short_line(column: str, cell: str, times: int) -> None:
    """It fits in a table, a terminal or a log line."""
    judged = _judged(column, cell * times)

    assert not isinstance(judged, Fault) or judged.message.isprintable()
    assert not isinstance(judged, Fault) or len(judged.message) <= 200


def test_a_cell_of_invisible_characters_is_shown_briefly() -> None:
    """Though each is shown as an escape of ten characters."""
    assert len(preview("\U000e0001" * 500)) <= 50


def test_a_number_of_things_is_written_with_its_noun() -> None:
    """In the singular for one, and with commas."""
    assert [counted(number, "row") for number in (0, 1, 2, 1234)] == ["0 rows", "1 row", "2 rows", "1,234 rows"]


def test_a_short_cell_is_shown_whole_and_a_long_one_cut() -> None:
    """So a person can recognise it."""
    assert preview("thirty") == "'thirty'"
    assert preview("x" * 40) == f"'{'x' * 40}'"
    assert preview("x" * 41) == f"'{'x' * 40}...'"
    assert preview("a\nb\u202ec") == r"'a\nb\u202ec'"


@pytest.mark.parametrize(
    "values",
    [
        {"name": " S3CRET"},
        {"name": "S3CRET\0"},
        {"name": "S3CRET" * 40},
        {"country": "S3CRET\u2028x"},
        {"name": ""},
        {"name": 5},
        {"age": 151},
        {"age": -1},
        {"age": "30"},
        {"age": 1.0},
        {"age": True},
        {"age": None},
    ],
)
def test_an_invalid_user_cannot_be_built(values: dict[str, object]) -> None:
    """The message does not show the value, because exceptions are logged."""
    with pytest.raises(ValueError, match=r"^User\.(name|country|age) breaks its rule$"):
        User(**{**attrs.asdict(ANN), **values})


def test_the_columns_are_the_attributes() -> None:
    """A field is declared once."""
    assert tuple(attrs.fields_dict(User)) == USERS.columns
    assert USERS.columns == ("name", "country", "age")


def test_a_row_with_missing_or_extra_cells_raises() -> None:
    """Otherwise cells could shift silently into the wrong column."""
    with pytest.raises(ValueError, match="zip"):
        USERS.parse(["Ann", "Chile"])


@given(
    name=cells | st.sampled_from(["A" * 200, "é" * 201]), age=cells | st.sampled_from(["0", "150", "151", "007"])
)
def test_every_accepted_value_matches_its_json_schema(name: str, age: str) -> None:
    """And so does the whole user."""
    user = USERS.parse(row_of(name, "Chile", age))

    if isinstance(user, User):
        assert Draft202012Validator(USERS.schema()).is_valid(attrs.asdict(user))


@given(limits=st.tuples(st.integers(0, 1100), st.integers(0, 1100)).map(sorted))
def test_the_clean_numbers_are_those_of_the_range(limits: list[int]) -> None:
    least, most = limits
    clean = re.compile(WholeNumber(minimum=least, maximum=most).clean())

    assert [number for number in range(1200) if clean.fullmatch(f"{number}")] == [*range(least, most + 1)]


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"name": ""}, "minLength"),
        ({"name": "é" * 201}, "maxLength"),
        ({"country": "a\u202eb"}, "pattern"),
        ({"country": "a\0"}, "pattern"),
        ({"name": None}, "type"),
        ({"age": -1}, "minimum"),
        ({"age": 151}, "maximum"),
        ({"age": "30"}, "type"),
        ({"shoe size": 41}, "additionalProperties"),
    ],
)
def test_the_json_schema_has_the_limits_of_the_rules(values: dict[str, object], fault: str) -> None:
    good = attrs.asdict(a_user("é" * 200, "Chile", 150))
    validator = Draft202012Validator(USERS.schema())

    assert validator.is_valid(good)
    assert [error.validator for error in validator.iter_errors({**good, **values})] == [fault]
