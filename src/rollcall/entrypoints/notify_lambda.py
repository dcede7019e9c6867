"""The notify Lambda: S3 invokes it for each new receipt, and it publishes the outcome of that import.

The receipt is the outbox: it is stored before anything is published, and S3 announces it at least once. A repeat
has the same event id.
"""

import json
import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import attrs

from rollcall import bootstrap
from rollcall.application.check_upload import is_check
from rollcall.application.errors import ObjectNotFoundError
from rollcall.application.notification import Notification, import_finished
from rollcall.application.ports import ObjectReader
from rollcall.application.receipts import from_dict
from rollcall.application.reports import RECEIPT_NAME
from rollcall.domain.upload import ObjectReference
from rollcall.entrypoints.lambda_runtime import error_fields, logger, missing
from rollcall.entrypoints.s3_events import created_objects
from rollcall.entrypoints.tracing import tracer
from rollcall.settings import Address, Settings, read_settings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@logger.inject_lambda_context(clear_state=True, log_event=False)
@tracer.capture_lambda_handler(capture_response=False, capture_error=False)
def handler(event: Mapping[str, Any], context: "LambdaContext") -> None:  # noqa: ARG001 - AWS passes it
    """Publish the outcomes of the receipts that an event announces; AWS Lambda calls this function.

    Raises:
        SettingError: A setting is wrong or missing.
        NotifyFailedError: An outcome was not published; AWS Lambda invokes again.
    """
    _wired()(event)


class NotifyFailedError(RuntimeError):
    """An outcome was not published; the log gives the receipt and the reason."""

    def __init__(self) -> None:
        super().__init__("not every outcome could be published; the log says which and why")


@attrs.frozen(kw_only=True)
class NotifyLambda:
    """The handler of invocations.

    Attributes:
        reports: The store of reports.
        address: The address of that store. Other objects are ignored.
        uploads_prefix: The prefix of the store of uploads in its bucket.
        publish: Publishes a notification.
    """

    reports: ObjectReader
    address: Address
    uploads_prefix: str
    publish: Callable[[Notification], None]

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Publish the outcome of each receipt. A failure does not stop the next one.

        Raises:
            NotifyFailedError: An outcome was not published, or the event has an unknown shape.
        """
        try:
            references = created_objects(event)
        except Exception as error:  # noqa: BLE001 - its text might show a part of the event
            _log_failure(error)
            raise NotifyFailedError from None
        done = [self._notify(reference) for reference in references]
        if not all(done):
            raise NotifyFailedError

    def _notify(self, reference: ObjectReference) -> bool:
        """Publish the outcome of a receipt, and return whether that is done."""
        if not self._is_receipt_of_import(reference):
            return True
        with logger.append_context_keys(receipt=reference.key, version=reference.version):
            try:
                notification = self._notification(reference)
                self.publish(notification)
            except ObjectNotFoundError as error:
                # A person deleted it, so nothing is left to publish.
                logger.warning("the receipt is gone", extra=error_fields(error))
                return True
            except Exception as error:  # noqa: BLE001 - one receipt must not stop the others
                _log_failure(error)
                return False
            logger.info("published", extra={"status": notification.status, "event_id": notification.event_id})
            return True

    def _is_receipt_of_import(self, reference: ObjectReference) -> bool:
        if reference.bucket != self.address.place or not reference.key.startswith(self.address.prefix):
            return False
        key = reference.key.removeprefix(self.address.prefix)
        return key.endswith(f"/{RECEIPT_NAME}") and not is_check(key)

    def _notification(self, reference: ObjectReference) -> Notification:
        with self.reports.open(reference) as found:
            content = b"".join(found.read())
        return import_finished(
            from_dict(json.loads(content)),
            f"s3://{reference.bucket}/{reference.key}",
            prefix=self.uploads_prefix,
        )


def wire(settings: Settings) -> NotifyLambda:
    """Build the handler of invocations.

    Raises:
        SettingError: The store of reports or the topic is not set.
    """
    if settings.reports is None:
        raise missing("reports")
    publish = bootstrap.publisher(settings)
    if publish is None:
        raise missing("notify_topic")
    return NotifyLambda(
        reports=bootstrap.object_store(settings.reports, owner=settings.bucket_owner),
        address=settings.reports,
        uploads_prefix=settings.uploads_prefix,
        publish=publish,
    )


@cache
def _wired() -> NotifyLambda:
    return wire(read_settings(os.environ))


def _log_failure(error: Exception) -> None:
    logger.error("failed; the outcome is not published", extra=error_fields(error))
