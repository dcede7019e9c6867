"""The sweep: it finds uploads whose notification was lost, and queues them again."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice

import attrs

from rollcall.application.ports import ObjectListing, UserRepository
from rollcall.application.values import ListedObject, LostUploads
from rollcall.domain.upload import ObjectReference, is_folder

# An upload that was queued so often and still is not in the ledger cannot be imported; a person has to look at it.
QUEUED_AT_MOST = 2


class LostUploadAction(StrEnum):
    """What the sweep does with a lost upload."""

    QUEUED = "queued"
    GIVEN_UP = "given up"


@attrs.frozen(kw_only=True)
class SweepResult:
    """The result of a sweep.

    Attributes:
        seen: The number of uploads of any age that were listed.
        queued: The number of lost uploads that were queued.
        given_up: The number of lost uploads that had been queued `QUEUED_AT_MOST` times before.
        stopped_at: Where the next sweep continues, if time ran out; None if the listing was complete.
    """

    seen: int
    queued: int
    given_up: int
    stopped_at: ObjectReference | None


@attrs.frozen(kw_only=True)
class Sweep:
    """The use case that queues lost uploads.

    Attributes:
        uploads: The store of uploads; it names versions, and each version is checked.
        users: The repository with the ledger.
        is_report: Returns whether an object is one of our own reports.
        queue: Announces uploads for import.
        tell: Called for each lost upload after it was queued or given up.
        now: Returns the current time, with its time zone.
        older_than: The smallest age of an upload, and the smallest time since it was last queued. Until then, its
            message may still be processed.
        younger_than: The largest age of an upload.
        batch: The number of uploads in one query to the ledger.
        give_up: Called for each upload once, by the first sweep that gives it up.
    """

    uploads: ObjectListing
    users: UserRepository
    is_report: Callable[[ObjectReference], bool]
    queue: Callable[[Sequence[ListedObject]], None]
    tell: Callable[[ListedObject, LostUploadAction], None]
    now: Callable[[], datetime]
    older_than: timedelta
    younger_than: timedelta
    batch: int = 500
    give_up: Callable[[ListedObject], None] = lambda _: None

    def __call__(
        self, after: ObjectReference | None = None, *, out_of_time: Callable[[], bool] = lambda: False
    ) -> SweepResult:
        """Check all uploads, or those listed after an upload, until time runs out.

        Args:
            after: Where an earlier sweep stopped; None to begin at the first upload.
            out_of_time: Called after each batch; returns whether to stop.

        Raises:
            ObjectNotFoundError: The store cannot continue after that upload; begin again.
            StoreUnavailableError: The store or the queue failed. Uploads that were not queued are found by a later
                sweep; the failed attempt counts as one of `QUEUED_AT_MOST`.
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
            # A batch that is not full is the last one.
            if len(batch) == self.batch and out_of_time():
                stopped_at = batch[-1].reference
                break
        return SweepResult(seen=seen, queued=queued, given_up=given_up, stopped_at=stopped_at)

    def _queue_lost(self, uploads: Iterable[ListedObject], at: datetime) -> LostUploads:
        due = {
            listed.upload.identity: listed
            for listed in uploads
            if self.older_than <= at - listed.upload.last_modified <= self.younger_than
        }
        if not due:
            return LostUploads()
        lost = self.users.record_lost(due, at, at_most=QUEUED_AT_MOST, patience=self.older_than)
        queue, give_up = (
            [listed for identity, listed in due.items() if identity in identities]
            for identities in (lost.queue, lost.give_up)
        )
        if queue:
            self.queue(queue)
        for listed in queue:
            self.tell(listed, LostUploadAction.QUEUED)
        for listed in give_up:
            self.tell(listed, LostUploadAction.GIVEN_UP)
        # Last, because a publisher that cannot be reached takes seconds for each.
        for listed in give_up:
            if listed.upload.identity in lost.newly_given_up:
                self.give_up(listed)
        return lost

    def _is_upload(self, listed: ListedObject) -> bool:
        return not is_folder(listed.upload.key, listed.upload.size) and not self.is_report(listed.reference)
