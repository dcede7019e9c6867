"""Problems of the Web API (RFC 9457): the one exception that routes raise, and the answer to each error."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import attrs

from rollcall.application.errors import (
    ImportInProgressError,
    RetryableError,
    TableConstraintError,
    UndoRefusedError,
    UndoUnconfirmedError,
    UnknownImportError,
)
from rollcall.domain.errors import RollcallError
from rollcall.domain.rejection import Code, Fault
from rollcall.entrypoints.api.routes import closed_object

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5
MAX_ERRORS = 100


class RequestCode(StrEnum):
    """The codes of problems with a request; all others are those of a receipt."""

    INVALID_REQUEST = "invalid-request"
    NOT_SIGNED_IN = "not-signed-in"
    MISSING_SCOPE = "missing-scope"
    NOT_FOUND = "not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type"
    IN_PROGRESS = "in-progress"
    UNDO_REFUSED = "undo-refused"
    UNDO_UNCONFIRMED = "undo-unconfirmed"
    WRONG_HOST = "wrong-host"
    FOREIGN_ORIGIN = "foreign-origin"
    LENGTH_REQUIRED = "length-required"
    FORM_REFUSED = "form-refused"
    NOT_CHECKED = "not-checked"
    REFUSED = "refused"
    CHANGED_SINCE_CHECK = "changed-since-check"
    EXPIRED = "expired"
    INTERNAL_ERROR = "internal-error"
    UNAVAILABLE = "unavailable"
    # a part of a request
    MISSING_MEMBER = "missing-member"
    UNKNOWN_MEMBER = "unknown-member"
    WRONG_TYPE = "wrong-type"
    OUT_OF_RANGE = "out-of-range"
    TOO_MANY = "too-many"


@attrs.frozen
class Detail:
    """One error in a request.

    Attributes:
        pointer: The JSON Pointer of the value in the body, or the parameter's name behind a slash.
        code: The kind of error.
        detail: One plain sentence.
    """

    pointer: str
    code: RequestCode | Code
    detail: str


def of_fault(fault: Fault, pointer: str = "") -> Detail:
    """Return a fault as an error in the body.

    Args:
        fault: The fault of a row.
        pointer: The JSON Pointer of the row.
    """
    return Detail(f"{pointer}/{fault.column}" if fault.column else pointer, fault.code, fault.message)


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """An answer that is a problem.

    Args:
        status: The status of the answer.
        code: The kind of problem.
        detail: One plain sentence for the caller.
        errors: The errors in the request; only the first `MAX_ERRORS` are answered.
        headers: Further headers of the answer.
    """

    def __init__(
        self,
        status: HTTPStatus,
        code: RequestCode | Code,
        detail: str,
        errors: Sequence[Detail] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code.value)  # the detail may show the beginning of a cell
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}

    def as_dict(self, request_id: str) -> dict[str, Any]:
        """Return the body of the answer."""
        return {
            "type": f"urn:rollcall:problem:{self.code}",
            "title": self.code.replace("-", " ").capitalize(),
            "status": self.status.value,
            "detail": self.detail,
            "errors": [attrs.asdict(error) for error in self.errors[:MAX_ERRORS]],
            "request_id": request_id,
        }


SCHEMA: Mapping[str, Any] = closed_object(
    {
        "type": {"type": "string", "description": "urn:rollcall:problem: and the code of the problem"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "maxItems": MAX_ERRORS,
            "items": closed_object(
                {
                    "pointer": {"type": "string", "description": "JSON Pointer into the body"},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                }
            ),
        },
        "request_id": {"type": "string"},
    }
)

# The first class that fits decides. The texts of these errors show no cell.
_EXPECTED: tuple[tuple[type[RollcallError], HTTPStatus, RequestCode | Code], ...] = (
    (UnknownImportError, HTTPStatus.NOT_FOUND, RequestCode.NOT_FOUND),
    (UndoUnconfirmedError, HTTPStatus.CONFLICT, RequestCode.UNDO_UNCONFIRMED),
    (UndoRefusedError, HTTPStatus.CONFLICT, RequestCode.UNDO_REFUSED),
    (ImportInProgressError, HTTPStatus.CONFLICT, RequestCode.IN_PROGRESS),
    (TableConstraintError, HTTPStatus.UNPROCESSABLE_ENTITY, Code.TABLE_CONSTRAINT),
)


def of_error(error: Exception) -> Problem:
    """Return the problem that answers an exception."""
    if isinstance(error, Problem):
        return error
    for kind, status, code in _EXPECTED:
        if isinstance(error, kind):
            return Problem(status, code, str(error))
    if isinstance(error, RetryableError):
        return Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            RequestCode.UNAVAILABLE,
            "the database or a store did not answer; nothing is lost, try again",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        RequestCode.INTERNAL_ERROR,
        "the request failed; the log has the reason under the request id",
    )
