"""A repository and a store of reports that keep nothing. With them, an import is a check."""

import csv
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, BinaryIO, Never

import attrs

from rollcall.application.errors import ObjectNotFoundError, RepositoryUnavailableError, UnknownImportError
from rollcall.application.values import (
    Block,
    ImportRequest,
    ListedObject,
    LostUploads,
    MergeResult,
    RegisteredUser,
    Reread,
)
from rollcall.domain.correction import NO_VERDICT, Origin, Verdict
from rollcall.domain.ledger import History, LedgerEntry
from rollcall.domain.policy import Policy
from rollcall.domain.receipt import Receipt
from rollcall.domain.record import AnyUser, RecordType
from rollcall.domain.rejection import Code
from rollcall.domain.upload import ObjectReference, Upload

if TYPE_CHECKING:
    from sqlite3 import Connection

_CACHE_KIB = 16 * 1024
_ADD_USER = "insert or ignore into users values (?)"
_ADD_ORIGIN = "insert or ignore into origins values (?, ?, ?)"


class _Seen:
    """The users and origins of one upload, in a temporary SQLite file, to find duplicates within the upload.

    Args:
        record_type: What a user consists of.
        policy: Names the columns that identify a user, and what to do with duplicates.
    """

    def __init__(self, record_type: RecordType, policy: Policy) -> None:
        # Few checks need sqlite3, and not every Python has it.
        import sqlite3  # noqa: PLC0415 - see above

        self._positions = [record_type.columns.index(column) for column in policy.unique_by]
        self._rejects = policy.rejects_duplicates
        self._registered = 0
        self._unchanged = 0
        self._rejected_on_merge = 0
        self._error = sqlite3.Error
        with self._explained():
            self._connection: Connection = sqlite3.connect("", isolation_level=None)
            self._connection.executescript(
                f"""
                pragma cache_size = -{_CACHE_KIB};
                pragma journal_mode = off;
                create table users (key text primary key) without rowid;
                create table origins (
                    import_id integer, line integer, proof text, primary key (import_id, line, proof)
                ) without rowid;
                create table rejected_on_merge (line integer primary key, code text not null);
                begin;
                """
            )

    def take(self, block: Block) -> None:
        """Compare each row of a block with the earlier rows of the upload."""
        rows = csv.reader(block.csv.decode().split("\n")[:-1], strict=True)
        origins: Sequence[Origin | None] = block.origins or [None] * block.rows
        with self._explained():
            for line, row, origin in zip(block.lines, rows, origins, strict=True):
                if origin and not origin.provable:
                    self._reject(line, Code.NOTHING_TO_CORRECT)
                elif origin and not self._is_new(_ADD_ORIGIN, *origin):
                    self._reject(line, Code.ALREADY_CORRECTED)
                elif not self._positions or self._is_new(_ADD_USER, self._key(row)):
                    self._registered += 1
                elif self._rejects:
                    self._reject(line, Code.DUPLICATE_ROW)
                else:
                    self._unchanged += 1

    def merge(self) -> MergeResult:
        """Return the result of merging the rows with an empty table, in which no user can be updated."""
        return MergeResult(
            registered=self._registered,
            unchanged=self._unchanged,
            rejected_on_merge=self._rejected_on_merge,
            rows_rejected_on_merge=Reread(self._rows_rejected_on_merge),
        )

    def close(self) -> None:
        """Delete the temporary file."""
        self._connection.close()

    def _key(self, row: list[str]) -> str:
        # No cell contains a line end.
        return "\n".join([row[position] for position in self._positions])

    def _is_new(self, add: str, *key: str | int) -> bool:
        return self._connection.execute(add, key).rowcount > 0

    def _reject(self, line: int, code: Code) -> None:
        self._rejected_on_merge += 1
        self._connection.execute("insert into rejected_on_merge values (?, ?)", (line, code.value))

    def _rows_rejected_on_merge(self) -> Iterator[tuple[int, Code]]:
        with self._explained():
            for line, code in self._connection.execute("select line, code from rejected_on_merge order by line"):
                yield line, Code(code)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._error as error:
            raise RepositoryUnavailableError(
                f"duplicates within the file could not be searched for in a temporary file: {error}"
            ) from error


