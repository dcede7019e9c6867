"""The kinds of fields. Each rule gives every view of its values: cell, database, JSON, and words for people."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Protocol
from unicodedata import category, decimal
from uuid import UUID

import attrs

from rollcall.domain.errors import DeclarationError
from rollcall.domain.patterns import NOTHING, Pattern, in_re2
from rollcall.domain.rejection import SHOWN_CHARACTERS, Code, Fault, preview

Value = str | int | Decimal | date | UUID  # and bool, which is an int

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
_FORBIDDEN_IN_RE2 = re.sub(r"\\u([0-9a-f]{4})", r"\\x{\1}", FORBIDDEN_CHARACTERS)

# Readers of JSON may round a larger number.
_LARGEST_IN_JSON = 2**53 - 1
_LARGEST_INTEGER = 2**31 - 1

_forbidden = re.compile(f"[{FORBIDDEN_CHARACTERS}]")
_digits = re.compile("[0-9]+")
_MOST_DIGITS = 1000  # of PostgreSQL's numeric, and of a count in RE2
_decimal = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?")

_ISO_DATE = "YYYY-MM-DD"
_date_form = re.compile(r"[^0-9A-Za-z]*(?:(?:YYYY|MM?|DD?)[^0-9A-Za-z]*){3}")
_date_part = re.compile("(YYYY|MM?|DD?)")
_DATE_PARTS = {
    "YYYY": "(?P<year>[0-9]{4})",
    "MM": "(?P<month>[0-9]{2})",
    "M": "(?P<month>[0-9]{1,2})",
    "DD": "(?P<day>[0-9]{2})",
    "D": "(?P<day>[0-9]{1,2})",
}

# The words that PostgreSQL reads in any case. It also reads beginnings such as `tr`.
_BOOLEANS_OF_POSTGRESQL = {
    True: frozenset({"true", "t", "yes", "y", "on", "1"}),
    False: frozenset({"false", "f", "no", "n", "off", "0"}),
}

_LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_EMAIL = rf"[a-zA-Z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{_LABEL}(?:\.{_LABEL})*"
_email = re.compile(_EMAIL)

_UUID = "-".join(f"[0-9a-f]{{{digits}}}" for digits in (8, 4, 4, 4, 12))
_uuid = re.compile(_UUID, re.IGNORECASE | re.ASCII)

# A quoted cell has at most 64 KiB; see docs/csv.md. Each of its characters may have four bytes.
_LONGEST_TEXT = 16_000
_LONGEST_WORD = 200  # of a choice or a boolean
_LONGEST_LIST = 80  # of such words in a message
_FULL_WIDTH_BY = 0xFF01 - ord("!")  # the distance of a full-width character from ASCII


def is_blank(text: str) -> bool:
    """Return whether a text has no visible character: only white space and format characters (Cf), or nothing."""
    # Most texts begin with a letter or a digit, which is visible.
    return not text[:1].isalnum() and all(
        character in WHITE_SPACE or category(character) == "Cf" for character in text
    )


class Rule(Protocol):
    """The rule for the values of a field. `parse` is the reference; `clean` must agree with it."""

    @property
    def sql(self) -> str:
        """The type of the column in PostgreSQL."""
        ...

    @property
    def wanted(self) -> str:
        """What a cell must be, for people: "a whole number from 0 to 150"."""
        ...

    def sample(self) -> str:
        """Return the text of some value, for an example."""
        ...

    def parse(self, cell: str) -> Value | Fault:
        """Parse one cell of an upload.

        Args:
            cell: The text of the cell after unquoting.

        Returns:
            The value, or the fault. The field's label can stand before the fault's message.
            The fault is returned and not raised, because exceptions may be logged and cells must not be.
        """
        ...

    def text(self, value: Value) -> str:
        """Return the text of a value: it parses to the value, and PostgreSQL reads it as the value.

        Any other text of a value may be shorter, longer or in other letters, as `007` is for 7. For an object that
        is no value of this rule, return any text.
        """
        ...

    @property
    def clean_length(self) -> int | None:
        """The most code points for which `clean` holds; None for any number."""
        ...

    def clean(self, without: str = "") -> str:
        """Return a pattern of common text that is certainly clean if it has at most `clean_length` code points.

        PostgreSQL reads a clean text as the value that it parses to. It is the `text` of that value, except that
        PostgreSQL knows other words for true and false.

        Args:
            without: Characters that must not occur in the text: quotes, commas, or none.

        Returns:
            A regular expression of RE2, without capturing groups. It counts no more characters than necessary,
            which would be slow. A pattern stricter than `parse` costs speed; a laxer one is wrong.
        """
        ...

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of the values, as `as_json` gives them: type and limits.

        Every value that `parse` returns matches the schema; a value that matches may still break the rule.
        """
        ...


