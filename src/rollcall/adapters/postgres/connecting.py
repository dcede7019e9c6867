"""Connections to PostgreSQL, and its errors in words that show no row."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

import psycopg
from psycopg import Connection, IsolationLevel, errors

from rollcall.application.ports import (
    ImportInProgressError,
    RepositoryUnavailableError,
    SchemaError,
    raise_alone,
)

LOCK_SECONDS = 5

_CONNECT_SECONDS = 10
_SILENCE_SECONDS = 30


def connect(conninfo: str, *, autocommit: bool = False) -> "Connection[tuple[object, ...]]":
    """Open a connection that gives up on a dead peer.

    Args:
        conninfo: A libpq connection string or URL; `PG*` variables fill what it leaves out.
        autocommit: Whether each statement is a transaction of its own.

    Raises:
        RepositoryUnavailableError: There is no way in, and why.
        SchemaError: The database does not speak UTF-8.
    """
    try:
        connection = psycopg.connect(
            conninfo,
            autocommit=autocommit,
            client_encoding="utf8",
            application_name="rollcall",
            connect_timeout=_CONNECT_SECONDS,
            keepalives_idle=_SILENCE_SECONDS,
            keepalives_interval=_SILENCE_SECONDS // 3,
            keepalives_count=3,
            tcp_user_timeout=_SILENCE_SECONDS * 1000,
        )
    except psycopg.ProgrammingError:
        # What libpq cannot make out it quotes, and it may be the password.
        raise_alone(
            RepositoryUnavailableError(
                "the address of the database is not one that PostgreSQL understands; it should read "
                "postgresql://user:password@host:port/database, with % and two hexadecimal digits for each "
                "character of the password that is neither a letter nor a digit"
            )
        )
    except psycopg.Error as error:
        raise RepositoryUnavailableError(f"the database could not be reached: {first_line(error)}") from error
    # Claims are of use only to who sees, after waiting for one, what was committed meanwhile.
    connection.isolation_level = IsolationLevel.READ_COMMITTED
    name, encoding = connection.info.dbname, connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        connection.close()
        raise SchemaError(
            f"the database {name} has the encoding {encoding}, in which not every name can be "
            "stored; make one with ENCODING 'UTF8'"
        )
    return connection


def claim(connection: "Connection[tuple[object, ...]]", *names: str) -> None:
    """Take transaction-level advisory locks, always in one order, so that rivals cannot block each other.

    Raises:
        psycopg.errors.LockNotAvailable: One was not to be had within `LOCK_SECONDS`.
    """
    connection.execute("select set_config('lock_timeout', %s, true)", [f"{LOCK_SECONDS}s"])
    for name in sorted(set(names)):
        connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"rollcall {name}"])


def migration_ids() -> list[str]:
    """List the migrations of this version of Rollcall, in their order."""
    folder = files("rollcall.adapters.postgres") / "migrations"
    return sorted(path.name.removesuffix(".sql") for path in folder.iterdir() if path.name.endswith(".sql"))


def require_schema(connection: "Connection[tuple[object, ...]]") -> None:
    """Make sure that the database is migrated as far as this version needs.

    Raises:
        SchemaError: It is not.
    """
    try:
        applied = {row[0] for row in connection.execute("select migration_id from _yoyo_migration")}
    except errors.UndefinedTable as error:
        raise SchemaError(
            f"the database {connection.info.dbname} has no tables of Rollcall yet; run: rollcall migrate"
        ) from error
    missing = [migration for migration in migration_ids() if migration not in applied]
    if missing:
        raise SchemaError(
            f"the database {connection.info.dbname} lacks {', '.join(missing)}; run: rollcall migrate"
        )


@contextmanager
def told_by() -> Iterator[None]:
    """Turn psycopg's errors into the port's, without their texts: those may hold whole rows.

    The cause is left out for the same reason: whoever logs a traceback would log the row.
    """
    try:
        yield
    except psycopg.Error as error:
        raise_alone(_in_our_words(error))


def _in_our_words(error: psycopg.Error) -> ImportInProgressError | RepositoryUnavailableError:
    if isinstance(error, errors.LockNotAvailable):
        return ImportInProgressError()
    if isinstance(error, errors.InsufficientPrivilege):
        return RepositoryUnavailableError(
            f"the database user may not do this ({first_line(error)}); grant it what README.md lists"
        )
    if isinstance(error, errors.DiskFull):
        return RepositoryUnavailableError("the disk of the database is full; nothing was registered")
    kind = type(error).__name__
    return RepositoryUnavailableError(
        f"the database failed ({kind}, SQLSTATE {error.sqlstate})"
        if error.sqlstate
        else f"the connection to the database was lost ({kind})"
    )


def first_line(error: psycopg.Error) -> str:
    """Give the beginning of a message, which shows no row where no row was sent."""
    return str(error).strip().partition("\n")[0]
