"""The table of the users: made from the record, compared with it, extended, or adopted."""

import re
from collections.abc import Callable, Iterator, Sequence

import attrs
from psycopg import sql

from rollcall.adapters.postgres.naming import Database
from rollcall.application.errors import NotAdoptedError, NotMigratedError, SchemaError
from rollcall.domain.fields import DecimalNumber, Rule
from rollcall.domain.record import Field, RecordType
from rollcall.domain.rejection import counted

# Rollcall uses a table whose column `import_id` has the default below. The comment on it says since when; earlier
# versions made none, and took existing tables over.
_MADE = "Made by Rollcall: the import that registered the user."
_ADOPTED = "Added by Rollcall, which did not make this table: the import that registered the user."

# The default reads a setting of the transaction, so that COPY need not send the id in every row.
# No foreign key: it would make COPY four times as slow.
_SETTING = "rollcall.import_id"
_IMPORT_ID = sql.SQL(
    "import_id bigint default nullif(pg_catalog.current_setting('rollcall.import_id', true), '')::bigint"
)
# The rows of one import are adjacent, so a block range index finds them, and it hardly slows COPY.
_INDEX_IMPORT_ID = "create index {index} on {users} using brin (import_id) with (autosummarize = on)"

_COLUMNS = """
select attribute.attname::pg_catalog.text,
    case when type.typbasetype {eq} 0::pg_catalog.oid
        then pg_catalog.format_type(attribute.atttypid, attribute.atttypmod)
        else pg_catalog.format_type(type.typbasetype, type.typtypmod)
    end,
    attribute.attnotnull,
    attribute.attgenerated {ne} ''::pg_catalog."char",
    attribute.attidentity {ne} ''::pg_catalog."char",
    pg_catalog.pg_get_expr(preset.adbin, preset.adrelid),
    pg_catalog.col_description(attribute.attrelid, attribute.attnum)
from pg_catalog.pg_attribute as attribute
join pg_catalog.pg_type as type on type.oid {eq} attribute.atttypid
left join pg_catalog.pg_attrdef as preset
    on preset.adrelid {eq} attribute.attrelid and preset.adnum {eq} attribute.attnum
where attribute.attrelid {eq} pg_catalog.to_regclass(%s) and attribute.attnum {gt} 0 and not attribute.attisdropped
order by attribute.attnum
"""
_KIND = "select relkind::pg_catalog.text from pg_catalog.pg_class where oid {eq} pg_catalog.to_regclass(%s)"
# A trigger before each inserted row may fill columns that no row has.
_FILLED_BY_TRIGGER = """
select exists (
    select from pg_catalog.pg_trigger as trigger
    where trigger.tgrelid {eq} pg_catalog.to_regclass(%s) and not trigger.tgisinternal
        and pg_catalog.pg_get_triggerdef(trigger.oid) operator(pg_catalog.~) 'BEFORE INSERT'
)
"""
_KEY_SEQUENCE = "select pg_catalog.pg_get_serial_sequence(%s::pg_catalog.text, 'id'::pg_catalog.text)"
# An import inserts users, and updates them if the policy says so. It reads existing users. It deletes no user, not
# even its own: a failed transaction is rolled back. An undo deletes users.
_GRANT = """
grant select, insert, update on {users} to rollcall_importer;
grant select, delete on {users} to rollcall_operator
"""
_TABLE_KINDS = frozenset({"r", "p"})  # ordinary, partitioned

_text = re.compile(r"text|character varying(?:\(([0-9]+)\))?")
_length = re.compile(r"\([0-9]+\)\Z")
_numeric = re.compile(r"numeric(?:\(([0-9]+),([0-9]+)\))?")
# By the names of `format_type`. Only an import finds out what an operator's own types, such as enumerations, take.
_KNOWN_TYPES = frozenset(
    {
        *("text", "character varying", "character", "boolean", "date", "uuid", "numeric"),
        *("smallint", "integer", "bigint", "real", "double precision"),
        *("timestamp with time zone", "timestamp without time zone", "json", "jsonb", "bytea"),
    }
)
_LARGEST_NUMBERS = {"smallint": 2**15 - 1, "integer": 2**31 - 1, "bigint": 2**63 - 1}


