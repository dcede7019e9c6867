"""The two ports: `ObjectStore` for uploads and reports, `UserRepository` for users and ledger.

A caller names the part of `ObjectStore` that it uses. So a store that can only be read is a store of uploads.
The suites in `tests/contracts` check every adapter against these contracts. An adapter translates every exception
of its driver, and no exception shows a cell.
"""

from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import BinaryIO, Protocol

from rollcall.application.values import (
    Block,
    ImportRequest,
    ListedObject,
    LostUploads,
    MergeResult,
    RegisteredUser,
    SignedForm,
)
from rollcall.domain.correction import Origin, Verdict
from rollcall.domain.ledger import History, LedgerEntry
from rollcall.domain.receipt import Receipt
from rollcall.domain.record import AnyUser, RecordType
from rollcall.domain.upload import ObjectReference, Upload


class StoredObject(Protocol):
    """An existing object, open for reading until its context ends."""

    @property
    def upload(self) -> Upload:
        """The version that is open."""
        ...

    def read(self) -> Iterator[bytes]:
        """Yield every byte once, in order, in blocks, as they arrive.

        Raises:
            ObjectChangedError: The bytes are incomplete, or do not fit `upload`.
            ObjectUnreadableError: The store gives the content only after another request by its owner.
            StoreUnavailableError: The store failed before all bytes were read.
        """
        ...

    def reread(self) -> BinaryIO:
        """Return a stream of the same bytes on this machine, at their beginning, after `read` has ended.

        It is the same stream each time. The end of the context closes it.
        """
        ...

    def verify(self) -> None:
        """Check that all bytes read from the stream are those that `read` gave.

        Raises:
            ObjectChangedError: The bytes may differ.
        """
        ...


class ObjectReader(Protocol):
    """A store from which one object can be read."""

    def open(self, reference: ObjectReference, /) -> AbstractContextManager[StoredObject]:
        """Open exactly the version that a reference names. Leaving the context closes the stream of `reread`.

        The upload has the sequencer of the reference.

        Raises:
            ObjectNotFoundError: The object or version does not exist.
            ObjectChangedError: The object is not in the announced state.
            StoreUnavailableError: The store could not be reached.
        """
        ...


class ObjectListing(Protocol):
    """A store whose objects can be listed."""

    def list(self, prefix: str = "", /, *, after: ObjectReference | None = None) -> Iterator[ListedObject]:
        """Yield every object whose key starts with the prefix; with versioning, every version.

        Keys are in the order of their bytes in UTF-8. The versions of a key are in order from the newest.

        Args:
            prefix: The beginning of the keys.
            after: The reference of an earlier listing after which this listing begins; None for the beginning.

        Raises:
            ObjectNotFoundError: The store does not know the position of `after`.
            StoreUnavailableError: The store could not be reached.
        """
        ...


class ReportStore(ObjectReader, Protocol):
    """A store of reports: small objects to write, and to read back."""

    def fits(self, key: str, /) -> bool:
        """Return whether the store takes this key, by its length and its characters."""
        ...

    def require_writable(self, key: str, /) -> None:
        """Check whether `put` would certainly fail for this key, without writing anything.

        Raises:
            StoreUnavailableError: Nothing can be stored under this key.
        """
        ...

    def put(self, key: str, content: BinaryIO, /) -> str:
        """Store an object, whole or not at all. It replaces any object of the same key, and survives a crash.

        Args:
            key: The object key. MUST NOT lead out of the store. A key that does not fit is an error. If it ends
                with .html or .json, a browser shows the object as that.
            content: A stream, read from its position to its end and not closed.

        Returns:
            The object's address, for a person.

        Raises:
            StoreUnavailableError: The object could not be stored; nothing was stored.
        """
        ...


class ObjectStore(ReportStore, ObjectListing, Protocol):
    """A store to read, to list and to write."""


