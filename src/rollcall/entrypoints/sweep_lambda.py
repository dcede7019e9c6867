"""The sweep Lambda: on a schedule, it finds uploads whose notification was lost, and queues them for import.

If an invocation runs out of time, the next one continues where it stopped. docs/adr/0013 gives the reasons.
"""

import io
import json
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import attrs
from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

from rollcall import bootstrap
from rollcall.application.errors import ObjectNotFoundError, raise_without_context
from rollcall.application.notification import GivenUpCode, Notification, upload_given_up
from rollcall.application.ports import ReportStore
from rollcall.application.sweep import LostUploadAction, Sweep, SweepResult
from rollcall.application.values import ListedObject
from rollcall.domain.upload import ObjectReference
from rollcall.entrypoints.lambda_runtime import (
    METRICS_NAMESPACE,
    SERVICE,
    OutOfTimeError,
    error_fields,
    interrupted_after,
    log_unpublished,
    logger,
    missing,
    reserve_seconds,
    seconds_left,
)
from rollcall.entrypoints.s3_events import announcement
from rollcall.entrypoints.tracing import tracer
from rollcall.settings import PREFIX, Address, SettingError, Settings, read_settings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# The key in the store of reports. No report has this key: a report's name comes after a key and a version.
POSITION_KEY = "sweep/position.json"
_BEGIN = b"{}"

metrics = Metrics(namespace=METRICS_NAMESPACE, service=SERVICE)


@logger.inject_lambda_context(clear_state=True, log_event=False)
@tracer.capture_lambda_handler(capture_response=False, capture_error=False)
def handler(event: Mapping[str, Any], context: "LambdaContext") -> dict[str, Any]:  # noqa: ARG001 - AWS passes it
    """Sweep once. AWS Lambda calls this function.

    Args:
        event: The event of the schedule, which is ignored.
        context: Gives the remaining time.

    Raises:
        SettingError: A setting is wrong or missing.
        StoreUnavailableError: The queue's visibility timeout could not be read.
        SweepFailedError: The sweep failed; the next one begins at the same place as this one.
    """
    return _wired()(context)


class SweepFailedError(RuntimeError):
    """A sweep failed; the log gives the reason."""

    def __init__(self) -> None:
        super().__init__("the sweep failed; the log says why")


@attrs.frozen(kw_only=True)
class SweepLambda:
    """Handles invocations of the sweep Lambda.

    Attributes:
        sweep: The use case.
        uploads: The address of the uploads. A position outside it is ignored.
        reports: The store in which the position of the next sweep is kept.
    """

    sweep: Sweep
    uploads: Address
    reports: ReportStore

    def __call__(self, context: "LambdaContext") -> dict[str, Any]:
        """Sweep from where the last sweep stopped, until time runs out.

        Returns:
            The counts, and whether the sweep reached the last upload, for a person who invokes the function.

        Raises:
            SweepFailedError: The sweep failed.
        """
        reserve = reserve_seconds(context)
        try:
            with interrupted_after(seconds_left(context) - reserve):
                # Half of the time that is left is for the last batch, the other half for ending the invocation.
                swept = self._go_on(out_of_time=lambda: seconds_left(context) < 2 * reserve)
        except OutOfTimeError:
            logger.error("out of time: the store, the queue or the database did not answer")
            raise_without_context(SweepFailedError())
        except Exception as error:  # noqa: BLE001 - its text might show a cell, so it must not be raised further
            logger.error("the sweep failed", extra=error_fields(error))
            raise_without_context(SweepFailedError())
        counts = {"seen": swept.seen, "queued": swept.queued, "given_up": swept.given_up}
        outcome = {**counts, "complete": swept.stopped_at is None}
        logger.info("swept", extra=outcome)
        for name, count in counts.items():
            metric = "Uploads" + name.title().replace("_", "")
            metrics.add_metric(name=metric, unit=MetricUnit.Count, value=count)
        metrics.flush_metrics()
        return outcome

    def _go_on(self, out_of_time: Callable[[], bool]) -> SweepResult:
        kept = self._kept()
        after = self._place(kept)
        try:
            swept = self.sweep(after, out_of_time=out_of_time)
        except ObjectNotFoundError as error:
            if not after:
                raise
            logger.warning("the sweep begins again at the first upload", extra=error_fields(error))
            swept = self.sweep(out_of_time=out_of_time)
        keep = _written(swept.stopped_at)
        if keep != kept:
            self.reports.put(POSITION_KEY, io.BytesIO(keep))
        return swept

    def _kept(self) -> bytes:
        try:
            with self.reports.open(ObjectReference(key=POSITION_KEY)) as found:
                return b"".join(found.read())
        except ObjectNotFoundError:
            return _BEGIN

    def _place(self, kept: bytes) -> ObjectReference | None:
        """Return the position after which the sweep continues; None to begin at the first upload."""
        if kept == _BEGIN:
            return None
        place = _read(kept)
        here = place and place.bucket == self.uploads.place and place.key.startswith(self.uploads.prefix)
        if not here:
            logger.warning(
                "the sweep begins again at the first upload",
                extra={"reason": f"{POSITION_KEY} names no upload in the bucket"},
            )
            return None
        return place


