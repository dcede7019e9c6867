"""The import Lambda: it imports the uploads that S3 announces, and retries failures that may pass.

A refused upload is a success here, because its uploader has the receipt. docs/adr/0011 describes the path of a
message.
"""

import os
import random
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime, timedelta
from enum import IntEnum, auto
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Self

import attrs
from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from rollcall import bootstrap
from rollcall.application.errors import ImportInProgressError, RetryableError, TableLockedError
from rollcall.application.import_users import ImportUsers
from rollcall.application.notification import GivenUpCode, Notification, upload_given_up
from rollcall.application.retry_delay import retry_delay
from rollcall.domain.receipt import Receipt
from rollcall.domain.upload import ObjectReference
from rollcall.entrypoints.lambda_runtime import (
    METRICS_NAMESPACE,
    SERVICE,
    TAKES_TOO_LONG,
    OutOfTimeError,
    error_fields,
    interrupted_after,
    log_unpublished,
    logger,
    missing,
    reason_fields,
    reserve_seconds,
    seconds_left,
)
from rollcall.entrypoints.s3_events import created_objects
from rollcall.entrypoints.tracing import tracer
from rollcall.settings import Address, Settings, read_settings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from aws_lambda_powertools.utilities.typing import LambdaContext

# A message that has to wait is delivered again after this delay, until this time after it was first sent. So an
# upload that a frozen worker holds is imported within half a minute after the worker's end.
RETURNS_AFTER_SECONDS = 20
RETURNS_WITHIN = timedelta(hours=6)
FIRST_SENT = "RollcallFirstSent"

metrics = Metrics(namespace=METRICS_NAMESPACE, service=SERVICE)


@logger.inject_lambda_context(clear_state=True, log_event=False)
@tracer.capture_lambda_handler(capture_response=False, capture_error=False)
def handler(event: dict[str, Any], context: "LambdaContext") -> "PartialItemFailureResponse | None":
    """Handle one invocation; AWS Lambda calls this function.

    Returns:
        For messages from SQS, those to be delivered again; None for an event without a queue.

    Raises:
        SettingError: A setting is wrong or missing.
        UnknownEventError: An event without a queue has an unknown shape.
        ImportFailedError: An upload in an event without a queue could not be imported; invoke again.
    """
    return _wired()(event, context)


class ImportFailedError(RuntimeError):
    """An upload was not imported and has to be delivered again; the log gives the upload and the reason."""

    def __init__(self) -> None:
        super().__init__("not everything could be imported; the log says what and why")


@attrs.define
class _Invocation:
    """The time limits of one invocation.

    Attributes:
        begun: The number of imports that it has begun.
    """

    _context: "LambdaContext"
    _reserve_seconds: float
    begun: int = 0

    @classmethod
    def of(cls, context: "LambdaContext") -> Self:
        return cls(context, reserve_seconds(context))

    def seconds_left(self) -> float:
        """Return the seconds until AWS ends the invocation. A frozen function may still exist afterwards."""
        return seconds_left(self._context)

    def importing(self) -> AbstractContextManager[None]:
        """Count an import, and interrupt it before the reserved time begins; see `interrupted_after`."""
        self.begun += 1
        return interrupted_after(self.seconds_left() - self._reserve_seconds)

    def ending(self) -> AbstractContextManager[None]:
        """Use the reserved time, except for the last quarter, which the response needs."""
        return interrupted_after(self.seconds_left() - self._reserve_seconds / 4)


class _Outcome(IntEnum):
    """What to do with a delivery, from best to worst."""

    DONE = auto()
    LATER = auto()  # the upload only has to wait, so this does not count as a try
    SOON = auto()  # the failure may pass
    AGAIN = auto()


