"""A complete Rollcall in memory."""

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import attrs

from rollcall.adapters.memory import MemoryObjectStore, MemoryUserRepository
from rollcall.application.import_users import ImportUsers, Progress
from rollcall.application.ports import ObjectStore
from rollcall.application.reports import Reports
from rollcall.domain.policy import Policy
from rollcall.domain.receipt import Receipt
from rollcall.domain.upload import ObjectReference
from support.receipts import CheckedImport


@attrs.define
class Clock:
    """A clock that advances by a second at each call."""

    time: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time


def _bucket(name: str) -> MemoryObjectStore:
    return MemoryObjectStore(name, Clock(), version_suffix="")


@attrs.frozen
class Desk:
    """Stores, users and a clock, to upload files and import them.

    Attributes:
        uploads: The upload store.
        reports: The store of receipts and rejected rows.
        users: Users and ledger.
        through: The store that the import reads instead of `uploads`, or None.
        into: The store that the import writes instead of `reports`, or None.
    """

    uploads: MemoryObjectStore = attrs.field(factory=lambda: _bucket("inbox"))
    reports: MemoryObjectStore = attrs.field(factory=lambda: _bucket("reports"))
    users: MemoryUserRepository = attrs.field(
        factory=lambda: MemoryUserRepository(patience=0, new_secret=lambda: b"secret")
    )
    through: ObjectStore | None = None
    into: ObjectStore | None = None

    def drop(self, data: bytes, key: str = "users.csv") -> ObjectReference:
        """Upload some bytes, and return a reference to that version."""
        self.uploads.put(key, io.BytesIO(data))
        return next(self.uploads.list(key)).reference

    def importer(
        self,
        policy: Policy = Policy(),
        *,
        max_upload_bytes: int = 10**9,
        max_csv_bytes: int = 10**9,
        max_rejected_bytes: int = 10**9,
        encodings: tuple[str, ...] = ("utf-8",),
    ) -> ImportUsers:
        """Return the use case, connected to this desk."""
        return CheckedImport(
            uploads=self.through or self.uploads,
            reports=Reports(store=self.into or self.reports),
            users=self.users,
            policy=policy,
            encodings=encodings,
            max_upload_bytes=max_upload_bytes,
            max_csv_bytes=max_csv_bytes,
            max_rejected_bytes=max_rejected_bytes,
            now=Clock(),
            spool=io.BytesIO,
        )

    def load(
        self,
        reference: ObjectReference,
        policy: Policy = Policy(),
        *,
        again: bool = False,
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> Receipt:
        """Import an upload."""
        return self.importer(policy)(reference, again=again, progress=progress)

    def rows(self, import_id: int | None = None) -> list[tuple[str | int, ...]]:
        """Values of the registered users, in order."""
        return [tuple(user.values()) for user in self.users.users(import_id)]

    def stored(self) -> dict[str, bytes]:
        """Content of the reports store by key, the last version of each."""
        return {listed.reference.key: self.read(listed.reference.key) for listed in self.reports.list()}

    def read(self, key: str) -> bytes:
        """Content of one report."""
        with self.reports.open(ObjectReference(key=key)) as stored:
            return stored.fetch(lambda _: None).read()

    def versions(self, key: str) -> int:
        """Number of times that a report was written."""
        return len(list(self.reports.list(key)))
