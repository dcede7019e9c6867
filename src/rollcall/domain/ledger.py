"""The ledger's entries, those that concern an upload, and why an import cannot be undone."""

import attrs

from rollcall.domain.correction import Origin, Verdict
from rollcall.domain.receipt import Receipt
from rollcall.domain.rejection import counted


@attrs.frozen(kw_only=True)
class LedgerEntry:
    """The latest verdict on an upload, as the ledger keeps it.

    Attributes:
        import_id: The number of this verdict. Each verdict on the same upload has a number of its own.
        receipt: The receipt of the import.
        undone: Whether the import was undone, which removed its users.
        secret: See `Verdict.secret`. Empty for a verdict of an earlier version.
        uploaded_by: See `Upload.owned_by`.
    """

    import_id: int
    receipt: Receipt
    undone: bool = False
    secret: bytes = attrs.field(default=b"", repr=False)
    uploaded_by: str | None = None

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
