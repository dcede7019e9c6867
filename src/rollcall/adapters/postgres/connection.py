"""Connections to PostgreSQL, their transactions and advisory locks, and the check of the schema."""

import time
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files

import psycopg
from psycopg import IsolationLevel, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from rollcall.adapters.postgres.failures import first_line
from rollcall.adapters.postgres.naming import Database, find_schema
from rollcall.application.errors import (
    ImportInProgressError,
    NotMigratedError,
    RepositoryUnavailableError,
    SchemaError,
    raise_without_context,
)

LOCK_SECONDS = 5
# The longest wait for the merge lock, and the share of the remaining time that the wait may use. The merge itself
# needs the rest.
MERGE_SECONDS = 600
_MERGE_WAIT_SHARE = 0.8

_APPLICATION = "rollcall"
_CONNECT_SECONDS = 10
_END_SECONDS = 5
_MOST_ENDINGS = 3  # the next rival that gets the lock may be frozen, too
_SILENCE_SECONDS = 30

_OURS: Mapping[str, str | int] = {
    "client_encoding": "utf8",
    "application_name": _APPLICATION,
    "connect_timeout": _CONNECT_SECONDS,
    "keepalives_idle": _SILENCE_SECONDS,
    "keepalives_interval": _SILENCE_SECONDS // 3,
    "keepalives_count": 3,
    "tcp_user_timeout": _SILENCE_SECONDS * 1000,
}

# Settings of each transaction, regardless of the settings of role, database and pooled connection. They are not in
# `options`, because those last for the session and poolers reject them.
# No timeout ends a transaction: a COPY runs while its upload is read, and a transaction is idle while every row
# is rejected. TCP detects a client that is gone, and a rival terminates a frozen client, see `acquire_locks`.
# By default, a server probes a silent client only after two hours, and retransmits for a quarter of an hour.
_TRANSACTION: Mapping[str, str] = {
    "synchronous_commit": "on",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "transaction_timeout": "0",
    "tcp_keepalives_idle": f"{_SILENCE_SECONDS}s",
    "tcp_keepalives_interval": f"{_SILENCE_SECONDS // 3}s",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": f"{2 * _SILENCE_SECONDS}s",
}

# Called before each connection for the libpq parameters that its address does not contain. The next candidate is
# requested only when the server rejected the one before.
Credentials = Callable[[], Iterable[Mapping[str, str]]]


def nothing_more() -> Iterable[Mapping[str, str]]:
    """Return one candidate without parameters: the address is complete."""
    return [{}]


def connect(conninfo: str, credentials: Credentials = nothing_more) -> Database:
    """Open a connection that gives up on a dead peer.

    Args:
        conninfo: A libpq connection string or URL.
        credentials: Returns the parameters that the string does not contain. libpq takes parameters that are
            missing in both from the `PG*` variables.

    Raises:
        RepositoryUnavailableError: The database could not be reached, or rejected the login.
        SchemaError: The database's encoding is not UTF-8.
    """
    try:
        address = conninfo_to_dict(conninfo)
        connection = _first_let_in({**filled_in, **address, **_OURS} for filled_in in credentials())
    except psycopg.ProgrammingError:
        # libpq quotes the part that it cannot parse, which may be the password.
        raise_without_context(
            RepositoryUnavailableError(
                "the address of the database is not one that PostgreSQL understands; it should read "
                "postgresql://user:password@host:port/database, with % and two hexadecimal digits for each "
                "character of the password that is neither a letter nor a digit"
            )
        )
    except psycopg.Error as error:
        raise RepositoryUnavailableError(f"the database could not be reached: {first_line(error)}") from error
    # After waiting for a lock, an import must see what its rival committed.
    connection.isolation_level = IsolationLevel.READ_COMMITTED
    name, encoding = connection.info.dbname, connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        connection.close()
        raise SchemaError(
            f"the database {name} has the encoding {encoding}, in which not every name can be "
            "stored; make one with ENCODING 'UTF8'"
        )
    return connection


