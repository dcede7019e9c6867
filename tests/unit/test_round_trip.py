"""Rejected rows that are corrected and uploaded again give the same users as a corrected original."""

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.adapters.memory import MemoryUserRepository
from rollcall.application import import_users
from rollcall.application.errors import UndoRefusedError
from rollcall.application.header import IMPORT, LINE, OWN_LABELS, REASON, RECORD
from rollcall.application.screening import screen
from rollcall.application.spreadsheets import safe_text
from rollcall.domain.policy import OnDuplicate, Policy, Tolerance
from rollcall.domain.receipt import Receipt, Status
from rollcall.domain.rejection import Code
from rollcall.domain.upload import ObjectReference
from support.builders import MORE
from support.fakes import Desk

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
LABELS = ("name", "note", "age", "country")
# The place of the age in a file that begins with name, country and age.
AGE = len(MORE) + 2

Row = tuple[str, ...]


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


def with_stale_rows(desk: Desk, data: bytes, how: str) -> tuple[Receipt, list[bytes]]:
    """Import a list, possibly after another verdict on it.

    Returns:
        The receipt of the current verdict, and the rejected rows of the replaced one.
    """
    if how == "at once":
        return desk.upload(data), []
    if how == "undone and imported again":
        first = desk.upload(data)
        if first.status.registers:
            desk.users.undo(first.import_id or 0, NOON)
    else:
        encoding = "latin-1" if how == "in another encoding" else "utf-8"
        first = desk.upload(data, policy=STRICT, encodings=(encoding,))
    stale = [desk.rejected_rows(first)] if first.rejected_rows else []
    return desk.load(ObjectReference(key="users.csv"), again=True), stale


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
    desk, whole = Desk(), Desk()
    other = Desk(users=MemoryUserRepository(patience=0))
    people = {line: good for line, (good, _) in enumerate(file, 2)}
    upload = PLAIN.save([list(LABELS), *(list(bad or good) for good, bad in file)])
    whole.upload(PLAIN.save([list(LABELS), *(list(good) for good, _ in file)]), "whole.csv")

    receipt, stale = with_stale_rows(desk, upload, how)
    if receipt.status is not Status.PARTIALLY_LOADED:
        return
    stale.append(other.rejected_rows(other.upload(upload)))
    pending = [desk.rejected_rows(receipt)]
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
        found = desk.upload(saved, f"round-{number}.csv")
        if found.status is Status.PARTIALLY_LOADED:
            pending.append(desk.rejected_rows(found))
            named = rejected.keys() & TOKEN.findall(decoded(saved))
            header, *rows = opened(pending[-1])
            left = rejected.keys() & {row[header.index(IMPORT)] for row in rows}
            assert len(left) == len(named) - found.counts.registered, "a row lost its origin"
    header, *rows = opened(pending[0])
    for row in rows:
        correct(row, header, rejected[row[header.index(IMPORT)]])
    for number in range(2):
        last = desk.upload(choose.draw(spreadsheets).save([header, *rows]), f"last-{number}.csv")

    assert last.status in {Status.SKIPPED, Status.REFUSED}
    assert Counter(desk.users.users()) == Counter(whole.users.users())


LIST = b"name,country,age\nA,X,1\nB,X,b\nC,X,c\n"


def corrected(desk: Desk, receipt: Receipt, cells: Mapping[int, str]) -> list[list[str]]:
    """Open the rejected rows of an import, and replace name, country and age of some lines."""
    rows = opened(desk.rejected_rows(receipt))
    for row in rows[1:]:
        if replacement := cells.get(int(row[rows[0].index(LINE)])):
            row[: AGE + 1] = [*MORE.values(), *replacement.split(",")]
    return rows


def ages(desk: Desk) -> list[str | int]:
    """Return the ages of the users, sorted."""
    return sorted(age for *_, age in desk.rows())


@pytest.mark.parametrize("removed", [set(), {REASON, RECORD}], ids=["whole", "without reason and record"])
def test_corrected_rows_are_loaded_as_a_correction(removed: set[str]) -> None:
    """Rollcall's columns are neither fields nor ignored columns, and two of them are only for reading."""
    desk = Desk()
    first = desk.upload(b"id;name;country;age\n7;A;X;1\n8;B;X;b\n")
    rows = opened(desk.rejected_rows(first).replace(b";b", b";2"))
    kept = [place for place, label in enumerate(rows[0]) if label not in removed]

    second = desk.upload(PLAIN.save([[row[place] for place in kept] for row in rows]))

    assert (second.status, second.corrects, second.source.ignored_columns) == (
        Status.LOADED,
        first.import_id,
        ("id",),
    )
    assert Counter(desk.rows()) == Counter([("A", "X", 1), ("B", "X", 2)])


