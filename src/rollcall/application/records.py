"""From UTF-8 to CSV records with line numbers, by RFC 4180 and by the contract's rules for malformed quoting."""

import re
from collections.abc import Iterator
from functools import lru_cache

import attrs

from rollcall.application.decoding import line_ends
from rollcall.domain.rejection import Code

MAX_RECORD_BYTES = 1024 * 1024
MAX_QUOTED_BYTES = 64 * 1024
MAX_QUOTED_LINE_ENDS = 100
BEGINNING_BYTES = 64 * 1024

LINE_END = re.compile(r"\r\n|\n|\r")
_line_end = re.compile(rb"\r\n|\n|\r")
_line_ends = re.compile(rb"[\r\n]*+")
_to_line_end = re.compile(rb"[^\r\n]*+")
_to_quote_or_line_end = re.compile(rb'[^"\r\n]*+')
_QUOTED = r'"([^"]*+(?:""[^"]*+)*+)"'
_quoted = re.compile(_QUOTED.encode())


@attrs.frozen
class Record:
    """One record of the upload.

    Attributes:
        line: The physical line, 1-based, on which the record starts.
        last_line: The physical line, 1-based, on which the record ends.
        text: The raw text without the line end; of a record that is too long, only the beginning.
        cells: The cells after unquoting; meaningless if there is a fault.
        fault: `MALFORMED_QUOTING` or `RECORD_TOO_LONG`; None if the record could be split.
        ended: Whether a line end follows. Without one, the record may have been cut off.
    """

    line: int
    last_line: int
    text: str
    cells: list[str]
    fault: Code | None = None
    ended: bool = True


def as_utf8(text: str) -> bytes:
    """Encode a text for `RecordReader`. Lone surrogates, to which some encodings decode, are kept."""
    return text.encode(errors="surrogatepass")


def _as_text(data: bytes) -> str:
    return data.decode(errors="surrogatepass")


def can_be_read(cell: str) -> bool:
    """Return whether any file can contain a cell: a cell that must be quoted may be too long to be read."""
    if not cell.startswith('"') and not LINE_END.search(cell):
        return True
    quoted = as_utf8(cell.replace('"', '""'))
    return len(quoted) < MAX_QUOTED_BYTES and line_ends(quoted) < MAX_QUOTED_LINE_ENDS


def end_of_short_lines(data: bytes, start: int, end: int, longest: int) -> int:
    """Return the index after the last of the next lines that are all short.

    Args:
        data: The lines.
        start: The index at which a line starts.
        end: The index at which to stop; a line feed is before it.
        longest: The most bytes of a short line, without its line feed.
    """
    while start < end and (line_end := data.rfind(b"\n", start, start + longest + 1)) >= 0:
        start = line_end + 1
    return min(start, end)


