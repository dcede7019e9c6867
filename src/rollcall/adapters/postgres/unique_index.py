"""The unique index on the columns that identify a user (`Policy.unique_by`)."""

from psycopg import sql

from rollcall.adapters.postgres.naming import UNIQUE_INDEX, Database
from rollcall.application.errors import NotMigratedError, SchemaError
from rollcall.domain.policy import Policy
from rollcall.domain.rejection import counted

_MANY = 10


def require_unique_index(connection: Database, policy: Policy) -> None:
    """Check that the table has exactly the unique index that the policy needs.

    Raises:
        NotMigratedError: The index is missing.
        SchemaError: The table has an index of another policy.
    """
    wanted = _name(policy)
    found = _present(connection)
    if found == ({wanted} if wanted else set()):
        return
    by_setting = ",".join(policy.unique_by) or "nothing"
    if not found:
        raise NotMigratedError(f"the table identifies users by nothing, the setting by {by_setting}")
    raise SchemaError(
        f"the table identifies users by {_said(found)}, the setting by {by_setting}; "
        "set the columns of the table, or migrate with this setting, which removes that rule from the table"
    )


def make_unique_index(connection: Database, policy: Policy) -> list[str]:
    """Create the index of the current policy, and drop those of other policies.

    Returns:
        A phrase for each change.

    Raises:
        SchemaError: Several users have the same values in the columns of the index.
    """
    wanted = _name(policy)
    found = _present(connection)
    done = []
    for name in found - {wanted}:
        connection.run("drop index {index}", index=sql.Identifier(connection.schema, name))
        done.append(f"removed the unique index {name}")
    if wanted and wanted not in found:
        columns = sql.SQL(", ").join(map(sql.Identifier, policy.unique_by))
        _refuse_duplicates(connection, columns, policy)
        connection.run(
            "create unique index {index} on {users} ({columns})", index=sql.Identifier(wanted), columns=columns
        )
        done.append(f"made the unique index {wanted}")
    return done


def _refuse_duplicates(connection: Database, columns: sql.Composed, policy: Policy) -> None:
    """Check that no two users have the same values in some columns.

    Raises:
        SchemaError: Some users have the same values. The message has their ids but no cell.
    """
    groups = connection.run(
        "select pg_catalog.array_agg(id order by id), pg_catalog.count(*) over () from {users} group by {columns} "
        "having pg_catalog.count(*) {gt} 1 order by pg_catalog.min(id) limit %s",
        [_MANY],
        columns=columns,
    ).fetchall()
    if groups:
        examples = "; ".join(", ".join(map(str, ids[:_MANY])) for ids, _ in groups)
        raise SchemaError(
            f"{counted(groups[0][1], 'group')} of users with the same {', '.join(policy.unique_by)}, so no unique "
            f"index can be made; their ids, for example: {examples}; remove all but one of each group, "
            "and migrate again"
        )


def _present(connection: Database) -> set[str]:
    rows = connection.run(
        "select index.relname from pg_catalog.pg_index as known "
        "join pg_catalog.pg_class as index on index.oid {eq} known.indexrelid "
        "where known.indrelid {eq} %s::pg_catalog.regclass "
        "and pg_catalog.starts_with(index.relname::pg_catalog.text, %s::pg_catalog.text)",
        [connection.name_of("users"), UNIQUE_INDEX],
    )
    return {name for (name,) in rows}


def _name(policy: Policy) -> str:
    return UNIQUE_INDEX + "_".join(policy.unique_by) if policy.unique_by else ""


def _said(names: set[str]) -> str:
    return ", ".join(sorted(name.removeprefix(UNIQUE_INDEX).replace("_", ",") for name in names)) or "nothing"
