"""Pages of a collection: each begins behind the last item of the page before, and names the next page."""

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from rollcall.entrypoints.api.routes import Answer, Parameter, Request, Schema, closed_object

LARGEST_ID = 10**18 - 1  # what `bodies` reads as a number
DEFAULT_LIMIT = 100

# Lambda takes 6 MB, in which each quote and backslash has another backslash. A receipt alone has at most 3 MiB.
PAGE_BYTES = 3 * 1024**2

LIMIT = Parameter(
    name="limit",
    place="query",
    schema={"type": "integer", "minimum": 1, "maximum": 1000, "default": DEFAULT_LIMIT},
    description="The largest number of items; a page of large items has fewer",
)
HEADERS = {"Link": 'The next page, with rel="next"; missing on the last page'}


def after(description: str) -> Parameter:
    """Return the parameter that names the last item of the page before."""
    schema = {"type": "integer", "minimum": 0, "maximum": LARGEST_ID}
    return Parameter(name="after", place="query", schema=schema, description=description)


def limit_of(request: Request) -> int:
    """Return the largest number of items that a request asks for."""
    return int(request.parameters.get("limit", DEFAULT_LIMIT))


def page_of(request: Request, path: str, name: str, found: Iterable[tuple[int, Any]]) -> Answer:
    """Answer with a page. A page has at least one item, and with it at most `PAGE_BYTES`.

    Args:
        request: The request, with the query's parameters.
        path: Its path.
        name: The name of the items.
        found: The position of each item, and the item as values that JSON has. If there is a next page, they are
            more than fit.
    """
    items: list[Any] = []
    size = last = 0
    following = None
    for position, item in found:
        size += len(json.dumps(item))
        if len(items) == limit_of(request) or (items and size > PAGE_BYTES):
            following = f"{path}?{urlencode({**request.parameters, 'after': last})}"
            break
        items.append(item)
        last = position
    headers = {"Link": f'<{following}>; rel="next"'} if following else {}
    return Answer(body={name: items, "next": following}, headers=headers)


def page_schema(name: str, item: Schema) -> Schema:
    """Return the JSON Schema of a page."""
    return closed_object(
        {
            name: {"type": "array", "items": item},
            "next": {
                "type": ["string", "null"],
                "description": "The address of the next page; null on the last page",
            },
        }
    )
