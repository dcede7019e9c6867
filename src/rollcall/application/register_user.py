"""Register one user by a request, exactly once for each idempotency key."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import BinaryIO, Self

import attrs

from rollcall.application.import_users import ImportUsers
from rollcall.application.ports import UserRepository
from rollcall.application.reports import Reports
from rollcall.domain.policy import OnRepeat, Policy
from rollcall.domain.receipt import Receipt
from rollcall.domain.rejection import Code, Fault
from rollcall.domain.upload import API_BUCKET, ObjectReference, Upload, request_key

# An HTTP API gives up after 30 seconds. A rival may then end the import, and the client asks again.
DEADLINE_SECONDS = 25


@attrs.frozen(kw_only=True)
class RegisterUser:
    """The use case that registers one user: the import of an upload of one row.

    Attributes:
        users: The repository of users and ledger.
        reports: Reports that keep nothing: the ledger keeps the receipt, and no row is rejected in a file.
        policy: The operator's settings. A request with the cells of another one is another user, unless the
            policy names columns that identify users.
        now: Returns the current time, with its time zone.
    """

    users: UserRepository
    reports: Reports
    policy: Policy
    now: Callable[[], datetime]

    def __call__(self, owner: str, key: str, cells: Mapping[str, str]) -> Receipt | tuple[Fault, ...]:
        """Register a user.

        Args:
            owner: The caller, see `owner` in the domain.
            key: The caller's idempotency key.
            cells: The cells of the user, by column; all columns of the record.

        Returns:
            The faults of the cells; nothing is stored then. Otherwise the receipt: that of the ledger if the user
            was registered now or by an earlier request with this key; one with the status `skipped` if that
            import was undone; one with the status `refused`, which the ledger does not keep, if another user was
            registered with this key, if the user exists and the policy rejects that, or if the table does not
            take the user.

        Raises:
            ImportInProgressError: A request with this key is being answered, or an import holds the merge lock.
            RepositoryUnavailableError: The database failed; the same request finds out whether it registered.
            SchemaError: The database is not prepared.
        """
        record_type = self.users.record_type
        user = record_type.parse([cells[column] for column in record_type.columns])
        if isinstance(user, tuple):
            return user
        started = self.now()
        rows = [record_type.columns, record_type.texts(user)]
        row = _OneRow.of(rows, request_key(owner, key), owner, started)
        receipt = ImportUsers(
            uploads=row,
            reports=self.reports,
            users=self.users,
            policy=attrs.evolve(self.policy, on_repeat=OnRepeat.IMPORT),
            keeps_refusals=False,
            now=self.now,
            spool=io.BytesIO,
        )(
            ObjectReference(bucket=row.upload.bucket, key=row.upload.key),
            seconds_left=lambda: DEADLINE_SECONDS - (self.now() - started).total_seconds(),
        )
        first = receipt.first_receipt
        return first if first and receipt.code is Code.REDELIVERY else receipt


@attrs.frozen
class _OneRow:
    """A store with one upload: the CSV of one user. Its version is the SHA-256 of that CSV."""

    upload: Upload
    _data: bytes

    @classmethod
    def of(cls, rows: Sequence[Sequence[str]], key: str, owner: str, at: datetime) -> Self:
        """Return the store with the upload of a request.

        Args:
            rows: The header, and the texts of the user.
            key: The key of the upload.
            owner: The caller.
            at: The time of the request.
        """
        text = io.StringIO()
        csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
        data = text.getvalue().encode()
        upload = Upload(bucket=API_BUCKET, key=key, version=None, size=len(data), last_modified=at, owned_by=owner)
        return cls(upload, data)

    def open(self, _reference: ObjectReference) -> AbstractContextManager[Self]:
        """Open the upload."""
        return nullcontext(self)

    def read(self) -> Iterator[bytes]:
        """Yield the CSV."""
        yield self._data

    def reread(self) -> BinaryIO:
        """Return the CSV."""
        return io.BytesIO(self._data)

    def verify(self) -> None:
        """Do nothing: the request does not change."""
