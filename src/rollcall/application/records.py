"""From text to CSV records with line numbers, by RFC 4180 and the contract for quotes that do not match."""

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

# A character takes 1 to 4 bytes in UTF-8, in which the limits are counted whatever the upload's encoding is.
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
        line: The physical line, 1-based, on which it starts.
        last_line: The physical line on which it ends.
        text: Its raw text without the line end; only the beginning of it when it is too long to be held.
        cells: What its cells hold after unquoting; meaningless under a fault.
        fault: `MALFORMED_QUOTING` or `RECORD_TOO_LONG`; None where it could be split.
        ended: Whether a line end follows; without one, it may have been cut off.
    """

    line: int
    last_line: int
    text: str
    cells: list[str]
    fault: Code | None = None
    ended: bool = True


def _shorter_than(text: str, limit: int) -> bool:
    """Compare the length in UTF-8, counting only where the number of characters leaves a doubt."""
    return len(text) * _MOST_BYTES < limit or len(text.encode(errors="surrogatepass")) < limit


class RecordReader:
    """Splits text into records, holding little more than one record of it.

    Args:
        texts: The upload in pieces.
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
        """The line that comes next, 1-based."""
        return self._line

    @property
    def last_line_ended(self) -> bool:
        """Whether the text that was read so far ends with a line end."""
        return self._last_character in {"\r", "\n"}

    def peek(self, delimiter: str) -> Record | None:
        """Split off the next record without taking it; None at the end of the file.

        A record that is too long to be held is taken all the same.
        """
        scanned = self._scan(delimiter)
        return scanned and scanned[0]

    def take(self, delimiter: str) -> Record | None:
        """Split off the next record and go on after it; None at the end of the file."""
        scanned = self._scan(delimiter)
        if not scanned:
            return None
        record, self._at = scanned
        self._line = record.last_line + 1
        return record

    def take_run(self, records: re.Pattern[str], before: int | None = None) -> tuple[int, str]:
        """Take all records from here on that a pattern knows, as far as the text at hand goes.

        Args:
            records: Matches any number of records, each of one line that ends in a line feed.
            before: The line at which to stop; None for none.

        Returns:
            The line on which the first of them starts, and their text; empty where there is none.
        """
        self._have_text()
        stop = len(self._text) if before is None else self._start_of_line(before, len(self._text))
        found = records.match(self._text, self._at, stop)
        run = found[0] if found else ""
        return self.take_lines(run), run

    def plain_lines(self, characters: int, before: int | None = None) -> str:
        """Look at the whole lines from here on that end in a line feed and come before the next quote.

        Args:
            characters: Within how many characters they start; at least 1.
            before: The line at which to stop; None for none.

        Returns:
            Their text, as far as the text at hand goes, with whatever carriage returns are in it. No record in it
            is too long.
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
        """Take text that was looked at: whole lines from here on, each of which ends in a line feed.

        Returns:
            The line on which it starts.
        """
        line = self._line
        self._at += len(lines)
        self._line += lines.count("\n")
        return line

    def _start_of_line(self, line: int, stop: int) -> int:
        """Find where a later line starts, if that is before a stop and line feeds alone end a line."""
        start = self._at
        for _ in range(line - self._line):
            start = self._text.find("\n", start, stop) + 1
            if not start:
                return stop
        return start

    def take_empty_lines(self) -> int:
        """Take the lines from here on in which nothing stands.

        Returns:
            How many they were.
        """
        first = self._line
        while found := _line_ends.match(self._text, self._at):
            run = found[0]
            more_may_follow = found.end() == len(self._text) and not self._ended
            if more_may_follow and run.endswith("\r"):
                run = run[:-1]  # it may be one half of a line end
            self._at += len(run)
            self._line += line_ends(run)
            if not more_may_follow:
                break
            self._at = self._more(self._at)
        return self._line - first

    def take_some(self, delimiter: str, characters: int) -> list[Record]:
        """Take the records that start within some characters, or fewer; empty only at the end of the file.

        Args:
            delimiter: What separates cells.
            characters: At least 1.
        """
        if plain := self._take_plain(delimiter, characters):
            return plain
        record = self.take(delimiter)
        return [record] if record else []

    def _have_text(self) -> None:
        """Have some text at hand that is not taken, unless the file ends here."""
        if self._at >= len(self._text) and not self._ended:
            self._at = self._more(self._at)

    def _more(self, at: int) -> int:
        """Append another piece of text, letting go of what is taken and of a record too long to be held.

        Args:
            at: An index into the text.

        Returns:
            Where that index lies now.
        """
        piece = next(self._texts, None)
        if piece is None:
            self._ended = True
            return at
        self._last_character = piece[-1:] or self._last_character
        if at - self._at > MAX_RECORD_BYTES:
            if not self._let_go:
                self._beginning = self._text[self._at : self._at + BEGINNING_CHARACTERS]
            # The character before tells whether a quote opens a cell, so it stays.
            self._at = at - 1
            self._let_go = True
        self._text = self._text[self._at :] + piece
        at -= self._at
        self._at = 0
        return at

    def _run(self, pattern: re.Pattern[str], at: int) -> int:
        """Go to the end of a run of characters, however long it is."""
        while True:
            found = pattern.match(self._text, at)
            at = found.end() if found else at
            if at < len(self._text) or self._ended:
                return at
            at = self._more(at)

    def _take_plain(self, delimiter: str, characters: int) -> list[Record]:
        """Take the whole lines before the next quote, where every cell is what stands between delimiters."""
        self._have_text()
        # The last character of the text may be one half of a line end.
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
        """Find the end of the next record, cell by cell.

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
        while cells := whole_cells.match(self._text, at):  # it always does, be it no cell at all
            at = cells.end()
            line_ends_inside += line_ends(cells[0])
            malformed |= cells[1] is not None
            at = self._run(_to_quote_or_line_end, at)
            if not self._text.startswith('"', at):
                break
            if at > self._at and self._text[at - 1] != delimiter:
                # Inside an unquoted cell a quote is a character like any other.
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
        """Tell whether a quoted cell was still open at one of the limits."""
        split_escape = self._text.startswith('"', quoted.end())
        return (
            split_escape
            or not _shorter_than(quoted[1], MAX_QUOTED_BYTES)
            or line_ends(quoted[1]) >= MAX_QUOTED_LINE_ENDS
        )