def _first_let_in(addresses: Iterable[Mapping[str, str | int | None]]) -> Database:
    """Return a connection to the first address that the server accepts.

    Raises:
        psycopg.OperationalError: The server rejected every address; this is the error of the last one.
    """
    rejected_on_merge = psycopg.OperationalError("no credentials were given")
    for address in addresses:
        try:
            # No prepared statements: they outlive their transaction, and a proxy may run the next transaction on
            # another connection.
            return Database.connect(make_conninfo("", **address), prepare_threshold=None)
        except psycopg.OperationalError as error:
            rejected_on_merge = error
    raise rejected_on_merge


# Deadlines are compared as text. To parse the name of another client's connection could fail the query.
_UNTIL = f"""
('{_APPLICATION} until '::pg_catalog.text {{concat}} pg_catalog.to_char(
    pg_catalog.timezone(
        'UTC'::pg_catalog.text,
        pg_catalog.clock_timestamp() {{plus}} pg_catalog.make_interval(secs => %(seconds_left)s::double precision)
    ),
    'YYYY-MM-DD"T"HH24:MI:SS"Z"'::pg_catalog.text
))
"""
_PUBLISH_DEADLINE = f"select pg_catalog.set_config('application_name', {_UNTIL}, true)"
_HASH = "pg_catalog.hashtextextended({}, 0::bigint)"
_TERMINATE_EXPIRED = f"""
select pg_catalog.pg_terminate_backend(locks.pid, %(milliseconds)s::bigint)
from pg_catalog.pg_locks as locks join pg_catalog.pg_stat_activity as activity on activity.pid {{eq}} locks.pid
where locks.locktype {{eq}} 'advisory' and locks.granted and locks.objsubid {{eq}} 1
    and locks.database {{eq}} (
        select oid from pg_catalog.pg_database where datname {{eq}} pg_catalog.current_database()
    )
    and ((locks.classid::bigint {{shift}} 32) {{bit_or}} locks.objid::bigint) {{eq}} any (
        select {_HASH.format("name")} from pg_catalog.unnest(%(names)s::pg_catalog.text[]) as asked (name)
    )
    and activity.usename {{eq}} current_user and locks.pid {{ne}} pg_catalog.pg_backend_pid()
    and pg_catalog.starts_with(activity.application_name, '{_APPLICATION} until '::pg_catalog.text)
    and (activity.application_name collate pg_catalog."C") {{lt}} {_UNTIL}
group by locks.pid
"""  # noqa: S608 - put together from our own words
_LOCK = f"select pg_catalog.pg_advisory_xact_lock({_HASH.format('%s::pg_catalog.text')})"
_TRY_LOCKS = f"""
select lock from pg_catalog.unnest(%s::pg_catalog.text[]) as asked (lock)
where pg_catalog.pg_try_advisory_xact_lock({_HASH.format("lock")})
"""  # noqa: S608 - as above


def begin(connection: Database) -> None:
    """Begin a transaction that no timeout ends, and whose commit is durable once it is acknowledged.

    Raises:
        psycopg.Error: The connection is broken.
    """
    _set(connection, {**_TRANSACTION, "lock_timeout": _milliseconds(LOCK_SECONDS)})


def publish_deadline(connection: Database, seconds_left: float) -> None:
    """Publish the transaction's deadline in `application_name`; rivals may terminate it afterwards.

    The deadline is a time of the server's clock. The name lasts until the transaction ends, so the session may be
    a pooled one.

    Args:
        connection: In a transaction that has no locks yet.
        seconds_left: The seconds until the deadline.
    """
    connection.run(_PUBLISH_DEADLINE, {"seconds_left": seconds_left})


