"""The Web API behind HTTP on this machine: the local twin of API Gateway.

cheroot gives an application the body of a request while it arrives. waitress would write the whole body to a file
first, and closes the connection of a client that sends too much before the client has read the answer.
"""

import errno
import hmac
import ipaddress
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTP_PORT
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

import attrs
from cheroot import wsgi
from cheroot.server import HTTPConnection, HTTPRequest

from rollcall.application.errors import FormRefusedError
from rollcall.application.forms import FORM_PATH
from rollcall.application.import_users import ImportUsers
from rollcall.application.values import ListedObject
from rollcall.bootstrap.web import Local
from rollcall.domain.errors import RollcallError
from rollcall.domain.rejection import Code
from rollcall.domain.upload import WEB_FOLDER, ObjectReference
from rollcall.entrypoints.api import HEADERS, Api
from rollcall.entrypoints.api.problems import MEDIA_TYPE, Problem, RequestCode, of_error
from rollcall.entrypoints.callers import LOCAL_CALLER, Caller
from rollcall.entrypoints.lambda_runtime import logger, private_error_fields
from rollcall.entrypoints.serve.events import (
    Environ,
    StartResponse,
    event_of,
    headers_of,
    path_of,
    send,
    send_file,
)
from rollcall.entrypoints.serve.forms import MAX_FORM_BYTES, Receive, receive_form
from rollcall.entrypoints.serve.worker import Job, Worker

__all__ = [
    "Served",
    "Waiting",
    "Worker",
    "is_loopback",
    "listening",
    "local_caller",
    "reason",
    "serve",
]


_THREADS = 16
_WAITING_CONNECTIONS = 256
_IDLE_SECONDS = 10  # a client that sends or takes nothing for so long is disconnected
_END_SECONDS = 5
# The times of an HTTP API: for a request to arrive, apart from a file, and for its answer.
_ARRIVE_SECONDS = 30.0
_TURN_SECONDS = 30.0
_CHUNK_BYTES = 64 * 1024
_MAX_HEAD_BYTES = 64 * 1024  # the first line and the headers of a request
_TOO_LONG = frozenset({HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.REQUEST_URI_TOO_LONG})
_METHODS_THAT_READ = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS = _METHODS_THAT_READ | {"POST", "PUT", "PATCH", "DELETE"}
# The statuses with which S3 answers a form, if the form asks for them.
_FORM_STATUSES = frozenset({"200", "201", "204"})


class CannotListenError(RollcallError):
    """The address cannot be used."""

    def __init__(self, host: str, port: int, *, in_use: bool) -> None:
        reason = "another program uses it" if in_use else "the system does not allow it"
        super().__init__(f"cannot listen at {host}:{port}: {reason}; give another --port, or 0 for a free one")


def is_loopback(host: str) -> bool:
    """Return whether a text is an IPv4 address that only this machine reaches."""
    try:
        return ipaddress.IPv4Address(host).is_loopback
    except ValueError:
        return False


def local_caller(event: Mapping[str, Any]) -> Caller | None:
    """Return the person at this machine if `Served` found the token in a request."""
    return LOCAL_CALLER if event["requestContext"].get("authorizer") else None