def test_an_uncorrected_row_is_rejected_again_and_never_blank() -> None:
    """A row that could not be split has empty cells, and is still no blank row."""
    desk = Desk()
    first = desk.upload(LIST.replace(b"B,X,b", b'"B"b,X,2'))

    rows = corrected(desk, first, {4: "C,X,3"})
    second = desk.upload(PLAIN.save(rows))

    assert (second.counts.read, second.counts.registered, second.counts.rejected) == (2, 1, 1)
    again = opened(desk.rejected_rows(second))
    places = [(rows[0].index(label), again[0].index(label)) for label in (RECORD, LINE, IMPORT)]
    assert rows[1][places[0][0]].endswith('"B"b,X,2')
    assert [rows[1][place] for place, _ in places] == [again[1][place] for _, place in places]


def test_a_second_correction_of_a_line_is_rejected() -> None:
    """A row that is corrected twice in different ways is registered once."""
    desk = Desk()
    first = desk.upload(LIST)
    desk.upload(PLAIN.save(corrected(desk, first, {3: "B,X,2"})))

    third = desk.upload(PLAIN.save(corrected(desk, first, {3: "B,X,22", 4: "C,X,3"})))

    assert [(total.code, total.first_line) for total in third.totals] == [(Code.ALREADY_CORRECTED, 2)]
    assert ages(desk) == [1, 2, 3]


def test_rejected_rows_of_a_refused_upload_are_refused() -> None:
    """With the advice to correct the original, whose good rows are not registered either."""
    desk = Desk()
    refused = desk.upload(LIST, policy=STRICT)

    second = desk.upload(PLAIN.save(corrected(desk, refused, {3: "B,X,2"})), "b.csv")

    assert (second.status, second.code) == (Status.REFUSED, Code.NOTHING_TO_CORRECT)
    assert "correct the original file" in (second.message or "")


@pytest.mark.parametrize(
    ("rows", "times"), [("x\n", 1), ("{known}\n{known}\n", 2)], ids=["nothing known", "origins known"]
)
def test_corrected_rows_are_judged_again_only_if_needed(rows: str, times: int) -> None:
    """The rejected-rows file of a refusal contains no origins, so it is written again only if it had some."""
    desk = Desk()
    header, known, _ = desk.rejected_rows(desk.upload(LIST)).decode("utf-8-sig").splitlines()

    with patch.object(import_users, "screen", wraps=screen) as judged:
        refused = desk.upload(f"{header}\n{rows.format(known=known)}".encode(), "b.csv")

    assert (refused.status, refused.code) == (Status.REFUSED, Code.TOO_MANY_REJECTIONS)
    assert {row[-1][:3] for row in opened(desk.rejected_rows(refused))[1:]} == {"i0-"}
    assert judged.call_count == times


def test_a_row_in_the_files_of_two_verdicts_is_registered_once() -> None:
    """The file of a refused correction corrects nothing, also among other rows."""
    desk = Desk()
    rows = corrected(desk, desk.upload(LIST), {3: "B,X,2"})
    refused = desk.upload(PLAIN.save(rows), "b.csv", STRICT)
    [_, left] = opened(desk.rejected_rows(refused))
    left[AGE] = "3"

    together = desk.upload(PLAIN.save([*rows[:2], left]), "c.csv")
    later = desk.upload(PLAIN.save([rows[0], left]), "d.csv")

    assert [(total.code, total.first_line) for total in together.totals] == [(Code.NOTHING_TO_CORRECT, 3)]
    assert (later.status, later.code) == (Status.REFUSED, Code.NOTHING_TO_CORRECT)
    assert ages(desk) == [1, 2]


@pytest.mark.parametrize("label", [LINE, IMPORT])
def test_a_row_without_its_origin_is_not_registered_again(label: str) -> None:
    """Rollcall must not fill in the origin, because the row may already be registered."""
    desk = Desk()
    rows = corrected(desk, desk.upload(LIST + b"D,X,d\n"), {3: "B,X,2", 4: "C,X,3"})
    desk.upload(PLAIN.save(rows), "b.csv")
    rows[1][rows[0].index(label)], rows[2][AGE], rows[3][AGE] = "", "c", "4"

    third = desk.upload(PLAIN.save(rows), "c.csv")
    desk.upload(desk.rejected_rows(third), "d.csv")

    assert (Code.BLANK_CELL, label) in [(total.code, total.column) for total in third.totals]
    assert ages(desk) == [1, 2, 3, 4]


