"""Rejected rows that are corrected and uploaded again give the same users as a corrected original."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.adapters.memory import MemoryObjectStore, MemoryUserRepository
from rollcall.application import import_users
from rollcall.application.errors import UndoRefusedError
from rollcall.application.header import IMPORT, LINE, OWN_LABELS, REASON, RECORD
from rollcall.application.reports import Reports
from rollcall.application.screening import screen
from rollcall.application.spreadsheets import safe_text
from rollcall.domain.policy import OnDuplicate, Policy, Tolerance
from rollcall.domain.receipt import Receipt, Status
from rollcall.domain.rejection import Code
from rollcall.domain.upload import ObjectReference
from rollcall.domain.user import User
from support.builders import MORE, a_user, completed
from support.fakes import Desk
from support.receipts import CheckedImport

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
LABELS = ("name", "note", "age", "country")
# The place of the age in a file that begins with name, country and age.
AGE = len(MORE) + 2

Row = tuple[str, ...]


@attrs.frozen
class World:
    """A bucket, its reports, and the users."""

    policy: Policy = Policy()
    encodings: tuple[str, ...] = ("utf-8",)
    max_rejected_bytes: int = 2**32
    uploads: MemoryObjectStore = attrs.Factory(lambda: MemoryObjectStore("uploads", lambda: NOON, ""))
    reports: MemoryObjectStore = attrs.Factory(lambda: MemoryObjectStore("reports", lambda: NOON))
    repository: MemoryUserRepository = attrs.Factory(MemoryUserRepository)

    def drop(self, key: str, data: bytes) -> Receipt:
        """Upload a file with every column, see `completed`, and import it."""
        self.uploads.put(key, io.BytesIO(completed(data)))
        return self.redeliver(key)

    def redeliver(self, key: str, *, again: bool = False) -> Receipt:
        """Import the uploaded file again."""
        return self.import_upload(ObjectReference(key=key), again=again)

    def import_upload(self, upload: ObjectReference, *, again: bool = False) -> Receipt:
        """Import one version of an uploaded file."""
        importing = CheckedImport(
            uploads=self.uploads,
            reports=Reports(store=self.reports),
            users=self.repository,
            policy=self.policy,
            encodings=self.encodings,
            now=lambda: NOON,
            spool=io.BytesIO,
            max_rejected_bytes=self.max_rejected_bytes,
        )
        return importing(upload, again=again)

    def rejected_rows(self, receipt: Receipt) -> bytes:
        """Return the rejected-rows file of a receipt."""
        assert receipt.rejected_rows is not None
        key = receipt.rejected_rows.removeprefix("memory:")
        with self.reports.open(ObjectReference(key=key)) as found:
            return b"".join(found.read())

    def users(self) -> Counter[User]:
        """Count the users in the table."""
        return Counter(self.repository.users())


@attrs.frozen
class Spreadsheet:
    """How a spreadsheet saves a file.

    Attributes:
        own_order: Rollcall's columns at the end of each row, in their order.
        lost: The number of cells that are missing at the end of each row.
        lost_from: The first row in which they are missing; the header is row 0.
        ended: Whether the last line has an end.
    """

    delimiter: str
    quoting: Any
    encoding: str
    line_end: str
    own_order: Sequence[str] = ()
    lost: int = 0
    lost_from: int = 1
    ended: bool = True

    def save(self, rows: list[list[str]]) -> bytes:
        """Write a file."""
        own = [rows[0].index(label) for label in self.own_order if label in rows[0]]
        order = [*(place for place in range(len(rows[0])) if place not in own), *own]
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=self.delimiter, quoting=self.quoting, lineterminator=self.line_end)
        for number, row in enumerate(rows):
            cells = [row[place] for place in order] if len(row) == len(rows[0]) else row
            writer.writerow(cells[: len(cells) - self.lost] if number >= self.lost_from else cells)
        content = text.getvalue() if self.ended else text.getvalue().removesuffix(self.line_end)
        return content.encode(self.encoding)


PLAIN = Spreadsheet(",", csv.QUOTE_MINIMAL, "utf-8", "\n")


def decoded(data: bytes) -> str:
    """Decode a file by its byte order mark."""
    return data.decode("utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig")


def opened(data: bytes) -> list[list[str]]:
    """Open a rejected-rows file as a spreadsheet does."""
    text = decoded(data)
    for delimiter in ",;\t":
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
        if LINE in rows[0]:
            return rows
    raise AssertionError("no delimiter fits")


def as_typed(cell: str) -> str:
    """Return a cell as a person types it so that a spreadsheet does not run it."""
    return safe_text(cell, ",")


def correct(row: list[str], header: list[str], person: Row) -> None:
    """Replace a row's cells with a person's."""
    for label, cell in (*zip(LABELS, person, strict=True), *MORE.items()):
        row[header.index(label)] = as_typed(cell)


spreadsheets = st.builds(
    Spreadsheet,
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["\n", "\r\n"]),
    st.permutations(OWN_LABELS),
)
lossy_spreadsheets = st.builds(
    attrs.evolve,
    spreadsheets,
    lost=st.integers(0, 4),
    lost_from=st.integers(1, 4),
    ended=st.booleans(),
)
texts = st.sampled_from(
    [
        *["Ann", "=1+1", "'=x", "-5", "+49", "@me", "''-", "O'Neil", 'a "b" c', "x, y; z", "山田"],
        *["x,=1", "a;'-b", "|@", "'\"\u3000\uff1d", "b, '+"],
    ]
)
good_rows = st.tuples(texts, texts | st.just(""), st.integers(0, 150).map(str), texts)
bad_rows = st.one_of(
    st.tuples(texts, texts, st.sampled_from(["", "x", "=2", "-1", "999"]), texts),
    st.tuples(st.sampled_from(["", "  "]), texts, st.just("1"), texts),
    st.tuples(texts, texts),
    st.tuples(texts, texts, st.just("1"), texts, texts),
)
files = st.lists(st.tuples(good_rows, st.none() | bad_rows), min_size=1, max_size=8)
TOKEN = re.compile(r"i\d+-\d+-[0-9a-f]{24}")
STRICT = Policy(max_rejected=Tolerance("0"))
STRANGER = ("Stranger", "", "99", "Nowhere")


def with_stale_rows(world: World, data: bytes, how: str) -> tuple[Receipt, list[bytes]]:
    """Import a list, possibly after another verdict on it.

    Returns:
        The receipt of the current verdict, and the rejected rows of the replaced one.
    """
    if how == "at once":
        return world.drop("users.csv", data), []
    if how == "undone and imported again":
        first = world.drop("users.csv", data)
        if first.status.registers:
            world.repository.undo(first.import_id or 0, NOON)
    else:
        encodings = ("latin-1",) if how == "in another encoding" else world.encodings
        first = attrs.evolve(world, policy=STRICT, encodings=encodings).drop("users.csv", data)
    stale = [world.rejected_rows(first)] if first.rejected_rows else []
    return world.redeliver("users.csv", again=True), stale


def with_forgeries(header: list[str], rows: list[list[str]], choose: "st.DataObject") -> list[list[str]]:
    """Add rows of a stranger with forged origins."""
    [token] = {row[header.index(IMPORT)] for row in rows[-1:]}
    line = choose.draw(st.integers(1, 12), "line")
    import_id = choose.draw(st.integers(0, 4), "import")
    forged = [
        *(re.sub(r"-\d+-", f"-{line}-", token), re.sub(r"^i\d+", f"i{import_id}", token)),
        *(token[:-1] + ("0" if token[-1] != "0" else "1"), str(import_id), ""),
    ]
    for cell in choose.draw(st.lists(st.sampled_from([cell for cell in forged if cell != token]), max_size=2)):
        row = [""] * len(header)
        correct(row, header, STRANGER)
        row[header.index(IMPORT)] = cell
        row[header.index(LINE)] = choose.draw(st.sampled_from([str(line), rows[-1][header.index(LINE)]]))
        rows.insert(choose.draw(st.integers(0, len(rows))), row)
    return rows


@given(
    file=files,
    how=st.sampled_from(["at once", "under another policy", "in another encoding", "undone and imported again"]),
    choose=st.data(),
)
def test_correcting_in_rounds_equals_a_corrected_original(
    file: list[tuple[Row, Row | None]], how: str, choose: "st.DataObject"
) -> None:
    """Each row is registered once, and nobody else, however files are saved, mixed, forged and uploaded again."""
    world, whole, other = World(), World(), World()
    people = {line: good for line, (good, _) in enumerate(file, 2)}
    upload = PLAIN.save([list(LABELS), *(list(bad or good) for good, bad in file)])
    whole.drop("whole.csv", PLAIN.save([list(LABELS), *(list(good) for good, _ in file)]))

    receipt, stale = with_stale_rows(world, upload, how)
    if receipt.status is not Status.PARTIALLY_LOADED:
        return
    stale.append(other.rejected_rows(other.drop("users.csv", upload)))
    pending = [world.rejected_rows(receipt)]
    header, *rows = opened(pending[0])
    rejected = {row[header.index(IMPORT)]: people[int(row[header.index(LINE)])] for row in rows}
    for number in range(choose.draw(st.integers(1, 4), "rounds")):
        header, *rows = opened(choose.draw(st.sampled_from(pending), "pending"))
        for row in rows:
            if choose.draw(st.booleans()):
                # A row without its origin can no longer be corrected to the right person.
                correct(row, header, rejected.get(row[header.index(IMPORT)], STRANGER))
        if choose.draw(st.booleans(), "with stale rows"):
            _, *others = opened(choose.draw(st.sampled_from(stale), "stale"))
            for row in others:
                correct(row, header, STRANGER)
            rows = choose.draw(st.sampled_from([others, [*rows, *others]]), "mixed")
        rows = with_forgeries(header, rows, choose)
        saved = choose.draw(lossy_spreadsheets).save([header, *rows])
        found = world.drop(f"round-{number}.csv", saved)
        if found.status is Status.PARTIALLY_LOADED:
            pending.append(world.rejected_rows(found))
            named = rejected.keys() & TOKEN.findall(decoded(saved))
            header, *rows = opened(pending[-1])
            left = rejected.keys() & {row[header.index(IMPORT)] for row in rows}
            assert len(left) == len(named) - found.counts.registered, "a row lost its origin"
    header, *rows = opened(pending[0])
    for row in rows:
        correct(row, header, rejected[row[header.index(IMPORT)]])
    for number in range(2):
        last = world.drop(f"last-{number}.csv", choose.draw(spreadsheets).save([header, *rows]))

    assert last.status in {Status.SKIPPED, Status.REFUSED}
    assert world.users() == whole.users()


def test_a_receipt_says_which_import_it_corrects() -> None:
    """The uploader finds the original of the corrected rows."""
    world = World()
    first = world.drop("a.csv", b"name,country,age\nA,X,1\nB,X,b\n")

    rows = opened(world.rejected_rows(first))
    rows[1][AGE] = "2"
    second = world.drop("b.csv", PLAIN.save(rows))

    assert (second.status, second.corrects) == (Status.LOADED, first.import_id)
    assert Counter([a_user("A", "X", 1), a_user("B", "X", 2)]) == world.users()


def test_corrected_rows_are_loaded_with_rollcalls_columns() -> None:
    """Rollcall's columns are neither fields nor ignored columns."""
    world = World()
    first = world.drop("a.csv", b"id;name;country;age\n7;A;X;1\n8;B;X;b\n")

    data = world.rejected_rows(first).replace(b"8;B;X;b", b"8;B;X;2")
    second = world.drop("b.csv", data)

    assert (second.status, second.source.ignored_columns) == (Status.LOADED, ("id",))


