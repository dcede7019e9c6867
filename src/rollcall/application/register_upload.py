"""Register a checked upload of the page: copy exactly the checked version to the uploads, which are imported."""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

import attrs

from rollcall.application.errors import ImportInProgressError, ObjectChangedError, ObjectNotFoundError
from rollcall.application.find_upload import FindUpload, State, UploadState
from rollcall.application.ports import ObjectReader, UserRepository, WebUploads
from rollcall.application.values import ImportRequest, ListedObject
from rollcall.domain.decision import admit
from rollcall.domain.errors import RollcallError
from rollcall.domain.policy import Policy
from rollcall.domain.receipt import Receipt, Status
from rollcall.domain.rejection import Code
from rollcall.domain.upload import Upload, WebUpload

# The transaction that asks the ledger changes nothing, so a rival may end it soon.
_ASKING_SECONDS = 10


class Refusal(StrEnum):
    """Why an upload is not registered."""

    NOT_CHECKED = "not-checked"
    REFUSED = "refused"
    CHANGED_SINCE_CHECK = "changed-since-check"
    EXPIRED = "expired"
    KEY_ALREADY_LOADED = "key-already-loaded"


class RegistrationRefusedError(RollcallError):
    """An upload is not registered.

    Args:
        refusal: The kind of reason.
        reason: The reason, as a sentence that shows no cell.
        import_id: The import that is the reason; None if there is none.
    """

    def __init__(self, refusal: Refusal, reason: str, import_id: int | None = None) -> None:
        super().__init__(reason)
        self.refusal = refusal
        self.import_id = import_id


@attrs.frozen(kw_only=True)
class RegisterUpload:
    """The use case.

    Attributes:
        find: Returns the state of an upload.
        inbox: The uploads that are not registered.
        uploads: The uploads that are registered; each object there is imported.
        users: The repository of users and ledger.
        policy: The operator's settings.
        now: Returns the current time, with its time zone.
    """

    find: FindUpload
    inbox: ObjectReader
    uploads: WebUploads
    users: UserRepository
    policy: Policy
    now: Callable[[], datetime]

    def __call__(self, upload: WebUpload, etag: str, *, as_new: bool = False) -> UploadState:
        """Register an upload. To repeat it is harmless.

        Args:
            upload: The upload.
            etag: The ETag of the check that a person saw.
            as_new: Whether it is a new list, also if the uploader already registered a file of that name.

        Returns:
            The state after that. An upload that was registered before is not registered again, unless its import
            registered nobody and `as_new` is given.

        Raises:
            RegistrationRefusedError: The upload is not registered.
            StoreUnavailableError: A store failed; try again.
            ImportInProgressError: A file of the same name is being imported; try again later.
            RepositoryUnavailableError: The database failed; try again.
            SchemaError: The database is not prepared.
        """
        found = self.find(upload)
        if found.copy and not (as_new and found.refused_on_import):
            return found
        received, check = checked_version(found, etag)
        if not check.status.registers:
            raise RegistrationRefusedError(
                Refusal.REFUSED, check.message or "the check refused the file; correct the original"
            )
        key = upload.key(received.reference.key.rpartition("/")[2], as_new=as_new)
        if not as_new:
            try:
                self._require_first(key, upload)
            except (RegistrationRefusedError, ImportInProgressError):
                # A request at the same time may have registered this upload meanwhile.
                if (found := self.find(upload)).copy:
                    return found
                raise
        try:
            self.uploads.copy(self.inbox, received, key)
        except ObjectNotFoundError:
            raise expired() from None
        except ObjectChangedError:
            raise changed() from None
        return self.find(upload)

    def _require_first(self, key: str, web_upload: WebUpload) -> None:
        """Check that the ledger has no import in force of another file of this name.

        Raises:
            RegistrationRefusedError: It has one, and the policy forbids another beside it.
        """
        place = self.uploads.place(key)
        upload = Upload(
            bucket=place.bucket,
            key=place.key,
            version="",
            size=0,
            last_modified=self.now(),
            owned_by=web_upload.owner,
        )
        request = ImportRequest(upload, None, self.policy, seconds_left=_ASKING_SECONDS)
        with self.users.importing(request) as importing:
            decision = admit(upload, importing.history, self.policy)
        if decision and decision.code is Code.KEY_ALREADY_LOADED:
            because_of = decision.because_of.import_id if decision.because_of else None
            raise RegistrationRefusedError(Refusal.KEY_ALREADY_LOADED, decision.message, because_of)


def checked_version(found: UploadState, etag: str) -> tuple[ListedObject, Receipt]:
    """Return the version whose check a person saw, and its check.

    Raises:
        RegistrationRefusedError: There is no such version, or it has another check.
    """
    if not found.received and found.state is not State.AWAITING:
        raise expired()
    if not found.received or not found.check or found.check.status is Status.SKIPPED:
        if found.versions > 1:
            raise changed()
        raise RegistrationRefusedError(Refusal.NOT_CHECKED, "the file is not checked yet")
    if found.etag != etag:
        raise changed()
    return found.received, found.check


def expired() -> RegistrationRefusedError:
    """Return the refusal of an upload whose object is gone, or was never sent."""
    return RegistrationRefusedError(
        Refusal.EXPIRED, "the file was not sent in time, or not registered within a day; upload it again"
    )


def changed() -> RegistrationRefusedError:
    """Return the refusal of an upload that is not the one that was checked."""
    return RegistrationRefusedError(
        Refusal.CHANGED_SINCE_CHECK, "the file or the rules changed since this check; look at the new check"
    )