@attrs.frozen(kw_only=True)
class ImportLambda:
    """The handler of invocations.

    Attributes:
        import_users: The use case.
        send: Sends a message. Its arguments are the queue's ARN, body, attributes, and delay in seconds.
        now: Returns the current time, with its time zone.
        tries: How often a queue delivers a message in total.
        publish: Publishes the notification of an upload that is given up; None if nothing is published.
        uploads_prefix: The prefix of the store of uploads in its bucket.
        hide: Changes how long a received message is hidden. Its arguments are the queue's ARN, the handle of the
            message, and the time in seconds.
        chance: Returns a random number from 0 to 1.
    """

    import_users: ImportUsers
    send: Callable[[str, str, Mapping[str, str], int], None]
    now: Callable[[], datetime]
    tries: int
    publish: Callable[[Notification], None] | None = None
    uploads_prefix: str = ""
    hide: Callable[[str, str, int], None] = lambda *_: None
    chance: Callable[[], float] = random.random

    def __call__(self, event: Mapping[str, Any], context: "LambdaContext") -> "PartialItemFailureResponse | None":
        """Import every upload that an event announces.

        Returns:
            For messages from SQS, those to be delivered again; None for an event without a queue.

        Raises:
            UnknownEventError: An event without a queue has an unknown shape.
            ImportFailedError: An upload in an event without a queue could not be imported; invoke again.
        """
        invocation = _Invocation.of(context)
        try:
            if _from_sqs(event):
                return process_partial_response(
                    event=dict(event),
                    record_handler=partial(self._take_message, invocation=invocation),
                    processor=BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False),
                )
            # There is no queue to put an upload back into, so the invoker has to try again.
            if _worst(self._import_all(created_objects(event), invocation)) is not _Outcome.DONE:
                raise ImportFailedError
            return None
        finally:
            if metrics.metric_set:
                metrics.flush_metrics()

    def _take_message(self, record: SQSRecord, invocation: _Invocation) -> None:
        tries = int(record.attributes.approximate_receive_count)
        last_try = tries >= self.tries
        outcomes: list[tuple[ObjectReference, _Outcome]] = []
        with logger.append_context_keys(message_id=record.message_id, tries=tries):
            try:
                outcomes = self._import_all(created_objects(record.body), invocation, last_try=last_try)
                outcome = _worst(outcomes)
                if outcome is _Outcome.LATER:
                    outcome = self._put_back(record)
            except Exception as error:  # noqa: BLE001 - one message must not stop the others
                outcome = _failed(error)
            if outcome >= _Outcome.SOON and last_try:
                for reference, reached in outcomes:
                    if reached is not _Outcome.DONE:
                        self._give_up(reference, invocation)
            elif outcome is _Outcome.SOON:
                self._retry_soon(record, tries, invocation)
        if outcome >= _Outcome.SOON:
            raise ImportFailedError

    def _import_all(
        self, references: Iterable[ObjectReference], invocation: _Invocation, *, last_try: bool = False
    ) -> list[tuple[ObjectReference, _Outcome]]:
        """Import uploads one by one, and return each with its outcome. A failure does not stop the next one."""
        return [(reference, self._import(reference, invocation, last_try=last_try)) for reference in references]

    def _import(self, reference: ObjectReference, invocation: _Invocation, *, last_try: bool) -> _Outcome:
        version = reference.version or reference.etag
        with logger.append_context_keys(bucket=reference.bucket, key=reference.key, version=version):
            try:
                if self.import_users.reports.is_report(reference):
                    logger.info(
                        "ignored", extra={"reason": "it lies among the reports, where nothing is imported"}
                    )
                    return _Outcome.DONE
                receipt = self._receipt(reference, invocation, last_try=last_try)
            except (ImportInProgressError, TableLockedError) as error:
                return _put_off(str(error))
            except OutOfTimeError:
                # It counts as a try only if the upload had the whole time of an invocation.
                return _put_off("no time is left for it behind others") if invocation.begun > 1 else _too_slow()
            except Exception as error:  # noqa: BLE001 - one upload must not stop the others
                return _failed(error)
            _account_for(receipt)
            return _Outcome.DONE

    def _receipt(self, reference: ObjectReference, invocation: _Invocation, *, last_try: bool) -> Receipt:
        """Import an upload. If its last try takes too long, refuse it, so that its uploader has a receipt.

        Raises:
            OutOfTimeError: There was not enough time, and the upload has another try.
        """
        try:
            with invocation.importing():
                return self.import_users(reference, seconds_left=invocation.seconds_left)
        except OutOfTimeError:
            if not last_try or invocation.begun > 1:
                raise
        with invocation.ending():
            return self.import_users.refuse(reference, TAKES_TOO_LONG, invocation.seconds_left)

    def _give_up(self, reference: ObjectReference, invocation: _Invocation) -> None:
        """Publish that an upload is not tried again. If that fails, the sweep and an alarm still report it."""
        if not self.publish:
            return
        notification = upload_given_up(reference, GivenUpCode.LAST_TRY_FAILED, prefix=self.uploads_prefix)
        with logger.append_context_keys(bucket=reference.bucket, key=reference.key):
            try:
                with invocation.ending():
                    self.publish(notification)
            except (Exception, OutOfTimeError) as error:  # noqa: BLE001 - the message must still be answered
                log_unpublished(error)

    def _retry_soon(self, record: SQSRecord, tries: int, invocation: _Invocation) -> None:
        """Let a failed message return soon. If that fails, it returns when the queue no longer hides it."""
        seconds = retry_delay(tries, self.chance())
        if seconds is None:
            return
        try:
            with invocation.ending():
                self.hide(record.event_source_arn, record.receipt_handle, seconds)
        except (Exception, OutOfTimeError) as error:  # noqa: BLE001 - the message must still be answered
            logger.warning("the next try is not soon", extra=reason_fields(error))

    def _put_back(self, record: SQSRecord) -> _Outcome:
        """Send a copy of a message with a delay: a redelivery of the message itself would count as a try."""
        first_sent = _first_sent(record)
        if self.now() - datetime.fromtimestamp(int(first_sent) / 1000, UTC) > RETURNS_WITHIN:
            logger.error("it has been put back for too long", extra={"hours": RETURNS_WITHIN / timedelta(hours=1)})
            return _Outcome.AGAIN
        self.send(record.event_source_arn, record.body, {FIRST_SENT: first_sent}, RETURNS_AFTER_SECONDS)
        return _Outcome.DONE


