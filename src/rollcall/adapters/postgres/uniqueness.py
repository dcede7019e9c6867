"""The unique index by which users are told apart, where the settings say that they are."""

from typing import Any

from psycopg import Connection, sql

from rollcall.application.ports import SchemaError
from rollcall.domain.policy import Policy

_PREFIX = "users_unique_by_"
_MANY = 10


def require_unique_index(connection: Connection[Any], policy: Policy) -> None:
    """Make sure that the table tells users apart just as the policy does.

    Raises:
        SchemaError: It does not, and the command to run.
    """
    wanted = _name(policy)
    found = _present(connection)
    if found == ({wanted} if wanted else set()):
        return
    raise SchemaError(
        f"the table tells users apart by {_said(found)}, ROLLCALL_UNIQUE_BY says "
        f"{','.join(policy.unique_by) or 'nothing'}; run: rollcall migrate"
    )


def make_unique_index(connection: Connection[Any], policy: Policy) -> list[str]:
    """Make the index of the present policy, and remove one of a former policy.

    Returns:
        What was done, a phrase for each change.

    Raises:
        SchemaError: There are users whom the policy takes for one.
    """
    wanted = _name(policy)
    found = _present(connection)
    done = []
    for name in found - {wanted}:
        connection.execute(sql.SQL("drop index {}").format(sql.Identifier(name)))
        done.append(f"removed {name}")
    if wanted and wanted not in found:
        columns = sql.SQL(", ").join(map(sql.Identifier, policy.unique_by))
        _refuse_duplicates(connection, columns, policy)
        connection.execute(sql.SQL("create unique index {} on users ({})").format(sql.Identifier(wanted), columns))
        done.append(f"made {wanted}")
    return done


def _refuse_duplicates(connection: Connection[Any], columns: sql.Composed, policy: Policy) -> None:
    """Tell how many users are one to the policy, and the numbers of some, but not their names."""
    groups = connection.execute(
        sql.SQL(
            "select array_agg(id order by id), count(*) over () from users group by {} having count(*) > 1 "
            "order by min(id) limit %s"
        ).format(columns),
        [_MANY],
    ).fetchall()
    if groups:
        examples = "; ".join(", ".join(map(str, ids[:_MANY])) for ids, _ in groups)
        raise SchemaError(
            f"{groups[0][1]:,} groups of users have the same {', '.join(policy.unique_by)}, so no unique index "
            f"can be made; by users.id, for example: {examples}. Remove all but one of each and migrate again"
        )


def _present(connection: Connection[Any]) -> set[str]:
    rows = connection.execute(
        "select relname from pg_index join pg_class on pg_class.oid = indexrelid "
        "where indrelid = 'users'::regclass and starts_with(relname, %s)",
        [_PREFIX],
    )
    return {name for (name,) in rows}


def _name(policy: Policy) -> str:
    return _PREFIX + "_".join(policy.unique_by) if policy.unique_by else ""


def _said(names: set[str]) -> str:
    return ", ".join(sorted(name.removeprefix(_PREFIX).replace("_", ",") for name in names)) or "nothing"