@attrs.frozen(kw_only=True, eq=False)
class Served:
    """A WSGI application that answers with the Web API.

    Attributes:
        api: The Web API, which finds its caller by `local_caller`.
        token: What a caller must know.
        host: The address that it listens at.
        port: The port that it listens at.
        receive: Takes the fields and the file of an upload; None if there is no inbox.
        max_upload_bytes: The largest size of a file.
        log: Takes a line about each request, which shows no key, no query and no body.
        changed: Called when a file was stored that waits for its check or its import.
    """

    api: Api
    token: str
    host: str
    port: int
    receive: Receive | None = None
    max_upload_bytes: int
    log: Callable[[str], object]
    changed: Callable[[], object] = lambda: None
    # Powertools keeps the current event in a class, see `Api`.
    _turn: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    @property
    def address(self) -> str:
        """The beginning of every address."""
        return f"http://{self.host}:{self.port}"

    @property
    def has_page(self) -> bool:
        """Whether there is something for a browser."""
        return any(route.has_path("/") for route in self.api.routes)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        began = time.monotonic()
        request_id = uuid.uuid4().hex
        body = _Body.of(environ)
        try:
            answer = self._answer(environ, body, request_id)
        except (TimeoutError, ConnectionError):
            raise  # the client stopped sending; the server disconnects it
        except Exception as error:  # noqa: BLE001 - every other failure is an answer
            answer = _answer_error(error, request_id)
        # A client that is still sending does not read the answer, and takes a closed connection for a failure.
        body.discard()
        method = environ["REQUEST_METHOD"]
        self.log(
            f"{method if method in _METHODS else '-'} {self._route(path_of(environ))} {answer['statusCode']}"
            f" {(time.monotonic() - began) * 1000:.0f} ms"
        )
        return send_file(answer, start_response) if "file" in answer else send(answer, method, start_response)

    def _answer(self, environ: Environ, body: "_Body", request_id: str) -> dict[str, Any]:
        headers = headers_of(environ)
        host = headers.get("host", "").lower()
        if host not in self._hosts:
            # A page of another host whose name leads to this machine must not read any answer.
            raise Problem(
                HTTPStatus.MISDIRECTED_REQUEST,
                RequestCode.WRONG_HOST,
                f"this is {self.host}:{self.port}; ask it by that name",
            )
        method = environ["REQUEST_METHOD"]
        if method not in _METHODS_THAT_READ and headers.get("origin", f"http://{host}") != f"http://{host}":
            raise Problem(
                HTTPStatus.FORBIDDEN,
                RequestCode.FOREIGN_ORIGIN,
                "a page of another origin must not change anything",
            )
        if "transfer-encoding" in headers:
            raise Problem(
                HTTPStatus.LENGTH_REQUIRED, RequestCode.LENGTH_REQUIRED, "send the body with its Content-Length"
            )
        if self.receive and (method, path_of(environ)) == ("POST", FORM_PATH):
            return self._take(self.receive, headers, body)
        body.require_at_most(max(route.max_body_bytes for route in self.api.routes))
        event = event_of(
            environ,
            body.read(),
            request_id=request_id,
            at=self.api.now(),
            authorizer={"lambda": {"caller": LOCAL_CALLER.id}} if self._knows_token(headers) else None,
        )
        if not self._turn.acquire(timeout=_TURN_SECONDS):
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE, RequestCode.UNAVAILABLE, "other requests take too long; try again"
            )
        try:
            answer = self.api(event, None)
        finally:
            self._turn.release()
        if answer["statusCode"] == HTTPStatus.ACCEPTED:
            self.changed()
        location = answer.get("headers", {}).get("Location", "")
        return _with_file(answer, location) if location.startswith("file:") else answer

    def _take(self, receive: Receive, headers: Mapping[str, str], body: "_Body") -> dict[str, Any]:
        """Take an upload, outside of the turn. Its form is signed, so it needs no token, as in S3."""
        body.require_at_most(self.max_upload_bytes + MAX_FORM_BYTES)
        try:
            fields = receive_form(headers.get("content-type", ""), body.length, body.read, receive)
        except FormRefusedError as error:
            if error.too_long:
                raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, Code.SIZE_LIMIT, str(error)) from None
            raise Problem(HTTPStatus.FORBIDDEN, RequestCode.FORM_REFUSED, str(error)) from None
        self.changed()
        status = fields.get("success_action_status", "")
        return {
            "statusCode": int(status) if status in _FORM_STATUSES else HTTPStatus.NO_CONTENT,
            "headers": HEADERS,
        }

    @property
    def _hosts(self) -> frozenset[str]:
        names = {self.host, "localhost"}
        return frozenset({f"{name}:{self.port}" for name in names} | (names if self.port == HTTP_PORT else set()))

    def _knows_token(self, headers: Mapping[str, str]) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        known = hmac.compare_digest(token.strip().encode(), self.token.encode())
        return known and scheme.lower() == "bearer"

    def _route(self, path: str) -> str:
        """Return the path of a route with the names of its parameters instead of their values."""
        routes = (route.path for route in self.api.routes if route.has_path(path))
        return FORM_PATH if path == FORM_PATH else next(routes, "-")


