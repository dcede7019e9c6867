"""Rows that are judged while a person edits them."""

from http import HTTPStatus
from typing import TYPE_CHECKING

import attrs

from rollcall.application.check_rows import MAX_ROWS, check_rows
from rollcall.application.errors import UnreadableCellError
from rollcall.domain.record import RecordType
from rollcall.domain.rejection import Code
from rollcall.entrypoints.api.problems import Detail, Problem
from rollcall.entrypoints.api.routes import Answer, Request, Route, Schema, closed_object
from rollcall.entrypoints.callers import Scope

if TYPE_CHECKING:
    from rollcall.entrypoints.api import Api

CELLS: Schema = {"$ref": "#/components/schemas/Cells"}


def cells_schema(record_type: RecordType) -> Schema:
    """Return the JSON Schema of the cells of a row as a file has them: text, good or bad."""
    return closed_object({column: {"type": "string"} for column in record_type.columns})


def _check_rows(api: "Api", request: Request) -> Answer:
    try:
        checked = check_rows(api.settings.record, request.body["rows"])
    except UnreadableCellError as error:
        detail = Detail(f"/rows/{error.row}/{error.column}", Code.MALFORMED_QUOTING, str(error))
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, Code.MALFORMED_QUOTING, "no file can contain a cell", [detail]
        ) from None
    return Answer(body={"rows": [{"faults": [attrs.asdict(fault) for fault in faults]} for faults in checked]})


ROUTES = (
    Route(
        method="POST",
        path="/api/rows/check",
        scope=Scope.UPLOAD,
        name="check_rows",
        summary="Judge rows as an import would, without storing anything",
        answer=_check_rows,
        body=closed_object({"rows": {"type": "array", "maxItems": MAX_ROWS, "items": CELLS}}),
        answers={
            HTTPStatus.OK: closed_object(
                {
                    "rows": {
                        "type": "array",
                        "maxItems": MAX_ROWS,
                        "description": "In the order of the request",
                        "items": closed_object(
                            {"faults": {"type": "array", "items": {"$ref": "#/components/schemas/Fault"}}}
                        ),
                    }
                }
            )
        },
        problems=frozenset({HTTPStatus.UNPROCESSABLE_ENTITY}),
    ),
)
