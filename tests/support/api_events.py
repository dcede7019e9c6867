"""Requests to the Web API as an HTTP API of API Gateway passes them on (payload 2.0), and what the API logs."""

import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NoReturn

import attrs
from jsonschema import Draft202012Validator

from rollcall.bootstrap.services import Services
from rollcall.domain.user import USERS
from rollcall.entrypoints.api import ROUTES, Api
from rollcall.entrypoints.api.bodies import resolved
from rollcall.entrypoints.api.openapi import body_schemas, document
from rollcall.entrypoints.api.problems import SCHEMA
from rollcall.entrypoints.api.routes import Route, Schema
from rollcall.entrypoints.callers import Scope
from rollcall.entrypoints.lambda_runtime import logger
from rollcall.settings import read_settings

DOCUMENT = document(ROUTES, USERS)
ISSUER = "https://issuer.example"
BOTH = " ".join(Scope)


def http_event(
    method: str,
    path: str,
    *,
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    authorizer: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the event of one request; an authorizer of None is that of a token with both scopes."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "&".join(f"{name}={value}" for name, value in (query or {}).items()),
        "headers": {"host": "api.example", "content-type": "application/json", **(headers or {})},
        **({"queryStringParameters": dict(query)} if query else {}),
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "api",
            "authorizer": token() if authorizer is None else authorizer,
            "domainName": "api.example",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1"},
            "requestId": "request-1",
            "routeKey": "$default",
            "stage": "$default",
            "timeEpoch": 1767225600000,
        },
        **({} if body is None else {"body": body}),
        "isBase64Encoded": False,
    }


def example_of(route: Route) -> dict[str, Any]:
    """Return the event of a request of the form that a route declares, as an HTTP API passes it on."""
    path, headers = route.path, {}
    for parameter in route.parameters:
        if parameter.place == "path":
            path = path.replace(f"{{{parameter.name}}}", str(_example(parameter.schema)))
        elif parameter.required:
            headers[parameter.name.lower()] = str(_example(parameter.schema))
    body = None if route.body is None else json.dumps(_example(resolved(route.body, body_schemas(USERS))))
    event = http_event(route.method, path, body=body, headers=headers)
    event["routeKey"] = event["requestContext"]["routeKey"] = f"{route.method} {route.path}"
    return event


def _example(schema: Schema) -> Any:  # noqa: ANN401 - any JSON
    if "enum" in schema:
        return schema["enum"][0]
    match schema["type"]:
        case "object":
            properties = schema["properties"]
            return {name: _example(properties[name]) for name in schema.get("required", ())}
        case "array":
            return [_example(schema["items"])]
        case "integer":
            return schema.get("minimum", 1)
        case "boolean":
            return True
    return "1" * max(1, schema.get("minLength", 1))


def token(subject: str = "ann", scope: str = BOTH, issuer: str = ISSUER) -> dict[str, Any]:
    """Return the authorizer's part of an event for the bearer of a token."""
    return {"jwt": {"claims": {"iss": issuer, "sub": subject, "scope": scope}, "scopes": None}}


def signed(user_id: str) -> dict[str, Any]:
    """Return the authorizer's part of an event for a request that is signed by IAM."""
    return {"iam": {"accountId": "123456789012", "userId": user_id, "callerId": user_id, "userArn": "arn:aws:x"}}


@attrs.frozen
class Answered:
    """An answer of the Web API.

    Attributes:
        status: Its status.
        headers: Its headers.
        text: Its body.
    """

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - any JSON
        """The body, read from JSON."""
        return json.loads(self.text)


def ask(api: Api, method: str, path: str, *, send: object = None, **described: Any) -> Answered:  # noqa: ANN401 - as `http_event` takes them
    """Send one request.

    Args:
        api: The Web API.
        method: The method.
        path: The path.
        send: The body, as a value that JSON has; None for none.
        described: Further arguments of `http_event`.
    """
    if send is not None:
        described["body"] = json.dumps(send)
    return answer_to(api, http_event(method, path, **described))


def answer_to(api: Api, event: Mapping[str, Any]) -> Answered:
    """Send the event of one request."""
    answer = api(event, None)
    assert isinstance(answer["body"], str)
    assert not answer["isBase64Encoded"]
    return Answered(answer["statusCode"], answer["headers"], answer["body"])


@contextmanager
def everything_logged() -> Iterator[io.StringIO]:
    """Capture what any logger writes, at any level."""
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    ours = logger.registered_handler
    assert isinstance(ours, logging.StreamHandler)
    stream = ours.setStream(log)
    root = logging.getLogger()
    powertools = logging.getLogger("aws_lambda_powertools")
    levels = root.level, powertools.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    powertools.setLevel(logging.DEBUG)
    try:
        yield log
    finally:
        ours.setStream(stream)
        root.removeHandler(handler)
        root.setLevel(levels[0])
        powertools.setLevel(levels[1])


def _unopened() -> NoReturn:
    raise AssertionError("no route of these tests needs a database")


def an_api(
    *routes: Route,
    environment: Mapping[str, str] | None = None,
    services: Callable[[], Services] = _unopened,
) -> Api:
    """Return a Web API with further routes; if no services are given, without database and stores."""
    return Api(
        settings=read_settings(environment or {}),
        services=services,
        now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
        routes=(*ROUTES, *routes),
    )


def as_documented(answered: Answered, method: str, path: str) -> Any:  # noqa: ANN401 - any JSON
    """Return the body of an answer after comparing status, headers and body with the OpenAPI document.

    Args:
        answered: The answer.
        method: The method of its request.
        path: The path of its route, with parameters in braces.
    """
    described = DOCUMENT["paths"][path][method.lower()]["responses"][str(answered.status)]
    [(media_type, content)] = described["content"].items()
    schema = {**content["schema"], "components": DOCUMENT["components"]}
    assert answered.headers["Content-Type"] == media_type
    Draft202012Validator(schema).validate(answered.json)
    assert {"Location", "Link", "ETag"} & answered.headers.keys() <= described.get("headers", {}).keys()
    return answered.json


def is_problem(answered: Answered, status: int, code: str) -> bool:
    """Return whether an answer is this problem, as documented."""
    Draft202012Validator(SCHEMA).validate(answered.json)
    assert answered.headers["Content-Type"] == "application/problem+json"
    assert answered.json["status"] == answered.status
    assert answered.json["request_id"] == "request-1"
    return (answered.status, answered.json["type"]) == (status, f"urn:rollcall:problem:{code}")


def pointers(answered: Answered) -> list[tuple[str, str]]:
    """Return pointer and code of each error."""
    return [(error["pointer"], error["code"]) for error in answered.json["errors"]]
