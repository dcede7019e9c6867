"""From text to CSV records with line numbers, by RFC 4180 and by the contract's rules for malformed quoting."""

import re
from collections.abc import Iterator
from functools import lru_cache

import attrs

from rollcall.application.decoding import line_ends
from rollcall.domain.rejection import Code

MAX_RECORD_BYTES = 1024 * 1024
MAX_QUOTED_BYTES = 64 * 1024
MAX_QUOTED_LINE_ENDS = 100
BEGINNING_CHARACTERS = 64 * 1024

# The limits count UTF-8 bytes, for an upload in any encoding. A character takes 1 to 4 bytes.
_MOST_BYTES = 4

LINE_END = re.compile(r"\r\n|\n|\r")
_line_ends = re.compile(r"[\r\n]*+")
_to_line_end = re.compile(r"[^\r\n]*+")
_to_quote_or_line_end = re.compile(r'[^"\r\n]*+')
_QUOTED = r'"([^"]*+(?:""[^"]*+)*+)"'
_quoted = re.compile(_QUOTED)


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


def _shorter_than(text: str, limit: int) -> bool:
    """Return whether a text has fewer UTF-8 bytes than a limit; encode it only if its length does not decide."""
    return len(text) * _MOST_BYTES < limit or len(text.encode(errors="surrogatepass")) < limit


def can_be_read(cell: str) -> bool:
    """Return whether any file can contain a cell: a cell that must be quoted may be too long to be read."""
    if not cell.startswith('"') and not LINE_END.search(cell):
        return True
    quoted = cell.replace('"', '""')
    return _shorter_than(quoted, MAX_QUOTED_BYTES) and line_ends(quoted) < MAX_QUOTED_LINE_ENDS


