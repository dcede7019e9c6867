"""The decision to import, refuse or skip an upload, from the policies and the ledger."""

import attrs

from rollcall.domain.correction import NO_IMPORT, Origin
from rollcall.domain.ledger import History, LedgerEntry
from rollcall.domain.policy import OnNewVersion, OnRepeat, Policy, Tolerance
from rollcall.domain.receipt import Action, Remedy, Source, Status, Tally
from rollcall.domain.rejection import Code
from rollcall.domain.upload import Upload, is_earlier


@attrs.frozen
class Decision:
    """The decision to refuse or skip an upload.

    Attributes:
        status: Refused or skipped.
        code: The reason.
        message: The reason as one sentence for the uploader, without any command.
        because_of: The import that is the reason; None if the reason is the upload itself.
        remedies: The possible next steps.
    """

    status: Status
    code: Code
    message: str
    because_of: LedgerEntry | None = None
    remedies: tuple[Remedy, ...] = ()


def admit(
    upload: Upload, history: History, policy: Policy, *, corrects: Origin | None = None, again: bool = False
) -> Decision | None:
    """Decide from the ledger whether an upload is imported.

    Args:
        upload: The upload.
        history: The ledger entries that concern it.
        policy: The operator's settings.
        corrects: The origin of the first corrected row; None for a file of users.
        again: Whether an undone import may be imported again, because a person asked for it.

    Returns:
        None to import the upload; otherwise the decision to refuse or skip it.
    """
    if not history.has_ledger:
        return _admit_correction(corrects, None) if corrects and not corrects.provable else None
    entry = history.same_upload
    if entry and entry.active:
        return Decision(
            Status.SKIPPED,
            Code.REDELIVERY,
            f"this upload is already imported as import {entry.import_id}; nothing was registered again",
            entry,
        )
    if entry and entry.undone and not again:
        return Decision(
            Status.SKIPPED,
            Code.UNDONE,
            f"this upload was imported as import {entry.import_id} and undone",
            entry,
            (Remedy(Action.IMPORT_AGAIN),),
        )
    if upload.is_request:
        return _admit_request(history.same_key)
    same = history.same_content
    if same and policy.on_repeat is OnRepeat.SKIP and not policy.updates:
        return Decision(
            Status.SKIPPED,
            Code.REPEAT,
            f"the same content is already imported as import {same.import_id} ({same.receipt.source.key}); "
            "nothing was registered again",
            same,
        )
    if corrects is not None:
        further = _admit_correction(corrects, history.corrected)
    else:
        further = _admit_new_version(history.same_key, policy)
    return _superseded(upload, history.same_key, policy) or further


def _admit_request(registered: LedgerEntry | None) -> Decision | None:
    """Decide, with every policy, whether a request has another body than the one registered under its key."""
    if not registered:
        return None
    return Decision(
        Status.REFUSED,
        Code.KEY_ALREADY_LOADED,
        f"another user was sent with this idempotency key, as import {registered.import_id}; "
        "give each user a key of its own",
        registered,
    )


def _admit_correction(corrects: Origin, corrected: LedgerEntry | None) -> Decision | None:
    """Return None if the ledger confirms the origin of corrected rows; otherwise the decision to refuse them."""
    if corrected and corrected.active and corrected.rejected(corrects):
        return None
    rows = f"these rows say that import {corrects.import_id} rejected them"
    remedies: tuple[Remedy, ...] = ()
    if corrects.import_id == NO_IMPORT:
        reason = (
            "these rows do not say which import rejected them: they come from a check, from corrected rows that "
            "were refused, or their origin was lost; correct the file that they were taken from"
        )
        remedies = (Remedy(Action.CORRECT_ORIGINAL),)
    elif not corrects.proof and corrected and corrected.active and not corrected.secret:
        reason = (
            f"{rows}, but an earlier version of this program wrote them, which gave no proof of that; "
            "undo that import and import its file again for rejected rows that can be corrected"
        )
        remedies = Remedy(Action.UNDO, corrects.import_id), Remedy(Action.CORRECT_ORIGINAL)
    elif not corrects.proof:
        reason = (
            f"{rows}, but give no proof of that, as files of an earlier version; "
            "correct the rejected rows of its last receipt"
        )
    elif not corrected or not corrected.rejected(corrects):
        reason = (
            f"{rows}, which this ledger does not confirm: they come from another database, "
            "the file was judged again since, or the line was not rejected"
        )
    elif corrected.undone:
        reason = f"{rows}, which was undone; import the original file again first"
        remedies = (Remedy(Action.IMPORT_AGAIN, corrects.import_id),)
    else:
        reason = (
            f"{rows}, which was refused as a whole, so its good rows are not registered either; "
            "correct the original file and upload that"
        )
        remedies = (Remedy(Action.CORRECT_ORIGINAL, corrects.import_id),)
    return Decision(Status.REFUSED, Code.NOTHING_TO_CORRECT, reason, corrected, remedies)


def _superseded(upload: Upload, loaded: LedgerEntry | None, policy: Policy) -> Decision | None:
    """Decide whether a newer version of the key is loaded, which an older one must not overwrite."""
    if not loaded or not policy.updates or not _is_older(upload, loaded.receipt.source):
        return None
    return Decision(
        Status.SKIPPED,
        Code.SUPERSEDED,
        f"a newer version of this file is already imported as import {loaded.import_id}; "
        "an older one must not overwrite it",
        loaded,
    )


def _admit_new_version(loaded: LedgerEntry | None, policy: Policy) -> Decision | None:
    """Decide whether an upload may follow another version of its key."""
    if not loaded:
        return None
    if policy.unique_by or policy.on_new_version is OnNewVersion.IMPORT:
        return None
    return Decision(
        Status.REFUSED,
        Code.KEY_ALREADY_LOADED,
        f"another version of this file is already loaded as import {loaded.import_id}, and loading both "
        "would register its users twice",
        loaded,
        (
            *([Remedy(Action.CORRECT_REJECTED_ROWS, loaded.import_id)] if loaded.receipt.rejected_rows else []),
            Remedy(Action.UNDO, loaded.import_id),
            Remedy(Action.IMPORT_AS_NEW),
        ),
    )


def _is_older(upload: Upload, loaded: Source) -> bool:
    if upload.sequencer and loaded.sequencer:
        return is_earlier(upload.sequencer, loaded.sequencer)
    return loaded.last_modified is not None and upload.last_modified < loaded.last_modified


def judge(tally: Tally, tolerance: Tolerance, *, overflowed: bool = False) -> Decision | None:
    """Decide from the counts of the whole upload whether it is refused.

    Args:
        tally: The counts of the whole upload.
        tolerance: How many rejected rows the upload may have.
        overflowed: Whether the rejected rows took more disk space than is allowed.

    Returns:
        None to load the good rows; otherwise the decision to refuse the upload.
    """
    if not tally.good and tally.rejected:
        reason = "no row is good"
    elif tolerance.exceeded_by(tally.rejected, tally.read):
        reason = f"tolerated: {tolerance.text}"
    elif overflowed:
        reason = "they take more disk space than is allowed, so only the first are in the file"
    else:
        return None
    return Decision(
        Status.REFUSED,
        Code.TOO_MANY_REJECTIONS,
        f"{tally.headline()}; {reason}",
        remedies=(Remedy(Action.CORRECT_ORIGINAL),),
    )
