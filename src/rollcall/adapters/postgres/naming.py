"""Names that mean the same under every search path: Rollcall's tables, and PostgreSQL's own operators."""

from typing import Any, LiteralString

from psycopg import Connection, Cursor, sql
from psycopg.abc import Params

TABLES = ("users", "imports", "corrections", "lost_uploads", "_yoyo_migration")
UNIQUE_INDEX = "users_unique_by_"  # how the names of the indexes begin by which users are told apart

# Another client of a pooled connection may have temporary tables of other names there.
_TEMPORARY = {name: sql.Identifier("pg_temp", f"rollcall_{name}") for name in ("staged", "rejected", "merging")}

# Functions are qualified where they stand, as `pg_catalog.count`. Operators of one schema have one precedence, so
# parentheses say what belongs together.
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

_FIND_SCHEMA = """
select path.name from pg_catalog.unnest(pg_catalog.current_schemas(false)) with ordinality as path (name, place)
where not pg_catalog.starts_with(path.name::pg_catalog.text, 'pg_'::pg_catalog.text)
    and pg_catalog.to_regclass(pg_catalog.format('%%I._yoyo_migration', path.name)) is not null
    and pg_catalog.to_regclass(pg_catalog.format('%%I.users', path.name)) is not null
order by path.place limit 1
"""


class Database(Connection[tuple[Any, ...]]):
    """A connection whose statements name Rollcall's tables with their schema.

    Attributes:
        schema: The schema of the tables; empty until `find_schema` was asked.
    """

    schema: str = ""

    def run(
        self,
        statement: LiteralString,
        parameters: Params | None = None,
        **values: sql.Composable,
    ) -> Cursor[tuple[Any, ...]]:
        """Execute a statement with its names filled in; see `composed`."""
        return self.execute(self.composed(statement, **values), parameters)

    def composed(self, statement: LiteralString, **values: sql.Composable) -> sql.Composed:
        """Fill in names.

        Args:
            statement: Names tables as `{users}` and operators as `{eq}`.
            values: What else it names in braces.
        """
        tables = {table: sql.Identifier(self.schema, table) for table in TABLES}
        return sql.SQL(statement).format(**_OPERATORS, **_TEMPORARY, **tables, **values)

    def name_of(self, table: str) -> str:
        """Return the qualified name of a table as a value, for functions that take one."""
        return sql.Identifier(self.schema, table).as_string(self)


def find_schema(connection: Database) -> str:
    """Return the first schema of the search path that holds Rollcall's tables, temporary ones aside; or ''."""
    [name] = connection.run(_FIND_SCHEMA, ()).fetchone() or [""]
    return str(name)
