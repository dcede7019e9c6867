"""Connections to PostgreSQL, and its errors in words that show no row."""

import time
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files

import psycopg
from psycopg import IsolationLevel, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from rollcall.adapters.postgres.failures import first_line
from rollcall.adapters.postgres.naming import Database, find_schema
from rollcall.application.ports import (
    ImportInProgressError,
    RepositoryUnavailableError,
    SchemaError,
    raise_alone,
)

LOCK_SECONDS = 5
# For so long an import waits to merge its rows; of the time that it has, the merge itself needs a share.
MERGE_SECONDS = 600
_MERGE_WAIT_SHARE = 0.8

_APPLICATION = "rollcall"
_CONNECT_SECONDS = 10
_END_SECONDS = 5
_MOST_ENDINGS = 3  # one after the other: whoever waited behind a frozen worker may be frozen, too
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

# What a transaction needs, whatever the settings of role, database and pooled connection. In `options` these
# would last for the session, and poolers let none in. A COPY takes as long as its upload is read, and a
# transaction is idle as long as only bad rows come, so no timeout ends either: a client that is gone is noticed
# by TCP, and one that is frozen is ended by a rival, see `claim`. By default a server asks a silent client after
# two hours whether it is there, and repeats for a quarter of an hour what it does not take.
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

# Asked before each connection for libpq's parameters that its address leaves out; of several, each is tried where
# the one before was turned down, and is not asked for until then.
Credentials = Callable[[], Iterable[Mapping[str, str]]]


def nothing_more() -> Iterable[Mapping[str, str]]:
    """Add nothing to an address."""
    return [{}]


def connect(conninfo: str, credentials: Credentials = nothing_more) -> Database:
    """Open a connection that gives up on a dead peer.

    Args:
        conninfo: A libpq connection string or URL.
        credentials: Fill what it leaves out; `PG*` variables fill what is left out then.

    Raises:
        RepositoryUnavailableError: There is no way in, and why.
        SchemaError: The database does not speak UTF-8.
    """
    try:
        address = conninfo_to_dict(conninfo)
        connection = _first_let_in({**filled_in, **address, **_OURS} for filled_in in credentials())
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


def _first_let_in(addresses: Iterable[Mapping[str, str | int | None]]) -> Database:
    """Try one address after the other.

    Raises:
        psycopg.OperationalError: The last of them was turned down.
    """
    turned_down = psycopg.OperationalError("no credentials were given")
    for address in addresses:
        try:
            # A statement that the server keeps prepared outlives its transaction; behind a proxy, the next one may
            # run on another connection.
            return Database.connect(make_conninfo("", **address), prepare_threshold=None)
        except psycopg.OperationalError as error:
            turned_down = error
    raise turned_down


# As text, because that can be compared without being read: whatever anybody calls himself, no query fails by it.
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
    """Begin a transaction that holds until it is ended here, and is durable once its commit is acknowledged.

    Raises:
        psycopg.Error: The connection is broken.
    """
    _set(connection, {**_TRANSACTION, "lock_timeout": _milliseconds(LOCK_SECONDS)})


def say_until(connection: Database, seconds_left: float) -> None:
    """Tell rivals, by the name of the connection, when the owner of this transaction is frozen or dead.

    It is said by the server's clock and until the transaction ends, so it needs no session of its own.

    Args:
        connection: In a transaction, before it claims anything.
        seconds_left: How long its owner may still live.
    """
    connection.run(_PUBLISH_DEADLINE, {"seconds_left": seconds_left})


