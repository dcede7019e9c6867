"""Connections to PostgreSQL, and its errors in words that show no row."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files

import psycopg
from psycopg import Connection, IsolationLevel, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from rollcall.application.ports import (
    ImportInProgressError,
    RepositoryUnavailableError,
    SchemaError,
    raise_alone,
)

LOCK_SECONDS = 5

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

# By default a server asks a silent client after two hours whether it is there, and repeats for a quarter of an
# hour what it does not take. In `options` these would last for the session, and poolers let none in.
_WHILE_CLAIMED: Mapping[str, str] = {
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


def connect(
    conninfo: str, credentials: Credentials = nothing_more, *, autocommit: bool = False
) -> "Connection[tuple[object, ...]]":
    """Open a connection that gives up on a dead peer.

    Args:
        conninfo: A libpq connection string or URL.
        credentials: Fill what it leaves out; `PG*` variables fill what is left out then.
        autocommit: Whether each statement is a transaction of its own.

    Raises:
        RepositoryUnavailableError: There is no way in, and why.
        SchemaError: The database does not speak UTF-8.
    """
    try:
        address = conninfo_to_dict(conninfo)
        connection = _first_let_in({**filled_in, **address, **_OURS} for filled_in in credentials())
        connection.autocommit = autocommit
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


def _first_let_in(addresses: Iterable[Mapping[str, str | int | None]]) -> "Connection[tuple[object, ...]]":
    """Try one address after the other.

    Raises:
        psycopg.OperationalError: The last of them was turned down.
    """
    turned_down = psycopg.OperationalError("no credentials were given")
    for address in addresses:
        try:
            # A statement that the server keeps prepared outlives its transaction; behind a proxy, the next one may
            # run on another connection.
            return psycopg.connect(make_conninfo("", **address), prepare_threshold=None)
        except psycopg.OperationalError as error:
            turned_down = error
    raise turned_down


# As text, because that can be compared without being read: whatever anybody calls himself, no query fails by it.
_UNTIL = f"""
'{_APPLICATION} until ' || to_char(
    (clock_timestamp() + make_interval(secs => %(seconds_left)s)) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'
)
"""
_END_OVERDUE = f"""
select pg_terminate_backend(pid, %(milliseconds)s)
from pg_locks join pg_stat_activity using (pid)
where locktype = 'advisory' and granted and objsubid = 1
    and database = (select oid from pg_database where datname = current_database())
    and (classid::bigint << 32) | objid::bigint
        in (select hashtextextended(name, 0) from unnest(%(names)s::text[]) as name)
    and usename = current_user and pid <> pg_backend_pid()
    and application_name like '{_APPLICATION} until %%' and application_name collate "C" < {_UNTIL}
group by pid
"""  # noqa: S608 - put together from our own words


def say_until(connection: "Connection[tuple[object, ...]]", seconds_left: float) -> None:
    """Tell rivals, by the name of the connection, when the owner of this transaction is frozen or dead.

    It is said by the server's clock and until the transaction ends, so it needs no session of its own.

    Args:
        connection: In a transaction, before it claims anything.
        seconds_left: How long its owner may still live.
    """
    connection.execute(f"select set_config('application_name', {_UNTIL}, true)", {"seconds_left": seconds_left})


def claim(connection: "Connection[tuple[object, ...]]", *names: str) -> None:
    """Take transaction-level advisory locks, always in one order, so that rivals cannot block each other.

    They are free again a minute after the holder's machine is gone without a word.
    A holder of our own role that is overdue is ended, see `say_until`: the server does not notice by itself that
    a client is frozen.

    Raises:
        psycopg.errors.LockNotAvailable: One was not to be had within `LOCK_SECONDS`.
    """
    locks = [_lock_of(name) for name in sorted(set(names))]
    _set(connection, {**_WHILE_CLAIMED, "lock_timeout": f"{LOCK_SECONDS}s"})
    connection.execute("savepoint claiming")
    for endings_left in reversed(range(_MOST_ENDINGS + 1)):
        try:
            for lock in locks:
                connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [lock])
            break
        except errors.LockNotAvailable:
            connection.execute("rollback to savepoint claiming")
            if not endings_left or not _end_overdue_holders(connection, locks):
                raise
    connection.execute("release savepoint claiming")


def _set(connection: "Connection[tuple[object, ...]]", settings: Mapping[str, str]) -> None:
    """Set what holds until the transaction ends."""
    connection.execute(
        "select set_config(name, setting, true) from unnest(%s::text[], %s::text[]) as said (name, setting)",
        [list(settings), list(settings.values())],
    )


def _end_overdue_holders(connection: "Connection[tuple[object, ...]]", locks: list[str]) -> int:
    """End whoever of our role holds one of these locks for longer than it said that it can live.

    Returns:
        How many there were.
    """
    found = connection.execute(
        _END_OVERDUE, {"names": locks, "milliseconds": _END_SECONDS * 1000, "seconds_left": 0}
    )
    return found.rowcount


def claim_free(connection: "Connection[tuple[object, ...]]", names: Iterable[str]) -> list[str]:
    """Take the same locks without waiting.

    Returns:
        The names of those that nobody held.
    """
    _set(connection, _WHILE_CLAIMED)
    names_of = {_lock_of(name): name for name in names}
    taken = connection.execute(
        "select lock from unnest(%s::text[]) as asked (lock) "
        "where pg_try_advisory_xact_lock(hashtextextended(lock, 0))",
        [list(names_of)],
    )
    return [names_of[str(lock)] for (lock,) in taken]


def _lock_of(name: str) -> str:
    return f"{_APPLICATION} {name}"


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
    if isinstance(error, errors.LockNotAvailable) or _is_ledgers(error):
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


def _is_ledgers(error: psycopg.Error) -> bool:
    """Tell whether a constraint of the ledger was violated: a rival was faster."""
    return isinstance(error, errors.UniqueViolation) and error.diag.table_name in {"imports", "corrections"}


def first_line(error: psycopg.Error) -> str:
    """Give the beginning of a message, which shows no row where no row was sent."""
    return str(error).strip().partition("\n")[0]
