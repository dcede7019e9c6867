"""From text to records: quoting, line numbers, limits, and flat memory use."""

import csv
import io
import itertools
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.application import records
from rollcall.application.records import BEGINNING_BYTES, Record, RecordReader, as_utf8
from rollcall.domain.rejection import Code
from support.reference_reader import Expected, Limits, beginning_of, read_records

KIB = 1024
MIB = 1024 * 1024

LIMITS = Limits()
TINY = Limits(quoted_bytes=12, quoted_line_ends=3, record_bytes=40)

delimiters = st.sampled_from(",;\t")
piece_sizes = st.lists(st.integers(1, 3) | st.integers(1, 60), min_size=1, max_size=4)
# Quotes and line ends are more frequent than other characters, because the tests are about them.
nasty_texts = st.lists(
    st.sampled_from(
        ('"', '"', '""', ',"', '",', '";', ",", ";", "\t", "\r", "\n", "\n", "\r\n", "a", "b c", "é", "👍")
    ),
    max_size=60,
).map("".join)


def _cut(text: str, sizes: Iterable[int]) -> Iterator[bytes]:
    """Cut a text into pieces of these sizes in bytes, in turn."""
    data = as_utf8(text)
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(data):
            return
        yield data[at : at + size]
        at += size


def _batches(pieces: Iterable[bytes], delimiter: str, size: int = 128 * KIB) -> Iterator[list[Record]]:
    reader = RecordReader(iter(pieces))
    return iter(lambda: reader.take_some(delimiter, size), [])


def _batched(pieces: Iterable[bytes], delimiter: str, size: int = 128 * KIB) -> list[Record]:
    return [record for batch in _batches(pieces, delimiter, size) for record in batch]


def _one_by_one(pieces: Iterable[bytes], delimiter: str) -> list[Record]:
    reader = RecordReader(iter(pieces))
    return list(iter(lambda: reader.take(delimiter), None))


def _read(text: str, delimiter: str = ",") -> list[Record]:
    return _batched([as_utf8(text)], delimiter)


def _agree(found: Sequence[Record], expected: Sequence[Expected], beginning: int = BEGINNING_BYTES) -> bool:
    """Compare records with the expected ones; of a record that is too long, only the beginning is known."""
    return [
        (record.line, record.last_line, record.fault, record.text, () if record.fault else tuple(record.cells))
        for record in found
    ] == [
        (
            record.line,
            record.last_line,
            record.fault,
            beginning_of(record.text, beginning) if record.fault is Code.RECORD_TOO_LONG else record.text,
            record.cells,
        )
        for record in expected
    ]


@given(text=nasty_texts, delimiter=delimiters, sizes=piece_sizes)
def test_records_are_those_of_the_contract(text: str, delimiter: str, sizes: list[int]) -> None:
    """Cells, line numbers and faults, in any text and in pieces of any size."""
    expected = read_records(text, delimiter)

    assert _agree(_batched(_cut(text, sizes), delimiter), expected)
    assert _agree(_one_by_one(_cut(text, sizes), delimiter), expected)


@given(
    text=nasty_texts,
    delimiter=delimiters,
    sizes=piece_sizes,
    limits=st.builds(
        Limits,
        quoted_bytes=st.integers(1, 30),
        quoted_line_ends=st.integers(1, 5),
        record_bytes=st.integers(5, 80),
    )
    | st.just(TINY),
    size=st.integers(1, 200),
)
def test_records_are_those_of_the_contract_at_the_limits(
    text: str, delimiter: str, sizes: list[int], limits: Limits, size: int
) -> None:
    """The limits are so small that nearly every record reaches them."""
    expected = read_records(text, delimiter, limits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "MAX_QUOTED_BYTES", limits.quoted_bytes)
        patch.setattr(records, "MAX_QUOTED_LINE_ENDS", limits.quoted_line_ends)
        patch.setattr(records, "MAX_RECORD_BYTES", limits.record_bytes)
        patch.setattr(records, "BEGINNING_BYTES", 4)
        batched = _batched(_cut(text, sizes), delimiter, size)
        one_by_one = _one_by_one(_cut(text, sizes), delimiter)

    assert _agree(batched, expected, 4)
    assert _agree(one_by_one, expected, 4)


def test_a_record_may_hold_lone_surrogates() -> None:
    """Some encodings decode to lone surrogates; only the cell that holds one is rejected, later."""
    long = "\ud800" * (300 * KIB)
    found = _read(f'\ud800,b\n"{long[: 20 * KIB]}",c\n{long},d\n')

    assert [len(record.cells) for record in found] == [2, 2, 2]
    assert [record.fault for record in found] == [None] * 3


