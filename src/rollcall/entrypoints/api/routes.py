"""The declaration of a route. The resolver and the OpenAPI document derive from the same declarations."""

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

import attrs

from rollcall.entrypoints.callers import Caller, Scope

if TYPE_CHECKING:
    from rollcall.entrypoints.api import Api

JSON = "application/json"

Schema = Mapping[str, Any]  # a JSON Schema, 2020-12

# What fits into one record, so no row of a body is too long for a file.
MAX_BODY_BYTES = 1024 * 1024

_parameter = re.compile(r"\{(\w+)\}")


def closed_object(properties: Mapping[str, Any]) -> Schema:
    """Return the JSON Schema of an object with exactly these members."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


@attrs.frozen(kw_only=True)
class Request:
    """A request that has the declared form.

    Attributes:
        caller: The caller, who has a scope of the route; `NOBODY` if the route has none.
        parameters: The parameters that were sent, by name; integers as numbers.
        body: The body, read from JSON; None if the route has none.
        request_id: Identifies the request in the log.
    """

    caller: Caller
    parameters: Mapping[str, Any]
    body: Any
    request_id: str


@attrs.frozen(kw_only=True)
class Answer:
    """The answer of a route.

    Attributes:
        status: One of the statuses that the route declares.
        body: A value that JSON has, or the text of a file; None for no body.
        media_type: The media type of the body.
        headers: Further headers.
    """

    status: HTTPStatus = HTTPStatus.OK
    body: Any = None
    media_type: str = JSON
    headers: Mapping[str, str] = attrs.Factory(dict)


@attrs.frozen(kw_only=True)
class Parameter:
    """A parameter of a route.

    Attributes:
        name: Its name. In the path, it stands in braces.
        place: Where it is.
        schema: Its JSON Schema; of the type "string" or "integer".
        description: What it means.
        required: Whether it must be sent. In the path, it always is.
    """

    name: str
    place: Literal["path", "query", "header"]
    schema: Schema
    description: str
    required: bool = False


@attrs.frozen(kw_only=True, slots=False)
class Route:
    """A route of the Web API.

    Attributes:
        method: The HTTP method.
        path: The path, with each parameter in braces: /api/imports/{id}.
        scope: What a caller needs; None if the route answers anybody.
        other_scope: Another scope that is enough; None if there is none.
        name: Identifies the route in the OpenAPI document.
        summary: What the route does.
        answer: Answers a request; raises `Problem` or a `RollcallError`.
        parameters: The parameters; a request with others is refused.
        body: The JSON Schema of the body; None if the route has none. See `bodies.errors_in` for its keywords.
        max_body_bytes: The largest size of the body.
        answers: The JSON Schema of the body of each answer that is no problem; None for no body.
        media_types: The media types that these bodies may have.
        headers: Further headers that such an answer may have, and what each means.
        problems: The statuses of the route's own problems.
        revalidates: Whether the answer has an ETag, by which a client asks whether it changed.
        ignores_query: Whether unknown parameters in the query are ignored and not refused.
    """

    method: str
    path: str
    scope: Scope | None
    other_scope: Scope | None = None
    name: str
    summary: str
    answer: "Callable[[Api, Request], Answer]"
    parameters: tuple[Parameter, ...] = ()
    body: Schema | None = None
    max_body_bytes: int = MAX_BODY_BYTES
    answers: Mapping[HTTPStatus, Schema | None]
    media_types: tuple[str, ...] = (JSON,)
    headers: Mapping[str, str] = attrs.Factory(dict)
    problems: frozenset[HTTPStatus] = frozenset()
    revalidates: bool = False
    ignores_query: bool = False

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The scopes; a caller needs one of them."""
        return tuple(scope for scope in (self.scope, self.other_scope) if scope)

    @property
    def rule(self) -> str:
        """The path as Powertools takes it: a regular expression with each parameter in angle brackets."""
        # Powertools ends the expression with `$`, which would allow a line end.
        return _parameter.sub(r"<\1>", self.path.replace(".", r"\.")) + r"\Z"

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(_parameter.sub("[^/]+", self.path.replace(".", r"\.")))

    def has_path(self, path: str) -> bool:
        """Return whether a path is the route's."""
        return self._pattern.fullmatch(path) is not None

    @property
    def all_problems(self) -> frozenset[HTTPStatus]:
        """The statuses of all problems that the route may answer."""
        found = {*self.problems, HTTPStatus.BAD_REQUEST, HTTPStatus.INTERNAL_SERVER_ERROR}
        if self.scope:
            found |= {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
        if self.body is not None:
            found |= {HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE}
        if any(parameter.place == "path" for parameter in self.parameters):
            found.add(HTTPStatus.NOT_FOUND)
        return frozenset(found)
