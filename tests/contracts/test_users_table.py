"""The table of the users: made from a record, extended without a change of values, or adopted as it is."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from decimal import Decimal
from uuid import UUID

import attrs
import pytest

from rollcall.adapters.postgres.migration import migrate
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.adapters.postgres.schema import migration_ids
from rollcall.application.errors import NotMigratedError, SchemaError
from rollcall.domain.fields import Boolean, Choice, Date, DecimalNumber, Email, Rule, Text, Uuid, WholeNumber
from rollcall.domain.policy import Policy
from rollcall.domain.record import RecordType, field
from rollcall.domain.user import USERS
from support.builders import ANN, BEN, asked, load

COLUMNS = (
    "select column_name, data_type, is_nullable from information_schema.columns "
    "where table_name = %s order by ordinal_position"
)


@pytest.fixture
def url(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """A database without any table."""
    with new_database() as made:
        yield made


def members(**more: object) -> RecordType:
    """Return a record in the table members: a name, and more fields."""
    made = attrs.make_class("Member", {"name": field(Text(max_length=20)), **more}, kw_only=True)
    made.table = "members"  # type: ignore[attr-defined]
    return RecordType.of(made)


def repository(url: str, record_type: RecordType) -> closing[PostgresUserRepository]:
    return closing(PostgresUserRepository(url, record_type))


def add_members(url: str, record_type: RecordType, *rows: list[str]) -> None:
    """Import some rows."""
    with repository(url, record_type) as users:
        load(users, [record_type.parse(row) for row in rows])


def test_a_table_has_a_column_of_each_kind(url: str) -> None:
    record_type = members(
        code=field(Uuid()),
        age=field(WholeNumber(0, 150)),
        points=field(WholeNumber(0, 2**40)),
        fee=field(DecimalNumber(8, 2)),
        born=field(Date(), optional=True),
        active=field(Boolean()),
        role=field(Choice(("a", "b"))),
        mail=field(Email(), optional=True),
    )
    code = "123e4567-e89b-12d3-a456-426614174000"

    assert migrate(url, record_type)[-1] == "made the table members"
    assert asked(url, COLUMNS, "members") == [
        ("id", "bigint", "NO"),
        ("name", "text", "NO"),
        ("code", "uuid", "NO"),
        ("age", "integer", "NO"),
        ("points", "bigint", "NO"),
        ("fee", "numeric", "NO"),
        ("born", "date", "YES"),
        ("active", "boolean", "NO"),
        ("role", "text", "NO"),
        ("mail", "text", "YES"),
        ("import_id", "bigint", "YES"),
    ]
    add_members(url, record_type, ["Ann", code, "7", "8", "1.5", "", "true", "b", ""])
    with repository(url, record_type) as users:
        [ann] = users.users()
    expected = ("Ann", UUID(code), 7, 8, Decimal("1.50"), None, True, "b", None)
    assert record_type.values(ann) == expected
    assert migrate(url, record_type) == []


def test_optional_columns_and_those_with_a_default_are_added(url: str) -> None:
    migrate(url, members())
    add_members(url, members(), ["Ann"], ["Ben"])
    more = members(born=field(Date(), optional=True), level=field(WholeNumber(1, 9), default=3))

    assert migrate(url, more) == [
        "added the column born to the table members",
        "added the column level to the table members",
    ]
    assert asked(url, "select name, born, level from members order by id") == [("Ann", None, 3), ("Ben", None, 3)]
    # The default was for existing users only: each row of a file has a value.
    defaults = (
        "select column_default from information_schema.columns where table_name = %s and column_name = 'level'"
    )
    assert asked(url, defaults, "members") == [(None,)]
    assert migrate(url, more) == []


BY_HAND = {
    "a required column": (
        members(mail=field(Email())),
        "it has no column mail",
        'alter table "public"."members" add column "mail" text;',
    ),
    "a wider type": (
        members(points=field(WholeNumber(0, 2**40))),
        "its column points has the type integer and needs bigint",
        'alter table "public"."members" alter column "points" type bigint using "points"::bigint;',
    ),
    "an optional value": (
        members(points=field(WholeNumber(0, 9), optional=True)),
        "its column points needs a value, and is optional in the record",
        'alter table "public"."members" alter column "points" drop not null;',
    ),
    "a column less": (
        members(),
        "its column points needs a value and is not in the record",
        'alter table "public"."members" alter column "points" drop not null;',
    ),
}


@pytest.mark.parametrize("change", BY_HAND)
def test_any_other_change_is_printed_as_sql(url: str, change: str) -> None:
    """With nothing changed, not even what could be added; after the SQL, the table fits."""
    changed, fault, statement = BY_HAND[change]
    migrate(url, members(points=field(WholeNumber(0, 9))))
    was = asked(url, COLUMNS, "members")

    with pytest.raises(SchemaError, match=re.escape(fault)) as caught:
        migrate(url, changed)

    assert statement in str(caught.value)
    assert asked(url, COLUMNS, "members") == was
    if change in {"a required column", "a wider type"}:  # an import reports the others, as any constraint
        with repository(url, changed) as users, pytest.raises(NotMigratedError, match=fault.split()[-1]):
            users.get_import(1)
    _, _, statements = str(caught.value).partition("run this SQL: ")
    asked(url, statements.replace("<a value>", "'ann@example.com'"))
    if "points" in changed.columns or change == "a column less":
        assert migrate(url, changed) == []


def test_a_table_of_another_program_is_left_alone(url: str) -> None:
    """With nothing changed: no column, no table of the ledger."""
    asked(url, "create table users (id bigserial, email text, encrypted_password text not null)")
    was = asked(url, COLUMNS, "users")

    with pytest.raises(SchemaError, match="was not made by Rollcall, and nothing was changed"):
        migrate(url, USERS)

    assert asked(url, COLUMNS, "users") == was
    assert asked(url, "select tablename from pg_tables where schemaname = 'public'") == [("users",)]


GUIDES = {
    "serial key": "id serial primary key, name varchar(255) not null, country varchar(255) not null, age int",
    "identity": "id int generated by default as identity primary key, name text, country text, age int",
    "more columns": "id bigserial primary key, name text, country text, age int, at timestamptz default now()",
}


def test_a_table_with_a_domain_is_adopted(url: str) -> None:
    """Its constraint is reported by an import, as any other."""
    asked(url, "create domain short as text check (length(value) < 9)")
    asked(url, "create table users (id bigserial, name short, country text, age int)")

    assert migrate(url, USERS, adopt=True)[-1] == "adopted the table users"


@pytest.mark.parametrize("shape", GUIDES)
def test_an_adopted_table_is_kept_with_its_rows(url: str, shape: str) -> None:
    """The operator may have created it from another guide."""
    asked(url, f"create table users ({GUIDES[shape]})")
    asked(url, "insert into users (name, country, age) values ('Ann', 'Norway', 41)")
    was = asked(url, COLUMNS, "users")

    assert migrate(url, USERS, adopt=True)[-1] == "adopted the table users"
    assert asked(url, COLUMNS, "users") == [*was, ("import_id", "bigint", "YES")]
    assert migrate(url, USERS) == []
    with repository(url, USERS) as users:
        import_id = load(users, [BEN])
        assert [user.name for user in users.users()] == [ANN.name, BEN.name]
        assert list(users.users(import_id)) == [BEN]


REFUSED = {
    "another application's users": (
        "id bigserial, email text, encrypted_password text not null",
        "it has no column name; add it as text, or leave it out of the record",
    ),
    "a required column more": (
        "id bigserial, name text, country text, age int, password text not null",
        "its column password needs a value and is not in the record; give it a default, or add it to the record",
    ),
    "a generated age": (
        "id bigserial, name text, country text, born int, age int generated always as (2026 - born) stored",
        "its column age is generated, so no row can give it; leave it out of the record",
    ),
    "varchar(5)": (
        "id bigserial, name varchar(5), country text, age int",
        "its column name has the type character varying(5) and needs text or character varying(200)",
    ),
    "no number": (
        "name text, country text, age int",
        "it needs a column id that numbers itself, such as bigint generated always as identity",
    ),
    "an id that is given": (
        "id bigint primary key, name text, country text, age int",
        "it needs a column id that numbers itself, such as bigint generated always as identity",
    ),
    "a column of the name import_id": (
        "id bigserial, name text, country text, age int, import_id uuid",
        "its column import_id has the name that Rollcall needs; rename it",
    ),
    "a number as text": (
        "id bigserial, name text, country text, age text",
        "its column age has the type text and needs integer",
    ),
}


@pytest.mark.parametrize("shape", REFUSED)
def test_a_table_that_does_not_fit_is_not_adopted(url: str, shape: str) -> None:
    """One sentence names the column and what to do; nothing is changed."""
    columns, fault = REFUSED[shape]
    asked(url, f"create table users ({columns})")
    was = asked(url, COLUMNS, "users")

    with pytest.raises(SchemaError) as caught:
        migrate(url, USERS, adopt=True)

    assert fault in str(caught.value)
    assert asked(url, COLUMNS, "users") == was
    assert asked(url, "select tablename from pg_tables where schemaname = 'public'") == [("users",)]


def test_a_view_is_not_adopted(url: str) -> None:
    asked(url, "create table people (id bigserial, name text, country text, age int)")
    asked(url, "create view users as select * from people")

    with pytest.raises(SchemaError, match="users is no table"):
        migrate(url, USERS, adopt=True)


def test_an_adopted_table_is_never_altered(url: str) -> None:
    asked(url, "create table members (id bigserial, name text)")
    migrate(url, members(), adopt=True)
    was = asked(url, COLUMNS, "members")

    with pytest.raises(SchemaError, match=r"does not fit the record, and nothing was changed: .*born"):
        migrate(url, members(born=field(Date(), optional=True)))

    assert asked(url, COLUMNS, "members") == was


def test_a_field_that_becomes_required_needs_values(url: str) -> None:
    """Users without one could no longer be listed."""
    optional = members(born=field(Date(), optional=True))
    migrate(url, optional)
    add_members(url, optional, ["Ann", ""], ["Ben", "2000-01-31"])

    with pytest.raises(SchemaError, match="1 user without born, which is required in the record") as caught:
        migrate(url, members(born=field(Date())))
    _, _, statement = str(caught.value).partition("run this SQL: ")
    asked(url, statement.replace("<a value>", "'1999-12-31'"))
    assert migrate(url, members(born=field(Date()))) == []


def test_a_table_whose_users_lack_values_is_not_adopted(url: str) -> None:
    asked(url, "create table members (id bigserial, name text)")
    asked(url, "insert into members (name) values ('Ann'), (null)")

    with pytest.raises(SchemaError, match="1 user without name, which is required"):
        migrate(url, members(), adopt=True)


def test_a_ledger_serves_one_table(url: str) -> None:
    """Undo, repeats and corrections of two tables would cross."""
    migrate(url, USERS)
    with repository(url, USERS) as users:
        load(users, [ANN])

    with pytest.raises(SchemaError, match="the ledger in the schema public belongs to the table users"):
        migrate(url, members())
    with repository(url, members()) as users, pytest.raises(SchemaError, match="belongs to the table users"):
        users.get_import(1)
    assert asked(url, "select to_regclass('members')") == [(None,)]


def test_a_missing_table_is_named(url: str) -> None:
    migrate(url, USERS)

    with repository(url, members()) as users, pytest.raises(NotMigratedError, match="has no table members yet"):
        users.get_import(1)


@pytest.mark.parametrize("columns", [("a_b", "c"), ("a", "b_c"), ("x" * 40, "y" * 40)])
def test_the_unique_index_is_recognised(url: str, columns: tuple[str, str]) -> None:
    """Also if the names of its columns have underscores, or are longer than a name may be."""
    rule: Rule = Text(max_length=9)
    record_type = members(**{name: field(rule) for name in ("a_b", "c", "a", "b_c", "x" * 40, "y" * 40)})
    policy = Policy(unique_by=columns)
    migrate(url, record_type, policy)

    assert migrate(url, record_type, policy) == []
    made, removed = migrate(url, record_type, Policy(unique_by=("name",)))[::-1]
    assert (made[:5], removed[:8]) == ("made ", "removed ")
    [name] = [name for (name,) in asked(url, "select indexname from pg_indexes where indexname ~ '_unique_by_'")]
    assert name == "members_unique_by_name"


ODD_NAMES = ("line", "place", "existing", "code", "duplicate", "corrected", "origin_line", "user", "order")


@pytest.mark.parametrize("unique_by", [(), ("line",), ("user", "order")])
def test_any_name_of_a_column_is_merged(url: str, unique_by: tuple[str, ...]) -> None:
    """Also those of the temporary tables, and words of SQL."""
    record_type = members(**{name: field(Text(max_length=20)) for name in ODD_NAMES})
    policy = Policy(unique_by=unique_by)
    migrate(url, record_type, policy)
    with repository(url, record_type) as users:
        load(users, [record_type.parse(["Ann", *ODD_NAMES])], policy=policy)
        [ann] = users.users()

    assert record_type.values(ann) == ("Ann", *ODD_NAMES)


@pytest.mark.parametrize("comment", ["null", "'ours'"])
def test_a_table_whose_comment_is_lost_is_used_again(url: str, comment: str) -> None:
    """As after a restore without comments."""
    migrate(url, USERS)
    asked(url, f"comment on column users.import_id is {comment}")

    assert migrate(url, USERS) == []
    with repository(url, USERS) as users:
        load(users, [ANN])


def test_a_table_that_an_earlier_version_took_over_is_used_on(url: str) -> None:
    """With limits of the operator, values that are missing, and a column that a trigger fills."""
    asked(
        url,
        "create table users (id serial primary key, name varchar(100), country char(20), age smallint,"
        " tenant text not null,"
        " import_id bigint default nullif(current_setting('rollcall.import_id', true), '')::bigint)",
    )
    asked(
        url,
        "create function theirs() returns trigger language plpgsql as $$begin new.tenant = 'x'; return new; end$$;"
        "create trigger theirs before insert on users for each row execute function theirs();"
        "insert into users (name) values ('Old')",
    )

    assert migrate(url, USERS)[-1] == migration_ids()[-1]
    assert migrate(url, USERS) == []
    with repository(url, USERS) as users:
        load(users, [BEN])
    assert asked(url, "select name, tenant from users order by id") == [("Old", "x"), (BEN.name, "x")]


def test_a_sequence_of_no_column_is_not_adopted(url: str) -> None:
    asked(url, "create sequence numbers")
    asked(url, "create table users (id bigint default nextval('numbers'), name text, country text, age int)")

    with pytest.raises(SchemaError, match="the sequence of its column id belongs to no column"):
        migrate(url, USERS, adopt=True)
