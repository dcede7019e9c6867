"""From records to users: every row is judged, and no row is lost."""

import csv
import io
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from rollcall.application.header import Header
from rollcall.application.records import Record, RecordReader
from rollcall.application.screening import Screened, Screening, screen
from rollcall.domain.rejection import Code
from rollcall.domain.user import USERS, User
from support.builders import USUAL, reader_of
from support.reference_reader import is_blank, row_verdict
from support.strategies import RULES, blank_cells, invalid_cells, users, valid_cells

LABELS = ("age", "note", *(column for column in USERS.columns if column != "age"))
HEADER = Header(record_type=USERS, delimiter=",", labels=LABELS, positions=tuple(map(LABELS.index, USERS.columns)))

any_cells = st.one_of(
    *(valid_cells(rule) for rule in RULES.values()),
    *(invalid_cells(rule).map(lambda bad: bad[0]) for rule in RULES.values()),
    blank_cells(),
    st.text('a,"\n\r\0é', max_size=4),
)
good_rows = st.tuples(
    *(valid_cells(RULES[label]) if label in RULES else st.text("x,", max_size=2) for label in LABELS)
)
row_cells = st.lists(any_cells, min_size=1, max_size=len(LABELS) + 2) | good_rows | good_rows
faults = st.sampled_from((None, None, None, Code.MALFORMED_QUOTING, Code.RECORD_TOO_LONG))
batches = st.lists(st.tuples(row_cells, faults, st.integers(0, 2)), max_size=8).map(
    lambda drawn: [
        Record(10 * at + 2, 10 * at + 2 + more, "raw", [] if fault else list(cells), fault)
        for at, (cells, fault, more) in enumerate(drawn)
    ]
)


def _screened(records: Sequence[Record], header: Header = HEADER) -> Screened:
    """Judge records one by one."""
    screening = Screening(header)
    for record in records:
        screening.judge(record)
    return screening.flush()


def _users_of(result: Screened) -> list[User]:
    """Parse a block as the table will read it."""
    text = io.StringIO(result.accepted.csv.decode(), newline="")
    parsed = [USERS.parse(cells) for cells in csv.reader(text, strict=True)]
    return [user for user in parsed if isinstance(user, User)]


def _expected(record: Record) -> tuple[str | int | Code, ...] | None:
    """Return the values and codes of a record, the code of its fault, or None for a blank row."""
    if record.fault:
        return (record.fault,)
    if all(map(is_blank, record.cells)):
        return None
    if len(record.cells) != len(HEADER.labels):
        return (Code.MISSING_CELL if len(record.cells) < len(HEADER.labels) else Code.EXTRA_CELL,)
    return row_verdict(HEADER.cells_of(record.cells))


@given(records=batches)
def test_every_record_is_accepted_rejected_or_blank(records: list[Record]) -> None:
    """As the contract says, in the order of the file, with its line."""
    result = _screened(records)
    verdicts = {record.line: _expected(record) for record in records}
    judged = {line: verdict for line, verdict in verdicts.items() if verdict}
    codes = {line: tuple(one for one in found if isinstance(one, Code)) for line, found in judged.items()}
    good = {line: found for line, found in judged.items() if not codes[line]}
    bad = {line: found for line, found in codes.items() if found}

    assert result.blank == list(verdicts.values()).count(None)
    assert result.read == len(good) + len(bad)
    assert list(result.accepted.lines) == list(good)
    assert [tuple(USERS.values(user)) for user in _users_of(result)] == list(good.values())
    assert {
        row.rejection.line: tuple(fault.code for fault in row.rejection.faults) for row in result.rejected
    } == bad
    assert [row.rejection.line for row in result.rejected] == list(bad)
    assert all(row.rejection.last_line == row.record.last_line for row in result.rejected)


