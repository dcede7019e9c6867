"""Pages of rejected rows: together they are all rejected rows, for every encoding, limit and length of a part."""

import codecs
import json
import tracemalloc
from collections.abc import Iterator, Sequence

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.adapters.memory import MemoryObjectStore
from rollcall.application import rejections
from rollcall.application.errors import WrongPositionError
from rollcall.application.header import OWN_LABELS
from rollcall.application.rejections import PageRow, Rejections
from rollcall.application.reports import Reports
from rollcall.domain.policy import OnDuplicate, Policy
from rollcall.domain.receipt import Receipt
from rollcall.domain.rejection import Code
from rollcall.domain.user import USERS
from support.builders import MORE, MORE_CELLS, WRITTEN, cells_of
from support.fakes import Desk

ENCODINGS = (
    "utf-8",
    "utf-8-sig",
    "cp932",
    "cp1252",
    "utf-16-le",
    "utf-16-be",
    "iso2022_kr",
    "iso2022_jp",
    "hz",
    "gb18030",
    "cp500",
)
WIDTH = len(USERS.columns) + 1  # `written` adds a column
LETTERS = "aZ0 =+-@'\",;\t\r\néßøşΩд山田日本ア한글中😀"


@attrs.define
class Counted:
    """A store that counts its reads."""

    inner: MemoryObjectStore
    reads: int = 0

    def read(self, key: str, start: int, length: int) -> bytes:
        self.reads += 1
        return self.inner.read(key, start, length)


def rejected(desk: Desk, receipt: Receipt) -> Rejections:
    found = Rejections.of(receipt, Reports(store=desk.reports), desk.reports, USERS)
    assert found
    return found


def pages(found: Rejections, limit: int) -> Iterator[tuple[PageRow, ...]]:
    """Yield all pages, one after the other."""
    after: int | None = 0
    while after is not None:
        page = found.page(after, limit)
        assert len(page.rows) <= limit
        yield page.rows
        after = page.next


def has(character: str, encoding: str) -> bool:
    try:
        return character.encode(encoding).decode(encoding) == character
    except UnicodeError:
        return False


def written(rows: Sequence[Sequence[str]], delimiter: str) -> str:
    header = delimiter.join([*USERS.columns, "note"])
    return f"{header}\r\n" + "".join(
        delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) + "\r\n" for row in rows
    )


@st.composite
def files(draw: st.DrawFn) -> tuple[str, str, list[list[str]]]:
    """Draw an encoding, a delimiter and rows, most of them bad."""
    encoding = draw(st.sampled_from(ENCODINGS))
    letters = [letter for letter in LETTERS if has(letter, encoding)]
    cells = st.text(st.sampled_from(letters), max_size=9)
    whole, any_row = (
        st.lists(cells, min_size=WIDTH, max_size=WIDTH),
        st.lists(cells, min_size=2, max_size=WIDTH + 1),
    )
    rows = draw(st.lists(whole | any_row, max_size=30))
    return encoding, draw(st.sampled_from(",;\t")), rows


@given(files(), st.integers(1, 40), st.integers(1, 200))
def test_all_pages_are_all_rejected_rows(
    file: tuple[str, str, list[list[str]]], limit: int, least_bytes: int
) -> None:
    """With parts of any length, so that rows, cells and characters are cut everywhere."""
    encoding, delimiter, rows = file
    desk = Desk()
    name = codecs.lookup(encoding).name
    data = written(rows, delimiter).encode(encoding)
    receipt = desk.importer(encodings=(name,) if data.isascii() else ("utf-8", name))(desk.drop(data))
    if not receipt.rejected_rows:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rejections, "_LEAST_BYTES", least_bytes)
        patch.setattr(rejections, "_BYTES_A_ROW", 1)
        patch.setattr(rejections, "_DECODED_BYTES", 61)

        found = [row for page in pages(rejected(desk, receipt), limit) for row in page]

    assert [(row.line, row.faults) for row in found] == [
        (rejection.line, rejection.faults) for rejection in receipt.rejections
    ]
    whole = [dict(zip(USERS.columns, row, strict=False)) for row in rows if len(row) >= len(USERS.columns)]
    assert all(row.record is not None or row.cells in whole for row in found)


def test_a_row_that_could_not_be_split_has_its_text() -> None:
    desk = Desk()
    receipt = desk.load(desk.drop(b'name,country,age\n"Ann"x,Norway,41\nBen,X\nCem,Y,3\n'))

    [first, second] = rejected(desk, receipt).page(0, 100).rows

    assert [(row.line, row.record, row.faults[0].code) for row in (first, second)] == [
        (2, f'{MORE_CELLS}"Ann"x,Norway,41', Code.MALFORMED_QUOTING),
        (3, f"{MORE_CELLS}Ben,X", Code.MISSING_CELL),
    ]
    assert first.cells == dict.fromkeys(USERS.columns, "")