def test_an_uncorrected_row_is_rejected_again_and_never_blank() -> None:
    """A row that could not be split has empty cells, and is still no blank row."""
    world = World()
    first = world.drop("a.csv", b'name,country,age\nA,X,1\n"B"b,X,2\nC,X,c\n')

    rows = opened(world.rejected_rows(first))
    rows[2][AGE] = "3"
    second = world.drop("b.csv", PLAIN.save(rows))

    assert (second.counts.read, second.counts.registered, second.counts.rejected) == (2, 1, 1)
    again = opened(world.rejected_rows(second))
    assert rows[1][rows[0].index(RECORD)].endswith('"B"b,X,2')
    assert rows[1][rows[0].index(RECORD)] == again[1][again[0].index(RECORD)]
    assert [again[1][again[0].index(label)] for label in (LINE, IMPORT)] == [
        rows[1][rows[0].index(label)] for label in (LINE, IMPORT)
    ]


def test_a_second_correction_of_a_line_is_rejected() -> None:
    """A row that is corrected twice in different ways is registered once."""
    world = World()
    first = world.drop("a.csv", b"name,country,age\nA,X,1\nB,X,b\nC,X,c\n")
    rows = opened(world.rejected_rows(first))
    rows[1][AGE] = "2"
    world.drop("b.csv", PLAIN.save(rows))

    rows[1][AGE], rows[2][AGE] = "22", "3"
    third = world.drop("c.csv", PLAIN.save(rows))

    assert [(total.code, total.first_line) for total in third.totals] == [(Code.ALREADY_CORRECTED, 2)]
    assert {1, 2, 3} == {user.age for user in world.users()}


