"""Both ports in memory: complete implementations for tests and trials. Their content ends with the process."""

import csv
import io
import secrets
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import dropwhile, islice
from typing import BinaryIO

import attrs

from rollcall.application.errors import (
    ImportInProgressError,
    ObjectChangedError,
    ObjectNotFoundError,
    RepositoryUnavailableError,
    UndoRefusedError,
    UndoUnconfirmedError,
    UnknownImportError,
)
from rollcall.application.forms import Forms, form_used, pieces
from rollcall.application.ports import ObjectReader
from rollcall.application.values import (
    Block,
    ImportRequest,
    ListedObject,
    LostUploads,
    MergeResult,
    RegisteredUser,
    SignedForm,
)
from rollcall.domain.correction import SECRET_BYTES, Origin, Verdict
from rollcall.domain.ledger import DependentImports, History, LedgerEntry, undo_blocker
from rollcall.domain.receipt import Receipt
from rollcall.domain.record import AnyUser, RecordType
from rollcall.domain.rejection import Code
from rollcall.domain.upload import ObjectReference, Upload, owner_in
from rollcall.domain.user import USERS

_PIECE_BYTES = 64 * 1024
_MERGE_LOCK = "settling"


@attrs.frozen
class _Version:
    upload: Upload
    data: bytes


@attrs.frozen
class _MemoryObject:
    upload: Upload
    data: bytes
    stream: BinaryIO

    def read(self) -> Iterator[bytes]:
        return (self.data[start : start + _PIECE_BYTES] for start in range(0, len(self.data), _PIECE_BYTES))

    def reread(self) -> BinaryIO:
        self.stream.seek(0)
        return self.stream

    def verify(self) -> None:
        """Do nothing: the content of a version in memory never changes."""


class MemoryObjectStore:
    """A versioned bucket in memory.

    Args:
        bucket: The bucket's name.
        now: Returns the current time, for the time of the last change of an object.
        version_suffix: The end of every version's name. None stands for a random suffix: a ledger can outlive a
            store, so two stores must not use the same version names.
    """

    def __init__(
        self,
        bucket: str = "memory",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        version_suffix: str | None = None,
    ) -> None:
        self._bucket = bucket
        self._now = now
        self._version_suffix = f"-{secrets.token_hex(8)}" if version_suffix is None else version_suffix
        self._lock = threading.Lock()
        self._objects: dict[str, list[_Version]] = {}
        self._forms = Forms("memory:", secrets.token_bytes(32))

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
        with io.BytesIO(wanted[-1].data) as stream:
            upload = attrs.evolve(wanted[-1].upload, sequencer=reference.sequencer)
            yield _MemoryObject(upload, wanted[-1].data, stream)

    def fits(self, key: str) -> bool:  # noqa: ARG002 - the port's
        return True

    def require_writable(self, key: str) -> None:
        """Do nothing: memory takes every object."""

    def put(self, key: str, content: BinaryIO) -> str:
        data = content.read()
        with self._lock:
            self._add(key, data)
        return f"memory:{key}"

    def place(self, key: str) -> ObjectReference:
        return ObjectReference(bucket=self._bucket, key=key)

    def create(self, key: str, content: BinaryIO) -> None:
        self._add_new(key, content.read())

    def copy(self, source: ObjectReader, version: ListedObject, key: str) -> None:
        with source.open(version.reference) as stored:
            if stored.upload != version.upload:
                raise ObjectChangedError(version.upload.key)
            self._add_new(key, b"".join(stored.read()))

    def sign(self, key: str, *, max_bytes: int, expires: datetime) -> SignedForm:
        return self._forms.sign(key, max_bytes, expires)

    def receive(self, fields: Mapping[str, str], content: BinaryIO) -> str:
        key, max_bytes = self._forms.read(fields, self._now())
        if not self._add_new(key, b"".join(pieces(content, max_bytes))):
            raise form_used()
        return key

    def link(self, key: str, *, seconds: int) -> str:  # noqa: ARG002 - it ends with the process
        return f"memory:{key}"

    def read(self, key: str, start: int, length: int) -> bytes:
        with self.open(ObjectReference(key=key)) as stored:
            return stored.data[start : start + length]

    def _add_new(self, key: str, data: bytes) -> bool:
        """Store an object unless the key has one, and return whether it was stored."""
        with self._lock:
            if key in self._objects:
                return False
            self._add(key, data)
            return True

    def _add(self, key: str, data: bytes) -> None:
        versions = self._objects.setdefault(key, [])
        upload = Upload(
            bucket=self._bucket,
            key=key,
            version=f"{len(versions) + 1}{self._version_suffix}",
            size=len(data),
            last_modified=self._now(),
            owned_by=owner_in(self._bucket, key),
        )
        versions.append(_Version(upload, data))

    def list(self, prefix: str = "", *, after: ObjectReference | None = None) -> Iterator[ListedObject]:
        with self._lock:
            every = [
                ListedObject(
                    ObjectReference(bucket=self._bucket, key=key, version=version.upload.version), version.upload
                )
                for key in sorted(self._objects)
                for version in reversed(self._objects[key])
            ]
        # Without a version, `after` stands for the position after all versions of its key.
        behind = [place for place, listed in enumerate(every, 1) if after and _is_at(listed, after)]
        if after and after.version is not None and not behind:
            raise ObjectNotFoundError(f"{self._bucket}/{after.key}")
        start = behind[-1] if behind else 0
        return (listed for listed in every[start:] if listed.reference.key.startswith(prefix))


