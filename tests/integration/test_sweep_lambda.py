"""The sweep Lambda with a bucket, a queue and a real PostgreSQL, followed by the import Lambda."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import attrs
import psycopg
import pytest

from rollcall import bootstrap
from rollcall.adapters import s3
from rollcall.adapters.sqs import SqsQueues, client
from rollcall.application.errors import StoreUnavailableError
from rollcall.entrypoints import import_lambda, sweep_lambda
from rollcall.entrypoints.sweep_lambda import SweepFailedError, wire
from rollcall.settings import read_settings
from support.aws_events import Context, lambda_log
from support.chain import GOOD, KEY, TRIES, Chain, Wire, chained, imported_elsewhere, invoke
from support.command_line import imports, users

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext
    from mypy_boto3_s3 import S3Client

HOUR = timedelta(hours=1)  # longer than the queue's default visibility timeout
NOWHERE = "postgresql://nobody@127.0.0.1:1/nowhere"


@attrs.define
class Sweeper:
    """The sweep Lambda, and a clock that can be set forward.

    Attributes:
        later: How far the clock is set forward.
        database_url: The URL of the ledger.
        batch: How many uploads one query covers.
    """

    chain: Chain
    database_url: str
    held: ExitStack
    later: timedelta = HOUR
    batch: int = 500

    def __call__(self, *seconds: float, **settings: str) -> tuple[int, int, int, bool]:
        """Sweep once; return the numbers of uploads seen, queued and given up, and whether it finished."""
        told = {f"ROLLCALL_{name}": value for name, value in settings.items()}
        function = wire(read_settings({**self.chain.settings(self.database_url), **told}), self.held)
        function = attrs.evolve(function, sweep=attrs.evolve(function.sweep, batch=self.batch))
        outcome = function(cast("LambdaContext", Context(*seconds)))
        return outcome["seen"], outcome["queued"], outcome["given_up"], outcome["complete"]


@pytest.fixture(params=["versioned", "unversioned"])
def any_chain(
    request: pytest.FixtureRequest,
    s3_endpoint: str,
    s3_client: "S3Client",
    new_bucket: Callable[[bool], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Chain:
    """A bucket with versions and one without, and their queues."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", s3_endpoint)
    return chained(s3_client, new_bucket(request.param == "versioned"))


@pytest.mark.parametrize("function", [import_lambda, sweep_lambda], ids=["import", "sweep"])
def test_a_function_names_the_owner_of_its_buckets(
    function: ModuleType, any_chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners: list[str | None] = []
    make = s3.client

    def client(owner: str | None) -> "S3Client":
        owners.append(owner)
        return make(owner)

    monkeypatch.setattr(s3, "client", client)
    with ExitStack() as held:
        function.wire(
            read_settings({**any_chain.settings(NOWHERE), "ROLLCALL_BUCKET_OWNER": "123456789012"}), held
        )

    assert owners == ["123456789012"] * 2


@pytest.fixture
def sweepers(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Chain], Sweeper]]:
    """Make the sweep Lambda for a chain."""
    now = bootstrap.now
    made: list[Sweeper] = []

    def make(chain: Chain) -> Sweeper:
        made.append(Sweeper(chain, database_url, held))
        return made[-1]

    monkeypatch.setattr(bootstrap, "now", lambda: now() + (made[-1].later if made else timedelta()))
    with ExitStack() as held:
        yield make


Sweepers = Callable[[Chain], Sweeper]


def test_a_lost_event_is_found_and_imported(
    any_chain: Chain, wired: Wire, sweepers: Sweepers, database_url: str
) -> None:
    """In one sweep, with the identity of its own event, and only once."""
    importing, sweep = wired(any_chain.settings(database_url)), sweepers(any_chain)
    any_chain.drop(GOOD, "known.csv")
    assert any_chain.deliver(importing) == []
    any_chain.drop(GOOD + b"Alice,USA,28\n")
    lost = any_chain.lose()

    assert sweep() == (2, 1, 0, True)
    assert any_chain.deliver(importing) == []
    assert len(users(database_url)) == 3
    # The event was only late.
    assert importing(lost, cast("LambdaContext", Context())) == {"batchItemFailures": []}
    assert len(imports(database_url)) == 2
    sweep.later *= 2
    assert sweep() == (2, 0, 0, True)


def test_every_version_is_found(chain: Chain, wired: Wire, sweepers: Sweepers, database_url: str) -> None:
    """Also replaced and deleted versions; a delete marker is not an upload."""
    for number in range(3):
        chain.drop(GOOD + b"%d,x,1\n" % number)
    chain.s3.delete_object(Bucket=chain.bucket, Key=KEY)
    chain.s3.put_object(Bucket=chain.bucket, Key="folder/", Body=b"")
    chain.lose()

    assert sweepers(chain)() == (3, 3, 0, True)
    assert chain.deliver(wired({**chain.settings(database_url), "ROLLCALL_ON_NEW_VERSION": "import"})) == []
    assert [status for status, _ in imports(database_url)] == ["loaded"] * 3


