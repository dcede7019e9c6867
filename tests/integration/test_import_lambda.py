"""S3 to SQS to the Lambda to PostgreSQL, each of them real but for AWS, which moto plays over HTTP.

moto runs no Lambda, so a poller stands for what AWS does between queue and function.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, cast

import attrs
import psycopg
import pytest

from announcements import Context, Event
from database_roles import IMPORTER, acting_as
from integration.command_line import imports, users, wait_until
from rollcall.adapters.sqs import SqsQueues, client
from rollcall.application.ports import StoreUnavailableError
from rollcall.domain.upload import Upload
from rollcall.entrypoints.import_lambda import ImportLambda, wire
from rollcall.settings import read_settings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

GOOD = b"name,country,age\nTaro,Japan,30\n"
KEY = "in coming/Søren + 100%.csv"


@attrs.frozen
class Chain:
    """A bucket that tells a queue, which has a dead-letter queue.

    Attributes:
        bucket: The bucket's name.
        url: The queue's.
        arn: The queue's name in full.
        dead: The URL of the dead-letter queue.
    """

    s3: "S3Client"
    sqs: "SQSClient"
    bucket: str
    url: str
    arn: str
    dead: str

    def drop(self, data: bytes, key: str = KEY) -> None:
        """Upload something."""
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=data)

    def receive(self, url: str = "") -> Event:
        """Take from the queue what is there, as the event that AWS makes of it."""
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
        """Invoke the function with what is in the queue, and give the bodies of what has to come again."""
        event = self.receive()
        answer = function(event, cast("LambdaContext", context or Context()))
        failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]} if answer else set()
        for record in event["Records"]:
            handle = record["receiptHandle"]
            if record["messageId"] in failed:
                self.sqs.change_message_visibility(QueueUrl=self.url, ReceiptHandle=handle, VisibilityTimeout=0)
            else:
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=handle)
        return [record["body"] for record in event["Records"] if record["messageId"] in failed]

    def reports(self) -> dict[str, bytes]:
        """What lies under the prefix of the reports."""
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix="reports/").get("Contents", [])
        return {
            item["Key"]: self.s3.get_object(Bucket=self.bucket, Key=item["Key"])["Body"].read() for item in listed
        }

    def settings(self, database_url: str) -> dict[str, str]:
        """What the function is told."""
        return {
            "ROLLCALL_REPORTS": f"s3://{self.bucket}/reports",
            "ROLLCALL_DATABASE_URL": acting_as(IMPORTER, database_url),
        }


@pytest.fixture
def chain(
    s3_endpoint: str,
    s3_client: "S3Client",
    new_bucket: Callable[[bool], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Chain:
    """A new bucket and new queues."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", s3_endpoint)
    sqs = client()
    bucket = new_bucket(True)  # noqa: FBT003 - with versions, as it is to be deployed

    def arn(url: str) -> str:
        return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    dead = sqs.create_queue(QueueName=f"{bucket}-dead")["QueueUrl"]
    redrive = json.dumps({"deadLetterTargetArn": arn(dead), "maxReceiveCount": 3})
    url = sqs.create_queue(QueueName=bucket, Attributes={"RedrivePolicy": redrive})["QueueUrl"]
    s3_client.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "QueueConfigurations": [{"QueueArn": arn(url), "Events": ["s3:ObjectCreated:*"]}]
        },
    )
    return Chain(s3_client, sqs, bucket, url, arn(url), dead)


Wire = Callable[[Mapping[str, str]], ImportLambda]


@pytest.fixture
def wired() -> Iterator[Wire]:
    """Wire a function to what its settings name."""
    with ExitStack() as held:
        yield lambda settings: wire(read_settings(settings), held)


def test_what_is_dropped_is_registered_once(chain: Chain, wired: Wire, database_url: str) -> None:
    """And its receipt, which lies in the same bucket, is taken for no upload."""
    function = wired(chain.settings(database_url))
    chain.drop(GOOD)

    assert chain.deliver(function) == []
    assert chain.deliver(function) == []
    assert users(database_url) == [("Taro", "Japan", 30)]
    assert imports(database_url) == [("loaded", 1)]
    [(key, receipt)] = chain.reports().items()
    assert key.startswith(f"reports/{KEY}/")
    assert json.loads(receipt)["source"]["key"] == KEY
    assert chain.receive() == {"Records": []}


