"""The routes of users, imports and undo, on a database in memory."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, NoReturn

import attrs
import pytest

from rollcall.application.errors import ImportInProgressError, RepositoryUnavailableError, SchemaError
from rollcall.bootstrap.web import Services, api_services
from rollcall.entrypoints.api import Api
from rollcall.entrypoints.callers import Scope
from rollcall.settings import read_settings
from support.api_events import (
    Answered,
    an_api,
    as_documented,
    ask,
    everything_logged,
    http_event,
    is_problem,
    pointers,
    signed,
    token,
)
from support.builders import an_upload, cells_of, load
from support.receipts import is_as_published

MEMORY = {"ROLLCALL_DATABASE_URL": "memory:"}
ANN = {**cells_of(), "age": 41}
BEN = {**cells_of("Ben", "Peru"), "age": 0}
CANARY = "S3CRET"
THIRTY = "\N{FULLWIDTH DIGIT THREE}\N{FULLWIDTH DIGIT ZERO}"
UPLOADER = token("ann", Scope.UPLOAD)
OTHER = token("ben", Scope.UPLOAD)
OPERATOR = token("olga", Scope.OPERATE)


@attrs.frozen
class World:
    """A Web API on a database in memory."""

    api: Api
    services: Services

    def register(self, key: str, user: Mapping[str, object] = ANN, **how: Any) -> Answered:  # noqa: ANN401 - as `ask` takes them
        """Register a user, by default as the uploader."""
        described = {"authorizer": UPLOADER, **how}
        answered = ask(self.api, "POST", "/api/users", send=user, headers={"idempotency-key": key}, **described)
        as_documented(answered, "POST", "/api/users")
        return answered

    def get(self, path: str, route: str = "", authorizer: Mapping[str, Any] = OPERATOR, **query: str) -> Answered:
        """Ask for something, by default as the operator."""
        answered = ask(self.api, "GET", path, query=query, authorizer=authorizer)
        as_documented(answered, "GET", route or path)
        return answered

    def undo(self, import_id: object, send: object = {}, **how: Any) -> Answered:  # noqa: ANN401 - as above; it is not changed
        """Undo an import, by default as the operator."""
        path = f"/api/imports/{import_id}/undo"
        answered = ask(self.api, "POST", path, send=send, **{"authorizer": OPERATOR, **how})
        as_documented(answered, "POST", "/api/imports/{id}/undo")
        return answered

    def names(self) -> list[str]:
        """Names of all users."""
        return [user.name for user in self.services.users.users()]


MakeWorld = Callable[..., World]


@pytest.fixture
def make() -> Iterator[MakeWorld]:
    """Make a Web API with some settings."""
    with ExitStack() as opened:

        def make(**environment: str) -> World:
            settings = {**MEMORY, **environment}
            services = opened.enter_context(api_services(read_settings(settings)))
            return World(an_api(environment=settings, services=lambda: services), services)

        yield make


@pytest.fixture
def world(make: MakeWorld) -> World:
    """A Web API with the default settings."""
    return make()


# Registering a user


def test_a_request_without_a_key_is_refused(world: World) -> None:
    answered = ask(world.api, "POST", "/api/users", send=ANN)

    assert is_problem(answered, 400, "invalid-request")
    assert pointers(answered) == [("/Idempotency-Key", "missing-member")]
    assert world.names() == []


@pytest.mark.parametrize("key", ["", "a b", "é", "k\n", "k" * 256, "\x7f", "\t"], ids=repr)
def test_a_key_of_another_form_is_refused(world: World, key: str) -> None:
    answered = world.register(key)

    assert is_problem(answered, 400, "invalid-request")
    assert pointers(answered) == [("/Idempotency-Key", "out-of-range")]
    assert world.register("~!" * 127 + "k").status == 201


def test_a_registered_user_is_answered_with_its_import(world: World) -> None:
    answered = world.register("k")

    assert answered.status == 201
    assert is_as_published(answered.json)
    assert (answered.json["counts"]["registered"], answered.json["undone"]) == (1, False)
    assert answered.headers["Location"] == f"/api/imports/{answered.json['import_id']}"
    assert world.get(answered.headers["Location"], "/api/imports/{id}", UPLOADER).json == answered.json
    assert world.names() == ["Ann"]


def test_a_repeated_request_is_answered_the_same(world: World) -> None:
    answers = [world.register("k", user) for user in (ANN, {**ANN, "age": "41"}) for _ in range(5)]

    assert [(answer.status, answer.text) for answer in answers] == [(201, answers[0].text)] * 10
    assert world.names() == ["Ann"]


def test_faults_are_those_of_a_receipt(world: World) -> None:
    answered = world.register("k", cells_of("", age=THIRTY))

    assert is_problem(answered, 422, "rows-rejected")
    assert pointers(answered) == [("/name", "blank-cell"), ("/age", "type-error")]
    assert answered.json["errors"][1]["detail"] == f"age is '{THIRTY}', not in half-width digits (0-9); give 30"
    assert world.get("/api/imports").json["imports"] == []
    assert pointers(world.register("k", {**ANN, "age": 151})) == [("/age", "constraint-error")]
    assert world.register("k").status == 201


@pytest.mark.parametrize("age", [None, True, 41.5, [41], {}])
def test_a_member_of_another_type_is_a_bad_request(world: World, age: object) -> None:
    answered = world.register("k", {**ANN, "age": age})

    assert is_problem(answered, 400, "invalid-request")
    assert pointers(answered) == [("/age", "wrong-type")]
    assert answered.json["errors"][0]["detail"] == "age is not text or a whole number"


def test_a_whole_number_may_have_a_decimal_point(world: World) -> None:
    """JSON Schema takes 41.0 for an integer."""
    first = world.register("k", {**ANN, "age": 41.0})

    assert world.register("k", {**ANN, "age": 41}).json == first.json
    assert is_problem(world.register("m", {**ANN, "age": 1e308}), 422, "rows-rejected")


@pytest.mark.parametrize("on_new_version", ["refuse", "import"])
def test_another_user_under_a_used_key_is_refused(make: MakeWorld, on_new_version: str) -> None:
    world = make(ROLLCALL_ON_NEW_VERSION=on_new_version)
    first = world.register("k")

    refused = world.register("k", BEN)

    assert is_problem(refused, 422, "key-already-loaded")
    assert "as import 1;" in refused.json["detail"]
    assert len(world.get("/api/imports").json["imports"]) == 1
    assert world.register("k").text == first.text
    assert world.register("k", BEN, authorizer=OTHER).status == 201


def test_a_request_after_an_undo_is_answered_undone(world: World) -> None:
    world.undo(world.register("k").json["import_id"])

    assert is_problem(world.register("k"), 409, "undone")
    assert world.names() == []


def test_a_user_that_exists_is_rejected_by_policy(make: MakeWorld) -> None:
    world = make(ROLLCALL_UNIQUE_BY="name", ROLLCALL_ON_DUPLICATE="reject")
    world.register("1")

    answered = world.register("2")

    assert is_problem(answered, 422, "rows-rejected")
    assert [code for _, code in pointers(answered)] == ["duplicate-row"]
    assert len(world.get("/api/imports").json["imports"]) == 1


# Pages


def walk(world: World, path: str, name: str, authorizer: Mapping[str, Any], **query: str) -> list[list[Any]]:
    """Return the items of all pages."""
    answered = world.get(path, authorizer=authorizer, **query)
    pages = [answered.json[name]]
    while address := answered.json["next"]:
        assert answered.headers["Link"] == f'<{address}>; rel="next"'
        _, _, text = address.partition("?")
        answered = world.get(path, authorizer=authorizer, **dict(part.split("=") for part in text.split("&")))
        pages.append(answered.json[name])
    assert "Link" not in answered.headers
    return pages


def test_users_are_paged(world: World) -> None:
    for number in range(5):
        world.register(f"{number}", {**ANN, "age": number})

    pages = walk(world, "/api/users", "users", OPERATOR, limit="2")

    assert [[item["user"]["age"] for item in page] for page in pages] == [[0, 1], [2, 3], [4]]
    assert [item["import_id"] for page in pages for item in page] == [1, 2, 3, 4, 5]
    assert walk(world, "/api/users", "users", OPERATOR, limit="5") == [[item for page in pages for item in page]]
    assert walk(world, "/api/users", "users", OPERATOR, **{"import": "4", "limit": "1"}) == [[pages[1][1]]]
    assert walk(world, "/api/users", "users", OPERATOR, **{"import": "9"}) == [[]]


def test_uploaders_page_their_imports_and_operators_all(world: World) -> None:
    for number in range(5):
        world.register(f"{number}", authorizer=OTHER if number == 2 else UPLOADER)
    load(world.services.users, [])

    def seen(authorizer: Mapping[str, Any]) -> list[list[int]]:
        pages = walk(world, "/api/imports", "imports", authorizer, limit="2")
        return [[item["import_id"] for item in page] for page in pages]

    assert seen(UPLOADER) == [[5, 4], [2, 1]]
    assert seen(OTHER) == [[3]]
    assert seen(OPERATOR) == seen(token("x")) == [[6, 5], [4, 3], [2, 1]]
    assert seen(token("new", Scope.UPLOAD)) == seen(signed("AIDA")) == [[]]


def test_a_page_of_large_receipts_is_shorter(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each import appears once, also one that is larger than a page."""
    for number in range(5):
        world.register(f"{number}")
    size = len(json.dumps(world.get("/api/imports/1", "/api/imports/{id}").json))

    for allowed, lengths in (2 * size + 50, [2, 2, 1]), (10, [1] * 5):
        monkeypatch.setattr("rollcall.entrypoints.api.pages.PAGE_BYTES", allowed)
        pages = walk(world, "/api/imports", "imports", OPERATOR)
        assert [len(page) for page in pages] == lengths
        assert [item["import_id"] for page in pages for item in page] == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("path", ["/api/users", "/api/imports"])