def _split(text: str, delimiter: str) -> list[str]:
    """Split a record whose quotes match into what its cells hold."""
    if '"' not in text:
        return text.split(delimiter)
    return [
        unquoted if quoted is None else quoted.replace('""', '"')
        for quoted, unquoted in (cell.groups() for cell in _cells(delimiter).finditer(delimiter + text))
    ]


@lru_cache
def _whole_cells(delimiter: str, longest: int) -> re.Pattern[str]:
    """Make the pattern of many short cells at once, each with the delimiter after it.

    Its group has matched where text follows a closing quote.

    Args:
        delimiter: What separates cells.
        longest: How many characters a quoted cell may have, so that it is certainly none that runs away.
    """
    mark = re.escape(delimiter)
    quoted = rf'"(?:[^"]|""){{0,{longest}}}"(?!")([^{mark}\r\n]++)?'
    # So many and no more, for the engine remembers them all.
    return re.compile(rf'(?:(?:{quoted}|[^"{mark}\r\n][^{mark}\r\n]*+)?{mark}){{0,20}}')


@lru_cache
def _to_end_of_cell(delimiter: str) -> re.Pattern[str]:
    """Make the pattern of what is left of an unquoted cell."""
    return re.compile(rf"[^{re.escape(delimiter)}\r\n]*+")


@lru_cache
def _cells(delimiter: str) -> re.Pattern[str]:
    """Make the pattern of a delimiter and the cell after it."""
    mark = re.escape(delimiter)
    return re.compile(f"{mark}(?:{_QUOTED}(?={mark}|\\Z)|([^{mark}]*+))")
