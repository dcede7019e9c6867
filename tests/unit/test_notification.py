"""Notifications: built from codes, counts, lines and keys only, and readable."""

import hashlib
import json
from datetime import UTC, datetime

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.application.notification import (
    GIVEN_UP,
    LINES_SHOWN,
    STATUSES,
    SUBJECT_CHARACTERS,
    GivenUpCode,
    Notification,
    import_finished,
    upload_given_up,
)
from rollcall.application.receipts import from_dict, to_dict
from rollcall.domain.receipt import Action, Counts, FaultTotal, Receipt, Remedy, Source, Status
from rollcall.domain.rejection import Code, Fault, Rejection
from rollcall.domain.upload import ObjectReference, web_key
from support.receipts import receipts

ADDRESS = "s3://reports/march/users.csv/v1/receipt.json"
CANARY = "Canary"
PARTIAL = Receipt(
    status=Status.PARTIALLY_LOADED,
    code=Code.ROWS_REJECTED,
    message=f"age is '{CANARY}'",
    remedies=(Remedy(Action.CORRECT_REJECTED_ROWS),),
    source=Source(bucket="inbox", key="march/users.csv", version="v1", ignored_columns=(CANARY,)),
    policy={"unique_by": CANARY},
    counts=Counts(read=1004, registered=1000, rejected=4),
    totals=(
        FaultTotal(Code.BLANK_CELL, "name", 2, 6),
        FaultTotal(Code.BLANK_CELL, "country", 1, 8),
        FaultTotal(Code.TYPE_ERROR, CANARY, 2, 5),
    ),
    rejections=(
        Rejection(5, 5, (Fault(Code.TYPE_ERROR, f"age is '{CANARY}'", CANARY),)),
        Rejection(6, 6, (Fault(Code.BLANK_CELL, "blank", "name"),)),
        Rejection(8, 8, (Fault(Code.BLANK_CELL, "blank", "name"), Fault(Code.BLANK_CELL, "blank", "country"))),
    ),
    rejected_rows="s3://reports/march/users.csv/v1/rejected-0123456789ab.csv",
    started=datetime(2026, 1, 1, tzinfo=UTC),
    seconds=0.1,
    import_id=3,
)

EVENT_ID = f"3-{hashlib.sha256(json.dumps(to_dict(PARTIAL), sort_keys=True).encode()).hexdigest()}"


def notified(receipt: Receipt, prefix: str = "") -> Notification:
    """Return the notification of a receipt."""
    return import_finished(receipt, ADDRESS, prefix=prefix)


def test_an_event_has_codes_counts_lines_and_places() -> None:
    assert notified(PARTIAL).event == {
        "event_id": EVENT_ID,
        "status": "partially_loaded",
        "code": "rows-rejected",
        "bucket": "inbox",
        "key": "march/users.csv",
        "version": "v1",
        "uploaded_by": None,
        "import_id": 3,
        "corrects": None,
        "counts": {
            "read": 1004,
            "registered": 1000,
            "updated": 0,
            "unchanged": 0,
            "rejected": 4,
            "withheld": 0,
            "blank": 0,
        },
        "totals": [
            {"code": "blank-cell", "count": 3, "lines": [6, 8]},
            {"code": "type-error", "count": 2, "lines": [5]},
        ],
        "receipt": ADDRESS,
        "rejected_rows": PARTIAL.rejected_rows,
    }


def test_a_text_says_what_happened_and_what_to_do() -> None:
    notification = notified(PARTIAL)

    assert notification.subject == "Rollcall: loaded in part: march/users.csv"
    assert notification.text.splitlines() == [
        "march/users.csv was loaded in part.",
        "1,004 rows read: 1,000 registered, 4 rejected.",
        "",
        "Why rows were rejected:",
        "  blank-cell: 3, in lines 6, 8",
        "  type-error: 2, in line 5 and more",
        "",
        "What to do:",
        "  Correct the cells in the file of rejected rows, and upload that file.",
        "",
        "Bucket: inbox",
        "Version: v1",
        "Import: 3",
        f"Receipt: {ADDRESS}",
        f"Rejected rows: {PARTIAL.rejected_rows}",
        f"Event: {EVENT_ID}",
    ]


def test_a_refusal_names_its_reason_and_each_next_step() -> None:
    refused = attrs.evolve(
        PARTIAL,
        status=Status.REFUSED,
        code=Code.KEY_ALREADY_LOADED,
        remedies=(Remedy(Action.UNDO, 2), Remedy(Action.IMPORT_AS_NEW)),
        counts=Counts(),
        totals=(),
        rejections=(),
        rejected_rows=None,
    )

    [sentence, *others] = notified(refused).text.splitlines()[:6]

    assert sentence.endswith("because it is a new version of a file that is already loaded (key-already-loaded).")
    assert others == [
        "0 rows read.",
        "",
        "What to do:",
        "  Ask an operator to undo import 2, and upload the file again.",
        "  Or: If it is a list of new users, ask an operator to import it as such.",
    ]


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("import_id", [None, 7])
def test_every_remedy_is_a_sentence(action: Action, import_id: int | None) -> None:
    remedied = attrs.evolve(PARTIAL, remedies=(Remedy(action, import_id),))
    [step] = notified(remedied).text.split("What to do:\n  ")[1].splitlines()[:1]

    assert step.endswith(".")
    assert ("7" in step) == (import_id is not None)


