"""A check gives the verdict of an import into an empty table, and stores nothing."""

import io
import json
import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.adapters.dry_run import DryRunUserRepository, NoReports
from rollcall.application.errors import RepositoryUnavailableError
from rollcall.application.receipts import to_json
from rollcall.application.rejected_rows import token_of
from rollcall.application.reports import Reports
from rollcall.domain.correction import NO_VERDICT, Verdict
from rollcall.domain.policy import OnDuplicate, Policy, Tolerance
from rollcall.domain.receipt import Receipt, Status
from rollcall.domain.rejection import Code
from rollcall.domain.upload import ObjectReference
from rollcall.domain.user import USERS
from support.fakes import Clock, Desk
from support.receipts import CheckedImport
from support.strategies import csv_uploads

policies = st.builds(
    Policy,
    max_rejected=st.sampled_from(["all", "all", "2", "60%"]).map(Tolerance),
    unique_by=st.sets(st.sampled_from(USERS.columns)).map(
        lambda named: tuple(c for c in USERS.columns if c in named)
    ),
    on_duplicate=st.sampled_from(OnDuplicate),
)
cells = st.tuples(
    st.sampled_from(["A", "B", "A,B", 'A "B"', "山田", " A", "=A", ""]),
    st.sampled_from(["X", "Y"]),
    st.sampled_from(["1", "01", "2", "x"]),
)


def _csv(rows: Sequence[tuple[str, ...]]) -> bytes:
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    return "\n".join(["name,country,age", *quoted, ""]).encode()


files = st.one_of(
    st.lists(cells, max_size=8).map(_csv),
    st.lists(st.sampled_from(["A,X,1", "B,X,2", "A,Y,1", "", "A,X"]), max_size=8).map(
        lambda lines: "\n".join(["name,country,age", *lines, ""]).encode()
    ),
    csv_uploads().map(lambda upload: upload.data),
)


def _checked(desk: Desk, reference: ObjectReference, policy: Policy) -> Receipt:
    check = CheckedImport(
        uploads=desk.uploads,
        reports=Reports(store=NoReports()),
        users=DryRunUserRepository(USERS),
        policy=policy,
        now=Clock(),
        spool=io.BytesIO,
    )
    return check(reference)


def _verdict(receipt: Receipt) -> Receipt:
    # A check stores no rejected rows that could be corrected.
    return attrs.evolve(receipt, import_id=None, rejected_rows=None, remedies=())


@given(data=files, policy=policies)
def test_a_check_and_an_import_into_an_empty_table_agree(data: bytes, policy: Policy) -> None:
    """For any file and policy, also with duplicates within the file."""
    desk = Desk()
    reference = desk.drop(data)

    assert _verdict(_checked(desk, reference, policy)) == _verdict(desk.load(reference, policy))


@given(
    bad=st.lists(st.sampled_from(["A,X,x", "B,X,x", "A,Y,x", ",X,1"]), min_size=1, max_size=4),
    mends=st.lists(st.tuples(cells, st.integers(2, 7)), max_size=8),
    policy=policies,
)
def test_corrected_rows_are_checked_as_if_they_can_be_corrected(
    bad: list[str], mends: list[tuple[tuple[str, ...], int]], policy: Policy
) -> None:
    """Only the ledger knows which rows can be corrected; a line corrected twice in one file is always rejected."""
    desk = Desk()
    # This user equals no corrected row, so the import is in force.
    original = "\n".join(["name,country,age", *bad, "Zoë,Ö,99", ""]).encode()
    first = desk.load(desk.drop(original, "original.csv"))
    rejected = Verdict(first.import_id or 0, desk.users.get_import(first.import_id or 0).secret)
    labels = '"name","country","age","rollcall_line","rollcall_import"'
    rows = [
        ",".join(
            '"' + cell.replace('"', '""') + '"' for cell in (*row, str(line), token_of(rejected.origin(line)))
        )
        for row, line in mends
    ]
    reference = desk.drop("\n".join([labels, *rows, ""]).encode(), "mended.csv")

    assert _verdict(_checked(desk, reference, policy)) == _verdict(desk.load(reference, policy))


