"""The user, and the rule of each field. All other code derives the fields from `User`."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Self

import attrs

from rollcall.domain.fields import Rule, Text, WholeNumber, columns_of, field
from rollcall.domain.rejection import Fault


@attrs.frozen(kw_only=True)
class User:
    """A user to register. To add a field, add an attribute with its rule, and a migration.

    Attributes:
        name: The person's name.
        country: The person's country, as the uploader writes it.
        age: The person's age in whole years.
    """

    name: str = field(Text(max_length=200))
    country: str = field(Text(max_length=200))
    age: int = field(WholeNumber(minimum=0, maximum=150))

    @classmethod
    def parse(cls, cells: Sequence[str]) -> Self | tuple[Fault, ...]:
        """Parse the cells of one row.

        Args:
            cells: One cell for each of `COLUMNS`, in that order.

        Returns:
            The user, or the faults of all bad cells in the order of `COLUMNS`.
        """
        values: dict[str, Any] = {}
        faults = []
        for column, rule, cell in zip(COLUMNS, RULES, cells, strict=True):
            value = rule.parse(cell)
            if isinstance(value, Fault):
                faults.append(Fault(value.code, f"{column} {value.message}", column))
            values[column] = value
        return tuple(faults) or cls(**values)

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of a user as an object."""
        return {
            "type": "object",
            "additionalProperties": False,
            "required": list(COLUMNS),
            "properties": {column: rule.schema() for column, rule in zip(COLUMNS, RULES, strict=True)},
        }

    def values(self) -> tuple[str | int, ...]:
        """Return the values in the order of `COLUMNS`."""
        values: tuple[str | int, ...] = _get_values(self)
        return values


COLUMNS = columns_of(User)
_get_values = attrgetter(*COLUMNS)
RULES: tuple[Rule, ...] = tuple(attribute.metadata["rule"] for attribute in attrs.fields(User))
