"""The sweep: uploads of which nobody was told are found, and announced anew."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice

import attrs

from rollcall.application.ports import Listed, Lost, ObjectStore, UserRepository
from rollcall.domain.upload import ObjectReference, is_folder

# An upload that was queued so often and still is not in the ledger is poison; somebody has to look at it.
QUEUED_AT_MOST = 2


class Fate(StrEnum):
    """What became of a lost upload."""

    QUEUED = "queued"
    GIVEN_UP = "given up"


@attrs.frozen(kw_only=True)
class Swept:
    """What a sweep came to.

    Attributes:
        seen: How many uploads were looked at, whatever their age.
        queued: How many of them were queued.
        given_up: How many of them are lost, and were queued often enough before.
        stopped_at: Where to go on, if there was no time left; None if it came to the end.
    """

    seen: int
    queued: int
    given_up: int
    stopped_at: ObjectReference | None


@attrs.frozen(kw_only=True)
class Sweep:
    """The use case, with all that it needs.

    Attributes:
        uploads: Where uploads lie, with versions that it names; every one of them is looked at.
        users: Has the ledger.
        is_report: Tells our own reports from uploads.
        queue: Announces uploads for import.
        tell: Is told of each upload that is lost, once that has become of it.
        now: Tells the time, with its zone.
        older_than: How old an upload has to be, and how long ago it has to have been queued: so long its message
            may be at work.
        younger_than: How old it may be.
        batch: How many the ledger is asked for at once.
    """

    uploads: ObjectStore
    users: UserRepository
    is_report: Callable[[ObjectReference], bool]
    queue: Callable[[Sequence[Listed]], None]
    tell: Callable[[Listed, Fate], None]
    now: Callable[[], datetime]
    older_than: timedelta
    younger_than: timedelta
    batch: int = 500

    def __call__(
        self, after: ObjectReference | None = None, *, out_of_time: Callable[[], bool] = lambda: False
    ) -> Swept:
        """Look at every upload, or at those behind a place, as far as time allows.

        Args:
            after: Where an earlier sweep stopped.
            out_of_time: Is asked after each batch.

        Raises:
            ObjectNotFoundError: The store cannot go on from there; begin anew.
            StoreUnavailableError: The store or the queue failed. What was to be queued may not have been, and is
                found by a later sweep; that counts as one time.
            RepositoryUnavailableError: The database failed.
            SchemaError: The database is not prepared.
        """
        at = self.now()
        seen = queued = given_up = 0
        stopped_at = None
        listing = self.uploads.list(after=after)
        while batch := list(islice(listing, self.batch)):
            uploads = [listed for listed in batch if self._is_upload(listed)]
            lost = self._queue_lost(uploads, at)
            seen += len(uploads)
            queued += len(lost.queue)
            given_up += len(lost.give_up)
            # A batch that is not full is the last.
            if len(batch) == self.batch and out_of_time():
                stopped_at = batch[-1].reference
                break
        return Swept(seen=seen, queued=queued, given_up=given_up, stopped_at=stopped_at)

    def _queue_lost(self, uploads: Iterable[Listed], at: datetime) -> Lost:
        due = {
            listed.upload.identity: listed
            for listed in uploads
            if self.older_than <= at - listed.upload.last_modified <= self.younger_than
        }
        if not due:
            return Lost()
        lost = self.users.note_lost(due, at, at_most=QUEUED_AT_MOST, patience=self.older_than)
        queue, give_up = (
            [listed for identity, listed in due.items() if identity in identities]
            for identities in (lost.queue, lost.give_up)
        )
        for listed in give_up:
            self.tell(listed, Fate.GIVEN_UP)
        if queue:
            self.queue(queue)
        for listed in queue:
            self.tell(listed, Fate.QUEUED)
        return lost

    def _is_upload(self, listed: Listed) -> bool:
        return not is_folder(listed.upload.key, listed.upload.size) and not self.is_report(listed.reference)
