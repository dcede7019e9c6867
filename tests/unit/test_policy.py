"""The policies of an import."""

import itertools
from datetime import UTC, datetime
from fractions import Fraction

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.domain.correction import Origin
from rollcall.domain.decision import admit, judge
from rollcall.domain.ledger import DependentImports, History, LedgerEntry, undo_blocker
from rollcall.domain.policy import OnNewVersion, OnRepeat, Policy, Tolerance
from rollcall.domain.receipt import Action, Remedy, Status, Tally
from rollcall.domain.rejection import Code, Fault, Rejection, counted
from rollcall.domain.upload import Upload
from support.receipts import a_receipt

UPLOAD = Upload(bucket="b", key="k", version="9", size=1, last_modified=datetime(2026, 1, 9, tzinfo=UTC))
REGISTERING = (Status.LOADED, Status.PARTIALLY_LOADED)


def _entry(import_id: int, status: Status = Status.LOADED, *, undone: bool = False) -> LedgerEntry:
    receipt = a_receipt(attrs.evolve(UPLOAD, key=f"key-{import_id}", version="1"), import_id, status=status)
    return LedgerEntry(import_id=import_id, receipt=receipt, undone=undone)


def _tally(read: int, rejected: int) -> Tally:
    tally = Tally(read=read)
    for line in range(rejected):
        tally.reject(Rejection(line + 2, line + 2, (Fault(Code.BLANK_CELL, "name is blank", "name"),)))
    return tally


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("all", "all"),
        (" ALL ", "all"),
        ("0", "0"),
        ("10", "10"),
        ("9" * 18, "9" * 18),
        ("0%", "0%"),
        ("2.5%", "2.5%"),
        ("100%", "100%"),
        ("100.000000%", "100.000000%"),
    ],
)
def test_a_tolerance_is_all_or_a_count_or_a_percentage(text: str, normal: str) -> None:
    """In upper or lower case, with white space around it."""
    assert Tolerance.parse(text).text == normal


@pytest.mark.parametrize(
    "text",
    [
        *("", "none", "-1", "+1", "1.5", "1e3", "9" * 19, "٣", "5\n5"),
        *("%", "101%", "100.000001%", "1000%", "2.%", ".5%", "2,5%", "2 %", "٣%", "1%%", "all%"),
    ],
)
def test_any_other_tolerance_is_refused_with_the_allowed_values(text: str) -> None:
    """A wrong setting must not pass as a lenient one."""
    with pytest.raises(ValueError, match=r"^give all, a count such as 10, or a percentage such as 2\.5%$"):
        Tolerance.parse(text)


@given(
    limit=st.none() | st.integers(0, 30) | st.decimals(0, 100, places=6) | st.decimals(0, 100, places=1),
    read=st.integers(0, 30) | st.integers(0, 10**9),
    data=st.data(),
)
def test_more_rejected_rows_than_tolerated_are_too_many(limit: object, read: int, data: st.DataObject) -> None:
    """More than the count, a larger share than the percentage, or all rows."""
    rejected = data.draw(st.integers(0, read) | st.just(read))
    if limit is None:
        text, too_many = "all", False
    elif isinstance(limit, int):
        text, too_many = str(limit), rejected > limit
    else:
        text = f"{limit}%"
        too_many = bool(read) and Fraction(rejected, read) > Fraction(str(limit)) / 100
    tolerance = Tolerance.parse(text)

    assert tolerance.exceeded_by(rejected, read) == (too_many or 0 < rejected == read)


@given(text=st.sampled_from(["all", "0", "3", "0%", "10%"]), rejected=st.integers(0, 9), more=st.integers(0, 99))
def test_a_tolerance_certainly_exceeded_stays_exceeded(text: str, rejected: int, more: int) -> None:
    """Any number of good rows may follow."""
    tolerance = Tolerance.parse(text)

    assert tolerance.exceeded_by(rejected, rejected + more) or not tolerance.certainly_exceeded_by(rejected)


_ENTRIES = [
    None,
    *(_entry(1, status, undone=undone) for status, undone in itertools.product(REGISTERING, [False, True])),
    _entry(1, Status.REFUSED),
    _entry(1, Status.SKIPPED),
]


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("on_new_version", OnNewVersion)
@pytest.mark.parametrize("on_repeat", OnRepeat)
@pytest.mark.parametrize("same_key", [None, _entry(3)])
@pytest.mark.parametrize("same_content", [None, _entry(2)])
@pytest.mark.parametrize("same_upload", _ENTRIES)
def test_the_ledger_decides_whether_an_upload_is_imported(
    same_upload: LedgerEntry | None,
    same_content: LedgerEntry | None,
    same_key: LedgerEntry | None,
    on_repeat: OnRepeat,
    on_new_version: OnNewVersion,
    again: bool,  # noqa: FBT001 - a dimension of the table
) -> None:
    """The upload itself comes first, then its content, then its key; only a redelivery cannot be overridden."""
    history = History(same_upload=same_upload, same_content=same_content, same_key=same_key)
    decision = admit(UPLOAD, history, Policy(on_repeat=on_repeat, on_new_version=on_new_version), again=again)
    registered = same_upload is not None and same_upload.receipt.status in REGISTERING
    expected: tuple[Status, Code, LedgerEntry] | None = None
    if same_upload and registered and not same_upload.undone:
        expected = Status.SKIPPED, Code.REDELIVERY, same_upload
    elif same_upload and registered and not again:
        expected = Status.SKIPPED, Code.UNDONE, same_upload
    elif same_content and on_repeat == "skip":
        expected = Status.SKIPPED, Code.REPEAT, same_content
    elif same_key and on_new_version == "refuse":
        expected = Status.REFUSED, Code.KEY_ALREADY_LOADED, same_key

    assert (decision and (decision.status, decision.code, decision.because_of)) == expected
    assert not expected or not decision or f"import {expected[2].import_id}" in decision.message
    assert history.already_registered == registered