@attrs.frozen
class _Column:
    """A column of the table, as the system catalogue describes it; of a domain, the type below it."""

    name: str
    type: str
    not_null: bool
    generated: bool
    identity: bool
    default: str | None
    comment: str | None

    @property
    def numbers_itself(self) -> bool:
        return self.identity or "nextval(" in (self.default or "")

    @property
    def must_be_given(self) -> bool:
        return self.not_null and not self.generated and not self.identity and self.default is None


@attrs.frozen
class _Difference:
    """A difference between the table and the record.

    Attributes:
        what: What is wrong, as a sentence that begins with the column.
        change: The SQL that removes it.
        step: What that SQL does, if it may run by itself, because it changes no value; None if it may not.
    """

    what: str
    change: sql.Composed
    step: str | None = None


def require_users_table(connection: Database) -> None:
    """Check that the table of the users exists, is Rollcall's, and has columns of the record's kinds.

    Limits of the operator, such as a narrow column, are no fault of the table: they refuse the uploads that break
    them.

    Raises:
        NotMigratedError: The table is missing, belongs to something else, or differs from the record.
    """
    table, columns = connection.record_type.table, _columns(connection)
    if not columns:
        raise NotMigratedError(f"the database {connection.info.dbname} has no table {table} yet")
    if not _is_used(columns):
        raise NotMigratedError(f"the table {table} was not made by Rollcall, and not adopted either")
    types = {column.name: column.type for column in columns}
    for field in connection.record_type.fields:
        found = types.get(field.name)
        if found is None:
            raise NotMigratedError(f"the table {table} has no column {field.name}")
        if not _is_of_kind(field.rule, found):
            raise NotMigratedError(
                f"in the table {table}, the column {field.name} has the type {found} and needs {field.rule.sql}"
            )


def provide_users_table(connection: Database, *, adopt: bool) -> list[str]:
    """Make the table of the users if there is none, or adopt one.

    Args:
        connection: The connection, in a transaction. Its search path is the schema of the tables.
        adopt: Whether a table that Rollcall did not make is used if it has all that the record needs.

    Returns:
        A phrase for each change.

    Raises:
        NotAdoptedError: Another program made the table, and it is not to be adopted.
        SchemaError: It does not fit the record.
    """
    columns = _columns(connection)
    if not columns:
        return _make(connection)
    return [] if _is_used(columns) else _adopt(connection, columns, adopt=adopt)


def extend_users_table(connection: Database) -> list[str]:
    """Bring the table of the users in line with the record, as far as no value changes.

    Args:
        connection: The connection, in a transaction. Its search path is the schema of the tables.

    Returns:
        A phrase for each change.

    Raises:
        SchemaError: The table differs from the record in more. Nothing was changed, and the message has the SQL.
    """
    table, columns = connection.record_type.table, _columns(connection)
    differences = [*_differences(connection, columns), *_columns_too_many(connection, columns)]
    adopted = _has_mark(columns, _ADOPTED)
    if adopted or _has_mark(columns, _MADE):  # one of an earlier version may lack values
        differences += _missing_values(connection, columns)
    by_hand = [difference for difference in differences if adopted or not difference.step]
    if by_hand:
        statements = " ".join(f"{difference.change.as_string(connection)};" for difference in by_hand)
        raise SchemaError(
            f"{_refusal(table, [difference.what for difference in by_hand])}; change the record, or run this SQL: "
            f"{statements}"
        )
    for difference in differences:
        connection.execute(difference.change)
    return [f"{difference.step} to the table {table}" for difference in differences]


def grant_users_table(connection: Database) -> None:
    """Grant importer and operator their rights in the table, and in the sequence of its key if it has one.

    Staged rows get their ids before they are inserted, and a serial key is a sequence, too.
    """
    connection.run(_GRANT)
    if sequence := _key_sequence(connection):
        connection.execute(f"grant usage on sequence {sequence} to rollcall_importer".encode())


def _key_sequence(connection: Database) -> str | None:
    """Return the qualified name of the sequence that the column `id` owns; None if it owns none."""
    [sequence] = connection.run(_KEY_SEQUENCE, [connection.users_name]).fetchone() or [None]
    return sequence


def _columns(connection: Database) -> Sequence[_Column]:
    return [_Column(*row) for row in connection.run(_COLUMNS, [connection.users_name])]


def _is_used(columns: Sequence[_Column]) -> bool:
    """Return whether Rollcall made the table, or adopted it."""
    return any(column.name == "import_id" and _SETTING in (column.default or "") for column in columns)