def test_rejected_rows_of_a_refused_upload_are_refused() -> None:
    """With the advice to correct the original, whose good rows are not registered either."""
    world = World(policy=Policy(max_rejected=Tolerance("0")))
    refused = world.drop("a.csv", b"name,country,age\nA,X,1\nB,X,b\n")

    rows = opened(world.rejected_rows(refused))
    rows[1][AGE] = "2"
    second = world.drop("b.csv", PLAIN.save(rows))

    assert (second.status, second.code) == (Status.REFUSED, Code.NOTHING_TO_CORRECT)
    assert second.message is not None
    assert "correct the original file" in second.message


def _half_corrected(world: World) -> tuple[list[list[str]], Receipt]:
    """Correct one of two rejected rows, and upload both again as b.csv without tolerance.

    Returns:
        The uploaded rows, and the receipt of the refusal.
    """
    first = world.drop("a.csv", b"name,country,age\nA,X,1\nB,X,b\nC,X,c\n")
    rows = opened(world.rejected_rows(first))
    rows[1][AGE] = "2"
    strict = attrs.evolve(world, policy=Policy(max_rejected=Tolerance("0")))
    return rows, strict.drop("b.csv", PLAIN.save(rows))


@pytest.mark.parametrize(
    ("rows", "times"), [("x\n", 1), ("{known}\n{known}\n", 2)], ids=["nothing known", "origins known"]
)
def test_corrected_rows_are_judged_again_only_if_needed(rows: str, times: int) -> None:
    """The rejected-rows file of a refusal contains no origins, so it is written again only if it had some."""
    world = World()
    first = world.drop("a.csv", b"name,country,age\nA,X,1\nB,X,b\n")
    header, known = world.rejected_rows(first).decode("utf-8-sig").splitlines()

    with patch.object(import_users, "screen", wraps=screen) as judged:
        refused = world.drop("b.csv", f"{header}\n{rows.format(known=known)}".encode())

    assert (refused.status, refused.code) == (Status.REFUSED, Code.TOO_MANY_REJECTIONS)
    assert {row[-1][:3] for row in opened(world.rejected_rows(refused))[1:]} == {"i0-"}
    assert judged.call_count == times


