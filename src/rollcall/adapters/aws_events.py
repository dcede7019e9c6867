"""Notifications on AWS: an event of Amazon EventBridge, and a message to a topic of Amazon SNS."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from rollcall.application.errors import NotPublishedError
from rollcall.application.notification import Notification

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_sns import SNSClient

SOURCE = "rollcall"
DETAIL_TYPE = "Import Finished"

_EVENT_BUS = "the default event bus"
# A Lambda has little time left when it gives up an upload.
_SOON = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2})


class AwsPublisher:
    """Publishes each notification on the account's default event bus and to one topic.

    Args:
        topic: The ARN of the topic.
        events: A client of EventBridge, with its own timeouts and retries.
        sns: A client of SNS, with its own timeouts and retries.
    """

    def __init__(self, topic: str, events: "EventBridgeClient", sns: "SNSClient") -> None:
        self._topic = topic
        self._events = events
        self._sns = sns

    def __call__(self, notification: Notification) -> None:
        """Publish a notification. If only one of the two fails, a repeat publishes both again.

        Raises:
            NotPublishedError: At least one of the two was not published.
        """
        with _translated_errors(_EVENT_BUS, "EventBridge"):
            answer = self._events.put_events(
                Entries=[
                    {"Source": SOURCE, "DetailType": DETAIL_TYPE, "Detail": json.dumps(notification.event)},
                ]
            )
        for entry in answer["Entries"]:
            if code := entry.get("ErrorCode"):
                raise NotPublishedError(_EVENT_BUS, f"EventBridge did not take the event: {code}")
        attributes = {
            "status": notification.status,
            "key": notification.key,
            "event_id": notification.event_id,
        }
        with _translated_errors(self._topic, "SNS"):
            self._sns.publish(
                TopicArn=self._topic,
                Subject=notification.subject,
                Message=notification.text,
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
                },
            )


def aws_publisher(topic: str) -> AwsPublisher:
    """Return a publisher whose calls fail after some seconds at most.

    Args:
        topic: The ARN of the topic.
    """
    session = Session()
    return AwsPublisher(topic, session.client("events", config=_SOON), session.client("sns", config=_SOON))


@contextmanager
def _translated_errors(receiver: str, service: str) -> Iterator[None]:
    """Translate boto3's errors."""
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        raise NotPublishedError(receiver, f"{service} answered {code or 'an error'}") from error
    except BotoCoreError as error:
        raise NotPublishedError(receiver, str(error)) from error
