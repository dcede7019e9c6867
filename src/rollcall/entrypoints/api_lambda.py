"""The Web API on Lambda: an HTTP API passes on each request, with the caller that its authorizer found.

Two functions have this handler: one connects to the database as the importer; the other one gets only the requests
to undo, and connects as the operator.
"""

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from rollcall import bootstrap
from rollcall.bootstrap import web
from rollcall.entrypoints.api import HEADERS, Api
from rollcall.entrypoints.api.problems import MEDIA_TYPE, RETRY_AFTER_SECONDS, Problem, RequestCode
from rollcall.entrypoints.lambda_runtime import (
    OutOfTimeError,
    interrupted_after,
    logger,
    missing,
    reserve_seconds,
    seconds_left,
)
from rollcall.settings import Settings, read_settings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

_OUT_OF_TIME = Problem(
    HTTPStatus.SERVICE_UNAVAILABLE,
    RequestCode.UNAVAILABLE,
    "the request took too long; nothing is lost, try again",
    headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
)


@logger.inject_lambda_context(clear_state=True, log_event=False)
def handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Answer one request. AWS Lambda calls this function.

    Args:
        event: The event of an HTTP API, payload 2.0.
        context: Gives the remaining time.

    Raises:
        SettingError: A setting is wrong or missing.
    """
    return answer_in_time(_wired(), event, context)


def answer_in_time(api: Api, event: Mapping[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Answer a request before AWS ends the invocation, and log the answer in one line.

    Args:
        api: The Web API.
        event: The event of an HTTP API, payload 2.0.
        context: Gives the remaining time.
    """
    request_id = event["requestContext"]["requestId"]
    try:
        with interrupted_after(seconds_left(context) - reserve_seconds(context)):
            answer = api(event, context)
    except OutOfTimeError:
        answer = {
            "statusCode": _OUT_OF_TIME.status.value,
            "headers": {**HEADERS, "Content-Type": MEDIA_TYPE, **_OUT_OF_TIME.headers},
            "body": json.dumps(_OUT_OF_TIME.as_dict(request_id)),
        }
    # The route's key has names of parameters in place of ids; the path is not logged.
    logger.info(
        "answered", extra={"route": event["routeKey"], "status": answer["statusCode"], "request_id": request_id}
    )
    return answer


def wire(settings: Settings, held: ExitStack) -> Api:
    """Build the Web API. It connects to the database at the first request that needs it.

    Args:
        settings: The settings.
        held: Gets the connection to the database, and closes it.

    Raises:
        SettingError: The database is not set.
    """
    if not settings.names_database:
        raise missing("database_url")

    services = held.enter_context(web.api_services(settings, on_aws=True))
    return Api(settings=settings, services=lambda: services, now=bootstrap.now)


# Never closed: AWS freezes the process between invocations, and ends it without notice.
_held = ExitStack()


@cache
def _wired() -> Api:
    return wire(read_settings(os.environ), _held)