def test_rejected_rows_of_a_refused_correction_are_refused() -> None:
    """Otherwise the withheld rows of the refused upload would be lost."""
    world = World()
    _, refused = _half_corrected(world)

    left = opened(world.rejected_rows(refused))
    left[1][AGE] = "3"
    third = world.drop("c.csv", PLAIN.save(left))

    assert (refused.status, refused.code) == (Status.REFUSED, Code.TOO_MANY_REJECTIONS)
    assert (third.status, third.code, third.corrects) == (Status.REFUSED, Code.NOTHING_TO_CORRECT, None)
    assert {1} == {user.age for user in world.users()}


def test_a_row_in_the_files_of_two_verdicts_is_registered_once() -> None:
    """Both corrections are of the same row."""
    world = World()
    _, refused = _half_corrected(world)
    loaded = world.redeliver("b.csv")

    for verdict, age in ((refused, "3"), (loaded, "33")):
        left = opened(world.rejected_rows(verdict))
        left[1][AGE] = age
        world.drop(f"corrected-{age}.csv", PLAIN.save(left))

    assert sorted(user.age for user in world.users().elements()) == [1, 2, 33]


def test_rows_of_a_refused_correction_are_rejected_among_others() -> None:
    """Other rows of the same file are still registered."""
    world = World()
    rows, refused = _half_corrected(world)
    [_, left] = opened(world.rejected_rows(refused))
    left[AGE] = "3"

    together = world.drop("c.csv", PLAIN.save([*rows[:2], left]))

    assert [(total.code, total.first_line) for total in together.totals] == [(Code.NOTHING_TO_CORRECT, 3)]
    assert sorted(user.age for user in world.users()) == [1, 2]


@pytest.mark.parametrize("label", [LINE, IMPORT])
def test_a_row_without_its_origin_is_rejected(label: str) -> None:
    """It could be registered a second time."""
    world = World()
    first = world.drop("a.csv", b"name,country,age\nA,X,1\nB,X,b\nC,X,c\n")
    rows = opened(world.rejected_rows(first))
    rows[1][AGE], rows[2][AGE] = "2", "3"

    rows[1][rows[0].index(label)] = ""
    second = world.drop("b.csv", PLAIN.save(rows))

    assert [(Code.BLANK_CELL, label)] == [(total.code, total.column) for total in second.totals]
    assert second.counts.registered == 1


def test_a_file_without_one_of_rollcalls_columns_is_refused() -> None:
    """Without the import id, the lines have no meaning."""
    world = World()

    receipt = world.drop("a.csv", b"name,country,age,rollcall_line\nA,X,1,2\n")

    assert (receipt.status, receipt.code) == (Status.REFUSED, Code.MISSING_LABEL)


def test_reason_and_record_may_be_removed() -> None:
    """They are only for reading."""
    world = World()
    first = world.drop("a.csv", b"name,country,age\nA,X,1\nB,X,b\n")
    rows = opened(world.rejected_rows(first))
    rows[1][AGE] = "2"
    kept = [place for place, label in enumerate(rows[0]) if label not in {REASON, RECORD}]

    second = world.drop("b.csv", PLAIN.save([[row[place] for place in kept] for row in rows]))

    assert second.status is Status.LOADED


def test_an_undone_correction_can_be_made_again() -> None:
    """Until it is undone, the corrected import cannot be undone."""
    world = World()
    first = world.drop("a.csv", b"name,country,age\nA,X,1\nB,X,b\n")
    rows = opened(world.rejected_rows(first))
    rows[1][AGE] = "2"
    second = world.drop("b.csv", PLAIN.save(rows))
    assert first.import_id is not None
    assert second.import_id is not None

    with pytest.raises(UndoRefusedError, match="corrects it"):
        world.repository.undo(first.import_id, NOON)
    world.repository.undo(second.import_id, NOON)
    rows[1][AGE] = "3"
    third = world.drop("c.csv", PLAIN.save(rows))

    assert third.status is Status.LOADED
    assert {1, 3} == {user.age for user in world.users()}


