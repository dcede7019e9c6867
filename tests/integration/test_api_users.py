"""The routes of users, imports and undo on PostgreSQL: one user for each key, and each job as its role."""

import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest

from rollcall.bootstrap.web import api_services
from rollcall.entrypoints.api import Api
from rollcall.entrypoints.callers import Scope
from rollcall.settings import read_settings
from support.api_events import Answered, an_api, ask, everything_logged, http_event, is_problem, token
from support.builders import an_upload, asked, cells_of, load
from support.command_line import imports, users
from support.database_roles import IMPORTER, OPERATOR, acting_as
from support.receipts import is_as_published

ANN = {**cells_of(), "age": 41}
BEN = {**cells_of("Ben", "Peru"), "age": 0}
CANARY = "S3CRET"
UPLOADER = token("ann", Scope.UPLOAD)
PROGRAM = Path(__file__).parents[1] / "support/api_program.py"

MakeApi = Callable[..., Api]


@pytest.fixture
def make(database_url: str) -> Iterator[MakeApi]:
    """Make a Web API whose function connects as a role, with some settings."""
    with ExitStack() as opened:

        def make(role: str = IMPORTER, **environment: str) -> Api:
            settings = {"ROLLCALL_DATABASE_URL": acting_as(role, database_url), **environment}
            services = opened.enter_context(api_services(read_settings(settings)))
            return an_api(environment=settings, services=lambda: services)

        yield make


def register(api: Api, key: str, user: object = ANN, authorizer: Any = UPLOADER) -> Answered:  # noqa: ANN401 - as `ask` takes it
    """Register a user."""
    return ask(api, "POST", "/api/users", send=user, headers={"idempotency-key": key}, authorizer=authorizer)


class Process:
    """A Web API in another process."""

    def __init__(self, program: "Popen[str]") -> None:
        self.program = program

    def send(self, key: str, user: object = ANN) -> None:
        """Send a request to register a user, without waiting for its answer."""
        event = http_event(
            "POST", "/api/users", body=json.dumps(user), headers={"idempotency-key": key}, authorizer=UPLOADER
        )
        assert self.program.stdin
        self.program.stdin.write(json.dumps(event) + "\n")
        self.program.stdin.flush()

    def answer(self) -> tuple[int, Any]:
        """Return status and body of the next answer."""
        assert self.program.stdout
        answered = json.loads(self.program.stdout.readline())
        return answered["statusCode"], json.loads(answered["body"])


@contextmanager
def processes(database_url: str, number: int, *how: str) -> Iterator[Sequence[Process]]:
    """Run some Web APIs that have connected already."""
    command = [sys.executable, str(PROGRAM), acting_as(IMPORTER, database_url), *how]
    with ExitStack() as running:
        started = [
            running.enter_context(Popen(command, stdin=PIPE, stdout=PIPE, text=True))  # noqa: S603 - our own program
            for _ in range(number)
        ]
        for program in started:
            running.callback(program.kill)
        yield list(map(Process, started))


def test_a_request_ten_times_registers_one_user(make: MakeApi, database_url: str) -> None:
    """By several functions, and each answer is the same."""
    answers = [register(make(), "k") for _ in range(5)]
    one = make()
    answers += [register(one, "k") for _ in range(5)]

    assert [(answer.status, answer.text) for answer in answers] == [(201, answers[0].text)] * 10
    assert is_as_published(answers[0].json)
    assert users(database_url) == [("Ann", "Norway", 41)]
    assert is_problem(register(one, "k", BEN), 422, "key-already-loaded")
    assert len(imports(database_url)) == 1


def test_a_request_without_a_key_registers_nobody(make: MakeApi, database_url: str) -> None:
    assert is_problem(ask(make(), "POST", "/api/users", send=ANN, authorizer=UPLOADER), 400, "invalid-request")
    assert users(database_url) == []


def test_the_same_request_twice_at_once_registers_one_user(database_url: str) -> None:
    with processes(database_url, 2) as both:
        for key in "abcdefgh":
            for process in both:
                process.send(key)
            one, two = (process.answer() for process in both)
            assert one == two
            assert one[0] == 201

    assert users(database_url) == [("Ann", "Norway", 41)] * 8


def test_one_of_two_users_at_once_has_the_key(database_url: str) -> None:
    with processes(database_url, 2) as both:
        for key in "abcdefgh":
            for process, user in zip(both, (ANN, BEN), strict=True):
                process.send(key, user)
            (won, receipt), (lost, problem) = sorted((process.answer() for process in both), key=lambda it: it[0])
            assert (won, lost) == (201, 422)
            assert problem["type"] == "urn:rollcall:problem:key-already-loaded"
            assert receipt["counts"]["registered"] == 1

    assert len(users(database_url)) == len(imports(database_url)) == 8


def test_a_request_killed_after_the_commit_can_be_repeated(make: MakeApi, database_url: str) -> None:
    with processes(database_url, 1, "killed") as [doomed]:
        doomed.send("k")
        assert doomed.program.wait(60) == -signal.SIGKILL
    [(receipt,)] = asked(database_url, "select receipt from imports")

    answers = [register(make(), "k") for _ in range(2)]

    assert [answer.status for answer in answers] == [201, 201]
    assert answers[0].text == answers[1].text
    assert answers[0].json == {**receipt, "undone": False}
    assert users(database_url) == [("Ann", "Norway", 41)]


