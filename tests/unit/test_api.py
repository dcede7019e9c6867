"""The Web API in memory: who may ask what, what a bad request is answered, and what is never logged."""

import base64
import io
import json
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, NoReturn

import attrs
import pytest

from rollcall.application.check_rows import MAX_ROWS
from rollcall.application.errors import (
    ImportInProgressError,
    ObjectNotFoundError,
    RepositoryUnavailableError,
    StoreUnavailableError,
    TableConstraintError,
    UndoRefusedError,
    UndoUnconfirmedError,
    UnknownImportError,
)
from rollcall.domain.user import USERS
from rollcall.entrypoints.api import ROUTES
from rollcall.entrypoints.api.openapi import document
from rollcall.entrypoints.api.routes import Answer, Parameter, Request, Route
from rollcall.entrypoints.callers import LOCAL_CALLER, Scope
from support.api_events import (
    BOTH,
    an_api,
    answer_to,
    ask,
    everything_logged,
    http_event,
    is_problem,
    pointers,
    signed,
    token,
)
from support.builders import cells_of

GOOD = cells_of()
CANARY = "S3CRET"
WRONG_NAME_AND_AGE = [("/rows/0/name", "wrong-type"), ("/rows/0/age", "wrong-type")]
ID = Parameter(name="id", place="path", schema={"type": "string", "pattern": "^[0-9a-f]{4}$"}, description="An id")
PAGE = Parameter(
    name="limit", place="query", schema={"type": "integer", "minimum": 1, "maximum": 1000}, description="A number"
)
KEY = Parameter(
    name="Idempotency-Key",
    place="header",
    schema={"type": "string", "minLength": 1},
    description="A key",
    required=True,
)


def a_route(answer: Callable[[Request], Answer], **declared: Any) -> Route:  # noqa: ANN401 - as `Route` takes them
    """Return a route at /api/tried/{id}, or another that is declared."""
    return Route(
        **{
            "method": "GET",
            "path": "/api/tried/{id}",
            "scope": Scope.UPLOAD,
            "name": "try",
            "summary": "",
            "parameters": (ID,),
            "answer": lambda _, request: answer(request),
            "answers": {HTTPStatus.OK: {"type": "object"}},
            **declared,
        }
    )


def raising(error: Exception) -> Route:
    """Return a route that fails."""

    def fail(_request: Request) -> NoReturn:
        raise error

    return a_route(fail)


API = an_api(a_route(lambda request: Answer(body=dict(request.parameters)), parameters=(ID, PAGE)))


# Requests that are not as described


@pytest.mark.parametrize(
    "body",
    [
        *(None, "", "{", "S3CRET", '{"rows": []', "NaN", '{"rows": [Infinity]}', "1" * 5000),
        *("[" * 100_000, '{"rows": [], "rows": []}', '{"rows": ["\\ud800"]}', '{"rows": ["\ud800"]}'),
    ],
    ids=lambda body: repr(body)[:20],
)
def test_a_body_that_is_not_json_is_a_bad_request(body: str | None) -> None:
    answered = answer_to(API, http_event("POST", "/api/rows/check", body=body))

    assert is_problem(answered, 400, "invalid-request")
    assert answered.json["detail"] == "the body is not JSON in UTF-8"
    assert CANARY not in answered.text


@pytest.mark.parametrize("body", [b"\xff{}", b'{"rows": ["\xed\xa0\x80"]}', "é".encode("utf-16")], ids=repr)
def test_bytes_that_are_not_utf_8_are_a_bad_request(body: bytes) -> None:
    event = http_event("POST", "/api/rows/check", body=base64.b64encode(body).decode())

    assert is_problem(answer_to(API, {**event, "isBase64Encoded": True}), 400, "invalid-request")
    assert is_problem(answer_to(API, {**event, "isBase64Encoded": True, "body": "é"}), 400, "invalid-request")


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ([], [("", "wrong-type")]),
        (CANARY, [("", "wrong-type")]),
        (True, [("", "wrong-type")]),
        ({}, [("/rows", "missing-member")]),
        ({"rows": {}}, [("/rows", "wrong-type")]),
        ({"rows": [], CANARY: 1}, [("", "unknown-member")]),
        ({"rows": [GOOD, [CANARY]]}, [("/rows/1", "wrong-type")]),
        ({"rows": [{**GOOD, CANARY: CANARY}]}, [("/rows/0", "unknown-member")]),
        ({"rows": [{**GOOD, "age": 41}]}, [("/rows/0/age", "wrong-type")]),
        ({"rows": [{**GOOD, "age": None, "name": [CANARY]}]}, WRONG_NAME_AND_AGE),
        (
            {"rows": [{label: GOOD[label] for label in GOOD if label != "country"}]},
            [("/rows/0/country", "missing-member")],
        ),
    ],
)
def test_a_body_of_another_shape_is_a_bad_request(body: object, errors: list[tuple[str, str]]) -> None:
    """Each error is named by its place, never by what was sent."""
    answered = ask(API, "POST", "/api/rows/check", send=body)

    assert is_problem(answered, 400, "invalid-request")
    assert pointers(answered) == errors
    assert CANARY not in answered.text


