"""The account of one import, and its form as JSON."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone

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
    Source,
    Status,
    Tally,
)
from rollcall.domain.rejection import Code, Fault, Rejection

FATES = ("registered", "updated", "unchanged", "rejected", "withheld")

texts = st.text(st.characters(exclude_categories=()), max_size=12)
lines = st.integers(1, 10**9)
codes = st.sampled_from(Code)
columns = st.none() | st.sampled_from(["name", "country", "age"])
times = st.datetimes(timezones=st.just(UTC) | st.just(timezone(timedelta(hours=9))))
faults = st.builds(Fault, codes, texts, columns)
rejections = st.builds(
    lambda line, more, found: Rejection(line, line + more, tuple(found)),
    lines,
    st.integers(0, 100),
    st.lists(faults, min_size=1, max_size=3),
)
counts = st.fixed_dictionaries({fate: st.integers(0, 10**12) for fate in (*FATES, "blank")}).map(
    lambda fates: Counts(read=sum(fates[fate] for fate in FATES), **fates)
)
sources = st.builds(
    Source,
    bucket=texts,
    key=texts,
    version=texts,
    size=st.none() | st.integers(0, 10**12),
    last_modified=st.none() | times,
    sha256=st.none() | texts,
    encoding=st.none() | texts,
    delimiter=st.none() | st.sampled_from(",;\t"),
    compression=st.sampled_from([None, "gzip"]),
    ignored_columns=st.lists(texts, max_size=3).map(tuple),
)
receipts = st.recursive(
    st.none(),
    lambda first: st.builds(
        Receipt,
        status=st.sampled_from(Status),
        code=st.none() | codes,
        message=st.none() | texts,
        source=sources,
        policy=st.dictionaries(texts, texts, max_size=3),
        counts=counts,
        totals=st.lists(st.builds(FaultTotal, codes, columns, lines, lines), max_size=3).map(tuple),
        rejections=st.lists(rejections, max_size=3).map(tuple),
        rejected_rows=st.none() | texts,
        started=times,
        seconds=st.timedeltas(timedelta(0)).map(timedelta.total_seconds),
        import_id=st.none() | lines,
        first_receipt=first,
    ),
    max_leaves=2,
).filter(lambda receipt: receipt is not None)


def _receipt(registered: int) -> Receipt:
    return Receipt(
        status=Status.LOADED,
        source=Source(bucket="b", key="k", version="1"),
        policy={},
        counts=Counts(read=registered, registered=registered),
        started=datetime(2026, 1, 1, tzinfo=UTC),
        seconds=2.0,
        import_id=1,
    )


@given(fates=st.fixed_dictionaries({fate: st.integers(0, 5) for fate in FATES}), read=st.integers(0, 25))
def test_counts_balance_or_cannot_be_built(fates: dict[str, int], read: int) -> None:
    """What was read is registered, updated, unchanged, rejected or withheld, and nothing else."""
    accounted = sum(fates.values())
    if read == accounted:
        assert Counts(read=read, **fates).read == accounted
    else:
        with pytest.raises(ConservationError, match=f"{read} rows were read but {accounted} are accounted for"):
            Counts(read=read, **fates)


def test_blank_rows_count_as_nothing() -> None:
    """They are told apart and were not read."""
    assert Counts(read=1, registered=1, blank=9).blank == 9


@given(refused=st.lists(rejections, max_size=200).map(lambda found: sorted(found, key=lambda each: each.line)))
def test_a_tally_is_exact_and_shows_the_first(refused: list[Rejection]) -> None:
    """Totals of all rows by code and column; the rows themselves only as many as a receipt shows."""
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


def test_a_tally_stays_small_however_many_rows_are_bad() -> None:
    """It holds as many rejections as are shown and one total for each kind."""
    tally = Tally(read=5000)
    for line in range(5000):
        tally.reject(Rejection(line + 2, line + 2, (Fault(Code.TYPE_ERROR, "age is bad", "age"),)))

    assert len(tally.rejections) == REJECTIONS_SHOWN == 100
    assert tally.totals == (FaultTotal(Code.TYPE_ERROR, "age", 5000, 2),)


def test_the_headline_names_the_most_frequent_fault_and_an_example() -> None:
    """Of several as frequent, the one that comes first."""
    tally = Tally(read=1234)
    tally.reject(Rejection(7, 7, (Fault(Code.MISSING_CELL, "the row has too few"),)))
    tally.reject(Rejection(9, 9, (Fault(Code.TYPE_ERROR, "age is bad", "age"),)))

    assert tally.headline() == "2 of 1,234 rows refused: the row has too few cells, e.g. line 7"

    tally.reject(Rejection(12, 12, (Fault(Code.TYPE_ERROR, "age is bad", "age"),)))

    assert tally.headline() == "3 of 1,234 rows refused: age is not a whole number, e.g. line 9"


@given(receipt=receipts)
def test_a_receipt_comes_back_from_json_as_it_was(receipt: Receipt) -> None:
    """With all that is inside it, the first receipt of a redelivery included."""
    assert from_dict(json.loads(to_json(receipt))) == receipt


@given(receipt=receipts)
def test_json_is_one_line_of_ascii(receipt: Receipt) -> None:
    """No key and no cell can break the line, the screen, or the encoding."""
    text = to_json(receipt)

    assert text.isascii()
    assert text.isprintable()


def test_a_receipt_shows_its_speed() -> None:
    """Rows read in a second; none where no time passed."""
    receipt = _receipt(9)

    assert receipt.rows_per_second == 4
    assert to_dict(receipt)["rows_per_second"] == 4
    assert attrs.evolve(receipt, seconds=0.0).rows_per_second == 0


def test_a_redelivery_carries_the_first_receipt_whole() -> None:
    """So that whoever asks again gets the same account."""
    first = _receipt(2)
    again = attrs.evolve(_receipt(0), status=Status.SKIPPED, code=Code.REDELIVERY, first_receipt=first)

    assert to_dict(again)["first_receipt"] == to_dict(first)
    assert from_dict(to_dict(again)).first_receipt == first


@pytest.mark.parametrize("code", Code)
def test_a_code_is_found_by_its_text(code: Code) -> None:
    """And says what it means in words that can follow a label."""
    assert Code.of(str(code)) is code
    assert str(code) == code.value
    assert code.says


def test_only_loaded_and_partially_loaded_register_users() -> None:
    """The others leave the table as it was."""
    assert {status for status in Status if status.registers} == {Status.LOADED, Status.PARTIALLY_LOADED}
