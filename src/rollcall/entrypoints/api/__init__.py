"""The Web API: from the events of an HTTP API (payload 2.0) to use cases, without AWS."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import attrs
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError

from rollcall.bootstrap.services import Services
from rollcall.entrypoints.api import corrections, imports, openapi, page, policy, rows, uploads, users
from rollcall.entrypoints.api.bodies import not_found, read_body, read_parameters, resolved
from rollcall.entrypoints.api.problems import MEDIA_TYPE, Problem, RequestCode, of_error
from rollcall.entrypoints.api.routes import JSON, Request, Route, Schema
from rollcall.entrypoints.callers import NOBODY, Caller, Scope, caller_of
from rollcall.entrypoints.lambda_runtime import logger, private_error_fields
from rollcall.settings import Settings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

ROUTES: tuple[Route, ...] = (
    *policy.ROUTES,
    *rows.ROUTES,
    *users.ROUTES,
    *imports.ROUTES,
    *uploads.ROUTES,
    *corrections.ROUTES,
    *openapi.ROUTES,
    *page.ROUTES,
)

# Answers may show cells, and are never a page.
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@attrs.frozen(kw_only=True, eq=False)
class Api:
    """Answers requests. It is not safe for threads, because Powertools keeps the current event in a class.

    Attributes:
        settings: The settings.
        services: Returns the use cases that need a database or a store.
        now: The clock.
        caller_of: Returns the caller of an event, or None.
        routes: What it answers.
    """

    settings: Settings
    services: Callable[[], Services]
    now: Callable[[], datetime]
    caller_of: Callable[[Mapping[str, Any]], Caller | None] = caller_of
    routes: tuple[Route, ...] = ROUTES
    _resolver: APIGatewayHttpResolver = attrs.field(init=False, repr=False)

    @_resolver.default
    def _make_resolver(self) -> APIGatewayHttpResolver:
        # Powertools would print events if a variable of the environment asked for it.
        resolver = APIGatewayHttpResolver(debug=False)
        schemas = openapi.body_schemas(self.settings.record)
        for route in self.routes:
            body = None if route.body is None else resolved(route.body, schemas)
            resolver.route(route.rule, route.method)(self._answers(route, body))
        resolver.not_found(self._answer_unknown)
        resolver.exception_handler(Exception)(self._answer_error)
        return resolver

    def __call__(self, event: Mapping[str, Any], context: object) -> dict[str, Any]:
        """Answer a request.

        Args:
            event: The event of an HTTP API, payload 2.0.
            context: The invocation.

        Returns:
            The answer as an HTTP API takes it. Every failure is an answer, too.
        """
        return self._resolver.resolve(cast("dict[str, Any]", event), cast("LambdaContext", context))

    def _answers(self, route: Route, body: Schema | None) -> Callable[..., Response[str]]:
        def answer(**path: str) -> Response[str]:
            return self._answer(route, body, path)

        return answer

    def _answer(self, route: Route, body: Schema | None, path: Mapping[str, str]) -> Response[str]:
        event = self._resolver.current_event.raw_event
        caller = self._permitted(event, route.scopes) if route.scopes else NOBODY
        parameters = read_parameters(route, event, path)
        sent = None if body is None else read_body(event, body, max_bytes=route.max_body_bytes)
        answer = route.answer(
            self, Request(caller=caller, parameters=parameters, body=sent, request_id=self._request_id)
        )
        text = answer.body or "" if answer.media_type != JSON else _as_json(answer.body)
        headers = {**HEADERS, **answer.headers}
        if route.revalidates:
            headers |= {"Cache-Control": "no-cache", "ETag": f'"{hashlib.sha256(text.encode()).hexdigest()}"'}
            if _has_etag(self._resolver.current_event.headers.get("if-none-match"), headers["ETag"]):
                return Response(HTTPStatus.NOT_MODIFIED.value, headers=headers, body="")
        return Response(answer.status.value, answer.media_type if text else None, text, headers)

    def _permitted(self, event: Mapping[str, Any], scopes: Sequence[Scope]) -> Caller:
        """Return the caller, who has one of these scopes.

        Raises:
            Problem: There is no caller, or the caller lacks the scope.
        """
        caller = self.caller_of(event)
        if not caller:
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                RequestCode.NOT_SIGNED_IN,
                "sign in first",
                headers={"WWW-Authenticate": "Bearer"},
            )
        caller = caller.at(scopes[0])
        if caller.scopes.isdisjoint(scopes):
            needed = " or ".join(scopes)
            raise Problem(HTTPStatus.FORBIDDEN, RequestCode.MISSING_SCOPE, f"this needs the scope {needed}")
        return caller

    def _answer_unknown(self, _error: NotFoundError) -> Response[str]:
        event = self._resolver.current_event
        methods = sorted(route.method for route in self.routes if route.has_path(event.path))
        if not methods or event.http_method in methods:
            return self._answer_error(not_found())
        allowed = ", ".join(methods)
        return self._answer_error(
            Problem(
                HTTPStatus.METHOD_NOT_ALLOWED,
                RequestCode.METHOD_NOT_ALLOWED,
                f"the methods of this address are {allowed}",
                headers={"Allow": allowed},
            )
        )

    def _answer_error(self, error: Exception) -> Response[str]:
        problem = of_error(error)
        if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            logger.error("a request failed", extra={"request_id": self._request_id, **private_error_fields(error)})
        return Response(
            problem.status.value,
            MEDIA_TYPE,
            json.dumps(problem.as_dict(self._request_id)),
            {**HEADERS, **problem.headers},
        )

    @property
    def _request_id(self) -> str:
        return self._resolver.current_event.request_context.request_id


def _as_json(body: Any) -> str:  # noqa: ANN401 - any JSON
    # The ledger may return the members of a receipt in another order.
    return "" if body is None else json.dumps(body, sort_keys=True)


def _has_etag(if_none_match: str | None, etag: str) -> bool:
    named = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return etag in named or "*" in named