class UploadForms(Protocol):
    """A store into which a browser uploads a file by itself, with a form that was signed for it."""

    def fits(self, key: str, /) -> bool:
        """Return whether the store takes this key, by its length and its characters."""
        ...

    def sign(self, key: str, /, *, max_bytes: int, expires: datetime) -> SignedForm:
        """Sign a form that stores one object.

        With any other key, type or field, with no byte or more than `max_bytes`, or after it expires, the store
        refuses the form.

        Args:
            key: The object key.
            max_bytes: The largest size of the object, in bytes.
            expires: The time from which the form is refused, at most an hour from now.

        Raises:
            StoreUnavailableError: There are no credentials to sign with.
        """
        ...


class FormReceiver(Protocol):
    """A store that takes its signed forms by itself, because it is no bucket."""

    def receive(self, fields: Mapping[str, str], content: BinaryIO, /) -> str:
        """Store the file of a form, in constant memory, whole or not at all.

        Args:
            fields: The fields of the form.
            content: The file, read to its end. If it raises an error, nothing is stored.

        Returns:
            The object key.

        Raises:
            FormRefusedError: The form or the file is not what was signed, or the form was used before.
            StoreUnavailableError: The file could not be stored.
        """
        ...


class NewObjects(Protocol):
    """A store that creates objects. An existing object is left as it is."""

    def place(self, key: str, /) -> ObjectReference:
        """Return bucket and key as the upload of an object has them, which need not exist."""
        ...

    def create(self, key: str, content: BinaryIO, /) -> None:
        """Store an object, whole or not at all, unless the key has one.

        Args:
            key: The object key. MUST NOT lead out of the store.
            content: A small stream, read from its position to its end and not closed.

        Raises:
            StoreUnavailableError: The object could not be stored; nothing was stored.
        """
        ...

    def copy(self, source: ObjectReader, version: ListedObject, key: str, /) -> None:
        """Store a copy of exactly one version, whole or not at all, unless the key has an object.

        Args:
            source: A store of the same kind.
            version: The version, as `source` lists it.
            key: The object key. MUST NOT lead out of the store.

        Raises:
            ObjectNotFoundError: The version does not exist.
            ObjectChangedError: The object is not in the listed state.
            StoreUnavailableError: A store failed; nothing was stored.
        """
        ...


class RangeReader(Protocol):
    """A store that can read a part of an object."""

    def read(self, key: str, start: int, length: int, /) -> bytes:
        """Return a part of an object, with one request.

        Args:
            key: The object key.
            start: The position of the first byte; 0 for the beginning.
            length: The number of bytes; at least 1. At the end of the object, there may be fewer.

        Raises:
            ObjectNotFoundError: The object does not exist.
            StoreUnavailableError: The store could not be reached.
        """
        ...


class DownloadLinks(Protocol):
    """A store from which a browser downloads an object by itself."""

    def link(self, key: str, /, *, seconds: int) -> str:
        """Return an address from which the object can be downloaded for some time, as a file under its own name.

        Args:
            key: The object key; the object need not exist.
            seconds: How long the address is valid.

        Returns:
            An https: address; or a file: address, which only a program on the same machine can serve.

        Raises:
            StoreUnavailableError: There are no credentials to sign with.
        """
        ...


class Inbox(ObjectReader, ObjectListing, UploadForms, Protocol):
    """The store of uploads that are not registered yet."""


class WebUploads(ObjectReader, ObjectListing, NewObjects, Protocol):
    """The store of uploads, or the inbox, to which the Web API adds."""


class WebReports(ObjectListing, RangeReader, DownloadLinks, Protocol):
    """The store of reports, from which the Web API reads."""


class WholeStore(ObjectStore, UploadForms, NewObjects, RangeReader, DownloadLinks, Protocol):
    """A whole store, as the adapters implement it."""


