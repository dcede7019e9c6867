"""The migrate Lambda: it brings the schema up to date, for a deployment or for a person who invokes it.

A deployment invokes it as a custom resource and waits for an answer at a URL in the event. The source of the rules
is the user guide of AWS CloudFormation, "Custom resource request and response reference".
"""

import json
import os
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import urllib3

from rollcall import bootstrap
from rollcall.entrypoints.lambda_runtime import (
    OutOfTimeError,
    error_fields,
    interrupted_after,
    logger,
    missing,
    reserve_seconds,
    seconds_left,
)
from rollcall.entrypoints.tracing import tracer
from rollcall.settings import read_settings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

ANSWER_SECONDS = 10.0
ANSWER_TRIES = 3
REASON_CHARACTERS = 1000  # the whole answer may have 4 KiB

TOO_SLOW = "the migration took longer than a Lambda may and was rolled back; run rollcall migrate on a machine"

# CloudFormation's id of the schema. If the id changed, CloudFormation would delete the resource with the old id.
SCHEMA = "rollcall-schema"


class AnswerError(RuntimeError):
    """CloudFormation did not accept the answer."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the answer to CloudFormation was refused with status {status}")


@logger.inject_lambda_context(clear_state=True, log_event=False)
@tracer.capture_lambda_handler(capture_response=False, capture_error=False)
def handler(event: Mapping[str, Any], context: "LambdaContext") -> dict[str, list[str]]:
    """Bring the schema up to date.

    Args:
        event: An event of CloudFormation, which gets an answer; or any other event.
        context: The invocation.

    Returns:
        The steps that were taken, in order, under `done`.

    Raises:
        RepositoryUnavailableError: The database could not be reached, or refused a statement. This error and the
            next two are not raised but reported if CloudFormation waits for an answer.
        SchemaError: The database does not fit the settings.
        SettingError: A setting is wrong or missing.
        AnswerError: CloudFormation did not accept the answer.
    """
    url = event.get("ResponseURL")
    if not url:
        return {"done": _migrate(context)}
    done: list[str] = []
    reason = None
    try:
        # The tables stay when the stack is deleted, as the buckets do.
        if event["RequestType"] != "Delete":
            done = _migrate(context)
    except OutOfTimeError:
        reason = TOO_SLOW
    except Exception as error:  # noqa: BLE001 - without an answer, CloudFormation would wait for an hour
        said = error_fields(error)
        reason = said["reason"] or said["error"]
        logger.error("the schema could not be brought up to date", extra=said)
    _answer(url, event, reason)
    return {"done": done}


def _migrate(context: "LambdaContext") -> list[str]:
    settings = read_settings(os.environ)
    if not settings.names_database:
        raise missing("database_url")
    with interrupted_after(seconds_left(context) - reserve_seconds(context)):
        done = bootstrap.migrate(settings, Path(), on_aws=True)
    logger.info("the schema is up to date", extra={"done": done})
    return done


def _answer(url: str, event: Mapping[str, Any], reason: str | None) -> None:
    """Send CloudFormation the answer.

    Args:
        url: The URL of the answer.
        event: The event of CloudFormation.
        reason: Why the migration failed; None if it succeeded.

    Raises:
        AnswerError: CloudFormation did not accept the answer.
    """
    answer = {
        "Status": "FAILED" if reason else "SUCCESS",
        "Reason": (reason or "")[:REASON_CHARACTERS],
        "PhysicalResourceId": SCHEMA,
        **{name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")},
    }
    # The answer must arrive, also after some errors, because CloudFormation waits for it.
    retries = urllib3.Retry(
        ANSWER_TRIES, status_forcelist=[500, 502, 503], backoff_factor=0.2, raise_on_status=False
    )
    with urllib3.PoolManager(timeout=ANSWER_SECONDS, retries=retries) as answering:
        # The URL is signed for a request without a content type.
        answered = answering.request(
            "PUT", url, body=json.dumps(answer).encode("ascii"), headers={"Content-Type": ""}
        )
    if answered.status != HTTPStatus.OK:
        raise AnswerError(answered.status)