@pytest.mark.parametrize("length", range(36, 46))
@pytest.mark.parametrize("end", ['"', ',"', '"\n"', ',"\n"', '""', '"a"b'])
def test_a_quote_keeps_its_meaning_where_a_record_is_discarded(
    length: int, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a cell it is literal; after a delimiter it opens a quoted cell."""
    text = f"{'x' * length}{end}\na,b\nc,d\n"
    monkeypatch.setattr(records, "MAX_QUOTED_BYTES", TINY.quoted_bytes)
    monkeypatch.setattr(records, "MAX_QUOTED_LINE_ENDS", TINY.quoted_line_ends)
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", TINY.record_bytes)
    monkeypatch.setattr(records, "BEGINNING_BYTES", 4)

    assert _agree(_batched([as_utf8(text)], ","), read_records(text, ",", TINY), 4)


@given(
    rows=st.lists(st.lists(st.text('a",;\r\né👍 ', max_size=8), min_size=1, max_size=4), max_size=8),
    delimiter=delimiters,
    line_end=st.sampled_from(("\n", "\r\n", "\r")),
    sizes=piece_sizes,
)
def test_csv_written_by_python_is_read_as_python_reads_it(
    rows: list[list[str]], delimiter: str, line_end: str, sizes: list[int]
) -> None:
    """As with `csv.reader(strict=True)`, except that a blank line is a record of one empty cell."""
    text = io.StringIO(newline="")
    # The writer quotes only its own line end, unless it quotes everything.
    writer = csv.writer(
        text,
        delimiter=delimiter,
        lineterminator=line_end,
        quoting=csv.QUOTE_MINIMAL if line_end == "\r\n" else csv.QUOTE_ALL,
    )
    writer.writerows(rows)
    found = _batched(_cut(text.getvalue(), sizes), delimiter)
    expected = list(csv.reader(io.StringIO(text.getvalue(), newline=""), delimiter=delimiter, strict=True))

    assert [record.cells for record in found] == [cells or [""] for cells in expected] == rows
    assert all(record.fault is None for record in found)


@given(text=nasty_texts, delimiter=delimiters)
def test_only_text_that_python_refuses_has_a_fault(text: str, delimiter: str) -> None:
    """Within the limits, `malformed-quoting` is what `strict=True` raises for."""
    try:
        expected = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error:
        expected = None
    found = _read(text, delimiter)

    assert any(record.fault for record in found) == (expected is None)
    assert expected is None or [record.cells for record in found] == [cells or [""] for cells in expected]


@given(text=nasty_texts, delimiter=delimiters, sizes=piece_sizes)
def test_peek_returns_the_record_that_take_returns(text: str, delimiter: str, sizes: list[int]) -> None:
    """Any number of times, with other delimiters in between."""
    reader = RecordReader(_cut(text, sizes))
    while True:
        reader.peek(";")
        peeked = reader.peek(delimiter)
        reader.peek("\t")

        assert reader.take(delimiter) == peeked
        if peeked is None:
            return


@given(
    ends=st.lists(st.sampled_from(("\n", "\r", "\r\n")), max_size=12),
    rest=st.sampled_from(("", "a,b", " \n", '"\n",\r')),
    sizes=piece_sizes,
)
def test_all_empty_lines_are_taken_at_once(ends: list[str], rest: str, sizes: list[int]) -> None:
    """All of them, with any line ends; the rest of the text is unchanged."""
    text = "".join(ends) + rest
    expected = list(itertools.dropwhile(lambda record: record.text == "", read_records(text, ",")))
    reader = RecordReader(_cut(text, sizes))
    taken = reader.take_empty_lines()

    assert taken == len(read_records(text, ",")) - len(expected)
    assert _agree(list(iter(lambda: reader.take(","), None)), expected)


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("a,b,5", [["a", "b", "5"]]),
        ('"a,a","b""b",5\n', [["a,a", 'b"b', "5"]]),
        ('a "the" b,c\n', [['a "the" b', "c"]]),
        (' "a",b\n', [[' "a"', "b"]]),
        ('a",b\n', [['a"', "b"]]),
        (",,\n", [["", "", ""]]),
        ('"",""\n', [["", ""]]),
        ('"a\r\nb",c\n', [["a\r\nb", "c"]]),
        ("a\rb\r\nc\nd", [["a"], ["b"], ["c"], ["d"]]),
        ("a\r\rb", [["a"], [""], ["b"]]),
        ("\n\n", [[""], [""]]),
        ("", []),
        ('"a"', [["a"]]),
        ("\ufeffa", [["\ufeffa"]]),
    ],
)
def test_quoting_is_that_of_rfc_4180(text: str, cells: list[list[str]]) -> None:
    """With the exceptions that Python's reader makes."""
    assert [record.cells for record in _read(text)] == cells


def test_a_record_over_several_lines_has_a_first_and_last_line() -> None:
    """Physical lines, with any line end."""
    found = _read('h\n"a\r\nb\rc\nd",1\n"x",2\n')

    assert [(record.line, record.last_line) for record in found] == [(1, 1), (2, 5), (6, 6)]


def test_text_after_a_closing_quote_rejects_only_its_record() -> None:
    """The record ends where it would have ended: a line end in its next quoted cell does not end it."""
    found = _read('"a"x,"b\nc",1\nd,e,2\n')

    assert [(record.line, record.last_line, record.fault) for record in found] == [
        (1, 2, Code.MALFORMED_QUOTING),
        (3, 3, None),
    ]
    assert found[0].text == '"a"x,"b\nc",1'


@pytest.mark.parametrize("cell", ["a", '""', '"a""b"', '"a\nb"', 'a"b', '"a"b'], ids=ascii)
@pytest.mark.parametrize("size", [7, 10 * MIB])
def test_a_record_of_thousands_of_cells_is_read_correctly(cell: str, size: int) -> None:
    """Cells of each kind, with one other cell among them."""
    for odd in ("b", '"b"c', 'b"c', f'"{"x" * 200}"', '"' + "\n" * 99 + '"', '"' + "\n" * 100 + '"'):
        text = ",".join([*[cell] * 1500, odd, *[cell] * 1500]) + "\nd,e\n"

        assert _agree(_batched(_cut(text, [size]), ","), read_records(text, ","))


def test_a_quote_that_is_never_closed_rejects_only_its_line() -> None:
    """Reading continues on the next line."""
    found = _read('a,b,1\nc,"d,2\ne,f,3\n')

    assert [(record.line, record.last_line, record.fault) for record in found] == [
        (1, 1, None),
        (2, 2, Code.MALFORMED_QUOTING),
        (3, 3, None),
    ]


def test_a_runaway_quote_rejects_its_record_from_the_start() -> None:
    """The record reaches from its start to the end of the line on which the quote opened."""
    found = _read('"a\nb","c,2\nd,3\n')

    assert [(record.line, record.last_line, record.text) for record in found[:1]] == [(1, 2, '"a\nb","c,2')]
    assert [record.cells for record in found[1:]] == [["d", "3"]]


@pytest.mark.parametrize("size", [1000, 64 * KIB, 10 * MIB])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("line_ends", "runs_away"), [(99, False), (100, True), (101, True)])
def test_a_cell_runs_away_at_its_hundredth_line_end(
    size: int,
    line_end: str,
    line_ends: int,
    runs_away: bool,  # noqa: FBT001 - the verdict
) -> None:
    """A cell that is still open there has a runaway quote."""
    text = f'"{line_end * line_ends}",1{line_end}'
    found = _batched(_cut(text, [size]), ",")

    assert (found[0].fault is Code.MALFORMED_QUOTING) == runs_away
    assert _agree(found, read_records(text, ","))