@pytest.mark.parametrize(
    ("on_duplicate", "counts", "ages"),
    [
        (OnDuplicate.SKIP, (2, 0, 2, 0), {1, 3}),
        (OnDuplicate.UPDATE, (2, 0, 2, 0), {2, 4}),
        (OnDuplicate.REJECT, (2, 0, 0, 2), {1, 3}),
    ],
)
def test_duplicates_within_a_file_follow_the_policy(
    on_duplicate: OnDuplicate, counts: tuple[int, ...], ages: set[int]
) -> None:
    """With `update`, the last row of a file wins."""
    world = World(policy=Policy(unique_by=("name",), on_duplicate=on_duplicate))

    receipt = world.drop("a.csv", b"name,country,age\nA,X,1\nA,X,2\nB,X,3\nB,Y,4\n")

    said = receipt.counts
    assert counts == (said.registered, said.updated, said.unchanged, said.rejected)
    assert ages == {user.age for user in world.users()}


@pytest.mark.parametrize(
    ("on_duplicate", "counts", "ages"),
    [
        (OnDuplicate.SKIP, (1, 0, 2, 0), {1, 2, 9}),
        (OnDuplicate.UPDATE, (1, 1, 1, 0), {5, 2, 9}),
        (OnDuplicate.REJECT, (1, 0, 0, 2), {1, 2, 9}),
    ],
)
def test_duplicates_of_existing_users_follow_the_policy(
    on_duplicate: OnDuplicate, counts: tuple[int, ...], ages: set[int]
) -> None:
    """A row that equals its user changes nothing."""
    world = World(policy=Policy(unique_by=("name",), on_duplicate=on_duplicate))
    world.drop("a.csv", b"name,country,age\nA,X,1\nB,X,2\n")

    receipt = world.drop("b.csv", b"name,country,age\nA,X,5\nB,X,2\nC,X,9\n")

    said = receipt.counts
    assert counts == (said.registered, said.updated, said.unchanged, said.rejected)
    assert ages == {user.age for user in world.users()}


def test_a_rejected_duplicate_is_in_the_rejected_rows_in_order() -> None:
    """With its own cells."""
    world = World(policy=Policy(unique_by=("name",), on_duplicate=OnDuplicate.REJECT))

    receipt = world.drop("a.csv", b"name,country,age\nA,X,1\nA,X,2\nB,X,b\nA,Y,3\n")
    rows = opened(world.rejected_rows(receipt))

    assert [row[rows[0].index(LINE)] for row in rows[1:]] == ["3", "4", "5"]
    assert rows[1][: AGE + 1] == [*MORE.values(), "A", "X", "2"]
    assert [rejection.line for rejection in receipt.rejections] == [3, 4, 5]


def test_all_labels_of_rollcall_have_one_prefix() -> None:
    """So no column of an uploader is taken for one."""
    assert all(label.startswith("rollcall_") for label in OWN_LABELS)


def test_a_label_that_no_database_stores_is_shown_escaped() -> None:
    """Python's text may contain NUL, PostgreSQL's JSON may not."""
    receipt = World().drop("a.csv", b"name,country,age,no\0te\nA,X,1,\n")

    assert receipt.source.ignored_columns == (r"no\x00te",)


@pytest.mark.parametrize("label", ["\tname", "\rname", " \tNAME"])
def test_a_label_that_was_made_safe_is_understood(label: str) -> None:
    """A spreadsheet may run a label that starts with a tab or CR."""
    world = World()
    first = world.drop(
        "a.csv", PLAIN.save([[label, "country", "age", "=id"], ["B", "X", "b", ""], ["A", "X", "1", ""]])
    )
    rows = opened(world.rejected_rows(first))
    rows[1][AGE] = "2"

    second = world.drop("b.csv", PLAIN.save(rows))

    assert second.status is Status.LOADED
    assert second.source.ignored_columns == ("=id",)


@pytest.mark.parametrize("label", [LINE, IMPORT])
def test_a_row_without_its_origin_stays_so_when_uploaded_again(label: str) -> None:
    """Rollcall must not fill in the origin, because the row may already be registered."""
    world = World()
    first = world.drop("a.csv", b"name,country,age\nA,X,1\nB,X,b\nC,X,c\n")
    rows = opened(world.rejected_rows(first))
    rows[1][AGE], rows[2][AGE] = "2", "3"
    world.drop("b.csv", PLAIN.save(rows))
    rows[1][rows[0].index(label)] = "x"
    rows[2][AGE] = "c"
    third = world.drop("c.csv", PLAIN.save([*rows, ["D", "X", "4", "1", "", "", "1"]]))
    users = world.users()

    world.drop("d.csv", world.rejected_rows(third))

    assert {1, 2, 3} == {user.age for user in users}
    assert world.users() == users