def _has_mark(columns: Sequence[_Column], mark: str) -> bool:
    return any(column.name == "import_id" and column.comment == mark for column in columns)


def _make(connection: Database) -> list[str]:
    record_type = connection.record_type
    connection.run(
        "create table {users} ("
        "id bigint generated always as identity (cache 1000) primary key, {fields}, {import_id}"
        ")",
        fields=sql.SQL(", ").join(map(_definition, record_type.fields)),
        import_id=_IMPORT_ID,
    )
    _index_imports(connection, _MADE)
    return [f"made the table {record_type.table}"]


def _index_imports(connection: Database, mark: str) -> None:
    index = sql.Identifier(f"{connection.record_type.table}_by_import")
    connection.run(_INDEX_IMPORT_ID, index=index)
    connection.run("comment on column {users}.import_id is {mark}", mark=sql.Literal(mark))


def _adopt(connection: Database, columns: Sequence[_Column], *, adopt: bool) -> list[str]:
    """Use a table that another program made; only the column `import_id` and its index are added.

    Raises:
        SchemaError: It is not to be adopted, or the record does not fit it.
    """
    table = connection.record_type.table
    if not adopt:
        raise NotAdoptedError(
            f"the table {table} was not made by Rollcall, and nothing was changed; use another schema or another "
            "table"
        )
    [kind] = connection.run(_KIND, [connection.users_name]).fetchone() or [""]
    if kind not in _TABLE_KINDS:
        raise SchemaError(_refusal(table, [f"{table} is no table"]))
    faults = list(_faults_of_stranger(connection.record_type, columns))
    if not faults and not _key_sequence(connection):
        # Rights in a sequence that belongs to no column would have to be granted by hand.
        faults = ["the sequence of its column id belongs to no column; run alter sequence … owned by"]
    if faults := faults or [difference.what for difference in _missing_values(connection, columns)]:
        raise SchemaError(_refusal(table, faults))
    connection.run("alter table {users} add column {import_id}", import_id=_IMPORT_ID)
    _index_imports(connection, _ADOPTED)
    return [f"adopted the table {table}"]


def _refusal(table: str, faults: Sequence[str]) -> str:
    return f"the table {table} does not fit the record, and nothing was changed: {'; '.join(faults)}"


def _faults_of_stranger(record_type: RecordType, columns: Sequence[_Column]) -> Iterator[str]:
    """Yield why a table that another program made cannot be adopted, each as a phrase that names the column."""
    by_name = {column.name: column for column in columns}
    if "id" not in by_name or not by_name["id"].numbers_itself:
        yield "it needs a column id that numbers itself, such as bigint generated always as identity"
    if "import_id" in by_name:
        yield "its column import_id has the name that Rollcall needs; rename it"
    for field in record_type.fields:
        if field.name not in by_name:
            yield f"it has no column {field.name}; add it as {field.rule.sql}, or leave it out of the record"
        elif fault := _misfit(field, by_name[field.name], _fits):
            yield fault
    yield from _further(record_type, columns)


def _further(record_type: RecordType, columns: Sequence[_Column]) -> Iterator[str]:
    known = {"id", "import_id", *record_type.columns}
    for column in columns:
        if column.must_be_given and column.name not in known:
            yield (
                f"its column {column.name} needs a value and is not in the record; "
                "give it a default, or add it to the record"
            )


def _misfit(field: Field, column: _Column, fits: Callable[[Rule, str], bool]) -> str | None:
    """Return why a column cannot have the values of a field; None if it can.

    Args:
        field: The field.
        column: The column.
        fits: Returns whether a type, as `format_type` writes it, has the values of a rule.
    """
    if column.generated:
        return f"its column {column.name} is generated, so no row can give it; leave it out of the record"
    if not fits(field.rule, column.type):
        longest = _longest(field.rule)
        fitting = f"{field.rule.sql} or character varying({longest})" if longest else field.rule.sql
        return f"its column {column.name} has the type {column.type} and needs {fitting}"
    if field.optional and column.not_null:
        return f"its column {column.name} needs a value, and is optional in the record"
    return None


def _longest(rule: Rule) -> int:
    """Return the largest length of the texts that a rule allows; 0 if its values are no texts."""
    schema = rule.schema()
    return (schema.get("maxLength") or max(map(len, schema["enum"]))) if rule.sql == "text" else 0


