"""Deliveries within this process: upload, deliver while something breaks, and deliver again."""

import io
import tempfile
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from rollcall.adapters.memory import MemoryObjectStore
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.application.errors import ImportInProgressError
from rollcall.application.import_users import ImportUsers
from rollcall.application.ports import UserRepository
from rollcall.application.reports import Reports
from rollcall.domain.policy import Policy
from rollcall.domain.receipt import Receipt
from rollcall.domain.upload import ObjectReference
from support.builders import asked
from support.oracle import Oracle, foreign_users
from support.receipts import CheckedImport
from support.uploads import CANARY, FaultyUpload

SETTLED_WITHIN_SECONDS = 60


@attrs.frozen
class Desk:
    """A bucket, a reports store, and a database with an existing user.

    Attributes:
        database_url: The database.
        policy: The operator's policy.
        uploads: The upload store.
        reports: The reports store.
        foreign: The existing users.
    """

    database_url: str
    policy: Policy = Policy()
    uploads: MemoryObjectStore = attrs.field(factory=lambda: MemoryObjectStore(version_suffix=""))
    reports: MemoryObjectStore = attrs.field(factory=MemoryObjectStore)
    foreign: list[tuple[Any, ...]] = attrs.field(init=False)

    @foreign.default
    def _somebody_before(self) -> list[tuple[Any, ...]]:
        asked(self.database_url, "insert into users (name, country, age) values ('Ann', 'Norway', 41)")
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
        self.uploads.put(upload.key, io.BytesIO(upload.content))
        return self.versions(upload.key)[-1]

    def versions(self, key: str) -> list[ObjectReference]:
        """Every version of a key, in upload order."""
        return [listed.reference for listed in self.uploads.list(key)]

    def importer(self, users: UserRepository) -> ImportUsers:
        """The use case, on a given repository."""
        return CheckedImport(
            uploads=self.uploads,
            reports=Reports(store=self.reports),
            users=users,
            policy=self.policy,
            now=lambda: datetime.now(UTC),
            spool=tempfile.TemporaryFile,
        )

    def deliver(self, reference: ObjectReference, database_url: str) -> Receipt:
        """Deliver an upload once, with a connection of its own."""
        users = PostgresUserRepository(database_url)
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
        with self.reports.open(ObjectReference(key=address.removeprefix("memory:"))) as found:
            return found.fetch(lambda _: None).read()


def _receipt_address(receipt: Mapping[str, Any]) -> str:
    return f"memory:{receipt['source']['key']}/{receipt['source']['version']}/receipt.json"


def require_quiet(error: BaseException) -> None:
    """Check that an error, and every error that it links to, shows no cell."""
    assert CANARY not in "".join(traceback.format_exception(error)) + repr(error)