def test_the_first_origin_in_a_file_decides_what_it_corrects() -> None:
    """Also if that row is bad, and in any batches."""
    world = World()
    world.drop("a.csv", b"name,country,age\nA,X,1\nB,X,b\nC,X,c\n")

    receipt = world.drop("b.csv", b"name,country,age,rollcall_line,rollcall_import\nB,X,b,3,9\nC,X,3,4,1\n")

    assert (receipt.corrects, receipt.code) == (9, Code.NOTHING_TO_CORRECT)


@pytest.mark.parametrize(
    "record",
    [
        "B,x,y," * 20_000,
        '"' * 150_000 + "B",
        "=" + 'B"山' * 60_000,
        '"' + "x\n" * 60 + '","' + "y\r" * 60 + '"',
        "B,X,b," + 'x"' * 40_000,
        'B,X,b,"=' + "x" * 65_533 + ',"',
    ],
)
def test_a_row_with_any_fault_can_be_corrected(record: str) -> None:
    """The reader accepts everything that a rejected-rows file contains."""
    world = World()
    first = world.drop("a.csv", f"name,country,age,note\nA,X,1,\n{record}\nC,X,c,\n".encode())
    csv.field_size_limit(2**20)
    rows = opened(world.rejected_rows(first))
    rows[1][: AGE + 1], rows[2][AGE] = [*MORE.values(), "B", "Y", "2"], "3"

    second = world.drop("b.csv", PLAIN.save(rows))

    assert (second.status, second.corrects) == (Status.LOADED, first.import_id)
    assert {1, 2, 3} == {user.age for user in world.users()}


@pytest.mark.parametrize(
    ("encodings", "whole", "users"),
    [
        (("utf-8", "cp932"), "name,country,age\nﾆｼ,X,b\n山,X,1\n", [("山", "X", 1), ("ﾆｼ", "X", 2)]),
        (
            ("cp932", "cp1252"),
            "sep=|\nname|country|age\nRené|X|b\né é|X|1\n",
            [("é é", "X", 1), ("René", "X", 2)],
        ),
    ],
)
def test_rejected_rows_have_the_encoding_of_the_upload(
    encodings: tuple[str, str], whole: str, users: list[tuple[str, str, int]]
) -> None:
    """Also for a few rows that an earlier encoding would decode to other text."""
    desk = Desk()
    importer = desk.importer(encodings=encodings)

    first = importer(desk.drop(whole.encode(encodings[1])))
    assert first.rejected_rows
    data = desk.read(first.rejected_rows.removeprefix("memory:"))
    importer(desk.drop(re.sub(rb"([,|])X\1b\1", rb"\1X\g<1>2\1", data), "corrected.csv"))

    assert desk.rows() == users


def _corrected(world: World, receipt: Receipt, cells: dict[str, list[str]]) -> list[list[str]]:
    """Open the rejected rows of an import, and replace the uploader's cells of some lines."""
    rows = opened(world.rejected_rows(receipt))
    for row in rows[1:]:
        replacement = cells.get(row[rows[0].index(LINE)])
        if replacement:
            row[: AGE + 1] = [*MORE.values(), *replacement]
    return rows


def _names(world: World) -> list[str]:
    return sorted(user.name for user in world.users().elements())


@pytest.mark.parametrize("replaced_by", ["another policy", "undo and again", "another encoding"])
def test_rejected_rows_of_a_replaced_verdict_register_nobody(replaced_by: str) -> None:
    """The new verdict may have registered the same row."""
    world = World()
    text = "name,country,age\nAlice,USA,28\nÀlex,Sverige,30\nBob,UK,x\n"
    if replaced_by == "undo and again":
        first = world.drop("p.csv", text.encode())
        world.repository.undo(first.import_id or 0, NOON)
        world.redeliver("p.csv", again=True)
    else:
        old = attrs.evolve(world, policy=Policy(max_rejected=Tolerance("0")))
        if replaced_by == "another encoding":
            text = text.replace("x\n", "31\n")
            old = attrs.evolve(old, encodings=("latin-1",))
        first = old.drop("p.csv", text.encode())
        world.redeliver("p.csv")
    registered = _names(world)
    lines = {line: ["Zoe", "UK", "5"] for line in ("2", "3", "4")}

    second = world.drop("q.csv", PLAIN.save(_corrected(world, first, lines)))

    assert first.rejected_rows
    assert (second.status, second.code) == (Status.REFUSED, Code.NOTHING_TO_CORRECT)
    assert _names(world) == registered


@pytest.mark.parametrize("line", ["2", "3"])
@pytest.mark.parametrize("proof", ["none", "of another line", "of another ledger"])
def test_a_line_that_was_not_rejected_cannot_be_corrected(line: str, proof: str) -> None:
    world, other = World(), World()
    first, rival = (one.drop("a.csv", b"name,country,age\nA,X,1\nB,X,2\nC,X,c\n") for one in (world, other))
    forged = _corrected(world, first, {"4": ["Eve", "X", "9"]})
    place = forged[0].index(IMPORT)
    forged[1][forged[0].index(LINE)] = line
    if proof == "none":
        forged[1][place] = "1"
    else:
        token = opened(other.rejected_rows(rival))[1][place] if "ledger" in proof else forged[1][place]
        forged[1][place] = token.replace("-4-", f"-{line}-")

    receipt = world.drop("b.csv", PLAIN.save(forged))

    assert (receipt.status, receipt.code) == (Status.REFUSED, Code.NOTHING_TO_CORRECT)
    assert _names(world) == ["A", "B"]