@given(batch=st.lists(users(), max_size=8))
def test_a_block_holds_the_users_as_csv(batch: list[User]) -> None:
    """RFC 4180 in UTF-8, in the order of the columns, with a line feed after each row."""
    records = [
        Record(line, line, "", [str(getattr(user, label, "")) for label in LABELS])
        for line, user in enumerate(batch, 2)
    ]
    result = _screened(records)

    assert _users_of(result) == batch
    assert list(result.accepted.lines) == [record.line for record in records]
    assert result.accepted.csv.count(b"\n") == len(batch)
    assert b"\r" not in result.accepted.csv
    assert result.rejected == []


def _messages(cells: Sequence[str], fault: Code | None = None) -> list[str]:
    result = _screened([Record(2, 2, "raw", list(cells), fault)])
    return [fault.message for row in result.rejected for fault in row.rejection.faults]


def test_a_row_with_missing_or_extra_cells_says_how_many() -> None:
    """And how to correct it; no cell is judged, because cells may be in the wrong column."""
    width = len(LABELS)
    assert _messages(["30"]) == [f"the row has 1 cell where the header has {width}; add what is missing"]
    assert _messages(["30", "", ""]) == [f"the row has 3 cells where the header has {width}; add what is missing"]
    assert _messages(["x"] * 1005) == [
        f"the row has 1,005 cells where the header has {width}; put a cell that holds the delimiter in quotes"
    ]


def test_a_row_that_could_not_be_split_says_why() -> None:
    """With an example of correct quoting."""
    (message,) = _messages([], Code.MALFORMED_QUOTING)

    assert message == (
        "the quotes of this row do not match; "
        'put a cell that holds a quote in quotes and double the quote: "Ann ""Nan"" Lee"'
    )
    assert _messages([], Code.RECORD_TOO_LONG) == [
        "the row is longer than 1 MiB; look for a line end that is missing"
    ]


def test_ignored_cells_are_not_judged() -> None:
    assert _messages(["30", "\0" * 500, *list(USUAL.values())[: len(LABELS) - 2]]) == []


def test_a_row_of_any_number_of_blank_cells_is_skipped() -> None:
    """Like a blank line; a row with a visible character, even in an ignored column, is judged."""
    blank = [[""] * len(LABELS), [""], [" ", "\u200b"], [""] * 9]
    result = _screened([Record(line, line, "", cells) for line, cells in enumerate(blank, 2)])

    assert (result.blank, result.read, result.accepted.csv) == (4, 0, b"")
    assert len(_messages(["", "note", *[""] * (len(LABELS) - 2)])) == len(USERS.columns)


@given(records=batches, size=st.integers(1, 5))
def test_batches_of_any_size_give_the_same_result(records: list[Record], size: int) -> None:
    """Each record is judged by itself."""
    whole = _screened(records)
    parts = [_screened(records[at : at + size]) for at in range(0, len(records), size)]

    assert b"".join(part.accepted.csv for part in parts) == whole.accepted.csv
    assert [line for part in parts for line in part.accepted.lines] == list(whole.accepted.lines)
    assert [row for part in parts for row in part.rejected] == list(whole.rejected)
    assert sum(part.blank for part in parts) == whole.blank


def test_a_batch_of_very_short_rows_holds_few_rows() -> None:
    """A rejected row with its reason takes many times the memory of a row of one letter."""
    batches = list(screen(reader_of("a\n" * 100_000), HEADER))

    assert sum(batch.read for batch in batches) == 100_000
    assert max(batch.read for batch in batches) < 16_000


@given(batch=st.lists(users(), max_size=5))
def test_accepted_rows_are_accepted_again(batch: list[User]) -> None:
    """A block that is read as an upload gives the same block."""
    header = Header(
        record_type=USERS, delimiter=",", labels=USERS.columns, positions=tuple(range(len(USERS.columns)))
    )
    records = [
        Record(line, line, "", [str(value) for value in USERS.values(user)]) for line, user in enumerate(batch, 1)
    ]
    block = _screened(records, header).accepted
    [again] = [read.accepted for read in screen(RecordReader(iter([block.csv])), header)]

    assert (again.csv, list(again.lines)) == (block.csv, list(block.lines))