def claim(connection: Database, *names: str, wait_seconds: float | None = None) -> None:
    """Take transaction-level advisory locks, always in one order, so that rivals cannot block each other.

    They are free again a minute after the holder's machine is gone without a word.
    A holder of our own role that is overdue is ended, see `say_until`: the server does not notice by itself that
    a client is frozen.

    Args:
        connection: In a transaction, see `begin`.
        names: What is locked.
        wait_seconds: How long to wait; None for `LOCK_SECONDS`.

    Raises:
        ImportInProgressError: Somebody else held one of them for that long.
    """
    locks = [_lock_of(name) for name in sorted(set(names))]
    give_up_at = time.monotonic() + (LOCK_SECONDS if wait_seconds is None else wait_seconds)
    endings_left = _MOST_ENDINGS
    seconds = LOCK_SECONDS if wait_seconds is None else min(LOCK_SECONDS, wait_seconds)
    while not _taken(connection, locks, seconds):
        seconds = min(LOCK_SECONDS, give_up_at - time.monotonic())
        if endings_left and _end_overdue_holders(connection, locks):
            endings_left -= 1
            seconds = LOCK_SECONDS
        elif seconds <= 0:
            raise_alone(ImportInProgressError())


def merge_wait_seconds(seconds_left: float | None) -> float:
    """Return how long an import waits for another that merges.

    Args:
        seconds_left: The seconds until its owner's deadline; None if it has none.
    """
    if seconds_left is None:
        return MERGE_SECONDS
    return max(LOCK_SECONDS, min(MERGE_SECONDS, seconds_left * _MERGE_WAIT_SHARE))


def _taken(connection: Database, locks: list[str], seconds: float) -> bool:
    """Take all of some locks or none, and return whether that was possible in time."""
    connection.execute("savepoint claiming")
    try:
        if seconds != LOCK_SECONDS:
            _set(connection, {"lock_timeout": _milliseconds(seconds)})
        for lock in locks:
            connection.run(_LOCK, [lock])
    except errors.LockNotAvailable:
        connection.execute("rollback to savepoint claiming")
        return False
    if seconds != LOCK_SECONDS:
        _set(connection, {"lock_timeout": _milliseconds(LOCK_SECONDS)})
    connection.execute("release savepoint claiming")
    return True


def _milliseconds(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"  # 0 would be without end


def _set(connection: Database, settings: Mapping[str, str]) -> None:
    """Set what holds until the transaction ends, as far as the server knows it."""
    connection.run(
        "select pg_catalog.set_config(name, setting, true) "
        "from rows from (pg_catalog.unnest(%s::pg_catalog.text[]), pg_catalog.unnest(%s::pg_catalog.text[])) "
        "as said (name, setting) "
        "where pg_catalog.current_setting(name, true) is not null",
        [list(settings), list(settings.values())],
    )


def _end_overdue_holders(connection: Database, locks: list[str]) -> int:
    """End whoever of our role holds one of these locks for longer than it said that it can live.

    Returns:
        How many there were.
    """
    found = connection.run(
        _TERMINATE_EXPIRED, {"names": locks, "milliseconds": _END_SECONDS * 1000, "seconds_left": 0}
    )
    return found.rowcount


def claim_free(connection: Database, names: Iterable[str]) -> list[str]:
    """Take the same locks without waiting.

    Returns:
        The names of those that nobody held.
    """
    names_of = {_lock_of(name): name for name in names}
    return [names_of[str(lock)] for (lock,) in connection.run(_TRY_LOCKS, [list(names_of)])]


def _lock_of(name: str) -> str:
    return f"{_APPLICATION} {name}"


def migration_ids() -> list[str]:
    """List the migrations of this version of Rollcall, in their order."""
    folder = files("rollcall.adapters.postgres") / "migrations"
    return sorted(path.name.removesuffix(".sql") for path in folder.iterdir() if path.name.endswith(".sql"))


def require_schema(connection: Database) -> None:
    """Find the schema of the tables, and make sure that it is migrated as far as this version needs.

    Raises:
        SchemaError: It is not.
    """
    connection.schema = find_schema(connection)
    if not connection.schema:
        raise SchemaError(
            f"the database {connection.info.dbname} has no tables of Rollcall yet; run: rollcall migrate"
        )
    applied = {row[0] for row in connection.run("select migration_id from {_yoyo_migration}")}
    missing = [migration for migration in migration_ids() if migration not in applied]
    if missing:
        raise SchemaError(
            f"the database {connection.info.dbname} lacks {', '.join(missing)}; run: rollcall migrate"
        )
