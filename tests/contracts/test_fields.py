"""PostgreSQL reads a value of any kind as the same value that its rule reads."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.domain.fields import Rule, Value
from rollcall.domain.rejection import Fault
from support.strategies import cells_for, is_clean, rules, values


@pytest.fixture(scope="module")
def connection(database_server: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_server, autocommit=True) as connection:
        # The server's own settings must not matter.
        connection.execute("set datestyle to 'SQL, MDY'")
        yield connection


def read_back(connection: psycopg.Connection, sql: str, cells: list[str]) -> list[Any]:
    """Return the values of a column of some type after COPY of CSV."""
    with connection.transaction(force_rollback=True), connection.cursor() as cursor:
        cursor.execute(f"create temporary table kept (line integer, value {sql})")
        with cursor.copy("copy kept from stdin (format csv, encoding 'UTF8')") as copy:
            for line, cell in enumerate(cells):
                copy.write(f"{line},{cell}\n".encode())
        return [value for (value,) in cursor.execute("select value from kept order by line").fetchall()]


def in_quotes(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@st.composite
def rules_and_values(draw: st.DrawFn) -> tuple[Rule, list[Value]]:
    rule = draw(rules())
    return rule, draw(st.lists(values(rule), min_size=1, max_size=20))


@given(pair=rules_and_values())
def test_the_text_of_a_value_is_read_back_as_the_value(
    connection: psycopg.Connection, pair: tuple[Rule, list[Value]]
) -> None:
    rule, given = pair
    found = read_back(connection, rule.sql, [in_quotes(rule.text(value)) for value in given])

    assert found == given
    assert [rule.text(value) for value in found] == [rule.text(value) for value in given]
    assert [type(value) for value in found] == [type(value) for value in given]


@given(pair=rules_and_values(), data=st.data())
def test_clean_text_is_read_back_as_it_parses(
    connection: psycopg.Connection, pair: tuple[Rule, list[Value]], data: st.DataObject
) -> None:
    """In quotes or not, as a file has it."""
    rule, given = pair
    texts = [text for value in given for text in (rule.text(value), data.draw(cells_for(rule, value)))]
    bare = [text for text in texts if is_clean(rule, text, '",')]
    quoted = [text for text in texts if is_clean(rule, text, '"')]
    parsed = [rule.parse(text) for text in bare + quoted]
    found = read_back(connection, rule.sql, bare + [in_quotes(text) for text in quoted])

    assert found == parsed
    assert [str(value) for value in found] == [str(value) for value in parsed if not isinstance(value, Fault)]