def test_a_redelivery_is_skipped(chain: Chain, wired: Wire, database_url: str) -> None:
    """The ledger knows."""
    function = wired(chain.settings(database_url))
    chain.drop(GOOD)
    event = chain.receive()
    for _ in range(2):
        assert function(event, cast("LambdaContext", Context())) == {"batchItemFailures": []}

    assert imports(database_url) == [("loaded", 1)]


def test_a_refused_upload_does_not_come_again(chain: Chain, wired: Wire, database_url: str) -> None:
    """Its receipt says why."""
    function = wired(chain.settings(database_url))
    chain.drop(b"name,country\nTaro,Japan\n")

    assert chain.deliver(function) == []
    assert imports(database_url) == [("refused", 0)]
    [receipt] = chain.reports().values()
    assert json.loads(receipt)["code"] == "missing-label"


def test_the_test_event_of_s3_does_not_come_again(chain: Chain, wired: Wire, database_url: str) -> None:
    """Each bucket that is told to notify a queue begins with one."""
    chain.sqs.send_message(
        QueueUrl=chain.url,
        MessageBody=json.dumps(
            {
                "Service": "Amazon S3",
                "Event": "s3:TestEvent",
                "Time": "2026-11-23T10:00:00.000Z",
                "Bucket": chain.bucket,
                "RequestId": "5582815E1AEA5ADF",
                "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE",
            }
        ),
    )

    assert chain.deliver(wired(chain.settings(database_url))) == []
    assert imports(database_url) == []


def test_a_database_that_is_away_costs_no_upload(chain: Chain, wired: Wire, database_url: str) -> None:
    """After three tries the message is in the dead-letter queue; from there it is imported."""
    function = wired(chain.settings("postgresql://nobody@127.0.0.1:1/nowhere"))
    chain.drop(GOOD)
    for _ in range(3):
        [body] = chain.deliver(function)

    assert chain.receive() == {"Records": []}
    [dead] = chain.receive(chain.dead)["Records"]
    assert dead["body"] == body
    chain.sqs.send_message(QueueUrl=chain.url, MessageBody=dead["body"])
    assert chain.deliver(wired(chain.settings(database_url))) == []
    assert users(database_url) == [("Taro", "Japan", 30)]


def test_a_message_that_nobody_understands_ends_in_the_dead_letter_queue(
    chain: Chain, wired: Wire, database_url: str
) -> None:
    """Whole, and without holding up others."""
    function = wired(chain.settings(database_url))
    chain.sqs.send_message(QueueUrl=chain.url, MessageBody="poison")
    chain.drop(GOOD)
    for _ in range(3):
        assert chain.deliver(function) == ["poison"]

    assert chain.receive() == {"Records": []}
    assert [record["body"] for record in chain.receive(chain.dead)["Records"]] == ["poison"]
    assert imports(database_url) == [("loaded", 1)]