@pytest.mark.parametrize(
    ("name", "sent"), [("limit", "0"), ("limit", "1001"), ("after", "-1"), ("after", "x"), ("before", "1")]
)
def test_a_page_out_of_range_is_a_bad_request(world: World, path: str, name: str, sent: str) -> None:
    answered = ask(world.api, "GET", path, query={name: sent})

    assert is_problem(answered, 400, "invalid-request")
    assert world.get(path, limit="1000", after="0").status == 200


# One import


def test_the_import_of_another_uploader_is_not_found(world: World) -> None:
    """It is answered as an unknown one."""
    own = world.register("k").json["import_id"]
    load(world.services.users, [], an_upload("straight into the bucket"))
    route = "/api/imports/{id}"

    for path, authorizer in ("/api/imports/1", OTHER), ("/api/imports/2", UPLOADER), ("/api/imports/9", OPERATOR):
        answered = world.get(path, route, authorizer)
        assert is_problem(answered, 404, "not-found")
        assert answered.json["detail"] == f"there is no import {path[-1]}"
    for authorizer in UPLOADER, OPERATOR:
        assert world.get(f"/api/imports/{own}", route, authorizer).status == 200


@pytest.mark.parametrize("sent", ["0", "-1", "x", "1.0", "9" * 19, "1 ", "٣"])
def test_an_id_that_is_no_number_is_not_found(world: World, sent: str) -> None:
    assert is_problem(world.get(f"/api/imports/{sent}", "/api/imports/{id}"), 404, "not-found")
    assert is_problem(world.undo(sent), 404, "not-found")