def _is_at(listed: ListedObject, place: ObjectReference) -> bool:
    """Return whether a version is at a place; if the place has no version, whether it is not after that key."""
    if place.version is None:
        return listed.reference.key <= place.key
    return (listed.reference.key, listed.reference.version) == (place.key, place.version)


@attrs.frozen
class _Registered:
    """A user and the import that registered it."""

    user: AnyUser
    import_id: int


@attrs.frozen
class _Queued:
    """How often a lost upload was queued, and when it was queued last."""

    times: int
    last: datetime


@attrs.define
class _Tables:
    """The committed state of the repository.

    Attributes:
        ledger: The entries by the identities of their uploads, in the order of their commits.
        requests: The requests to import them, by the same identities.
        users: The users by their ids, in the order in which they were registered.
        corrections: For each corrected row, the import that corrected it.
        queued: The lost uploads by their identities.
    """

    ledger: dict[str, LedgerEntry] = attrs.Factory(dict)
    requests: dict[str, ImportRequest] = attrs.Factory(dict)
    users: dict[int, _Registered] = attrs.Factory(dict)
    corrections: dict[Origin, int] = attrs.Factory(dict)
    queued: dict[str, _Queued] = attrs.Factory(dict)

    def get_import(self, import_id: int | None) -> LedgerEntry | None:
        return next((entry for entry in self.ledger.values() if entry.import_id == import_id), None)

    def history(self, request: ImportRequest) -> History:
        upload = request.upload
        others = [
            (entry, self.requests[identity])
            for identity, entry in self.ledger.items()
            if identity != upload.identity and entry.active
        ]
        same_content = [entry for entry, other in others if None is not other.sha256 == request.sha256]
        same_key = [entry for entry, other in others if other.upload.key_identity == upload.key_identity]
        return History(
            same_upload=self.ledger.get(upload.identity),
            same_content=min(same_content, key=lambda entry: entry.import_id, default=None),
            same_key=same_key[-1] if same_key else None,
            corrected=self.get_import(request.corrects),
        )

    def exclude(self, opened: "_MemoryImport") -> bool:
        """Return whether a rival committed first without the locks, so that this import must not commit."""
        in_force = (self.requests[identity] for identity, entry in self.ledger.items() if entry.active)
        known = {opened.key(row.user) for row in self.users.values()} - {()}
        return (
            any(_exclude(opened.request, other) for other in in_force)
            or any(map(opened.not_correctable, opened.corrected))
            or not known.isdisjoint(map(opened.key, opened.new))
            or not opened.changed.keys() <= self.users.keys()
        )

    def corrected_by(self, import_id: int) -> set[int]:
        return {by for origin, by in self.corrections.items() if origin.import_id == import_id}

    def dependent_imports(self, import_id: int) -> DependentImports:
        after = dropwhile(lambda entry: entry.import_id != import_id, self.ledger.values())
        comparing = [
            entry.import_id
            for entry in islice(after, 1, None)
            if entry.active and entry.receipt.policy.get("unique_by")
        ]
        return DependentImports(
            correcting=min(self.corrected_by(import_id), default=None), comparing=min(comparing, default=None)
        )