def test_what_is_imported_elsewhere_is_imported_later(
    chain: Chain, wired: Wire, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it comes back, all its tries are left."""
    monkeypatch.setattr("rollcall.entrypoints.import_lambda.RETURNS_AFTER_SECONDS", 0)
    monkeypatch.setattr("rollcall.adapters.postgres.connecting.LOCK_SECONDS", 0.01)
    function = wired(chain.settings(database_url))
    chain.drop(GOOD)
    with _imported_elsewhere(chain, database_url):
        for _ in range(5):
            assert chain.deliver(function) == []

    assert imports(database_url) == []
    assert chain.deliver(function) == []
    assert imports(database_url) == [("loaded", 1)]
    assert chain.receive(chain.dead) == {"Records": []}


@contextmanager
def _imported_elsewhere(chain: Chain, database_url: str) -> Iterator[None]:
    """Hold the claims that another import of the same upload would hold."""
    head = chain.s3.head_object(Bucket=chain.bucket, Key=KEY)
    upload = Upload(
        bucket=chain.bucket, key=KEY, version=head["VersionId"], size=len(GOOD), last_modified=head["LastModified"]
    )
    with ExitStack() as held:
        other = wire(read_settings(chain.settings(database_url)), held)
        with other.import_users.users.importing(upload, sha256=None):
            yield


def test_a_wait_for_the_database_ends_before_the_function_is_killed(
    chain: Chain, wired: Wire, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is left in the database, and the next try imports it."""
    monkeypatch.setattr("rollcall.adapters.postgres.connecting.LOCK_SECONDS", 60)
    function = wired(chain.settings(database_url))
    chain.drop(GOOD + b"Alice,USA,28\n", "first.csv")
    chain.deliver(function)
    chain.drop(GOOD)
    with psycopg.connect(database_url) as connection:
        connection.execute("lock table users")
        [body] = chain.deliver(function, Context(1))

    wait_until(lambda: _connections(database_url) == [])
    assert KEY not in {receipt["source"]["key"] for receipt in map(json.loads, chain.reports().values())}
    assert body
    assert chain.deliver(function) == []
    assert imports(database_url) == [("loaded", 2), ("loaded", 1)]


def test_a_wait_for_s3_ends_before_the_function_is_killed(
    chain: Chain, wired: Wire, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without boto3 taking the end of it for a failure and trying again."""
    chain.drop(GOOD)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{silent.getsockname()[1]}")
        function = wired(chain.settings(database_url))

        assert len(chain.deliver(function, Context(0.5))) == 1
        silent.settimeout(0)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()


def test_a_queue_that_cannot_be_reached_says_so(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words of the port."""
    with pytest.raises(StoreUnavailableError, match=r"-gone: SQS answered .*NonExistentQueue"):
        SqsQueues(chain.sqs).send(f"{chain.arn}-gone", "body", {}, 0)

    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:1")
    with pytest.raises(StoreUnavailableError, match="Could not connect"):
        SqsQueues(client()).send(chain.arn, "body", {}, 0)


def test_the_connection_is_kept_and_replaced_when_it_broke(chain: Chain, wired: Wire, database_url: str) -> None:
    """Between invocations, as when the database fails over while the function is frozen."""
    function = wired(chain.settings(database_url))
    for number in range(2):
        chain.drop(GOOD + b"%d,x,1\n" % number, f"{number}.csv")
        assert chain.deliver(function) == []
    [kept] = _connections(database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute("select pg_terminate_backend(%s)", [kept])
    wait_until(lambda: _connections(database_url) == [])
    chain.drop(GOOD, "after.csv")

    assert chain.deliver(function) == []
    assert [status for status, _ in imports(database_url)] == ["loaded"] * 3
    assert len(_connections(database_url)) == 1


def _connections(database_url: str) -> list[int]:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "select pid from pg_stat_activity where datname = current_database() and application_name = 'rollcall'"
        ).fetchall()
    return [pid for (pid,) in rows]


def test_the_handler_is_wired_by_its_environment(chain: Chain, database_url: str) -> None:
    """In a process of its own that says nothing but JSON in ASCII, one object a line, and never the event."""
    chain.drop(GOOD)
    event = chain.receive()
    ended = _invoke(event, {**chain.settings(database_url), "POWERTOOLS_LOGGER_LOG_EVENT": "true"})

    assert (ended.returncode, ended.stderr) == (0, b"")
    log, published, answer = map(json.loads, ended.stdout.decode("ascii").splitlines())
    assert (log["message"], log["key"], log["registered"], log["cold_start"]) == ("loaded", KEY, 1, True)
    assert log["function_request_id"] == "request"
    assert published["ImportsLoaded"] == [1]
    assert answer == {"batchItemFailures": []}
    assert imports(database_url) == [("loaded", 1)]


def test_a_handler_that_lacks_a_setting_fails_with_its_name(chain: Chain) -> None:
    """So that nothing is lost and everybody can see what to mend."""
    chain.drop(GOOD)
    ended = _invoke(chain.receive(), {"ROLLCALL_REPORTS": f"s3://{chain.bucket}/reports"})

    assert ended.returncode == 1
    assert b"ROLLCALL_DATABASE_URL is ''; give postgresql://" in ended.stderr


def _invoke(event: Event, settings: Mapping[str, str]) -> "subprocess.CompletedProcess[bytes]":
    program = (
        "import json, sys; from announcements import Context;"
        "from rollcall.entrypoints.import_lambda import handler;"
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
