"""The two ports: where uploads and reports lie, and where users and ledger live.

Every adapter keeps these contracts; the suites in `tests/contracts` hold them to it. No exception of a driver
leaves an adapter, and no exception carries a cell.
"""

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from itertools import chain
from typing import BinaryIO, NoReturn, Protocol

import attrs

from rollcall.domain.correction import Origin, Verdict
from rollcall.domain.policy import History, LedgerEntry, OnNewVersion, OnRepeat, Policy
from rollcall.domain.receipt import ConservationError, Receipt
from rollcall.domain.rejection import Code
from rollcall.domain.upload import ObjectReference, Upload
from rollcall.domain.user import User


class ObjectNotFoundError(LookupError):
    """There is no such object, or no such version of it."""

    def __init__(self, address: str) -> None:
        super().__init__(f"there is no {address}")


class ObjectChangedError(RuntimeError):
    """The object is not what was announced, or did not stay as it was while it was read."""

    def __init__(self, address: str) -> None:
        super().__init__(f"{address} changed while it was read; try again when it is complete")


class ObjectUnreadableError(RuntimeError):
    """The store gives the object's content only after another request by its owner.

    Args:
        reason: Why, as a sentence without the object's address.
    """


class StoreUnavailableError(RuntimeError):
    """The store could not be reached, or would not let us; another try may go well.

    Args:
        address: What was asked for.
        reason: What the store said, as the end of a sentence.
    """

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"{address}: {reason}")


class ReportNotStoredError(StoreUnavailableError):
    """A report on an import could not be stored; another try stores it.

    Args:
        state: What is registered, and which report could not be stored.
        reason: Where it could not be stored and why.
    """


def raise_alone(error: Exception) -> NoReturn:
    """Raise an error that leads to no other, not even as its context, which some loggers follow."""
    try:
        raise error
    finally:
        error.__context__ = None


@attrs.frozen
class Listed:
    """One version of one object, as a listing shows it.

    Attributes:
        reference: Leads to exactly this version.
        upload: The same that opening it gives.
    """

    reference: ObjectReference
    upload: Upload


class StoredObject(Protocol):
    """An object that was found, open for reading until its context ends."""

    @property
    def upload(self) -> Upload:
        """Which version of which object this is."""
        ...

    def fetch(self, watch: Callable[[bytes], None]) -> BinaryIO:
        """Bring the whole object to this machine.

        Args:
            watch: Is shown every byte once, in order, in pieces.

        Returns:
            The bytes as stored, at their beginning; readable until the context ends, which closes it.

        Raises:
            ObjectChangedError: What came is not whole, or not what `upload` says.
            ObjectUnreadableError: The store gives the content only after another request by its owner.
            StoreUnavailableError: The store failed midway.
        """
        ...

    def verify(self) -> None:
        """Make sure that what was read since `fetch` were the very bytes shown to `watch`.

        Raises:
            ObjectChangedError: They may have been others.
        """
        ...


class ObjectStore(Protocol):
    """Named bytes: uploads to read, reports to write."""

    def open(self, reference: ObjectReference, /) -> AbstractContextManager[StoredObject]:
        """Find exactly the version that is referred to. Leaving the context closes what `fetch` gave.

        Raises:
            ObjectNotFoundError: There is no such object or version.
            ObjectChangedError: It is not the state that was announced.
            StoreUnavailableError: The store could not be asked.
        """
        ...

    def fits(self, key: str, /) -> bool:
        """Return whether an object can have this key here, by its length and its characters."""
        ...

    def require_writable(self, key: str, /) -> None:
        """Raise what `put` of this key would raise, where that is certain without writing anything.

        Raises:
            StoreUnavailableError: Nothing can be stored under this key.
        """
        ...

    def put(self, key: str, content: BinaryIO, /) -> str:
        """Store an object, whole or not at all, over any of the same key, so that it survives a crash.

        Args:
            key: The object key. MUST NOT lead out of the store. One that does not fit is refused.
            content: Read from where it stands to its end; not closed.

        Returns:
            Where it lies, for a person to find it.

        Raises:
            StoreUnavailableError: It could not be stored; nothing was.
        """
        ...

    def list(self, prefix: str = "", /, *, after: ObjectReference | None = None) -> Iterator[Listed]:
        """Yield every object whose key starts with the prefix, each version apart where there are versions.

        They come in the order of their keys' bytes in UTF-8, of each key the newest version first.

        Args:
            prefix: What the keys start with.
            after: One that was listed before: only what comes behind it is yielded.

        Raises:
            ObjectNotFoundError: Nothing was ever listed as `after` says, so what comes after it is not known.
            StoreUnavailableError: The store could not be asked.
        """
        ...


