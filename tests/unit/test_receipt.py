"""The receipt of an import, and its JSON."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.application.receipts import from_dict, to_dict, to_json
from rollcall.domain.policy import OnDuplicate, OnNewVersion, OnRepeat, Policy, Tolerance
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
from rollcall.domain.upload import Upload
from support.receipts import SCHEMA, a_receipt

UPLOAD = Upload(bucket="b", key="k", version="1", size=1, last_modified=datetime(2026, 1, 1, tzinfo=UTC))
FATES = ("registered", "updated", "unchanged", "rejected", "withheld")

texts = st.text(st.characters(exclude_categories=()), max_size=12)
sentences = st.text(st.characters(exclude_categories=()), min_size=1, max_size=12)
lines = st.integers(1, 10**9)
numbers = st.none() | lines
row_codes = st.sampled_from([Code(code) for code in SCHEMA["$defs"]["row_code"]["enum"]])
refusal_codes = st.sampled_from([Code(code) for code in SCHEMA["$defs"]["refusal_code"]["enum"]])
skip_codes = st.sampled_from([Code(code) for code in SCHEMA["$defs"]["skip_code"]["enum"]])
columns = st.none() | st.sampled_from(["name", "country", "age"])
times = st.datetimes(timezones=st.just(UTC) | st.just(timezone(timedelta(hours=9))))
faults = st.builds(Fault, row_codes, sentences, columns)
rejections = st.builds(
    lambda line, more, found: Rejection(line, line + more, tuple(found)),
    lines,
    st.integers(0, 100),
    st.lists(faults, min_size=1, max_size=3),
)
totals = st.builds(FaultTotal, row_codes, columns, lines, lines)
sources = st.builds(
    Source,
    bucket=texts,
    key=texts,
    version=texts,
    size=st.none() | st.integers(0, 10**12),
    last_modified=st.none() | times,
    sha256=st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex),
    encoding=st.none() | sentences,
    delimiter=st.none() | st.sampled_from(",;\t"),
    compression=st.sampled_from([None, "gzip"]),
    ignored_columns=st.lists(texts, max_size=3).map(tuple),
)
policies = st.builds(
    Policy,
    max_rejected=st.sampled_from(["all", "0", "10", "2.5%"]).map(Tolerance.parse),
    unique_by=st.sampled_from([(), ("name",), ("name", "country")]),
    on_duplicate=st.sampled_from(OnDuplicate),
    on_repeat=st.sampled_from(OnRepeat),
    on_new_version=st.sampled_from(OnNewVersion),
)


def _counts(*fates: str, rejected: int = 0) -> st.SearchStrategy[Counts]:
    """Counts in which only these fates occur, with at least this many rejected rows."""
    least = {fate: rejected if fate == "rejected" else 0 for fate in (*fates, "blank")}
    return st.fixed_dictionaries({fate: st.integers(least[fate], 10**12) for fate in least}).map(
        lambda met: Counts(read=sum(met[fate] for fate in fates), **met)
    )


def _receipts(status: Status, **parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Receipt]:
    return st.builds(
        Receipt,
        status=st.just(status),
        source=sources,
        policy=policies.map(Policy.as_dict),
        started=times,
        seconds=st.timedeltas(timedelta(0)).map(timedelta.total_seconds),
        import_id=numbers,
        corrects=numbers,
        **parts,
    )


loaded = _receipts(Status.LOADED, counts=_counts("registered", "updated", "unchanged"))
partially_loaded = _receipts(
    Status.PARTIALLY_LOADED,
    code=st.just(Code.ROWS_REJECTED),
    message=sentences,
    counts=_counts("registered", "updated", "unchanged", "rejected", rejected=1),
    totals=st.lists(totals, min_size=1, max_size=3).map(tuple),
    rejections=st.lists(rejections, min_size=1, max_size=3).map(tuple),
    rejected_rows=st.none() | sentences,
)
refused = _receipts(
    Status.REFUSED,
    code=refusal_codes,
    message=sentences,
    counts=_counts("rejected", "withheld"),
    totals=st.lists(totals, max_size=3).map(tuple),
    rejections=st.lists(rejections, max_size=3).map(tuple),
    rejected_rows=st.none() | sentences,
)
skipped = _receipts(
    Status.SKIPPED, code=skip_codes, message=sentences, first_receipt=st.none() | loaded | partially_loaded
)
receipts = loaded | partially_loaded | refused | skipped


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

    assert tally.headline() == "3 of 1,234 rows rejected: age is not a whole number, e.g. line 9"


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
