"""The schema of Rollcall's tables: where it is, and whether it is up to date."""

from importlib.resources import files
from importlib.resources.abc import Traversable

from rollcall.adapters.postgres.naming import Database
from rollcall.application.errors import NotMigratedError

_FIND_SCHEMA = """
select path.name from pg_catalog.unnest(pg_catalog.current_schemas(false)) with ordinality as path (name, place)
where not pg_catalog.starts_with(path.name::pg_catalog.text, 'pg_'::pg_catalog.text)
    and pg_catalog.to_regclass(pg_catalog.format('%%I._yoyo_migration', path.name)) is not null
    and pg_catalog.to_regclass(pg_catalog.format('%%I.users', path.name)) is not null
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


def require_schema(connection: Database) -> None:
    """Set the connection's schema, and check that every migration of this version is applied.

    Raises:
        NotMigratedError: The tables do not exist, or a migration is missing.
    """
    connection.schema = find_schema(connection)
    if not connection.schema:
        raise NotMigratedError(f"the database {connection.info.dbname} has no tables of Rollcall yet")
    applied = applied_migrations(connection)
    missing = [migration for migration in migration_ids() if migration not in applied]
    if missing:
        raise NotMigratedError(f"the database {connection.info.dbname} lacks {', '.join(missing)}")