@pytest.mark.parametrize("removed", [{LINE}, {IMPORT}, {LINE, IMPORT}], ids=["no line", "no import", "neither"])
def test_rows_without_the_columns_that_identify_them_are_refused(removed: set[str]) -> None:
    """As a plain list they would be registered under a new identity, and a second time from the whole file."""
    desk = Desk()
    rows = corrected(desk, desk.upload(LIST), {3: "B,X,2"})
    kept = [place for place, label in enumerate(rows[0]) if label not in removed]

    trimmed = desk.upload(PLAIN.save([[row[place] for place in kept] for row in rows]), "b.csv")

    assert (trimmed.status, trimmed.code) == (Status.REFUSED, Code.MISSING_LABEL)
    assert ages(desk) == [1]


def test_an_undone_correction_can_be_made_again() -> None:
    """Until it is undone, the corrected import cannot be undone."""
    desk = Desk()
    first = desk.upload(LIST, "a.csv")
    second = desk.upload(PLAIN.save(corrected(desk, first, {3: "B,X,2"})), "b.csv")

    with pytest.raises(UndoRefusedError, match="corrects it"):
        desk.users.undo(first.import_id or 0, NOON)
    desk.users.undo(second.import_id or 0, NOON)
    desk.upload(PLAIN.save(corrected(desk, first, {3: "B,X,3"})), "c.csv")

    assert ages(desk) == [1, 3]


EXISTING, WITHIN = b"name,country,age\nA,X,1\nB,X,2\n", b"name,country,age\n"


@pytest.mark.parametrize(
    ("on_duplicate", "before", "rows", "counts", "left"),
    [
        (OnDuplicate.SKIP, WITHIN, "A,X,1 A,X,2 B,X,3 B,Y,4", (2, 0, 2, 0), [1, 3]),
        (OnDuplicate.UPDATE, WITHIN, "A,X,1 A,X,2 B,X,3 B,Y,4", (2, 0, 2, 0), [2, 4]),
        (OnDuplicate.REJECT, WITHIN, "A,X,1 A,X,2 B,X,3 B,Y,4", (2, 0, 0, 2), [1, 3]),
        (OnDuplicate.SKIP, EXISTING, "A,X,5 B,X,2 C,X,9", (1, 0, 2, 0), [1, 2, 9]),
        (OnDuplicate.UPDATE, EXISTING, "A,X,5 B,X,2 C,X,9", (1, 1, 1, 0), [2, 5, 9]),
        (OnDuplicate.REJECT, EXISTING, "A,X,5 B,X,2 C,X,9", (1, 0, 0, 2), [1, 2, 9]),
    ],
)
def test_duplicates_follow_the_policy(
    on_duplicate: OnDuplicate, before: bytes, rows: str, counts: tuple[int, ...], left: list[int]
) -> None:
    """With `update`, the last row of a file wins, and a row that equals its user changes nothing."""
    desk = Desk(policy=Policy(unique_by=("name",), on_duplicate=on_duplicate))
    desk.upload(before, "a.csv")

    said = desk.upload(f"name,country,age\n{rows}\n".replace(" ", "\n").encode(), "b.csv").counts

    assert (said.registered, said.updated, said.unchanged, said.rejected) == counts
    assert ages(desk) == left


def test_a_rejected_duplicate_is_in_the_rejected_rows_in_order() -> None:
    """With its own cells."""
    desk = Desk(policy=Policy(unique_by=("name",), on_duplicate=OnDuplicate.REJECT))

    receipt = desk.upload(b"name,country,age\nA,X,1\nA,X,2\nB,X,b\nA,Y,3\n", "a.csv")
    rows = opened(desk.rejected_rows(receipt))

    assert [row[rows[0].index(LINE)] for row in rows[1:]] == ["3", "4", "5"]
    assert rows[1][: AGE + 1] == [*MORE.values(), "A", "X", "2"]
    assert [rejection.line for rejection in receipt.rejections] == [3, 4, 5]


def test_all_labels_of_rollcall_have_one_prefix() -> None:
    """So no column of an uploader is taken for one."""
    assert all(label.startswith("rollcall_") for label in OWN_LABELS)


