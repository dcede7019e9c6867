"""A complete Rollcall in memory, and one whose users are in PostgreSQL."""

import io
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

import attrs

from rollcall.adapters.memory import MemoryObjectStore, MemoryUserRepository
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.application.errors import ImportInProgressError
from rollcall.application.import_users import ImportUsers, Progress
from rollcall.application.ports import ObjectStore, UserRepository
from rollcall.application.reports import Reports
from rollcall.domain.policy import Policy
from rollcall.domain.receipt import Receipt
from rollcall.domain.upload import ObjectReference
from rollcall.domain.user import USERS
from support.builders import add_user, completed, written
from support.oracle import Oracle, foreign_users
from support.receipts import CheckedImport
from support.uploads import FaultyUpload

SETTLED_WITHIN_SECONDS = 60


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
        now: The clock of the imports; None for a new `Clock` for each use case.
        spool: Opens a temporary file.
        through: The store that the import reads instead of `uploads`, or None.
        into: The store that the import writes instead of `reports`, or None.
        policy: The operator's policy.
    """

    uploads: MemoryObjectStore = attrs.field(factory=lambda: _bucket("inbox"))
    reports: MemoryObjectStore = attrs.field(factory=lambda: _bucket("reports"))
    users: UserRepository = attrs.field(
        factory=lambda: MemoryUserRepository(patience=0, new_secret=lambda: b"secret")
    )
    now: Callable[[], datetime] | None = None
    spool: Callable[[], BinaryIO] = io.BytesIO
    through: ObjectStore | None = None
    into: ObjectStore | None = None
    policy: Policy = Policy()

    def drop(self, data: bytes, key: str = "users.csv") -> ObjectReference:
        """Upload a file with every column, see `completed`, and return a reference to that version."""
        return self.drop_as_it_is(completed(data), key)

    def drop_as_it_is(self, data: bytes, key: str = "users.csv") -> ObjectReference:
        """Upload a file, and return a reference to that version."""
        self.uploads.put(key, io.BytesIO(data))
        return self.versions(key)[0]

    def versions(self, key: str) -> list[ObjectReference]:
        """Every version of an upload, the newest first."""
        return [listed.reference for listed in self.uploads.list(key)]

    def importer(
        self,
        policy: Policy | None = None,
        *,
        max_upload_bytes: int = 10**9,
        max_csv_bytes: int = 10**9,
        max_rejected_bytes: int = 10**9,
        encodings: tuple[str, ...] = ("utf-8",),
        one_pass_from: int = 0,
    ) -> ImportUsers:
        """Return the use case, connected to this desk."""
        return CheckedImport(
            uploads=self.through or self.uploads,
            reports=Reports(store=self.into or self.reports),
            users=self.users,
            policy=policy or self.policy,
            encodings=encodings,
            max_upload_bytes=max_upload_bytes,
            max_csv_bytes=max_csv_bytes,
            max_rejected_bytes=max_rejected_bytes,
            now=self.now or Clock(),
            spool=self.spool,
            one_pass_from=one_pass_from,
        )

    def load(
        self,
        reference: ObjectReference,
        policy: Policy | None = None,
        *,
        again: bool = False,
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> Receipt:
        """Import an upload."""
        return self.importer(policy)(reference, again=again, progress=progress)

    def upload(self, data: bytes, key: str = "users.csv", policy: Policy | None = None, **limits: Any) -> Receipt:  # noqa: ANN401 - as `importer` takes them
        """Upload a file with every column, see `completed`, and import it."""
        return self.importer(policy, **limits)(self.drop(data, key))

    def rows(self, import_id: int | None = None) -> list[tuple[str | int, ...]]:
        """Values of the registered users in the columns that tests write out, in order."""
        return [written(user) for user in self.users.users(import_id)]

    def stored(self) -> dict[str, bytes]:
        """Content of the reports store by key, the last version of each."""
        return {listed.reference.key: self.read(listed.reference.key) for listed in self.reports.list()}

    def read(self, key: str) -> bytes:
        """Content of one report."""
        with self.reports.open(ObjectReference(key=key)) as stored:
            return b"".join(stored.read())

    def rejected_rows(self, receipt: Receipt) -> bytes:
        """Content of the rejected-rows file that a receipt names."""
        assert receipt.rejected_rows
        return self.read(receipt.rejected_rows.removeprefix("memory:"))

    def times_stored(self, key: str) -> int:
        """Number of times that a report was written."""
        return len(list(self.reports.list(key)))


@attrs.frozen
class DatabaseDesk:
    """A desk whose users are in PostgreSQL, beside one existing user, and whose deliveries may break.

    Attributes:
        database_url: The database.
        policy: The operator's policy.
        desk: The stores.
        foreign: The existing users.
    """

    database_url: str
    policy: Policy = Policy()
    desk: Desk = attrs.field(factory=lambda: Desk(now=lambda: datetime.now(UTC), spool=tempfile.TemporaryFile))
    foreign: list[tuple[Any, ...]] = attrs.field(init=False)

    @foreign.default
    def _somebody_before(self) -> list[tuple[Any, ...]]:
        add_user(self.database_url)
        return foreign_users(self.database_url)

    @property
    def oracle(self) -> Oracle:
        """The oracle for this database and store."""
        return Oracle(
            database_url=self.database_url,
            read_report=self._read_report,
            receipt_address=_receipt_address,
            foreign=self.foreign,
        )

    def drop(self, upload: FaultyUpload) -> ObjectReference:
        """Upload something, and return a reference to that version."""
        return self.desk.drop(upload.content, upload.key)

    def versions(self, key: str) -> list[ObjectReference]:
        """Every version of a key, the newest first."""
        return self.desk.versions(key)

    def importer(self, users: UserRepository) -> ImportUsers:
        """The use case, on a given repository."""
        return attrs.evolve(self.desk, users=users).importer(self.policy)

    def deliver(self, reference: ObjectReference, database_url: str) -> Receipt:
        """Deliver an upload once, with a connection of its own."""
        users = PostgresUserRepository(database_url, USERS)
        try:
            return self.importer(users)(reference)
        finally:
            users.close()

    def merge(self, reference: ObjectReference) -> Receipt:
        """Deliver an upload until it has its verdict: a broken delivery may hold its locks for a moment."""
        deadline = time.monotonic() + SETTLED_WITHIN_SECONDS
        while True:
            try:
                return self.deliver(reference, self.database_url)
            except ImportInProgressError:
                assert time.monotonic() < deadline, "nobody may be held up for so long"

    def _read_report(self, address: str) -> bytes:
        return self.desk.read(address.removeprefix("memory:"))


def _receipt_address(receipt: Mapping[str, Any]) -> str:
    return f"memory:{receipt['source']['key']}/{receipt['source']['version']}/receipt.json"