def wire(settings: Settings, held: ExitStack) -> SweepLambda:
    """Build the handler of invocations.

    Args:
        settings: The settings.
        held: Keeps the connection to the database open until it is closed.

    Raises:
        SettingError: A setting that the sweep needs is missing or wrong.
        StoreUnavailableError: The queue's visibility timeout could not be read.
    """
    if settings.uploads is None:
        raise missing("uploads")
    if settings.uploads.scheme != "s3":
        # A message can only announce a version in S3.
        raise SettingError(f"{PREFIX}UPLOADS", f"{settings.uploads.scheme}:", "s3://bucket[/prefix]")
    if settings.reports is None:
        raise missing("reports")
    if not settings.names_database:
        raise missing("database_url")
    if settings.queue is None:
        raise missing("queue")
    return SweepLambda(
        sweep=held.enter_context(
            bootstrap.sweeper(
                settings,
                settings.uploads,
                settings.queue,
                announcement=announcement,
                tell=tell,
                give_up=partial(give_up, bootstrap.publisher(settings), settings.uploads_prefix),
            )
        ),
        uploads=settings.uploads,
        reports=bootstrap.object_store(settings.reports, owner=settings.bucket_owner),
    )


# Held as long as the process lives. AWS freezes it between invocations, and ends it without a notice.
_held = ExitStack()


@cache
def _wired() -> SweepLambda:
    return wire(read_settings(os.environ), _held)


def tell(listed: ListedObject, fate: LostUploadAction) -> None:
    """Log a lost upload in one line; as an error if it is given up, because a person has to act."""
    upload = listed.upload
    about = {"bucket": upload.bucket, "key": upload.key, "version": upload.version, "bytes": upload.size}
    log = logger.error if fate is LostUploadAction.GIVEN_UP else logger.warning
    log(f"a lost upload is {fate}", extra=about)


def give_up(publish: Callable[[Notification], None] | None, prefix: str, listed: ListedObject) -> None:
    """Publish that an upload is given up. If that fails, the log says so, and the sweep continues.

    Args:
        publish: Publishes a notification; None if nothing is published.
        prefix: The prefix of the store of uploads in its bucket.
        listed: The upload.
    """
    if not publish:
        return
    # The reference of a listing may be relative to its store.
    reference = attrs.evolve(listed.reference, bucket=listed.upload.bucket, key=listed.upload.key)
    with logger.append_context_keys(bucket=reference.bucket, key=reference.key):
        try:
            publish(upload_given_up(reference, GivenUpCode.NEVER_IMPORTED, prefix=prefix))
        except Exception as error:  # noqa: BLE001 - the sweep must continue
            log_unpublished(error)


def _written(place: ObjectReference | None) -> bytes:
    return json.dumps(attrs.asdict(place)).encode("ascii") if place else _BEGIN


def _read(kept: bytes) -> ObjectReference | None:
    """Return the position that `_written` wrote; None for any other content."""
    try:
        match json.loads(kept):
            case {
                "bucket": str(bucket),
                "key": str(key),
                "version": (str() | None) as version,
                "etag": (str() | None) as etag,
            }:
                key.encode()
                return ObjectReference(bucket=bucket, key=key, version=version, etag=etag)
    except (ValueError, RecursionError):
        pass
    return None
