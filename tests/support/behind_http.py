"""A function of the Web API behind HTTP, as API Gateway puts it there."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, cast

import attrs

from rollcall.bootstrap import now
from rollcall.entrypoints.api import ROUTES, Api
from rollcall.entrypoints.api.routes import Route
from rollcall.entrypoints.serve import Served, listening, serve
from support.api_events import token

TOKEN = "token"  # noqa: S105 - of a server that lives for one test
_SECONDS = 30


@attrs.frozen
class _Function:
    """A function in the place of an `Api`."""

    invoke: Callable[[dict[str, Any]], dict[str, Any]]
    routes: tuple[Route, ...] = ROUTES

    def __call__(self, event: Mapping[str, Any], _context: object) -> dict[str, Any]:
        request = dict(event["requestContext"])
        if request.pop("authorizer", None):
            request["authorizer"] = token()
        return self.invoke({**event, "requestContext": request})

    def now(self) -> datetime:
        return now()


@contextmanager
def behind_http(invoke: Callable[[dict[str, Any]], dict[str, Any]], log: Callable[[str], object]) -> Iterator[str]:
    """Serve a function to callers with `TOKEN`, and yield the beginning of its addresses.

    Args:
        invoke: Invokes the function with the event of an HTTP API.
        log: Takes a line about each request.
    """
    with listening("127.0.0.1", 0) as server:
        served = Served(
            api=cast("Api", _Function(invoke)),
            token=TOKEN,
            host="127.0.0.1",
            port=server.bind_addr[1],
            max_upload_bytes=0,
            log=log,
        )
        thread = threading.Thread(target=serve, args=(server, served))
        thread.start()
        try:
            yield served.address
        finally:
            server.stop()
            thread.join(_SECONDS)