@attrs.frozen
class Text:
    """Visible text, stored as uploaded after trimming: no case folding, no normalisation.

    Attributes:
        max_length: The largest length in code points, after trimming.
        pattern: What the whole text must match, as `Pattern` describes it; None for any text.
        example: A text that is allowed, for messages and examples.
    """

    max_length: int
    pattern: str | None = None
    example: str | None = None
    _pattern: Pattern | None = attrs.field(init=False, eq=False, repr=False)
    sql = "text"
    text = staticmethod(str)

    @_pattern.default
    def _checked(self) -> Pattern | None:
        return None if self.pattern is None else Pattern(self.pattern, self.max_length)

    def __attrs_post_init__(self) -> None:
        _require_length("a text", self.max_length)
        if (self.pattern or self.example) and self.parse(self.example or "") != self.example:
            where = f"the pattern {self.pattern}" if self.pattern else "a text"
            raise DeclarationError(f"{where} needs an example that matches it")

    @property
    def wanted(self) -> str:
        """An example of the pattern, or the length."""
        return (
            f"a text such as {preview(self.example or '')}"
            if self.pattern
            else f"1 to {self.max_length} characters"
        )

    def sample(self) -> str:
        """Return the example, or one that suits any length."""
        return self.example or "Text"[: self.max_length]

    @property
    def clean_length(self) -> int:
        """The largest length, because the pattern does not limit it."""
        return self.max_length

    def clean(self, without: str = "") -> str:
        """Return a pattern of text that begins with a letter or digit, so it is visible, and needs no trimming."""
        if self._pattern:
            return self._pattern.clean(without)
        excluded = _FORBIDDEN_IN_RE2 + re.escape(without)
        return rf"[\pL\pN](?:[^{excluded}]*[^{excluded}{WHITE_SPACE}])?"

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of a text without forbidden characters, which need not be visible or trimmed."""
        pattern = self._pattern.schema() if self._pattern else f"^[^{_FORBIDDEN_IN_JSON}]*$"
        return {"type": "string", "minLength": 1, "maxLength": self.max_length, "pattern": pattern}

    def parse(self, cell: str) -> str | Fault:
        """Return the trimmed text, or a fault if it is blank, too long, does not match, or has a bad character."""
        text = cell.strip(WHITE_SPACE)
        if is_blank(text):
            return Fault(Code.BLANK_CELL, f"is blank; give {self.wanted}")
        if len(text) > self.max_length:
            return _too_long(text, self.max_length)
        if self._pattern and not self._pattern.matches(text):
            return _fault(self, text, "of the right form", Code.CONSTRAINT_ERROR)
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
    text = staticmethod(str)

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.minimum <= self.maximum <= _LARGEST_IN_JSON:
            raise DeclarationError(f"the limits of a whole number are not in order from 0 to {_LARGEST_IN_JSON}")

    @property
    def sql(self) -> str:
        """The type that is large enough."""
        return "integer" if self.maximum <= _LARGEST_INTEGER else "bigint"

    @property
    def wanted(self) -> str:
        """The range."""
        return f"a whole number from {self.minimum} to {self.maximum}"

    def sample(self) -> str:
        """Return a number in the middle of the range."""
        return str((self.minimum + self.maximum) // 2)

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
            return Fault(Code.BLANK_CELL, f"is blank; give {self.wanted}")
        if text.isdecimal():
            # `isdecimal` accepts the digits of every script, such as the full-width ones of a Japanese keyboard.
            value = self.parse(_half_width(text))
            advice = f"give {self.minimum} to {self.maximum}" if isinstance(value, Fault) else f"give {value}"
            return Fault(Code.TYPE_ERROR, f"is {preview(text)}, not in half-width digits (0-9); {advice}")
        return Fault(
            Code.TYPE_ERROR,
            f"is {preview(text)}, not a whole number; give digits only, {self.minimum} to {self.maximum}",
        )


@attrs.frozen
class DecimalNumber:
    """A number with a decimal point, which is never rounded; zeros that change nothing do not matter.

    Its text has all its decimal places, so that 1.5 and 1.50 are the same text. JSON has this text too, because
    readers of JSON may round a number.

    Attributes:
        digits: The most digits, before and after the point.
        places: The most digits after the point.
    """

    digits: int
    places: int
    clean_length = None

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.places < self.digits <= _MOST_DIGITS:
            raise DeclarationError(
                f"places < digits does not hold, or a decimal has more than {_MOST_DIGITS} digits"
            )

    @property
    def sql(self) -> str:
        """The type with the same digits."""
        return f"numeric({self.digits}, {self.places})"

    @property
    def _whole_digits(self) -> int:
        return self.digits - self.places

    def _form(self, *, zero: str, others: str) -> str:
        """Return a pattern of the numbers in their text.

        Args:
            zero: A sign before a number whose first digit is zero, as a pattern.
            others: A sign before the other numbers.
        """
        fraction = rf"\.[0-9]{{{self.places}}}" if self.places else ""
        return f"(?:{zero}0|{others}[1-9][0-9]{{0,{self._whole_digits - 1}}}){fraction}"

    @property
    def wanted(self) -> str:
        """The numbers of digits."""
        return f"at most {self._whole_digits} digits before the point and {self.places} after it"

    def sample(self) -> str:
        """Return 1 with all its decimal places."""
        return self.text(Decimal(1))

    def text(self, value: Value) -> str:
        """Return the number with all its decimal places."""
        return f"{value:z.{self.places}f}" if isinstance(value, Decimal) else str(value)

    def clean(self, without: str = "") -> str:  # noqa: ARG002 - no delimiter is part of a number
        """Return a pattern of the numbers in their text, without those between -1 and 0."""
        return self._form(zero="", others="-?")

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the numbers as texts."""
        return {"type": "string", "pattern": f"^{self._form(zero='-?', others='-?')}$"}

    def parse(self, cell: str) -> Decimal | Fault:
        """Return the number, or a fault if the cell is blank, not a decimal number, or has too many digits."""
        text = cell.strip(WHITE_SPACE)
        if not (found := _decimal.fullmatch(text)):
            return _fault(self, text, "a decimal number")
        sign, whole, fraction = found.groups("")
        whole, fraction = whole.lstrip("0"), fraction.rstrip("0")
        if len(whole) > self._whole_digits or len(fraction) > self.places:
            return Fault(Code.CONSTRAINT_ERROR, f"is {preview(text)}; give {self.wanted}")
        number = Decimal(f"{sign}{whole or 0}.{fraction.ljust(self.places, '0')}")
        return number or number.copy_abs()  # PostgreSQL has no negative zero