def test_a_label_that_no_database_stores_is_shown_escaped() -> None:
    """Python's text may contain NUL, PostgreSQL's JSON may not."""
    receipt = Desk().upload(b"name,country,age,no\0te\nA,X,1,\n", "a.csv")

    assert receipt.source.ignored_columns == (r"no\x00te",)


@pytest.mark.parametrize("label", ["\tname", "\rname", " \tNAME"])
def test_a_label_that_was_made_safe_is_understood(label: str) -> None:
    """A spreadsheet may run a label that starts with a tab or CR."""
    desk = Desk()
    first = desk.upload(
        PLAIN.save([[label, "country", "age", "=id"], ["B", "X", "b", ""], ["A", "X", "1", ""]]), "a.csv"
    )

    rows = opened(desk.rejected_rows(first))
    rows[1][AGE] = "2"

    second = desk.upload(PLAIN.save(rows), "b.csv")

    assert (second.status, second.source.ignored_columns) == (Status.LOADED, ("=id",))


def test_the_first_origin_in_a_file_decides_what_it_corrects() -> None:
    """Also if that row is bad, and in any batches."""
    desk = Desk()
    desk.upload(LIST, "a.csv")

    receipt = desk.upload(b"name,country,age,rollcall_line,rollcall_import\nB,X,b,3,9\nC,X,3,4,1\n", "b.csv")

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
    desk = Desk()
    first = desk.upload(f"name,country,age,note\nA,X,1,\n{record}\nC,X,c,\n".encode(), "a.csv")
    csv.field_size_limit(2**20)
    rows = opened(desk.rejected_rows(first))
    rows[1][: AGE + 1], rows[2][AGE] = [*MORE.values(), "B", "Y", "2"], "3"

    second = desk.upload(PLAIN.save(rows), "b.csv")

    assert (second.status, second.corrects) == (Status.LOADED, first.import_id)
    assert ages(desk) == [1, 2, 3]


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

    first = desk.upload(whole.encode(encodings[1]), encodings=encodings)
    data = re.sub(rb"([,|])X\1b\1", rb"\1X\g<1>2\1", desk.rejected_rows(first))
    desk.upload(data, "corrected.csv", encodings=encodings)

    assert desk.rows() == users


def test_rejected_rows_of_an_earlier_version_are_refused() -> None:
    """Their import is a bare number, which proves nothing. The message says so."""
    desk = Desk()
    rows = corrected(desk, desk.upload(LIST, "a.csv"), {3: "B,X,2", 4: "C,X,3"})
    for row in rows[1:]:
        row[rows[0].index(IMPORT)] = "1"

    receipt = desk.upload(PLAIN.save(rows), "b.csv")

    assert (receipt.status, receipt.code) == (Status.REFUSED, Code.NOTHING_TO_CORRECT)
    assert "earlier version" in (receipt.message or "")
    assert ages(desk) == [1]


@pytest.mark.parametrize("lost", [1, 4])
def test_rows_without_their_last_cells_are_registered_once(lost: int) -> None:
    """Spreadsheets leave out empty cells; earlier versions put the column that is nearly always empty last."""
    desk = Desk()
    bad = "".join(f"P{number},X,x\n" for number in range(6))
    first = desk.upload(f"name,country,age\nA,X,1\n{bad}".encode(), "a.csv")
    rows = corrected(desk, first, {line: f"P{line - 3},X,5" for line in range(3, 9)})
    order = [*range(AGE + 1), *(rows[0].index(label) for label in (LINE, REASON, IMPORT, RECORD))]
    cut = [[row[place] for place in order] for row in rows]

    receipt = desk.upload(PLAIN.save([*cut[:4], *(row[:-lost] for row in cut[4:])]), "b.csv")
    desk.upload(PLAIN.save(rows), "c.csv")

    assert (receipt.status is Status.LOADED) == (lost == 1)
    assert desk.rows() == [("A", "X", 1), *((f"P{number}", "X", 5) for number in range(6))]


def test_a_last_row_without_a_line_end_is_not_completed() -> None:
    """The row may be cut off."""
    receipt = Desk().upload(b"name,country,age,note\nA,X,1\nB,X,2")

    assert (receipt.counts.registered, receipt.source.last_line_ended) == (1, False)
    assert [total.code for total in receipt.totals] == [Code.MISSING_CELL]


