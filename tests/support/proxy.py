"""A proxy for PostgreSQL that breaks a connection at a chosen place in its stream."""

import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Protocol
from urllib.parse import urlencode, urlsplit

import attrs
from psycopg.conninfo import conninfo_to_dict

COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"  # the whole message, as libpq sends it

_PIECE_BYTES = 65536


class Fault(Protocol):
    """Sees every piece of the stream, in order."""

    def __call__(self, piece: bytes, *, from_client: bool) -> bytes | None:
        """Return the part of a piece to forward. The connection is cut after a shorter part, or at None."""
        ...


def nothing(piece: bytes, *, from_client: bool) -> bytes:  # noqa: ARG001 - as every fault
    """Forward everything."""
    return piece


def commit_request_lost(piece: bytes, *, from_client: bool) -> bytes | None:
    """Cut the connection when the client sends its commit. The server does not receive it."""
    return None if from_client and piece == COMMIT else piece


@attrs.define
class CommitReplyLost:
    """Cuts the connection after the server's commit. The client does not receive the reply.

    Attributes:
        before_request: Called before the server receives the commit.
        before_reply: Called after the server's reply.
    """

    before_request: Callable[[], object] = lambda: None
    before_reply: Callable[[], object] = lambda: None
    _asked: bool = False

    def __call__(self, piece: bytes, *, from_client: bool) -> bytes | None:
        """Forward everything except the reply."""
        if from_client and piece == COMMIT:
            self.before_request()
            self._asked = True
        elif self._asked and not from_client:
            self.before_reply()
            return None
        return piece


@attrs.define
class AtByte:
    """Does something after a number of bytes in one direction, and then may cut the connection.

    Attributes:
        byte: The byte before which it happens.
        of_client: Whether the client's bytes are counted, or the server's.
        meanwhile: What it does.
        cuts: Whether the connection is cut.
    """

    byte: int
    of_client: bool
    meanwhile: Callable[[], object] = lambda: None
    cuts: bool = True
    _gone: int = 0
    _done: bool = False

    def __call__(self, piece: bytes, *, from_client: bool) -> bytes | None:
        """Forward everything up to that byte."""
        if from_client is not self.of_client or self._done:
            return piece
        left = self.byte - self._gone
        self._gone += len(piece)
        if left >= len(piece):
            return piece
        self._done = True
        self.meanwhile()
        return piece[:left] if self.cuts else piece


@attrs.define
class Counting:
    """Breaks nothing, and counts the bytes.

    Attributes:
        of_client: Bytes sent by the client.
        of_server: Bytes sent by the server.
    """

    of_client: int = 0
    of_server: int = 0

    def __call__(self, piece: bytes, *, from_client: bool) -> bytes:
        """Forward everything."""
        if from_client:
            self.of_client += len(piece)
        else:
            self.of_server += len(piece)
        return piece


class Proxy:
    """Listens on this machine, and connects each client with a database.

    Attributes:
        url: The database's URL through this proxy.
        fault: The fault of all new connections.
        resets: Whether a cut connection is reset; otherwise it is closed.
    """

    def __init__(self, database_url: str, listening: socket.socket) -> None:
        self.fault: Fault = nothing
        self.resets = False
        self._target = conninfo_to_dict(database_url)
        self._listening = listening
        parts = urlsplit(database_url)
        user = parts.netloc.rpartition("@")[0]
        there = f"{user}@127.0.0.1:{listening.getsockname()[1]}"
        # The proxy could not recognise an encrypted COMMIT.
        plain = urlencode({"sslmode": "disable", "gssencmode": "disable"})
        self.url = parts._replace(netloc=there, query=plain).geturl()

    def serve(self) -> None:
        """Serve one connection after the other in a thread of its own, until the proxy is closed."""
        with ExitStack() as stack:
            while True:
                try:
                    client, _ = self._listening.accept()
                except OSError:
                    break
                thread = threading.Thread(target=self._connect, args=(client, self.fault))
                thread.start()
                stack.callback(thread.join)

    def _connect(self, client: socket.socket, fault: Fault) -> None:
        with suppress(OSError), client, self._server() as server:
            self._carry(client, server, fault)
            if self.resets:
                for one in (client, server):
                    with suppress(OSError):
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _carry(self, client: socket.socket, server: socket.socket, fault: Fault) -> None:
        while True:
            for side in select.select([client, server], [], [])[0]:
                piece = side.recv(_PIECE_BYTES)
                passed = fault(piece, from_client=side is client) if piece else None
                if passed:
                    (server if side is client else client).sendall(passed)
                if passed is None or len(passed) < len(piece):
                    return

    def _server(self) -> socket.socket:
        host, port = str(self._target.get("host") or "localhost"), int(self._target.get("port") or 5432)
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(f"{host}/.s.PGSQL.{port}")
        return connection


@contextmanager
def proxy_before(database_url: str) -> Iterator[Proxy]:
    """Run a proxy for a database. All connections must be closed at the end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        proxy = Proxy(database_url, listening)
        thread = threading.Thread(target=proxy.serve)
        thread.start()
        try:
            yield proxy
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
