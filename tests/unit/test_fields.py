"""The kinds of fields: every view of a rule agrees with every other, for any declaration."""

import json
import re
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import attrs
import pytest
import re2
from hypothesis import assume, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from rollcall.domain.errors import DeclarationError
from rollcall.domain.fields import (
    Boolean,
    Choice,
    Date,
    DecimalNumber,
    Email,
    Rule,
    Text,
    Uuid,
    WholeNumber,
    as_json,
)
from rollcall.domain.patterns import Pattern
from rollcall.domain.record import RecordType, field
from rollcall.domain.rejection import Fault
from support.strategies import cells_for, invalid_cells, is_clean, patterns, rules, valid_cells, values

CUT = Text(max_length=9, pattern="[0-9]{3}-[0-9]{4}", example="123-4567")
MONEY = DecimalNumber(digits=10, places=2)
DAY = Date(formats=("D.M.YYYY",), earliest=date(1900, 1, 1), latest=date(2099, 12, 31))
ANSWER = Boolean(true=("yes", "はい"), false=("no", "いいえ"))
ROLE = Choice(values=("member", "Guest.2"))
COUNTRY = Choice(values=tuple(f"country {number}" for number in range(249)), any_case=True)

# Insertions that a careless pattern would let pass. The Kelvin sign and the long s are k and s in another case.
TRAPS = (
    *" \t\n\r\0\x1f\x85\u3000\u200b\u202e\"',;\\=+-._@0179aAkKsSM",
    *("\u212a", "\u017f", "\u0663", "\uff11", "é"),
)
FORMATS = "'YYYY-MM-DD' or 'D.M.YYYY', 1900-01-01 to 2099-12-31"
WORDS = {True: ("true", "t", "yes", "y", "on", "1"), False: ("false", "f", "no", "n", "off", "0")}
LENGTH_OF_A_MESSAGE = 250


@st.composite
def rules_and_values(draw: st.DrawFn) -> tuple[Rule, Any]:
    rule = draw(rules())
    return rule, draw(values(rule))


@st.composite
def rules_and_cells(draw: st.DrawFn) -> tuple[Rule, str]:
    """Rules with cells that are valid, or nearly so, or not."""
    rule = draw(rules())
    value = draw(values(rule))
    cell = draw(
        st.one_of(
            st.just(rule.text(value)), valid_cells(rule), invalid_cells(rule).map(lambda invalid: invalid[0])
        )
    )
    if draw(st.booleans()):
        start = draw(st.integers(0, len(cell)))
        cell = cell[:start] + draw(st.sampled_from(TRAPS)) + cell[start + draw(st.integers(0, 1)) :]
    return rule, cell


@given(data=st.data(), pair=rules_and_values())
def test_a_cell_parses_to_its_value(data: st.DataObject, pair: tuple[Rule, Any]) -> None:
    rule, value = pair
    parsed = rule.parse(data.draw(cells_for(rule, value)))

    assert parsed == value
    assert type(parsed) is type(value)


@given(data=st.data(), rule=rules())
def test_an_invalid_cell_has_the_fault_of_its_kind(data: st.DataObject, rule: Rule) -> None:
    cell, code = data.draw(invalid_cells(rule))
    fault = rule.parse(cell)

    assert isinstance(fault, Fault)
    assert fault.code == code


@given(pair=rules_and_cells())
def test_a_message_is_one_short_line(pair: tuple[Rule, str]) -> None:
    rule, cell = pair
    judged = rule.parse(cell)

    assert not isinstance(judged, Fault) or judged.message.isprintable()
    assert not isinstance(judged, Fault) or len(judged.message) <= LENGTH_OF_A_MESSAGE


def is_sound(rule: Rule, cell: str) -> bool:
    """Whether a text that is clean is also the text of its value. PostgreSQL knows other words for a boolean."""
    for without in ("", '"', '",'):
        if is_clean(rule, cell, without):
            value = rule.parse(cell)
            if isinstance(value, Fault) or set(without) & set(cell):
                return False
            if cell != rule.text(value) and not (isinstance(value, bool) and cell.lower() in WORDS[value]):
                return False
    return True


@given(pair=rules_and_cells())
def test_clean_text_is_the_text_of_its_value(pair: tuple[Rule, str]) -> None:
    rule, cell = pair

    assert is_sound(rule, cell)


