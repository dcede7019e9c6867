"""The unique index on the columns that identify a user (`Policy.unique_by`)."""

from collections.abc import Iterable, Sequence

from psycopg import sql

from rollcall.adapters.postgres.naming import Database, unique_index_name
from rollcall.application.errors import NotMigratedError, SchemaError
from rollcall.domain.policy import Policy
from rollcall.domain.record import RecordType
from rollcall.domain.rejection import counted

_MANY = 10

# An index is Rollcall's if it is unique, covers whole columns and all rows, and has the name made of its columns.
_PRESENT = """
select index.relname,
    pg_catalog.array_agg(attribute.attname::pg_catalog.text order by key.place),
    pg_catalog.bool_and(
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
group by index.relname
"""


def key_columns(record_type: RecordType, columns: Sequence[str], table: str = "") -> sql.Composed:
    """Return columns that identify a user, to be sorted, compared or indexed.

    Text is in the order of its bytes, which is several times as fast as the order of a language. Two texts are
    equal if their bytes are, as under every collation that PostgreSQL calls deterministic.

    Args:
        record_type: What a user consists of.
        columns: The names of the columns.
        table: The table of the columns; "" where only one table has them.
    """
    return sql.SQL(", ").join(
        sql.SQL('{} collate pg_catalog."C"' if record_type[column].rule.sql == "text" else "{}").format(
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
    wanted = policy.unique_by
    found = _present(connection)
    if found == ({wanted: True} if wanted else {}):
        return
    by_setting = ",".join(wanted) or "nothing"
    if not found:
        raise NotMigratedError(f"the table identifies users by nothing, the setting by {by_setting}")
    if found == {wanted: False}:
        name = unique_index_name(connection.record_type, wanted)
        raise NotMigratedError(f"an earlier version made the unique index {name}, which has another order")
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
    record_type, wanted = connection.record_type, policy.unique_by
    found = _present(connection)
    done = []
    for columns, ordered in found.items():
        name = unique_index_name(record_type, columns)
        if columns != wanted or not ordered:
            connection.run("drop index {index}", index=sql.Identifier(connection.schema, name))
        if columns != wanted:
            done.append(f"removed the unique index {name}")
    if wanted and not found.get(wanted):
        key = key_columns(record_type, wanted)
        name = unique_index_name(record_type, wanted)
        _refuse_duplicates(connection, key, policy)
        connection.run("create unique index {index} on {users} ({key})", index=sql.Identifier(name), key=key)
        done.append(
            f"made the unique index {name} again, in the order of bytes, so that imports are faster"
            if wanted in found
            else f"made the unique index {name}"
        )
    return done


def _refuse_duplicates(connection: Database, key: sql.Composed, policy: Policy) -> None:
    """Check that no two users have the same values in some columns.

    Raises:
        SchemaError: Some users have the same values. The message has their ids but no cell.
    """
    groups = connection.run(
        "select pg_catalog.array_agg(id order by id), pg_catalog.count(*) over () from {users} group by {key} "
        "having pg_catalog.count(*) {gt} 1 order by pg_catalog.min(id) limit %s",
        [_MANY],
        key=key,
    ).fetchall()
    if groups:
        examples = "; ".join(", ".join(map(str, ids[:_MANY])) for ids, _ in groups)
        raise SchemaError(
            f"{counted(groups[0][1], 'group')} of users with the same {', '.join(policy.unique_by)}, so no unique "
            f"index can be made; their ids, for example: {examples}; remove all but one of each group, "
            "and migrate again"
        )


def _present(connection: Database) -> dict[tuple[str, ...], bool]:
    """Return the columns of Rollcall's unique indexes, each with whether the index is in the order of bytes."""
    return {
        tuple(columns): ordered
        for name, columns, ordered in connection.run(_PRESENT, [connection.users_name])
        if name == unique_index_name(connection.record_type, columns)
    }


def _said(found: Iterable[Sequence[str]]) -> str:
    return ", ".join(sorted(",".join(columns) for columns in found)) or "nothing"