class RecordReader:
    """Splits an upload into records, with little more than one record and one piece in memory.

    Args:
        pieces: The upload in valid UTF-8, without a byte order mark; lone surrogates are allowed. A piece may end
            anywhere, also inside a character.

    Attributes:
        bytes_read: The number of bytes in the pieces that were read so far.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._data = b""
        self._at = 0
        self._end_of_short_lines = 0
        self._line = 1
        self._ended = False
        self._let_go = False
        self._beginning = b""
        self._last_byte = b""
        self.bytes_read = 0

    @property
    def line(self) -> int:
        """The next line, 1-based."""
        return self._line

    @property
    def last_line_ended(self) -> bool:
        """Whether the data read so far ends with a line end."""
        return self._last_byte in {b"\r", b"\n"}

    def peek(self, delimiter: str) -> Record | None:
        """Return the next record without taking it; None at the end of the file.

        The beginning of a record that is too long is taken, because it is not kept in memory.
        """
        scanned = self._scan(delimiter)
        return scanned and scanned[0]

    def take(self, delimiter: str) -> Record | None:
        """Take and return the next record; None at the end of the file."""
        scanned = self._scan(delimiter)
        if not scanned:
            return None
        record, self._at = scanned
        self._line = record.last_line + 1
        return record

    def lines(self, size: int = MAX_RECORD_BYTES, before: int | None = None) -> tuple[bytes, int, int]:
        """Find the next whole lines in memory, without taking them.

        Args:
            size: The number of bytes within which the lines start; at least 1.
            before: The line at which to stop; None for no limit.

        Returns:
            The data in memory, and the indexes at which the lines start and end. Each line ends in a line feed,
            may contain carriage returns, and is not too long for a record.
        """
        if self._at >= len(self._data) and not self._ended:
            self._at = self._more(self._at)
        stop = min(len(self._data), self._at + MAX_RECORD_BYTES)
        stop = self._data.find(b"\n", self._at + size - 1, stop) + 1 or stop
        if before is not None:
            stop = self._start_of_line(before, stop)
        return self._data, self._at, max(self._at, self._data.rfind(b"\n", self._at, stop) + 1)

    def short_lines(self, longest: int, before: int | None = None) -> tuple[bytes, int, int]:
        """Find the next whole lines in memory up to the first long one; see `lines`.

        Args:
            longest: The most bytes of a short line; the same in every call.
            before: The line at which to stop; None for no limit.
        """
        data, start, end = self.lines(before=before)
        self._end_of_short_lines = end_of_short_lines(data, max(start, self._end_of_short_lines), end, longest)
        return data, start, min(end, self._end_of_short_lines)

    def take_lines(self, end: int) -> range:
        """Take the next lines.

        Args:
            end: The index after their last line feed. Each line ends in a line feed and has no other line end.

        Returns:
            The lines.
        """
        first = self._line
        self._line += self._data.count(b"\n", self._at, end)
        self._at = end
        return range(first, self._line)

    def skip_lines(self, lines: re.Pattern[bytes]) -> None:
        """Take the next lines in memory that match a pattern; a match ends in a line feed."""
        data, start, end = self.lines()
        if found := lines.match(data, start, end):
            self.take_lines(found.end())

    def _start_of_line(self, line: int, stop: int) -> int:
        """Return the index at which a later line starts, at most `stop`; only line feeds count as line ends."""
        start = self._at
        for _ in range(line - self._line):
            start = self._data.find(b"\n", start, stop) + 1
            if not start:
                return stop
        return start

    def take_empty_lines(self) -> int:
        """Take the next lines as long as they are empty.

        Returns:
            The number of lines.
        """
        first = self._line
        while found := _line_ends.match(self._data, self._at):
            run = found[0]
            more_may_follow = found.end() == len(self._data) and not self._ended
            if more_may_follow and run.endswith(b"\r"):
                run = run[:-1]  # it may be the first half of CRLF
            self._at += len(run)
            self._line += line_ends(run)
            if not more_may_follow:
                break
            self._at = self._more(self._at)
        return self._line - first

    def take_some(self, delimiter: str, size: int) -> list[Record]:
        """Take records that start within a number of bytes, at least one record; none at the end of the file.

        Args:
            delimiter: The character that separates cells.
            size: The number of bytes; at least 1.
        """
        if plain := self._take_plain(delimiter, size):
            return plain
        record = self.take(delimiter)
        return [record] if record else []

    def _more(self, at: int) -> int:
        """Append another piece; remove the data that is taken or belongs to a record that is too long.

        Args:
            at: An index into the data.

        Returns:
            The index of the same byte now.
        """
        piece = next(self._pieces, None)
        if piece is None:
            self._ended = True
            return at
        self._last_byte = piece[-1:] or self._last_byte
        self.bytes_read += len(piece)
        if at - self._at > MAX_RECORD_BYTES:
            if not self._let_go:
                self._beginning = self._data[self._at : self._at + BEGINNING_BYTES + 1]
            # The byte before is kept: it decides whether a quote opens a cell.
            self._at = at - 1
            self._let_go = True
        self._data = self._data[self._at :] + piece
        at -= self._at
        self._at = self._end_of_short_lines = 0
        return at

    def _run(self, pattern: re.Pattern[bytes], at: int) -> int:
        """Return the index after a run of bytes that match a pattern; the run may have any length."""
        while True:
            found = pattern.match(self._data, at)
            at = found.end() if found else at
            if at < len(self._data) or self._ended:
                return at
            at = self._more(at)

    def _take_plain(self, delimiter: str, size: int) -> list[Record]:
        """Take whole lines before the next quote; there, each cell is the text between two delimiters."""
        if self._at >= len(self._data) and not self._ended:
            self._at = self._more(self._at)
        # The last byte in memory may be the first half of CRLF.
        end_of_data = len(self._data) if self._ended else len(self._data) - 1
        last = min(self._at + size, end_of_data) - 1
        stop = self._data.find(b"\n", last, end_of_data) + 1 or end_of_data
        stop = self._data.find(b"\r", last, stop) + 1 or stop
        quote = self._data.find(b'"', self._at, stop)
        if quote >= 0:
            stop = quote
        end = 1 + max(self._data.rfind(b"\n", self._at, stop), self._data.rfind(b"\r", self._at, stop))
        if end <= self._at or end - self._at > MAX_RECORD_BYTES:
            return []
        if self._data[end - 1 : end + 1] == b"\r\n":
            end += 1
        stretch = _as_text(self._data[self._at : end])
        if "\r" not in stretch:
            lines = stretch.split("\n")
        elif stretch.count("\r\n") == stretch.count("\r") == stretch.count("\n"):
            lines = stretch.split("\r\n")
        else:
            lines = LINE_END.split(stretch)
        lines.pop()
        self._at = end
        first = self._line
        self._line += len(lines)
        return [Record(line, line, text, text.split(delimiter)) for line, text in enumerate(lines, first)]

    def _scan(self, delimiter: str) -> tuple[Record, int] | None:
        """Read the next record, cell by cell.

        Returns:
            The record, and the index after its line end; None at the end of the file.
        """
        self._let_go = False
        self._beginning = b""
        malformed = False
        line_ends_inside = 0
        at = self._at
        mark = delimiter.encode()
        whole_cells = _whole_cells(mark, min(MAX_QUOTED_LINE_ENDS - 1, (MAX_QUOTED_BYTES - 1) // 2))
        to_end_of_cell = _to_end_of_cell(mark)
        while cells := whole_cells.match(self._data, at):  # it always matches, also no cell
            at = cells.end()
            line_ends_inside += line_ends(cells[0])
            malformed |= cells[1] is not None
            at = self._run(_to_quote_or_line_end, at)
            if not self._data.startswith(b'"', at):
                break
            if at > self._at and self._data[at - 1 : at] != mark:
                # Inside an unquoted cell a quote is literal.
                at = self._run(to_end_of_cell, at)
                continue
            while len(self._data) - at < MAX_QUOTED_BYTES + 2 and not self._ended:
                at = self._more(at)
            quoted = _quoted.match(self._data, at, at + MAX_QUOTED_BYTES + 1)
            # The cell also runs away if the limit cuts an escaped quote in half.
            if (
                not quoted
                or self._data.startswith(b'"', quoted.end())
                or line_ends(quoted[1]) >= MAX_QUOTED_LINE_ENDS
            ):
                malformed = True
                at = self._run(_to_line_end, at)
                break
            at = quoted.end()
            line_ends_inside += line_ends(quoted[1])
            malformed |= self._data[at : at + 1] not in {mark, b"\r", b"\n", b""}
        if at == len(self._data) == self._at:
            return None
        if self._data.startswith(b"\r", at) and at + 1 == len(self._data):
            at = self._more(at)
        line_end = _line_end.match(self._data, at)
        line, last_line = self._line, self._line + line_ends_inside
        data, ended = self._data[self._at : at], line_end is not None
        if self._let_go or len(data) > MAX_RECORD_BYTES:
            text = _as_text(_beginning(self._beginning or data))
            record = Record(line, last_line, text, [], Code.RECORD_TOO_LONG, ended)
        elif malformed:
            record = Record(line, last_line, _as_text(data), [], Code.MALFORMED_QUOTING, ended)
        else:
            text = _as_text(data)
            record = Record(line, last_line, text, _split(text, delimiter), None, ended)
        return record, line_end.end() if line_end else at


def _beginning(data: bytes) -> bytes:
    """Return the first `BEGINNING_BYTES` of a record, without a part of a character at the end."""
    end = BEGINNING_BYTES
    while b"\x80" <= data[end : end + 1] < b"\xc0":  # a byte that continues a character
        end -= 1
    return data[:end]


def _split(text: str, delimiter: str) -> list[str]:
    """Return the cells of a record whose quotes match, unquoted."""
    if '"' not in text:
        return text.split(delimiter)
    return [
        unquoted if quoted is None else quoted.replace('""', '"')
        for quoted, unquoted in (cell.groups() for cell in _cells(delimiter).finditer(delimiter + text))
    ]


@lru_cache
def _whole_cells(delimiter: bytes, longest: int) -> re.Pattern[bytes]:
    """Return a pattern of up to 20 short cells, each with the delimiter after it.

    Its group matches if text follows a closing quote.

    Args:
        delimiter: The character that separates cells.
        longest: The most characters of a quoted cell that is certainly within the limits.
    """
    mark = re.escape(delimiter)
    quoted = rb'"(?:[^"]|""){0,%d}"(?!")([^%b\r\n]++)?' % (longest, mark)
    # A limited number, because the engine keeps a state for each.
    return re.compile(rb'(?:(?:%b|[^"%b\r\n][^%b\r\n]*+)?%b){0,20}' % (quoted, mark, mark, mark))


@lru_cache
def _to_end_of_cell(delimiter: bytes) -> re.Pattern[bytes]:
    """Return a pattern of the rest of an unquoted cell."""
    return re.compile(rb"[^%b\r\n]*+" % re.escape(delimiter))


@lru_cache
def _cells(delimiter: str) -> re.Pattern[str]:
    """Return a pattern of a delimiter and the cell after it."""
    mark = re.escape(delimiter)
    return re.compile(f"{mark}(?:{_QUOTED}(?={mark}|\\Z)|([^{mark}]*+))")
