"""S3 to SQS to the Lambdas, with moto in place of AWS, over HTTP.

moto runs no Lambda, so the tests poll the queue and invoke the function, as AWS does.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, cast

import attrs

from rollcall.adapters.sqs import client
from rollcall.application.values import ImportRequest
from rollcall.domain.upload import Upload
from rollcall.entrypoints.import_lambda import ImportLambda, wire
from rollcall.settings import Settings, read_settings
from support.aws_events import Context, Event
from support.builders import completed
from support.database_roles import IMPORTER, acting_as

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from aws_lambda_powertools.utilities.typing import LambdaContext
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

# As deployed.
TRIES = Settings().tries
GOOD = b"name,country,age\nTaro,Japan,30\n"
KEY = "in coming/Søren + 100%.csv"

Wire = Callable[[Mapping[str, str]], ImportLambda]


@attrs.frozen
class Chain:
    """A bucket that notifies a queue, which has a dead-letter queue.

    Attributes:
        bucket: The name of the bucket.
        url: The URL of the queue.
        arn: The ARN of the queue.
        dead: The URL of the dead-letter queue.
    """

    s3: "S3Client"
    sqs: "SQSClient"
    bucket: str
    url: str
    arn: str
    dead: str

    def drop(self, data: bytes, key: str = KEY) -> None:
        """Upload a file with every column, see `completed`."""
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=completed(data))

    def receive(self, url: str = "") -> Event:
        """Receive messages from a queue, as the event that AWS passes to a function."""
        answer = self.sqs.receive_message(
            QueueUrl=url or self.url,
            MaxNumberOfMessages=10,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        return {
            "Records": [
                {
                    "messageId": message["MessageId"],
                    "receiptHandle": message["ReceiptHandle"],
                    "body": message["Body"],
                    "attributes": message["Attributes"],
                    "messageAttributes": {
                        name: {"stringValue": attribute["StringValue"], "dataType": "String"}
                        for name, attribute in message.get("MessageAttributes", {}).items()
                    },
                    "eventSource": "aws:sqs",
                    "eventSourceARN": self.arn,
                    "awsRegion": "us-east-1",
                }
                for message in answer.get("Messages", [])
            ]
        }

    def deliver(self, function: ImportLambda, context: Context | None = None) -> list[str]:
        """Invoke the function with the messages of the queue, and return the bodies to deliver again."""
        return self.hand_over(lambda event: function(event, cast("LambdaContext", context or Context())))

    def hand_over(self, invoke: "Callable[[Event], PartialItemFailureResponse | None]") -> list[str]:
        """Pass the messages of the queue to `invoke`, and return the bodies to deliver again."""
        event = self.receive()
        answer = invoke(event)
        failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]} if answer else set()
        for record in event["Records"]:
            handle = record["receiptHandle"]
            if record["messageId"] in failed:
                self.sqs.change_message_visibility(QueueUrl=self.url, ReceiptHandle=handle, VisibilityTimeout=0)
            else:
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=handle)
        return [record["body"] for record in event["Records"] if record["messageId"] in failed]

    def reports(self) -> dict[str, bytes]:
        """Return the objects under the prefix of the reports."""
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix="reports/").get("Contents", [])
        return {
            item["Key"]: self.s3.get_object(Bucket=self.bucket, Key=item["Key"])["Body"].read() for item in listed
        }

    def receipts(self) -> dict[str, Any]:
        """Return the receipts by key."""
        return {key: json.loads(data) for key, data in self.reports().items() if key.endswith("/receipt.json")}

    def lose(self) -> Event:
        """Delete every message in the queue, and return the event that they would have been."""
        lost: Event = {"Records": []}
        while records := self.receive()["Records"]:
            for record in records:
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=record["receiptHandle"])
            lost["Records"] += records
        return lost

    def settings(self, database_url: str) -> dict[str, str]:
        """Return the settings of the functions."""
        return {
            "ROLLCALL_REPORTS": f"s3://{self.bucket}/reports",
            "ROLLCALL_DATABASE_URL": acting_as(IMPORTER, database_url),
            "ROLLCALL_UPLOADS": f"s3://{self.bucket}",
            "ROLLCALL_QUEUE": self.arn,
        }


def chained(s3: "S3Client", bucket: str) -> Chain:
    """Let a bucket notify new queues."""
    sqs = client()

    def arn(url: str) -> str:
        return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    dead = sqs.create_queue(QueueName=f"{bucket}-dead")["QueueUrl"]
    redrive = json.dumps({"deadLetterTargetArn": arn(dead), "maxReceiveCount": TRIES})
    url = sqs.create_queue(QueueName=bucket, Attributes={"RedrivePolicy": redrive})["QueueUrl"]
    s3.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "QueueConfigurations": [{"QueueArn": arn(url), "Events": ["s3:ObjectCreated:*"]}]
        },
    )
    return Chain(s3, sqs, bucket, url, arn(url), dead)


@contextmanager
def imported_elsewhere(chain: Chain, database_url: str) -> Iterator[None]:
    """Hold the locks of another import of the same upload."""
    head = chain.s3.head_object(Bucket=chain.bucket, Key=KEY)
    version, size, modified = head["VersionId"], head["ContentLength"], head["LastModified"]
    upload = Upload(bucket=chain.bucket, key=KEY, version=version, size=size, last_modified=modified)
    with ExitStack() as held:
        other = wire(read_settings(chain.settings(database_url)), held)
        with other.import_users.users.importing(ImportRequest(upload, sha256=None)):
            yield


def invoke(function: str, event: Event, settings: Mapping[str, str]) -> "subprocess.CompletedProcess[bytes]":
    """Invoke a function by its handler, in a process of its own with these settings."""
    program = (
        "import json, sys; from support.aws_events import Context;"
        f"from rollcall.entrypoints.{function} import handler;"
        "print(json.dumps(handler(json.load(sys.stdin), Context())))"
    )
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ROLLCALL_")}
    return subprocess.run(  # noqa: S603 - the tests' own words
        [sys.executable, "-c", program],
        input=json.dumps(event).encode(),
        env={**inherited, **settings, "PYTHONPATH": "tests"},
        capture_output=True,
        timeout=60,
        check=False,
    )