def claims_of(upload: Upload, sha256: str | None, policy: Policy) -> set[str]:
    """Name what nobody else may import while an upload is: itself, its content, and where that matters its key."""
    claims = {upload.identity, sha256 or upload.identity}
    return claims | {upload.key_identity} if policy.orders_versions else claims


def forbids_repeat(policy: Policy) -> bool:
    """Whether no two imports in force with such a policy may have the same content."""
    return policy.on_repeat is OnRepeat.SKIP and not policy.updates


def forbids_new_version(policy: Policy, corrects: int | None) -> bool:
    """Whether no two imports in force with such a policy may be versions of the same key.

    Args:
        policy: Their policy.
        corrects: The import whose rejected rows they correct; None for files of users.
    """
    return corrects is None and not policy.unique_by and policy.on_new_version is OnNewVersion.REFUSE


class ImportInProgressError(RuntimeError):
    """The same upload, or the same content, is being imported elsewhere; try again later."""

    def __init__(self) -> None:
        super().__init__(
            "the same file is being imported by somebody else at this moment; try again when that is done"
        )


class RepositoryUnavailableError(RuntimeError):
    """The database could not be reached, or failed midway; what was not committed is not there.

    Args:
        reason: What is the matter, as a sentence that shows no row.
    """


class TableLockedError(RepositoryUnavailableError):
    """Somebody else holds a lock that an import needs; another try goes well once it is released.

    Args:
        reason: Which table is locked, and by whom, as a sentence.
    """


class TableConstraintError(RepositoryUnavailableError):
    """The database does not let the rows in: a constraint that is not Rollcall's own, or row-level security.

    Another try would not go better.

    Args:
        reason: The names of constraint, column and table, as a sentence that shows no row.
    """


class SchemaError(RuntimeError):
    """The database is not prepared for this version of Rollcall.

    Args:
        reason: What is the matter and the command to run.
    """


class UnknownImportError(LookupError):
    """The ledger has no import of that number."""

    def __init__(self, import_id: int) -> None:
        super().__init__(f"there is no import {import_id}; `rollcall imports` lists them")


class UndoRefusedError(RuntimeError):
    """An import that cannot be undone."""

    def __init__(self, import_id: int, reason: str) -> None:
        super().__init__(f"import {import_id} cannot be undone: {reason}")


class UndoUnconfirmedError(UndoRefusedError):
    """An import that lost users since; it can be undone once somebody confirms that.

    Args:
        import_id: Which import.
        registered: How many users it registered.
        found: How many of them are still there.
    """

    def __init__(self, import_id: int, registered: int, found: int) -> None:
        super().__init__(
            import_id,
            f"it registered {registered:,} users, of which {found:,} are left in the table; "
            "undo it only if that is as it should be",
        )
        self.registered = registered
        self.found = found


@attrs.frozen
class Block:
    """Accepted rows on their way to the table.

    Attributes:
        csv: The rows as RFC 4180 CSV in UTF-8, cells in the order of `COLUMNS`, separated by commas, each row
            ended by a line feed; no cell holds a line end.
        spans: The physical lines on which the rows start in the upload, in order: so many together where one
            follows the other.
        origins: For each of the rows, which rejected row it corrects; None in a file of users.
    """

    csv: bytes
    spans: Sequence[range]
    origins: Sequence[Origin] | None = None

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return sum(map(len, self.spans))

    @property
    def lines(self) -> Iterator[int]:
        """The line on which each of the rows starts."""
        return chain.from_iterable(self.spans)