class RecordReader:
    """Splits text into records, with little more than one record and one piece of text in memory.

    Args:
        texts: The text of the upload in pieces.
    """

    def __init__(self, texts: Iterator[str]) -> None:
        self._texts = texts
        self._text = ""
        self._at = 0
        self._line = 1
        self._ended = False
        self._let_go = False
        self._beginning = ""
        self._last_character = ""

    @property
    def line(self) -> int:
        """The next line, 1-based."""
        return self._line

    @property
    def last_line_ended(self) -> bool:
        """Whether the text read so far ends with a line end."""
        return self._last_character in {"\r", "\n"}

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

    def take_run(self, records: re.Pattern[str], before: int | None = None) -> tuple[int, str]:
        """Take the next records that match a pattern, as far as the text in memory goes.

        Args:
            records: Matches any number of records, each of one line that ends in a line feed.
            before: The line at which to stop; None for no limit.

        Returns:
            The line on which the first record starts, and the text of the records; empty if none matches.
        """
        self._have_text()
        stop = len(self._text) if before is None else self._start_of_line(before, len(self._text))
        found = records.match(self._text, self._at, stop)
        run = found[0] if found else ""
        return self.take_lines(run), run

    def plain_lines(self, characters: int, before: int | None = None) -> str:
        """Return the next whole lines, without taking them, up to the next quote.

        Args:
            characters: The number of characters within which the lines start; at least 1.
            before: The line at which to stop; None for no limit.

        Returns:
            The text of the lines, as far as the text in memory goes. It ends in a line feed, may contain carriage
            returns, and contains no record that is too long.
        """
        self._have_text()
        stop = min(len(self._text), self._at + MAX_RECORD_BYTES // _MOST_BYTES)
        stop = self._text.find("\n", self._at + characters - 1, stop) + 1 or stop
        if before is not None:
            stop = self._start_of_line(before, stop)
        quote = self._text.find('"', self._at, stop)
        end = self._text.rfind("\n", self._at, stop if quote < 0 else quote) + 1
        return self._text[self._at : end]

    def take_lines(self, lines: str) -> int:
        """Take the next whole lines.

        Args:
            lines: Their text; each ends in a line feed.

        Returns:
            The line on which the text starts.
        """
        line = self._line
        self._at += len(lines)
        self._line += lines.count("\n")
        return line

    def _start_of_line(self, line: int, stop: int) -> int:
        """Return the index at which a later line starts, at most `stop`; only line feeds count as line ends."""
        start = self._at
        for _ in range(line - self._line):
            start = self._text.find("\n", start, stop) + 1
            if not start:
                return stop
        return start

    def take_empty_lines(self) -> int:
        """Take the next lines as long as they are empty.

        Returns:
            The number of lines.
        """
        first = self._line
        while found := _line_ends.match(self._text, self._at):
            run = found[0]
            more_may_follow = found.end() == len(self._text) and not self._ended
            if more_may_follow and run.endswith("\r"):
                run = run[:-1]  # it may be the first half of CRLF
            self._at += len(run)
            self._line += line_ends(run)
            if not more_may_follow:
                break
            self._at = self._more(self._at)
        return self._line - first

    def take_some(self, delimiter: str, characters: int) -> list[Record]:
        """Take records that start within a number of characters, at least one record; none at the end of the file.

        Args:
            delimiter: The character that separates cells.
            characters: The number of characters; at least 1.
        """
        if plain := self._take_plain(delimiter, characters):
            return plain
        record = self.take(delimiter)
        return [record] if record else []

    def _have_text(self) -> None:
        """Read another piece of text if all text in memory is taken."""
        if self._at >= len(self._text) and not self._ended:
            self._at = self._more(self._at)

    def _more(self, at: int) -> int:
        """Append another piece of text; remove the text that is taken or belongs to a record that is too long.

        Args:
            at: An index into the text.

        Returns:
            The index of the same character now.
        """
        piece = next(self._texts, None)
        if piece is None:
            self._ended = True
            return at
        self._last_character = piece[-1:] or self._last_character
        if at - self._at > MAX_RECORD_BYTES:
            if not self._let_go:
                self._beginning = self._text[self._at : self._at + BEGINNING_CHARACTERS]
            # The character before is kept: it decides whether a quote opens a cell.
            self._at = at - 1
            self._let_go = True
        self._text = self._text[self._at :] + piece
        at -= self._at
        self._at = 0
        return at

    def _run(self, pattern: re.Pattern[str], at: int) -> int:
        """Return the index after a run of characters that match a pattern; the run may have any length."""
        while True:
            found = pattern.match(self._text, at)
            at = found.end() if found else at
            if at < len(self._text) or self._ended:
                return at
            at = self._more(at)

    def _take_plain(self, delimiter: str, characters: int) -> list[Record]:
        """Take whole lines before the next quote; there, each cell is the text between two delimiters."""
        self._have_text()
        # The last character of the text may be the first half of CRLF.
        end_of_text = len(self._text) if self._ended else len(self._text) - 1
        last = min(self._at + characters, end_of_text) - 1
        stop = self._text.find("\n", last, end_of_text) + 1 or end_of_text
        stop = self._text.find("\r", last, stop) + 1 or stop
        quote = self._text.find('"', self._at, stop)
        if quote >= 0:
            stop = quote
        end = 1 + max(self._text.rfind("\n", self._at, stop), self._text.rfind("\r", self._at, stop))
        if end <= self._at:
            return []
        if self._text[end - 1 : end + 1] == "\r\n":
            end += 1
        stretch = self._text[self._at : end]
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
        return [
            Record(line, line, text[:BEGINNING_CHARACTERS], [], Code.RECORD_TOO_LONG)
            if not _shorter_than(text, MAX_RECORD_BYTES + 1)
            else Record(line, line, text, text.split(delimiter))
            for line, text in enumerate(lines, first)
        ]

    def _scan(self, delimiter: str) -> tuple[Record, int] | None:
        """Read the next record, cell by cell.

        Returns:
            The record, and the index after its line end; None at the end of the file.
        """
        self._let_go = False
        self._beginning = ""
        malformed = False
        line_ends_inside = 0
        at = self._at
        within_limits = min(MAX_QUOTED_LINE_ENDS - 1, (MAX_QUOTED_BYTES - 1) // _MOST_BYTES)
        whole_cells = _whole_cells(delimiter, within_limits)
        to_end_of_cell = _to_end_of_cell(delimiter)
        while cells := whole_cells.match(self._text, at):  # it always matches, also no cell
            at = cells.end()
            line_ends_inside += line_ends(cells[0])
            malformed |= cells[1] is not None
            at = self._run(_to_quote_or_line_end, at)
            if not self._text.startswith('"', at):
                break
            if at > self._at and self._text[at - 1] != delimiter:
                # Inside an unquoted cell a quote is literal.
                at = self._run(to_end_of_cell, at)
                continue
            while len(self._text) - at < MAX_QUOTED_BYTES + 2 and not self._ended:
                at = self._more(at)
            quoted = _quoted.match(self._text, at, at + MAX_QUOTED_BYTES + 1)
            if not quoted or self._runs_away(quoted):
                malformed = True
                at = self._run(_to_line_end, at)
                break
            at = quoted.end()
            line_ends_inside += line_ends(quoted[1])
            malformed |= at < len(self._text) and self._text[at] not in {delimiter, "\r", "\n"}
        if at == len(self._text) == self._at:
            return None
        text = self._text[self._at : at]
        line, last_line = self._line, self._line + line_ends_inside
        if self._let_go or not _shorter_than(text, MAX_RECORD_BYTES + 1):
            beginning = self._beginning or text[:BEGINNING_CHARACTERS]
            record = Record(line, last_line, beginning, [], Code.RECORD_TOO_LONG)
        elif malformed:
            record = Record(line, last_line, text, [], Code.MALFORMED_QUOTING)
        else:
            record = Record(line, last_line, text, _split(text, delimiter))
        if self._text.startswith("\r", at) and at + 1 == len(self._text):
            at = self._more(at)
        line_end = LINE_END.match(self._text, at)
        return (record, line_end.end()) if line_end else (attrs.evolve(record, ended=False), at)

    def _runs_away(self, quoted: re.Match[str]) -> bool:
        """Return whether a quoted cell was still open at one of the limits."""
        split_escape = self._text.startswith('"', quoted.end())
        return (
            split_escape
            or not _shorter_than(quoted[1], MAX_QUOTED_BYTES)
            or line_ends(quoted[1]) >= MAX_QUOTED_LINE_ENDS
        )


def _split(text: str, delimiter: str) -> list[str]:
    """Return the cells of a record whose quotes match, unquoted."""
    if '"' not in text:
        return text.split(delimiter)
    return [
        unquoted if quoted is None else quoted.replace('""', '"')
        for quoted, unquoted in (cell.groups() for cell in _cells(delimiter).finditer(delimiter + text))
    ]


@lru_cache
def _whole_cells(delimiter: str, longest: int) -> re.Pattern[str]:
    """Return a pattern of up to 20 short cells, each with the delimiter after it.

    Its group matches if text follows a closing quote.

    Args:
        delimiter: The character that separates cells.
        longest: The most characters of a quoted cell that is certainly within the limits.
    """
    mark = re.escape(delimiter)
    quoted = rf'"(?:[^"]|""){{0,{longest}}}"(?!")([^{mark}\r\n]++)?'
    # A limited number, because the engine keeps a state for each.
    return re.compile(rf'(?:(?:{quoted}|[^"{mark}\r\n][^{mark}\r\n]*+)?{mark}){{0,20}}')


@lru_cache
def _to_end_of_cell(delimiter: str) -> re.Pattern[str]:
    """Return a pattern of the rest of an unquoted cell."""
    return re.compile(rf"[^{re.escape(delimiter)}\r\n]*+")


@lru_cache
def _cells(delimiter: str) -> re.Pattern[str]:
    """Return a pattern of a delimiter and the cell after it."""
    mark = re.escape(delimiter)
    return re.compile(f"{mark}(?:{_QUOTED}(?={mark}|\\Z)|([^{mark}]*+))")
