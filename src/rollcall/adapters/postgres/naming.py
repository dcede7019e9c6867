"""Qualified names of Rollcall's tables and of PostgreSQL's operators, independent of the search path."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, LiteralString

from psycopg import Connection, Cursor, sql
from psycopg.abc import Params

from rollcall.domain.record import RecordType

LEDGER_TABLES = ("imports", "corrections", "lost_uploads", "_yoyo_migration")

# The prefix avoids a clash with temporary tables of other clients of a pooled connection.
_TEMPORARY = {name: sql.Identifier("pg_temp", f"rollcall_{name}") for name in ("staged", "rejected", "merging")}

# Statements qualify functions themselves, as `pg_catalog.count`. Qualified operators all have the same precedence,
# so statements need parentheses.
_OPERATORS = {
    name: sql.SQL("operator(pg_catalog.{})").format(sql.SQL(symbol))
    for name, symbol in (
        ("eq", "="),
        ("ne", "<>"),
        ("lt", "<"),
        ("le", "<="),
        ("gt", ">"),
        ("ge", ">="),
        ("plus", "+"),
        ("shift", "<<"),
        ("bit_or", "|"),
        ("concat", "||"),
        ("json", "->"),
        ("json_text", "->>"),
        ("differs", "*<>"),  # of two records, nulls included
    )
}

_LONGEST_NAME = 63  # of PostgreSQL, in bytes
_DIGEST = 8  # characters, in place of the end of a longer name


class Database(Connection[tuple[Any, ...]]):
    """A connection whose statements name Rollcall's tables with their schema.

    Attributes:
        schema: The schema of the tables; empty until the owner sets it, see `find_schema`.
        record_type: What a user consists of; set by `connect`.
    """

    schema: str = ""
    record_type: RecordType

    def run(
        self,
        statement: LiteralString,
        parameters: Params | None = None,
        **values: sql.Composable,
    ) -> Cursor[tuple[Any, ...]]:
        """Execute a statement after filling in its names; see `composed`."""
        return self.execute(self.composed(statement, **values), parameters)

    def composed(self, statement: LiteralString, **values: sql.Composable) -> sql.Composed:
        """Return a statement with its names filled in.

        Args:
            statement: SQL with tables as `{users}`, their columns as `{columns}` and operators as `{eq}`.
            values: The values of its other names in braces.
        """
        tables = {table: sql.Identifier(self.schema, table) for table in LEDGER_TABLES}
        tables["users"] = sql.Identifier(self.schema, self.record_type.table)
        columns = listed(self.record_type.columns)
        return sql.SQL(statement).format(**_OPERATORS, **_TEMPORARY, **tables, columns=columns, **values)

    def name_of(self, table: str) -> str:
        """Return the qualified name of a table as text, for functions that take a name as a value."""
        return sql.Identifier(self.schema, table).as_string(self)

    @property
    def users_name(self) -> str:
        """The qualified name of the table of the users, as text."""
        return self.name_of(self.record_type.table)


def listed(columns: Iterable[str]) -> sql.Composed:
    """Return the names of columns with commas between them."""
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def unique_index_name(record_type: RecordType, columns: Sequence[str]) -> str:
    """Return the name of the unique index on columns that identify users."""
    name = unique_index_prefix(record_type) + "_".join(columns)
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(",".join(columns).encode()).hexdigest()[:_DIGEST]
    return f"{name[: _LONGEST_NAME - _DIGEST - 1]}_{digest}"


def unique_index_prefix(record_type: RecordType) -> str:
    """Return the beginning of the names of all unique indexes on columns that identify users."""
    return f"{record_type.table}_unique_by_"