def test_an_upload_from_before_versioning_is_imported(
    s3_client: "S3Client", any_chain: Chain, wired: Wire, sweepers: Sweepers, database_url: str
) -> None:
    """Also after later versions."""
    any_chain.drop(GOOD)
    s3_client.put_bucket_versioning(Bucket=any_chain.bucket, VersioningConfiguration={"Status": "Enabled"})
    any_chain.drop(GOOD + b"Alice,USA,28\n")
    any_chain.lose()
    sweep = sweepers(any_chain)

    assert sweep() == (2, 2, 0, True)
    assert (
        any_chain.deliver(wired({**any_chain.settings(database_url), "ROLLCALL_ON_NEW_VERSION": "import"})) == []
    )
    assert sorted(registered for _, registered in imports(database_url)) == [1, 2]
    sweep.later *= 2
    assert sweep() == (2, 0, 0, True)


def test_reports_among_the_uploads_are_not_queued(
    chain: Chain, wired: Wire, sweepers: Sweepers, database_url: str
) -> None:
    """Also the position of the sweep."""
    chain.drop(GOOD + b"x,y,z\n")
    assert chain.deliver(wired(chain.settings(database_url))) == []
    assert len(chain.reports()) == 3

    assert sweepers(chain)() == (1, 0, 0, True)


def test_an_upload_queued_twice_is_given_up(
    chain: Chain, wired: Wire, sweepers: Sweepers, database_url: str
) -> None:
    """Its messages are in the dead-letter queue; an alarm and a log line name it."""
    importing, sweep = wired(chain.settings(NOWHERE)), sweepers(chain)
    chain.drop(GOOD)
    chain.lose()
    came = []
    with lambda_log() as log:
        for _ in range(4):
            came.append(sweep())
            for _ in range(TRIES):
                chain.deliver(importing)
            assert chain.receive() == {"Records": []}
            sweep.later += HOUR

    assert came == [(1, 1, 0, True), (1, 1, 0, True), (1, 0, 1, True), (1, 0, 1, True)]
    assert len(chain.receive(chain.dead)["Records"]) == 2
    [given_up, _] = [
        line for line in map(json.loads, log.getvalue().splitlines()) if "given up" in line["message"]
    ]
    assert (given_up["bucket"], given_up["key"]) == (chain.bucket, KEY)
    # Once it is imported by hand, the alarm ends.
    chain.drop(GOOD)
    chain.deliver(wired(chain.settings(database_url)))


def test_the_first_sweep_does_not_import_an_old_bucket(chain: Chain, sweepers: Sweepers) -> None:
    """Only uploads of the last days are queued."""
    for number in range(3):
        chain.drop(GOOD, f"{number}.csv")
    chain.lose()
    sweep = sweepers(chain)
    sweep.later = timedelta(days=7, hours=1)

    assert sweep() == (3, 0, 0, True)
    assert sweep(SWEEP_DAYS="8") == (3, 3, 0, True)


def test_an_upload_whose_message_may_be_in_flight_is_not_queued(chain: Chain, sweepers: Sweepers) -> None:
    """For the visibility timeout of the queue."""
    chain.drop(GOOD)
    chain.sqs.set_queue_attributes(QueueUrl=chain.url, Attributes={"VisibilityTimeout": "5400"})
    sweep = sweepers(chain)
    sweep.later = timedelta(minutes=89)
    assert sweep() == (1, 0, 0, True)

    sweep.later = timedelta(minutes=91)
    assert sweep() == (1, 1, 0, True)


def test_an_upload_in_progress_is_not_queued(chain: Chain, sweepers: Sweepers, database_url: str) -> None:
    """Nor does such a sweep count as one of its two times."""
    chain.drop(GOOD)
    sweep = sweepers(chain)
    with imported_elsewhere(chain, database_url):
        for _ in range(3):
            assert sweep() == (1, 0, 0, True)
            sweep.later += HOUR

    assert sweep() == (1, 1, 0, True)


