"""From an upload to its notification, all real except AWS, which moto replaces over HTTP."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote_plus

import attrs
import pytest
from boto3.session import Session

from rollcall import bootstrap
from rollcall.adapters.aws_events import aws_publisher
from rollcall.application.errors import NotPublishedError
from rollcall.application.notification import GivenUpCode, upload_given_up
from rollcall.domain.upload import ObjectReference
from rollcall.entrypoints import notify_lambda, sweep_lambda
from rollcall.settings import read_settings
from support.aws_events import Context, Event, s3_record
from support.chain import GOOD, KEY, TRIES, Chain, Wire, invoke
from support.command_line import users

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

MIXED = GOOD + b"Canary,Japan,Canary\n"
NOWHERE = "postgresql://nobody@127.0.0.1:1/nowhere"


@attrs.frozen
class Receivers:
    """Queues that receive notifications.

    Attributes:
        topic: The ARN of the topic.
        messages: The URL of the queue that subscribes to the topic for every status but `loaded`.
        events: The URL of the queue for Rollcall's events of EventBridge.
    """

    chain: Chain
    topic: str
    messages: str
    events: str

    def settings(self, database_url: str) -> dict[str, str]:
        """Return the settings of the functions."""
        return {**self.chain.settings(database_url), "ROLLCALL_NOTIFY_TOPIC": self.topic}

    def notify(self, database_url: str) -> list[Event]:
        """Invoke the notify Lambda for each event of S3 in the queue, and return these events."""
        function = notify_lambda.wire(read_settings(self.settings(database_url)))
        announced = [json.loads(record["body"]) for record in self.chain.lose()["Records"]]
        for event in announced:
            function(event)
        return announced

    def received(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the messages of the topic and the events of EventBridge."""
        return self._take(self.messages), self._take(self.events)

    def _take(self, url: str) -> list[dict[str, Any]]:
        return [json.loads(record["body"]) for record in self.chain.receive(url)["Records"]]