@attrs.frozen
class Date:
    """A date as ISO 8601 writes it, YYYY-MM-DD, or in another declared format; a format is never guessed.

    Attributes:
        formats: Further formats of YYYY, MM or M, DD or D, and marks between them: `D.M.YYYY`, `YYYY年M月D日`.
            M and D allow one digit or two.
        earliest: The earliest allowed date.
        latest: The latest allowed date.
    """

    formats: tuple[str, ...] = ()
    earliest: date = date.min
    latest: date = date.max
    _patterns: Sequence[re.Pattern[str]] = attrs.field(init=False, eq=False, repr=False)
    clean_length = None
    sql = "date"
    text = staticmethod(str)

    @_patterns.default
    def _compile(self) -> Sequence[re.Pattern[str]]:
        require_several("formats", self.formats)
        return [_date_pattern(form) for form in (_ISO_DATE, *self.formats)]

    def __attrs_post_init__(self) -> None:
        if self.earliest > self.latest:
            raise DeclarationError("the earliest date is after the latest")
        orders = {(_marks_of(form), _order_of(form)) for form in (_ISO_DATE, *self.formats)}
        if len(dict(orders)) < len(orders):
            raise DeclarationError("two formats of a date differ only in the order of their parts; declare one")

    @property
    def wanted(self) -> str:
        """The formats, and the range if one is declared."""
        limited = (self.earliest, self.latest) != (date.min, date.max)
        return f"a date as {_listed((_ISO_DATE, *self.formats))}" + (f", {self._range}" if limited else "")

    @property
    def _range(self) -> str:
        return f"{self.earliest} to {self.latest}"

    def sample(self) -> str:
        """Return a date by ISO 8601."""
        return str(max(self.earliest, min(self.latest, date(2000, 1, 31))))

    def clean(self, without: str = "") -> str:  # noqa: ARG002 - no delimiter is part of a date
        """Return a pattern of dates by ISO 8601 in whole years that are allowed, without the 29th of February."""
        first = max(self.earliest.year + (self.earliest > date(self.earliest.year, 1, 1)), 1000)
        last = self.latest.year - (self.latest < date(self.latest.year, 12, 31))
        if first > last:
            return NOTHING
        return (
            f"(?:{_numbers_from(first, last)})-(?:"
            "(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|"
            "(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|"
            "02-(?:0[1-9]|1[0-9]|2[0-8]))"
        )

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of a date by ISO 8601."""
        return {"type": "string", "format": "date"}

    def parse(self, cell: str) -> date | Fault:
        """Return the date, or a fault if the cell is blank, not a date in these formats, or out of range."""
        text = cell.strip(WHITE_SPACE)
        found = next(filter(None, (pattern.fullmatch(text) for pattern in self._patterns)), None)
        if not found:
            return _fault(self, text, "a date in a known format")
        try:
            value = date(**{part: int(number) for part, number in found.groupdict().items()})
        except ValueError:
            return Fault(Code.TYPE_ERROR, f"is {preview(text)}, not a day of the calendar; give {self.wanted}")
        if not self.earliest <= value <= self.latest:
            return Fault(Code.CONSTRAINT_ERROR, f"is {preview(text)}; give {self._range}")
        return value


@attrs.frozen
class Boolean:
    """True or false, in upper or lower case. The words `true` and `false` always count; others are declared.

    Attributes:
        true: Further words for true.
        false: Further words for false.
    """

    true: tuple[str, ...] = ()
    false: tuple[str, ...] = ()
    _words: Mapping[str, bool] = attrs.field(init=False, eq=False, repr=False)
    clean_length = None
    sql = "boolean"

    @_words.default
    def _folded(self) -> Mapping[str, bool]:
        require_several("true", self.true)
        require_several("false", self.false)
        words = dict.fromkeys(_distinct(("true", *self.true), str.casefold), True)
        others = dict.fromkeys(_distinct(("false", *self.false), str.casefold), False)
        if words.keys() & others.keys():
            raise DeclarationError("a word is declared for both true and false")
        return words | others

    @property
    def wanted(self) -> str:
        """The words."""
        return _listed((*(self.true or ("true",)), *(self.false or ("false",))))

    def sample(self) -> str:
        """Return a word for true."""
        return (*self.true, "true")[0]

    def text(self, value: Value) -> str:
        """Return `true` or `false`."""
        return str(value).lower()

    def clean(self, without: str = "") -> str:  # noqa: ARG002 - none of these words has a delimiter
        """Return a pattern of the words that PostgreSQL reads alike, in upper and lower case of ASCII."""
        words = (word for word, value in self._words.items() if word in _BOOLEANS_OF_POSTGRESQL[value])
        in_any_case = (re.sub("[a-z]", lambda letter: f"[{letter[0]}{letter[0].upper()}]", word) for word in words)
        return f"(?:{'|'.join(in_any_case)})"

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of a boolean."""
        return {"type": "boolean"}

    def parse(self, cell: str) -> bool | Fault:
        """Return the boolean, or a fault if the cell is blank or another word."""
        text = cell.strip(WHITE_SPACE)
        value = self._words.get(text.casefold())
        if value is None:
            return _fault(self, text, "one of the words for yes and no")
        return value


