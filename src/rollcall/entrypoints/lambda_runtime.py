"""Shared code of the Lambdas: the log, the deadline, and the description of failures without cells."""

import json
import os
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import attrs
from aws_lambda_powertools import Logger

from rollcall.application.errors import (
    NotMigratedError,
    NotPublishedError,
    ObjectChangedError,
    ObjectNotFoundError,
    RepositoryUnavailableError,
    SchemaError,
    StoreUnavailableError,
    UploadError,
)
from rollcall.domain.errors import RollcallError
from rollcall.domain.receipt import ConservationError
from rollcall.domain.rejection import Code, Fault
from rollcall.entrypoints.s3_events import UnknownEventError
from rollcall.settings import PREFIX, SettingError, Settings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

METRICS_NAMESPACE = "Rollcall"
# Powertools reads the same variable, with another default.
SERVICE = os.environ.get("POWERTOOLS_SERVICE_NAME", "rollcall")

# The time of an invocation that is reserved for ending it and for the answer: a number of seconds, or a share of a
# short invocation's time.
RESERVE_SECONDS = 20
RESERVE_SHARE = 0.1
INTERRUPTED_AGAIN_SECONDS = 5

TAKES_TOO_LONG = Fault(
    Code.SIZE_LIMIT, "the file could not be judged in the time that one file has here; split it into files"
)

# The texts of these errors show no cell; those of others might.
ERRORS = (
    UnknownEventError,
    SettingError,
    ObjectNotFoundError,
    ObjectChangedError,
    StoreUnavailableError,
    RepositoryUnavailableError,
    NotPublishedError,
    SchemaError,
    ConservationError,
)

# Powertools' own serializer writes line separators and direction marks unescaped; this one writes ASCII only.
logger = Logger(service=SERVICE, json_serializer=partial(json.dumps, default=str))


def seconds_left(context: "LambdaContext") -> float:
    """Return the seconds until AWS ends an invocation."""
    return context.get_remaining_time_in_millis() / 1000


def reserve_seconds(context: "LambdaContext") -> float:
    """Return the seconds to reserve for the end of an invocation; to be called at its beginning."""
    return min(RESERVE_SECONDS, seconds_left(context) * RESERVE_SHARE)


class OutOfTimeError(BaseException):
    """The invocation has no time left.

    It is no `Exception`: a library would take that for a failure of its current call, and retry the call.
    """


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Interrupt the block when a time is up, also while it waits for S3 or the database.

    Args:
        seconds: The time. If it is not positive, the block is not entered.

    Raises:
        OutOfTimeError: The time is up.
    """

    def interrupt(*_: object) -> NoReturn:
        raise OutOfTimeError

    if seconds <= 0:
        raise OutOfTimeError
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        try:
            # The signal is repeated, because Python discards an exception in some places, such as `__del__`.
            signal.setitimer(signal.ITIMER_REAL, seconds, INTERRUPTED_AGAIN_SECONDS)
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        # Again, because the signal may have interrupted the first call.
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def error_fields(error: Exception) -> dict[str, Any]:
    """Return the description of a failure for the log, without the text of an error that might show a cell."""
    said: dict[str, Any] = {"error": type(error).__name__}
    if isinstance(error, RollcallError):
        said["reason"] = f"{error}; run: rollcall migrate" if isinstance(error, NotMigratedError) else str(error)
    else:
        said["reason"] = error.strerror if isinstance(error, OSError) else None
        frames = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), lookup_lines=False)
        said["stack"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return said


def private_error_fields(error: Exception) -> dict[str, Any]:
    """Return `error_fields` for a log that names no file: an error about one upload has no reason there."""
    fields = error_fields(error)
    if isinstance(error, UploadError):
        fields["reason"] = None
    return fields


def reason_fields(error: BaseException) -> dict[str, Any]:
    """Return `error_fields`, also for `OutOfTimeError`."""
    return error_fields(error) if isinstance(error, Exception) else {"error": type(error).__name__}


def log_unpublished(error: BaseException) -> None:
    """Log that the notification of an upload that is given up was not published, and why."""
    logger.error("the upload is given up, but nobody could be notified", extra=reason_fields(error))


def missing(name: str) -> SettingError:
    """Return the error of a missing setting that a Lambda needs."""
    return SettingError(PREFIX + name.upper(), "", getattr(attrs.fields(Settings), name).metadata["allowed"])
