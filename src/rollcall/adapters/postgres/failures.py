"""PostgreSQL's errors in words that show no row."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC
from typing import LiteralString

import psycopg
from psycopg import errors

from rollcall.adapters.postgres.naming import TABLES, UNIQUE_INDEX, Database
from rollcall.application.ports import (
    ImportInProgressError,
    RepositoryUnavailableError,
    TableConstraintError,
    TableLockedError,
    raise_alone,
)

# A lock on a whole table blocks imports, and no import takes one; a weaker one may belong to a locked row.
_BLOCKER: LiteralString = """
select class.relname, locks.pid, activity.state, activity.state_change, not whole_table and ours
from pg_catalog.pg_locks as locks
join pg_catalog.pg_class as class on class.oid {eq} locks.relation
join pg_catalog.pg_namespace as namespace on namespace.oid {eq} class.relnamespace
left join pg_catalog.pg_stat_activity as activity on activity.pid {eq} locks.pid,
lateral (
    select locks.mode {eq} any (array[
        'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'
    ]::pg_catalog.text[]) as whole_table,
    coalesce(pg_catalog.starts_with(activity.application_name, 'rollcall'::pg_catalog.text), false) as ours
) as judged
where locks.granted and namespace.nspname {eq} %s and class.relname {eq} any (%s::pg_catalog.text[])
    and (locks.pid is null or locks.pid {ne} pg_catalog.pg_backend_pid())
    and locks.mode {ne} 'AccessShareLock'
order by whole_table desc, ours, activity.state_change limit 1
"""

# Where in the server's own code an error comes from, whatever the language of its messages. A trigger
# can raise every SQLSTATE, with a text and names of its own that may hold a cell.
_CONSTRAINTS = {"execMain.c", "execExprInterp.c", "execIndexing.c", "nbtinsert.c", "ri_triggers.c", "domains.c"}
_ROW_SECURITY = {"ExecWithCheckOptions", "check_enable_rls"}
_PRIVILEGES = {"aclchk.c", "sequence.c"}
_TEXT_LENGTH = "varchar.c"


@contextmanager
def told_by(connection: Database) -> Iterator[None]:
    """Turn psycopg's errors into the port's, without their texts: those may hold whole rows.

    The cause is left out for the same reason: whoever logs a traceback would log the row.

    Args:
        connection: What they come from; after one of them its transaction is lost.
    """
    try:
        yield
    except psycopg.Error as error:
        raise_alone(_in_our_words(error, connection))


def _in_our_words(
    error: psycopg.Error, connection: Database
) -> ImportInProgressError | RepositoryUnavailableError:
    if isinstance(error, errors.LockNotAvailable):
        return _locked(connection)
    if _is_rivals(error, connection.schema):
        return ImportInProgressError()
    if constraint := _constraint(error, connection.schema):
        return TableConstraintError(constraint)
    if isinstance(error, errors.InsufficientPrivilege) and error.diag.source_file in _PRIVILEGES:
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


def _locked(connection: Database) -> ImportInProgressError | RepositoryUnavailableError:
    """Find out who holds a lock on one of our tables that was not free in time."""
    found = None
    with suppress(psycopg.Error):  # without an answer, the message only names less
        connection.rollback()
        found = connection.run(_BLOCKER, [connection.schema, list(TABLES)]).fetchone()
        connection.rollback()
    if not found:
        return TableLockedError(
            "a lock in the database was not released in time; nothing was registered; try again"
        )
    table, pid, state, since, rival = found
    if rival:
        return ImportInProgressError()
    holder = "a prepared transaction" if pid is None else f"another session, backend {pid}"
    doing = f"; it is {state} since {since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if state and since else ""
    return TableLockedError(f"the table {table} is locked by {holder}{doing}; try again once the lock is released")


def _is_rivals(error: psycopg.Error, schema: str) -> bool:
    """Return whether a rival was faster: the ledger's constraints, the index of users or a deadlock say so."""
    diag = error.diag
    return isinstance(error, errors.DeadlockDetected) or (
        isinstance(error, errors.UniqueViolation)
        and diag.schema_name == schema
        and (
            diag.table_name in {"imports", "corrections"}
            or (diag.table_name == "users" and (diag.constraint_name or "").startswith(UNIQUE_INDEX))
        )
    )


def _constraint(error: psycopg.Error, schema: str) -> str | None:
    """Name the constraint that does not let rows in; None if the error is another."""
    diag = error.diag
    if isinstance(error, psycopg.IntegrityError):
        if diag.source_file not in _CONSTRAINTS:
            return f"a trigger does not let the rows in ({type(error).__name__})"
        if diag.schema_name == schema and diag.table_name in {"imports", "corrections", "lost_uploads"}:
            return None
        violated = f"constraint {diag.constraint_name}" if diag.constraint_name else "a constraint"
        places = ("column", diag.column_name), ("type", diag.datatype_name), ("table", diag.table_name)
        where = "".join(f" of {kind} {name}" for kind, name in places if name)
        return f"the rows violate {violated}{where} ({type(error).__name__})"
    if diag.source_function in _ROW_SECURITY:
        return f"row-level security does not let the rows in ({first_line(error)})"
    if isinstance(error, errors.StringDataRightTruncation) and diag.source_file == _TEXT_LENGTH:
        return f"a column of the table is too narrow ({first_line(error)})"
    return None


def first_line(error: psycopg.Error) -> str:
    """Give the beginning of a message, which shows no row where no row was sent."""
    return str(error).strip().partition("\n")[0]
