"""Notifications of outcomes: an event for programs, and a text for people.

Both are built from codes, counts, lines and keys only, never from a message, a label or a cell: a notification
may leave the account, and its receiver need not have the right to read uploads.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

import attrs

from rollcall.application.receipts import to_dict
from rollcall.domain.receipt import Action, Counts, Receipt, Remedy, Source, Status
from rollcall.domain.rejection import Code, counted, escaped
from rollcall.domain.upload import ObjectReference, owner_in

# The status of an upload without a verdict, beside those of a receipt.
GIVEN_UP = "given_up"
STATUSES = (*(status.value for status in Status), GIVEN_UP)

LINES_SHOWN = 10
# Amazon SNS takes fewer than 100 characters.
SUBJECT_CHARACTERS = 99

_OUTCOMES = {
    Status.LOADED.value: "loaded",
    Status.PARTIALLY_LOADED.value: "loaded in part",
    Status.REFUSED.value: "refused",
    Status.SKIPPED.value: "skipped",
    GIVEN_UP: "given up",
}


class GivenUpCode(StrEnum):
    """Why an upload is given up."""

    LAST_TRY_FAILED = "last-try-failed"
    NEVER_IMPORTED = "never-imported"


_GIVEN_UP_REASONS = {
    GivenUpCode.LAST_TRY_FAILED: "Each try to import it failed, and its message is in the dead-letter queue.",
    GivenUpCode.NEVER_IMPORTED: "The sweep queued it as often as allowed, and it still has no verdict.",
}
_GIVEN_UP_STEPS = {
    GivenUpCode.LAST_TRY_FAILED: "Find the last error with this key in the log of the import function, remove its "
    "cause, and redrive the dead-letter queue.",
    GivenUpCode.NEVER_IMPORTED: "Look for this upload in the dead-letter queue and in the log of the import "
    "function. Then replay it, or import it on a machine if it is too large.",
}

_STEPS = {
    Action.CORRECT_REJECTED_ROWS: "Correct the cells in the file of rejected rows, and upload that file.",
    Action.CORRECT_ORIGINAL: "Correct the file, and upload it again.",
    Action.UNDO: "Ask an operator to undo its import, and upload the file again.",
    Action.IMPORT_AGAIN: "If it has to be imported again, ask an operator to do that.",
    Action.IMPORT_AS_NEW: "If it is a list of new users, ask an operator to import it as such.",
}
_STEPS_OF_AN_IMPORT = {
    Action.CORRECT_REJECTED_ROWS: "Correct the rejected rows of import {0}, and upload them.",
    Action.CORRECT_ORIGINAL: "Correct the original file of import {0}, and upload it again.",
    Action.UNDO: "Ask an operator to undo import {0}, and upload the file again.",
    Action.IMPORT_AGAIN: "Ask an operator to import the original file of import {0} again.",
    Action.IMPORT_AS_NEW: "If it is a list of new users and not import {0}, ask an operator to import it as such.",
}


@attrs.frozen(kw_only=True)
class CodeTotal:
    """How often one code occurred in the rejected rows.

    Attributes:
        code: The code.
        count: The number of faults with this code.
        lines: The first lines with this code, `LINES_SHOWN` at most.
        more: Whether there are more lines with this code.
    """

    code: Code
    count: int
    lines: tuple[int, ...]
    more: bool


@attrs.frozen(kw_only=True)
class Notification:
    """One notification of an outcome.

    Attributes:
        event_id: The same for each repeat of a notification, and different for any other.
        status: One of `STATUSES`.
        key: The key of the upload, printable.
        event: The event for programs, with values that JSON has.
        subject: The subject of an e-mail.
        text: The text of an e-mail.
    """

    event_id: str
    status: str
    key: str
    event: Mapping[str, Any]
    subject: str
    text: str


def import_finished(receipt: Receipt, receipt_address: str, *, prefix: str = "") -> Notification:
    """Return the notification of an import.

    Args:
        receipt: The stored receipt.
        receipt_address: Its address.
        prefix: The prefix of the store of uploads, below which a key may name its uploader.
    """
    totals = _totals_by_code(receipt)
    event = _event(
        # The ledger may give the members in another order, so that the stored file differs.
        event_id=f"{receipt.import_id or 0}-{_sha256(to_dict(receipt))}",
        status=receipt.status.value,
        code=receipt.code,
        source=receipt.source,
        prefix=prefix,
        import_id=receipt.import_id,
        corrects=receipt.corrects,
        counts=receipt.counts,
        totals=totals,
        receipt=receipt_address,
        rejected_rows=receipt.rejected_rows,
    )
    lines = [_sentence(receipt), _rows(receipt.counts)]
    if totals:
        lines += ["", "Why rows were rejected:", *map(_reason, totals)]
    lines += ["", "What to do:", *(f"  {step}" for step in _steps(receipt))]
    return _notification(event, lines)


def upload_given_up(reference: ObjectReference, code: GivenUpCode, *, prefix: str = "") -> Notification:
    """Return the notification of an upload that has no verdict and is not tried again.

    Args:
        reference: The upload.
        code: Why it is given up.
        prefix: See `import_finished`.
    """
    source = Source(
        bucket=reference.bucket,
        key=reference.key,
        # If both were announced, the version is "null", which later objects replace.
        version=(reference.etag or "").strip('"') or reference.version or "",
    )
    event = _event(
        # The import function and the sweep may both give up an upload.
        event_id=f"{GIVEN_UP}-{_sha256([source.bucket, source.key, source.version])}",
        status=GIVEN_UP,
        code=code,
        source=source,
        prefix=prefix,
    )
    lines = [
        f"{escaped(source.key)} was given up.",
        _GIVEN_UP_REASONS[code],
        "None of its users is registered, or only its receipt could not be stored.",
        "",
        "What to do:",
        f"  {_GIVEN_UP_STEPS[code]}",
    ]
    return _notification(event, lines)


def _event(  # noqa: PLR0913 - one for each part of the event
    *,
    event_id: str,
    status: str,
    code: Code | GivenUpCode | None,
    source: Source,
    prefix: str,
    import_id: int | None = None,
    corrects: int | None = None,
    counts: Counts = Counts(),  # noqa: B008 - frozen
    totals: tuple[CodeTotal, ...] = (),
    receipt: str | None = None,
    rejected_rows: str | None = None,
) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "status": status,
        "code": code and code.value,
        "bucket": source.bucket,
        "key": source.key,
        "version": source.version,
        "uploaded_by": owner_in(source.bucket, source.key.removeprefix(prefix)),
        "import_id": import_id,
        "corrects": corrects,
        "counts": attrs.asdict(counts),
        "totals": [
            {"code": total.code.value, "count": total.count, "lines": list(total.lines)} for total in totals
        ],
        "receipt": receipt,
        "rejected_rows": rejected_rows,
    }


def _notification(event: dict[str, Any], lines: list[str]) -> Notification:
    key = escaped(event["key"])
    details = {
        "Bucket": event["bucket"],
        "Version": event["version"],
        "Import": event["import_id"],
        "Receipt": event["receipt"],
        "Rejected rows": event["rejected_rows"],
        "Event": event["event_id"],
    }
    shown = [f"{name}: {escaped(str(value))}" for name, value in details.items() if value not in {None, ""}]
    return Notification(
        event_id=event["event_id"],
        status=event["status"],
        key=key,
        event=event,
        subject=_subject(key, _OUTCOMES[event["status"]]),
        text="\n".join([*lines, "", *shown, ""]),
    )


def _subject(key: str, outcome: str) -> str:
    """Return a subject that fits, with the end of the key, which is usually the name of the file."""
    room = SUBJECT_CHARACTERS - len(f"Rollcall: {outcome}: ")
    shown = key if len(key) <= room else f"...{key[3 - room :]}"
    return f"Rollcall: {outcome}: {shown}"


def _totals_by_code(receipt: Receipt) -> tuple[CodeTotal, ...]:
    """Return the totals of a receipt without its columns, the most frequent code first."""
    counts: Counter[Code] = Counter()
    shown: Counter[Code] = Counter()
    lines: defaultdict[Code, set[int]] = defaultdict(set)
    for total in receipt.totals:
        counts[total.code] += total.count
        lines[total.code].add(total.first_line)
    for rejection in receipt.rejections:
        for fault in rejection.faults:
            shown[fault.code] += 1
            lines[fault.code].add(rejection.line)
    totals = (
        CodeTotal(
            code=code,
            count=count,
            lines=tuple(sorted(lines[code])[:LINES_SHOWN]),
            more=count > shown[code] or len(lines[code]) > LINES_SHOWN,
        )
        for code, count in counts.items()
    )
    return tuple(sorted(totals, key=lambda total: (-total.count, total.lines)))


def _sentence(receipt: Receipt) -> str:
    outcome = f"{escaped(receipt.source.key)} was {_OUTCOMES[receipt.status.value]}"
    if receipt.status.registers or not receipt.code:
        return f"{outcome}."
    return f"{outcome}, because it {receipt.code.says} ({receipt.code.value})."


def _rows(counts: Counts) -> str:
    """Return how many rows the upload has, and the outcomes of the rows."""
    outcomes = {
        "registered": counts.registered,
        "updated": counts.updated,
        "unchanged": counts.unchanged,
        "rejected": counts.rejected,
        "good but not registered": counts.withheld,
    }
    found = ", ".join(f"{number:,} {outcome}" for outcome, number in outcomes.items() if number)
    return f"{counted(counts.read, 'row')} read{': ' if found else ''}{found}."


def _reason(total: CodeTotal) -> str:
    """Return how often a code occurred, and its first lines."""
    lines = ", ".join(map(str, total.lines))
    more = " and more" if total.more else ""
    return f"  {total.code.value}: {total.count:,}, in line{'s' * (len(total.lines) > 1)} {lines}{more}"


def _steps(receipt: Receipt) -> Iterator[str]:
    """Yield the remedies in words; one sentence if there are none."""
    steps = [_step(remedy) for remedy in receipt.remedies]
    if not steps:
        done = receipt.status in {Status.LOADED, Status.SKIPPED}
        steps = ["Nothing." if done else "Read the receipt, which says what to correct."]
    for number, step in enumerate(steps):
        yield f"Or: {step}" if number else step


def _step(remedy: Remedy) -> str:
    """Return a remedy as one sentence."""
    if remedy.import_id is None:
        return _STEPS[remedy.action]
    return _STEPS_OF_AN_IMPORT[remedy.action].format(remedy.import_id)


def _sha256(value: object) -> str:
    """Return the hexadecimal SHA-256 of a value that JSON has, regardless of the order of members."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode("ascii")).hexdigest()