ORDINARY = [
    (CUT, ["123-4567"]),
    (Text(max_length=9, pattern=r"[ -~]+", example="a"), ["a'b"]),
    (MONEY, ["0.00", "12345678.90", "-1.50"]),
    (DecimalNumber(digits=3, places=0), ["0", "-999"]),
    (DAY, ["1900-01-01", "2023-02-28", "2024-04-30", "2099-12-30"]),
    (Date(), ["1000-01-01", "9999-12-31"]),
    (ANSWER, ["true", "FALSE", "Yes", "no"]),
    (ROLE, ["member", "Guest.2"]),
    (COUNTRY, ["country 17"]),
    (Email(), ["ann@example.com", "o'brien+x@a.b-c.example", f"a@{'x' * 63}"]),
    (Uuid(), ["123e4567-e89b-12d3-a456-426614174000"]),
]


@pytest.mark.parametrize(("rule", "cells"), ORDINARY)
def test_ordinary_text_is_clean(rule: Rule, cells: list[str]) -> None:
    """A pattern that matches nothing would be sound, but slow."""
    assert all(is_clean(rule, cell, '",') for cell in cells)


def unsound(rule: Rule, cells: list[str]) -> bool:
    """Whether a text is wrongly clean that differs from one of these cells in one place."""
    return not all(
        is_sound(rule, cell[:start] + trap + cell[end:])
        for cell in cells
        for start in range(len(cell) + 1)
        for end in (start, start + 1)
        for trap in ("", *TRAPS)
    )


@pytest.mark.parametrize(("rule", "cells"), ORDINARY)
def test_no_text_beside_an_ordinary_one_is_wrongly_clean(rule: Rule, cells: list[str]) -> None:
    assert not unsound(rule, cells)