def _exclude(one: ImportRequest, other: ImportRequest) -> bool:
    """Return whether two imports must not be in force together."""
    return (one.forbids_repeat and other.forbids_repeat and None is not one.sha256 == other.sha256) or (
        one.forbids_new_version
        and other.forbids_new_version
        and one.upload.key_identity == other.upload.key_identity
    )


@attrs.define(eq=False)
class _Holder:
    """The holder of some locks.

    Attributes:
        overdue_at: The time of the repository's clock, in seconds, from which a rival may take the locks away;
            None if no rival may.
        ended: Whether a rival took the locks away.
    """

    overdue_at: float | None = None
    ended: bool = False

    def require_not_ended(self) -> None:
        if self.ended:
            raise RepositoryUnavailableError("the import took longer than it may, and was ended for a rival")


@attrs.frozen
class _Row:
    """An accepted row that is not committed yet."""

    line: int
    user: AnyUser
    origin: Origin | None


@attrs.define
class _MemoryImport:
    """One open import. Its changes are applied to the tables at the commit."""

    request: ImportRequest
    _record_type: RecordType
    _new_verdict: Callable[[], Verdict]
    _tables: _Tables
    _holder: _Holder
    _read_history: Callable[[ImportRequest], History]
    _acquire_merge_lock: Callable[[], None]
    _make_permanent: "Callable[[_MemoryImport, Receipt], None]"
    _rows: list[_Row] = attrs.Factory(list)
    _merge_result: MergeResult | None = None
    new: list[AnyUser] = attrs.Factory(list)
    changed: dict[int, AnyUser] = attrs.Factory(dict)
    corrected: set[Origin] = attrs.Factory(set)
    _verdict: Verdict | None = None
    _history: History | None = None

    @property
    def history(self) -> History:
        if not self._history:
            raise AssertionError("the content of the upload is not known yet")
        return self._history

    def identify(self, request: ImportRequest) -> None:
        self._history = self._read_history(request)
        self.request = request

    @property
    def verdict(self) -> Verdict:
        if not self._verdict:
            self._verdict = self._new_verdict()
        return self._verdict

    def register(self, block: Block) -> None:
        self._holder.require_not_ended()
        users = _read(self._record_type, block)
        origins: Sequence[Origin | None] = block.origins or [None] * block.rows
        if users is None or len(origins) != block.rows:
            raise RepositoryUnavailableError("a block holds something else than a user in each of its rows")
        self._rows += map(_Row, block.lines, users, origins)

    def merge(self, columns: Collection[str] | None = None) -> MergeResult:
        minds = bool(self.request.policy.unique_by)
        if minds or self.request.corrects is not None:
            self._acquire_merge_lock()
        users = dict(self._tables.users)
        there = {self.key(row.user): number for number, row in users.items()} if minds else {}
        here: dict[tuple[object, ...], int] = {}
        mentioned: set[Origin] = set()
        rejected_on_merge: list[tuple[int, Code]] = []
        for row in self._rows:
            key = self.key(row.user) if minds else ()
            known = minds and (key in there or key in here)
            code = self._why_not_corrected(row.origin, mentioned)
            if not code and known and self.request.policy.rejects_duplicates:
                code = Code.DUPLICATE_ROW
            if row.origin:
                mentioned.add(row.origin)
            if code:
                rejected_on_merge.append((row.line, code))
                continue
            if row.origin:
                self.corrected.add(row.origin)
            if not known:
                here[key] = len(self.new)
                self.new.append(row.user)
            elif self.request.policy.updates and key in here:
                self.new[here[key]] = row.user
            elif self.request.policy.updates:
                changes = {name: getattr(row.user, name) for name in columns or self._record_type.columns}
                self.changed[there[key]] = attrs.evolve(users[there[key]].user, **changes)
        self.changed = {number: user for number, user in self.changed.items() if user != users[number].user}
        self._merge_result = MergeResult(
            registered=len(self.new),
            updated=len(self.changed),
            unchanged=len(self._rows) - len(self.new) - len(self.changed) - len(rejected_on_merge),
            rejected_on_merge=len(rejected_on_merge),
            rows_rejected_on_merge=rejected_on_merge,
        )
        return self._merge_result

    def discard_rows(self) -> None:
        self._rows.clear()
        self.new.clear()
        self.changed.clear()
        self.corrected.clear()
        self._merge_result = None

    def commit(self, receipt: Receipt) -> None:
        result = self._merge_result or (self.merge() if self._rows else MergeResult(registered=0))
        result.require(receipt)
        self._make_permanent(self, receipt)

    def key(self, user: AnyUser) -> tuple[object, ...]:
        return tuple(getattr(user, column) for column in self.request.policy.unique_by)

    def _why_not_corrected(self, origin: Origin | None, mentioned: set[Origin]) -> Code | None:
        if not origin:
            return None
        return self.not_correctable(origin) or (Code.ALREADY_CORRECTED if origin in mentioned else None)

    def not_correctable(self, origin: Origin) -> Code | None:
        corrected = self._tables.get_import(origin.import_id)
        if not corrected or not corrected.active or not corrected.rejected(origin):
            return Code.NOTHING_TO_CORRECT
        return Code.ALREADY_CORRECTED if origin in self._tables.corrections else None


