"""Schema migrations: plain SQL files, applied in the order of their names."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

import psycopg
from psycopg import errors, sql

from rollcall.adapters.postgres.connection import Credentials, connect, nothing_more
from rollcall.adapters.postgres.failures import first_line
from rollcall.adapters.postgres.locks import begin
from rollcall.adapters.postgres.naming import Database
from rollcall.adapters.postgres.schema import (
    applied_migrations,
    find_schema,
    migration_folder,
    migration_ids,
    require_own_ledger,
)
from rollcall.adapters.postgres.unique_index import make_unique_index
from rollcall.adapters.postgres.users_table import extend_users_table, grant_users_table, provide_users_table
from rollcall.application.errors import RepositoryUnavailableError, raise_without_context
from rollcall.domain.policy import Policy
from rollcall.domain.record import RecordType

_LOCK = "select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('rollcall migration'))"
_LOCK_SECONDS = 60
_GRANTEES = ["rollcall_importer", "rollcall_operator"]

# The record of applied migrations has the form of yoyo-migrations 9, which applied them in earlier databases. The
# hash is that of the id.
_RECORD = """
create table {_yoyo_migration} (
    migration_hash varchar(64) primary key,
    migration_id varchar(255),
    applied_at_utc timestamp
)
"""
_RECORD_APPLIED = """
insert into {_yoyo_migration} (migration_hash, migration_id, applied_at_utc) values (
    pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(%s, 'UTF8')), 'hex'),
    %s,
    pg_catalog.timezone('UTC', pg_catalog.now())
)
"""


def migrate(
    conninfo: str,
    record_type: RecordType,
    policy: Policy = Policy(),
    credentials: Credentials = nothing_more,
    *,
    adopt: bool = False,
    up_to: str | None = None,
) -> list[str]:
    """Bring the ledger up to date, and make or adopt the table; then grant rights, and extend and index the table.

    Each of the two steps is done as a whole or not at all.

    The rights go to the roles of docs/roles.sql, if they exist. No state is left in the session, because a pooler
    may share it.

    Args:
        conninfo: A libpq connection string or URL.
        record_type: What a user consists of.
        policy: Names the columns that identify a user.
        credentials: Returns the parameters that the address does not contain; see `connect`.
        adopt: Whether to use a table of the users that another program made.
        up_to: The last migration of the ledger to apply; None for all, and for everything else.

    Returns:
        The steps that were taken, in order; empty if the schema was up to date.

    Raises:
        RepositoryUnavailableError: The database could not be reached, or refused a statement.
        SchemaError: The database's encoding is not UTF-8, the ledger belongs to another table, the table of the
            users does not fit the record, or several users have the same values in the columns of `unique_by`.
    """
    with connect(conninfo, record_type, credentials) as connection:
        try:
            with _alone(connection):
                applied = _apply(connection, up_to)
                if up_to:
                    return applied
                require_own_ledger(connection)
                applied += provide_users_table(connection, adopt=adopt)
            with _alone(connection):
                # In a transaction of its own: the ledger must not wait until a table fits a changed record.
                _grant(connection)
                return applied + extend_users_table(connection) + make_unique_index(connection, policy)
        except errors.InsufficientPrivilege as error:
            role = connection.info.user
            raise_without_context(
                RepositoryUnavailableError(
                    f"the role {role} may not migrate this database ({first_line(error)}); "
                    "migrate as the role that owns the tables"
                )
            )
        except psycopg.Error as error:
            # The other lines of the message may show a row.
            raise_without_context(
                RepositoryUnavailableError(f"the migration failed and was taken back: {first_line(error)}")
            )


@contextmanager
def _alone(connection: Database) -> Iterator[None]:
    """Hold a transaction with the migration lock, whose search path is the schema of the tables.

    Temporary tables come last in the search path, because another client of the session may have left some.
    """
    with connection.transaction():
        begin(connection)
        connection.run("select pg_catalog.set_config('lock_timeout', %s, true)", [f"{_LOCK_SECONDS}s"])
        try:
            connection.execute(_LOCK)
        except errors.LockNotAvailable:
            raise_without_context(
                RepositoryUnavailableError("somebody else is migrating this database; try again later")
            )
        connection.schema = find_schema(connection)
        if not connection.schema:
            [schema] = connection.run("select pg_catalog.current_schema()").fetchone() or [None]
            if schema is None:
                raise RepositoryUnavailableError(
                    "the search path of this role names no schema in which it may create tables; "
                    "migrate as a role that has one"
                )
            connection.schema = schema
        path = sql.Identifier(connection.schema).as_string(connection) + ", pg_temp"
        connection.run("select pg_catalog.set_config('search_path', %s, true)", [path])
        yield


def _grant(connection: Database) -> None:
    """Grant importer and operator their rights in the tables, if the database has both roles."""
    found = connection.run(
        "select rolname from pg_catalog.pg_roles where rolname {eq} any (%s::pg_catalog.text[])", [_GRANTEES]
    ).fetchall()
    if len(found) == len(_GRANTEES):
        connection.execute((files("rollcall.adapters.postgres") / "grants.sql").read_bytes())
        grant_users_table(connection)


def _apply(connection: Database, up_to: str | None) -> list[str]:
    [there] = connection.run(
        "select pg_catalog.to_regclass(%s) is not null", [connection.name_of("_yoyo_migration")]
    ).fetchone() or [False]
    if not there:
        connection.run(_RECORD)
    wanted = [migration for migration in migration_ids() if up_to is None or migration <= up_to]
    applied = applied_migrations(connection)
    missing = [migration for migration in wanted if migration not in applied]
    for migration in missing:
        connection.execute((migration_folder() / f"{migration}.sql").read_bytes())
        connection.run(_RECORD_APPLIED, [migration, migration])
    return missing