@pytest.mark.parametrize("rejected_rows", [None, "memory:rejected.csv"])
def test_a_new_version_of_a_key_has_every_remedy(rejected_rows: str | None) -> None:
    """The message names no command: terminal, notification and page word the remedies."""
    loaded = _entry(7, Status.PARTIALLY_LOADED)
    loaded = attrs.evolve(loaded, receipt=attrs.evolve(loaded.receipt, rejected_rows=rejected_rows))
    decision = admit(UPLOAD, History(same_key=loaded), Policy())

    assert decision
    assert decision.remedies[-2:] == (Remedy(Action.UNDO, 7), Remedy(Action.IMPORT_AS_NEW))
    assert (Remedy(Action.CORRECT_REJECTED_ROWS, 7) in decision.remedies) == bool(rejected_rows)
    assert "rollcall" not in decision.message.lower()


def test_an_undone_upload_can_be_imported_again() -> None:
    decision = admit(UPLOAD, History(same_upload=_entry(7, undone=True)), Policy())

    assert decision
    assert decision.remedies == (Remedy(Action.IMPORT_AGAIN),)


@given(
    text=st.sampled_from(["all", "0", "3", "50%", "100%"]), read=st.integers(0, 12), rejected=st.integers(0, 12)
)
def test_an_upload_is_refused_if_the_tolerance_is_exceeded(text: str, read: int, rejected: int) -> None:
    """The message gives the number of rejected rows and the most frequent fault."""
    rejected = min(read, rejected)
    tolerance = Tolerance.parse(text)
    decision = judge(_tally(read, rejected), tolerance)

    assert (decision is not None) == tolerance.exceeded_by(rejected, read)
    assert not decision or (decision.status, decision.code) == (Status.REFUSED, Code.TOO_MANY_REJECTIONS)
    assert (
        not decision
        or f"{rejected} of {counted(read, 'row')} rejected: name is blank, e.g. line 2" in decision.message
    )
    assert not decision or decision.message.endswith(
        "no row is good" if read == rejected else f"tolerated: {text}"
    )


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (_entry(1, Status.LOADED), None),
        (_entry(1, Status.PARTIALLY_LOADED), None),
        (_entry(1, Status.LOADED, undone=True), "it is undone already"),
        (_entry(1, Status.REFUSED), "it was refused and registered nobody"),
        (_entry(1, Status.SKIPPED), "it was skipped and registered nobody"),
    ],
)
def test_only_an_import_in_force_can_be_undone(entry: LedgerEntry, reason: str | None) -> None:
    """The others give the reason."""
    assert undo_blocker(entry, DependentImports()) == reason
    assert entry.active == (reason is None)


def test_a_receipt_shows_the_policy_as_it_was_set() -> None:
    """With the names of the settings."""
    policy = Policy(
        max_rejected=Tolerance.parse("2.5%"), on_repeat=OnRepeat.IMPORT, on_new_version=OnNewVersion.IMPORT
    )

    assert policy.as_dict() == {
        "max_rejected": "2.5%",
        "unique_by": "",
        "on_duplicate": "skip",
        "on_repeat": "import",
        "on_new_version": "import",
    }
    assert Policy(unique_by=("name", "age")).as_dict()["unique_by"] == "name,age"


@pytest.mark.parametrize(("secret", "undoes"), [(b"", True), (b"secret", False)])
def test_only_an_import_of_an_earlier_version_is_to_be_undone(secret: bytes, undoes: bool) -> None:  # noqa: FBT001 - what varies
    """Its rejected rows have no proof; a bare number that names another import is a mistake or a forgery."""
    corrected = attrs.evolve(_entry(7, Status.PARTIALLY_LOADED), secret=secret)
    decision = admit(UPLOAD, History(corrected=corrected), Policy(), corrects=Origin(7, 3))

    assert decision
    assert decision.code is Code.NOTHING_TO_CORRECT
    assert (Remedy(Action.UNDO, 7) in decision.remedies) == undoes