def test_rejected_rows_of_another_ledger_change_nothing_here() -> None:
    """Both ledgers have an import 1 that rejected line 3. Its row here can still be corrected."""
    ours, theirs = World(), World()
    ours_first = ours.drop("a.csv", b"name,country,age\nA,X,1\nB,X,b\n")
    theirs_first = theirs.drop("a.csv", b"name,country,age\nC,X,1\nD,X,d\n")

    crossed = ours.drop("b.csv", PLAIN.save(_corrected(theirs, theirs_first, {"3": ["D", "X", "2"]})))
    own = ours.drop("c.csv", PLAIN.save(_corrected(ours, ours_first, {"3": ["B", "X", "2"]})))

    assert (crossed.code, own.status) == (Code.NOTHING_TO_CORRECT, Status.LOADED)
    assert _names(ours) == ["A", "B"]


def test_rejected_rows_of_an_earlier_version_are_refused() -> None:
    """Their import is a bare number, which proves nothing. The message says so."""
    world = World()
    first = world.drop("a.csv", b"name,country,age\nA,X,1\nB,X,b\n")
    rows = _corrected(world, first, {"3": ["B", "X", "2"]})
    rows[1][rows[0].index(IMPORT)] = "1"

    receipt = world.drop("b.csv", PLAIN.save(rows))

    assert (receipt.status, receipt.code) == (Status.REFUSED, Code.NOTHING_TO_CORRECT)
    assert "earlier version" in (receipt.message or "")


@pytest.mark.parametrize("lost", [1, 2, 3, 4])
def test_rows_without_their_last_cells_are_registered_once(lost: int) -> None:
    """Spreadsheets leave out empty cells. A second round, and a file that is saved correctly, change nothing."""
    world = World()
    bad = "".join(f"P{number},X,x\n" for number in range(6))
    first = world.drop("a.csv", f"name,country,age\nA,X,1\n{bad}".encode())
    rows = _corrected(world, first, {str(line): [f"P{line - 3}", "X", "5"] for line in range(3, 9)})
    properly = PLAIN.save(rows)
    # Rollcall's columns in the order of earlier versions, with the one that is nearly always empty at the end.
    order = [*range(AGE + 1), *(rows[0].index(label) for label in (LINE, REASON, IMPORT, RECORD))]
    cut = [[row[place] for place in order] for row in rows]
    receipt = world.drop("b.csv", PLAIN.save([*cut[:4], *(row[:-lost] for row in cut[4:])]))
    assert (receipt.status is Status.LOADED) == (lost == 1)

    if receipt.rejected_rows:
        lines = {str(line): [f"P{line - 3}", "X", "5"] for line in range(1, 9)}
        world.drop("c.csv", PLAIN.save(_corrected(world, receipt, lines)))
    world.drop("d.csv", properly)

    assert _names(world) == ["A", *(f"P{number}" for number in range(6))]


def test_a_last_row_without_a_line_end_is_not_completed() -> None:
    """The row may be cut off."""
    receipt = World().drop("a.csv", b"name,country,age,note\nA,X,1\nB,X,2")

    assert (receipt.counts.registered, receipt.source.last_line_ended) == (1, False)
    assert [total.code for total in receipt.totals] == [Code.MISSING_CELL]


@pytest.mark.parametrize("broken", ['"B"b,X,2', "B,X,2,3", "B"])
def test_a_row_that_is_damaged_while_corrected_keeps_its_origin(broken: str) -> None:
    """If its text still contains the origin exactly once."""
    world = World()
    first = world.drop("a.csv", b"name,country,age\nA,X,1\nB,X,b\nC,X,c\n")
    rows = _corrected(world, first, {"4": ["C", "X", "3"]})
    saved = PLAIN.save(rows).decode().replace("B,X,b", broken)
    second = world.drop("b.csv", saved.encode())

    third = world.drop("c.csv", PLAIN.save(_corrected(world, second, {"3": ["B", "X", "2"]})))
    rows[1][: AGE + 1] = [*MORE.values(), "B", "X", "2"]
    world.drop("d.csv", PLAIN.save(rows))

    assert (second.counts.registered, second.counts.rejected, third.status) == (1, 1, Status.LOADED)
    assert _names(world) == ["A", "B", "C"]