@pytest.mark.parametrize("broken", ['"B"b,X,2', "B,X,2,3", "B"])
def test_a_row_that_is_damaged_while_corrected_keeps_its_origin(broken: str) -> None:
    """If its text still contains the origin exactly once."""
    desk = Desk()
    first = desk.upload(LIST, "a.csv")
    saved = PLAIN.save(corrected(desk, first, {4: "C,X,3"})).decode().replace("B,X,b", broken)
    second = desk.upload(saved.encode(), "b.csv")

    third = desk.upload(PLAIN.save(corrected(desk, second, {3: "B,X,2"})), "c.csv")
    desk.upload(PLAIN.save(corrected(desk, first, {3: "B,X,2", 4: "C,X,3"})), "d.csv")

    assert (second.counts.registered, second.counts.rejected, third.status) == (1, 1, Status.LOADED)
    assert ages(desk) == [1, 2, 3]


def test_cut_raw_text_stays_unchanged_through_rounds() -> None:
    """An uncorrected row keeps its cells and its raw text; nothing is nested."""
    desk = Desk()
    others = "".join(f"P{number},X,x,\n" for number in range(3))
    receipt = desk.upload(f'name,country,age,note\nA,X,1,\n"B"b,X,2,{"n" * 70_000}\n{others}'.encode(), "a.csv")
    csv.field_size_limit(2**20)
    [labels, left, *_] = opened(desk.rejected_rows(receipt))
    for round_ in range(2):
        rows = opened(desk.rejected_rows(receipt))
        rows[-1][AGE] = "5"
        receipt = desk.upload(PLAIN.save(rows), f"{round_}.csv")

        now = opened(desk.rejected_rows(receipt))[1]
        assert [now[place] for place, label in enumerate(labels) if label != REASON] == [
            left[place] for place, label in enumerate(labels) if label != REASON
        ]
    assert ages(desk) == [1, 5, 5]


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
    desk = Desk()
    more = "," * header.count(",n")
    first = desk.upload(f"{header}\nA,X,1{more}\nB,X,b{more}\n".encode(), "a.csv")
    csv.field_size_limit(2**20)
    rows = corrected(desk, first, {3: "B,X,2"})

    second = desk.upload(PLAIN.save(rows), "b.csv")

    assert rows[0] == [*MORE, "name", "country", "age", *OWN_LABELS]
    assert second.status is Status.LOADED


@pytest.mark.parametrize("delimiter", "=+-@'")
def test_rows_under_an_unsafe_delimiter_are_written_with_commas(delimiter: str) -> None:
    desk = Desk()
    text = f"sep={delimiter}\nname,country,age\nA,X,1\nB,X,b\n".replace(",", delimiter)
    first = desk.upload(text.encode(), "a.csv")
    assert desk.rejected_rows(first).startswith(f"\ufeff{','.join([*MORE, 'name,country,age,'])}".encode())

    second = desk.upload(PLAIN.save(corrected(desk, first, {4: "B,X,2"})), "b.csv")

    assert second.status is Status.LOADED


def test_an_older_version_of_corrected_rows_does_not_overwrite() -> None:
    """Under update, the order of versions counts for corrected rows, too."""
    desk = Desk(policy=Policy(unique_by=("name",), on_duplicate=OnDuplicate.UPDATE))
    first = desk.upload(b"name,country,age\nA,X,1\nB,X,b\n", "a.csv")
    old = desk.drop(PLAIN.save(corrected(desk, first, {3: "B,X,2"})), "b.csv")
    desk.upload(b"name,country,age\nB,X,7\n", "b.csv")

    receipt = desk.load(old)

    assert (receipt.status, receipt.code) == (Status.SKIPPED, Code.SUPERSEDED)
    assert ages(desk) == [1, 7]


@pytest.mark.parametrize("limit", range(2_000, 60_000, 4_000))
def test_corrected_rows_without_room_are_refused_without_origins(limit: int) -> None:
    """Their good rows would be forgotten if the bad ones could be corrected alone; the counts always add up."""
    desk = Desk()
    rows = "".join(f"P{number},X,x\n" for number in range(300))
    first = desk.upload(f"name,country,age\nA,X,1\n{rows}".encode(), "a.csv")
    saved = corrected(desk, first, {3: "P0,X,5", 4: "P1,X,5"})

    receipt = desk.upload(PLAIN.save(saved), "b.csv", max_rejected_bytes=limit)

    if receipt.status is Status.REFUSED:
        again = opened(desk.rejected_rows(receipt))
        assert all(row[again[0].index(IMPORT)].startswith("i0-") for row in again[1:])
        assert ages(desk) == [1]
