"""The receipt of an import, and its JSON."""

import json
from collections import Counter
from datetime import UTC, datetime

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.application.receipts import from_dict, to_dict, to_json
from rollcall.domain.receipt import (
    REJECTIONS_SHOWN,
    ConservationError,
    Counts,
    FaultTotal,
    Receipt,
    Status,
    Tally,
)
from rollcall.domain.rejection import Code, Fault, Rejection
from rollcall.domain.upload import Upload
from support.receipts import a_receipt, receipts, rejections

UPLOAD = Upload(bucket="b", key="k", version="1", size=1, last_modified=datetime(2026, 1, 1, tzinfo=UTC))
FATES = ("registered", "updated", "unchanged", "rejected", "withheld")


def _receipt(registered: int) -> Receipt:
    return attrs.evolve(a_receipt(UPLOAD, 1, Counts(read=registered, registered=registered)), seconds=2.0)


@given(fates=st.fixed_dictionaries({fate: st.integers(0, 5) for fate in FATES}), read=st.integers(0, 25))
def test_counts_that_do_not_balance_cannot_be_built(fates: dict[str, int], read: int) -> None:
    """Each row read is registered, updated, unchanged, rejected or withheld."""
    accounted = sum(fates.values())
    if read == accounted:
        assert Counts(read=read, **fates).read == accounted
    else:
        with pytest.raises(ConservationError, match=f"{read} rows were read but {accounted} are accounted for"):
            Counts(read=read, **fates)


def test_blank_rows_do_not_count_as_read() -> None:
    """They are counted separately, and are not rows read."""
    assert Counts(read=1, registered=1, blank=9).blank == 9


@given(refused=st.lists(rejections, max_size=200).map(lambda found: sorted(found, key=lambda each: each.line)))
def test_a_tally_has_exact_totals_and_the_first_rejections(refused: list[Rejection]) -> None:
    """Totals count all rows by code and column; only the rejections that a receipt shows are kept."""
    tally = Tally(read=len(refused))
    for rejection in refused:
        tally.reject(rejection)
    found = [(fault.code, fault.column, each.line) for each in refused for fault in each.faults]
    expected = Counter((code, column) for code, column, _ in found)
    first_lines = {(code, column): line for code, column, line in reversed(found)}

    assert tally.rejected == len(refused)
    assert tally.good == 0
    assert tally.rejections == refused[:REJECTIONS_SHOWN]
    assert {(total.code, total.column): total.count for total in tally.totals} == expected
    assert {(total.code, total.column): total.first_line for total in tally.totals} == first_lines
    assert [total.count for total in tally.totals] == sorted(expected.values(), reverse=True)


def test_a_tally_stays_small_with_many_rejected_rows() -> None:
    """It holds the rejections that a receipt shows, and one total for each kind."""
    tally = Tally(read=5000)
    for line in range(5000):
        tally.reject(Rejection(line + 2, line + 2, (Fault(Code.TYPE_ERROR, "age is bad", "age"),)))

    assert len(tally.rejections) == REJECTIONS_SHOWN == 100
    assert tally.totals == (FaultTotal(Code.TYPE_ERROR, "age", 5000, 2),)


def test_the_headline_names_the_most_frequent_fault() -> None:
    """Of equally frequent faults, the first."""
    tally = Tally(read=1)
    tally.reject(Rejection(7, 7, (Fault(Code.MISSING_CELL, "the row has too few"),)))

    assert tally.headline() == "1 of 1 row rejected: the row has too few cells, e.g. line 7"

    tally.read = 1234
    tally.reject(Rejection(9, 9, (Fault(Code.TYPE_ERROR, "age is bad", "age"),)))

    assert tally.headline() == "2 of 1,234 rows rejected: the row has too few cells, e.g. line 7"

    tally.reject(Rejection(12, 12, (Fault(Code.TYPE_ERROR, "age is bad", "age"),)))

    assert tally.headline() == "3 of 1,234 rows rejected: age is of the wrong kind, e.g. line 9"


@given(receipt=receipts)
def test_a_receipt_survives_json(receipt: Receipt) -> None:
    """With all its parts, including the first receipt of a redelivery."""
    assert from_dict(json.loads(to_json(receipt))) == receipt


@given(receipt=receipts)
def test_json_is_one_line_of_ascii(receipt: Receipt) -> None:
    """No key or cell can break the line, the screen or the encoding."""
    text = to_json(receipt)

    assert text.isascii()
    assert text.isprintable()


def test_a_receipt_shows_its_speed() -> None:
    """In rows read a second; 0 if no time passed."""
    receipt = _receipt(9)

    assert receipt.rows_per_second == 4
    assert to_dict(receipt)["rows_per_second"] == 4
    assert attrs.evolve(receipt, seconds=0.0).rows_per_second == 0


def test_a_redelivery_carries_the_whole_first_receipt() -> None:
    """So every delivery returns the same receipt."""
    first = _receipt(2)
    again = attrs.evolve(a_receipt(UPLOAD, 1, status=Status.SKIPPED), code=Code.REDELIVERY, first_receipt=first)

    assert to_dict(again)["first_receipt"] == to_dict(first)
    assert from_dict(to_dict(again)).first_receipt == first


@pytest.mark.parametrize("code", Code)
def test_a_code_is_found_by_its_text(code: Code) -> None:
    """Its sentence can follow a label."""
    assert Code(str(code)) is code
    assert str(code) == code.value
    assert code.says


def test_only_loaded_and_partially_loaded_register_users() -> None:
    assert {status for status in Status if status.registers} == {Status.LOADED, Status.PARTIALLY_LOADED}
