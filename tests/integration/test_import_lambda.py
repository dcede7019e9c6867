"""S3 to SQS to the Lambda to PostgreSQL, all real except AWS, which moto replaces over HTTP."""

import json
import socket
from typing import TYPE_CHECKING, cast

import attrs
import psycopg
import pytest

from rollcall.adapters.sqs import SqsQueues, client
from rollcall.application.errors import StoreUnavailableError
from support.aws_events import Context
from support.chain import GOOD, KEY, TRIES, Chain, Wire, imported_elsewhere, invoke
from support.command_line import imports, users, wait_until

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


def test_an_upload_is_registered_once(chain: Chain, wired: Wire, database_url: str) -> None:
    """Its receipt, in the same bucket, is not taken for an upload."""
    function = wired(chain.settings(database_url))
    chain.drop(GOOD)

    assert chain.deliver(function) == []
    assert chain.deliver(function) == []
    assert users(database_url) == [("Taro", "Japan", 30)]
    assert imports(database_url) == [("loaded", 1)]
    [(key, receipt)] = chain.receipts().items()
    assert key.startswith(f"reports/{KEY}/")
    assert receipt["source"]["key"] == KEY
    assert chain.receive() == {"Records": []}


def test_a_redelivery_is_skipped(chain: Chain, wired: Wire, database_url: str) -> None:
    function = wired(chain.settings(database_url))
    chain.drop(GOOD)
    event = chain.receive()
    for _ in range(2):
        assert function(event, cast("LambdaContext", Context())) == {"batchItemFailures": []}

    assert imports(database_url) == [("loaded", 1)]


def test_a_refused_upload_is_not_delivered_again(chain: Chain, wired: Wire, database_url: str) -> None:
    """Its receipt gives the reason."""
    function = wired(chain.settings(database_url))
    chain.drop(b"name,country\nTaro,Japan\n")

    assert chain.deliver(function) == []
    assert imports(database_url) == [("refused", 0)]
    [receipt] = chain.receipts().values()
    assert receipt["code"] == "missing-label"


def test_the_test_event_of_s3_is_not_delivered_again(chain: Chain, wired: Wire, database_url: str) -> None:
    """S3 sends one when a bucket starts to notify a queue."""
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


def test_an_unreachable_database_loses_no_upload(chain: Chain, wired: Wire, database_url: str) -> None:
    """After its last try the message is in the dead-letter queue; from there it is imported."""
    function = wired(chain.settings("postgresql://nobody@127.0.0.1:1/nowhere"))
    chain.drop(GOOD)
    for _ in range(TRIES):
        [body] = chain.deliver(function)

    assert chain.receive() == {"Records": []}
    [dead] = chain.receive(chain.dead)["Records"]
    assert dead["body"] == body
    chain.sqs.send_message(QueueUrl=chain.url, MessageBody=dead["body"])
    assert chain.deliver(wired(chain.settings(database_url))) == []
    assert users(database_url) == [("Taro", "Japan", 30)]


