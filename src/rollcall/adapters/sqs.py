"""Amazon SQS queues."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from rollcall.application.errors import StoreUnavailableError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_SENT_AT_ONCE = 10


class SqsQueues:
    """SQS queues, named by their ARNs as in the messages that Lambda receives from them.

    Args:
        client: A client of SQS, with its own timeouts and retries.
    """

    def __init__(self, client: "SQSClient") -> None:
        self._client = client
        self._urls: dict[str, str] = {}

    def send(self, arn: str, body: str, attributes: Mapping[str, str], delay_in_seconds: int) -> None:
        """Send a message.

        Args:
            arn: The ARN of the queue.
            body: The body of the message.
            attributes: The attributes of the message.
            delay_in_seconds: How long nobody receives the message; 900 at most.

        Raises:
            StoreUnavailableError: The message was not sent, or it is not known whether it was.
        """
        with _translated_errors(arn):
            self._client.send_message(
                QueueUrl=self._url(arn),
                MessageBody=body,
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
                },
                DelaySeconds=delay_in_seconds,
            )

    def send_all(self, arn: str, bodies: Iterable[str]) -> None:
        """Send any number of messages in batches of ten, the most that SQS allows.

        Args:
            arn: The ARN of the queue.
            bodies: The body of each message; ten together MUST have no more than 256 KiB.

        Raises:
            StoreUnavailableError: Some messages of a batch were not sent, or it is not known whether they were.
                No further batch was sent.
        """
        rest = iter(bodies)
        while batch := list(islice(rest, _SENT_AT_ONCE)):
            with _translated_errors(arn):
                answer = self._client.send_message_batch(
                    QueueUrl=self._url(arn),
                    Entries=[{"Id": str(number), "MessageBody": body} for number, body in enumerate(batch)],
                )
            for failure in answer.get("Failed", ()):
                raise StoreUnavailableError(arn, f"SQS did not take a message: {failure['Code']}")

    def hide(self, arn: str, receipt_handle: str, seconds: int) -> None:
        """Change how long a received message is hidden from other receivers, from now on.

        Args:
            arn: The ARN of the queue.
            receipt_handle: The handle with which the message was received.
            seconds: How long it is hidden.

        Raises:
            StoreUnavailableError: The time was not changed, or it is not known whether it was.
        """
        with _translated_errors(arn):
            self._client.change_message_visibility(
                QueueUrl=self._url(arn), ReceiptHandle=receipt_handle, VisibilityTimeout=seconds
            )

    def visibility_timeout(self, arn: str) -> timedelta:
        """Return how long a received message is hidden from other receivers.

        Raises:
            StoreUnavailableError: The queue's attributes could not be read.
        """
        with _translated_errors(arn):
            answer = self._client.get_queue_attributes(
                QueueUrl=self._url(arn), AttributeNames=["VisibilityTimeout"]
            )
        return timedelta(seconds=int(answer["Attributes"]["VisibilityTimeout"]))

    def _url(self, arn: str) -> str:
        if arn not in self._urls:
            *_, account, name = arn.split(":")
            answer = self._client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)
            self._urls[arn] = answer["QueueUrl"]
        return self._urls[arn]


def client() -> "SQSClient":
    """Return a client whose calls fail after some seconds at most, because a Lambda has little time left."""
    return Session().client(
        "sqs",
        config=Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2}),
    )


@contextmanager
def _translated_errors(arn: str) -> Iterator[None]:
    """Translate boto3's errors into the port's."""
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        raise StoreUnavailableError(arn, f"SQS answered {code or 'an error'}") from error
    except BotoCoreError as error:
        raise StoreUnavailableError(arn, str(error)) from error
