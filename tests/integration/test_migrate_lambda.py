"""A deployment migrates the schema, and CloudFormation gets the result."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, cast

import attrs
import psycopg
import pytest

from rollcall.adapters.postgres.schema import migration_ids
from rollcall.entrypoints.migrate_lambda import ANSWER_TRIES, TOO_SLOW, AnswerError, handler
from support.aws_events import Context
from support.builders import asked

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

MIGRATED = "select count(*) from pg_tables where tablename = '_yoyo_migration'"
IDS = {"StackId": "arn:aws:cloudformation:…:stack/x", "RequestId": "r1", "LogicalResourceId": "Migration"}


@attrs.define
class CloudFormation:
    """CloudFormation, which waits for an answer.

    Attributes:
        statuses: The HTTP status of each answer in turn; afterwards 200.
        answers: Each answer with its content type.
    """

    url: str = ""
    statuses: list[int] = attrs.Factory(list)
    answers: list[tuple[dict[str, Any], str | None]] = attrs.Factory(list)

    def asks(self, request: str) -> dict[str, str]:
        """Return a request for a type of change."""
        return {"RequestType": request, "ResponseURL": f"{self.url}/signed?Signature=s", **IDS}

    @property
    def told(self) -> dict[str, Any]:
        """The only answer, which must have the right ids."""
        [(answer, content_type)] = self.answers
        assert content_type in {None, ""}  # S3 would reject another: the URL is signed without one
        assert {name: answer[name] for name in IDS} == IDS
        return answer


@pytest.fixture
def cloudformation() -> Iterator[CloudFormation]:
    """CloudFormation with a server that receives answers."""
    waiting = CloudFormation()

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            waiting.answers.append((json.loads(body), self.headers["Content-Type"]))
            self.send_response(waiting.statuses.pop(0) if waiting.statuses else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        waiting.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield waiting
        server.shutdown()
        thread.join()


@pytest.fixture
def database(
    new_database: Callable[[], AbstractContextManager[str]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """An empty database that the function's environment names."""
    with new_database() as url:
        monkeypatch.setenv("ROLLCALL_DATABASE_URL", url)
        yield url


def invoke(event: dict[str, str], seconds: float = 900) -> dict[str, list[str]]:
    """Invoke the function."""
    return cast("dict[str, list[str]]", handler(event, cast("LambdaContext", Context(seconds))))


def test_an_invocation_returns_the_migrations_applied(database: str) -> None:
    """The second time, nothing is left to do."""
    assert invoke({}) == {"done": [*migration_ids(), "made the table users"]}
    assert invoke({}) == {"done": []}
    assert asked(database, MIGRATED) == [(1,)]


@pytest.mark.parametrize("request_type", ["Create", "Update"])
def test_a_deployment_migrates_and_gets_an_answer(
    cloudformation: CloudFormation, database: str, request_type: str
) -> None:
    """The physical id stays the same, otherwise CloudFormation would delete the schema of the last deployment."""
    invoke(cloudformation.asks(request_type))

    assert (cloudformation.told["Status"], cloudformation.told["PhysicalResourceId"]) == (
        "SUCCESS",
        "rollcall-schema",
    )
    assert asked(database, MIGRATED) == [(1,)]


def test_the_tables_stay_when_the_stack_is_deleted(cloudformation: CloudFormation, database: str) -> None:
    """No deletion of a stack may delete users."""
    invoke(cloudformation.asks("Create"))
    cloudformation.answers.clear()
    invoke(cloudformation.asks("Delete"))

    assert cloudformation.told["Status"] == "SUCCESS"
    assert asked(database, MIGRATED) == [(1,)]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (
            "DATABASE_URL",
            "postgresql://u:S3CRET@127.0.0.1:1/db?sslmode=disable",
            "the database could not be reached: ",
        ),
        ("DATABASE_URL", "", "ROLLCALL_DATABASE_URL is ''; give postgresql://"),
        ("UNIQUE_BY", "shoe size", "ROLLCALL_UNIQUE_BY is 'shoe size'; give some of name, country, age"),
    ],
)
def test_a_deployment_that_cannot_migrate_fails_with_the_reason(
    cloudformation: CloudFormation,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    reason: str,
) -> None:
    """In one sentence, without a password."""
    monkeypatch.setenv(f"ROLLCALL_{name}", value)
    invoke(cloudformation.asks("Create"))

    assert cloudformation.told["Status"] == "FAILED"
    assert cloudformation.told["Reason"].startswith(reason)
    assert "S3CRET" not in str(cloudformation.answers)
    assert asked(database, MIGRATED) == [(0,)]


def test_a_migration_that_takes_too_long_is_rolled_back(cloudformation: CloudFormation, database: str) -> None:
    """Before AWS kills the function, because CloudFormation would get no answer then."""
    with psycopg.connect(database) as connection:
        connection.execute("select pg_advisory_lock(hashtext('rollcall migration'))")
        invoke(cloudformation.asks("Create"), seconds=0.5)

    assert (cloudformation.told["Status"], cloudformation.told["Reason"]) == ("FAILED", TOO_SLOW)
    assert asked(database, MIGRATED) == [(0,)]


def test_a_failed_answer_is_sent_again(cloudformation: CloudFormation, database: str) -> None:
    """Otherwise the deployment would wait for an hour."""
    cloudformation.statuses = [503, 500]
    invoke(cloudformation.asks("Create"))

    assert [answer["Status"] for answer, _ in cloudformation.answers] == ["SUCCESS"] * 3
    assert asked(database, MIGRATED) == [(1,)]


@pytest.mark.parametrize(("status", "tries"), [(403, 1), (500, ANSWER_TRIES + 1)])
@pytest.mark.usefixtures("database")
def test_an_answer_that_is_refused_fails_the_function(
    cloudformation: CloudFormation, status: int, tries: int
) -> None:
    """So that there is an alarm."""
    cloudformation.statuses = [status] * tries
    with pytest.raises(AnswerError, match=f"status {status}"):
        invoke(cloudformation.asks("Create"))

    assert len(cloudformation.answers) == tries
