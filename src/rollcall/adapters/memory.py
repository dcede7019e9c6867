"""Both ports in memory: whole implementations for tests and trials, gone with the process."""

import csv
import io
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import BinaryIO

import attrs

from rollcall.application.ports import (
    Block,
    ImportInProgressError,
    ObjectChangedError,
    ObjectNotFoundError,
    RepositoryUnavailableError,
    UndoRefusedError,
    UnknownImportError,
)
from rollcall.domain.policy import History, LedgerEntry, why_not_undone
from rollcall.domain.receipt import ConservationError, Receipt
from rollcall.domain.upload import ObjectReference, Upload
from rollcall.domain.user import User

_PIECE_BYTES = 64 * 1024


@attrs.frozen
class _Version:
    upload: Upload
    data: bytes


@attrs.frozen
class _MemoryObject:
    upload: Upload
    data: bytes

    def fetch(self, watch: Callable[[bytes], None]) -> BinaryIO:
        for start in range(0, len(self.data), _PIECE_BYTES):
            watch(self.data[start : start + _PIECE_BYTES])
        return io.BytesIO(self.data)

    def verify(self) -> None:
        """Nothing to do: what is in memory under a version does not change."""


class MemoryObjectStore:
    """A versioned bucket in memory.

    Args:
        bucket: Its name.
        now: Tells the time at which an object is taken in.
    """

    def __init__(self, bucket: str = "memory", now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._bucket = bucket
        self._now = now
        self._lock = threading.Lock()
        self._objects: dict[str, list[_Version]] = {}

    @contextmanager
    def open(self, reference: ObjectReference) -> Iterator[_MemoryObject]:
        with self._lock:
            versions = list(self._objects.get(reference.key, ()))
        wanted = [version for version in versions[-1:] if reference.version is None] or [
            version for version in versions if version.upload.version == reference.version
        ]
        if not wanted:
            raise ObjectNotFoundError(f"{self._bucket}/{reference.key}")
        if (
            reference.etag is not None
            and reference.version is None
            and wanted[-1].upload.version != reference.etag
        ):
            raise ObjectChangedError(f"{self._bucket}/{reference.key}")
        yield _MemoryObject(wanted[-1].upload, wanted[-1].data)

    def put(self, key: str, content: BinaryIO) -> str:
        data = content.read()
        with self._lock:
            versions = self._objects.setdefault(key, [])
            upload = Upload(
                bucket=self._bucket,
                key=key,
                version=str(len(versions) + 1),
                size=len(data),
                last_modified=self._now(),
            )
            versions.append(_Version(upload, data))
        return f"memory:{key}"

    def list(self, prefix: str = "") -> Iterator[ObjectReference]:
        with self._lock:
            versions = [version for key in sorted(self._objects) for version in self._objects[key]]
        return (
            ObjectReference(bucket=self._bucket, key=version.upload.key, version=version.upload.version)
            for version in versions
            if version.upload.key.startswith(prefix)
        )


@attrs.frozen
class _Committed:
    """One ledger row."""

    entry: LedgerEntry
    upload: Upload
    sha256: str | None


@attrs.define
class _MemoryImport:
    """One open import; its users join the others at the commit."""

    import_id: int
    history: History
    users: list[User] = attrs.Factory(list)
    receipt: Receipt | None = None

    def register(self, block: Block) -> None:
        rows = csv.reader(io.StringIO(block.csv.decode(), newline=""), strict=True)
        users = [User.parse(row) for row in rows]
        if len(users) != len(block.lines):
            raise RepositoryUnavailableError("a block does not hold as many rows as it has lines")
        for user in users:
            if not isinstance(user, User):
                raise RepositoryUnavailableError("a block holds a row that is no user")
            self.users.append(user)

    def withhold(self) -> None:
        self.users.clear()

    def commit(self, receipt: Receipt) -> None:
        if receipt.counts.registered != len(self.users):
            raise ConservationError(
                f"{len(self.users)} users stand for registration, the receipt says {receipt.counts.registered}"
            )
        self.receipt = receipt


class MemoryUserRepository:
    """Users and ledger in memory, safe for threads.

    Args:
        patience: How many seconds an import waits for a rival.
        before_commit: Is called when an import is about to become permanent; what it raises prevents that.
    """

    def __init__(self, patience: float = 5, before_commit: Callable[[], None] = lambda: None) -> None:
        self._patience = patience
        self._before_commit = before_commit
        self._state = threading.Condition()
        self._claimed: set[str] = set()
        self._last_id = 0
        self._ledger: dict[str, _Committed] = {}
        self._users: list[tuple[int, User]] = []

    @contextmanager
    def importing(self, upload: Upload, sha256: str | None) -> Iterator[_MemoryImport]:
        with self._claiming({upload.identity, sha256 or upload.identity}):
            with self._state:
                committed = self._ledger.get(upload.identity)
                if committed:
                    import_id = committed.entry.import_id
                else:
                    self._last_id += 1
                    import_id = self._last_id
                opened = _MemoryImport(import_id, self._history(upload, sha256))
            yield opened
            if opened.receipt:
                self._before_commit()
                with self._state:
                    entry = LedgerEntry(import_id=import_id, receipt=opened.receipt)
                    self._ledger[upload.identity] = _Committed(entry, upload, sha256)
                    self._users = self._users + [(import_id, user) for user in opened.users]

    def undo(self, import_id: int, at: datetime) -> int:  # noqa: ARG002 - memory has no column to remember it in
        committed = self._committed(import_id)
        with self._claiming({committed.upload.identity}), self._state:
            committed = self._committed(import_id)
            if reason := why_not_undone(committed.entry):
                raise UndoRefusedError(import_id, reason)
            left = [(owner, user) for owner, user in self._users if owner != import_id]
            removed = len(self._users) - len(left)
            self._users = left
            self._ledger[committed.upload.identity] = attrs.evolve(
                committed, entry=attrs.evolve(committed.entry, undone=True)
            )
        return removed

    def entry(self, import_id: int) -> LedgerEntry:
        return self._committed(import_id).entry

    def entries(self) -> Generator[LedgerEntry, None, None]:
        with self._state:
            entries = [committed.entry for committed in self._ledger.values()]
        yield from sorted(entries, key=lambda entry: -entry.import_id)

    def users(self, import_id: int | None = None) -> Generator[User, None, None]:
        users = self._users
        return (user for owner, user in users if import_id in {None, owner})

    @contextmanager
    def _claiming(self, claims: set[str]) -> Iterator[None]:
        with self._state:
            if not self._state.wait_for(lambda: not claims & self._claimed, self._patience):
                raise ImportInProgressError
            self._claimed |= claims
        try:
            yield
        finally:
            with self._state:
                self._claimed -= claims
                self._state.notify_all()

    def _committed(self, import_id: int) -> _Committed:
        for committed in self._ledger.values():
            if committed.entry.import_id == import_id:
                return committed
        raise UnknownImportError(import_id)

    def _history(self, upload: Upload, sha256: str | None) -> History:
        """Gather what the ledger knows; the caller holds the state."""
        same_upload = self._ledger.get(upload.identity)
        others = sorted(
            (
                committed
                for identity, committed in self._ledger.items()
                if identity != upload.identity and committed.entry.in_force
            ),
            key=lambda committed: committed.entry.import_id,
        )
        same_content = [other for other in others if sha256 is not None and other.sha256 == sha256]
        same_key = [other for other in others if other.upload.key_identity == upload.key_identity]
        return History(
            same_upload=same_upload.entry if same_upload else None,
            same_content=same_content[0].entry if same_content else None,
            same_key=same_key[-1].entry if same_key else None,
        )
