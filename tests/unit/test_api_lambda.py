"""The Web API's function in memory: what it loads, what it logs, and its end when the time is up."""

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

import pytest

from rollcall.application.errors import RepositoryUnavailableError
from rollcall.entrypoints.api import Api
from rollcall.entrypoints.api.routes import Answer, Parameter, Request, Route
from rollcall.entrypoints.api_lambda import answer_in_time, wire
from rollcall.entrypoints.callers import Scope
from rollcall.settings import SettingError, read_settings
from support.api_events import http_event
from support.aws_events import Context, lambda_log
from support.builders import cells_of

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

CANARY = "S3CRET"


def _context(*seconds: float) -> "LambdaContext":
    return cast("LambdaContext", Context(*seconds))


def _api(*routes: Route) -> Api:
    with ExitStack() as held:
        api = wire(read_settings({"ROLLCALL_DATABASE_URL": "memory:"}), held)
        return Api(settings=api.settings, services=api.services, now=lambda: datetime.now(UTC), routes=routes)


def _slow(_api: Api, request: Request) -> Answer:
    if request.parameters["id"] == "slow":
        time.sleep(10)
    return Answer(body={})


SLOW = Route(
    method="GET",
    path="/api/tried/{id}",
    scope=Scope.UPLOAD,
    name="try",
    summary="",
    answer=_slow,
    parameters=(Parameter(name="id", place="path", schema={"type": "string"}, description=""),),
    answers={HTTPStatus.OK: {"type": "object"}},
)


def test_an_answer_is_logged_by_its_route_alone() -> None:
    """No id, query, body or token."""
    event = {
        **http_event("GET", f"/api/tried/{CANARY}", body=CANARY, headers={"authorization": f"Bearer {CANARY}"}),
        "routeKey": "GET /api/tried/{id}",
    }

    with lambda_log() as log:
        answer = answer_in_time(_api(SLOW), event, _context())

    [line] = log.getvalue().splitlines()
    logged = json.loads(line)
    assert answer["statusCode"] == 200
    assert (logged["message"], logged["route"], logged["status"], logged["request_id"]) == (
        *("answered", "GET /api/tried/{id}", 200, "request-1"),
    )
    assert CANARY not in log.getvalue()


def test_a_request_that_takes_too_long_is_answered() -> None:
    """Before AWS ends the invocation; the next request is answered as usual."""
    api = _api(SLOW)
    event = http_event("GET", "/api/tried/slow")

    answer = answer_in_time(api, event, _context(0.5))

    assert answer["statusCode"] == 503
    assert answer["headers"]["Retry-After"]
    assert answer["headers"]["Content-Type"] == "application/problem+json"
    assert json.loads(answer["body"])["request_id"] == "request-1"
    assert answer_in_time(api, http_event("GET", "/api/tried/fast"), _context())["statusCode"] == 200


def test_the_database_is_opened_once_and_when_needed() -> None:
    """A failure to open it is not kept: the next request tries again."""
    with ExitStack() as held:
        wrong = wire(read_settings({"ROLLCALL_DATABASE_URL": "postgresql://127.0.0.1:1/x?sslmode=disable"}), held)
        right = wire(read_settings({"ROLLCALL_DATABASE_URL": "memory:"}), held)

        assert right.services() is right.services()
        assert wrong.services() is wrong.services()
        with pytest.raises(RepositoryUnavailableError):
            wrong.services().users.get_import(1)


def test_without_a_database_the_function_names_the_setting() -> None:
    with ExitStack() as held, pytest.raises(SettingError, match="ROLLCALL_DATABASE_URL"):
        wire(read_settings({}), held)


def test_policy_and_checked_rows_load_no_driver_on_lambda() -> None:
    """In a fresh interpreter, with what AWS sets there."""
    script = f"""
import json, sys
from support.aws_events import Context, lambda_log
from rollcall.entrypoints.api_lambda import handler
for event in json.loads(sys.argv[1]):
    assert handler(event, Context())["statusCode"] == 200
loaded = {{"boto3", "botocore.session", "aws_xray_sdk", "psycopg", "pydantic"}} & set(sys.modules)
print(sorted(loaded), {CANARY!r})
"""
    rows = {"rows": [cells_of()]}
    events = [
        http_event("GET", "/api/policy"),
        http_event("POST", "/api/rows/check", body=json.dumps(rows)),
        http_event("GET", "/api/openapi.json", authorizer={}),
    ]

    ran = subprocess.run(  # noqa: S603 - this Python
        [sys.executable, "-c", script, json.dumps(events)],
        env={
            "LAMBDA_TASK_ROOT": "/var/task",
            "PYTHONPATH": "tests",
            "ROLLCALL_DATABASE_URL": "postgresql://rollcall@db.example/rollcall",
            "ROLLCALL_UPLOADS": "s3://uploads",
            "ROLLCALL_REPORTS": "s3://reports",
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert ran.stdout.splitlines()[-1] == f"[] {CANARY}"
