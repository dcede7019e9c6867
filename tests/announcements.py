"""What AWS hands to a Lambda, as far as anybody looks at it, and takes from it. tests/events has whole events."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, quote_plus

from rollcall.entrypoints.on_lambda import logger

Event = dict[str, Any]


def s3_record(key: str, *, name: str = "ObjectCreated:Put", bucket: str = "inbox", **described: object) -> Event:
    """One record as S3 writes it; the key is encoded already."""
    described = {"size": 10, "eTag": "e1", "sequencer": "0A", **described}
    return {
        "eventSource": "aws:s3",
        "eventName": name,
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, **described}},
    }


def by_s3(key: str) -> Event:
    """As S3 invokes a function itself."""
    return {"Records": [s3_record(quote_plus(key, safe="/"))]}


def by_s3_with_percent_signs_only(key: str) -> Event:
    """The other way to encode a space."""
    return {"Records": [s3_record(quote(key, safe=""))]}


def by_eventbridge(key: str, *, kind: str = "Object Created", **described: object) -> Event:
    """As EventBridge passes it on; it does not encode keys."""
    described = {"size": 10, "etag": "e1", "sequencer": "0A", **described}
    return {
        "source": "aws.s3",
        "detail-type": kind,
        "detail": {"bucket": {"name": "inbox"}, "object": {"key": key, **described}},
    }


def in_sqs(*events: Event) -> Event:
    """As a queue passes events on."""
    return {"Records": [message(json.dumps(event), f"m{number}") for number, event in enumerate(events, 1)]}


def message(body: str, message_id: str, **attributes: str) -> Event:
    """One message of a queue."""
    return {
        "messageId": message_id,
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1767225600000"},
        "messageAttributes": {
            name: {"stringValue": value, "dataType": "String"} for name, value in attributes.items()
        },
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:queue",
    }


def in_sns(event: Event) -> Event:
    """As a topic passes an event on to a queue."""
    return {"Type": "Notification", "TopicArn": "arn:aws:sns:::topic", "Message": json.dumps(event)}


class Context:
    """What AWS tells a function of its invocation.

    Args:
        seconds: How many are left of it, one time after the other that it is asked; the last of them from then on.
    """

    function_name = "import"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:import"
    aws_request_id = "request"

    def __init__(self, *seconds: float) -> None:
        self._seconds = list(seconds or [900])

    def get_remaining_time_in_millis(self) -> int:
        """Say how much time is left."""
        seconds = self._seconds.pop(0) if len(self._seconds) > 1 else self._seconds[0]
        return int(seconds * 1000)


@contextmanager
def lambda_log() -> Iterator[io.StringIO]:
    """Catch what Lambdas log."""
    handler = logger.registered_handler
    assert isinstance(handler, logging.StreamHandler)
    log = io.StringIO()
    before = handler.setStream(log)
    try:
        yield log
    finally:
        handler.setStream(before)