@given(receipts, st.sampled_from(GivenUpCode))
def test_no_message_label_or_cell_is_notified(receipt: Receipt, code: GivenUpCode) -> None:
    """Also not in a column's name, which the uploader may have chosen."""
    receipt = attrs.evolve(
        receipt,
        message=receipt.message and CANARY + receipt.message,
        source=attrs.evolve(receipt.source, ignored_columns=(CANARY,), encoding=CANARY, delimiter=CANARY),
        policy=dict.fromkeys(receipt.policy, CANARY),
        totals=tuple(attrs.evolve(total, column=CANARY) for total in receipt.totals),
        rejections=tuple(
            attrs.evolve(
                rejection,
                faults=tuple(attrs.evolve(fault, message=CANARY, column=CANARY) for fault in rejection.faults),
            )
            for rejection in receipt.rejections
        ),
    )
    reference = ObjectReference(bucket="inbox", key=receipt.source.key, version="v1")
    for notification in (notified(receipt), upload_given_up(reference, code)):
        assert CANARY not in json.dumps(attrs.asdict(notification))


@given(receipts)
def test_a_notification_can_be_sent(receipt: Receipt) -> None:
    """As JSON in ASCII; in texts, no key breaks a line or changes the direction of writing."""
    notification = notified(receipt)

    assert json.loads(json.dumps(notification.event)) == notification.event
    assert len(notification.subject) <= SUBJECT_CHARACTERS
    assert notification.subject.isprintable()
    assert notification.key.isprintable()
    assert all(line.isprintable() for line in notification.text.split("\n"))
    assert notification.status in STATUSES


@given(receipts)
def test_totals_by_code_count_every_fault(receipt: Receipt) -> None:
    """Each code once, with its first lines in order."""
    totals = notified(receipt).event["totals"]

    assert sum(total["count"] for total in totals) == sum(total.count for total in receipt.totals)
    assert len({total["code"] for total in totals}) == len(totals)
    for total in totals:
        assert 0 < len(total["lines"]) <= LINES_SHOWN
        assert total["lines"] == sorted(set(total["lines"]))


@given(receipts, receipts)
def test_the_id_of_an_event_is_that_of_the_receipt(one: Receipt, other: Receipt) -> None:
    """A repeat has the same, also if the ledger gives the members in another order."""
    again = from_dict(json.loads(json.dumps(to_dict(one), sort_keys=True)))

    assert notified(one).event_id == notified(again).event_id
    assert (notified(one).event_id == notified(other).event_id) == (one == other)


def test_a_long_key_keeps_its_end_in_the_subject() -> None:
    notification = notified(attrs.evolve(PARTIAL, source=attrs.evolve(PARTIAL.source, key="x" * 900 + "/a.csv")))

    assert len(notification.subject) == SUBJECT_CHARACTERS
    assert notification.subject.endswith("x/a.csv")


def test_an_upload_of_the_page_names_its_uploader() -> None:
    """Below the prefix of the store only, where nobody but the Web API writes such keys."""
    owner = "ef" * 32
    key = web_key(owner, "01" * 20, "users.csv")

    def uploader(key: str, prefix: str) -> object:
        source = attrs.evolve(PARTIAL.source, key=key)
        return notified(attrs.evolve(PARTIAL, source=source), prefix=prefix).event["uploaded_by"]

    assert uploader(key, "") == uploader(f"in/{key}", "in/") == owner
    assert uploader(f"in/{key}", "") is None


@pytest.mark.parametrize("code", GivenUpCode)
def test_an_upload_that_is_given_up_says_what_to_do(code: GivenUpCode) -> None:
    notification = upload_given_up(ObjectReference(bucket="inbox", key="a\nb.csv", version="v1"), code)

    assert notification.status == notification.event["status"] == GIVEN_UP
    assert notification.event["code"] == code.value
    assert (notification.event["key"], notification.key) == ("a\nb.csv", r"a\nb.csv")
    assert notification.text.startswith("a\\nb.csv was given up.\n")
    assert "What to do:\n  " in notification.text
    assert "dead-letter queue" in notification.text


def test_giving_up_twice_is_one_event() -> None:
    """The import function and the sweep may both give up an upload; its versions are different uploads."""
    one, other = (ObjectReference(bucket="inbox", key="a.csv", version=version) for version in ("v1", "v2"))
    ids = [upload_given_up(one, code).event_id for code in GivenUpCode]

    assert len(set(ids)) == 1
    assert upload_given_up(other, GivenUpCode.LAST_TRY_FAILED).event_id not in ids
