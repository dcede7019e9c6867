"""The state of an upload of the page, from the inbox, its check and the ledger."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import attrs

from rollcall.application import check_upload
from rollcall.application.decoding import inspected
from rollcall.application.ports import ObjectListing, UserRepository, WebUploads
from rollcall.application.reports import RECEIPT_NAME, Reports
from rollcall.application.values import ListedObject
from rollcall.domain.ledger import LedgerEntry
from rollcall.domain.policy import MAX_CSV_BYTES
from rollcall.domain.receipt import Receipt, Source
from rollcall.domain.upload import WebUpload

# The rule of the inbox that removes objects. S3 is late with it, so the time of the object decides.
LIFETIME = timedelta(days=1)


class State(StrEnum):
    """The states of an upload of the page, in their order."""

    AWAITING = "awaiting"
    CHECKING = "checking"
    CHECKED = "checked"
    REGISTERING = "registering"
    REGISTERED = "registered"
    EXPIRED = "expired"


@attrs.frozen(kw_only=True)
class UploadState:
    """The state of an upload of the page.

    Attributes:
        upload: The upload.
        state: Its state. `REGISTERED` means that there is a verdict in the ledger, which may be a refusal.
        received: The newest version in the inbox; None if there is none, or if it expired.
        versions: The number of versions in the inbox that did not expire.
        check: The receipt of the check of that version, or of the last check of an upload that expired; None if
            there is none.
        copy: The version in the store of uploads; None if there is none.
        entry: The ledger entry of that version; None if there is none.
    """

    upload: WebUpload
    state: State
    received: ListedObject | None = None
    versions: int = 0
    check: Receipt | None = None
    copy: ListedObject | None = None
    entry: LedgerEntry | None = None

    @property
    def etag(self) -> str | None:
        """The ETag of the check; None if there is no check."""
        return check_upload.etag_of(self.check) if self.check else None

    @property
    def refused_on_import(self) -> bool:
        """Whether the import registered nobody and is over."""
        return self.entry is not None and not self.entry.receipt.status.registers


@attrs.frozen(kw_only=True)
class FindUpload:
    """The use case. It has no table of uploads.

    Attributes:
        inbox: The uploads that are not registered.
        uploads: The uploads that are registered.
        checks: The reports on uploads in the inbox.
        reports: The store of these reports.
        users: The repository of users and ledger.
        now: Returns the current time, with its time zone.
    """

    inbox: ObjectListing
    uploads: WebUploads
    checks: Reports
    reports: ObjectListing
    users: UserRepository
    now: Callable[[], datetime]

    def __call__(self, upload: WebUpload) -> UploadState:
        """Return the state of an upload, which depends on its id alone if no file of it is stored.

        Raises:
            StoreUnavailableError: A store could not be reached.
            RepositoryUnavailableError: The database could not be reached.
            SchemaError: The database is not prepared.
        """
        stored = list(self.inbox.list(upload.prefix))
        versions = [version for version in stored if self.now() - version.upload.last_modified < LIFETIME]
        received = versions[0] if versions else None
        check = self.checks.read_receipt(Source.of(received.upload)) if received else None
        # If the upload was refused and then registered as a new list, that copy comes first.
        copy = next(iter(self.uploads.list(upload.prefix)), None)
        entry = self.users.find_import(self._identity(copy, stored)) if copy else None
        if copy:
            state = State.REGISTERED if entry else State.REGISTERING
        elif received:
            state = State.CHECKED if check else State.CHECKING
        else:
            state = State.AWAITING if self.now() < upload.awaited_until else State.EXPIRED
            check = self._last_check(upload) if state is State.EXPIRED else None
        return UploadState(
            upload=upload,
            state=state,
            received=received,
            versions=len(versions),
            check=check,
            copy=copy,
            entry=entry,
        )

    def _last_check(self, upload: WebUpload) -> Receipt | None:
        reports = self.reports.list(f"{check_upload.folder_of(upload)}/")
        receipts = [listed for listed in reports if listed.reference.key.endswith(f"/{RECEIPT_NAME}")]
        last = max(receipts, key=lambda listed: listed.upload.last_modified, default=None)
        return self.checks.read(last.reference) if last else None

    def _identity(self, copy: ListedObject, originals: Sequence[ListedObject]) -> str:
        upload = copy.upload
        if upload.version is not None:
            return upload.identity
        # A file of this machine has its SHA-256 as version, which the check of the original knows.
        for original in originals:
            check = self.checks.read_receipt(Source.of(original.upload))
            if check and check.source.sha256 and check.source.size == upload.size:
                return upload.with_content(check.source.sha256).identity
        with self.uploads.open(copy.reference) as stored:
            content = inspected(("utf-8",), MAX_CSV_BYTES, stored)
        return upload.with_content(content.sha256 or "").identity
