"""A record: what it declares, how its rows are read, and which declarations are refused."""

import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from rollcall.adapters.memory import MemoryUserRepository
from rollcall.application.header import Header, read_header
from rollcall.domain.errors import DeclarationError
from rollcall.domain.fields import Boolean, Choice, Date, DecimalNumber, Text, Uuid, WholeNumber
from rollcall.domain.record import RecordType, field
from rollcall.domain.rejection import Code, Fault
from rollcall.domain.user import USERS, User
from support.builders import reader_of
from support.fakes import Desk
from support.strategies import blank_cells, record_types, valid_cells

NAME = Text(max_length=9)


def declared(table: object = None, **fields: Any) -> RecordType:  # noqa: ANN401 - what attrs takes
    made = attrs.make_class("Member", fields, kw_only=True)
    if table is not None:
        made.table = table  # type: ignore[attr-defined]
    return RecordType.of(made)


MEMBERS = declared(
    "members",
    name=field(NAME, labels=("氏名", "Full Name")),
    born=field(Date(), optional=True),
    fee=field(DecimalNumber(6, 2)),
    active=field(Boolean(), optional=True),
)


def test_the_record_that_ships_is_the_user() -> None:
    assert (USERS.user_type, USERS.table) == (User, "users")
    assert USERS.columns == USERS.required == USERS.identifying == ("name", "country", "age")


def test_a_row_is_read_as_a_user_of_the_record() -> None:
    ann = MEMBERS.parse(["Ann", "2000-01-31", "1.5", "true"])

    assert MEMBERS.values(ann) == ("Ann", date(2000, 1, 31), Decimal("1.50"), True)
    assert MEMBERS.texts(ann) == ["Ann", "2000-01-31", "1.50", "true"]
    assert MEMBERS.as_dict(ann) == {"name": "Ann", "born": "2000-01-31", "fee": "1.50", "active": True}
    assert MEMBERS.make(MEMBERS.values(ann)) == ann


def test_a_blank_optional_cell_is_no_value() -> None:
    ann = MEMBERS.parse(["Ann", " ", "1", ""])

    assert MEMBERS.values(ann) == ("Ann", None, Decimal("1.00"), None)
    assert MEMBERS.texts(ann) == ["Ann", "", "1.00", ""]
    assert MEMBERS.as_dict(ann) == {"name": "Ann", "born": None, "fee": "1.00", "active": None}


def test_all_faults_of_a_row_name_their_columns() -> None:
    faults = MEMBERS.parse(["", "31.1.2000", "x", "perhaps"])

    assert isinstance(faults, tuple)
    assert [(fault.code, fault.column) for fault in faults] == [
        (Code.BLANK_CELL, "name"),
        (Code.TYPE_ERROR, "born"),
        (Code.TYPE_ERROR, "fee"),
        (Code.TYPE_ERROR, "active"),
    ]
    assert all(fault.message.startswith(f"{fault.column} is ") for fault in faults)


def test_only_required_fields_with_many_values_identify() -> None:
    """Each night would double the rows without a value."""
    assert MEMBERS.identifying == ("name", "fee")


@given(record_type=record_types(), data=st.data())
def test_every_view_of_a_user_agrees(record_type: RecordType, data: st.DataObject) -> None:
    """Cells, texts, values and JSON of any record."""
    cells = [
        data.draw(blank_cells() if each.optional and data.draw(st.booleans()) else valid_cells(each.rule))
        for each in record_type.fields
    ]
    user = record_type.parse(cells)

    assert record_type.parse(record_type.texts(user)) == user
    assert record_type.make(record_type.values(user)) == user
    Draft202012Validator(record_type.schema()).validate(record_type.as_dict(user))


@pytest.mark.parametrize("label", ["name", " NAME ", "氏名", "full name", "Full Name"])
def test_a_column_is_found_by_each_of_its_labels(label: str) -> None:
    header = read_header(reader_of(f"{label},fee\n"), MEMBERS)

    assert isinstance(header, Header)
    assert header.positions == (0, None, 1, None)
    assert header.ignored == ()


def test_two_labels_of_one_column_are_a_duplicate() -> None:
    fault = read_header(reader_of("name,氏名,fee\n"), MEMBERS)

    assert isinstance(fault, Fault)
    assert fault.code is Code.DUPLICATE_LABEL


def test_a_file_may_lack_only_optional_columns() -> None:
    fault = read_header(reader_of("born\n"), MEMBERS)

    assert isinstance(fault, Fault)
    assert (fault.code, fault.message) == (
        Code.MISSING_LABEL,
        "no column is called name, fee; the first line has 'born' and must name name, fee",
    )


def test_optional_cells_at_the_end_of_a_row_may_be_missing() -> None:
    """Spreadsheets leave out empty cells there."""
    desk = Desk(users=MemoryUserRepository(record_type=MEMBERS))
    receipt = desk.importer()(desk.drop_as_it_is(b"fee,name,born,active\n1,Ann\n2,Ben,2000-01-31\n"))

    assert receipt.counts.registered == 2
    assert [MEMBERS.texts(user)[:2] for user in desk.users.users()] == [["Ann", ""], ["Ben", "2000-01-31"]]


@attrs.frozen
class WithCode:
    """A class whose code may stop an import."""

    name: str = field(NAME)

    def __attrs_post_init__(self) -> None:
        raise ValueError(self.name)


