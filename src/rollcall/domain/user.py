"""The user, and the one rule of each field. Everything that knows the fields derives from `User`."""

import re
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Protocol, Self
from unicodedata import category, decimal

import attrs

from rollcall.domain.rejection import Code, Fault, shown

# The Unicode property White_Space (PropList.txt), whole. `str.strip()` alone would also take U+001C to U+001F,
# which are control characters.
WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680"
    "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)

# Controls (Cc), line and paragraph separators (Zl, Zp), bidirectional controls and surrogates (Cs), as the inside
# of a regular expression's character class. The general categories named are closed: Unicode promises never to
# add to them.
FORBIDDEN_CHARACTERS = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"

_forbidden = re.compile(f"[{FORBIDDEN_CHARACTERS}]")
_digits = re.compile("[0-9]+")


def is_blank(text: str) -> bool:
    """Tell whether nothing in a text can be seen: only white space and format characters (Cf), or nothing."""
    return all(character in WHITE_SPACE or category(character) == "Cf" for character in text)


class Rule(Protocol):
    """What a field may hold: the reference for every other view of it."""

    def parse(self, cell: str) -> "str | int | Fault":
        """Read one cell of an upload.

        Args:
            cell: The text of the cell, as the CSV holds it after unquoting.

        Returns:
            The value; or the fault, whose message is worded so that the field's label can stand before it.
            A fault is returned and not raised because exceptions may be logged, and a cell never may.
        """
        ...

    def clean(self, without: str = "") -> str:
        """Describe text that certainly parses to itself: what most people write, and no more than that.

        Args:
            without: Characters, neither letters nor digits, that must not occur in it.

        Returns:
            A regular expression without groups. Being stricter than `parse` costs speed, being laxer is wrong.
        """
        ...


@attrs.frozen
class Text:
    """Visible text, stored as uploaded after trimming: no case folding, no normalisation.

    Attributes:
        max_length: In code points, after trimming.
    """

    max_length: int
    _known_clean: re.Pattern[str] = attrs.field(init=False, repr=False, eq=False)

    @_known_clean.default
    def _compile_clean(self) -> re.Pattern[str]:
        return re.compile(self.clean())

    def clean(self, without: str = "") -> str:
        """Begin with a letter or digit, which can be seen, and end without white space."""
        characters = rf"[^{FORBIDDEN_CHARACTERS}{re.escape(without)}]{{1,{self.max_length}}}"
        return rf"(?=\w){characters}(?<![{WHITE_SPACE}])"

    def parse(self, cell: str) -> str | Fault:
        """Trim white space; refuse what is blank, too long, or holds a forbidden character."""
        if self._known_clean.fullmatch(cell):
            return cell
        text = cell.strip(WHITE_SPACE)
        if is_blank(text):
            return Fault(Code.BLANK_CELL, f"is blank; give 1 to {self.max_length} characters")
        if len(text) > self.max_length:
            return Fault(
                Code.CONSTRAINT_ERROR,
                f"has {len(text):,} characters ({shown(text)}); give at most {self.max_length}",
            )
        if found := _forbidden.search(text):
            return Fault(
                Code.FORBIDDEN_VALUE,
                f"holds the character U+{ord(found[0]):04X} ({shown(text)}); "
                "remove control characters, line breaks and direction marks",
            )
        return text


@attrs.frozen
class WholeNumber:
    """A whole number in ASCII digits; leading zeros do not matter.

    Attributes:
        minimum: The smallest value taken.
        maximum: The largest value taken.
    """

    minimum: int
    maximum: int

    def clean(self, without: str = "") -> str:  # noqa: ARG002 - no delimiter is a digit
        """Be one of the numbers, without leading zeros."""
        return f"(?:{_numbers_from(self.minimum, self.maximum)})"

    def parse(self, cell: str) -> int | Fault:
        """Trim white space; refuse what is blank, not all ASCII digits, or out of range."""
        text = cell.strip(WHITE_SPACE)
        if _digits.fullmatch(text):
            significant = text.lstrip("0") or "0"
            # Python refuses to convert thousands of digits, and nothing that long can be in range.
            if len(significant) <= len(str(self.maximum)) and self.minimum <= int(significant) <= self.maximum:
                return int(significant)
            return Fault(Code.CONSTRAINT_ERROR, f"is {shown(text)}; give {self.minimum} to {self.maximum}")
        if is_blank(text):
            return Fault(Code.BLANK_CELL, f"is blank; give a whole number from {self.minimum} to {self.maximum}")
        if text.isdecimal():
            # Python reads the digits of every script, such as the full-width ones of a Japanese keyboard.
            value = self.parse("".join(str(decimal(digit)) for digit in text))
            advice = f"give {self.minimum} to {self.maximum}" if isinstance(value, Fault) else f"give {value}"
            return Fault(Code.TYPE_ERROR, f"is {shown(text)}, not in half-width digits (0-9); {advice}")
        return Fault(
            Code.TYPE_ERROR,
            f"is {shown(text)}, not a whole number; give digits only, {self.minimum} to {self.maximum}",
        )


def _numbers_from(first: int, last: int) -> str:
    """Describe the numbers of a range, in decimal digits without leading zeros, as alternatives.

    >>> _numbers_from(0, 150)
    '15[0-0]|1[0-4][0-9]|[1-9][0-9]|[0-9]'
    """
    alternatives = []
    for length in range(len(str(first)), len(str(last)) + 1):
        number = max(first, 10 ** (length - 1) if length > 1 else 0)
        end = min(last + 1, 10**length)
        while number < end:
            # As many free digits at the end as stay in range, and before them as long a run of one digit.
            free = max(
                digits for digits in range(length) if number % 10**digits == 0 and number + 10**digits <= end
            )
            fixed, digit = divmod(number // 10**free, 10)
            runs = min((end - number) // 10**free, 10 - digit)
            alternatives.append(f"{fixed or ''}[{digit}-{digit + runs - 1}]" + "[0-9]" * free)
            number += runs * 10**free
    return "|".join(reversed(alternatives))  # the longest first, so that seldom a second is tried


def _keeps_its_rule(user: "User", attribute: "attrs.Attribute[Any]", value: object) -> None:
    """Refuse to build a `User` that no cell could have given.

    Raises:
        ValueError: The value is not what its own text parses to; the value itself is not shown.
    """
    if attribute.metadata["rule"].parse(str(value)) != value:
        raise ValueError(f"{type(user).__name__}.{attribute.name} breaks its rule")


def _field(rule: Rule) -> Any:  # noqa: ANN401 - attrs.field() itself is typed as Any
    return attrs.field(metadata={"rule": rule}, validator=_keeps_its_rule)


@attrs.frozen(kw_only=True)
class User:
    """Somebody to register. To add a field, add an attribute with its rule (and a migration).

    Attributes:
        name: What the person is called.
        country: Where the person belongs, as the uploader writes it.
        age: In whole years.
    """

    name: str = _field(Text(max_length=200))
    country: str = _field(Text(max_length=200))
    age: int = _field(WholeNumber(minimum=0, maximum=150))

    @classmethod
    def parse(cls, cells: Sequence[str]) -> Self | tuple[Fault, ...]:
        """Judge the cells of one row.

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

    def values(self) -> tuple[str | int, ...]:
        """Give the values in the order of `COLUMNS`."""
        values: tuple[str | int, ...] = _get_values(self)
        return values


COLUMNS: tuple[str, ...] = tuple(field.name for field in attrs.fields(User))
_get_values = attrgetter(*COLUMNS)
RULES: tuple[Rule, ...] = tuple(field.metadata["rule"] for field in attrs.fields(User))
