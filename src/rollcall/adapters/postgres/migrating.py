"""The schema, brought up to date by plain SQL files and yoyo."""

from contextlib import contextmanager
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors
from yoyo import read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import DatabaseURI

from rollcall.adapters.postgres.connecting import Credentials, connect, first_line, nothing_more
from rollcall.adapters.postgres.uniqueness import make_unique_index
from rollcall.application.ports import RepositoryUnavailableError, raise_alone
from rollcall.domain.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCK = "select pg_advisory_lock(hashtext('rollcall migrate'))"
_LOCK_SECONDS = 60
_GRANTEES = ["rollcall_importer", "rollcall_operator"]


def migrate(
    conninfo: str,
    policy: Policy = Policy(),
    credentials: Credentials = nothing_more,
    *,
    upto: str | None = None,
) -> list[str]:
    """Apply the migrations that a database lacks, all or none of them, then make the unique index of the policy.

    The roles of docs/roles.sql, where they are there, get their rights anew.

    Args:
        conninfo: A libpq connection string or URL.
        policy: Says how users are told apart.
        credentials: Fill what the address leaves out; see `connect`.
        upto: The last migration to apply; None for all, the rights and the index.

    Returns:
        What was done, in order; empty if there was nothing to do.

    Raises:
        RepositoryUnavailableError: The database could not be reached, or refused, and why.
        SchemaError: The database does not speak UTF-8, or there are users whom the policy takes for one.
    """
    with connect(conninfo, credentials, autocommit=True) as guard:
        try:
            # Whoever holds this is alone, which yoyo's own lock, a row that outlives a killed process, cannot say.
            guard.execute(f"set lock_timeout = '{_LOCK_SECONDS}s'")
            guard.execute(_LOCK)
            applied = _apply(guard.info, upto)
            if upto:
                return applied
            _grant(guard)
            return applied + make_unique_index(guard, policy)
        except errors.LockNotAvailable:
            raise RepositoryUnavailableError("somebody else is migrating this database; try again later") from None
        except psycopg.Error as error:
            # Only the first line: the others may show a row.
            raise_alone(
                RepositoryUnavailableError(f"the migration failed and was taken back: {first_line(error)}")
            )


def _grant(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Give importer and operator their rights in the tables, where a database has these roles."""
    found = connection.execute("select rolname from pg_roles where rolname = any(%s)", [_GRANTEES]).fetchall()
    if len(found) == len(_GRANTEES):
        connection.execute((files("rollcall.adapters.postgres") / "grants.sql").read_bytes())


class _OneConnectionBackend(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo publishes no types
    """Runs a migration where it is also noted down; yoyo itself opens another connection for each."""

    @contextmanager
    def copy(self) -> "Iterator[_OneConnectionBackend]":
        yield self


def _apply(let_in: psycopg.ConnectionInfo, upto: str | None) -> list[str]:
    settings = {**let_in.get_parameters(), "password": let_in.password}
    uri = DatabaseURI(
        scheme="postgresql+psycopg",
        username=None,
        password=None,
        hostname=None,
        port=None,
        database=settings.pop("dbname", None),
        args=settings,
    )
    backend = _OneConnectionBackend(uri, "_yoyo_migration")
    try:
        backend.init_database()
        backend.break_lock()
        with as_file(files("rollcall.adapters.postgres") / "migrations") as folder:
            lacking = backend.to_apply(read_migrations(str(folder)))
            wanted = lacking.filter(lambda migration: upto is None or migration.id <= upto)
            # Within one transaction the change and the note that it was made cannot come apart.
            with backend.transaction():
                backend.apply_migrations(wanted)
            return [migration.id for migration in wanted]
    finally:
        backend.connection.close()
