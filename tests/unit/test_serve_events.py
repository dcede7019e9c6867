"""Requests as events of payload 2.0 and back, as in the examples of the API Gateway developer guide."""

import base64
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.entrypoints.serve.events import event_of, headers_of, send

AT = datetime(2020, 3, 12, 19, 3, 58, tzinfo=UTC)

_tokens = st.text("abcdefghijklmnopqrstuvwxyzABC0123456789-", min_size=1, max_size=10)
_header_names = _tokens.filter(lambda name: name.lower() not in {"cookie", "content-type", "content-length"})
_visible = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=";,"), max_size=10)
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)


def _environ(uri: str = "/", method: str = "GET", **more: str) -> dict[str, Any]:
    _, _, query = uri.partition("?")
    return {
        "REQUEST_METHOD": method,
        "REQUEST_URI": uri,
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        **more,
    }


def _event(environ: dict[str, Any], body: bytes = b"") -> dict[str, Any]:
    event = event_of(environ, body, request_id="id", at=AT, authorizer=None)
    assert json.loads(json.dumps(event)) == event
    return event


def test_an_event_is_as_api_gateway_documents_it() -> None:
    environ = _environ(
        "/my/path?parameter1=value1&parameter1=value2&parameter2=value",
        "POST",
        HTTP_HOST="id.execute-api.us-east-1.amazonaws.com",
        HTTP_HEADER1="value1",
        HTTP_HEADER2="value1,value2",
        HTTP_USER_AGENT="agent",
        HTTP_COOKIE="cookie1=a; cookie2=b",
        CONTENT_TYPE="text/plain",
    )

    event = event_of(environ, b"Hello", request_id="id", at=AT, authorizer={"lambda": {"key": "value"}})

    assert event == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/my/path",
        "rawQueryString": "parameter1=value1&parameter1=value2&parameter2=value",
        "cookies": ["cookie1=a", "cookie2=b"],
        "headers": {
            "host": "id.execute-api.us-east-1.amazonaws.com",
            "header1": "value1",
            "header2": "value1,value2",
            "user-agent": "agent",
            "content-type": "text/plain",
        },
        "queryStringParameters": {"parameter1": "value1,value2", "parameter2": "value"},
        "requestContext": {
            "accountId": "local",
            "apiId": "local",
            "authorizer": {"lambda": {"key": "value"}},
            "domainName": "id.execute-api.us-east-1.amazonaws.com",
            "domainPrefix": "id",
            "http": {
                "method": "POST",
                "path": "/my/path",
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "agent",
            },
            "requestId": "id",
            "routeKey": "$default",
            "stage": "$default",
            "time": "12/Mar/2020:19:03:58 +0000",
            "timeEpoch": 1584039838000,
        },
        "body": "Hello",
        "isBase64Encoded": False,
    }


@given(st.binary(max_size=100), st.sampled_from(["application/json", "text/csv", "image/png", ""]))
def test_the_body_arrives(body: bytes, media_type: str) -> None:
    event = _event(_environ(method="POST", CONTENT_TYPE=f"{media_type}; charset=utf-8"), body)

    sent = event.get("body", "")
    assert (base64.b64decode(sent) if event["isBase64Encoded"] else sent.encode()) == body
    assert event["isBase64Encoded"] or media_type != "image/png" or not body


@given(st.lists(st.tuples(_texts, _texts), max_size=5))
def test_the_query_arrives_encoded_and_decoded(pairs: list[tuple[str, str]]) -> None:
    event = _event(_environ(f"/?{urlencode(pairs)}"))

    expected: dict[str, list[str]] = {}
    for name, value in pairs:
        expected.setdefault(name, []).append(value)
    assert event["rawQueryString"] == urlencode(pairs)
    assert event.get("queryStringParameters", {}) == {name: ",".join(found) for name, found in expected.items()}


@given(st.lists(_texts.filter(lambda part: "?" not in part), max_size=4))
def test_the_path_arrives_decoded(parts: list[str]) -> None:
    event = _event(_environ("/" + "/".join(quote(part, safe="") for part in parts)))

    assert event["rawPath"] == event["requestContext"]["http"]["path"] == "/" + "/".join(parts)


@pytest.mark.parametrize(
    ("sent", "path"),
    [
        ("/a%2Fb", "/a/b"),
        ("/a%252Fb", "/a%2Fb"),
        ("/a/", "/a/"),
        ("/a%3Fb", "/a"),
        ("/%ff", "/\ufffd"),
        ("*", "*"),
    ],
)
def test_a_path_is_decoded_once(sent: str, path: str) -> None:
    assert _event(_environ(sent))["rawPath"] == path


@given(st.dictionaries(_header_names.map(str.lower), _visible, max_size=5))
def test_header_names_arrive_in_lower_case(headers: dict[str, str]) -> None:
    named = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}

    assert headers_of(_environ(**named)) == headers


@given(st.lists(st.builds("{}={}".format, _tokens, _visible), max_size=4))
def test_cookies_arrive_one_by_one(cookies: list[str]) -> None:
    event = _event(_environ(HTTP_COOKIE="; ".join(cookies)))

    assert event.get("cookies", []) == cookies
    assert "cookie" not in event["headers"]


@given(
    st.sampled_from([200, 404, 799]),
    st.dictionaries(_tokens, _visible, max_size=4),
    st.lists(_visible, max_size=3),
    st.binary(max_size=50),
)
def test_an_answer_is_sent(status: int, headers: dict[str, str], cookies: list[str], body: bytes) -> None:
    answer = {
        "statusCode": status,
        "headers": headers,
        "cookies": cookies,
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }
    started: list[Any] = []

    sent = b"".join(send(answer, "GET", lambda line, found: started.extend([line, found])))

    assert sent == body
    assert started[0].partition(" ")[0] == str(status)
    assert started[1] == [
        *headers.items(),
        *(("Set-Cookie", cookie) for cookie in cookies),
        ("Content-Length", str(len(body))),
    ]


@pytest.mark.parametrize(("status", "method"), [(204, "POST"), (304, "GET"), (200, "HEAD")])
def test_some_answers_have_no_body(status: int, method: str) -> None:
    assert list(send({"statusCode": status, "body": "text"}, method, lambda _line, _headers: None)) == []