@attrs.frozen(kw_only=True)
class Settlement:
    """What became of the rows that were registered, once users who were there already are minded.

    Attributes:
        registered: Rows that became new users.
        updated: Rows that changed users who were there before.
        unchanged: Rows that had nothing to change.
        turned_down: How many rows were refused after all.
        turned_down_rows: The line of each of those, and why, in the order of the file. MAY be read once only, and
            only before the import is withheld or committed.
    """

    registered: int
    updated: int = 0
    unchanged: int = 0
    turned_down: int = 0
    turned_down_rows: Iterable[tuple[int, Code]] = ()

    def require(self, receipt: Receipt) -> None:
        """Make sure that a receipt says the same.

        Raises:
            ConservationError: It does not.
        """
        here = self.registered, self.updated, self.unchanged
        said = receipt.counts.registered, receipt.counts.updated, receipt.counts.unchanged
        if here != said:
            raise ConservationError(
                f"{here} users are registered, updated and unchanged, while the receipt says {said}"
            )


class Importing(Protocol):
    """One open import: a transaction over users and ledger, and the sole claim on its upload and content.

    One that a rival has ended, see `UserRepository.importing`, is lost: whatever is done with it afterwards
    changes nothing, and raises `RepositoryUnavailableError` no later than in its commit.
    """

    @property
    def verdict(self) -> Verdict:
        """The verdict that this import has in the ledger once it is committed; `NO_VERDICT` where none is kept.

        Its number is drawn when it is first asked for, and never used again.

        Raises:
            RepositoryUnavailableError: No number could be drawn.
        """
        ...

    @property
    def history(self) -> History:
        """What the ledger knows; nobody else can change it while the import is open."""
        ...

    def register(self, block: Block, /) -> None:
        """Add users. Nobody else sees them before the commit.

        Raises:
            TableConstraintError: The database does not let them in; the import is lost and must be left. It may be
                `settle` or `commit` that says so.
            RepositoryUnavailableError: They could not be added; the import is lost and must be left.
        """
        ...

    def settle(self) -> Settlement:
        """Bring the registered rows together with the users and corrections that are there already.

        Done once, after the last block; `commit` does it where nobody asked before.

        Where users are told apart by some columns, a row whose user is there, in the table or earlier in the file,
        is skipped, updates it (of several in a file the last counts), or is turned down with `DUPLICATE_ROW`, as
        the policy says. A row whose origin no import in force confirms, see `Verdict.rejected`, is turned down
        with `NOTHING_TO_CORRECT`, and one whose origin was corrected by another import, or is that of a row
        earlier in the file, with `ALREADY_CORRECTED`, whatever becomes of that row; the origins of rows that are
        not turned down are remembered as corrected until this import is undone.

        Raises:
            ImportInProgressError: Somebody else is settling, and was until the deadline of this import, or for ten
                minutes; the import is lost.
            TableConstraintError: The database does not let the rows in; the import is lost and must be left.
            ConservationError: The table did not take all rows; the import is lost and must be left.
            RepositoryUnavailableError: It failed; the import is lost and must be left.
        """
        ...

    def withhold(self) -> None:
        """Take back all that was registered so far; the import stays open."""
        ...

    def commit(self, receipt: Receipt, /) -> None:
        """Make users and ledger entry permanent together; the last thing to be done with an import.

        The entry replaces the one of the same upload that `history` has, if it has one.

        Raises:
            ImportInProgressError: A rival was faster: the ledger's entry of the upload is no longer the one in
                `history`, or has another import in force that the policy forbids beside this one; nothing is kept.
            ConservationError: Not as many rows were registered, updated or left unchanged as the receipt says;
                nothing is kept.
            TableConstraintError: The database does not let the rows in; nothing is kept.
            RepositoryUnavailableError: It failed, or may have: only the ledger knows, so deliver again.
        """
        ...