def acquire_locks(connection: Database, *names: str, wait_seconds: float | None = None) -> None:
    """Acquire transaction-level advisory locks, always in the same order, so that rivals cannot deadlock.

    If the holder's machine disappears, its locks are released within a minute.
    A holder of the same role whose deadline has passed is terminated, see `publish_deadline`: the server itself
    does not detect a frozen client.

    Args:
        connection: In a transaction, see `begin`.
        names: The names of the locks.
        wait_seconds: How long to wait; None for `LOCK_SECONDS`.

    Raises:
        ImportInProgressError: A rival held one of the locks for that long.
    """
    locks = [_lock_of(name) for name in sorted(set(names))]
    give_up_at = time.monotonic() + (LOCK_SECONDS if wait_seconds is None else wait_seconds)
    endings_left = _MOST_ENDINGS
    seconds = LOCK_SECONDS if wait_seconds is None else min(LOCK_SECONDS, wait_seconds)
    while not _taken(connection, locks, seconds):
        seconds = min(LOCK_SECONDS, give_up_at - time.monotonic())
        if endings_left and _terminate_expired(connection, locks):
            endings_left -= 1
            seconds = LOCK_SECONDS
        elif seconds <= 0:
            raise_without_context(ImportInProgressError())


def merge_wait_seconds(seconds_left: float | None) -> float:
    """Return how many seconds an import waits for the merge lock.

    Args:
        seconds_left: The seconds until the import's deadline; None if it has no deadline.
    """
    if seconds_left is None:
        return MERGE_SECONDS
    return max(LOCK_SECONDS, min(MERGE_SECONDS, seconds_left * _MERGE_WAIT_SHARE))


def _taken(connection: Database, locks: list[str], seconds: float) -> bool:
    """Acquire all locks or none, and return whether all were acquired in time."""
    connection.execute("savepoint locking")
    try:
        if seconds != LOCK_SECONDS:
            _set(connection, {"lock_timeout": _milliseconds(seconds)})
        for lock in locks:
            connection.run(_LOCK, [lock])
    except errors.LockNotAvailable:
        connection.execute("rollback to savepoint locking")
        return False
    if seconds != LOCK_SECONDS:
        _set(connection, {"lock_timeout": _milliseconds(LOCK_SECONDS)})
    connection.execute("release savepoint locking")
    return True


def _milliseconds(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"  # 0 would disable the timeout


def _set(connection: Database, settings: Mapping[str, str]) -> None:
    """Set parameters until the transaction ends; those that the server does not know are skipped."""
    connection.run(
        "select pg_catalog.set_config(name, setting, true) "
        "from rows from (pg_catalog.unnest(%s::pg_catalog.text[]), pg_catalog.unnest(%s::pg_catalog.text[])) "
        "as said (name, setting) "
        "where pg_catalog.current_setting(name, true) is not null",
        [list(settings), list(settings.values())],
    )


def _terminate_expired(connection: Database, locks: list[str]) -> int:
    """Terminate the holders of these locks that have our role and whose deadline has passed.

    Returns:
        How many were terminated.
    """
    found = connection.run(
        _TERMINATE_EXPIRED, {"names": locks, "milliseconds": _END_SECONDS * 1000, "seconds_left": 0}
    )
    return found.rowcount


def try_locks(connection: Database, names: Iterable[str]) -> list[str]:
    """Acquire the same locks as `acquire_locks`, without waiting.

    Returns:
        The names of the acquired locks; the others are held by rivals.
    """
    names_of = {_lock_of(name): name for name in names}
    return [names_of[str(lock)] for (lock,) in connection.run(_TRY_LOCKS, [list(names_of)])]


def _lock_of(name: str) -> str:
    return f"{_APPLICATION} {name}"


def migration_ids() -> list[str]:
    """Return the ids of all migrations of this version of Rollcall, in order."""
    folder = files("rollcall.adapters.postgres") / "migrations"
    return sorted(path.name.removesuffix(".sql") for path in folder.iterdir() if path.name.endswith(".sql"))


def require_schema(connection: Database) -> None:
    """Set the connection's schema, and check that every migration of this version is applied.

    Raises:
        NotMigratedError: The tables do not exist, or a migration is missing.
    """
    connection.schema = find_schema(connection)
    if not connection.schema:
        raise NotMigratedError(f"the database {connection.info.dbname} has no tables of Rollcall yet")
    applied = {row[0] for row in connection.run("select migration_id from {_yoyo_migration}")}
    missing = [migration for migration in migration_ids() if migration not in applied]
    if missing:
        raise NotMigratedError(f"the database {connection.info.dbname} lacks {', '.join(missing)}")