@pytest.mark.parametrize(
    ("inside", "size"), [("x", 1000), ("x", 64 * KIB + 1), ("é", 64 * KIB), ('""', 1000), ("👍", 10 * MIB)]
)
def test_a_cell_runs_away_at_64_kib(inside: str, size: int) -> None:
    """Counted in UTF-8 and as written, to the byte."""
    fitting = "\n" + inside * ((64 * KIB - 2) // len(inside.encode()))
    fitting += "x" * (64 * KIB - 1 - len(fitting.encode()))
    for content, runs_away in ((fitting, False), (fitting + "x", True), (fitting + '""', True)):
        text = f'"{content}",1\na,2\n'
        found = _batched(_cut(text, [size]), ",")

        assert (found[0].fault is Code.MALFORMED_QUOTING) == runs_away
        assert _agree(found, read_records(text, ","))


@pytest.mark.parametrize(("inside", "size"), [("x", 64 * KIB), ("x", 10 * MIB), ("é", 100_003), ("👍", 64 * KIB)])
def test_a_record_of_more_than_1_mib_is_too_long(inside: str, size: int) -> None:
    """Counted in UTF-8, to the byte; the next record is complete."""
    fitting = inside * (MIB // len(inside.encode()))
    for line, too_long in ((fitting, False), (fitting + "x", True), (fitting + "x" * MIB, True)):
        found = _batched(_cut(f"{line}\na,2\n", [size]), ",")

        assert (found[0].fault is Code.RECORD_TOO_LONG) == too_long
        assert found[0].text == (beginning_of(line, BEGINNING_BYTES) if too_long else line)
        assert [record.cells for record in found[1:]] == [["a", "2"]]


def _peak_of(pieces: Iterator[bytes], size: int = 128 * KIB) -> tuple[int, int]:
    """Return the number of records, and the peak of memory in bytes."""
    _one_by_one([b'"a"'], ",")  # compile the cached patterns first
    tracemalloc.start()
    number = sum(len(batch) for batch in _batches(pieces, ",", size))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return number, peak


@pytest.mark.parametrize(
    ("start", "piece", "mebibytes"),
    [
        pytest.param(b"", b"x", 64, id="a line that never ends"),
        pytest.param(b"", b",", 20, id="only delimiters"),
        pytest.param(b"", b'"', 20, id="only quotes"),
        pytest.param(b'"', b"x", 64, id="a cell that never ends"),
    ],
)
def test_memory_is_flat_in_a_record_of_any_length(start: bytes, piece: bytes, mebibytes: int) -> None:
    """It is rejected at 1 MiB, and the rest is only scanned."""
    number, peak = _peak_of(itertools.chain([start], itertools.repeat(piece * 64 * KIB, mebibytes * 16)))

    assert number == 1
    assert peak < 8 * MIB


@pytest.mark.parametrize("piece", [b'"a"b,', b'"a\n",', b'a"'], ids=ascii)
def test_memory_is_flat_in_a_record_of_many_quotes(piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each quote is examined, so a lower limit keeps the test fast."""
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 4 * KIB)
    monkeypatch.setattr(records, "MAX_QUOTED_BYTES", KIB)
    number, peak = _peak_of(itertools.repeat(piece * (KIB // len(piece)), 48))

    assert number == 1
    assert peak < 40 * KIB


@pytest.mark.parametrize(
    ("start", "line"),
    [(b"", b"\n"), (b'"', b"\n"), (b"", b",\n"), (b"", b"a,b,1\n"), (b"", b'"a"b,c,1\n'), (b"", b'"\n')],
    ids=ascii,
)
def test_memory_is_flat_with_any_number_of_records(
    start: bytes, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Good, blank or bad records, or records after a runaway quote: each batch is small."""
    monkeypatch.setattr(records, "MAX_QUOTED_BYTES", KIB)
    pieces = itertools.chain([start], itertools.repeat(line * (KIB // len(line)), 24))
    number, peak = _peak_of(pieces, size=KIB)

    assert number > 2 * KIB
    assert peak < MIB


def test_lines_are_found_without_taking_them() -> None:
    """The requested number, but no line without its end, or over the limit."""
    reader = RecordReader(iter([b'a,1\nb,2\r\n"c",3\nd,4\ne,5']))

    def found(size: int, before: int | None = None) -> bytes:
        data, start, end = reader.lines(size, before)
        return data[start:end]

    assert found(1) == b"a,1\n"
    assert found(5) == b"a,1\nb,2\r\n"
    assert found(999) == b'a,1\nb,2\r\n"c",3\nd,4\n'
    assert found(999, before=2) == b"a,1\n"
    assert found(999, before=1) == b""
    assert reader.take_lines(reader.lines(5)[2]) == range(1, 3)
    assert found(1) == b'"c",3\n'
    assert [record.text for record in reader.take_some(",", 1)] == ['"c",3']
    assert (reader.line, found(999)) == (4, b"d,4\n")
    long, start, end = RecordReader(iter([b" " * MIB + b"\n"])).lines(2 * MIB)
    assert long[start:end] == b""


@given(
    lengths=st.lists(st.integers(0, 5), max_size=8),
    taken=st.integers(1, 3),
    longest=st.integers(1, 4),
    sizes=piece_sizes,
)
def test_short_lines_end_before_the_first_long_one(
    lengths: list[int], taken: int, longest: int, sizes: list[int]
) -> None:
    """Each time, also if a long line was taken as a record meanwhile."""
    reader = RecordReader(_cut("".join("x" * length + "\n" for length in lengths), sizes))
    while True:
        data, start, end = reader.lines()
        lines = data[start:end].splitlines(keepends=True)
        short = list(itertools.takewhile(lambda line: len(line) <= longest + 1, lines))
        data, start, end = reader.short_lines(longest)

        assert data[start:end] == b"".join(short)
        if not reader.take_some(",", taken):
            return