def _fits(rule: Rule, type_name: str) -> bool:
    """Return whether a type of PostgreSQL, as `format_type` writes it, has every value of a rule."""
    schema = rule.schema()
    if longest := _longest(rule):
        text = _text.fullmatch(type_name)
        return text is not None and int(text[1] or longest) >= longest
    if schema["type"] == "integer":
        largest: int = schema["maximum"]
        return largest <= _LARGEST_NUMBERS.get(type_name, -1)
    if isinstance(rule, DecimalNumber):
        number = _numeric.fullmatch(type_name)
        digits, places = (int(number[1] or rule.digits), int(number[2] or rule.places)) if number else (0, 0)
        return places >= rule.places and digits - places >= rule.digits - rule.places
    return type_name == rule.sql


def _is_of_kind(rule: Rule, type_name: str) -> bool:
    """Return whether a column may take the values of a rule, so that an import finds out which it takes."""
    whole = _length.sub("", type_name)
    return whole not in _KNOWN_TYPES or (whole == "character" and rule.sql == "text") or _fits(rule, whole)


def _differences(connection: Database, columns: Sequence[_Column]) -> Iterator[_Difference]:
    """Yield how a table of Rollcall's differs from the record."""
    by_name = {column.name: column for column in columns}
    for field in connection.record_type.fields:
        column = by_name.get(field.name)
        if not column:
            yield _missing(connection, field)
        elif fault := _misfit(field, column, _is_of_kind):
            yield _Difference(fault, _alter(connection, field, column))


def _missing_values(connection: Database, columns: Sequence[_Column]) -> Iterator[_Difference]:
    """Yield the required fields that are empty for some user, who could not be listed any more."""
    nullable = {column.name for column in columns if not column.not_null}
    for name in connection.record_type.required:
        column = sql.Identifier(name)
        if name not in nullable:
            continue
        [users] = connection.run(
            "select pg_catalog.count(*) from {users} where {column} is null", column=column
        ).fetchone() or [0]
        if users:
            yield _Difference(
                f"{counted(users, 'user')} without {name}, which is required in the record",
                # It fails until a person has written a value.
                connection.composed(
                    "update {users} set {column} = <a value> where {column} is null", column=column
                ),
            )


def _columns_too_many(connection: Database, columns: Sequence[_Column]) -> Iterator[_Difference]:
    """Yield the columns that need a value which no row has. An import finds them, too, as any other constraint."""
    [filled] = connection.run(_FILLED_BY_TRIGGER, [connection.users_name]).fetchone() or [False]
    for column in [] if filled else columns:
        for fault in _further(connection.record_type, [column]):
            yield _Difference(
                fault,
                connection.composed(
                    "alter table {users} alter column {column} drop not null", column=sql.Identifier(column.name)
                ),
            )


def _missing(connection: Database, field: Field) -> _Difference:
    what, step = f"it has no column {field.name}", f"added the column {field.name}"
    column = sql.Identifier(field.name)
    if field.default is not None:
        change = connection.composed(
            "alter table {users} add column {definition} default {default}; "
            "alter table {users} alter column {column} drop default",
            definition=_definition(field),
            default=sql.Literal(field.rule.text(field.default)),
            column=column,
        )
        return _Difference(what, change, step)
    if field.optional:
        added = connection.composed("alter table {users} add column {definition}", definition=_definition(field))
        return _Difference(what, added, step)
    # A table with users takes no such column before they have values.
    change = connection.composed(
        "alter table {users} add column {column} {type}; "
        "update {users} set {column} = <a value>; "
        "alter table {users} alter column {column} set not null",
        column=column,
        type=_type(field.rule),
    )
    return _Difference(what, change)


def _definition(field: Field) -> sql.Composed:
    """Return the definition of the column of a field."""
    null = sql.SQL("null" if field.optional else "not null")
    return sql.SQL("{} {} {}").format(sql.Identifier(field.name), _type(field.rule), null)


def _alter(connection: Database, field: Field, column: _Column) -> sql.Composed:
    if column.not_null and field.optional and _fits(field.rule, column.type):
        change = "alter table {users} alter column {column} drop not null"
    else:
        change = "alter table {users} alter column {column} type {type} using {column}::{type}"
    return connection.composed(change, column=sql.Identifier(field.name), type=_type(field.rule))


def _type(rule: Rule) -> sql.SQL:
    return sql.SQL(rule.sql)
