"""The header of a CSV: its delimiter and the labels of its columns."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache

import attrs

from rollcall.application.records import Record, RecordReader
from rollcall.application.spreadsheets import restored_text
from rollcall.domain.fields import WHITE_SPACE, is_blank
from rollcall.domain.record import RecordType, normal_label
from rollcall.domain.rejection import Code, Fault, preview

DELIMITERS = (",", ";", "\t")

# The columns that Rollcall adds to a rejected-rows file, and reads in a file of corrected rows.
# Spreadsheets leave out empty cells at the end of a row, so the last of these columns is never empty.
LINE, REASON, RECORD, IMPORT = "rollcall_line", "rollcall_reason", "rollcall_record", "rollcall_import"
OWN_LABELS = (LINE, REASON, RECORD, IMPORT)

MAX_COLUMNS = 10_000

_LABELS_SHOWN = 10

# ASCII without quotes; LibreOffice writes the line in quotes.
_separator_line = re.compile(r'("?)sep=(?P<delimiter>[!#-/:-@\[-`{-~ \t])\1', re.IGNORECASE)


@attrs.frozen(kw_only=True)
class Header:
    """The header of an upload.

    Attributes:
        record_type: What the rows are read as.
        delimiter: The character that separates cells.
        labels: The labels as the uploader wrote them.
        positions: For each column of the record, the index of its cell in a row; None if the file has no such
            column.
        separator_line: Whether a line `sep=X` gave the delimiter.
        own_positions: For each of `OWN_LABELS` in the header, the index of its cell in a row.
    """

    record_type: RecordType
    delimiter: str
    labels: tuple[str, ...]
    positions: tuple[int | None, ...]
    separator_line: bool = False
    own_positions: Mapping[str, int] = attrs.Factory(dict)

    @property
    def corrects(self) -> bool:
        """Whether the rows are corrected rows."""
        return LINE in self.own_positions

    @property
    def labels_fields_only(self) -> bool:
        """Whether the columns are those of the record, in that order."""
        return self.positions == tuple(range(len(self.labels)))

    @cached_property
    def columns(self) -> Mapping[int, str]:
        """The column of the record at each index of a row that has one, in the order of the file."""
        at = zip(self.positions, self.record_type.columns, strict=True)
        return dict(sorted((position, column) for position, column in at if position is not None))

    def cells_of(self, cells: Sequence[str]) -> list[str]:
        """Return the cell of each column of the record, empty if the file has no such column.

        Args:
            cells: The cells of a row, one for each label.
        """
        return ["" if position is None else cells[position] for position in self.positions]

    @cached_property
    def least_cells(self) -> int:
        """The smallest number of cells in a row. The cells after these may be missing: none of them is needed."""
        required = set(self.record_type.required)
        needed = [position for position, column in self.columns.items() if column in required]
        needed += [self.own_positions[label] for label in (LINE, IMPORT) if self.corrects]
        return max(needed) + 1

    @property
    def uploaders_positions(self) -> tuple[int, ...]:
        """The indexes of the uploader's own columns."""
        own = set(self.own_positions.values())
        return tuple(position for position in range(len(self.labels)) if position not in own)

    @property
    def ignored(self) -> tuple[str, ...]:
        """The labels of the uploader's columns that are no field of the record."""
        return tuple(
            self.labels[position] for position in self.uploaders_positions if position not in self.columns
        )


def read_header(reader: RecordReader, record_type: RecordType) -> Header | Fault:
    """Take the header, and any blank lines before it.

    Args:
        reader: The upload from its beginning; afterwards it is at the first row.
        record_type: What the rows are read as.

    Returns:
        The header, or why the upload is refused.
    """
    candidates: Sequence[str] = DELIMITERS
    first = _first_record(reader, candidates)
    separator = _separator_line.fullmatch(first.text) if first else None
    if separator:
        reader.take(DELIMITERS[0])
        candidates = separator["delimiter"]
        first = _first_record(reader, candidates)
    if not first:
        what = "no header" if separator else "nothing"
        return Fault(Code.EMPTY_FILE, f"the file holds {what}; the first line must name the columns")
    if first.fault is Code.RECORD_TOO_LONG:
        return _not_split(first.fault, candidates[0], record_type)
    faults = []
    for delimiter in candidates:
        record = reader.peek(delimiter) or first  # a record was found under another delimiter
        found = _understand(record, delimiter, record_type, separator_line=separator is not None)
        if isinstance(found, Header):
            reader.take(delimiter)
            return found
        if record.fault is Code.RECORD_TOO_LONG:
            return found  # most of the record is no longer in memory
        # Quotes that do not match under this delimiter may match under the right one: "name";"country";"age".
        faults.append((record.text.count(delimiter), found))
    # The delimiter that splits the line into most cells is most likely the right one.
    return max(faults, key=lambda fault: (fault[1].code is Code.DUPLICATE_LABEL, fault[0]))[1]