def _read(record_type: RecordType, block: Block) -> list[AnyUser] | None:
    """Return the users of a block; None if a row is no user. No error is raised, because it may show a cell."""
    try:
        rows = list(csv.reader(io.StringIO(block.csv.decode(), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error):
        return None
    users = [record_type.parse(row) for row in rows if len(row) == len(record_type.columns)]
    good = [user for user in users if not isinstance(user, tuple)]
    return good if len(good) == len(rows) == block.rows else None


class MemoryUserRepository:
    """Users and ledger in memory, safe for threads.

    Args:
        patience: The seconds that an import waits for a rival's locks.
        before_commit: Called just before an import commits. If it raises an error, the import does not commit.
        clock: Returns the seconds by which deadlines are measured.
        new_secret: Returns the random secret of a new verdict.
        merge_patience: The largest number of seconds that an import waits for the merge lock.
        record_type: What a user consists of.
    """

    def __init__(
        self,
        patience: float = 5,
        before_commit: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        new_secret: Callable[[], bytes] = lambda: secrets.token_bytes(SECRET_BYTES),
        *,
        merge_patience: float = 600,
        record_type: RecordType = USERS,
    ) -> None:
        self.record_type = record_type
        self._merge_patience = merge_patience
        self._new_secret = new_secret
        self._patience = patience
        self._before_commit = before_commit
        self._clock = clock
        self._changing = threading.Condition()
        self._locked: dict[str, _Holder] = {}
        self._last_import = 0
        self._last_user = 0
        self._tables = _Tables()

    def resembles_import(self, upload: Upload) -> bool:
        with self._changing:
            return any(
                upload.size == entry.receipt.source.size
                or upload.key_identity == self._tables.requests[identity].upload.key_identity
                for identity, entry in self._tables.ledger.items()
            )

    @contextmanager
    def importing(self, request: ImportRequest) -> Iterator[_MemoryImport]:
        held: set[str] = set()
        left = request.seconds_left
        holder = _Holder(None if left is None else self._clock() + left)
        with ExitStack() as locks:

            def acquire(*names: str, patience: float | None = None) -> None:
                locks.enter_context(self._locking(set(names) - held, holder, patience))
                held.update(names)

            def acquire_merge_lock() -> None:
                acquire(_MERGE_LOCK, patience=self._merge_wait(holder))

            def read_history(request: ImportRequest) -> History:
                acquire(*request.upload_locks)
                acquire(*request.content_locks)
                with self._changing:
                    return self._tables.history(request)

            def make_permanent(opened: _MemoryImport, receipt: Receipt) -> None:
                self._before_commit()
                self._commit(opened, receipt, holder)
                locks.close()

            acquire(*request.upload_locks)
            opened = _MemoryImport(
                request,
                self.record_type,
                self._draw_verdict,
                self._tables,
                holder,
                read_history,
                acquire_merge_lock,
                make_permanent,
            )
            if not request.reading:
                opened.identify(request)
            yield opened

    def undo(
        self,
        import_id: int,
        at: datetime,  # noqa: ARG002 - memory has no column to remember it in
        *,
        confirmed: bool = False,
    ) -> int:
        with self._changing:
            identity = self._identity(import_id)
        with self._locking({identity, _MERGE_LOCK}, _Holder()), self._changing:
            entry = self._tables.ledger[identity]
            if entry.import_id != import_id:
                raise UnknownImportError(import_id)  # the upload was judged again meanwhile
            if reason := undo_blocker(entry, self._tables.dependent_imports(import_id)):
                raise UndoRefusedError(import_id, reason)
            theirs = [number for number, row in self._tables.users.items() if row.import_id == import_id]
            registered = entry.receipt.counts.registered
            if len(theirs) < registered and not confirmed:
                raise UndoUnconfirmedError(import_id, registered, len(theirs))
            for number in theirs:
                del self._tables.users[number]
            for origin in [origin for origin, by in self._tables.corrections.items() if by == import_id]:
                del self._tables.corrections[origin]
            self._tables.ledger[identity] = attrs.evolve(entry, undone=True)
            return len(theirs)

    def record_lost(
        self, identities: Collection[str], at: datetime, *, at_most: int, patience: timedelta
    ) -> LostUploads:
        with self._changing:
            queued = self._tables.queued
            for identity in queued.keys() & self._tables.ledger.keys():
                del queued[identity]
            due = {
                identity: queued[identity].times if identity in queued else 0
                for identity in set(identities) - self._tables.ledger.keys() - self._locked.keys()
                if identity not in queued or queued[identity].last + patience <= at
            }
            lost = LostUploads(
                queue=frozenset(identity for identity, times in due.items() if times < at_most),
                give_up=frozenset(identity for identity, times in due.items() if times >= at_most),
                newly_given_up=frozenset(identity for identity, times in due.items() if times == at_most),
            )
            queued.update({identity: _Queued(due[identity] + 1, at) for identity in lost.queue})
            for identity in lost.newly_given_up:
                queued[identity] = attrs.evolve(queued[identity], times=at_most + 1)
            return lost

    def get_import(self, import_id: int) -> LedgerEntry:
        with self._changing:
            return self._tables.ledger[self._identity(import_id)]

    def find_import(self, identity: str) -> LedgerEntry | None:
        with self._changing:
            return self._tables.ledger.get(identity)

    def corrected(self, origins: Collection[Origin]) -> set[Origin]:
        with self._changing:
            return set(origins) & self._tables.corrections.keys()

    def entries(
        self,
        *,
        before: int | None = None,
        uploaded_by: str | None = None,
        correcting: int | None = None,
        limit: int | None = None,
    ) -> Generator[LedgerEntry, None, None]:
        with self._changing:
            corrections = self._tables.corrected_by(correcting) if correcting is not None else None
            entries = [
                entry
                for entry in self._tables.ledger.values()
                if (before is None or entry.import_id < before)
                and uploaded_by in {None, entry.uploaded_by}
                and (corrections is None or entry.import_id in corrections)
            ]
        yield from islice(sorted(entries, key=lambda entry: -entry.import_id), limit)

    def users(self, import_id: int | None = None) -> Generator[AnyUser, None, None]:
        with self._changing:
            users = [row.user for row in self._tables.users.values() if import_id in {None, row.import_id}]
        yield from users

    def users_after(self, user_id: int, *, limit: int, import_id: int | None = None) -> list[RegisteredUser]:
        with self._changing:
            found = (
                RegisteredUser(id=number, import_id=row.import_id, user=row.user)
                for number, row in self._tables.users.items()
                if number > user_id and import_id in {None, row.import_id}
            )
            return list(islice(found, limit))

    def _draw_verdict(self) -> Verdict:
        with self._changing:
            self._last_import += 1
            return Verdict(self._last_import, self._new_secret())

    def _commit(self, opened: _MemoryImport, receipt: Receipt, holder: _Holder) -> None:
        identity = opened.request.upload.identity
        with self._changing:
            holder.require_not_ended()
            read, now = opened.history.same_upload, self._tables.ledger.get(identity)
            if (now and (now.active or not read or now.import_id != read.import_id)) or (
                receipt.status.registers and self._tables.exclude(opened)
            ):
                raise ImportInProgressError
            verdict = opened.verdict
            for user in opened.new:
                self._last_user += 1
                self._tables.users[self._last_user] = _Registered(user, verdict.import_id)
            for number, user in opened.changed.items():
                self._tables.users[number] = attrs.evolve(self._tables.users[number], user=user)
            self._tables.corrections.update(dict.fromkeys(opened.corrected, verdict.import_id))
            self._tables.ledger.pop(identity, None)  # so that the new entry comes last
            self._tables.ledger[identity] = LedgerEntry(
                import_id=verdict.import_id,
                receipt=receipt,
                secret=verdict.secret,
                uploaded_by=opened.request.upload.owned_by,
            )
            self._tables.requests[identity] = opened.request

    @contextmanager
    def _locking(self, names: set[str], holder: _Holder, patience: float | None = None) -> Iterator[None]:
        give_up_at = time.monotonic() + (self._patience if patience is None else patience)

        def free() -> bool:
            return not names & self._locked.keys()

        with self._changing:
            while not self._changing.wait_for(free, min(self._patience or 0.01, give_up_at - time.monotonic())):
                self._terminate_expired(names)
                if not free() and time.monotonic() >= give_up_at:
                    raise ImportInProgressError
            holder.require_not_ended()
            self._locked |= dict.fromkeys(names, holder)
        try:
            yield
        finally:
            self._let_go(holder, names)

    def _merge_wait(self, holder: _Holder) -> float:
        if holder.overdue_at is None:
            return self._merge_patience
        return max(self._patience, min(self._merge_patience, holder.overdue_at - self._clock()))

    def _terminate_expired(self, names: set[str]) -> None:
        for holder in {self._locked[name] for name in names & self._locked.keys()}:
            if holder.overdue_at is not None and holder.overdue_at < self._clock():
                holder.ended = True
                self._let_go(holder, set(self._locked))

    def _let_go(self, holder: _Holder, names: set[str]) -> None:
        with self._changing:
            for name in names:
                if self._locked.get(name) is holder:
                    del self._locked[name]
            self._changing.notify_all()

    def _identity(self, import_id: int) -> str:
        """Return the identity of an import's upload. The caller holds the lock of the tables.

        Raises:
            UnknownImportError: No entry has this import id.
        """
        for identity, entry in self._tables.ledger.items():
            if entry.import_id == import_id:
                return identity
        raise UnknownImportError(import_id)
