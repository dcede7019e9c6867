"""Transactions that no timeout ends, their deadlines, and their advisory locks."""

import time
from collections.abc import Iterable, Mapping

from psycopg import errors

from rollcall.adapters.postgres.connection import APPLICATION, SILENCE_SECONDS
from rollcall.adapters.postgres.naming import Database
from rollcall.application.errors import ImportInProgressError, raise_without_context

LOCK_SECONDS = 5
# The longest wait for the merge lock, and the share of the remaining time that the wait may use. The merge itself
# needs the rest.
MERGE_SECONDS = 600
_MERGE_WAIT_SHARE = 0.8

_END_SECONDS = 5
_MOST_ENDINGS = 3  # the next rival that gets the lock may be frozen, too

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
    "tcp_keepalives_idle": f"{SILENCE_SECONDS}s",
    "tcp_keepalives_interval": f"{SILENCE_SECONDS // 3}s",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": f"{2 * SILENCE_SECONDS}s",
}

# Deadlines are compared as text. To parse the name of another client's connection could fail the query.
_UNTIL = f"""
('{APPLICATION} until '::pg_catalog.text {{concat}} pg_catalog.to_char(
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
    and pg_catalog.starts_with(activity.application_name, '{APPLICATION} until '::pg_catalog.text)
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
    if not names:
        return
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
    return f"{APPLICATION} {name}"