def _first_record(reader: RecordReader, delimiters: Sequence[str]) -> Record | None:
    """Skip rows that are blank under some delimiter, and return the first other record; None at the file's end."""
    marks = str.maketrans("", "", "".join(delimiters) + '"')
    while True:
        reader.take_empty_lines()
        reader.skip_lines(_blank_rows("".join(delimiters)))
        first = reader.peek(delimiters[0])
        if not first or first.fault is Code.RECORD_TOO_LONG or not is_blank(first.text.translate(marks)):
            return first
        for delimiter in delimiters:
            record = first if delimiter == delimiters[0] else reader.peek(delimiter)
            if record and record.fault is Code.RECORD_TOO_LONG:
                return record
            if record and not record.fault and all(map(is_blank, record.cells)):
                reader.take(delimiter)
                break
        else:
            return first


@lru_cache
def _blank_rows(delimiters: str) -> re.Pattern[bytes]:
    """Make the pattern of any number of short rows, each blank under some delimiter: so many cost little."""
    white_space = "|".join(set(WHITE_SPACE) - set("\r\n"))
    blank = "|".join(f"(?:{white_space}|{re.escape(delimiter)}){{0,100}}" for delimiter in delimiters)
    return re.compile(rf"(?:(?:{blank})\r?\n)*".encode())


def _not_split(code: Code, delimiter: str, record_type: RecordType) -> Fault:
    return Fault(
        Code.FORMAT_ERROR,
        f"the first line, which must name the columns, {code.says}; "
        f"it should be: {delimiter.join(record_type.columns)}",
    )


def _understand(
    record: Record, delimiter: str, record_type: RecordType, *, separator_line: bool
) -> Header | Fault:
    if record.fault:
        return _not_split(record.fault, delimiter, record_type)
    labels = record.cells
    if len(labels) > MAX_COLUMNS:
        return Fault(
            Code.FORMAT_ERROR,
            f"the first line has {len(labels):,} columns; "
            f"give at most {MAX_COLUMNS:,}, among them {', '.join(record_type.required)}",
        )
    if LINE in map(normal_label, labels):
        labels = [restored_text(label, delimiter) for label in labels]
    normal = [record_type.by_label.get(label, label) for label in map(normal_label, labels)]
    missing = [column for column in record_type.required if column not in normal]
    if missing:
        found = ", ".join(preview(label) for label in labels[:_LABELS_SHOWN])
        more = f" and {len(labels) - _LABELS_SHOWN:,} more" if len(labels) > _LABELS_SHOWN else ""
        utf_16 = "; the file looks like UTF-16 without its mark: save it as CSV UTF-8" * _is_utf_16(record.text)
        return Fault(
            Code.MISSING_LABEL,
            f"no column is called {', '.join(missing)}; the first line has {found}{more} "
            f"and must name {', '.join(record_type.required)}{utf_16}",
        )
    for column in (*record_type.columns, *OWN_LABELS):
        if normal.count(column) > 1:
            return Fault(
                Code.DUPLICATE_LABEL,
                f"{normal.count(column)} columns are called {column}; remove or rename all but one",
                column,
            )
    if any(label in normal for label in OWN_LABELS) and not {LINE, IMPORT} <= set(normal):
        return Fault(
            Code.MISSING_LABEL,
            f"a file of corrected rows needs both {LINE} and {IMPORT}; start again from the rejected-rows file",
        )
    positions = {column: position for position, column in enumerate(normal)}
    return Header(
        record_type=record_type,
        delimiter=delimiter,
        labels=tuple(labels),
        positions=tuple(map(positions.get, record_type.columns)),
        separator_line=separator_line,
        own_positions={label: positions[label] for label in OWN_LABELS if label in positions},
    )


def _is_utf_16(text: str) -> bool:
    """Return whether a text looks like ASCII in UTF-16 that was misread: every second character is NUL."""
    return {"\0"} in (set(text[::2]), set(text[1::2])) and set(text) != {"\0"}