def test_a_passing_failure_is_tried_again_soon(
    chain: Chain, wired: Wire, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times; then the queue hides the message as long as it does."""
    monkeypatch.setattr("rollcall.application.retry_delay._DELAYS_SECONDS", (0, 0, 0))
    chain.sqs.set_queue_attributes(QueueUrl=chain.url, Attributes={"VisibilityTimeout": "5400"})
    failing = wired(chain.settings("postgresql://nobody@127.0.0.1:1/nowhere"))
    chain.lose()  # the test event of S3
    chain.drop(GOOD)
    for _ in range(4):
        event = chain.receive()
        [record] = event["Records"]
        answer = failing(event, cast("LambdaContext", Context()))
        assert answer == {"batchItemFailures": [{"itemIdentifier": record["messageId"]}]}

    assert chain.receive() == {"Records": []}
    chain.sqs.change_message_visibility(
        QueueUrl=chain.url, ReceiptHandle=record["receiptHandle"], VisibilityTimeout=0
    )
    assert chain.deliver(wired(chain.settings(database_url))) == []
    assert users(database_url) == [("Taro", "Japan", 30)]


def test_a_lasting_failure_is_not_tried_again_soon(chain: Chain, wired: Wire, database_url: str) -> None:
    """It would use up its tries before anybody could do something."""
    chain.sqs.send_message(QueueUrl=chain.url, MessageBody="poison")
    hidden: list[int] = []
    function = wired(chain.settings(database_url))
    function = attrs.evolve(function, hide=lambda *named: hidden.append(named[-1]))
    function(chain.receive(), cast("LambdaContext", Context()))

    assert hidden == []


def test_an_unknown_message_goes_to_the_dead_letter_queue(chain: Chain, wired: Wire, database_url: str) -> None:
    """Unchanged, and without delaying others."""
    function = wired(chain.settings(database_url))
    chain.sqs.send_message(QueueUrl=chain.url, MessageBody="poison")
    chain.drop(GOOD)
    for _ in range(TRIES):
        assert chain.deliver(function) == ["poison"]

    assert chain.receive() == {"Records": []}
    assert [record["body"] for record in chain.receive(chain.dead)["Records"]] == ["poison"]
    assert imports(database_url) == [("loaded", 1)]


def test_an_upload_in_progress_elsewhere_is_imported_later(
    chain: Chain, wired: Wire, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any number of deliveries, it still has all its tries."""
    monkeypatch.setattr("rollcall.entrypoints.import_lambda.RETURNS_AFTER_SECONDS", 0)
    monkeypatch.setattr("rollcall.adapters.postgres.locks.LOCK_SECONDS", 0.01)
    function = wired(chain.settings(database_url))
    chain.drop(GOOD)
    with imported_elsewhere(chain, database_url):
        for _ in range(TRIES + 2):
            assert chain.deliver(function) == []

    assert imports(database_url) == []
    assert chain.deliver(function) == []
    assert imports(database_url) == [("loaded", 1)]
    assert chain.receive(chain.dead) == {"Records": []}


def test_a_wait_for_the_database_ends_before_the_deadline(
    chain: Chain, wired: Wire, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves no connection in the database, and the next try imports the upload."""
    monkeypatch.setattr("rollcall.adapters.postgres.locks.LOCK_SECONDS", 60)
    function = wired(chain.settings(database_url))
    chain.drop(GOOD + b"Alice,USA,28\n", "first.csv")
    chain.deliver(function)
    chain.drop(GOOD)
    with psycopg.connect(database_url) as connection:
        connection.execute("lock table users")
        [body] = chain.deliver(function, Context(1))

    wait_until(lambda: _connections(database_url) == [])
    assert KEY not in {receipt["source"]["key"] for receipt in chain.receipts().values()}
    assert body
    assert chain.deliver(function) == []
    assert imports(database_url) == [("loaded", 2), ("loaded", 1)]


def test_a_wait_for_s3_ends_before_the_deadline(
    chain: Chain, wired: Wire, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """boto3 does not take the interrupt for a failure that it should retry."""
    chain.drop(GOOD)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{silent.getsockname()[1]}")
        function = wired(chain.settings(database_url))

        assert len(chain.deliver(function, Context(0.5))) == 1
        silent.settimeout(0)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()


def test_an_unreachable_queue_raises(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the error of the port."""
    with pytest.raises(StoreUnavailableError, match=r"-gone: SQS answered .*NonExistentQueue"):
        SqsQueues(chain.sqs).send(f"{chain.arn}-gone", "body", {}, 0)

    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:1")
    with pytest.raises(StoreUnavailableError, match="Could not connect"):
        SqsQueues(client()).send(chain.arn, "body", {}, 0)
    with pytest.raises(StoreUnavailableError, match="Could not connect"):
        SqsQueues(client()).hide(chain.arn, "handle", 0)


def test_the_connection_is_kept_and_replaced_when_broken(chain: Chain, wired: Wire, database_url: str) -> None:
    """It may break between invocations, as when the database fails over while the function is frozen."""
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


def test_the_handler_is_configured_by_its_environment(chain: Chain, database_url: str) -> None:
    """In a process of its own, it prints only JSON in ASCII, one object a line, and never the event."""
    chain.drop(GOOD)
    event = chain.receive()
    ended = invoke("import_lambda", event, {**chain.settings(database_url), "POWERTOOLS_LOGGER_LOG_EVENT": "true"})

    assert (ended.returncode, ended.stderr) == (0, b"")
    log, published, answer = map(json.loads, ended.stdout.decode("ascii").splitlines())
    assert (log["message"], log["key"], log["registered"], log["cold_start"]) == ("loaded", KEY, 1, True)
    assert log["function_request_id"] == "request"
    assert published["ImportsLoaded"] == [1]
    assert answer == {"batchItemFailures": []}
    assert imports(database_url) == [("loaded", 1)]


def test_a_handler_without_a_setting_fails_with_its_name(chain: Chain) -> None:
    """So no upload is lost, and an operator can correct the setting."""
    chain.drop(GOOD)
    ended = invoke("import_lambda", chain.receive(), {"ROLLCALL_REPORTS": f"s3://{chain.bucket}/reports"})

    assert ended.returncode == 1
    assert b"ROLLCALL_DATABASE_URL is ''; give postgresql://" in ended.stderr
