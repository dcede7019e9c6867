"""Pages of rejected rows, of checks and of imports."""

from http import HTTPStatus
from urllib.parse import urlencode

from rollcall.application.errors import ObjectNotFoundError, WrongPositionError
from rollcall.application.rejected_rows import origin_of
from rollcall.application.rejections import Page, Rejections
from rollcall.application.reports import Reports
from rollcall.bootstrap.services import Services
from rollcall.domain.receipt import Receipt
from rollcall.entrypoints.api.bodies import not_found
from rollcall.entrypoints.api.pages import LIMIT, after, limit_of, page_schema
from rollcall.entrypoints.api.problems import Detail, Problem, RequestCode
from rollcall.entrypoints.api.routes import Answer, Request, Schema, closed_object
from rollcall.entrypoints.api.rows import CELLS

PARAMETERS = (after("The position in the file, from the address of the next page"), LIMIT)

REJECTIONS: Schema = {"$ref": "#/components/schemas/Rejections"}
REJECTIONS_SCHEMA = page_schema(
    "rows",
    closed_object(
        {
            "line": {"type": "integer", "minimum": 0, "description": "The line, by which it is corrected"},
            "cells": CELLS,
            "record": {
                "type": ["string", "null"],
                "description": "The raw text, if the row could not be split into cells",
            },
            "faults": {"type": "array", "items": {"$ref": "#/components/schemas/Fault"}},
            "proof": {
                "type": ["string", "null"],
                "description": "Proves that the import rejected the row, for its correction; null in a check",
            },
            "corrected": {
                "type": "boolean",
                "description": "Whether an import in force registered a correction of the row",
            },
        }
    ),
)


def page(services: Services, request: Request, receipt: Receipt, reports: Reports, path: str) -> Answer:
    """Answer a page of rejected rows.

    Args:
        services: Has the store of the reports, and the ledger that knows which rows are corrected.
        request: The request, with `PARAMETERS`.
        receipt: The receipt of the check or the import.
        reports: The reports to which it belongs.
        path: The path of the resource.

    Raises:
        Problem: The position is wrong, or the file is gone.
    """
    rejections = Rejections.of(receipt, reports, services.uploading.store, services.users.record_type)
    limit = limit_of(request)
    try:
        found = rejections.page(request.parameters.get("after", 0), limit) if rejections else Page((), None)
    except WrongPositionError as error:
        detail = Detail("/after", RequestCode.OUT_OF_RANGE, str(error))
        raise Problem(HTTPStatus.BAD_REQUEST, RequestCode.INVALID_REQUEST, str(error), [detail]) from None
    except ObjectNotFoundError:
        raise not_found() from None
    following = None if found.next is None else f"{path}?{urlencode({'limit': limit, 'after': found.next})}"
    headers = {"Link": f'<{following}>; rel="next"'} if following else {}
    origins = [origin_of(row.proof or "") for row in found.rows]
    proven = [origin for origin in origins if origin]
    corrected = services.users.corrected(proven) if proven else set()
    rows = [
        {**row.as_dict(), "corrected": origin in corrected}
        for row, origin in zip(found.rows, origins, strict=True)
    ]
    return Answer(body={"rows": rows, "next": following}, headers=headers)
