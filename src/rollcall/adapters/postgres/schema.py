"""The schema of the ledger: where it is, whether it is up to date, and which table it serves."""

from importlib.resources import files
from importlib.resources.abc import Traversable

from rollcall.adapters.postgres.naming import Database
from rollcall.adapters.postgres.users_table import require_users_table
from rollcall.application.errors import NotMigratedError, SchemaError

_FIND_SCHEMA = """
select path.name from pg_catalog.unnest(pg_catalog.current_schemas(false)) with ordinality as path (name, place)
where not pg_catalog.starts_with(path.name::pg_catalog.text, 'pg_'::pg_catalog.text)
    and pg_catalog.to_regclass(pg_catalog.format('%%I._yoyo_migration', path.name)) is not null
    and pg_catalog.to_regclass(pg_catalog.format('%%I.imports', path.name)) is not null
order by path.place limit 1
"""


def find_schema(connection: Database) -> str:
    """Return the first schema of the search path that contains Rollcall's tables; "" if none does.

    Schemas of temporary tables are skipped.
    """
    [name] = connection.run(_FIND_SCHEMA, ()).fetchone() or [""]
    return str(name)


def migration_folder() -> Traversable:
    """Return the folder of the migrations, one SQL file each."""
    return files("rollcall.adapters.postgres") / "migrations"


def migration_ids() -> list[str]:
    """Return the ids of all migrations of this version of Rollcall, in order."""
    return sorted(
        path.name.removesuffix(".sql") for path in migration_folder().iterdir() if path.name.endswith(".sql")
    )


def applied_migrations(connection: Database) -> set[str]:
    """Return the ids of the migrations that the database records as applied."""
    return {migration for (migration,) in connection.run("select migration_id from {_yoyo_migration}")}


def require_own_ledger(connection: Database) -> None:
    """Check that the ledger has no import into another table: undo, repeats and corrections would mix the two.

    Raises:
        SchemaError: It has one.
    """
    found = connection.run(
        "select pg_catalog.min(users_table), pg_catalog.max(users_table) from {imports}"
    ).fetchone()
    others = {table for table in found or () if table} - {connection.record_type.table}
    if others:
        raise SchemaError(
            f"the ledger in the schema {connection.schema} belongs to the table {others.pop()}, and the record to "
            f"{connection.record_type.table}; use another schema or another database for that record"
        )


def require_schema(connection: Database) -> None:
    """Set the connection's schema, and check that it is up to date and serves the record.

    Raises:
        NotMigratedError: The tables do not exist, a migration is missing, or the table does not fit the record.
        SchemaError: The ledger belongs to another table.
    """
    connection.schema = find_schema(connection)
    if not connection.schema:
        raise NotMigratedError(f"the database {connection.info.dbname} has no tables of Rollcall yet")
    applied = applied_migrations(connection)
    missing = [migration for migration in migration_ids() if migration not in applied]
    if missing:
        raise NotMigratedError(f"the database {connection.info.dbname} lacks {', '.join(missing)}")
    require_own_ledger(connection)
    require_users_table(connection)