# Undo


def test_an_undo_is_answered_the_same_again(world: World) -> None:
    registered = world.register("k").json

    answers = [world.undo(registered["import_id"]) for _ in range(3)]

    assert answers[0].json == {**registered, "undone": True}
    assert [(answer.status, answer.text) for answer in answers] == [(200, answers[0].text)] * 3
    assert world.get("/api/imports/1", "/api/imports/{id}", UPLOADER).json == answers[0].json
    assert world.names() == []


def test_an_undo_that_is_refused_says_why(make: MakeWorld) -> None:
    world = make(ROLLCALL_UNIQUE_BY="name", ROLLCALL_ON_DUPLICATE="update")
    world.register("1")
    world.register("2", {**ANN, "age": 42})

    answered = world.undo(1)

    assert is_problem(answered, 409, "undo-refused")
    assert answered.json["detail"] == (
        "import 1 cannot be undone: import 2 came after it and compared users; undo that first"
    )
    assert is_problem(world.undo(9), 404, "not-found")


def test_an_undo_of_fewer_users_needs_confirmation(world: World) -> None:
    world.register("k")
    world.services.users._tables.users.clear()  # type: ignore[attr-defined] # noqa: SLF001 - as another program would

    answered = world.undo(1)

    assert is_problem(answered, 409, "undo-unconfirmed")
    assert "only 0 of them are still in the table" in answered.json["detail"]
    assert is_problem(world.undo(1, {"confirmed": False}), 409, "undo-unconfirmed")
    assert is_problem(world.undo(1, {"confirmed": "yes"}), 400, "invalid-request")
    assert world.undo(1, {"confirmed": True}).json["undone"]


