"""Why a row was rejected, or an upload refused or skipped."""

from enum import StrEnum
from typing import Self

import attrs

SHOWN_CHARACTERS = 40


class Code(StrEnum):
    """The codes of a receipt; those of cells and records follow Frictionless' names.

    Each code is declared with the end of a sentence about the cell, the record or the upload. A label can stand
    before it: "age is not a whole number".
    """

    says: str

    def __new__(cls, value: str, says: str) -> Self:
        """Create the member whose value is the code and whose `says` is the end of the sentence."""
        code = str.__new__(cls, value)
        code._value_ = value
        code.says = says
        return code

    @classmethod
    def of(cls, value: str) -> Self:
        """Return the member with a code.

        Raises:
            ValueError: No member has this code.
        """
        return cls(value)  # type: ignore[call-arg]  # mypy takes the lookup for __new__, which has two arguments

    # a cell
    BLANK_CELL = "blank-cell", "is blank"
    TYPE_ERROR = "type-error", "is not a whole number"
    CONSTRAINT_ERROR = "constraint-error", "is too long or out of range"
    FORBIDDEN_VALUE = "forbidden-value", "holds a character that is not allowed"
    # a record
    MISSING_CELL = "missing-cell", "has too few cells"
    EXTRA_CELL = "extra-cell", "has too many cells"
    MALFORMED_QUOTING = "malformed-quoting", "has quotes that do not match"
    RECORD_TOO_LONG = "record-too-long", "is longer than 1 MiB"
    DUPLICATE_ROW = "duplicate-row", "has a user that already exists"
    ALREADY_CORRECTED = "already-corrected", "was corrected before"
    # an upload, refused
    EMPTY_FILE = "empty-file", "holds nothing"
    ENCODING_ERROR = "encoding-error", "is in none of the encodings that were tried"
    COMPRESSION_ERROR = "compression-error", "is damaged gzip"
    SIZE_LIMIT = "size-limit", "is larger than the limit"
    SOURCE_UNREADABLE = "source-unreadable", "is archived or encrypted with a key of its owner"
    FORMAT_ERROR = "format-error", "is not a CSV"
    MISSING_LABEL = "missing-label", "has no column for a required label"
    DUPLICATE_LABEL = "duplicate-label", "names a required label twice"
    TOO_MANY_REJECTIONS = "too-many-rejections", "has more bad rows than are tolerated"
    NOTHING_TO_CORRECT = "nothing-to-correct", "corrects an import that is not loaded"
    TABLE_CONSTRAINT = "table-constraint", "breaks a constraint of the table"
    KEY_ALREADY_LOADED = "key-already-loaded", "is a new version of a file that is already loaded"
    # an upload, loaded in part
    ROWS_REJECTED = "rows-rejected", "has rows that were rejected"
    # an upload, skipped
    REDELIVERY = "redelivery", "was imported already"
    REPEAT = "repeat", "has the same content as an earlier import"
    SUPERSEDED = "superseded", "is older than the version that is loaded"
    UNDONE = "undone", "was imported and undone"
    SOURCE_GONE = "source-gone", "is no longer there"
    SOURCE_CHANGED = "source-changed", "changed while it was read"


@attrs.frozen
class Fault:
    """One fault of a cell, a record or an upload.

    Attributes:
        code: The kind of fault.
        message: One plain sentence: what was found and what would be correct. It may show the beginning of a
            cell, so it belongs in receipts and rejected rows, never in a log or an exception.
        column: The label of the cell at fault, as `User` spells it; None if the record or the upload as a
            whole is at fault.
    """

    code: Code
    message: str
    column: str | None = None


@attrs.frozen
class Rejection:
    """Why one row was rejected.

    Attributes:
        line: The physical line, 1-based, on which the record starts.
        last_line: The physical line, 1-based, on which the record ends.
        faults: Every fault of the row: one for each bad cell, or one for the record. Never empty.
    """

    line: int
    last_line: int
    faults: tuple[Fault, ...]


def escaped(text: str) -> str:
    """Return a text with each character that cannot be printed as a Python escape, safe to show and to store."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def counted(number: int, noun: str) -> str:
    """Return a number with its noun in singular or plural: "1 row", "1,234 rows"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def preview(cell: str) -> str:
    """Return the beginning of a cell, quoted, so that a person can recognise the cell on one line.

    Args:
        cell: Any text.

    Returns:
        At most `SHOWN_CHARACTERS` in single quotes. Characters that cannot be printed are escaped, and "..." marks
        a cut.
    """
    if len(cell) <= SHOWN_CHARACTERS and cell.isprintable():
        return f"'{cell}'"
    beginning = ""
    for character in cell:
        piece = escaped(character)
        if len(beginning) + len(piece) > SHOWN_CHARACTERS:
            return f"'{beginning}...'"
        beginning += piece
    return f"'{beginning}'"
