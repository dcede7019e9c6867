"""Events and context that AWS passes to a Lambda, and the log of a Lambda. tests/events has whole events."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, quote_plus

from rollcall.entrypoints.lambda_runtime import logger

Event = dict[str, Any]


def s3_record(key: str, *, name: str = "ObjectCreated:Put", bucket: str = "inbox", **described: object) -> Event:
    """One record as S3 writes it, for a key that is already encoded."""
    described = {"eTag": "e1", "sequencer": "0A", **described}
    return {
        "eventSource": "aws:s3",
        "eventName": name,
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, **described}},
    }


def by_s3(key: str) -> Event:
    """Return the event of S3 invoking a function itself."""
    return {"Records": [s3_record(quote_plus(key, safe="/"))]}


def by_s3_with_percent_signs_only(key: str) -> Event:
    """Return the same event with spaces as %20 instead of +."""
    return {"Records": [s3_record(quote(key, safe=""))]}


def by_eventbridge(key: str, *, kind: str = "Object Created", **described: object) -> Event:
    """Return an event as EventBridge passes it on, with the key not encoded."""
    described = {"etag": "e1", "sequencer": "0A", **described}
    return {
        "source": "aws.s3",
        "detail-type": kind,
        "detail": {"bucket": {"name": "inbox"}, "object": {"key": key, **described}},
    }


def in_sqs(*events: Event) -> Event:
    """Return events as a queue passes them on."""
    return {"Records": [message(json.dumps(event), f"m{number}") for number, event in enumerate(events, 1)]}


def message(body: str, message_id: str, **attributes: str) -> Event:
    """One message of a queue."""
    return {
        "messageId": message_id,
        "receiptHandle": f"handle of {message_id}",
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1767225600000"},
        "messageAttributes": {
            name: {"stringValue": value, "dataType": "String"} for name, value in attributes.items()
        },
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:queue",
    }


def in_sns(event: Event) -> Event:
    """Return an event as a topic passes it on to a queue."""
    return {"Type": "Notification", "TopicArn": "arn:aws:sns:::topic", "Message": json.dumps(event)}


class Context:
    """The context that AWS passes to an invocation.

    Args:
        seconds: The remaining time at each call; the last value repeats.
    """

    function_name = "import"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:import"
    aws_request_id = "request"

    def __init__(self, *seconds: float) -> None:
        self._seconds = list(seconds or [900])

    def get_remaining_time_in_millis(self) -> int:
        seconds = self._seconds.pop(0) if len(self._seconds) > 1 else self._seconds[0]
        return int(seconds * 1000)


@contextmanager
def lambda_log() -> Iterator[io.StringIO]:
    """Capture the log of the Lambdas."""
    handler = logger.registered_handler
    assert isinstance(handler, logging.StreamHandler)
    log = io.StringIO()
    before = handler.setStream(log)
    try:
        yield log
    finally:
        handler.setStream(before)
