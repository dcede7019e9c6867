"""PostgreSQL's errors, translated into the port's without any cell."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC
from typing import LiteralString

import psycopg
from psycopg import errors

from rollcall.adapters.postgres.naming import LEDGER_TABLES, Database, unique_index_prefix
from rollcall.application.errors import (
    ImportInProgressError,
    RepositoryUnavailableError,
    TableConstraintError,
    TableLockedError,
    raise_without_context,
)

# An import takes no lock on a whole table, but is blocked by one. A weaker table lock may belong to a locked row.
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

# Source files and functions of the server that report an error; these do not depend on the language of messages.
# The SQLSTATE is not enough: a trigger can raise any SQLSTATE, with a text and names that may contain a cell.
_CONSTRAINTS = {"execMain.c", "execExprInterp.c", "execIndexing.c", "nbtinsert.c", "ri_triggers.c", "domains.c"}
_ROW_SECURITY = {"ExecWithCheckOptions", "check_enable_rls"}
_PRIVILEGES = {"aclchk.c", "sequence.c"}
_TEXT_LENGTH = "varchar.c"


@contextmanager
def translated_errors(connection: Database) -> Iterator[None]:
    """Translate psycopg's errors into the port's, without their texts, which may contain whole rows.

    The translated error has no cause, because a logged traceback would show the row.

    Args:
        connection: The connection that raises the errors. An error ends its transaction.
    """
    try:
        yield
    except psycopg.Error as error:
        raise_without_context(_in_our_words(error, connection))


def _in_our_words(
    error: psycopg.Error, connection: Database
) -> ImportInProgressError | RepositoryUnavailableError | TableConstraintError:
    if isinstance(error, errors.LockNotAvailable):
        return _locked(connection)
    if _is_rivals(error, connection):
        return ImportInProgressError()
    if constraint := _constraint(error, connection.schema):
        return TableConstraintError(constraint)
    if isinstance(error, errors.InsufficientPrivilege) and error.diag.source_file in _PRIVILEGES:
        return RepositoryUnavailableError(
            f"the database user may not do this ({first_line(error)}); grant it the rights of its role"
        )
    return RepositoryUnavailableError(_reason(error))


def _reason(error: psycopg.Error) -> str:
    """Return why a try failed that may be repeated."""
    if isinstance(error, errors.DiskFull):
        return "the disk of the database is full; nothing was registered"
    kind = type(error).__name__
    if error.sqlstate:
        return f"the database failed ({kind}, SQLSTATE {error.sqlstate})"
    return f"the connection to the database was lost ({kind})"


def _locked(connection: Database) -> ImportInProgressError | RepositoryUnavailableError | TableConstraintError:
    """Return the error for a lock that was not released in time; it names the holder, if that is known."""
    found = None
    with suppress(psycopg.Error):  # if the query fails, the message only lacks the holder
        connection.rollback()
        found = connection.run(
            _BLOCKER, [connection.schema, [connection.record_type.table, *LEDGER_TABLES]]
        ).fetchone()
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


def _is_rivals(error: psycopg.Error, connection: Database) -> bool:
    """Return whether a rival caused the error: a deadlock, or a duplicate in ledger, corrections or users."""
    diag = error.diag
    return isinstance(error, errors.DeadlockDetected) or (
        isinstance(error, errors.UniqueViolation)
        and diag.schema_name == connection.schema
        and (
            diag.table_name in {"imports", "corrections"}
            or (
                diag.table_name == connection.record_type.table
                and (diag.constraint_name or "").startswith(unique_index_prefix(connection.record_type))
            )
        )
    )


def _constraint(error: psycopg.Error, schema: str) -> str | None:
    """Return a phrase that names the constraint that rejects the rows; None for any other error."""
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
    """Return the first line of a message. It shows no row if the statement sent none."""
    return str(error).strip().partition("\n")[0]