def wire(settings: Settings, held: ExitStack) -> ImportLambda:
    """Build the handler of invocations.

    Args:
        settings: The settings.
        held: Gets the connection to the database, and closes it.

    Raises:
        SettingError: The store of reports or the database is not set.
    """
    if settings.reports is None:
        raise missing("reports")
    if not settings.names_database:
        raise missing("database_url")
    queues = bootstrap.Queues()
    return ImportLambda(
        import_users=held.enter_context(
            bootstrap.importer(
                settings,
                # Each announcement names the bucket.
                uploads=bootstrap.object_store(settings.uploads or Address("s3"), owner=settings.bucket_owner),
                report_address=settings.reports,
                on_aws=True,
            )
        ),
        send=queues.send,
        hide=queues.hide,
        now=bootstrap.now,
        tries=settings.tries,
        publish=bootstrap.publisher(settings),
        uploads_prefix=settings.uploads_prefix,
    )


# Never closed: AWS freezes the process between invocations, and ends it without notice.
_held = ExitStack()


@cache
def _wired() -> ImportLambda:
    return wire(read_settings(os.environ), _held)


def _worst(outcomes: Iterable[tuple[ObjectReference, _Outcome]]) -> _Outcome:
    return max((outcome for _, outcome in outcomes), default=_Outcome.DONE)


def _from_sqs(event: Mapping[str, Any]) -> bool:
    match event:
        case {"Records": [{"eventSource": "aws:sqs"}, *_]}:
            return True
    return False


def _first_sent(record: SQSRecord) -> str:
    """Return when a message was first sent, in milliseconds since 1970; putting it back does not change this."""
    attribute = record.raw_event.get("messageAttributes", {}).get(FIRST_SENT, {})
    return attribute.get("stringValue") or record.attributes.sent_timestamp


def _account_for(receipt: Receipt) -> None:
    """Log an import in one line, and count it in the metrics.

    The receipt's message is left out: if the file has no header, the message may quote cells as labels.
    """
    counts = receipt.counts
    logger.info(
        receipt.status.value,
        extra={
            "import_id": receipt.import_id,
            "version": receipt.source.version,
            "bytes": receipt.source.size,
            "code": receipt.code,
            "corrects": receipt.corrects,
            **attrs.asdict(counts),
            "seconds": round(receipt.seconds, 3),
            "rows_per_second": receipt.rows_per_second,
        },
    )
    status = receipt.status.value.title().replace("_", "")
    _count(f"Imports{status}")
    _count("RowsRead", counts.read)
    _count("RowsRegistered", counts.registered)
    _count("RowsRejected", counts.rejected)
    metrics.add_metric(name="ImportDuration", unit=MetricUnit.Seconds, value=receipt.seconds)


def _put_off(reason: str) -> _Outcome:
    logger.info("put off", extra={"reason": reason})
    _count("ImportsPutOff")
    return _Outcome.LATER


def _too_slow() -> _Outcome:
    logger.error(
        "out of time; what was not committed is rolled back. Give the function more of it, or import this upload "
        "on a machine: after its last try it is in the dead-letter queue"
    )
    _count("ImportsFailed")
    return _Outcome.AGAIN


def _failed(error: Exception) -> _Outcome:
    logger.error("failed; it is to be delivered again", extra=error_fields(error))
    _count("ImportsFailed")
    return _Outcome.SOON if isinstance(error, RetryableError) else _Outcome.AGAIN


def _count(name: str, number: int = 1) -> None:
    metrics.add_metric(name=name, unit=MetricUnit.Count, value=number)