@attrs.define(eq=False)
class _Body:
    """The body of a request, which is read while it arrives.

    Attributes:
        length: Its length in bytes, as the request says; 0 if the request does not.
    """

    length: int
    _stream: BinaryIO
    _left: float  # bytes
    _deadline: float = attrs.field(factory=lambda: time.monotonic() + _ARRIVE_SECONDS)

    @classmethod
    def of(cls, environ: Environ) -> "_Body":
        length = max(0, int(environ.get("CONTENT_LENGTH") or 0))
        # Without a length, the end is where the stream says.
        return cls(length, environ["wsgi.input"], float("inf") if "HTTP_TRANSFER_ENCODING" in environ else length)

    def require_at_most(self, size: int) -> None:
        """Check the length.

        Raises:
            Problem: The body is too large.
        """
        if self.length > size:
            raise Problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                Code.SIZE_LIMIT,
                f"the body has {self.length:,} bytes; send at most {size:,}",
            )

    def read(self, size: int = -1) -> bytes:
        """Read a part of the body, or all of it; empty at its end, or where it is cut off.

        Raises:
            TimeoutError: The client sends nothing, or all of the body takes too long.
        """
        if size >= 0:
            # cheroot's stream takes a size of 0 for all that is left.
            data = self._stream.read(int(min(size, self._left))) if self._left else b""
            self._left = self._left - len(data) if data else 0
            return data
        parts = []
        while data := self.read(_CHUNK_BYTES):
            self._require_time()
            parts.append(data)
        return b"".join(parts)

    def discard(self) -> None:
        """Read what is left of the body.

        Raises:
            TimeoutError: The client sends nothing, or the rest takes too long.
        """
        self._deadline = time.monotonic() + _ARRIVE_SECONDS
        while self.read(_CHUNK_BYTES):
            self._require_time()

    def _require_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise TimeoutError("timed out")  # the server knows a timeout by these words


def _answer_error(error: Exception, request_id: str) -> dict[str, Any]:
    problem = of_error(error)
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("a request failed", extra={"request_id": request_id, **private_error_fields(error)})
    return _problem_answer(problem, request_id)


def _problem_answer(problem: Problem, request_id: str) -> dict[str, Any]:
    return {
        "statusCode": problem.status.value,
        "headers": {**HEADERS, "Content-Type": MEDIA_TYPE, **problem.headers},
        "body": json.dumps(problem.as_dict(request_id)),
    }


class _Request(HTTPRequest):
    """cheroot's request. What cheroot itself does not accept is answered with a problem, too."""

    def simple_response(self, status: str, msg: str = "") -> None:  # noqa: ARG002 - it might show a part of the request
        number = HTTPStatus(int(status[:3]))
        code: RequestCode | Code = RequestCode.INVALID_REQUEST
        detail = "the request is no HTTP that this server takes"
        if number in _TOO_LONG:
            code, detail = (
                Code.SIZE_LIMIT,
                f"address and headers are too long; send {_MAX_HEAD_BYTES:,} bytes at most",
            )
        elif number is HTTPStatus.INTERNAL_SERVER_ERROR:
            code, detail = RequestCode.INTERNAL_ERROR, "the connection failed"
        answer = _problem_answer(Problem(number, code, detail, headers={"Connection": "close"}), uuid.uuid4().hex)
        self.close_connection = True

        def start(status: str, headers: list[tuple[str, str]]) -> None:
            lines = [f"{self.server.protocol} {status}", *(": ".join(header) for header in headers), "", ""]
            self.conn.wfile.write("\r\n".join(lines).encode("latin-1"))

        for piece in send(answer, "", start):
            self.conn.wfile.write(piece)


