"""The record: what a user of an installation consists of, as one value from which everything else derives."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any, Self

import attrs

from rollcall.domain.errors import DeclarationError
from rollcall.domain.fields import WHITE_SPACE, Boolean, Rule, Text, Value, as_json, is_blank, require_several
from rollcall.domain.rejection import Fault

AnyUser = Any  # an instance of the record's class, whose attributes are not known here

_MOST_BYTES = 63  # of a name in PostgreSQL

_name = re.compile("[a-z][a-z0-9_]*")
_any_label = Text(max_length=200)

# Columns of the table, labels of a file of rejected rows, and columns that PostgreSQL has in every table.
_OWN_COLUMNS = frozenset({"id", "import_id"})
_OWN_PREFIX = "rollcall_"
_SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
_OWN_TABLES = ("imports", "corrections", "lost_uploads", "pg_", _OWN_PREFIX)  # and what begins with these
_MOST_TABLE_BYTES = 40  # names of indexes begin with it


def normal_label(label: str) -> str:
    """Return the form of a label by which labels are compared."""
    return label.strip(WHITE_SPACE).lower()


def field(rule: Rule, *, optional: bool = False, labels: Sequence[str] = (), default: Value | None = None) -> Any:  # noqa: ANN401 - attrs.field() itself is typed as Any
    """Declare a field of a record: an attribute whose values follow a rule.

    Args:
        rule: The rule.
        optional: Whether there may be no value, which is None: a blank cell, or a file without the column.
        labels: Further labels of the column in a file, beside the name of the attribute.
        default: The value that existing users get when the column is added to their table; None for no value.

    Raises:
        DeclarationError: The labels are one text.
    """
    require_several("labels", labels)
    return attrs.field(
        metadata={"rule": rule, "optional": optional, "labels": tuple(labels), "default": default},
        validator=_keeps_its_rule,
    )


def _keeps_its_rule(values: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:  # noqa: ANN401 - anything
    """Reject a value that no cell parses to, in a user that was not parsed.

    Raises:
        ValueError: The value breaks its rule. The message does not show the value.
    """
    if value is None and attribute.metadata["optional"]:
        return
    if not _is_value(attribute.metadata["rule"], value):
        raise ValueError(f"{type(values).__name__}.{attribute.name} breaks its rule")


def _is_value(rule: Rule, value: Any) -> bool:  # noqa: ANN401 - anything
    parsed = rule.parse(rule.text(value))
    return parsed == value and type(parsed) is type(value)


@attrs.frozen(kw_only=True)
class Field:
    """A field of a record.

    Attributes:
        name: The name of its column, in the table and in a file.
        rule: The rule of its values.
        optional: Whether there may be no value.
        labels: Further labels of the column in a file.
        default: The value of existing users when the column is added; None for no value.
    """

    name: str
    rule: Rule
    optional: bool = False
    labels: tuple[str, ...] = ()
    default: Value | None = None

    @property
    def identifies(self) -> bool:
        """Whether the field may identify users: each has a value, and there are more than two."""
        return not self.optional and not isinstance(self.rule, Boolean)

    def parse(self, cell: str) -> Value | Fault | None:
        """Parse one cell of an upload, see `Rule.parse`.

        Returns:
            The value; None for a blank cell of an optional field; or the fault.
        """
        return None if self.optional and is_blank(cell) else self.rule.parse(cell)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the values, null included if there may be none."""
        schema = self.rule.schema()
        if not self.optional:
            return schema
        nullable = {**schema, "type": [schema["type"], "null"]}
        if "enum" in schema:
            nullable["enum"] = [*schema["enum"], None]
        return nullable

    def as_json(self, value: Value | None) -> str | int | None:
        """Return the JSON form of a value."""
        return None if value is None else as_json(self.rule, value)