@pytest.mark.parametrize(
    ("kind", "strict", "lax"),
    [
        (Text, "[", "[ "),
        (Text, "{4}", "{4,5}"),
        (DecimalNumber, "[1-9]", "[0-9]"),
        (DecimalNumber, "(?:0|", "(?:-?0|"),
        (DecimalNumber, r"\.", "."),
        (DecimalNumber, "{2}", "{1,2}"),
        (DecimalNumber, "{0,7}", "*"),
        (Date, "[0-8]", "[0-9]"),
        (Date, "|30)", "|3[01])"),
        (Date, "3[01]", "3[0-9]"),
        (Boolean, "[sS]", "[sS\u017f]"),
        (Boolean, "|", "|no?|"),
        (Choice, r"\x{2e}", "."),
        (Choice, "member", "[mM]ember"),
        (Email, "{0,61}", "*"),
        (Email, "[a-zA-Z0-9](?:", "[a-zA-Z0-9-](?:"),
        (Email, "@", "[@-]"),
        (Uuid, "a-f", "a-fA-F"),
    ],
)
def test_a_laxer_kind_is_noticed(kind: type[Any], strict: str, lax: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above notices it if a pattern loses one of its parts."""
    clean = kind.clean
    monkeypatch.setattr(kind, "clean", lambda rule, without="": clean(rule, without).replace(strict, lax))

    assert any(unsound(rule, cells) for rule, cells in ORDINARY if isinstance(rule, kind))


@given(pair=rules_and_values())
def test_a_value_matches_its_schema_and_survives_json(pair: tuple[Rule, Any]) -> None:
    rule, value = pair
    schema = rule.schema()
    form = json.loads(json.dumps(as_json(rule, value)))

    Draft202012Validator.check_schema(schema)
    assert Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).is_valid(form)
    assert rule.parse(str(form)) == value


@pytest.mark.parametrize(
    ("rule", "cell", "message"),
    [
        (CUT, "12", "is '12', not of the right form; give a text such as '123-4567'"),
        (CUT, "１２３－４５６７", "is '１２３－４５６７', not in half-width characters; give 123-4567"),  # noqa: RUF001 - full-width characters
        (CUT, " ", "is blank; give a text such as '123-4567'"),
        (MONEY, "1,5", "is '1,5', not a decimal number; give at most 8 digits before the point and 2 after it"),
        (MONEY, "1.234", "is '1.234'; give at most 8 digits before the point and 2 after it"),
        (MONEY, "１２.50", "is '１２.50', not in half-width digits (0-9); give 12.50"),  # noqa: RUF001 - as before
        (
            DAY,
            "1/2/2024",
            "is '1/2/2024', not a date in a known format; give a date as " + FORMATS,
        ),
        (DAY, "30.2.2024", "is '30.2.2024', not a day of the calendar; give a date as " + FORMATS),
        (DAY, "1.1.1850", "is '1.1.1850'; give 1900-01-01 to 2099-12-31"),
        (DAY, "２０２４-01-02", "is '２０２４-01-02', not in half-width digits (0-9); give 2024-01-02"),  # noqa: RUF001 - as before
        (ANSWER, "x", "is 'x', not one of the words for yes and no; give 'yes', 'はい', 'no' or 'いいえ'"),
        (Boolean(), "x", "is 'x', not one of the words for yes and no; give 'true' or 'false'"),
        (ROLE, "MEMBER", "is 'MEMBER', not one of the allowed values; give 'member' or 'Guest.2'"),
        (
            COUNTRY,
            "x",
            "is 'x', not one of the allowed values; give one of 249 values, such as 'country 0'",
        ),
        (Email(), "ann", "is 'ann', not an e-mail address; give an address such as ann@example.com"),
        (Email(), "ａnn＠b.c", "is 'ａnn＠b.c', not in half-width characters; give ann@b.c"),  # noqa: RUF001 - as before
        (Email(max_length=9), "ann@b.example", "has 13 characters ('ann@b.example'); give at most 9"),
        (
            Uuid(),
            "12",
            "is '12', not a UUID; give 32 hexadecimal digits such as 123e4567-e89b-12d3-a456-426614174000",
        ),
    ],
)
def test_each_fault_has_its_own_words(rule: Rule, cell: str, message: str) -> None:
    fault = rule.parse(cell)

    assert isinstance(fault, Fault)
    assert fault.message == message


@pytest.mark.parametrize(
    ("rule", "cell", "value"),
    [
        (MONEY, "-0", Decimal("0.00")),
        (MONEY, "0012.5000", Decimal("12.50")),
        (DAY, "1.2.2024", date(2024, 2, 1)),
        (DAY, "2024-02-29", date(2024, 2, 29)),
        (ANSWER, "はい", True),
        (ANSWER, "FALSE", False),
        (COUNTRY, "COUNTRY 7", "country 7"),
        (Email(), "Ann@Example.com", "Ann@Example.com"),
        (
            Uuid(),
            "123E4567-E89B-12D3-A456-426614174000",
            UUID("123e4567-e89b-12d3-a456-426614174000"),
        ),
    ],
)
def test_a_value_has_one_text(rule: Rule, cell: str, value: Any) -> None:  # noqa: ANN401 - of any kind
    parsed = rule.parse(cell)

    assert parsed == value
    assert rule.parse(rule.text(value)) == value
    assert not isinstance(parsed, Fault)
    assert rule.text(parsed) == str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize(
    ("declare", "why"),
    [
        (lambda: Text(max_length=0), "not from 1 to 16,000"),
        (lambda: Text(max_length=16_001), "not from 1 to 16,000"),
        (lambda: Email(max_length=16_001), "not from 1 to 16,000"),
        (lambda: Text(max_length=9, pattern="[0-9]+"), "needs an example"),
        (lambda: Text(max_length=9, pattern="[0-9]+", example="a"), "needs an example"),
        *(
            (lambda pattern=pattern: Text(max_length=50, pattern=pattern, example="1"), "is not understood")
            for pattern in (
                *(r"\d+", r"\w", r"\s", r"\bx", ".", "[^a]", "é", "[ä-ü]", "(ab)+", "((a)b)", "(?=a)", "a|", "|a"),
                *("a+?", "a++", "a**", "^a$", r"(a)\1", "(?i)a", "[a&&b]", "[[:alpha:]]", r"\x41", "a{,3}", ""),
            )
        ),
        (lambda: Text(max_length=9, pattern="[z-a]", example="b"), "bad character range"),
        (lambda: Text(max_length=9, pattern="a{3,2}", example="a"), "min repeat greater"),
        (lambda: Text(max_length=9, pattern="a*", example="a"), "blank"),
        (lambda: Choice("abc"), "values is one text; give several: ('abc',)"),  # type: ignore[arg-type]
        (lambda: Boolean(true="yes"), "true is one text; give several: ('yes',)"),  # type: ignore[arg-type]
        (lambda: Date("D.M.YYYY"), "formats is one text; give several: ('D.M.YYYY',)"),  # type: ignore[arg-type]
        (lambda: Text(max_length=200, pattern="a+a+a+b", example="aaab"), "too many attempts"),
        (lambda: WholeNumber(minimum=-1, maximum=5), "limits of a whole number"),
        (lambda: WholeNumber(minimum=6, maximum=5), "limits of a whole number"),
        (lambda: WholeNumber(minimum=0, maximum=2**53), "limits of a whole number"),
        (lambda: DecimalNumber(digits=2, places=2), "places < digits"),
        (lambda: DecimalNumber(digits=1001, places=2), "1000 digits"),
        *(
            (lambda form=form: Date(formats=(form,)), "format")
            for form in ("DD.MM.YY", "MM.YYYY", "DMYYYY", "DD.MMYYYY", "D.M.YYYY hh", "%d.%m.%Y", "YYYY-DD-MM")
        ),
        (lambda: Date(formats=("D/M/YYYY", "MM/DD/YYYY")), "order of their parts"),
        (lambda: Date(formats=("YYYYMMDD", "DDMMYYYY")), "order of their parts"),
        (lambda: Date(earliest=date(2024, 1, 2), latest=date(2024, 1, 1)), "earliest"),
        (lambda: Boolean(true=("x",), false=("X",)), "both"),
        (lambda: Boolean(true=("false",)), "both"),
        (lambda: Boolean(true=("yes", "YES")), "different"),
        (lambda: Choice(values=()), "one or more"),
        (lambda: Choice(values=("a", "a")), "different"),
        (lambda: Choice(values=("a", "A"), any_case=True), "different"),
        *((lambda value=value: Choice(values=(value,)), "visible") for value in ("", " a", "\u200b", "a\nb")),
    ],
)
def test_a_wrong_declaration_is_refused(declare: Callable[[], Rule], why: str) -> None:
    with pytest.raises(DeclarationError, match=re.escape(why)):
        declare()


@pytest.mark.parametrize("name", ["id", "import_id", "rollcall_line", "rollcall_anything"])
def test_a_name_that_rollcall_needs_is_refused(name: str) -> None:
    record = attrs.make_class("Member", {"name": field(Text(max_length=9)), name: field(Uuid())})

    with pytest.raises(DeclarationError, match=f"^Member.{name} .*needs"):
        RecordType.of(record)


@given(source=patterns(), data=st.data())
def test_python_and_re2_read_a_pattern_alike(source: str, data: st.DataObject) -> None:
    """For each text that has neither a space nor a forbidden delimiter, the clean pattern agrees too."""
    try:
        pattern = Pattern(source, max_length=50)
    except DeclarationError:
        assume(False)  # noqa: FBT003 - Hypothesis' way to drop an example
    text = data.draw(st.from_regex(source, fullmatch=True) | st.text(st.sampled_from(TRAPS), max_size=8))
    assume(len(text) <= 50)

    assert pattern.matches(text) == bool(re2.fullmatch(source, text))
    if not set(text) & set(' \\",'):
        assert pattern.matches(text) == bool(re2.fullmatch(pattern.clean('",'), text))


@pytest.mark.parametrize("rule", [CUT, MONEY, DAY, ANSWER, ROLE, Email(), Uuid()], ids=lambda rule: rule.sql)
@pytest.mark.parametrize(
    "value",
    [
        *(
            "S3CRET",
            " S3CRET",
            "S3CRET\0",
            "",
            "1.50",
            "2024-01-01",
            "true",
            b"S3CRET",
            5,
            -1,
            1.5,
            None,
            object,
        ),
        *(Decimal("1.234"), Decimal("NaN"), Decimal("sNaN"), datetime(2024, 1, 1), date(1850, 1, 1)),  # noqa: DTZ001 - no zone
    ],
    ids=repr,
)
def test_a_record_with_a_wrong_value_cannot_be_built(rule: Rule, value: object) -> None:
    """The message does not show the value, because exceptions are logged."""
    record = attrs.make_class("Member", {"some": field(rule)})

    with pytest.raises(ValueError, match=r"^Member\.some breaks its rule$"):
        record(value)


@given(pair=rules_and_values())
def test_a_record_is_built_from_any_value_of_its_rules(pair: tuple[Rule, Any]) -> None:
    rule, value = pair

    assert attrs.make_class("Member", {"some": field(rule)})(value).some == value