class Importing(Protocol):
    """One open import: a transaction over users and ledger, with the locks of its upload and content.

    An import that a rival has ended, see `UserRepository.importing`, is lost. It cannot change anything
    afterwards: at the latest, its commit raises `RepositoryUnavailableError`.

    After an error that says "the import is lost", the caller must leave the context.
    """

    @property
    def verdict(self) -> Verdict:
        """The verdict that the ledger will have for this import; `NO_VERDICT` if there is no ledger.

        The first access takes a new number, which is never used for another verdict.

        Raises:
            RepositoryUnavailableError: The database failed; there is no number.
        """
        ...

    @property
    def history(self) -> History:
        """The ledger entries that concern the upload. The locks keep rivals from changing them.

        MUST NOT be read before the content is known; see `identify`.
        """
        ...

    def identify(self, request: ImportRequest, /) -> None:
        """Complete a request that was opened while its content was being read, before it is merged or committed.

        The locks that are missing are acquired, and the ledger is read.

        Args:
            request: The same request, with the content and the upload's version.

        Raises:
            ImportInProgressError: Another import held one of the locks for some seconds; the import is lost.
            TableConstraintError: The database rejects the rows; the import is lost.
            RepositoryUnavailableError: The database failed; the import is lost.
        """
        ...

    def register(self, block: Block, /) -> None:
        """Add rows. Other sessions see them only after the commit.

        Raises:
            TableConstraintError: The database rejects the rows; the import is lost. `merge` or `commit` may raise
                this later.
            RepositoryUnavailableError: The database failed; the import is lost.
        """
        ...

    def merge(self, columns: Collection[str] | None = None, /) -> MergeResult:
        """Merge the rows with existing users and corrections.

        The caller does this at most once, after the last block. Otherwise `commit` does it.

        Args:
            columns: The columns that the upload has; an update leaves the others of a user as they are. None for
                all columns.

        Duplicates: if `Policy.unique_by` names columns, a row may have the user of an existing row, in the table
        or earlier in the file. The policy decides whether such a row is skipped, updates the user (the last row of
        a file wins), or is rejected with `DUPLICATE_ROW`.

        Corrections: a row is rejected with `NOTHING_TO_CORRECT` if no import in force confirms its origin, see
        `Verdict.rejected`. It is rejected with `ALREADY_CORRECTED` if another import corrected its origin, or if a
        row earlier in the file has the same origin, even if that row is rejected. The origins of the other rows
        are recorded as corrected until this import is undone.

        Raises:
            ImportInProgressError: Another import held the merge lock for as long as the deadline of this import
                allows, at most ten minutes; the import is lost.
            TableConstraintError: The database rejects the rows; the import is lost.
            ConservationError: The table did not take every row; the import is lost.
            RepositoryUnavailableError: The database failed; the import is lost.
        """
        ...

    def discard_rows(self) -> None:
        """Discard all rows registered so far; the import stays open."""
        ...

    def commit(self, receipt: Receipt, /) -> None:
        """Commit users and ledger entry together. This is the last call on an import.

        The entry replaces `history.same_upload`, if there is one.

        Raises:
            ImportInProgressError: A rival committed first: the ledger's entry of the upload is no longer
                `history.same_upload`, or the ledger has another import in force that the policy forbids beside
                this one. Nothing was committed.
            ConservationError: The rows registered, updated and unchanged differ from the receipt. Nothing was
                committed.
            TableConstraintError: The database rejects the rows. Nothing was committed.
            RepositoryUnavailableError: The database failed. It may have committed; only the ledger shows that, so
                deliver again.
        """
        ...


