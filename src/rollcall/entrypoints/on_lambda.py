"""What all Lambdas have in common: their log, their tracer, and how a failure is told without a cell."""

import json
import os
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import attrs
from aws_lambda_powertools import Logger, Tracer

from rollcall.application.ports import (
    ObjectChangedError,
    ObjectNotFoundError,
    RepositoryUnavailableError,
    SchemaError,
    StoreUnavailableError,
)
from rollcall.domain.receipt import ConservationError
from rollcall.entrypoints.s3_events import UnknownEventError
from rollcall.settings import PREFIX, SettingError, Settings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

METRICS_NAMESPACE = "Rollcall"
# As Powertools itself would take it, but for its default.
SERVICE = os.environ.get("POWERTOOLS_SERVICE_NAME", "rollcall")

# What is kept of an invocation's time to come to an end and to answer: so much, or that part of a short one.
RESERVE_SECONDS = 20
RESERVE_SHARE = 0.1
INTERRUPTED_AGAIN_SECONDS = 5

# Their texts show no cell; those of any others might.
ERRORS = (
    UnknownEventError,
    SettingError,
    ObjectNotFoundError,
    ObjectChangedError,
    StoreUnavailableError,
    RepositoryUnavailableError,
    SchemaError,
    ConservationError,
)

# Powertools' own serializer writes line separators and direction marks as they are; this one writes ASCII only.
logger = Logger(service=SERVICE, json_serializer=partial(json.dumps, default=str))
# No more is traced than calls of AWS: the X-Ray SDK would wrap the connection to the database too.
tracer = Tracer(service=SERVICE, patch_modules=["botocore"])


def seconds_left(context: "LambdaContext") -> float:
    """Tell how much time an invocation still has until AWS ends it."""
    return context.get_remaining_time_in_millis() / 1000


def reserve_seconds(context: "LambdaContext") -> float:
    """Tell, at the beginning of an invocation, how much of its time to keep for the end."""
    return min(RESERVE_SECONDS, seconds_left(context) * RESERVE_SHARE)


class OutOfTimeError(BaseException):
    """The invocation has no time left.

    No `Exception`, or a library in the midst of a call would take it for a failure of that call and try once more.
    """


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Interrupt whatever is being done when a time is up, be it a wait for S3 or for the database.

    Raises:
        OutOfTimeError: It is.
    """

    def interrupt(*_: object) -> NoReturn:
        raise OutOfTimeError

    if seconds <= 0:
        raise OutOfTimeError
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        try:
            # And again, should the first be lost in a place that nothing can be raised from.
            signal.setitimer(signal.ITIMER_REAL, seconds, INTERRUPTED_AGAIN_SECONDS)
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        # Once more: the time may have been up on the way to the first.
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def described(error: Exception) -> dict[str, Any]:
    """Describe a failure for the log, without the text of an error that might show a cell."""
    said: dict[str, Any] = {"error": type(error).__name__}
    if isinstance(error, ERRORS):
        said["reason"] = str(error)
    else:
        said["reason"] = error.strerror if isinstance(error, OSError) else None
        frames = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), lookup_lines=False)
        said["stack"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return said


def missing(name: str) -> SettingError:
    """Say that a setting is missing without which a Lambda can do nothing."""
    return SettingError(PREFIX + name.upper(), "", getattr(attrs.fields(Settings), name).metadata["allowed"])