@attrs.frozen(slots=False)
class RecordType:
    """What the users of an installation consist of.

    Attributes:
        user_type: An attrs class whose attributes are all fields.
        fields: Its fields, in their order.
        table: The table of the users.
    """

    user_type: type
    fields: tuple[Field, ...] = attrs.field(eq=False)  # those of the class
    table: str = "users"

    @classmethod
    def of(cls, declared: Any) -> Self:  # noqa: ANN401 - any object that a setting names
        """Return the record that a class declares; the class attribute `table` names another table than users.

        Raises:
            DeclarationError: The declaration is wrong. The message names the class and the field.
        """
        for fault in _faults_of_class(declared):
            raise DeclarationError(fault)
        fields = tuple(_field_of(declared, attribute) for attribute in attrs.fields(declared))
        record = cls(declared, fields)
        if "table" not in record.columns:
            record = attrs.evolve(record, table=getattr(declared, "table", record.table))
        for fault in _faults_of_table(record.table):
            raise DeclarationError(f"{declared.__name__}.table {fault}")
        for name, fault in _faults_of_fields(fields):
            raise DeclarationError(f"{declared.__name__}.{name} {fault}")
        if not record.required:
            raise DeclarationError(f"{declared.__name__} has only optional fields, so a user could have no value")
        return record

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of the fields."""
        return tuple(field.name for field in self.fields)

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """The rules of the fields."""
        return tuple(field.rule for field in self.fields)

    @cached_property
    def required(self) -> tuple[str, ...]:
        """The names of the fields that need a value and a column."""
        return tuple(field.name for field in self.fields if not field.optional)

    @cached_property
    def identifying(self) -> tuple[str, ...]:
        """The names of the fields that may identify users."""
        return tuple(field.name for field in self.fields if field.identifies)

    @cached_property
    def by_label(self) -> Mapping[str, str]:
        """The name of the field for each normal label; see `normal_label`."""
        return {normal_label(label): field.name for field in self.fields for label in (field.name, *field.labels)}

    def __getitem__(self, column: str) -> Field:
        """Return the field of a column.

        Raises:
            KeyError: There is no such field.
        """
        return self._by_name[column]

    @cached_property
    def _by_name(self) -> Mapping[str, Field]:
        return {field.name: field for field in self.fields}

    @cached_property
    def _parsers(self) -> "Sequence[tuple[str, Callable[[str], Value | Fault | None]]]":
        return [(field.name, field.parse if field.optional else field.rule.parse) for field in self.fields]

    @cached_property
    def _get_values(self) -> "attrgetter[Any]":
        return attrgetter(*self.columns)

    def parse(self, cells: Sequence[str]) -> AnyUser | tuple[Fault, ...]:
        """Parse the cells of one row.

        Args:
            cells: One cell for each of `columns`, in that order.

        Returns:
            The user, or the faults of all bad cells in the order of `columns`.
        """
        values: dict[str, Any] = {}
        faults = []
        for (column, parse), cell in zip(self._parsers, cells, strict=True):
            value = parse(cell)
            if isinstance(value, Fault):
                faults.append(Fault(value.code, f"{column} {value.message}", column))
            values[column] = value
        return tuple(faults) or self.user_type(**values)

    def make(self, values: Iterable[Value | None]) -> AnyUser:
        """Return the user with some values.

        Args:
            values: One value for each of `columns`, in that order.

        Raises:
            ValueError: A value breaks its rule.
        """
        return self.user_type(**dict(zip(self.columns, values, strict=True)))

    def values(self, user: AnyUser) -> tuple[Any, ...]:
        """Return the values of a user in the order of `columns`."""
        values = self._get_values(user)
        return values if len(self.columns) > 1 else (values,)

    def texts(self, user: AnyUser) -> list[str]:
        """Return the text of each value of a user in the order of `columns`; no value is an empty text."""
        return [
            "" if value is None else rule.text(value)
            for rule, value in zip(self.rules, self.values(user), strict=True)
        ]

    def as_dict(self, user: AnyUser) -> dict[str, str | int | None]:
        """Return a user as an object of JSON."""
        return {
            field.name: field.as_json(value) for field, value in zip(self.fields, self.values(user), strict=True)
        }

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of a user as an object."""
        return {
            "type": "object",
            "additionalProperties": False,
            "required": list(self.columns),
            "properties": {field.name: field.schema() for field in self.fields},
        }


