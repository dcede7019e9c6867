"""The kinds of fields: what a cell may hold, and what it means."""

import re
from typing import Any, Protocol
from unicodedata import category, decimal

import attrs

from rollcall.domain.rejection import Code, Fault, preview

# The Unicode property White_Space (PropList.txt), whole. `str.strip()` alone would also take U+001C to U+001F,
# which are control characters.
WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680"
    "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)

# Controls (Cc), line and paragraph separators (Zl, Zp), bidirectional controls and surrogates (Cs), as the inside
# of a regular expression's character class. Unicode guarantees that these general categories never grow.
_FORBIDDEN_IN_JSON = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"  # UTF-8 has no surrogates
FORBIDDEN_CHARACTERS = rf"{_FORBIDDEN_IN_JSON}\ud800-\udfff"

_forbidden = re.compile(f"[{FORBIDDEN_CHARACTERS}]")
_digits = re.compile("[0-9]+")


def is_blank(text: str) -> bool:
    """Return whether a text has no visible character: only white space and format characters (Cf), or nothing."""
    # Most texts begin with a letter or a digit, which is visible.
    return not text[:1].isalnum() and all(
        character in WHITE_SPACE or category(character) == "Cf" for character in text
    )


class Rule(Protocol):
    """The rule for the values of a field. `parse` is the reference; `clean` must agree with it."""

    def parse(self, cell: str) -> "str | int | Fault":
        """Parse one cell of an upload.

        Args:
            cell: The text of the cell after unquoting.

        Returns:
            The value, or the fault. The field's label can stand before the fault's message.
            The fault is returned and not raised, because exceptions may be logged and cells must not be.
        """
        ...

    @property
    def clean_length(self) -> int | None:
        """The most code points for which `clean` holds; None for any number."""
        ...

    def clean(self, without: str = "") -> str:
        """Return a pattern of common text that certainly parses to itself if it has at most `clean_length`.

        Args:
            without: Characters, neither letters nor digits, that must not occur in the text.

        Returns:
            A regular expression of RE2, without groups. It counts no characters, which would be slow. A pattern
            stricter than `parse` costs speed; a laxer one is wrong.
        """
        ...

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of the values: type and limits.

        Every value that `parse` returns matches the schema; a value that matches may still break the rule.
        """
        ...


@attrs.frozen
class Text:
    """Visible text, stored as uploaded after trimming: no case folding, no normalisation.

    Attributes:
        max_length: The largest length in code points, after trimming.
    """

    max_length: int

    @property
    def clean_length(self) -> int:
        """The largest length, because the pattern does not limit it."""
        return self.max_length

    def clean(self, without: str = "") -> str:
        """Return a pattern of text that begins with a letter or digit, so it is visible, and needs no trimming."""
        excluded = _in_re2(FORBIDDEN_CHARACTERS) + re.escape(without)
        return rf"[\pL\pN](?:[^{excluded}]*[^{excluded}{WHITE_SPACE}])?"

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of a text without forbidden characters, which need not be visible or trimmed."""
        pattern = f"^[^{_FORBIDDEN_IN_JSON}]*$"
        return {"type": "string", "minLength": 1, "maxLength": self.max_length, "pattern": pattern}

    def parse(self, cell: str) -> str | Fault:
        """Return the trimmed text, or a fault if it is blank, too long, or contains a forbidden character."""
        text = cell.strip(WHITE_SPACE)
        if is_blank(text):
            return Fault(Code.BLANK_CELL, f"is blank; give 1 to {self.max_length} characters")
        if len(text) > self.max_length:
            return Fault(
                Code.CONSTRAINT_ERROR,
                f"has {len(text):,} characters ({preview(text)}); give at most {self.max_length}",
            )
        # Python prints no forbidden character, and is fast to find out.
        if not text.isprintable() and (found := _forbidden.search(text)):
            return Fault(
                Code.FORBIDDEN_VALUE,
                f"holds the character U+{ord(found[0]):04X} ({preview(text)}); "
                "remove control characters, line breaks and direction marks",
            )
        return text


