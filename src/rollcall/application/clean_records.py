"""The sound screen: patterns of records that are certainly good, derived from the rules of the record.

Each cell that passes parses to itself, and PostgreSQL reads it back identically. A stricter screen costs speed; a
laxer one is wrong. RE2 only verifies; the rows are parts of the upload, or its cells joined again.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from itertools import islice
from typing import Any, Protocol

import attrs

from rollcall.application.header import Header
from rollcall.application.records import MAX_RECORD_BYTES, RecordReader, end_of_short_lines
from rollcall.domain.record import RecordType

# With this limit, a clean record is far shorter than the longest record that is read.
MOST_CLEAN_COLUMNS = 100
# How much of an upload is split at once; all its cells are in memory together.
MOST_SPLIT_BYTES = 64 * 1024
# How much of an upload with long lines is split at once, and taken at once.
MOST_LONG_LINES_BYTES = 16 * 1024
MOST_LONG_BYTES = 256 * 1024

_PADDING = b" \t"
_LINE_END = r"\r?\n"
_QUOTE = '"'
# The characters that separate or quote cells in a `Block`.
_APART = '",'


class CleanRecords(Protocol):
    """Records of one form that are certainly good, each on one line."""

    def take(self, reader: RecordReader, before: int | None = None) -> tuple[range, bytes]:
        """Take the next records of this form that are in memory, or some of them.

        Args:
            reader: The upload.
            before: The line at which to stop; None for no limit.

        Returns:
            The lines of the records, and the rows as a `Block` has them; none if the next record has another form.
        """
        ...


def clean_records(header: Header) -> Sequence[CleanRecords]:
    """Derive the forms of clean records from the rules of the record.

    Returns:
        The forms, the cheapest first. A file of corrected rows has none: the origin of each row must be read.
    """
    if header.corrects or len(header.labels) > MOST_CLEAN_COLUMNS:
        return ()
    in_place = InPlace(header.record_type)
    out_of_place = OutOfPlace(header, in_place)
    return (in_place, out_of_place) if header.labels_fields_only and header.delimiter == "," else (out_of_place,)


@attrs.frozen
class InPlace:
    """Records that are in the file exactly as in a `Block`, quoted or not.

    Attributes:
        record_type: What they are read as.
    """

    record_type: RecordType

    @cached_property
    def short_line(self) -> int:
        """A number of bytes: in a line of so many, no cell is too long."""
        return min(
            (rule.clean_length for rule in self.record_type.rules if rule.clean_length), default=MAX_RECORD_BYTES
        )

    @cached_property
    def pattern(self) -> Any:  # noqa: ANN401 - the package has no types
        """The pattern of any number of these records, if no cell is too long."""
        import re2  # noqa: PLC0415 - a small upload is not worth the time that loading takes

        options = re2.Options()
        options.log_errors = False
        cells = (
            # COPY reads an empty cell as null, and one of two quotes as an empty text.
            f'(?:"{field.rule.clean(without=_QUOTE)}"|{field.rule.clean(without=_APART)})' + "?" * field.optional
            for field in self.record_type.fields
        )
        return re2.compile("(?:" + ",".join(cells) + f"{_LINE_END})*", options)

    def end(self, data: bytes, start: int = 0, end: int | None = None) -> int:
        """Return the index after the last of the next lines that match."""
        matched: int = self.pattern.match(data, start, end).end()
        return matched

    def take(self, reader: RecordReader, before: int | None = None) -> tuple[range, bytes]:
        """Take the records unchanged."""
        data, start, end = reader.short_lines(self.short_line, before)
        if start == end:
            return self._take_long_lines(reader, before)
        end = self.end(data, start, end)
        return reader.take_lines(end), _with_line_feeds(data[start:end])

    def _take_long_lines(self, reader: RecordReader, before: int | None) -> tuple[range, bytes]:
        """Take the next records where a line is long, after measuring each cell."""
        first, taken, size = reader.line, [], 0
        while size < MOST_LONG_BYTES:
            data, start, stop = reader.lines(MOST_LONG_LINES_BYTES, before)
            lines = data[start : self.end(data, start, stop)]
            taken.append(lines[: self._without_long_cells(lines)])
            size += len(taken[-1])
            reader.take_lines(start + len(taken[-1]))
            if start + len(taken[-1]) < stop or start == stop:
                break
        return range(first, reader.line), _with_line_feeds(b"".join(taken))

    def _without_long_cells(self, lines: bytes) -> int:
        """Return the length of the first of some lines that match, up to a long cell or a quote."""
        quote = lines.find(b'"')
        if quote >= 0:
            lines = lines[: lines.rfind(b"\n", 0, quote) + 1]
        *cells, _ = _with_line_feeds(lines).replace(b"\n", b",").split(b",")
        width = len(self.record_type.rules)
        good = self.rows_without_long_cells([cells[position::width] for position in range(width)])
        whole = good == len(cells) // width
        return len(lines) if whole else len(b"".join(lines.splitlines(keepends=True)[:good]))

    def rows_without_long_cells(self, columns: Sequence[Sequence[bytes]]) -> int:
        """Return the number of rows before the first in which a cell has more code points than allowed.

        Args:
            columns: The columns of the fields, with a cell for each row.
        """
        good = len(columns[0]) if columns else 0
        for rule, column in zip(self.record_type.rules, columns, strict=False):
            most = rule.clean_length
            if most and max(map(len, column), default=0) > most:
                cells = b"\n".join(column).decode(errors="replace").split("\n")
                good = min(good, next((row for row, cell in enumerate(cells) if len(cell) > most), good))
        return good


def _with_line_feeds(lines: bytes) -> bytes:
    """Return lines with a line feed at the end of each."""
    return lines.replace(b"\r\n", b"\n") if b"\r" in lines else lines


@attrs.frozen
class OutOfPlace:
    """Lines that become rows of a `Block` once they are split, trimmed and reordered."""

    header: Header
    in_place: InPlace

    @cached_property
    def _mark(self) -> bytes:
        return self.header.delimiter.encode()

    def take(self, reader: RecordReader, before: int | None = None) -> tuple[range, bytes]:
        """Split one line first, then each time more than before, until a line is not clean."""
        first, taken = reader.line, []
        size = 1
        while size <= MOST_SPLIT_BYTES:
            data, start, end = reader.lines(size, before)
            lines = data[start:end]
            rows = self._rows(lines)
            taken.append(rows)
            *_, rest = lines.split(b"\n", rows.count(b"\n"))
            reader.take_lines(end - len(rest))
            if rest or not lines:
                break
            size = 4 * len(lines)
        return range(first, reader.line), b"".join(taken)

    def _rows(self, lines: bytes) -> bytes:
        """Return the first of these lines as rows of a `Block`, as far as they are clean."""
        lines = _with_line_feeds(lines)
        rows = b""
        if self.header.labels_fields_only and not any(mark in lines for mark in (b'"', b"\r", b",")):
            rows = lines.replace(self._mark, b",")
            rows = rows[: end_of_short_lines(rows, 0, self.in_place.end(rows), self.in_place.short_line)]
        if not rows:
            rows = self._joined(lines)
            rows = rows[: self.in_place.end(rows)]
        return rows

    def _joined(self, lines: bytes) -> bytes:
        """Return the first of these lines that have the right number of cells, none of them long, as rows."""
        columns = self._quoted_columns(lines) if b'"' in lines else self._columns(lines)
        trimmed = [[cell.strip(_PADDING) for cell in column] for column in columns]
        good = self.in_place.rows_without_long_cells(trimmed)
        rows = islice(zip(*trimmed, strict=True), good)
        return b"".join([b",".join(row) + b"\n" for row in rows])

    def _columns(self, lines: bytes) -> Sequence[Sequence[bytes]]:
        """Return the columns of the fields in lines without a quote."""
        if b"\r" in lines:
            return ()  # a lone carriage return ends a line too
        mark, width = self._mark, len(self.header.labels)
        # Each line end becomes a cell, so that each line has width + 1 cells and a column is a slice.
        *cells, _ = lines.replace(b"\n", b"%b\n%b" % (mark, mark)).split(mark)
        ends = cells[width :: width + 1]
        if ends != [b"\n"] * lines.count(b"\n"):
            good = next((number for number, end in enumerate(ends) if end != b"\n"), len(ends))
            del cells[good * (width + 1) :]
        return [
            [b""] * len(cells[width :: width + 1]) if position is None else cells[position :: width + 1]
            for position in self.header.positions
        ]

    def _quoted_columns(self, lines: bytes) -> Sequence[Sequence[bytes]]:
        """Return the columns of the fields in lines in which a cell may be in quotes."""
        found = self._any_number.match(lines)
        rows = self._record.findall(found[0] if found else b"")
        # `findall` returns the groups of each match, but the text itself if there is only one group.
        columns = list(zip(*rows, strict=True)) if len(self.header.columns) > 1 else [tuple(rows)]
        if not rows:
            return ()
        by_position = dict(zip(self.header.columns, columns, strict=True))
        missing = (b"",) * len(rows)
        return [missing if position is None else by_position[position] for position in self.header.positions]

    @cached_property
    def _any_number(self) -> re.Pattern[bytes]:
        # Greedy and not possessive: before Python 3.11.5 a possessive group matched what its inside does not.
        return re.compile(b"(?:%b)*" % self._record_of(b"(?:%b)"))

    @cached_property
    def _record(self) -> re.Pattern[bytes]:
        return re.compile(self._record_of(b"(%b)"))

    def _record_of(self, group: bytes) -> bytes:
        """Return the pattern of a record in which a quoted cell contains no quote.

        Args:
            group: The format of the group around each cell of a field.
        """
        mark = re.escape(self._mark)
        cell = rb'"[^"\r\n]*+"|[^"\r\n%b]*+' % mark
        return (
            mark.join(
                (group if position in self.header.columns else b"(?:%b)") % cell
                for position in range(len(self.header.labels))
            )
            + b"\n"
        )
