"""The sound screen: patterns of records that are certainly good, derived from the rules of `User`.

Each cell that passes parses to itself, and PostgreSQL reads it back identically. A stricter screen costs speed; a
laxer one is wrong.
"""

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from operator import itemgetter
from typing import Protocol

import attrs

from rollcall.application.header import Header
from rollcall.application.records import RecordReader
from rollcall.domain.user import RULES, Rule

# With these limits, a clean record is far shorter than the longest record that is read.
MOST_CLEAN_COLUMNS = 100
MOST_IGNORED_CHARACTERS = 1000
# How much text is split at once; all its cells are in memory together.
MOST_SPLIT_CHARACTERS = 64 * 1024

_QUOTE = '"'
_PADDING = " \t"
# The characters that separate or quote cells in a `Block`.
_APART = '",'
_LINE_END = r"\r?\n"


class CleanRecords(Protocol):
    """Records of one form that are certainly good, each on one line."""

    def take(self, reader: RecordReader, before: int | None = None) -> tuple[int, str]:
        """Take the next records of this form from the text that is in memory, or some of them.

        Args:
            reader: The upload.
            before: The line at which to stop; None for no limit.

        Returns:
            The line on which the first record starts, and the rows as a `Block` has them; no rows if the next
            record has another form.
        """
        ...


def clean_records(header: Header) -> Sequence[CleanRecords]:
    """Derive the forms of clean records from the rules of `User`.

    Returns:
        The forms, the cheapest first. A file of corrected rows has none: the origin of each row must be read.
    """
    if header.corrects or len(header.labels) > MOST_CLEAN_COLUMNS:
        return ()
    in_place = InPlace()
    out_of_place = Split(header, in_place), OutOfPlace(header)
    if header.delimiter == "," and header.positions == tuple(range(len(header.labels))):
        return in_place, *out_of_place
    return out_of_place


class InPlace:
    """Records that are in the file exactly as in a `Block`, quoted or not."""

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The pattern of any number of these records."""
        cells = (f"(?:{_quoted(rule)}|{rule.clean(without=_APART)})" for rule in RULES)
        return _any_number_of(",".join(cells))

    def take(self, reader: RecordReader, before: int | None = None) -> tuple[int, str]:
        """Take the records unchanged."""
        line, run = reader.take_run(self.pattern, before)
        return line, run.replace("\r\n", "\n") if "\r" in run else run


@attrs.frozen
class Split:
    """Lines without a quote. Split at the delimiter, trimmed and reordered, they are rows of a `Block`."""

    header: Header
    in_place: InPlace

    def take(self, reader: RecordReader, before: int | None = None) -> tuple[int, str]:
        """Split one line first, then each time twice as much text as before, until a line is not clean."""
        first, taken = reader.line, []
        characters = 1
        while characters <= MOST_SPLIT_CHARACTERS and (lines := reader.plain_lines(characters, before)):
            found = self.in_place.pattern.match(self._put_in_place(lines))
            rows = found[0] if found else ""
            *_, rest = lines.split("\n", rows.count("\n"))
            reader.take_lines(lines.removesuffix(rest))
            taken.append(rows)
            if rest:
                break
            characters = 2 * len(lines)
        return first, "".join(taken)

    def _put_in_place(self, lines: str) -> str:
        """Return the lines as rows of a `Block`; an empty text if a line has too few or too many cells."""
        delimiter, width = self.header.delimiter, len(self.header.labels)
        lines = lines.replace("\r\n", "\n")
        if "\r" in lines:
            return ""  # a lone carriage return ends a line too
        # Each line end becomes a cell, so that each line has width + 1 cells and a column is a slice.
        *cells, _ = lines.replace("\n", f"{delimiter}\n{delimiter}").split(delimiter)
        if cells[width :: width + 1] != ["\n"] * lines.count("\n"):
            return ""
        columns = (cells[position :: width + 1] for position in self.header.positions)
        trimmed = ([cell.strip(_PADDING) for cell in column] for column in columns)
        return "\n".join(map(",".join, zip(*trimmed, strict=True))) + "\n"


@attrs.frozen
class OutOfPlace:
    """Records whose clean cells are padded, in another order, or among ignored cells; quoted or not."""

    header: Header

    def take(self, reader: RecordReader, before: int | None = None) -> tuple[int, str]:
        """Take a run of records, and return its clean cells in the order of `COLUMNS`."""
        line, run = reader.take_run(self._run, before)
        return line, "".join([",".join(self._in_order(found)) + "\n" for found in self._record.findall(run)])

    @cached_property
    def _in_order(self) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
        in_the_file = sorted(self.header.positions)
        return itemgetter(*(in_the_file.index(position) for position in self.header.positions))

    @cached_property
    def _run(self) -> re.Pattern[str]:
        return _any_number_of(self._pattern("(?:{})"))

    @cached_property
    def _record(self) -> re.Pattern[str]:
        return re.compile(self._pattern("({})") + _LINE_END)

    def _pattern(self, group: str) -> str:
        """Return the pattern of one record.

        Args:
            group: A format string for the group around each cell of a field.
        """
        delimiter = re.escape(self.header.delimiter)
        apart = _APART + self.header.delimiter
        padding = f"[{_PADDING.replace(self.header.delimiter, '')}]*+"
        # A quote opens a cell only as its first character, and closes it only as its last.
        opens, closes = rf"(?<![^{delimiter}\r\n])", rf"(?=[{delimiter}\r\n])"
        most = f"{{0,{MOST_IGNORED_CHARACTERS}}}+"
        cells = [rf'(?:{opens}"[^"\r\n]{most}"{closes}|[^"\r\n{delimiter}]{most})'] * len(self.header.labels)
        for rule, position in zip(RULES, self.header.positions, strict=True):
            cell = f"{opens}{_quoted(rule)}{closes}|{rule.clean(without=apart)}"
            cells[position] = padding + group.format(cell) + padding
        return delimiter.join(cells)


def _quoted(rule: Rule) -> str:
    """Return the pattern of a clean cell in quotes, without a quote inside."""
    return f'"{rule.clean(without=_QUOTE)}"'


def _any_number_of(record: str) -> re.Pattern[str]:
    # Greedy and not possessive: before Python 3.11.5 a possessive group matched what its inside does not.
    return re.compile(f"(?:{record}{_LINE_END})*")