@attrs.frozen
class WholeNumber:
    """A whole number in ASCII digits; leading zeros do not matter.

    Attributes:
        minimum: The smallest allowed value.
        maximum: The largest allowed value.
    """

    minimum: int
    maximum: int
    clean_length = None

    def clean(self, without: str = "") -> str:  # noqa: ARG002 - no delimiter is a digit
        """Return a pattern of the allowed numbers, without leading zeros."""
        return f"(?:{_numbers_from(self.minimum, self.maximum)})"

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the allowed numbers."""
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}

    def parse(self, cell: str) -> int | Fault:
        """Return the number, or a fault if the cell is blank, not all ASCII digits, or out of range."""
        text = cell.strip(WHITE_SPACE)
        if _digits.fullmatch(text):
            significant = text.lstrip("0") or "0"
            # Python refuses to convert thousands of digits, and no number that long is in range.
            if len(significant) <= len(str(self.maximum)) and self.minimum <= int(significant) <= self.maximum:
                return int(significant)
            return Fault(Code.CONSTRAINT_ERROR, f"is {preview(text)}; give {self.minimum} to {self.maximum}")
        if is_blank(text):
            return Fault(Code.BLANK_CELL, f"is blank; give a whole number from {self.minimum} to {self.maximum}")
        if text.isdecimal():
            # `isdecimal` accepts the digits of every script, such as the full-width ones of a Japanese keyboard.
            value = self.parse("".join(str(decimal(digit)) for digit in text))
            advice = f"give {self.minimum} to {self.maximum}" if isinstance(value, Fault) else f"give {value}"
            return Fault(Code.TYPE_ERROR, f"is {preview(text)}, not in half-width digits (0-9); {advice}")
        return Fault(
            Code.TYPE_ERROR,
            f"is {preview(text)}, not a whole number; give digits only, {self.minimum} to {self.maximum}",
        )


def _in_re2(characters: str) -> str:
    """Return the inside of a character class as RE2 writes it."""
    return re.sub(r"\\u([0-9a-f]{4})", r"\\x{\1}", characters)


def _numbers_from(first: int, last: int) -> str:
    """Return a pattern of the numbers of a range, in decimal digits without leading zeros.

    >>> _numbers_from(0, 150)
    '15[0-0]|1[0-4][0-9]|[1-9][0-9]|[0-9]'
    """
    alternatives = []
    for length in range(len(str(first)), len(str(last)) + 1):
        number = max(first, 10 ** (length - 1) if length > 1 else 0)
        end = min(last + 1, 10**length)
        while number < end:
            # Each alternative has as many free digits at the end as stay in range, and before them one range of
            # digits that is as long as possible.
            free = max(
                digits for digits in range(length) if number % 10**digits == 0 and number + 10**digits <= end
            )
            fixed, digit = divmod(number // 10**free, 10)
            runs = min((end - number) // 10**free, 10 - digit)
            alternatives.append(f"{fixed or ''}[{digit}-{digit + runs - 1}]" + "[0-9]" * free)
            number += runs * 10**free
    return "|".join(reversed(alternatives))  # the longest first: a shorter one would match only the beginning


def _keeps_its_rule(record: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    """Reject a value that no cell parses to, in a record that was not parsed.

    Raises:
        ValueError: The value breaks its rule. The message does not show the value.
    """
    if attribute.metadata["rule"].parse(str(value)) != value:
        raise ValueError(f"{type(record).__name__}.{attribute.name} breaks its rule")


def field(rule: Rule) -> Any:  # noqa: ANN401 - attrs.field() itself is typed as Any
    """Return an attribute of a record whose values follow a rule."""
    return attrs.field(metadata={"rule": rule}, validator=_keeps_its_rule)
