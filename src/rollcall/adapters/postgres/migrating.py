"""The schema, brought up to date by plain SQL files and yoyo."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from typing import Any

import psycopg
from psycopg import errors, sql
from yoyo import read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import DatabaseURI

from rollcall.adapters.postgres.connecting import Credentials, begin, connect, nothing_more
from rollcall.adapters.postgres.failures import first_line
from rollcall.adapters.postgres.naming import Database, find_schema
from rollcall.adapters.postgres.uniqueness import make_unique_index
from rollcall.application.ports import RepositoryUnavailableError, raise_alone
from rollcall.domain.policy import Policy

_LOCK = "select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('rollcall migrate'))"
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

    The roles of docs/roles.sql, where they are there, get their rights anew. Nothing is left in the session, which
    may be that of a pooler.

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
    with connect(conninfo, credentials) as connection:
        try:
            with _alone(connection):
                applied = _apply(connection, upto)
            if upto:
                return applied
            with _alone(connection):
                _grant(connection)
                return applied + make_unique_index(connection, policy)
        except errors.InsufficientPrivilege as error:
            role = connection.info.user
            raise_alone(
                RepositoryUnavailableError(
                    f"the role {role} may not migrate this database ({first_line(error)}); "
                    "migrate as the role that owns the tables"
                )
            )
        except psycopg.Error as error:
            # Only the first line: the others may show a row.
            raise_alone(
                RepositoryUnavailableError(f"the migration failed and was taken back: {first_line(error)}")
            )


@contextmanager
def _alone(connection: Database) -> Iterator[None]:
    """Hold a transaction in which nobody else migrates, and in which names mean the tables in one schema.

    yoyo's own lock is a row that survives a killed process; this advisory lock does not. In the search path, the
    schema stands before temporary tables, which another client of the session may have left there.
    """
    with connection.transaction():
        begin(connection)
        connection.run("select pg_catalog.set_config('lock_timeout', %s, true)", [f"{_LOCK_SECONDS}s"])
        try:
            connection.execute(_LOCK)
        except errors.LockNotAvailable:
            raise_alone(RepositoryUnavailableError("somebody else is migrating this database; try again later"))
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
    """Give importer and operator their rights in the tables, where a database has these roles."""
    found = connection.run(
        "select rolname from pg_catalog.pg_roles where rolname {eq} any (%s::pg_catalog.text[])", [_GRANTEES]
    ).fetchall()
    if len(found) == len(_GRANTEES):
        connection.execute((files("rollcall.adapters.postgres") / "grants.sql").read_bytes())


class _Lent:
    """What yoyo sees of a connection whose transaction is not its own to end."""

    def __init__(self, connection: Database) -> None:
        self.cursor = connection.cursor
        self.info = connection.info

    def commit(self) -> None:
        """Leave it to the owner."""

    rollback = close = commit


class _LentBackend(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo publishes no types
    """Works in a transaction that is open already; yoyo itself opens another connection for each migration.

    Args:
        connection: In a transaction of its own.
    """

    def __init__(self, connection: Database) -> None:
        self._lent = _Lent(connection)
        super().__init__(DatabaseURI("postgresql+psycopg", None, None, None, None, None, {}), "_yoyo_migration")

    def connect(self, _: DatabaseURI) -> _Lent:
        return self._lent

    @contextmanager
    def copy(self) -> "Iterator[_LentBackend]":
        yield self

    @contextmanager
    def lock(self, *_: Any, **__: Any) -> Iterator[None]:  # noqa: ANN401 - yoyo's
        """Do nothing: nobody else migrates, see `_alone`."""
        yield

    def begin(self) -> None:
        self._in_transaction = True
        self.execute("savepoint yoyo")

    def commit(self) -> None:
        self.execute("release savepoint yoyo")
        self._in_transaction = False

    def rollback(self) -> None:
        self.execute("rollback to savepoint yoyo")
        self._in_transaction = False


def _apply(connection: Database, upto: str | None) -> list[str]:
    backend = _LentBackend(connection)
    with as_file(files("rollcall.adapters.postgres") / "migrations") as folder:
        lacking = backend.to_apply(read_migrations(str(folder)))
        wanted = lacking.filter(lambda migration: upto is None or migration.id <= upto)
        # Within one transaction the change and the note that it was made cannot come apart.
        with backend.transaction():
            backend.apply_migrations(wanted)
        return [migration.id for migration in wanted]