def test_a_problem_has_at_most_100_errors() -> None:
    answered = ask(API, "POST", "/api/rows/check", send={"rows": [{}] * MAX_ROWS})

    assert len(answered.json["errors"]) == 100


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp"]
)
def test_a_body_of_another_media_type_is_refused(media_type: str) -> None:
    answered = ask(API, "POST", "/api/rows/check", send={"rows": []}, headers={"content-type": media_type})

    assert is_problem(answered, 415, "unsupported-media-type")
    for sent in "application/json; charset=utf-8", "Application/JSON":
        accepted = ask(API, "POST", "/api/rows/check", send={"rows": []}, headers={"content-type": sent})
        assert accepted.status == 200


@pytest.mark.parametrize("limit", ["0", "1001", "ten", "", "1.0", "-1", "10\n", "9" * 5000])
def test_a_parameter_out_of_range_is_a_bad_request(limit: str) -> None:
    answered = ask(API, "GET", "/api/tried/00ff", query={"limit": limit})

    assert is_problem(answered, 400, "invalid-request")
    assert [pointer for pointer, _ in pointers(answered)] == ["/limit"]


def test_parameters_are_read_by_their_type() -> None:
    answered = ask(API, "GET", "/api/tried/00ff", query={"limit": "1000"})

    assert answered.json == {"id": "00ff", "limit": 1000}
    assert ask(API, "GET", "/api/tried/00ff").json == {"id": "00ff"}


def test_an_unknown_parameter_is_a_bad_request() -> None:
    answered = ask(API, "GET", "/api/tried/00ff", query={CANARY: "1"})

    assert is_problem(answered, 400, "invalid-request")
    assert CANARY not in answered.text
    assert is_problem(ask(API, "GET", "/api/policy", query={"x": "1"}), 400, "invalid-request")


def test_a_line_end_is_part_of_a_parameter() -> None:
    """Python's `$` would allow it."""
    place = Parameter(name="at", place="query", schema={"type": "string", "pattern": "^[a-f]$"}, description="")
    api = an_api(a_route(lambda _: Answer(body={}), parameters=(ID, place)))

    assert ask(api, "GET", "/api/tried/00ff", query={"at": "a"}).status == 200
    assert is_problem(ask(api, "GET", "/api/tried/00ff", query={"at": "a\n"}), 400, "invalid-request")


def test_a_required_header_must_be_there() -> None:
    api = an_api(a_route(lambda request: Answer(body=dict(request.parameters)), parameters=(ID, KEY)))

    answered = ask(api, "GET", "/api/tried/00ff", headers={"Idempotency-Key": "k"})

    assert answered.json == {"id": "00ff", "Idempotency-Key": "k"}
    assert is_problem(ask(api, "GET", "/api/tried/00ff"), 400, "invalid-request")


@pytest.mark.parametrize(
    "sent",
    [
        *("00fg", "00ff0", "", "00%2Fff", "%2F", "00ff/", "00ff/x", "<b>", "00 ff", "00ff\n", "..", '"', "00ff?"),
        *("é", "\N{ARABIC-INDIC DIGIT ZERO}" * 4),
    ],
    ids=repr,
)
def test_an_id_of_another_form_is_not_found(sent: str) -> None:
    assert is_problem(ask(API, "GET", f"/api/tried/{sent}"), 404, "not-found")


@pytest.mark.parametrize(
    "path",
    [
        "/index.html",
        "/assets/",
        "/api",
        "/api/",
        "/policy",
        "/api/policy/",
        "/api/policy\n",
        "/api/openapiXjson",
        "/api/<x>",
        "",
    ],
)
def test_an_unknown_path_is_not_found(path: str) -> None:
    assert is_problem(ask(API, "GET", path), 404, "not-found")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "X"])
def test_an_unknown_method_is_not_allowed(method: str) -> None:
    for path, allowed in ("/api/policy", "GET"), ("/api/tried/00ff", "GET"):
        answered = ask(API, method, path)
        assert is_problem(answered, 405, "method-not-allowed")
        assert answered.headers["Allow"] == allowed
    assert ask(API, "GET", "/api/rows/check").headers["Allow"] == "POST"


# Who may ask


