"""HTTP requests as the events of an HTTP API (payload 2.0), and its answers as HTTP.

The format is in the Amazon API Gateway developer guide, "Create AWS Lambda proxy integrations for HTTP APIs".
"""

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote
from wsgiref.util import FileWrapper

# The bodies of these types are text in an event; all others are base64.
_text_type = re.compile(r"text/.*|application/(json|javascript|xml|.+\+json|.+\+xml)", re.IGNORECASE)

_PIECE_BYTES = 64 * 1024
_WITHOUT_BODY = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})

Environ = Mapping[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]


def headers_of(environ: Environ) -> dict[str, str]:
    """Return the headers of a request, with names in lower case.

    Args:
        environ: The request, as WSGI has it.
    """
    named = {name.removeprefix("HTTP_"): value for name, value in environ.items() if name.startswith("HTTP_")}
    named |= {name: environ[name] for name in ("CONTENT_TYPE", "CONTENT_LENGTH") if environ.get(name)}
    return {name.lower().replace("_", "-"): value for name, value in named.items()}


def path_of(environ: Environ) -> str:
    """Return the path of a request as an event has it.

    API Gateway decodes the path, also an encoded slash, and then ends it before a question mark.

    Args:
        environ: The request, as WSGI has it, with `REQUEST_URI`.
    """
    # `PATH_INFO` does not distinguish an encoded slash from its encoded percent sign.
    encoded, _, _ = environ["REQUEST_URI"].partition("?")
    return unquote(encoded, errors="replace").partition("?")[0]


def event_of(
    environ: Environ, body: bytes, *, request_id: str, at: datetime, authorizer: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the event of a request.

    Args:
        environ: The request, as WSGI has it, with `REQUEST_URI`.
        body: Its body.
        request_id: Identifies the request.
        at: The current time in UTC.
        authorizer: What the authorizer found; None if it found nobody.
    """
    headers = headers_of(environ)
    cookies = [cookie.strip() for cookie in headers.pop("cookie", "").split(";") if cookie.strip()]
    query: dict[str, str] = {}
    for name, value in parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True):
        query[name] = f"{query[name]},{value}" if name in query else value
    path = path_of(environ)
    domain, _, _ = headers.get("host", "").partition(":")
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": environ.get("QUERY_STRING", ""),
        **({"cookies": cookies} if cookies else {}),
        "headers": headers,
        **({"queryStringParameters": query} if query else {}),
        "requestContext": {
            "accountId": "local",
            "apiId": "local",
            **({"authorizer": authorizer} if authorizer else {}),
            "domainName": domain,
            "domainPrefix": domain.partition(".")[0],
            "http": {
                "method": environ["REQUEST_METHOD"],
                "path": path,
                "protocol": environ["SERVER_PROTOCOL"],
                "sourceIp": environ.get("REMOTE_ADDR", ""),
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": request_id,
            "routeKey": "$default",
            "stage": "$default",
            "time": at.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(at.timestamp() * 1000),
        },
        **_body(body, headers.get("content-type", "")),
    }


def send(answer: Mapping[str, Any], method: str, start_response: StartResponse) -> Iterable[bytes]:
    """Send an answer.

    Args:
        answer: As an HTTP API takes it.
        method: The method of the request.
        start_response: As WSGI has it.

    Returns:
        The body.
    """
    status = answer["statusCode"]
    text: str = answer.get("body") or ""
    body = base64.b64decode(text) if answer.get("isBase64Encoded") else text.encode()
    headers = [(name, str(value)) for name, value in (answer.get("headers") or {}).items()]
    headers += [("Set-Cookie", cookie) for cookie in answer.get("cookies") or ()]
    if status not in _WITHOUT_BODY:
        headers.append(("Content-Length", str(len(body))))
    start_response(f"{status} {_phrase(status)}", headers)
    return [] if method == "HEAD" or status in _WITHOUT_BODY else [body]


def send_file(answer: Mapping[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Send an answer whose body is the open `file` in it; the server closes the file.

    Args:
        answer: The status, the headers and the file.
        start_response: As WSGI has it.

    Returns:
        The pieces of the file.
    """
    start_response(f"{answer['statusCode']} {_phrase(answer['statusCode'])}", list(answer["headers"].items()))
    return FileWrapper(answer["file"], _PIECE_BYTES)


def _body(body: bytes, content_type: str) -> dict[str, Any]:
    if not body:
        return {"isBase64Encoded": False}
    media_type, _, _ = content_type.partition(";")
    if _text_type.fullmatch(media_type.strip()):
        try:
            return {"body": body.decode(), "isBase64Encoded": False}
        except UnicodeDecodeError:
            pass
    return {"body": base64.b64encode(body).decode("ascii"), "isBase64Encoded": True}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Status"