def _faults_of_class(declared: object) -> Iterator[str]:
    """Yield why a class cannot be a record, apart from its fields."""
    if not isinstance(declared, type) or not attrs.has(declared):
        yield "it is no attrs class; put @attrs.frozen(kw_only=True) above it"
        return
    name = declared.__name__
    if declared.__eq__ is object.__eq__:
        yield f"{name} does not compare its values; leave out eq=False"
    for own in "__attrs_pre_init__", "__attrs_post_init__", "__attrs_init__":
        if hasattr(declared, own):
            yield f"{name} has code of its own ({own}), which could stop an import"
    known = {"table", *(attribute.name for attribute in attrs.fields(declared))}
    for annotated in getattr(declared, "__annotations__", {}):
        if annotated not in known:
            yield f"{name}.{annotated} is not declared by field(...)"
    if not attrs.fields(declared):
        yield f"{name} has no fields"


def _faults_of_table(table: object) -> Iterator[str]:
    """Yield what is wrong with the name of a table."""
    if not isinstance(table, str) or not _fits(table, _MOST_TABLE_BYTES):
        yield f"is no name of at most {_MOST_TABLE_BYTES} letters a-z, 0-9 and _"
    elif table.startswith(_OWN_TABLES):
        yield f"is {table}: Rollcall or PostgreSQL needs this name itself; choose another one"


def _faults_of_fields(fields: Iterable[Field]) -> Iterator[tuple[str, str]]:
    """Yield the name of each wrong field, and what is wrong with it."""
    known: dict[str, str] = {}
    for field in fields:
        if not _fits(field.name):
            yield (
                field.name,
                f"is no name of at most {_MOST_BYTES} letters a-z, 0-9 and _; put it into `labels`",
            )
        if field.name in _OWN_COLUMNS | _SYSTEM_COLUMNS or field.name.startswith(_OWN_PREFIX):
            yield field.name, "is a name that Rollcall or PostgreSQL needs itself; choose another one"
        if field.default is not None and not _is_value(field.rule, field.default):
            yield field.name, f"has the default {field.default!r}, which breaks its rule: {field.rule.wanted}"
        for label in (field.name, *field.labels):
            normal = normal_label(label)
            if normal.startswith(_OWN_PREFIX):
                yield field.name, f"has the label {label}; Rollcall needs those with {_OWN_PREFIX} itself"
            if _any_label.parse(label) != label:
                yield field.name, "has a label that is no visible text, or has space around it"
            if normal in known:
                yield field.name, f"has the label {label}, as {known[normal]} has"
            known[normal] = field.name


def _field_of(declared: type, attribute: "attrs.Attribute[Any]") -> Field:
    where = f"{declared.__name__}.{attribute.name}"
    if "rule" not in attribute.metadata or not attribute.init:
        more = '; write table = "…" without a type' if attribute.name == "table" else ""
        raise DeclarationError(f"{where} is not declared by field(...){more}")
    rule = attribute.metadata["rule"]
    if isinstance(rule, type) or not hasattr(rule, "parse"):
        raise DeclarationError(f"{where} has no kind; give one with parentheses, such as field(Email())")
    if attribute.validator is not _keeps_its_rule or attribute.converter:
        raise DeclarationError(f"{where} has a check of its own, which could stop an import; use a kind")
    if attribute.alias != attribute.name:
        raise DeclarationError(f"{where} begins with _; choose another name")
    return Field(name=attribute.name, **attribute.metadata)


def _fits(name: str, most: int = _MOST_BYTES) -> bool:
    return bool(_name.fullmatch(name)) and len(name) <= most
