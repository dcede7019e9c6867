"""The sound screen: what records look like that are good without a doubt, derived from the rules of `User`.

Whatever passes parses to what stands in it, and PostgreSQL reads it back the same. Being stricter costs speed,
being laxer is wrong.
"""

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from operator import itemgetter
from typing import Protocol

import attrs

from rollcall.application.dialect import Header
from rollcall.application.records import RecordReader
from rollcall.domain.user import RULES, Rule

# With these, a clean record is far shorter than the longest record that is read at all.
MOST_CLEAN_COLUMNS = 100
MOST_IGNORED_CHARACTERS = 1000
# How much text is split into cells at once, all of which are held.
MOST_SPLIT_CHARACTERS = 64 * 1024

_QUOTE = '"'
_PADDING = " \t"
# What would separate or open cells in a `Block`.
_APART = '",'
_LINE_END = r"\r?\n"


class CleanRecords(Protocol):
    """Records of one kind that are good without a doubt, each on a line of its own."""

    def take(self, reader: RecordReader, before: int | None = None) -> tuple[int, str]:
        """Take all such records from here on, as far as the text at hand goes, or fewer.

        Args:
            reader: The upload.
            before: The line at which to stop; None for none.

        Returns:
            The line on which the first of them starts, and their rows as a `Block` has them; empty where there is
            none.
        """
        ...


def clean_records(header: Header) -> Sequence[CleanRecords]:
    """Derive from the rules of `User` what records certainly parse to what stands in them.

    Returns:
        Every kind of them, the cheapest first; none in a file of mended rows: each must say which row it was.
    """
    if header.corrects or len(header.labels) > MOST_CLEAN_COLUMNS:
        return ()
    in_place = InPlace()
    out_of_place = Split(header, in_place), OutOfPlace(header)
    if header.delimiter == "," and header.positions == tuple(range(len(header.labels))):
        return in_place, *out_of_place
    return out_of_place


class InPlace:
    """Records that stand in the file as `Block` wants them, quoted or not."""

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Any number of them."""
        cells = (f"(?:{_quoted(rule)}|{rule.clean(without=_APART)})" for rule in RULES)
        return _any_number_of(",".join(cells))

    def take(self, reader: RecordReader, before: int | None = None) -> tuple[int, str]:
        """Take them as they are."""
        line, run = reader.take_run(self.pattern, before)
        return line, run.replace("\r\n", "\n") if "\r" in run else run


@attrs.frozen
class Split:
    """Lines without a quote, of which the delimiter tells the cells; trimmed and in order, they stand in place."""

    header: Header
    in_place: InPlace

    def take(self, reader: RecordReader, before: int | None = None) -> tuple[int, str]:
        """Split one line, and then at once twice as much as was clean, until not all of it is."""
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
        """Rewrite lines one by one; nothing is left where one has too few cells or too many."""
        delimiter, width = self.header.delimiter, len(self.header.labels)
        lines = lines.replace("\r\n", "\n")
        if "\r" in lines:
            return ""  # each ends a line, too
        # The end of each line becomes a cell, so that a column is every so manieth cell.
        *cells, _ = lines.replace("\n", f"{delimiter}\n{delimiter}").split(delimiter)
        if cells[width :: width + 1] != ["\n"] * lines.count("\n"):
            return ""
        columns = (cells[position :: width + 1] for position in self.header.positions)
        trimmed = ([cell.strip(_PADDING) for cell in column] for column in columns)
        return "\n".join(map(",".join, zip(*trimmed, strict=True))) + "\n"


@attrs.frozen
class OutOfPlace:
    """Records whose clean cells are padded, or stand among others or in another order; quoted or not."""

    header: Header

    def take(self, reader: RecordReader, before: int | None = None) -> tuple[int, str]:
        """Find the cells of a whole run, and write them together."""
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
        """Describe one of them.

        Args:
            group: What stands around each cell that is wanted.
        """
        delimiter = re.escape(self.header.delimiter)
        apart = _APART + self.header.delimiter
        padding = f"[{_PADDING.replace(self.header.delimiter, '')}]*+"
        # Only at the very start of a cell does a quote open it, and only at the very end does one close it.
        opens, closes = rf"(?<![^{delimiter}\r\n])", rf"(?=[{delimiter}\r\n])"
        most = f"{{0,{MOST_IGNORED_CHARACTERS}}}+"
        cells = [rf'(?:{opens}"[^"\r\n]{most}"{closes}|[^"\r\n{delimiter}]{most})'] * len(self.header.labels)
        for rule, position in zip(RULES, self.header.positions, strict=True):
            cell = f"{opens}{_quoted(rule)}{closes}|{rule.clean(without=apart)}"
            cells[position] = padding + group.format(cell) + padding
        return delimiter.join(cells)


def _quoted(rule: Rule) -> str:
    """Describe a clean cell in quotes, in which anything may stand but quotes."""
    return f'"{rule.clean(without=_QUOTE)}"'


def _any_number_of(record: str) -> re.Pattern[str]:
    # Greedy and not possessive: before Python 3.11.5 a possessive group matched what its inside does not.
    return re.compile(f"(?:{record}{_LINE_END})*")