# Failures


HIDDEN = cells_of(CANARY, CANARY, "1")
EVERYTHING: tuple[tuple[str, str, object, int], ...] = (
    ("POST", "/api/users", HIDDEN, 201),
    ("POST", "/api/users", {**HIDDEN, "name": f"{CANARY} 2"}, 422),
    ("GET", "/api/users", None, 200),
    ("GET", "/api/imports", None, 200),
    ("GET", "/api/imports/1", None, 200),
    ("POST", "/api/imports/1/undo", {}, 200),
    ("POST", "/api/imports/2/undo", {}, 404),
    ("POST", "/api/users", HIDDEN, 409),
)
SECRETS: dict[str, Any] = {
    "headers": {"authorization": f"Bearer {CANARY}", "idempotency-key": CANARY},
    "authorizer": token(CANARY),
}


def test_no_log_shows_cells_keys_or_tokens(world: World) -> None:
    with everything_logged() as log:
        for method, path, send, status in EVERYTHING:
            assert ask(world.api, method, path, send=send, **SECRETS).status == status
        ask(world.api, "POST", "/api/users", send={**HIDDEN, "age": CANARY}, **SECRETS)
        ask(world.api, "POST", "/api/users", send={CANARY: CANARY}, **SECRETS)

    assert CANARY not in log.getvalue()


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ImportInProgressError(), 409, "in-progress"),
        (RepositoryUnavailableError("the database could not be reached"), 503, "unavailable"),
        (SchemaError("the database has no tables"), 500, "internal-error"),
        (RuntimeError(CANARY), 500, "internal-error"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failure_shows_no_cells_keys_or_tokens(error: Exception, status: int, code: str) -> None:
    """Neither in the answer nor in the log."""
    error.__cause__ = ValueError(CANARY)

    def fail() -> NoReturn:
        raise error

    with api_services(read_settings(MEMORY)) as services, everything_logged() as log:
        failing = attrs.evolve(services, open_users=fail)
        for method, path, send, _ in EVERYTHING:
            answered = ask(an_api(services=lambda: failing), method, path, send=send, **SECRETS)
            assert is_problem(answered, status, code)
            assert CANARY not in answered.text

    assert CANARY not in log.getvalue()
    assert ("a request failed" in log.getvalue()) == (status >= 500)


def test_routes_load_only_the_driver_that_they_need() -> None:
    """In a fresh interpreter: none for a database in memory."""
    script = """
import json, sys
from rollcall.bootstrap import now
from rollcall.bootstrap.web import api_services
from rollcall.entrypoints.api import Api
from rollcall.settings import read_settings
settings = read_settings({"ROLLCALL_DATABASE_URL": "memory:"})
with api_services(settings) as services:
    api = Api(settings=settings, services=lambda: services, now=now)
    print([api(event, None)["statusCode"] for event in json.loads(sys.argv[1])])
print(sorted({"boto3", "psycopg", "rich", "click"} & set(sys.modules)))
"""
    events = [
        http_event("POST", "/api/users", body=json.dumps(ANN), headers={"idempotency-key": "k"}),
        http_event("GET", "/api/imports/1"),
        http_event("POST", "/api/imports/1/undo", body="{}"),
    ]

    ran = subprocess.run(  # noqa: S603 - this Python
        [sys.executable, "-c", script, json.dumps(events)], capture_output=True, text=True, check=True, timeout=60
    )

    assert ran.stdout.splitlines() == ["[201, 200, 200]", "[]"]