def test_a_sweep_continues_where_the_last_one_stopped(
    any_chain: Chain, wired: Wire, sweepers: Sweepers, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With little time for each, over several pages of S3; after the end, a sweep starts again."""
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
    for number in range(7):
        any_chain.drop(GOOD + b"%d,x,1\n" % number, f"é/{number % 4}.csv")
        any_chain.lose()
    sweep = sweepers(any_chain)
    sweep.batch = 2
    uploads = len(any_chain.s3.list_object_versions(Bucket=any_chain.bucket, Prefix="é", MaxKeys=100)["Versions"])
    came: list[tuple[int, int, int, bool]] = []
    while not came or not came[-1][-1]:
        came.append(sweep(60, 60, 1))

    assert sum(queued for _, queued, _, _ in came) == uploads
    assert len(came) > 1
    assert json.loads(any_chain.reports()["reports/sweep/position.json"]) == {}
    importing = wired({**any_chain.settings(database_url), "ROLLCALL_ON_NEW_VERSION": "import"})
    assert any_chain.deliver(importing) == []
    assert len(imports(database_url)) == uploads
    sweep.later *= 2
    assert sweep() == (uploads, 0, 0, True)


def test_more_uploads_are_queued_than_one_call_accepts(chain: Chain, sweepers: Sweepers) -> None:
    """SQS accepts ten messages a call."""
    for number in range(23):
        chain.drop(GOOD, f"{number}.csv")
    chain.lose()

    assert sweepers(chain)() == (23, 23, 0, True)
    waiting = chain.sqs.get_queue_attributes(QueueUrl=chain.url, AttributeNames=["ApproximateNumberOfMessages"])
    assert waiting["Attributes"]["ApproximateNumberOfMessages"] == "23"


def test_an_unreachable_database_queues_nothing(chain: Chain, sweepers: Sweepers) -> None:
    """Without the ledger, every upload would seem lost."""
    chain.drop(GOOD)
    chain.lose()
    sweep = sweepers(chain)
    url, sweep.database_url = sweep.database_url, NOWHERE
    with lambda_log() as log, pytest.raises(SweepFailedError):
        sweep()

    assert json.loads(log.getvalue())["reason"].startswith("the database could not be reached")
    assert chain.receive() == {"Records": []}
    sweep.database_url = url
    assert sweep() == (1, 1, 0, True)


def test_the_locks_of_lost_uploads_are_released(chain: Chain, sweepers: Sweepers, database_url: str) -> None:
    """When the sweep ends, though the connection is kept."""
    chain.drop(GOOD)
    sweepers(chain)()
    with psycopg.connect(database_url) as connection:
        held = connection.execute("select count(*) from pg_locks where locktype = 'advisory'").fetchone()

    assert held == (0,)


def test_an_unreachable_queue_raises(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the error of the port."""
    queues = SqsQueues(chain.sqs)
    for ask in (
        lambda: queues.visibility_timeout(f"{chain.arn}-gone"),
        lambda: queues.send_all(f"{chain.arn}-gone", ["x"]),
    ):
        with pytest.raises(StoreUnavailableError, match=r"-gone: SQS answered .*NonExistentQueue"):
            ask()
    with pytest.raises(StoreUnavailableError, match=r"SQS answered .*BatchRequestTooLong"):
        queues.send_all(chain.arn, ["x" * 1024 * 1024] * 2)

    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:1")
    with pytest.raises(StoreUnavailableError, match="Could not connect"):
        SqsQueues(client()).visibility_timeout(chain.arn)


def test_a_message_that_sqs_rejects_is_an_error(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though SQS accepted the other messages of the call."""
    send = chain.sqs.send_message_batch

    def fail_one(**call: Any) -> dict[str, Any]:  # noqa: ANN401 - as boto3 has it
        answer = send(**{**call, "Entries": call["Entries"][1:]})
        failed = {"Id": call["Entries"][0]["Id"], "Code": "InternalError", "SenderFault": False}
        return {**answer, "Failed": [failed]}

    monkeypatch.setattr(chain.sqs, "send_message_batch", fail_one)

    with pytest.raises(StoreUnavailableError, match="SQS did not take a message: InternalError"):
        SqsQueues(chain.sqs).send_all(chain.arn, ["a", "b"])


def test_the_handler_is_configured_by_its_environment(chain: Chain, database_url: str) -> None:
    """In a process of its own, it prints only JSON in ASCII, one object a line, and never the event."""
    chain.sqs.set_queue_attributes(QueueUrl=chain.url, Attributes={"VisibilityTimeout": "0"})
    chain.drop(GOOD)
    chain.lose()
    event = {"source": "aws.scheduler", "detail": "Canary"}
    ended = invoke("sweep_lambda", event, {**chain.settings(database_url), "POWERTOOLS_LOGGER_LOG_EVENT": "true"})

    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b"Canary" not in ended.stdout
    lost, swept, published, answer = map(json.loads, ended.stdout.decode("ascii").splitlines())
    assert (lost["message"], lost["key"], lost["cold_start"]) == ("a lost upload is queued", KEY, True)
    assert (swept["message"], swept["function_request_id"]) == ("swept", "request")
    assert published["UploadsQueued"] == [1]
    assert answer == {"seen": 1, "queued": 1, "given_up": 0, "complete": True}
    assert len(chain.receive()["Records"]) == 1


def test_a_failed_handler_shows_no_cause(chain: Chain) -> None:
    """AWS logs the exception, which must have no chain of causes."""
    chain.sqs.set_queue_attributes(QueueUrl=chain.url, Attributes={"VisibilityTimeout": "0"})
    chain.drop(GOOD)
    ended = invoke("sweep_lambda", {}, chain.settings(NOWHERE))

    assert ended.returncode == 1
    assert b"the sweep failed; the log says why" in ended.stderr
    assert b"psycopg" not in ended.stderr
