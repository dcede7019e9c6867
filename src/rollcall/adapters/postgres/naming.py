"""Qualified names of Rollcall's tables and of PostgreSQL's operators, independent of the search path."""

from typing import Any, LiteralString

from psycopg import Connection, Cursor, sql
from psycopg.abc import Params

TABLES = ("users", "imports", "corrections", "lost_uploads", "_yoyo_migration")
UNIQUE_INDEX = "users_unique_by_"  # the prefix of the names of indexes that identify users

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


class Database(Connection[tuple[Any, ...]]):
    """A connection whose statements name Rollcall's tables with their schema.

    Attributes:
        schema: The schema of the tables; empty until the owner sets it, see `find_schema`.
    """

    schema: str = ""

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
            statement: SQL with tables as `{users}` and operators as `{eq}`.
            values: The values of its other names in braces.
        """
        tables = {table: sql.Identifier(self.schema, table) for table in TABLES}
        return sql.SQL(statement).format(**_OPERATORS, **_TEMPORARY, **tables, **values)

    def name_of(self, table: str) -> str:
        """Return the qualified name of a table as text, for functions that take a name as a value."""
        return sql.Identifier(self.schema, table).as_string(self)