@attrs.frozen
class Lost:
    """The uploads, by their identities, of which the ledger should know by now and does not.

    Attributes:
        queue: Those to be queued, once more.
        give_up: Those that were queued often enough to no avail.
    """

    queue: frozenset[str] = frozenset()
    give_up: frozenset[str] = frozenset()


class UserRepository(Protocol):
    """Users, and the ledger of the imports they came by."""

    def importing(
        self,
        upload: Upload,
        sha256: str | None,
        policy: Policy = Policy(),
        *,
        corrects: int | None = None,
        seconds_left: float | None = None,
    ) -> AbstractContextManager[Importing]:
        """Open an import. Leaving the context without `commit` undoes everything about it.

        Args:
            upload: What is imported; its version MUST be known.
            sha256: The hexadecimal SHA-256 of its content; None where it could not be had.
            policy: Says how users are told apart.
            corrects: The import whose rejected rows it corrects; None for a file of users.
            seconds_left: How long from now whoever imports may live. Afterwards a rival that has waited in vain
                ends the import and takes its place, since one that is frozen would hold its claims for ever. None
                if nobody may. Only the repository's own clock counts, so that a wrong one elsewhere ends nobody.

        Raises:
            ImportInProgressError: The same upload or content is open elsewhere, and was for some seconds.
            TableLockedError: Somebody else holds a lock on a table of the repository, which may show at any later
                step as well.
            RepositoryUnavailableError: The database could not be reached.
            SchemaError: The database is not prepared.
        """
        ...

    def undo(self, import_id: int, at: datetime, /, *, confirmed: bool = False) -> int:
        """Remove the users that still carry the number of an import, and mark it undone, both or neither.

        Args:
            import_id: Which import.
            at: The time to remember.
            confirmed: Whether somebody knows that fewer users are left than were registered.

        Returns:
            How many users were removed.

        Raises:
            UnknownImportError: There is no such import.
            UndoRefusedError: It cannot be undone, and why.
            UndoUnconfirmedError: Fewer users are left than were registered, and nobody confirmed it.
            ImportInProgressError: A delivery of the same upload is open.
            RepositoryUnavailableError: The database could not be reached.
            SchemaError: The database is not prepared.
        """
        ...

    def note_lost(
        self, identities: Collection[str], at: datetime, /, *, at_most: int, patience: timedelta
    ) -> Lost:
        """Find the lost among some uploads, and note that each of them is queued once more.

        Lost is what has no entry in the ledger and is not being imported at this moment. It is noted before
        anybody sends a message, so that nothing is queued more often than allowed, whoever asks at the same time
        and whatever becomes of the message. Notes of uploads that have their entries are removed.

        Args:
            identities: The uploads, each once.
            at: The time to remember.
            at_most: How often an upload may be queued in all.
            patience: For so long after it was queued, an upload is left alone.

        Raises:
            RepositoryUnavailableError: The database could not be reached, or failed; nothing may be queued.
            SchemaError: The database is not prepared.
        """
        ...

    def entry(self, import_id: int, /) -> LedgerEntry:
        """Look up one import.

        Raises:
            UnknownImportError: There is no such import.
            RepositoryUnavailableError: The database could not be reached.
            SchemaError: The database is not prepared.
        """
        ...

    def entry_of(self, identity: str, /) -> LedgerEntry | None:
        """Look up what became of an upload.

        Args:
            identity: See `Upload.identity`.

        Returns:
            Its import; None if it has none.

        Raises:
            RepositoryUnavailableError: The database could not be reached.
            SchemaError: The database is not prepared.
        """
        ...

    def entries(self) -> Generator[LedgerEntry, None, None]:
        """Yield all imports, the newest first.

        Raises:
            RepositoryUnavailableError: The database could not be reached.
            SchemaError: The database is not prepared.
        """
        ...

    def users(self, import_id: int | None = None, /) -> Generator[User, None, None]:
        """Yield users in the order in which they were registered, as they stand at the first of them.

        Args:
            import_id: Only the users of this import, hence in the order of its file.

        Raises:
            RepositoryUnavailableError: The database could not be reached.
            SchemaError: The database is not prepared.
        """
        ...