class _Connection(HTTPConnection):
    RequestHandlerClass = _Request


class _Server(wsgi.Server):
    """cheroot's server. The text of an error might show a part of a request, so it is not logged."""

    ConnectionClass = _Connection
    max_request_header_size = _MAX_HEAD_BYTES

    def bind(self, family: object, type: object, proto: int = 0) -> None:  # noqa: A002, ARG002 - as cheroot calls it
        host, port = self.bind_addr
        try:
            self.socket = socket.create_server((host, port), backlog=_WAITING_CONNECTIONS)
        except OSError as error:
            raise CannotListenError(host, port, in_use=error.errno == errno.EADDRINUSE) from error
        self.bind_addr = self.socket.getsockname()

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - as cheroot calls it
        if level >= logging.ERROR:
            logger.error("a connection failed")


@contextmanager
def listening(host: str, port: int) -> Iterator[_Server]:
    """Listen at an address; connections wait until the server has its application and serves.

    Args:
        host: A loopback address.
        port: The port; 0 for any that is free.

    Yields:
        The server, whose `bind_addr` has the real port; it is stopped at the end.

    Raises:
        CannotListenError: Another program uses the port, or the system denies it.
    """
    server = _Server(
        (host, port),
        None,
        numthreads=_THREADS,
        request_queue_size=_WAITING_CONNECTIONS,
        timeout=_IDLE_SECONDS,
        shutdown_timeout=_END_SECONDS,
    )
    try:
        server.prepare()
        yield server
    finally:
        server.stop()
        server.requests.stop(_END_SECONDS)  # also if an interrupt came while its threads started


def serve(server: _Server, application: Served) -> None:
    """Answer requests until this thread is interrupted, and let those end that are under way.

    Args:
        server: The server, which listens.
        application: What answers.
    """
    server.wsgi_app = application
    # In a thread of its own: an interrupt inside of it could lose a connection that it has just taken.
    serving = threading.Thread(target=server.serve)
    serving.start()
    try:
        serving.join()
    finally:
        server.stop()
        serving.join()


def reason(error: Exception) -> str:
    """Return why a job failed, without the name of a file or a cell."""
    fields = private_error_fields(error)
    return fields["reason"] or f"a job failed: {fields['error']}"


def _with_file(answer: Mapping[str, Any], location: str) -> dict[str, Any]:
    """Return an answer with the open file that it names. On AWS it names one in S3; a browser follows no file:.

    Raises:
        Problem: The file is gone.
    """
    path = Path(url2pathname(urlsplit(location).path))
    try:
        file = path.open("rb")
    except OSError:
        raise Problem(HTTPStatus.NOT_FOUND, RequestCode.NOT_FOUND, "the file was removed") from None
    headers = {
        **answer["headers"],
        "Content-Type": "text/csv",
        "Content-Disposition": f'attachment; filename="{path.name}"',
        "Content-Length": str(os.fstat(file.fileno()).st_size),
    }
    del headers["Location"]
    return {"statusCode": HTTPStatus.OK, "headers": headers, "file": file}


@attrs.frozen(eq=False)
class Waiting:
    """Finds the files that wait for a check or an import, as the queues of AWS announce them.

    Every file is found once. One that was left by an earlier program is found again; its check is stored again,
    and the ledger skips its import.
    """

    _local: Local
    _found: set[ListedObject] = attrs.field(factory=set, init=False)

    def jobs(self) -> Iterator[Job]:
        """Yield a job for each file that was not found before."""
        stores, local = self._local.stores, self._local
        for store, use_case in ((stores.inbox, local.check), (stores.uploads, local.import_users)):
            for listed in store.list(WEB_FOLDER):
                if listed not in self._found:
                    self._found.add(listed)
                    yield _job(use_case, listed.reference)


def _job(use_case: ImportUsers, reference: ObjectReference) -> Job:
    return lambda go_on: use_case(reference, progress=lambda _: go_on())
