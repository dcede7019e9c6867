"""Deliveries that fail at a chosen point, or are frozen there until they continue or end."""

import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Any, BinaryIO

import attrs

from rollcall.application.errors import ImportInProgressError, RepositoryUnavailableError, StoreUnavailableError
from rollcall.application.ports import Importing, ObjectStore, StoredObject, UserRepository
from rollcall.application.reports import Reports
from rollcall.application.values import (
    Block,
    ImportRequest,
    ListedObject,
    LostUploads,
    MergeResult,
    RegisteredUser,
)
from rollcall.domain import correction
from rollcall.domain.correction import Origin
from rollcall.domain.ledger import History, LedgerEntry
from rollcall.domain.receipt import Receipt
from rollcall.domain.record import RecordType
from rollcall.domain.upload import ObjectReference, Upload
from rollcall.domain.user import User
from support.receipts import CheckedImport
from support.reference_ledger import Dropped, Model, Verdict

POINTS = (
    *("fetching", "opening", "opened", "registering", "registered", "settling", "settled"),
    *("reporting", "reported", "committing", "committed", "receipting", "receipted"),
)
HOWS = ("killed", "unavailable", "frozen")
PATIENCE_SECONDS = 30


class KilledError(BaseException):
    """The worker ended. It is no `Exception`, like the interruption of a Lambda."""


@attrs.define(eq=False)
class Delivery:
    """One delivery of one upload, and what the model expects at each step.

    Attributes:
        model: The expected ledger and table.
        held: The locks of each open delivery.
        upload: The delivered upload.
        again: Whether a person asked to import it again.
        point: The point at which something happens to it, or None.
        how: What happens.
        one_pass: Whether its rows are registered while it is being read.
        verdict: The expected verdict, as far as it is known.
        committed: Whether it was committed.
        lost: Whether its connection was cut while it was frozen.
        outcome: Its receipt, or the error that it raised.
    """

    model: Model
    held: "dict[Delivery, set[object]]"
    upload: Dropped
    again: bool = False
    point: str | None = None
    how: str = ""
    one_pass: bool = False
    verdict: Verdict | None = None
    answered: bool = False
    committed: bool = False
    refused: bool = False
    lost: bool = False
    broke: bool = False
    opened_once: bool = False
    import_id: int | None = None
    outcome: Receipt | BaseException | None = None
    _thread: threading.Thread | None = None
    _turns: threading.Semaphore = attrs.Factory(lambda: threading.Semaphore(0))
    _thawed: threading.Semaphore = attrs.Factory(lambda: threading.Semaphore(0))
    _given_up: bool = False

    @property
    def frozen(self) -> bool:
        """Whether it is frozen."""
        return self._thread is not None

    def run(self, case: Callable[[], Receipt]) -> None:
        """Deliver until the end, or until it is frozen."""

        def work() -> None:
            try:
                self.outcome = case()
            except BaseException as error:  # noqa: BLE001 - the test looks at every error
                self.outcome = error
            self._turns.release()

        if self.how != "frozen":
            work()
            return
        self._thread = threading.Thread(target=work)
        self._thread.start()
        self._wait()

    def thaw(self, *, given_up: bool) -> None:
        """Continue it, or end it."""
        self._given_up = given_up
        self._thawed.release()
        self._wait()

    def _wait(self) -> None:
        assert self._turns.acquire(timeout=PATIENCE_SECONDS)
        if self.outcome is not None and self._thread:
            self._thread.join()
            self._thread = None

    def reach(self, point: str) -> None:
        """Do what happens at a point.

        Raises:
            KilledError: The worker ends here.
            RepositoryUnavailableError: Its repository ends here.
            StoreUnavailableError: Its store ends here.
        """
        if point != self.point or self.broke or (point == "committing" and self.refused and self.how == "frozen"):
            return
        self.broke = True
        if self.how == "frozen":
            self._turns.release()
            assert self._thawed.acquire(timeout=PATIENCE_SECONDS)
            if self._given_up:
                raise KilledError
        elif self.how == "killed":
            raise KilledError
        elif point in {"fetching", "reporting", "reported", "receipting", "receipted"}:
            raise StoreUnavailableError(self.upload.key, "broken on purpose")
        else:
            raise RepositoryUnavailableError("broken on purpose")

    def claim(self, names: set[object], taken: Callable[[], Any]) -> Any:  # noqa: ANN401 - the type of `taken`'s result
        """Acquire locks. This must fail if and only if another delivery holds them.

        Args:
            names: The locks.
            taken: Acquires them.
        """
        others = set().union(*(held for other, held in self.held.items() if other is not self))
        busy = bool(names & others)
        try:
            result = taken()
        except ImportInProgressError:
            assert busy, "in progress, and nobody is at it"
            raise
        assert not busy, "somebody is at it already"
        if self in self.held:
            self.held[self] |= names
        return result

    def opened(self) -> None:
        """Record the ledger's decision."""
        self.opened_once = True
        mine = self.model.ledger.get(self.upload.identity)
        self.verdict = self.model.admit(self.upload, again=self.again)
        self.answered = self.verdict is not None and mine is not None and mine.registered


