"""The unique index on the columns that identify a user (`Policy.unique_by`)."""

from collections.abc import Iterable, Sequence
from itertools import combinations

import attrs
from psycopg import sql

from rollcall.adapters.postgres.naming import UNIQUE_INDEX, Database
from rollcall.application.errors import NotMigratedError, SchemaError
from rollcall.domain.policy import Policy
from rollcall.domain.rejection import counted
from rollcall.domain.user import COLUMNS, User

_MANY = 10
_TEXTS = frozenset(field.name for field in attrs.fields(User) if field.type is str)

# An index is Rollcall's if it is unique, covers whole columns and all rows, and has the name made of its columns.
_PRESENT = """
select index.relname, pg_catalog.bool_and(
    collation_id {eq} any (array[0, 'pg_catalog."C"'::pg_catalog.regcollation]::pg_catalog.oid[])
)
from pg_catalog.pg_index as known
join pg_catalog.pg_class as index on index.oid {eq} known.indexrelid
cross join rows from (
    pg_catalog.unnest(known.indkey::pg_catalog.int2[]),
    pg_catalog.unnest(known.indcollation::pg_catalog.oid[])
) with ordinality as key (attnum, collation_id, place)
join pg_catalog.pg_attribute as attribute
    on attribute.attrelid {eq} known.indrelid and attribute.attnum {eq} key.attnum
where known.indrelid {eq} %s::pg_catalog.regclass
    and known.indisunique and known.indexprs is null and known.indpred is null
    and index.relname {eq} any (%s::pg_catalog.text[])
group by index.relname
having index.relname {eq} pg_catalog.concat(
    %s::pg_catalog.text, pg_catalog.string_agg(attribute.attname, '_' order by key.place)
)
"""


def key_columns(columns: Sequence[str], table: str = "") -> sql.Composed:
    """Return columns that identify a user, to be sorted, compared or indexed.

    Text is in the order of its bytes, which is several times as fast as the order of a language. Two texts are
    equal if their bytes are, as under every collation that PostgreSQL calls deterministic.

    Args:
        columns: The names of the columns.
        table: The table of the columns; "" where only one table has them.
    """
    return sql.SQL(", ").join(
        sql.SQL('{} collate pg_catalog."C"' if column in _TEXTS else "{}").format(
            sql.Identifier(table, column) if table else sql.Identifier(column)
        )
        for column in columns
    )


def require_unique_index(connection: Database, policy: Policy) -> None:
    """Check that the table has exactly the unique index that the policy needs.

    Raises:
        NotMigratedError: The index is missing, or an earlier version made it in another order.
        SchemaError: The table has an index of another policy.
    """
    wanted = _name(policy.unique_by)
    found = _present(connection)
    if found == ({wanted: True} if wanted else {}):
        return
    by_setting = ",".join(policy.unique_by) or "nothing"
    if not found:
        raise NotMigratedError(f"the table identifies users by nothing, the setting by {by_setting}")
    if found == {wanted: False}:
        raise NotMigratedError(f"an earlier version made the unique index {wanted}, which has another order")
    raise SchemaError(
        f"the table identifies users by {_said(found)}, the setting by {by_setting}; "
        "set the columns of the table, or migrate with this setting, which removes that rule from the table"
    )


def make_unique_index(connection: Database, policy: Policy) -> list[str]:
    """Create the index of the current policy, and drop those of other policies.

    An index that an earlier version made in the order of a language is made again.

    Returns:
        A phrase for each change.

    Raises:
        SchemaError: Several users have the same values in the columns of the index.
    """
    wanted = _name(policy.unique_by)
    found = _present(connection)
    done = []
    for name, ordered in found.items():
        if name != wanted or not ordered:
            connection.run("drop index {index}", index=sql.Identifier(connection.schema, name))
        if name != wanted:
            done.append(f"removed the unique index {name}")
    if wanted and not found.get(wanted):
        columns = key_columns(policy.unique_by)
        _refuse_duplicates(connection, columns, policy)
        connection.run(
            "create unique index {index} on {users} ({columns})", index=sql.Identifier(wanted), columns=columns
        )
        done.append(
            f"made the unique index {wanted} again, in the order of bytes, so that imports are faster"
            if wanted in found
            else f"made the unique index {wanted}"
        )
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


def _present(connection: Database) -> dict[str, bool]:
    """Return Rollcall's unique indexes of the table by name, each with whether it is in the order of bytes."""
    names = [_name(columns) for count in range(len(COLUMNS)) for columns in combinations(COLUMNS, count + 1)]
    return dict(connection.run(_PRESENT, [connection.name_of("users"), names, UNIQUE_INDEX]).fetchall())


def _name(columns: Sequence[str]) -> str:
    return UNIQUE_INDEX + "_".join(columns) if columns else ""


def _said(names: Iterable[str]) -> str:
    return ", ".join(sorted(name.removeprefix(UNIQUE_INDEX).replace("_", ",") for name in names)) or "nothing"