def test_cut_raw_text_stays_unchanged_through_rounds() -> None:
    """An uncorrected row keeps its cells and its raw text; nothing is nested."""
    world = World()
    others = "".join(f"P{number},X,x,\n" for number in range(3))
    receipt = world.drop("a.csv", f'name,country,age,note\nA,X,1,\n"B"b,X,2,{"n" * 70_000}\n{others}'.encode())
    csv.field_size_limit(2**20)
    [labels, left, *_] = opened(world.rejected_rows(receipt))
    for round_ in range(2):
        rows = opened(world.rejected_rows(receipt))
        rows[-1][AGE] = "5"
        receipt = world.drop(f"{round_}.csv", PLAIN.save(rows))

        now = opened(world.rejected_rows(receipt))[1]
        assert [now[place] for place, label in enumerate(labels) if label != REASON] == [
            left[place] for place, label in enumerate(labels) if label != REASON
        ]
    assert _names(world) == ["A", "P1", "P2"]


@pytest.mark.parametrize(
    "header",
    [
        f'name,country,age,"{"n" * 65_000}""{"n" * 520}"',
        "name,country,age" + f",{'n' * 60_000}" * 17 + "," + "n" * 20_000,
        "name,country,age" + ",n" * 1_001,
    ],
    ids=["a long label with a quote", "nearly a record's length", "too many columns"],
)
def test_a_header_too_large_to_write_is_reduced_to_the_fields(header: str) -> None:
    """The rows can still be corrected under these columns."""
    world = World()
    more = "," * header.count(",n")
    first = world.drop("a.csv", f"{header}\nA,X,1{more}\nB,X,b{more}\n".encode())
    csv.field_size_limit(2**20)
    rows = _corrected(world, first, {"3": ["B", "X", "2"]})

    second = world.drop("b.csv", PLAIN.save(rows))

    assert rows[0] == [*MORE, "name", "country", "age", *OWN_LABELS]
    assert second.status is Status.LOADED


@pytest.mark.parametrize("delimiter", "=+-@'")
def test_rows_under_an_unsafe_delimiter_are_written_with_commas(delimiter: str) -> None:
    world = World()
    text = f"sep={delimiter}\nname,country,age\nA,X,1\nB,X,b\n".replace(",", delimiter)
    first = world.drop("a.csv", text.encode())
    assert world.rejected_rows(first).startswith(f"\ufeff{','.join([*MORE, 'name,country,age,'])}".encode())

    second = world.drop("b.csv", PLAIN.save(_corrected(world, first, {"4": ["B", "X", "2"]})))

    assert second.status is Status.LOADED


def test_rows_without_the_columns_that_identify_them_are_refused() -> None:
    """As a plain list they would be registered under a new identity, and a second time from the whole file."""
    world = World()
    first = world.drop("a.csv", b"name,country,age\nA,X,1\nB,X,b\n")
    rows = _corrected(world, first, {"3": ["B", "X", "2"]})
    kept = [place for place, label in enumerate(rows[0]) if label not in {LINE, IMPORT}]

    trimmed = world.drop("b.csv", PLAIN.save([[row[place] for place in kept] for row in rows]))

    assert (trimmed.status, trimmed.code) == (Status.REFUSED, Code.MISSING_LABEL)
    assert _names(world) == ["A"]


def test_an_older_version_of_corrected_rows_does_not_overwrite() -> None:
    """Under update, the order of versions counts for corrected rows, too."""
    world = World(policy=Policy(unique_by=("name",), on_duplicate=OnDuplicate.UPDATE))
    first = world.drop("a.csv", b"name,country,age\nA,X,1\nB,X,b\n")
    older = _corrected(world, first, {"3": ["B", "X", "2"]})
    world.uploads.put("b.csv", io.BytesIO(PLAIN.save(older)))
    old = next(world.uploads.list("b.csv")).reference
    world.uploads._now = lambda: NOON + timedelta(hours=1)  # noqa: SLF001 - the clock of the store
    world.drop("b.csv", b"name,country,age\nB,X,7\n")

    receipt = world.import_upload(old)

    assert (receipt.status, receipt.code) == (Status.SKIPPED, Code.SUPERSEDED)
    assert {user.name: user.age for user in world.users()}["B"] == 7


@pytest.mark.parametrize("limit", range(2_000, 60_000, 4_000))
def test_corrected_rows_without_room_are_refused_without_origins(limit: int) -> None:
    """Their good rows would be forgotten if the bad ones could be corrected alone; the counts always add up."""
    world = World()
    rows = "".join(f"P{number},X,x\n" for number in range(300))
    first = world.drop("a.csv", f"name,country,age\nA,X,1\n{rows}".encode())
    saved = _corrected(world, first, {"3": ["P0", "X", "5"], "4": ["P1", "X", "5"]})

    receipt = attrs.evolve(world, max_rejected_bytes=limit).drop("b.csv", PLAIN.save(saved))

    if receipt.status is Status.REFUSED:
        again = opened(world.rejected_rows(receipt))
        assert all(row[again[0].index(IMPORT)].startswith("i0-") for row in again[1:])
        assert _names(world) == ["A"]