def test_users_are_compared_under_the_key_rule(make: MakeApi, database_url: str) -> None:
    """`unique_by` applies to a request as to any row; the key rule does not depend on it."""
    api = make(ROLLCALL_UNIQUE_BY="name", ROLLCALL_ON_DUPLICATE="update", ROLLCALL_ON_NEW_VERSION="import")
    asked(database_url, 'create unique index users_unique_by_name on users (name collate "C")')

    first, second = register(api, "1"), register(api, "2", {**ANN, "age": 42})

    assert [answer.json["counts"]["registered"] for answer in (first, second)] == [1, 0]
    assert is_problem(register(api, "1", {**ANN, "age": 43}), 422, "key-already-loaded")
    assert users(database_url) == [("Ann", "Norway", 42)]


def test_an_undone_request_is_answered_undone(make: MakeApi, database_url: str) -> None:
    """The undo runs in a function of its own, as the operator."""
    registered = register(make(), "k").json
    path = f"/api/imports/{registered['import_id']}/undo"
    function = make(OPERATOR)

    answers = [ask(function, "POST", path, send={}) for _ in range(2)]

    assert [answer.json for answer in answers] == [{**registered, "undone": True}] * 2
    assert is_problem(register(make(), "k"), 409, "undone")
    assert users(database_url) == []


def test_the_function_of_uploaders_cannot_undo(make: MakeApi, database_url: str) -> None:
    """Its role deletes no user, even if the gateway lets the request through."""
    api = make()
    register(api, "k")

    answered = ask(api, "POST", "/api/imports/1/undo", send={"confirmed": True})

    assert answered.status >= 500
    assert users(database_url) == [("Ann", "Norway", 41)]


def test_fewer_users_are_removed_only_if_confirmed(make: MakeApi, database_url: str) -> None:
    register(make(), "k")
    asked(database_url, "delete from users")
    function = make(OPERATOR)

    assert is_problem(ask(function, "POST", "/api/imports/1/undo", send={}), 409, "undo-unconfirmed")
    assert ask(function, "POST", "/api/imports/1/undo", send={"confirmed": True}).json["undone"]


def test_another_uploaders_import_is_not_found(make: MakeApi) -> None:
    api = make()
    for number in range(3):
        register(api, f"{number}")
    other = token("ben", Scope.UPLOAD)
    register(api, "0", authorizer=other)
    load(api.services().users, [], an_upload("straight into the bucket"))

    def listed(authorizer: Any) -> list[int]:  # noqa: ANN401 - as `ask` takes it
        return [
            item["import_id"] for item in ask(api, "GET", "/api/imports", authorizer=authorizer).json["imports"]
        ]

    assert (listed(UPLOADER), listed(other), listed(token("olga"))) == ([3, 2, 1], [4], [5, 4, 3, 2, 1])
    for import_id in 1, 2, 3, 5:
        answered = ask(api, "GET", f"/api/imports/{import_id}", authorizer=other)
        assert is_problem(answered, 404, "not-found")
    assert ask(api, "GET", "/api/imports/4", authorizer=other).status == 200


def test_pages_hold_each_user_once_while_others_arrive(make: MakeApi) -> None:
    api = make()
    for number in range(25):
        register(api, f"{number}", {**ANN, "age": number})

    ages: list[int] = []
    query: dict[str, str] | None = {"limit": "4"}
    while query:
        page = ask(api, "GET", "/api/users", query=query).json
        ages += [item["user"]["age"] for item in page["users"]]
        if len(ages) < 20:
            register(api, f"late-{len(ages)}", BEN)
        _, _, following = (page["next"] or "").partition("?")
        query = dict(part.split("=") for part in following.split("&")) if following else None

    assert ages[:25] == list(range(25))
    assert ages[25:] == [0] * 4


def test_no_log_shows_a_row_that_the_database_refuses(make: MakeApi, database_url: str) -> None:
    """The message of PostgreSQL shows the row."""
    asked(database_url, f"alter table users add constraint no_canary check (name !~ '{CANARY}')")
    try:
        with everything_logged() as log:
            refused = register(make(), CANARY, {**ANN, "name": CANARY}, token(CANARY, Scope.UPLOAD))
            failed = register(make("nobody"), CANARY, {**ANN, "name": CANARY}, token(CANARY, Scope.UPLOAD))
    finally:
        asked(database_url, "alter table users drop constraint no_canary")

    assert is_problem(refused, 422, "table-constraint")
    assert is_problem(failed, 503, "unavailable")
    assert "no_canary" in refused.json["detail"]
    assert CANARY not in refused.text + failed.text + log.getvalue()
    assert imports(database_url) == []


def test_a_page_with_a_next_page_keeps_the_connection(make: MakeApi, database_url: str) -> None:
    """The reader of the ledger stops early; a new connection for each page would cost more than the page."""
    api = make()
    for key in "a", "b":
        register(api, key)
    connections = "select pid from pg_stat_activity where datname = current_database() and usename = %s"
    before = asked(database_url, connections, IMPORTER)

    page = ask(api, "GET", "/api/imports", query={"limit": "1"})

    assert page.json["next"]
    assert len(before) == 1
    assert asked(database_url, connections, IMPORTER) == before
