"""The check Lambda: it judges what lies in the inbox, and registers nothing. It has no database.

A refused upload is a success here, because its uploader sees the receipt of the check.
"""

import os
from collections.abc import Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import attrs
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from rollcall import bootstrap
from rollcall.application.import_users import ImportUsers
from rollcall.bootstrap import web
from rollcall.domain.receipt import Receipt
from rollcall.domain.upload import ObjectReference, WebUpload
from rollcall.entrypoints.lambda_runtime import (
    TAKES_TOO_LONG,
    OutOfTimeError,
    interrupted_after,
    logger,
    missing,
    private_error_fields,
    reserve_seconds,
    seconds_left,
)
from rollcall.entrypoints.s3_events import created_objects
from rollcall.entrypoints.tracing import tracer
from rollcall.settings import Settings, read_settings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from aws_lambda_powertools.utilities.typing import LambdaContext


@logger.inject_lambda_context(clear_state=True, log_event=False)
@tracer.capture_lambda_handler(capture_response=False, capture_error=False)
def handler(event: dict[str, Any], context: "LambdaContext") -> "PartialItemFailureResponse":
    """Handle one invocation; AWS Lambda calls this function.

    Returns:
        The messages to be delivered again.

    Raises:
        SettingError: A setting is wrong or missing.
    """
    return _wired()(event, context)


class CheckFailedError(RuntimeError):
    """An upload was not checked and has to be delivered again; the log gives the upload and the reason."""

    def __init__(self) -> None:
        super().__init__("not everything could be checked; the log says what and why")


@attrs.frozen(kw_only=True)
class CheckLambda:
    """The handler of invocations.

    Attributes:
        check: The use case that judges uploads and registers nothing.
        tries: How often the queue delivers a message in total.
    """

    check: ImportUsers
    tries: int

    def __call__(self, event: Mapping[str, Any], context: "LambdaContext") -> "PartialItemFailureResponse":
        """Check every upload that an event announces, and return the messages to be delivered again."""
        return process_partial_response(
            event=dict(event),
            record_handler=partial(self._take_message, context=context, reserve=reserve_seconds(context)),
            processor=BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False),
        )

    def _take_message(self, record: SQSRecord, context: "LambdaContext", reserve: float) -> None:
        tries = int(record.attributes.approximate_receive_count)
        with logger.append_context_keys(message_id=record.message_id, tries=tries):
            try:
                references = created_objects(record.body)
            except Exception as error:  # noqa: BLE001 - one message must not stop the others
                _log_failure(error)
                raise CheckFailedError from None
            last_try = tries >= self.tries
            checked = [self._check(reference, context, reserve, last_try=last_try) for reference in references]
        if not all(checked):
            raise CheckFailedError

    def _check(
        self, reference: ObjectReference, context: "LambdaContext", reserve: float, *, last_try: bool
    ) -> bool:
        """Check an upload, and return whether that is done. A failure does not stop the next upload."""
        upload = WebUpload.of_key(reference.key)
        if not upload:
            logger.info("ignored", extra={"reason": "it is no upload of the page"})
            return True
        with logger.append_context_keys(upload=upload.id, version=reference.version):
            try:
                with interrupted_after(seconds_left(context) - reserve):
                    _log_check(self.check(reference))
            except OutOfTimeError:
                logger.error("out of time; give the function more of it")
                return last_try and self._refuse(reference, seconds_left(context) - reserve / 4)
            except Exception as error:  # noqa: BLE001 - one upload must not stop the others
                _log_failure(error)
                return False
            return True

    def _refuse(self, reference: ObjectReference, seconds: float) -> bool:
        """Refuse an upload whose last try took too long, so that its uploader has a receipt."""
        try:
            with interrupted_after(seconds):
                _log_check(self.check.refuse(reference, TAKES_TOO_LONG))
        except (Exception, OutOfTimeError) as error:  # noqa: BLE001 - as above
            _log_failure(error)
            return False
        return True


def wire(settings: Settings) -> CheckLambda:
    """Build the handler of invocations.

    Raises:
        SettingError: The inbox or the store of reports is not set.
    """
    if settings.inbox is None:
        raise missing("inbox")
    if settings.reports is None:
        raise missing("reports")
    owner = settings.bucket_owner
    return CheckLambda(
        check=web.upload_checker(
            settings,
            bootstrap.object_store(settings.inbox, owner=owner),
            bootstrap.object_store(settings.reports, owner=owner),
        ),
        tries=settings.tries,
    )


@cache
def _wired() -> CheckLambda:
    return wire(read_settings(os.environ))


def _log_check(receipt: Receipt) -> None:
    """Log a check in one line, without the receipt's message, which may quote cells."""
    logger.info(
        "checked",
        extra={
            "status": receipt.status.value,
            "code": receipt.code,
            "bytes": receipt.source.size,
            "read": receipt.counts.read,
            "rejected": receipt.counts.rejected,
            "seconds": round(receipt.seconds, 3),
        },
    )


def _log_failure(error: BaseException) -> None:
    fields = private_error_fields(error) if isinstance(error, Exception) else {"error": type(error).__name__}
    logger.error("failed; it is to be delivered again", extra=fields)