@pytest.mark.parametrize("route", [route for route in ROUTES if route.scope], ids=lambda route: route.name)
def test_every_route_needs_its_scope(route: Route) -> None:
    """Also when API Gateway lets a request through."""
    others = " ".join(scope for scope in Scope if scope not in route.scopes)
    for authorizer, status, code in (
        ({}, 401, "not-signed-in"),
        ({"jwt": {"claims": {}}}, 401, "not-signed-in"),
        (token(scope=""), 403, "missing-scope"),
        (token(scope=others), 403, "missing-scope"),
    ):
        assert is_problem(ask(API, route.method, route.path, authorizer=authorizer), status, code)
    for authorizer in token(scope=BOTH), *(token(scope=scope) for scope in route.scopes), signed("AROA:x"):
        assert ask(API, route.method, route.path, authorizer=authorizer).status not in {401, 403}


def test_a_401_names_the_authentication_scheme() -> None:
    """RFC 9110 requires the header."""
    assert ask(API, "GET", "/api/policy", authorizer={}).headers["WWW-Authenticate"] == "Bearer"


def test_the_document_needs_no_caller() -> None:
    assert ask(API, "GET", "/api/openapi.json", authorizer={}).json == document(API.routes, USERS)


def test_another_entry_point_names_the_caller() -> None:
    api = attrs.evolve(an_api(), caller_of=lambda _event: LOCAL_CALLER)

    assert ask(api, "GET", "/api/policy", authorizer={}).status == 200


# Failures


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UnknownImportError(3), 404, "not-found"),
        (UndoRefusedError(3, "it is undone"), 409, "undo-refused"),
        (UndoUnconfirmedError(3, 2, 1), 409, "undo-unconfirmed"),
        (ImportInProgressError(), 409, "in-progress"),
        (TableConstraintError("the constraint x"), 422, "table-constraint"),
        (RepositoryUnavailableError(CANARY), 503, "unavailable"),
        (StoreUnavailableError(CANARY, CANARY), 503, "unavailable"),
        (ObjectNotFoundError(CANARY), 500, "internal-error"),
        (RuntimeError(CANARY), 500, "internal-error"),
        (KeyError(CANARY), 500, "internal-error"),
        (UnicodeDecodeError("utf-8", CANARY.encode(), 0, 1, CANARY), 500, "internal-error"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_error_has_its_problem(error: Exception, status: int, code: str) -> None:
    answered = ask(an_api(raising(error)), "GET", "/api/tried/00ff")

    assert is_problem(answered, status, code)
    assert ("Retry-After" in answered.headers) == (status == 503)
    assert CANARY not in answered.text


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that is logged."""
    with everything_logged() as log:
        yield log


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(CANARY),
        RepositoryUnavailableError("it is down"),
        StoreUnavailableError(f"s3://b/{CANARY}", "no"),
    ],
)
def test_a_failure_is_logged_under_its_request(log: io.StringIO, error: Exception) -> None:
    ask(an_api(raising(error)), "GET", "/api/tried/00ff")

    [line] = [json.loads(line) for line in log.getvalue().splitlines() if line.startswith("{")]
    assert (line["level"], line["message"]) == ("ERROR", "a request failed")
    assert (line["request_id"], line["error"]) == ("request-1", type(error).__name__)


def test_no_log_shows_cells_tokens_or_file_names(log: io.StringIO) -> None:
    """On every route, good or bad, and when it fails."""
    secret: dict[str, Any] = {
        "headers": {"authorization": f"Bearer {CANARY}", "x": CANARY},
        "authorizer": token(CANARY),
    }

    def fail() -> Answer:
        try:
            return Answer(body=int(CANARY))
        except ValueError as error:
            raise RuntimeError(CANARY) from error

    failing = a_route(lambda _: fail(), scope=None, path="/api/failing", parameters=())
    errors = [ObjectNotFoundError(f"s3://inbox/{CANARY}.csv"), StoreUnavailableError(CANARY, CANARY)]
    for api in an_api(failing), *(an_api(failing, raising(error)) for error in errors):
        for route in api.routes:
            path = route.path.replace("{id}", "00ff")
            for send in (
                {"rows": [{**GOOD, "name": CANARY, "age": CANARY}]},
                {"rows": [{**GOOD, "name": "\n" * 100 + CANARY}]},
                {"rows": CANARY},
                CANARY,
            ):
                ask(api, route.method, path, send=send, **secret)
            ask(api, route.method, path, body=CANARY, **secret)
            ask(api, route.method, path, query={CANARY: CANARY}, **secret)
            ask(api, route.method, path, authorizer=token(CANARY, scope=CANARY))

    assert "a request failed" in log.getvalue()
    assert CANARY not in log.getvalue()


def test_no_variable_makes_the_api_print_requests(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Powertools prints each event under POWERTOOLS_DEV."""
    monkeypatch.setenv("POWERTOOLS_DEV", "true")

    answered = ask(an_api(raising(RuntimeError(CANARY))), "GET", "/api/tried/00ff", headers={"x": CANARY})

    assert is_problem(answered, 500, "internal-error")
    assert CANARY not in "".join(capsys.readouterr())
