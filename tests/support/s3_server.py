"""A server that answers like S3, and can be made to fail."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import attrs
from boto3.session import Session
from botocore.config import Config

from rollcall.adapters.s3 import S3ObjectStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

STALLED_SECONDS = 5
READ_TIMEOUT_SECONDS = 0.3


@cache
def _session() -> Session:
    """Read boto3's service descriptions once, because that takes longer than many a test."""
    return Session()


@attrs.frozen
class Stored:
    """One version of one object."""

    data: bytes
    version: str

    @property
    def etag(self) -> str:
        """Its ETag, quoted."""
        return f'"{hashlib.md5(self.data, usedforsecurity=False).hexdigest()}"'


Breaking = Callable[["Request"], bool]


@attrs.define
class S3Server:
    """Buckets, and the faults of the server.

    Attributes:
        versioned: Whether its answers name the version.
        breaking: Sees each request, and returns whether it answered that request.
        ignores_conditions: Whether it ignores the requested version and ETag.
    """

    versioned: bool = True
    breaking: Breaking = lambda _: False
    ignores_conditions: bool = False
    port: int = 0
    _objects: dict[str, list[Stored]] = attrs.Factory(dict)
    _clients: "dict[int, S3Client]" = attrs.Factory(dict)
    _lock: threading.Lock = attrs.Factory(threading.Lock)

    def put(self, path: str, data: bytes) -> Stored:
        """Store another version of an object."""
        with self._lock:
            versions = self._objects.setdefault(path, [])
            versions.append(Stored(data, f"v{len(versions) + 1}"))
            return versions[-1]

    def delete(self, path: str) -> None:
        """Remove an object with all its versions."""
        with self._lock:
            self._objects.pop(path, None)

    def forget(self, prefix: str) -> None:
        """Remove all objects below a prefix."""
        with self._lock:
            for path in [path for path in self._objects if path.startswith(prefix)]:
                del self._objects[path]

    def find(self, path: str, version: str | None = None) -> Stored | None:
        """Return a version of an object, or the newest one."""
        with self._lock:
            found = self._objects.get(path, [])
            wanted = [stored for stored in found if version in {None, stored.version}]
            return wanted[-1] if wanted else None

    def read(self, address: str) -> bytes:
        """Return the content at an address."""
        found = self.find(address.removeprefix("s3://"))
        if not found:
            raise FileNotFoundError(address)
        return found.data

    def store(self, bucket: str, *, tries: int = 1) -> S3ObjectStore:
        """Return a store on one of the buckets that gives up early."""
        with self._lock:
            if tries not in self._clients:
                soon = Config(
                    connect_timeout=2,
                    read_timeout=READ_TIMEOUT_SECONDS,
                    retries={"mode": "standard", "total_max_attempts": tries},
                )
                endpoint = f"http://127.0.0.1:{self.port}"
                self._clients[tries] = _session().client("s3", endpoint_url=endpoint, config=soon)
            return S3ObjectStore(bucket, "", self._clients[tries])

    def close(self) -> None:
        """Close the clients."""
        for s3 in self._clients.values():
            s3.close()


class Request(BaseHTTPRequestHandler):
    """One request, and the possible answers to it."""

    s3: S3Server
    stopped: threading.Event
    body = b""

    @property
    def object_path(self) -> str:
        """Bucket and key of the request."""
        return unquote(urlsplit(self.path).path).lstrip("/")

    def do_PUT(self) -> None:
        """Store an object."""
        self.body = self._received()
        if self.s3.breaking(self):
            return
        stored = self.s3.put(self.object_path, self.body)
        self.answer(200, b"", ETag=stored.etag)

    def do_GET(self) -> None:
        """Return an object."""
        if self.s3.breaking(self):
            return
        [version] = parse_qs(urlsplit(self.path).query).get("versionId", [None])
        wanted = self.headers.get("If-Match")
        if self.s3.ignores_conditions:
            version = wanted = None
        found = self.s3.find(self.object_path, version)
        if not found:
            self.refuse(404, "NoSuchKey")
        elif wanted not in {None, found.etag}:
            self.refuse(412, "PreconditionFailed")
        else:
            self.answer(200, found.data, **self.describing(found))

    def describing(self, found: Stored) -> dict[str, str]:
        """Headers that S3 sends for an object."""
        version = {"x-amz-version-id": found.version} if self.s3.versioned else {}
        return {"ETag": found.etag, "Last-Modified": "Mon, 23 Nov 2026 07:00:00 GMT", **version}

    def refuse(self, status: int, code: str) -> None:
        """Answer with an error of S3."""
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>No.</Message></Error>".encode()
        self.answer(status, body)

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        """Send a complete answer."""
        self.begin(status, {**headers, "Content-Length": str(len(body))})
        self.wfile.write(body)

    def begin(self, status: int, headers: dict[str, str]) -> None:
        """Send status and headers, and close the connection after the body."""
        self.send_response(status)
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True

    def stall(self) -> None:
        """Send nothing for as long as the client waits."""
        self.stopped.wait(STALLED_SECONDS)

    def log_message(self, *_: Any) -> None:  # noqa: ANN401 - as it was
        """Log nothing."""

    def _received(self) -> bytes:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return _without_chunks(data) if "aws-chunked" in self.headers.get("Content-Encoding", "") else data


def _without_chunks(data: bytes) -> bytes:
    """Decode a body that boto3 sent in chunks, with its checksum at the end."""
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size.split(b";")[0], 16)
        if not length:
            break
        body, data = body + data[:length], data[length + 2 :]
    return body


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Run the server on this machine."""
    s3, stopped = S3Server(), threading.Event()
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), type("Request", (Request,), {"s3": s3, "stopped": stopped})
    ) as server:
        server.daemon_threads = True
        server.block_on_close = False
        s3.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hangs up is no error
        try:
            yield s3
        finally:
            stopped.set()
            s3.close()
            server.shutdown()
            thread.join()
