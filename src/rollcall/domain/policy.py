"""The policies an import is judged by, and their verdicts."""

import re
from enum import StrEnum
from fractions import Fraction
from typing import Self

import attrs

from rollcall.domain.receipt import Receipt, Status, Tally
from rollcall.domain.rejection import Code

_tolerance = re.compile(r"(?P<count>[0-9]{1,18})|(?P<percentage>[0-9]{1,3}(\.[0-9]{1,6})?)%")


@attrs.frozen
class Tolerance:
    """How many rejected rows an upload may have before it is refused as a whole.

    Attributes:
        text: As it was set: "all", a count such as "10", or a percentage of the rows read such as "2.5%".
    """

    text: str = "all"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a setting.

        Raises:
            ValueError: It is none of the three forms.
        """
        normal = text.strip().lower()
        found = _tolerance.fullmatch(normal)
        if normal != "all" and (not found or (found["percentage"] and Fraction(found["percentage"]) > 100)):  # noqa: PLR2004 - a whole
            raise ValueError("give all, a count such as 10, or a percentage such as 2.5%")
        return cls(normal)

    def exceeded_by(self, rejected: int, read: int) -> bool:
        """Tell whether that many rejected rows, of so many read in all, are too many.

        Every row rejected is always too many; nothing read is never.
        """
        if rejected and rejected == read:
            return True
        if self.text.endswith("%"):
            return rejected * 100 > read * Fraction(self.text.removesuffix("%"))
        return self.certainly_exceeded_by(rejected)

    def certainly_exceeded_by(self, rejected: int) -> bool:
        """Tell whether that many rejected rows are too many whatever else is still to be read."""
        return self.text.isdigit() and rejected > int(self.text)


class OnRepeat(StrEnum):
    """What to do with content that is already loaded from elsewhere."""

    SKIP = "skip"
    IMPORT = "import"


class OnNewVersion(StrEnum):
    """What to do with a new version of a key that is already loaded."""

    REFUSE = "refuse"
    IMPORT = "import"


@attrs.frozen(kw_only=True)
class Policy:
    """What an operator decides about imports.

    Attributes:
        max_rejected: How many rejected rows an upload may have.
        on_repeat: Whether content that is loaded already is registered again.
        on_new_version: Whether a new version of a loaded key is registered as a list of its own.
    """

    max_rejected: Tolerance = Tolerance()
    on_repeat: OnRepeat = OnRepeat.SKIP
    on_new_version: OnNewVersion = OnNewVersion.REFUSE

    def described(self) -> dict[str, str]:
        """Give the settings as a receipt shows them."""
        return {
            "max_rejected": self.max_rejected.text,
            "on_repeat": self.on_repeat.value,
            "on_new_version": self.on_new_version.value,
        }


@attrs.frozen(kw_only=True)
class LedgerEntry:
    """One import as the ledger remembers it.

    Attributes:
        import_id: Its number, the same as long as the ledger exists.
        receipt: Its account.
        undone: Whether its users were taken back.
    """

    import_id: int
    receipt: Receipt
    undone: bool = False

    @property
    def in_force(self) -> bool:
        """Whether users of this import are in the table."""
        return self.receipt.status.registers and not self.undone


@attrs.frozen(kw_only=True)
class History:
    """What the ledger knows when an upload arrives.

    Attributes:
        same_upload: The entry of this very upload, whatever became of it.
        same_content: The oldest import in force, of another upload, with the same SHA-256.
        same_key: The newest import in force of another version of the same key.
    """

    same_upload: LedgerEntry | None = None
    same_content: LedgerEntry | None = None
    same_key: LedgerEntry | None = None

    @property
    def settled(self) -> bool:
        """Whether this very upload registered users once, so that its entry stands whatever is decided now."""
        return self.same_upload is not None and self.same_upload.receipt.status.registers


@attrs.frozen
class Decision:
    """What becomes of an upload that is not simply loaded.

    Attributes:
        status: Refused or skipped.
        code: Why.
        message: The same as one sentence for the uploader.
        because_of: The import that decided it; None if it was the upload itself.
    """

    status: Status
    code: Code
    message: str
    because_of: LedgerEntry | None = None


def admit(history: History, policy: Policy, *, again: bool = False) -> Decision | None:
    """Decide from the ledger whether an upload is imported.

    Args:
        history: What the ledger knows.
        policy: The operator's settings.
        again: Whether somebody asked for an undone import to be made again.

    Returns:
        None to import it; otherwise why not.
    """
    entry = history.same_upload
    if entry and entry.in_force:
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
            f"this upload was imported as import {entry.import_id} and undone; "
            "to import it once more: rollcall import --again",
            entry,
        )
    if (same := history.same_content) and policy.on_repeat is OnRepeat.SKIP:
        return Decision(
            Status.SKIPPED,
            Code.REPEAT,
            f"the same content is already imported as import {same.import_id} ({same.receipt.source.key}); "
            "nothing was registered again",
            same,
        )
    if (loaded := history.same_key) and policy.on_new_version is OnNewVersion.REFUSE:
        return Decision(
            Status.REFUSED,
            Code.KEY_ALREADY_LOADED,
            f"another version of this file is already loaded as import {loaded.import_id}, and loading both "
            "would register its users twice; to correct rows, mend and drop back the rejected-rows file; "
            f"to replace the list, first: rollcall undo {loaded.import_id}; "
            "to add a list of new users under the same name: rollcall import --as-new "
            "(ROLLCALL_ON_NEW_VERSION=import)",
            loaded,
        )
    return None


def judge(tally: Tally, tolerance: Tolerance) -> Decision | None:
    """Decide from the whole count whether an upload is refused.

    Returns:
        None to load what is good; otherwise why not.
    """
    if not tolerance.exceeded_by(tally.rejected, tally.read):
        return None
    return Decision(
        Status.REFUSED,
        Code.TOO_MANY_REJECTIONS,
        f"{tally.headline()}; tolerated: {tolerance.text}"
        if tally.good
        else f"{tally.headline()}; no row is good",
    )


def why_not_undone(entry: LedgerEntry) -> str | None:
    """Say why an import cannot be undone, as the end of a sentence; None if it can."""
    if entry.undone:
        return "it is undone already"
    if not entry.in_force:
        return f"it was {entry.receipt.status} and registered nobody"
    return None