@pytest.mark.parametrize("data", [b"name,country,age\nA,X,1\nB,X,x\n", b"name\nA\n"])
def test_a_check_has_its_reports_stored_if_there_is_a_store(data: bytes) -> None:
    """Its receipt has no import id."""
    desk = Desk(users=DryRunUserRepository(USERS))

    receipt = desk.load(desk.drop(data))

    [stored] = [json.loads(text) for key, text in desk.stored().items() if key.endswith("/receipt.json")]
    assert stored == json.loads(to_json(receipt))
    assert stored["import_id"] is None


def test_a_check_rejects_rows_that_no_import_could_correct() -> None:
    """This needs no ledger."""
    desk = Desk()
    labels = "name,country,age,rollcall_line,rollcall_import"
    provable, reserved = (token_of(verdict.origin(2)) for verdict in (Verdict(1, b"secret"), NO_VERDICT))
    in_part = _checked(desk, desk.drop(f"{labels}\nA,X,1,2,{reserved}\nB,X,2,2,{provable}\n".encode()), Policy())
    not_at_all = _checked(desk, desk.drop(f"{labels}\nB,X,2,2,{reserved}\nA,X,1,2,1\n".encode()), Policy())

    assert [(one.line, one.faults[0].code) for one in in_part.rejections] == [(2, Code.NOTHING_TO_CORRECT)]
    assert (not_at_all.status, not_at_all.code) == (Status.REFUSED, Code.NOTHING_TO_CORRECT)


@pytest.mark.parametrize(
    ("on_duplicate", "counts"),
    [
        (OnDuplicate.SKIP, (2, 0, 2, 0)),
        (OnDuplicate.UPDATE, (2, 0, 2, 0)),
        (OnDuplicate.REJECT, (2, 0, 0, 2)),
    ],
)
def test_a_check_counts_duplicates_within_a_file(on_duplicate: OnDuplicate, counts: tuple[int, ...]) -> None:
    """Without existing users nothing is updated: an earlier row that a later one overrides is unchanged."""
    desk = Desk()
    reference = desk.drop(b"name,country,age\nA,X,1\nA,X,2\nB,X,3\nB,Y,4\n")

    said = _checked(desk, reference, Policy(unique_by=("name",), on_duplicate=on_duplicate)).counts

    assert counts == (said.registered, said.updated, said.unchanged, said.rejected)


def test_a_check_names_the_duplicates_within_a_file() -> None:
    """So the uploader can remove them before the import."""
    desk = Desk()
    reference = desk.drop(b"name,country,age\nA,X,1\nA,X,2\nB,X,3\nB,Y,4\n")

    receipt = _checked(desk, reference, Policy(unique_by=("name",), on_duplicate=OnDuplicate.REJECT))

    assert receipt.status is Status.PARTIALLY_LOADED
    assert [(one.line, one.faults[0].code) for one in receipt.rejections] == [
        (3, Code.DUPLICATE_ROW),
        (5, Code.DUPLICATE_ROW),
    ]


class _OnASmallDisk(sqlite3.Connection):
    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - sqlite3's own arguments
        super().__init__(*arguments, **options)
        self.execute("pragma max_page_count = 10")


def test_a_check_without_disk_space_for_duplicates_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message shows no row."""
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=_OnASmallDisk))
    desk = Desk()
    rows = "".join(f"Canary {number},X,1\n" for number in range(5000))
    reference = desk.drop(f"name,country,age\n{rows}".encode())

    with pytest.raises(RepositoryUnavailableError, match="temporary file: database or disk is full") as caught:
        _checked(desk, reference, Policy(unique_by=("name",)))

    assert "Canary" not in str(caught.value)