@attrs.frozen
class Choice:
    """One of the declared values.

    Attributes:
        values: The values.
        any_case: Whether a cell may be in upper or lower case; the value is as declared.
    """

    values: tuple[str, ...]
    any_case: bool = False
    _known: Mapping[str, str] = attrs.field(init=False, eq=False, repr=False)
    clean_length = None
    sql = "text"
    text = staticmethod(str)

    @_known.default
    def _by_cell(self) -> Mapping[str, str]:
        require_several("values", self.values)
        return dict(zip(_distinct(self.values, self._folded), self.values, strict=True))

    def _folded(self, text: str) -> str:
        return text.casefold() if self.any_case else text

    @property
    def wanted(self) -> str:
        """The values."""
        return _listed(self.values)

    def sample(self) -> str:
        """Return the first value."""
        return self.values[0]

    def clean(self, without: str = "") -> str:
        """Return a pattern of the values in declared case. A backslash could end COPY."""
        values = [in_re2(value) for value in self.values if not set(value) & set(without + "\\")]
        return f"(?:{'|'.join(values)})" if values else NOTHING

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the values."""
        return {"type": "string", "enum": list(self.values)}

    def parse(self, cell: str) -> str | Fault:
        """Return the value as declared, or a fault if the cell is blank or none of the values."""
        text = cell.strip(WHITE_SPACE)
        value = self._known.get(self._folded(text))
        if value is None:
            return _fault(self, text, "one of the allowed values", Code.CONSTRAINT_ERROR)
        return value


@attrs.frozen
class Email:
    """An e-mail address by the rule of the HTML standard, stored as uploaded.

    This is what `<input type=email>` accepts: ASCII only, in places stricter and in others laxer than RFC 5322.
    See "valid email address" in https://html.spec.whatwg.org/multipage/input.html.

    Attributes:
        max_length: The largest length; RFC 5321 limits addresses to 254.
    """

    max_length: int = 254
    sql = "text"
    text = staticmethod(str)

    def __attrs_post_init__(self) -> None:
        _require_length("an address", self.max_length)

    wanted = "an address such as ann@example.com"

    def sample(self) -> str:
        """Return an address."""
        return "ann@example.com"

    @property
    def clean_length(self) -> int:
        """The largest length, because the pattern does not limit it."""
        return self.max_length

    def clean(self, without: str = "") -> str:  # noqa: ARG002 - no address has a quote or a comma
        """Return a pattern of addresses."""
        return _EMAIL

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of an address. Its format `email` is another rule, so the pattern is here."""
        return {"type": "string", "maxLength": self.max_length, "pattern": f"^{_EMAIL}$"}

    def parse(self, cell: str) -> str | Fault:
        """Return the address, or a fault if the cell is blank, not an address, or too long."""
        text = cell.strip(WHITE_SPACE)
        if not _email.fullmatch(text):
            return _fault(self, text, "an e-mail address")
        if len(text) > self.max_length:
            return _too_long(text, self.max_length)
        return text