@pytest.fixture
def receivers(chain: Chain, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Receivers:
    """A topic with a subscription, and a rule of EventBridge."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SNS", s3_endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", s3_endpoint)
    session = Session()
    sns, events = session.client("sns"), session.client("events")

    def queue(name: str) -> tuple[str, str]:
        url = chain.sqs.create_queue(QueueName=f"{chain.bucket}-{name}")["QueueUrl"]
        found = chain.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return url, found["Attributes"]["QueueArn"]

    (messages, messages_arn), (bus, bus_arn) = queue("messages"), queue("events")
    topic = sns.create_topic(Name=f"{chain.bucket}-outcomes")["TopicArn"]
    statuses = ["partially_loaded", "refused", "given_up"]
    sns.subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=messages_arn,
        Attributes={"FilterPolicy": json.dumps({"status": statuses})},
    )
    pattern = {"source": ["rollcall"], "detail": {"bucket": [chain.bucket]}}
    events.put_rule(Name=chain.bucket, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=chain.bucket, Targets=[{"Id": "queue", "Arn": bus_arn}])
    return Receivers(chain, topic, messages, bus)


def test_an_outcome_is_published_as_event_and_message(
    receivers: Receivers, wired: Wire, database_url: str
) -> None:
    """Without a cell, though the receipt shows one."""
    chain = receivers.chain
    chain.drop(MIXED)
    assert chain.deliver(wired(receivers.settings(database_url))) == []
    [(key, receipt)] = chain.receipts().items()
    assert "Canary" in receipt["rejections"][0]["faults"][0]["message"]
    receivers.notify(database_url)

    [message], [event] = receivers.received()
    assert (event["source"], event["detail-type"]) == ("rollcall", "Import Finished")
    detail = event["detail"]
    assert (detail["status"], detail["key"], detail["import_id"]) == ("partially_loaded", KEY, 1)
    assert detail["totals"] == [{"code": "type-error", "count": 1, "lines": [3]}]
    assert detail["receipt"] == f"s3://{chain.bucket}/{key}"
    assert detail["rejected_rows"] == receipt["rejected_rows"]
    attributes = {name: attribute["Value"] for name, attribute in message["MessageAttributes"].items()}
    assert attributes == {"status": "partially_loaded", "key": KEY, "event_id": detail["event_id"]}
    assert message["Subject"] == f"Rollcall: loaded in part: {KEY}"
    assert "2 rows read: 1 registered, 1 rejected." in message["Message"]
    assert "Canary" not in json.dumps([message, event])


def test_a_subscription_filters_by_status(receivers: Receivers, wired: Wire, database_url: str) -> None:
    """EventBridge gets every outcome."""
    function = wired(receivers.settings(database_url))
    receivers.chain.drop(GOOD)
    receivers.chain.drop(b"name,country\nTaro,Japan\n", "refused.csv")
    receivers.chain.deliver(function)
    receivers.notify(database_url)

    messages, events = receivers.received()
    assert [message["MessageAttributes"]["status"]["Value"] for message in messages] == ["refused"]
    assert sorted(event["detail"]["status"] for event in events) == ["loaded", "refused"]


def test_a_redelivery_publishes_nothing(receivers: Receivers, wired: Wire, database_url: str) -> None:
    """It stores no report, so S3 announces none. If the receipt was lost, the first one is published again."""
    function = wired(receivers.settings(database_url))
    receivers.chain.drop(MIXED)
    event = receivers.chain.receive()
    function(event, cast("LambdaContext", Context()))
    receivers.notify(database_url)
    _, first = receivers.received()

    function(event, cast("LambdaContext", Context()))
    assert receivers.notify(database_url) == []

    [key] = receivers.chain.receipts()
    receivers.chain.s3.delete_object(Bucket=receivers.chain.bucket, Key=key)
    function(event, cast("LambdaContext", Context()))
    receivers.notify(database_url)
    _, again = receivers.received()
    assert [event["detail"] for event in first] == [event["detail"] for event in again]


def test_the_last_try_publishes_that_an_upload_is_given_up(
    receivers: Receivers, wired: Wire, database_url: str
) -> None:
    """Its message stays in the dead-letter queue, from which it is imported later."""
    chain = receivers.chain
    failing = wired(receivers.settings(NOWHERE))
    chain.drop(GOOD)
    for _ in range(TRIES - 1):
        chain.deliver(failing)
    assert receivers.received() == ([], [])
    chain.deliver(failing)

    [message], [event] = receivers.received()
    assert (event["detail"]["status"], event["detail"]["code"]) == ("given_up", "last-try-failed")
    assert message["Message"].startswith(f"{KEY} was given up.")
    chain.receive()
    [dead] = chain.receive(chain.dead)["Records"]
    chain.sqs.send_message(QueueUrl=chain.url, MessageBody=dead["body"])
    assert chain.deliver(wired(receivers.settings(database_url))) == []
    assert users(database_url) == [("Taro", "Japan", 30)]


@pytest.fixture
def held() -> Iterator[ExitStack]:
    """Hold what a test opens."""
    with ExitStack() as stack:
        yield stack


def test_the_sweep_publishes_once_that_an_upload_is_given_up(
    receivers: Receivers, held: ExitStack, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = bootstrap.now
    receivers.chain.drop(GOOD)
    receivers.chain.lose()
    for later in range(1, 9):
        monkeypatch.setattr(bootstrap, "now", lambda later=later: now() + timedelta(hours=later))
        sweep_lambda.wire(read_settings(receivers.settings(database_url)), held)(cast("LambdaContext", Context()))

    [message], [event] = receivers.received()
    assert (event["detail"]["key"], event["detail"]["code"]) == (KEY, "never-imported")
    assert message["Subject"] == f"Rollcall: given up: {KEY}"


def test_import_and_sweep_give_up_with_the_same_id(
    receivers: Receivers, held: ExitStack, wired: Wire, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver can recognise the second notification."""
    now = bootstrap.now
    chain, failing = receivers.chain, wired(receivers.settings(NOWHERE))
    chain.drop(GOOD)
    chain.lose()  # moto's event lacks the version
    version = chain.s3.head_object(Bucket=chain.bucket, Key=KEY)["VersionId"]
    event = {"Records": [s3_record(quote_plus(KEY, safe="/"), bucket=chain.bucket, versionId=version)]}
    chain.sqs.send_message(QueueUrl=chain.url, MessageBody=json.dumps(event))
    for _ in range(TRIES):
        chain.deliver(failing)
    for later in range(1, 4):
        monkeypatch.setattr(bootstrap, "now", lambda later=later: now() + timedelta(hours=later))
        sweep_lambda.wire(read_settings(receivers.settings(database_url)), held)(cast("LambdaContext", Context()))

    _, events = receivers.received()
    assert [event["detail"]["code"] for event in events] == ["last-try-failed", "never-imported"]
    assert len({event["detail"]["event_id"] for event in events}) == 1


@pytest.mark.parametrize(
    ("breaking", "reason"),
    [
        (lambda patch: patch.setenv("AWS_ENDPOINT_URL_SNS", "http://127.0.0.1:1"), "Could not connect"),
        (lambda patch: patch.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", "http://127.0.0.1:1"), "Could not connect"),
        (lambda _: None, "gone: SNS answered NotFound"),
    ],
)
def test_an_unreachable_receiver_raises(
    receivers: Receivers,
    monkeypatch: pytest.MonkeyPatch,
    breaking: Callable[[pytest.MonkeyPatch], object],
    reason: str,
) -> None:
    """With the error of the port, so that AWS Lambda invokes again."""
    breaking(monkeypatch)
    notification = upload_given_up(ObjectReference(bucket="b", key="a.csv"), GivenUpCode.LAST_TRY_FAILED)
    with pytest.raises(NotPublishedError, match=reason):
        aws_publisher(f"{receivers.topic}-gone")(notification)


def test_the_handler_is_configured_by_its_environment(
    receivers: Receivers, wired: Wire, database_url: str
) -> None:
    """In a process of its own, it prints only JSON in ASCII, one object a line, and never the event."""
    receivers.chain.drop(MIXED)
    receivers.chain.deliver(wired(receivers.settings(database_url)))
    bodies = [json.loads(record["body"]) for record in receivers.chain.lose()["Records"]]
    [event] = [body for body in bodies if body["Records"][0]["s3"]["object"]["key"].endswith("receipt.json")]
    settings = {**receivers.settings(database_url), "POWERTOOLS_LOGGER_LOG_EVENT": "true"}
    ended = invoke("notify_lambda", event, settings)

    assert (ended.returncode, ended.stderr) == (0, b"")
    log, answer = map(json.loads, ended.stdout.decode("ascii").splitlines())
    assert (log["message"], log["status"], log["cold_start"]) == ("published", "partially_loaded", True)
    assert answer is None
    assert len(receivers.received()[1]) == 1
