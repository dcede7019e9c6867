"""The policies that decide about an import, and their decisions."""

import re
from enum import StrEnum
from fractions import Fraction
from typing import Self

import attrs

from rollcall.domain.correction import NO_IMPORT, Origin, Verdict
from rollcall.domain.receipt import Action, Receipt, Remedy, Source, Status, Tally
from rollcall.domain.rejection import Code, counted
from rollcall.domain.upload import Upload, is_earlier

_tolerance = re.compile(r"(?P<count>[0-9]{1,18})|(?P<percentage>[0-9]{1,3}(\.[0-9]{1,6})?)%")


@attrs.frozen
class Tolerance:
    """How many rejected rows an upload may have before it is refused as a whole.

    Attributes:
        text: "all", a count such as "10", or a percentage of the rows read such as "2.5%".
    """

    text: str = "all"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a tolerance, ignoring case and white space around it.

        Raises:
            ValueError: The text has none of the three forms.
        """
        normal = text.strip().lower()
        found = _tolerance.fullmatch(normal)
        if normal != "all" and (not found or (found["percentage"] and Fraction(found["percentage"]) > 100)):  # noqa: PLR2004 - per cent
            raise ValueError("give all, a count such as 10, or a percentage such as 2.5%")
        return cls(normal)

    def exceeded_by(self, rejected: int, read: int) -> bool:
        """Return whether an upload has too many rejected rows.

        An upload in which every row is rejected always has too many. An upload without rows never has.

        Args:
            rejected: The number of rejected rows.
            read: The number of rows read.
        """
        if rejected and rejected == read:
            return True
        if self.text.endswith("%"):
            return rejected * 100 > read * Fraction(self.text.removesuffix("%"))
        return self.certainly_exceeded_by(rejected)

    def certainly_exceeded_by(self, rejected: int) -> bool:
        """Return whether that many rejected rows are already too many, before the whole upload is read."""
        return self.text.isdigit() and rejected > int(self.text)


class OnDuplicate(StrEnum):
    """What to do with a row whose user already exists, where `Policy.unique_by` identifies users."""

    SKIP = "skip"
    UPDATE = "update"
    REJECT = "reject"


class OnRepeat(StrEnum):
    """What to do with an upload whose content another upload has already loaded."""

    SKIP = "skip"
    IMPORT = "import"


class OnNewVersion(StrEnum):
    """What to do with a new version of a key when another version is already loaded."""

    REFUSE = "refuse"
    IMPORT = "import"


@attrs.frozen(kw_only=True)
class Policy:
    """An operator's settings for imports.

    Attributes:
        max_rejected: How many rejected rows an upload may have.
        unique_by: The columns that identify a user, in the order of `COLUMNS`. If empty, every row is a new user.
        on_duplicate: What to do with a row whose user already exists, in the table or earlier in the file.
        on_repeat: Whether content that is already loaded is registered again.
        on_new_version: Whether a new version of a loaded key is registered as a new list.
    """

    max_rejected: Tolerance = Tolerance()
    unique_by: tuple[str, ...] = ()
    on_duplicate: OnDuplicate = OnDuplicate.SKIP
    on_repeat: OnRepeat = OnRepeat.SKIP
    on_new_version: OnNewVersion = OnNewVersion.REFUSE

    @property
    def updates(self) -> bool:
        """Whether an import may change existing users, so that the order of imports matters."""
        return bool(self.unique_by) and self.on_duplicate is OnDuplicate.UPDATE

    @property
    def rejects_duplicates(self) -> bool:
        """Whether an import rejects a valid row whose user already exists."""
        return bool(self.unique_by) and self.on_duplicate is OnDuplicate.REJECT

    @property
    def orders_versions(self) -> bool:
        """Whether the decision on an import depends on imports of other versions of its key."""
        return self.updates or (not self.unique_by and self.on_new_version is OnNewVersion.REFUSE)

    def as_dict(self) -> dict[str, str]:
        """Return the settings as a receipt shows them."""
        return {
            "max_rejected": self.max_rejected.text,
            "unique_by": ",".join(self.unique_by),
            "on_duplicate": self.on_duplicate.value,
            "on_repeat": self.on_repeat.value,
            "on_new_version": self.on_new_version.value,
        }


@attrs.frozen(kw_only=True)
class LedgerEntry:
    """The latest verdict on an upload, as the ledger keeps it.

    Attributes:
        import_id: The number of this verdict. Each verdict on the same upload has a number of its own.
        receipt: The receipt of the import.
        undone: Whether the import was undone, which removed its users.
        secret: See `Verdict.secret`. Empty for a verdict of an earlier version.
    """

    import_id: int
    receipt: Receipt
    undone: bool = False
    secret: bytes = attrs.field(default=b"", repr=False)

    @property
    def active(self) -> bool:
        """Whether the import registered its users and is not undone."""
        return self.receipt.status.registers and not self.undone

    def rejected(self, origin: Origin) -> bool:
        """Return whether this verdict rejected the row that an origin names."""
        return Verdict(self.import_id, self.secret).rejected(origin)


@attrs.frozen(kw_only=True)
class History:
    """The ledger entries that concern an upload.

    Attributes:
        same_upload: The entry of this upload, with any status.
        same_content: The oldest import in force of another upload with the same SHA-256.
        same_key: The import in force of another version of the same key. If there are several, the one that was
            committed last, which need not have the highest number.
        corrected: The import that rejected the rows, where the upload is a file of corrected rows.
        has_ledger: Whether there is a ledger. A check has none, and decides nothing from it.
    """

    same_upload: LedgerEntry | None = None
    same_content: LedgerEntry | None = None
    same_key: LedgerEntry | None = None
    corrected: LedgerEntry | None = None
    has_ledger: bool = True

    @property
    def already_registered(self) -> bool:
        """Whether this upload has already registered users, also if it was undone; its entry is then kept."""
        return self.same_upload is not None and self.same_upload.receipt.status.registers


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


@attrs.frozen(kw_only=True)
class DependentImports:
    """Imports in force that depend on an import, so that it cannot be undone.

    Attributes:
        correcting: An import that registered corrected rows of it; None if there is none.
        comparing: A later import that compared its rows with existing users (`Policy.unique_by`), so that it may
            have skipped rows because of this import; None if there is none.
    """

    correcting: int | None = None
    comparing: int | None = None


def undo_blocker(entry: LedgerEntry, dependent_imports: DependentImports) -> str | None:
    """Return why an import cannot be undone, as the end of a sentence; None if it can be undone."""
    if entry.undone:
        return "it is undone already"
    if not entry.active:
        return f"it was {entry.receipt.status} and registered nobody"
    if entry.receipt.counts.updated:
        return f"it changed {counted(entry.receipt.counts.updated, 'user')}, and what they were before is not kept"
    if dependent_imports.correcting is not None:
        return f"import {dependent_imports.correcting} corrects it; undo that first"
    if dependent_imports.comparing is not None:
        return f"import {dependent_imports.comparing} came after it and compared users; undo that first"
    return None