@attrs.frozen
class WatchedImporting:
    """An open import with a point before and after each step."""

    inner: Importing
    delivery: Delivery

    @property
    def verdict(self) -> correction.Verdict:
        return self.inner.verdict

    @property
    def history(self) -> History:
        return self.inner.history

    def identify(self, request: ImportRequest) -> None:
        """Acquire the locks that are missing; the ledger's decision comes before that on the rows."""
        delivery = self.delivery
        missing = delivery.model.claims(delivery.upload) - delivery.held[delivery]
        delivery.claim(missing, lambda: self.inner.identify(request))
        judged = delivery.verdict
        delivery.opened()
        delivery.verdict = delivery.verdict or judged

    def register(self, block: Block) -> None:
        self.delivery.reach("registering")
        self.inner.register(block)
        self.delivery.reach("registered")

    def merge(self, columns: Collection[str] | None = None) -> MergeResult:
        """Merge between two points."""
        delivery = self.delivery
        delivery.reach("settling")
        settling = delivery.model.settling(delivery.upload)
        merge_result: MergeResult = delivery.claim(settling, lambda: self.inner.merge(columns))
        delivery.verdict = delivery.model.judge(delivery.upload)
        delivery.reach("settled")
        return merge_result

    def discard_rows(self) -> None:
        delivery = self.delivery
        delivery.verdict = delivery.verdict or delivery.model.judge(delivery.upload)
        delivery.refused = True
        self.inner.discard_rows()

    def commit(self, receipt: Receipt) -> None:
        """Commit between two points, and commit in the model."""
        delivery = self.delivery
        delivery.reach("committing")
        model, upload = delivery.model, delivery.upload
        delivery.claim(model.settling(upload), lambda: self.inner.commit(receipt))
        assert delivery.verdict is not None
        model.commit(upload, delivery.verdict, self.verdict.import_id, self.verdict.secret)
        delivery.held.pop(delivery, None)
        delivery.committed = True
        delivery.import_id = self.verdict.import_id
        delivery.reach("committed")


@attrs.frozen
class WatchedUsers:
    """A repository with points before and after an import is opened."""

    inner: UserRepository
    delivery: Delivery

    @property
    def record_type(self) -> RecordType:
        return self.inner.record_type

    def undo(self, import_id: int, at: datetime, *, confirmed: bool = False) -> int:
        return self.inner.undo(import_id, at, confirmed=confirmed)

    def get_import(self, import_id: int) -> LedgerEntry:
        return self.inner.get_import(import_id)

    def find_import(self, identity: str) -> LedgerEntry | None:
        return self.inner.find_import(identity)

    def corrected(self, origins: Collection[Origin]) -> set[Origin]:
        return self.inner.corrected(origins)

    def entries(self, **which: Any) -> Generator[LedgerEntry, None, None]:  # noqa: ANN401 - the port's
        return self.inner.entries(**which)

    def users(self, import_id: int | None = None) -> Generator[User, None, None]:
        return self.inner.users(import_id)

    def users_after(self, user_id: int, **which: Any) -> list[RegisteredUser]:  # noqa: ANN401 - the port's
        return self.inner.users_after(user_id, **which)

    def resembles_import(self, upload: Upload) -> bool:  # noqa: ARG002 - the port's
        """Return False, as if every other entry had been committed just after this."""
        return False

    def record_lost(
        self, identities: Collection[str], at: datetime, *, at_most: int, patience: timedelta
    ) -> LostUploads:
        return self.inner.record_lost(identities, at, at_most=at_most, patience=patience)

    @contextmanager
    def importing(self, request: ImportRequest) -> Iterator[WatchedImporting]:
        delivery = self.delivery
        delivery.reach("opening")
        with ExitStack() as opened:
            claims = delivery.model.claims(delivery.upload)
            if request.reading:
                claims.discard(delivery.upload.content)
            importing = delivery.claim(claims, lambda: opened.enter_context(self.inner.importing(request)))
            delivery.held[delivery] = claims
            delivery.refused = False
            delivery.verdict = None
            if not request.reading:
                delivery.opened()
            try:
                delivery.reach("opened")
                yield WatchedImporting(importing, delivery)
            finally:
                delivery.held.pop(delivery, None)


@attrs.frozen
class _WatchedObject:
    inner: StoredObject
    delivery: Delivery

    @property
    def upload(self) -> Upload:
        return self.inner.upload

    def read(self) -> Iterator[bytes]:
        self.delivery.reach("fetching")
        return self.inner.read()

    def reread(self) -> BinaryIO:
        return self.inner.reread()

    def verify(self) -> None:
        self.inner.verify()


@attrs.frozen
class WatchedStore:
    """A store with a point at each use by a delivery."""

    inner: ObjectStore
    delivery: Delivery

    @contextmanager
    def open(self, reference: ObjectReference) -> Iterator[StoredObject]:
        with self.inner.open(reference) as found:
            yield _WatchedObject(found, self.delivery) if reference.bucket else found

    def fits(self, key: str) -> bool:
        return self.inner.fits(key)

    def require_writable(self, key: str) -> None:
        self.inner.require_writable(key)

    def put(self, key: str, content: BinaryIO) -> str:
        kind = "receipt" if key.endswith("receipt.json") else "report"
        self.delivery.reach(f"{kind}ing")
        where = self.inner.put(key, content)
        self.delivery.reach("receipted" if kind == "receipt" else "reported")
        return where

    def list(self, prefix: str = "", *, after: ObjectReference | None = None) -> Iterator[ListedObject]:
        return self.inner.list(prefix, after=after)


def deliver(
    delivery: Delivery, users: UserRepository, uploads: ObjectStore, reports: ObjectStore, now: Callable[[], Any]
) -> None:
    """Import the delivered upload with the model's policy."""
    case = CheckedImport(
        uploads=WatchedStore(uploads, delivery),
        reports=Reports(store=WatchedStore(reports, delivery)),
        users=WatchedUsers(users, delivery),
        policy=delivery.model.policy,
        now=now,
        spool=tempfile.TemporaryFile,
        one_pass_from=0 if delivery.one_pass else sys.maxsize,
    )
    upload = delivery.upload
    reference = ObjectReference(bucket="bucket", key=upload.key, version=upload.version)
    delivery.run(lambda: case(reference, again=delivery.again))