@attrs.frozen
class Uuid:
    """A UUID as RFC 9562 writes it, with four hyphens, in upper or lower case; its text is in lower case."""

    clean_length = None
    sql = "uuid"
    text = staticmethod(str)

    wanted = "32 hexadecimal digits such as 123e4567-e89b-12d3-a456-426614174000"

    def sample(self) -> str:
        """Return a UUID."""
        return "123e4567-e89b-12d3-a456-426614174000"

    def clean(self, without: str = "") -> str:  # noqa: ARG002 - no delimiter is part of a UUID
        """Return a pattern of UUIDs in lower case."""
        return _UUID

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of a UUID in lower case."""
        return {"type": "string", "format": "uuid", "pattern": f"^{_UUID}$"}

    def parse(self, cell: str) -> UUID | Fault:
        """Return the UUID, or a fault if the cell is blank or not a UUID."""
        text = cell.strip(WHITE_SPACE)
        if not _uuid.fullmatch(text):
            return _fault(self, text, "a UUID")
        return UUID(text)


def _require_length(what: str, max_length: int) -> None:
    if not 1 <= max_length <= _LONGEST_TEXT:
        raise DeclarationError(f"the max_length of {what} is not from 1 to {_LONGEST_TEXT:,}")


def require_several(name: str, texts: object) -> None:
    """Check that an argument is several texts, and not one whose letters would count one by one.

    Raises:
        DeclarationError: It is one text, as `("x")` is without a comma.
    """
    if isinstance(texts, str):
        raise DeclarationError(f"{name} is one text; give several: ({texts!r},)")


def _date_pattern(form: str) -> re.Pattern[str]:
    """Return the pattern of a declared format of dates.

    Raises:
        DeclarationError: The format does not have each part once, or one digit or two could belong to two parts.
    """
    parts = _date_part.split(form)
    if not _date_form.fullmatch(form) or sorted(_order_of(form)) != ["D", "M", "Y"]:
        raise DeclarationError(f"the format {form} of a date does not have YYYY, MM or M, and DD or D once each")
    if not all(parts[2:-1:2]) and (any(parts[2:-1:2]) or {"M", "D"} & set(parts)):
        raise DeclarationError(
            f"the format {form} of a date has no mark between two parts; give YYYY, MM and DD only"
        )
    return re.compile("".join(_DATE_PARTS.get(part) or re.escape(part) for part in parts))


def _order_of(form: str) -> tuple[str, ...]:
    """Return the first letter of each part of a format of dates."""
    return tuple(part[0] for part in _date_part.findall(form))


def _marks_of(form: str) -> tuple[str | int, ...]:
    """Return what the dates of a format are recognised by: the marks, and where the year is if marks show it."""
    marks = _date_part.split(form)[::2]
    return (*marks, _order_of(form).index("Y") if all(marks[1:-1]) else -1)


def _distinct(words: Sequence[str], folded: Callable[[str], str]) -> Iterable[str]:
    """Return the folded form of each declared word.

    Raises:
        DeclarationError: There are no words, two of them are alike, or no cell could hold one.
    """
    any_text = Text(max_length=_LONGEST_WORD)
    found = dict.fromkeys(map(folded, words))
    if not words or len(found) < len(words) or any(any_text.parse(word) != word for word in words):
        raise DeclarationError(
            "the declared words are not one or more different ones, each visible, without space around it, "
            f"and of at most {_LONGEST_WORD} characters"
        )
    return found


def _half_width(text: str) -> str:
    """Return a text with its digits and full-width characters, as a Japanese keyboard types them, in ASCII."""
    return "".join(
        str(decimal(character))
        if character.isdecimal()
        else chr(ord(character) - _FULL_WIDTH_BY)
        if "\uff01" <= character <= "\uff5e"
        else character
        for character in text
    )


def _fault(rule: Rule, text: str, what: str, code: Code = Code.TYPE_ERROR) -> Fault:
    """Return the fault of a trimmed text that is blank, or of another kind than its rule allows.

    Args:
        rule: The rule.
        text: The text.
        what: What the text is not.
        code: The code of the fault if the text is not blank.
    """
    if is_blank(text):
        return Fault(Code.BLANK_CELL, f"is blank; give {rule.wanted}")
    narrow = _half_width(text)
    if narrow != text and len(narrow) <= SHOWN_CHARACTERS and not isinstance(rule.parse(narrow), Fault):
        digits_only = all(character.isascii() or character.isdecimal() for character in text)
        forms = "digits (0-9)" if digits_only else "characters"
        return Fault(code, f"is {preview(text)}, not in half-width {forms}; give {narrow}")
    return Fault(code, f"is {preview(text)}, not {what}; give {rule.wanted}")


def _too_long(text: str, most: int) -> Fault:
    message = f"has {len(text):,} characters ({preview(text)}); give at most {most}"
    return Fault(Code.CONSTRAINT_ERROR, message)


def _listed(words: Sequence[str]) -> str:
    """Return words for a message: "'a', 'b' or 'c'", or an example if they are too many for one line."""
    *first, last = map(preview, words)
    whole = f"{', '.join(first)} or {last}" if first else last
    return whole if len(whole) <= _LONGEST_LIST else f"one of {len(words)} values, such as {preview(words[0])}"


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


def as_json(rule: Rule, value: Value) -> str | int:
    """Return the JSON form of a value: a string, a whole number or a boolean."""
    return value if isinstance(value, str | int) else rule.text(value)
