"""The sweep in memory: which uploads it queues, which it ignores, and how often."""

import io
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.adapters.memory import MemoryObjectStore, MemoryUserRepository
from rollcall.application.errors import RepositoryUnavailableError, StoreUnavailableError
from rollcall.application.sweep import QUEUED_AT_MOST, LostUploadAction, Sweep, SweepResult
from rollcall.application.values import ImportRequest, ListedObject
from rollcall.domain.policy import OnNewVersion, Policy
from rollcall.domain.upload import Upload
from support.receipts import a_receipt

HOUR = timedelta(hours=1)
VISIBLE_AGAIN = timedelta(minutes=90)
DAYS = timedelta(days=7)
# Ages below, within and above the range that the sweep queues.
AGES = {"fresh": VISIBLE_AGAIN - HOUR, "due": VISIBLE_AGAIN + HOUR, "old": DAYS + HOUR}


@attrs.define
class Bucket:
    """A bucket, a ledger and a queue, and a clock that only the test advances.

    Attributes:
        queued: The keys and versions that were queued, in order.
        told: The actions on lost uploads that were reported.
    """

    time: datetime = datetime(2026, 1, 15, tzinfo=UTC)
    users: MemoryUserRepository = attrs.field(factory=lambda: MemoryUserRepository(patience=0))
    queued: list[tuple[str, str | None]] = attrs.Factory(list)
    told: list[tuple[str, LostUploadAction]] = attrs.Factory(list)
    queue_fails: bool = False
    _uploads: MemoryObjectStore = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Make the bucket, with the same clock."""
        self._uploads = MemoryObjectStore("inbox", lambda: self.time, version_suffix="")

    def drop(self, key: str, data: bytes = b"data", *, age: timedelta = AGES["due"]) -> Upload:
        """Upload some bytes at an earlier time."""
        self.time -= age
        self._uploads.put(key, io.BytesIO(data))
        self.time += age
        return next(self._uploads.list(key)).upload

    def know(self, upload: Upload) -> None:
        """Write an upload into the ledger."""
        with self.users.importing(
            ImportRequest(upload, None, Policy(on_new_version=OnNewVersion.IMPORT))
        ) as importing:
            importing.commit(a_receipt(upload, importing.verdict.import_id))

    def sweep(self, batch: int = 500) -> Sweep:
        """Return the use case, connected to this bucket."""
        return Sweep(
            uploads=self._uploads,
            users=self.users,
            is_report=lambda reference: reference.key.startswith("reports/"),
            queue=self._queue,
            tell=lambda listed, fate: self.told.append((listed.upload.key, fate)),
            now=lambda: self.time,
            older_than=VISIBLE_AGAIN,
            younger_than=DAYS,
            batch=batch,
        )

    def _queue(self, lost: Sequence[ListedObject]) -> None:
        if self.queue_fails:
            raise StoreUnavailableError("arn:aws:sqs", "away")
        self.queued += [(listed.upload.key, listed.reference.version) for listed in lost]


@pytest.fixture
def bucket() -> Bucket:
    """An empty bucket."""
    return Bucket()


def test_an_upload_without_an_entry_is_queued(bucket: Bucket) -> None:
    """Each version is queued, also one that a later version replaced."""
    for _ in range(2):
        bucket.drop("lost.csv")

    assert bucket.sweep()() == SweepResult(seen=2, queued=2, given_up=0, stopped_at=None)
    assert bucket.queued == [("lost.csv", "2"), ("lost.csv", "1")]
    assert bucket.told == [("lost.csv", LostUploadAction.QUEUED)] * 2


def test_an_upload_in_the_ledger_is_not_queued(bucket: Bucket) -> None:
    """Only the version without an entry is queued."""
    bucket.know(bucket.drop("users.csv"))
    bucket.drop("users.csv")

    assert bucket.sweep()() == SweepResult(seen=2, queued=1, given_up=0, stopped_at=None)
    assert bucket.queued == [("users.csv", "2")]


def test_an_upload_in_progress_is_not_queued(bucket: Bucket) -> None:
    """It gets an entry, or the next sweep finds it."""
    with bucket.users.importing(ImportRequest(bucket.drop("users.csv"), None)):
        assert bucket.sweep()().queued == 0
    assert bucket.sweep()().queued == 1


def test_reports_and_folders_are_not_queued(bucket: Bucket) -> None:
    """Reports and folder markers are not uploads; an empty file is."""
    bucket.drop("reports/users.csv/1/receipt.json")
    bucket.drop("folder/", b"")
    bucket.drop("empty.csv", b"")
    bucket.drop("not empty/")

    assert bucket.sweep()().seen == 2
    assert [key for key, _ in bucket.queued] == ["empty.csv", "not empty/"]


@pytest.mark.parametrize(
    ("age", "queued"),
    [
        (timedelta(0), 0),
        (VISIBLE_AGAIN - timedelta(seconds=1), 0),
        (VISIBLE_AGAIN, 1),
        (DAYS, 1),
        (DAYS + timedelta(seconds=1), 0),
        (timedelta(days=3650), 0),
    ],
)
def test_an_upload_too_young_or_too_old_is_not_queued(bucket: Bucket, age: timedelta, queued: int) -> None:
    """A young upload may still have its message; an old one may be older than Rollcall in this bucket."""
    bucket.drop("users.csv", age=age)

    assert bucket.sweep()() == SweepResult(seen=1, queued=queued, given_up=0, stopped_at=None)


def test_an_upload_queued_twice_is_given_up(bucket: Bucket) -> None:
    """Each later sweep reports it, until it is in the ledger or too old."""
    poison = bucket.drop("poison.csv")
    came = []
    for _ in range(4):
        came.append(bucket.sweep()())
        bucket.time += VISIBLE_AGAIN

    assert [(swept.queued, swept.given_up) for swept in came] == [(1, 0), (1, 0), (0, 1), (0, 1)]
    assert [fate for _, fate in bucket.told] == [
        LostUploadAction.QUEUED,
        LostUploadAction.QUEUED,
        LostUploadAction.GIVEN_UP,
        LostUploadAction.GIVEN_UP,
    ]
    bucket.know(poison)
    assert bucket.sweep()().given_up == 0


def test_an_upload_just_queued_is_not_queued_again(bucket: Bucket) -> None:
    """A schedule that is faster than the queue must not give up too early."""
    bucket.drop("users.csv")
    for _ in range(10):
        bucket.sweep()()

    assert len(bucket.queued) == 1
    assert bucket.sweep()() == SweepResult(seen=1, queued=0, given_up=0, stopped_at=None)


def test_a_queue_that_fails_stops_the_sweep(bucket: Bucket) -> None:
    """Its uploads count as queued, because the message may have arrived; they are queued once more."""
    bucket.drop("users.csv")
    bucket.queue_fails = True
    with pytest.raises(StoreUnavailableError):
        bucket.sweep()()
    assert bucket.told == []

    bucket.queue_fails = False
    bucket.time += VISIBLE_AGAIN
    assert bucket.sweep()().queued == 1
    bucket.time += VISIBLE_AGAIN
    assert bucket.sweep()().given_up == 1


def test_a_sweep_continues_where_it_stopped(bucket: Bucket) -> None:
    """An invocation without time left still finishes one batch."""
    for number in range(5):
        bucket.drop(f"{number}.csv")
    sweep = bucket.sweep(batch=2)
    came = [sweep(out_of_time=lambda: True)]
    while place := came[-1].stopped_at:
        came.append(sweep(place, out_of_time=lambda: True))

    assert [swept.queued for swept in came] == [2, 2, 1]
    assert [key for key, _ in bucket.queued] == [f"{number}.csv" for number in range(5)]


def test_a_sweep_does_not_stop_after_the_last_batch(bucket: Bucket) -> None:
    """Otherwise the next invocation would have nothing to do."""
    bucket.drop("users.csv")

    assert bucket.sweep()(out_of_time=lambda: True).stopped_at is None


@attrs.frozen
class Dropped:
    """An object in the bucket: its kind, and its age as a name in `AGES`."""

    kind: str
    age: str
    upload: Upload

    @property
    def version(self) -> tuple[str, str | None]:
        """Key and version, as `Bucket.queued` has them."""
        return self.upload.key, self.upload.version


dropped = st.tuples(
    # Uploads in progress have keys of their own, because a key has one import at a time.
    st.sampled_from(("lost", "lost", "lost", "known", "in progress", "report", "folder")),
    st.sampled_from(list(AGES)),
    st.sampled_from("abc"),
)


def drop_all(bucket: Bucket, what: Sequence[tuple[str, str, str]]) -> list[Dropped]:
    """Upload some objects."""
    keys = {"report": "reports/r", "folder": "f/"}
    return [
        Dropped(
            kind,
            age,
            bucket.drop(
                f"p{number}" if kind == "in progress" else keys.get(kind, key),
                b"" if kind == "folder" else b"data",
                age=AGES[age],
            ),
        )
        for number, (kind, age, key) in enumerate(what)
    ]


@given(
    what=st.lists(dropped, max_size=12),
    batch=st.integers(1, 4),
    stops=st.lists(st.booleans(), max_size=40),
    imported=st.sets(st.integers(0, 11)),
)
def test_a_lost_upload_is_queued_once_a_sweep_and_twice_in_all(
    what: list[tuple[str, str, str]], batch: int, stops: list[bool], imported: set[int]
) -> None:
    """Only lost and due uploads are queued; an imported upload is not queued again."""
    bucket = Bucket()
    uploads = drop_all(bucket, what)
    stopping = iter(stops)

    def whole_sweep() -> tuple[int, int]:
        """Sweep in as many invocations as necessary, and return how many were seen and given up."""
        sweep = bucket.sweep(batch)
        came = [sweep(out_of_time=lambda: next(stopping, False))]
        while place := came[-1].stopped_at:
            came.append(sweep(place, out_of_time=lambda: next(stopping, False)))
        bucket.time += VISIBLE_AGAIN
        return sum(swept.seen for swept in came), sum(swept.given_up for swept in came)

    with ExitStack() as importing:
        for one in uploads:
            if one.kind == "known":
                bucket.know(one.upload)
        for one in uploads:
            if one.kind == "in progress":
                importing.enter_context(bucket.users.importing(ImportRequest(one.upload, None)))
        lost = [one for one in uploads if one.kind == "lost" and one.age != "old"]
        due = [one for one in lost if one.age == "due"]

        assert whole_sweep() == (len([one for one in uploads if one.kind not in {"report", "folder"}]), 0)
        assert Counter(bucket.queued) == Counter(one.version for one in due)

        known = [one for number, one in enumerate(due) if number in imported]
        for one in known:
            bucket.know(one.upload)
        poison = [one for one in lost if one not in known]
        # Uploads that were too young at first are due now.
        for _ in range(QUEUED_AT_MOST):
            whole_sweep()
        queued = Counter(one.version for one in known + poison * QUEUED_AT_MOST)
        assert Counter(bucket.queued) == queued
        assert whole_sweep()[1] == len(poison)
        assert Counter(bucket.queued) == queued


def test_a_database_that_fails_stops_the_sweep(bucket: Bucket) -> None:
    """An upload is not queued unless that is recorded."""

    class Away(MemoryUserRepository):
        """A ledger that does not answer."""

        def record_lost(self, *_: object, **__: object) -> NoReturn:
            raise RepositoryUnavailableError("the database is away")

    bucket.users = Away()
    bucket.drop("users.csv")

    with pytest.raises(RepositoryUnavailableError):
        bucket.sweep()()
    assert bucket.queued == []