class UserRepository(Protocol):
    """The users, and the ledger of their imports."""

    @property
    def record_type(self) -> RecordType:
        """What a user consists of."""
        ...

    def resembles_import(self, upload: Upload, /) -> bool:
        """Return whether the ledger has an entry of the same key or the same size, with any verdict.

        Such an upload may be there already, so its content is better known before its rows are registered.

        Raises:
            RepositoryUnavailableError: The database could not be reached.
            SchemaError: The database is not prepared.
        """
        ...

    def importing(self, request: ImportRequest, /) -> AbstractContextManager[Importing]:
        """Open an import. Leaving the context without `commit` rolls it back.

        Raises:
            ImportInProgressError: Another import held the lock of the same upload, content or key for some
                seconds.
            TableLockedError: Another session holds a lock on a table of the repository. Any later step may raise
                this, too.
            RepositoryUnavailableError: The database could not be reached.
            SchemaError: The database is not prepared.
        """
        ...

    def undo(self, import_id: int, at: datetime, /, *, confirmed: bool = False) -> int:
        """Remove the remaining users of an import and mark it as undone, in one transaction.

        Args:
            import_id: The import.
            at: The time of the undo, for the ledger.
            confirmed: Whether to undo it even if fewer users are left than it registered.

        Returns:
            The number of users that were removed.

        Raises:
            UnknownImportError: The ledger has no import with this number.
            UndoRefusedError: The import cannot be undone; the message gives the reason.
            UndoUnconfirmedError: Fewer users are left than it registered, and `confirmed` is false.
            ImportInProgressError: A delivery of the same upload is open, or another import is merging.
            RepositoryUnavailableError: The database could not be reached.
            SchemaError: The database is not prepared.
        """
        ...

    def record_lost(
        self, identities: Collection[str], at: datetime, /, *, at_most: int, patience: timedelta
    ) -> LostUploads:
        """Find the lost uploads among some, and record that each is queued once more.

        An upload is lost if it has no ledger entry and is not being imported at the moment. The record is
        committed before the caller sends a message. So no upload is queued more often than allowed, even if
        several sweeps run at once or a message is lost. That an upload is given up is recorded, too, so that only
        one call returns it as newly given up. Records of uploads that have an entry are removed.

        Args:
            identities: The identities of the uploads, each once.
            at: The current time, for the record.
            at_most: How often an upload may be queued in total.
            patience: The smallest time after an upload was queued until it counts as lost again.

        Raises:
            RepositoryUnavailableError: The database could not be reached, or failed; the caller must queue
                nothing.
            SchemaError: The database is not prepared.
        """
        ...

    def get_import(self, import_id: int, /) -> LedgerEntry:
        """Return the ledger entry of an import.

        Raises:
            UnknownImportError: The ledger has no import with this number.
            RepositoryUnavailableError: The database could not be reached.
            SchemaError: The database is not prepared.
        """
        ...

    def find_import(self, identity: str, /) -> LedgerEntry | None:
        """Return the ledger entry of an upload.

        Args:
            identity: See `Upload.identity`.

        Returns:
            The entry; None if the upload has none.

        Raises:
            RepositoryUnavailableError: The database could not be reached.
            SchemaError: The database is not prepared.
        """
        ...

    def corrected(self, origins: Collection[Origin], /) -> set[Origin]:
        """Return those of some rejected rows that an import in force corrected.

        Raises:
            RepositoryUnavailableError: The database could not be reached.
            SchemaError: The database is not prepared.
        """
        ...

    def entries(
        self,
        *,
        before: int | None = None,
        uploaded_by: str | None = None,
        correcting: int | None = None,
        limit: int | None = None,
    ) -> Generator[LedgerEntry, None, None]:
        """Yield the ledger entries of imports, the newest first.

        Args:
            before: Only imports with a lower id; None for all.
            uploaded_by: Only the imports of this uploader; None for all.
            correcting: Only the imports in force that registered corrected rows of this import; None for all.
            limit: The largest number of entries; None for all.

        Raises:
            RepositoryUnavailableError: The database could not be reached.
            SchemaError: The database is not prepared.
        """
        ...

    def users(self, import_id: int | None = None, /) -> Generator[AnyUser, None, None]:
        """Yield users in the order in which they were registered, as they are when the first is read.

        Args:
            import_id: Only the users of this import, which are in the order of its file; None for all users.

        Raises:
            RepositoryUnavailableError: The database could not be reached.
            SchemaError: The database is not prepared.
        """
        ...

    def users_after(self, user_id: int, /, *, limit: int, import_id: int | None = None) -> list[RegisteredUser]:
        """Return the users with the lowest ids above an id, in the order of their ids.

        Args:
            user_id: The id; 0 for the first users.
            limit: The largest number of users.
            import_id: Only the users of this import; None for all users.

        Raises:
            RepositoryUnavailableError: The database could not be reached.
            SchemaError: The database is not prepared.
        """
        ...