def test_a_duplicate_keeps_its_fault() -> None:
    """It is found by the database, not in the row."""
    desk = Desk()
    policy = Policy(unique_by=("name",), on_duplicate=OnDuplicate.REJECT)
    receipt = desk.load(desk.drop(b"name,country,age\nAnn,Norway,41\nAnn,X,1\n"), policy)

    [row] = rejected(desk, receipt).page(0, 100).rows

    assert row.faults == receipt.rejections[0].faults
    assert row.cells == cells_of("Ann", "X", "1")


def test_rows_that_are_rejected_again_keep_their_first_line() -> None:
    desk = Desk()
    first = desk.load(desk.drop(b"name,country,age\nAnn,Norway,old\nBen,X,old\nCem,X,1\n"))
    key = Reports(store=desk.reports).rejected_rows_key(first)
    assert key
    corrected = desk.read(key).replace(b"Ann,Norway,old", b"Ann,Norway,41")
    second = desk.load(desk.drop(corrected, "b.csv"))

    [row] = rejected(desk, second).page(0, 100).rows

    assert (row.line, row.cells["name"]) == (3, "Ben")
    assert rejected(desk, second).origins({3}) == rejected(desk, first).origins({3})
    assert list(rejected(desk, first).origins({2, 3, 99})) == [2, 3]


def test_a_file_without_rejected_rows_has_none() -> None:
    desk = Desk()
    receipt = desk.load(desk.drop(b"name,country,age\nAnn,Norway,41\n"))

    assert Rejections.of(receipt, Reports(store=desk.reports), desk.reports, USERS) is None


@pytest.mark.parametrize("after", [1, 5, 80, 200])
def test_a_position_inside_a_row_is_refused(after: int) -> None:
    """Or it gives rows of the file's form; a client passes on what it got."""
    desk = Desk()
    receipt = desk.load(desk.drop(b"name,country,age\n" + b"Ann,Norway,old\n" * 50 + b"Ann,Norway,1\n"))
    found = rejected(desk, receipt)
    first = found.page(0, 1)
    assert first.next
    if after < first.next:
        assert found.page(min(after, 3), 100).rows == found.page(0, 100).rows
    with pytest.raises(WrongPositionError):
        found.page(first.next + 5, 100)
    assert found.page(10**9, 100) == rejections.Page((), None)


@pytest.mark.parametrize("cell", ["\1" * 20_000, '""' * 30_000], ids=["controls", "quotes"])
def test_a_page_of_huge_rows_can_be_answered_by_lambda(cell: str) -> None:
    """A cell may have 64 KiB, JSON writes some characters in six bytes, and Lambda writes the JSON as JSON."""
    desk = Desk()
    row = f'"{cell}","{cell}","{cell}"\n'.encode()
    receipt = desk.upload(b"name,country,age\n" + row * 40 + b"Ann,Norway,1\n")

    found = list(pages(rejected(desk, receipt), 1000))

    assert sum(map(len, found)) == 40
    assert len(found) > 1
    assert all(page for page in found)
    assert all(len(json.dumps(json.dumps([row.as_dict() for row in page]))) < 6_000_000 for page in found)


class Endless:
    """A file of rejected rows of a gigabyte, of which only the asked part is made."""

    row = MORE_CELLS.encode() + (
        b"Ann,Norway,old,000000002,[type-error] age is 'old',,i1-000000002-0123456789abcdef01234567\r\n"
    )
    head = codecs.BOM_UTF8 + ",".join([*MORE, *WRITTEN, *OWN_LABELS]).encode() + b"\r\n"
    size = 2**30

    def __init__(self) -> None:
        self.reads = 0

    def read(self, _key: str, start: int, length: int) -> bytes:
        """Return a part."""
        self.reads += 1
        end = min(start + length, len(self.head) + self.size // len(self.row) * len(self.row))
        within = max(0, start - len(self.head)) % len(self.row)
        rows = self.row * ((end - start) // len(self.row) + 2)
        return (self.head[start:] + rows[within:])[: end - start]


def test_a_page_of_a_gigabyte_takes_two_reads_and_little_memory() -> None:
    store = Endless()
    found = Rejections(store, "key", "utf-8", USERS)
    rows = store.size // len(store.row)
    middle = len(store.head) + rows // 2 * len(store.row)
    last = len(store.head) + (rows - 10) * len(store.row)
    tracemalloc.start()
    for after, expected, more in (middle, 1000, True), (last, 10, False):
        store.reads = 0
        page = found.page(after, 1000)
        assert (len(page.rows), page.next is not None) == (expected, more)
        assert store.reads <= 2
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 20 * 2**20
