"""Why a row was rejected, or an upload refused or skipped."""

from enum import StrEnum

import attrs

SHOWN_CHARACTERS = 40


class Code(StrEnum):
    """The codes of a receipt; those of cells and records follow Frictionless' names."""

    # a cell
    BLANK_CELL = "blank-cell"
    TYPE_ERROR = "type-error"
    CONSTRAINT_ERROR = "constraint-error"
    FORBIDDEN_VALUE = "forbidden-value"
    # a record
    MISSING_CELL = "missing-cell"
    EXTRA_CELL = "extra-cell"
    MALFORMED_QUOTING = "malformed-quoting"
    RECORD_TOO_LONG = "record-too-long"
    DUPLICATE_ROW = "duplicate-row"
    ALREADY_CORRECTED = "already-corrected"
    # an upload, refused
    EMPTY_FILE = "empty-file"
    ENCODING_ERROR = "encoding-error"
    COMPRESSION_ERROR = "compression-error"
    SIZE_LIMIT = "size-limit"
    SOURCE_UNREADABLE = "source-unreadable"
    FORMAT_ERROR = "format-error"
    MISSING_LABEL = "missing-label"
    DUPLICATE_LABEL = "duplicate-label"
    TOO_MANY_REJECTIONS = "too-many-rejections"
    NOTHING_TO_CORRECT = "nothing-to-correct"
    TABLE_CONSTRAINT = "table-constraint"
    KEY_ALREADY_LOADED = "key-already-loaded"
    # an upload, loaded in part
    ROWS_REJECTED = "rows-rejected"
    # an upload, skipped
    REDELIVERY = "redelivery"
    REPEAT = "repeat"
    SUPERSEDED = "superseded"
    UNDONE = "undone"
    SOURCE_GONE = "source-gone"
    SOURCE_CHANGED = "source-changed"

    @property
    def says(self) -> str:
        """The end of a sentence; a label can stand before it: "age is of the wrong kind"."""
        return _SAYS[self]


_SAYS = {
    Code.BLANK_CELL: "is blank",
    Code.TYPE_ERROR: "is of the wrong kind",
    Code.CONSTRAINT_ERROR: "is outside its limits",
    Code.FORBIDDEN_VALUE: "holds a character that is not allowed",
    Code.MISSING_CELL: "has too few cells",
    Code.EXTRA_CELL: "has too many cells",
    Code.MALFORMED_QUOTING: "has quotes that do not match",
    Code.RECORD_TOO_LONG: "is longer than 1 MiB",
    Code.DUPLICATE_ROW: "has a user that already exists",
    Code.ALREADY_CORRECTED: "was corrected before",
    Code.EMPTY_FILE: "holds nothing",
    Code.ENCODING_ERROR: "is in none of the encodings that were tried",
    Code.COMPRESSION_ERROR: "is damaged gzip",
    Code.SIZE_LIMIT: "is larger than the limit",
    Code.SOURCE_UNREADABLE: "is archived or encrypted with a key of its owner",
    Code.FORMAT_ERROR: "is not a CSV",
    Code.MISSING_LABEL: "has no column for a required label",
    Code.DUPLICATE_LABEL: "names a required label twice",
    Code.TOO_MANY_REJECTIONS: "has more bad rows than are tolerated",
    Code.NOTHING_TO_CORRECT: "corrects an import that is not loaded",
    Code.TABLE_CONSTRAINT: "breaks a constraint of the table",
    Code.KEY_ALREADY_LOADED: "is a new version of a file that is already loaded",
    Code.ROWS_REJECTED: "has rows that were rejected",
    Code.REDELIVERY: "was imported already",
    Code.REPEAT: "has the same content as an earlier import",
    Code.SUPERSEDED: "is older than the version that is loaded",
    Code.UNDONE: "was imported and undone",
    Code.SOURCE_GONE: "is no longer there",
    Code.SOURCE_CHANGED: "changed while it was read",
}


@attrs.frozen
class Fault:
    """One fault of a cell, a record or an upload.

    Attributes:
        code: The kind of fault.
        message: One plain sentence: what was found and what would be correct. It may show the beginning of a
            cell, so it belongs in receipts and rejected rows, never in a log or an exception.
        column: The label of the cell at fault, as the record spells it; None if the record or the upload as a
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
    shown = escaped(cell[:SHOWN_CHARACTERS])
    if len(shown) <= SHOWN_CHARACTERS:
        return f"'{shown}'" if len(cell) <= SHOWN_CHARACTERS else f"'{shown}...'"
    beginning = ""
    for character in cell:
        piece = escaped(character)
        if len(beginning) + len(piece) > SHOWN_CHARACTERS:
            return f"'{beginning}...'"
        beginning += piece
    return f"'{beginning}'"