@attrs.define
class _DryImport:
    _record_type: RecordType
    _policy: Policy
    _closing: ExitStack
    verdict: Verdict = NO_VERDICT
    history: History = History(has_ledger=False)
    _rows: int = 0
    _seen: _Seen | None = None

    def identify(self, request: ImportRequest) -> None:
        """Do nothing, because there is no ledger."""

    def register(self, block: Block) -> None:
        """Count the rows; keep only the columns and origins that show duplicates."""
        self._rows += block.rows
        if not self._seen and (self._policy.unique_by or block.origins):
            self._seen = self._closing.enter_context(closing(_Seen(self._record_type, self._policy)))
        if self._seen:
            self._seen.take(block)

    def merge(self, columns: Collection[str] | None = None) -> MergeResult:  # noqa: ARG002 - the port's
        """Return the result as if the table were empty; only a database knows the existing users."""
        return self._seen.merge() if self._seen else MergeResult(registered=self._rows)

    def discard_rows(self) -> None:
        """Do nothing, because nothing was kept."""

    def commit(self, receipt: Receipt) -> None:
        """Do nothing, because nothing is kept."""


@attrs.frozen
class DryRunUserRepository:
    """An empty repository that stays empty.

    Attributes:
        record_type: What a user consists of.
    """

    record_type: RecordType

    def resembles_import(self, upload: Upload) -> bool:  # noqa: ARG002 - the port's
        """Return False, because there is no import."""
        return False

    @contextmanager
    def importing(self, request: ImportRequest) -> Iterator[_DryImport]:
        """Open an import that leaves nothing behind."""
        with ExitStack() as stack:
            yield _DryImport(self.record_type, request.policy, stack)

    def undo(self, import_id: int, at: datetime, *, confirmed: bool = False) -> int:  # noqa: ARG002 - the port's
        """Raise, because there is no import."""
        raise UnknownImportError(import_id)

    def record_lost(
        self,
        identities: Collection[str],
        at: datetime,  # noqa: ARG002 - the port's, as all the others
        *,
        at_most: int,  # noqa: ARG002
        patience: timedelta,  # noqa: ARG002
    ) -> LostUploads:
        """Return all uploads as lost, and record nothing."""
        return LostUploads(queue=frozenset(identities))

    def get_import(self, import_id: int) -> LedgerEntry:
        """Raise, because there is no import."""
        raise UnknownImportError(import_id)

    def find_import(self, identity: str) -> None:
        """Return None, because there is no import."""

    def corrected(self, origins: Collection[Origin]) -> set[Origin]:  # noqa: ARG002 - the port's
        """Return none, because there is no import."""
        return set()

    def entries(
        self,
        *,
        before: int | None = None,  # noqa: ARG002 - the port's, as all the others
        uploaded_by: str | None = None,  # noqa: ARG002
        correcting: int | None = None,  # noqa: ARG002
        limit: int | None = None,  # noqa: ARG002
    ) -> Generator[LedgerEntry, None, None]:
        """Yield nothing."""
        yield from ()

    def users(self, import_id: int | None = None) -> Generator[AnyUser, None, None]:  # noqa: ARG002 - the port's
        """Yield nothing."""
        yield from ()

    def users_after(
        self,
        user_id: int,  # noqa: ARG002 - the port's, as all the others
        *,
        limit: int,  # noqa: ARG002
        import_id: int | None = None,  # noqa: ARG002
    ) -> list[RegisteredUser]:
        """Return nobody."""
        return []


class NoReports:
    """An empty store that stays empty."""

    def open(self, reference: ObjectReference) -> AbstractContextManager[Never]:
        """Raise, because there is no object."""
        raise ObjectNotFoundError(reference.key)

    def fits(self, key: str) -> bool:  # noqa: ARG002 - the port's
        """Return True: every key is accepted."""
        return True

    def require_writable(self, key: str) -> None:
        """Do nothing, because nothing is written."""

    def put(self, key: str, content: BinaryIO) -> str:  # noqa: ARG002 - the port's
        """Discard the content."""
        return ""

    def list(self, prefix: str = "", *, after: ObjectReference | None = None) -> Iterator[ListedObject]:  # noqa: ARG002 - the port's
        """Yield nothing."""
        return iter(())