@attrs.frozen
class WithCheck:
    """A class whose check may show a cell."""

    name: str = field(NAME)

    @name.validator
    def _check(self, _attribute: object, value: str) -> None:
        raise ValueError(value)


@attrs.frozen
class Unfinished:
    """A class with an attribute that attrs does not see."""

    name: str
    code = field(NAME)


WRONG: dict[str, tuple[Callable[[], RecordType], str]] = {
    "no class": (
        lambda: RecordType.of("Member"),
        "it is no attrs class; put @attrs.frozen(kw_only=True) above it",
    ),
    "no attrs class": (
        lambda: RecordType.of(str),
        "it is no attrs class; put @attrs.frozen(kw_only=True) above it",
    ),
    "no comparison": (
        lambda: RecordType.of(attrs.make_class("Member", {"name": field(NAME)}, eq=False)),
        "Member does not compare its values; leave out eq=False",
    ),
    "no field": (lambda: declared(name=attrs.field()), "Member.name is not declared by field(...)"),
    "only optional fields": (
        lambda: declared(name=field(NAME, optional=True)),
        "Member has only optional fields, so a user could have no value",
    ),
    "a capital letter": (
        lambda: declared(Name=field(NAME)),
        "Member.Name is no name of at most 63 letters a-z, 0-9 and _; put it into `labels`",
    ),
    "another alphabet": (lambda: declared(氏名=field(NAME)), "Member.氏名 is no name of at most 63 letters"),
    "a long name": (lambda: declared(**{"x" * 64: field(NAME)}), "is no name of at most 63 letters"),
    "a system column": (lambda: declared(xmin=field(NAME)), "Member.xmin is a name that Rollcall or PostgreSQL"),
    "a label twice": (
        lambda: declared(name=field(NAME), other=field(NAME, labels=("Name ",))),
        "Member.other has a label that is no visible text, or has space around it",
    ),
    "a label of two fields": (
        lambda: declared(name=field(NAME), other=field(NAME, labels=("NAME",))),
        "Member.other has the label NAME, as name has",
    ),
    "a label of Rollcall": (
        lambda: declared(name=field(NAME, labels=("Rollcall_Line",))),
        "Member.name has the label Rollcall_Line; Rollcall needs those with rollcall_ itself",
    ),
    "a kind without parentheses": (
        lambda: declared(name=field(Uuid)),  # type: ignore[arg-type]
        "Member.name has no kind; give one with parentheses, such as field(Email())",
    ),
    "no kind": (lambda: declared(name=field("text")), "Member.name has no kind"),  # type: ignore[arg-type]
    "a private name": (lambda: declared(_name=field(NAME)), "Member._name begins with _; choose another name"),
    "code of its own": (lambda: RecordType.of(WithCode), "WithCode has code of its own (__attrs_post_init__)"),
    "a check of its own": (lambda: RecordType.of(WithCheck), "WithCheck.name has a check of its own"),
    "a table like an index": (
        lambda: declared("imports_pkey", name=field(NAME)),
        "Member.table is imports_pkey: ",
    ),
    "a long name of a table": (
        lambda: declared("t" * 41, name=field(NAME)),
        "Member.table is no name of at most 40",
    ),
    "no fields": (declared, "Member has no fields"),
    "one text as labels": (
        lambda: declared(name=field(NAME, labels="Nom")),
        "labels is one text; give several: ('Nom',)",
    ),
    "an annotation without a field": (
        lambda: RecordType.of(Unfinished),
        "Unfinished.name is not declared by field(...)",
    ),
    "a name of Rollcall": (lambda: declared(rollcall_x=field(NAME)), "Member.rollcall_x is a name that Rollcall"),
    "a default of another type": (
        lambda: declared(name=field(NAME), age=field(WholeNumber(0, 9), default="7")),
        "Member.age has the default '7', which breaks its rule: a whole number from 0 to 9",
    ),
    "a default out of range": (
        lambda: declared(name=field(NAME), age=field(WholeNumber(0, 9), default=10)),
        "Member.age has the default 10, which breaks its rule: a whole number from 0 to 9",
    ),
    "a table of Rollcall": (lambda: declared("imports", name=field(NAME)), "Member.table is imports: Rollcall"),
    "a table of PostgreSQL": (lambda: declared("pg_users", name=field(NAME)), "Member.table is pg_users: "),
    "no name of a table": (lambda: declared("a b", name=field(NAME)), "Member.table is no name of at most 40"),
    "no text": (lambda: declared(7, name=field(NAME)), "Member.table is no name of at most"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_declaration_is_one_sentence(wrong: str) -> None:
    declare, why = WRONG[wrong]

    with pytest.raises(DeclarationError, match=re.escape(why)) as caught:
        declare()

    assert "\n" not in str(caught.value)


def test_a_field_of_the_name_table_is_a_field() -> None:
    record_type = declared(table=None, name=field(NAME), code=field(Uuid()), role=field(Choice(("a",))))

    assert record_type.table == "users"
    assert RecordType.of(attrs.make_class("Seat", {"table": field(NAME)})).table == "users"


def test_a_value_that_no_cell_gives_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^Member\.name breaks its rule$"):
        MEMBERS.make(["", None, Decimal("1.00"), None])
    with pytest.raises(ValueError, match=r"^Member\.fee breaks its rule$"):
        MEMBERS.make(["Ann", None, None, None])
