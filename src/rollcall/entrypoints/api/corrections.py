"""The rejected rows of imports, and corrections of rejected rows."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from rollcall.application.correct_rows import MAX_ROWS, CorrectedRow, CorrectionsRefusedError
from rollcall.application.errors import (
    ObjectNotFoundError,
    UnreadableCellError,
    UploadNotAcceptedError,
    WrongPositionError,
)
from rollcall.application.register_upload import RegistrationRefusedError
from rollcall.domain.rejection import Code
from rollcall.domain.upload import WebUpload, owner
from rollcall.entrypoints.api import rejections, uploads
from rollcall.entrypoints.api.bodies import not_found
from rollcall.entrypoints.api.imports import IMPORT_ID, visible_import
from rollcall.entrypoints.api.pages import HEADERS
from rollcall.entrypoints.api.problems import Detail, Problem
from rollcall.entrypoints.api.routes import Answer, Parameter, Request, Route, Schema, closed_object
from rollcall.entrypoints.api.rows import CELLS
from rollcall.entrypoints.callers import Scope

if TYPE_CHECKING:
    from rollcall.entrypoints.api import Api

MAX_BODY_BYTES = 4 * 1024 * 1024
LINK_SECONDS = 300

_MAX_LINE = 10**15
_POST_HEADERS = {**uploads.HEADERS, "Location": "The upload of the corrections"}

_ROW: Mapping[str, Schema] = {
    "line": {"type": "integer", "minimum": 1, "maximum": _MAX_LINE},
    "cells": CELLS,
}
_CORRECTED_ROW: Schema = closed_object(_ROW)
_PROVEN_ROW: Schema = {
    **closed_object(
        {
            **_ROW,
            "proof": {
                "type": ["string", "null"],
                "description": "As in the rejected row; without it, the file of all rejected rows is searched",
            },
        }
    ),
    "required": list(_ROW),
}


def _body(row: Schema) -> Schema:
    return closed_object({"rows": {"type": "array", "minItems": 1, "maxItems": MAX_ROWS, "items": row}})


def _get_rejected(api: "Api", request: Request) -> Answer:
    uploading = api.services().uploading
    key = uploading.reports.rejected_rows_key(visible_import(api, request).receipt)
    if key is None:
        raise not_found()
    link = uploading.store.link(key, seconds=LINK_SECONDS)
    # A page cannot see where a redirection leads, and the store answers no page of another origin.
    if "as" in request.parameters and link.startswith("http"):
        return Answer(body={"url": link})
    return Answer(status=HTTPStatus.SEE_OTHER, headers={"Location": link})


def _get_rejections(api: "Api", request: Request) -> Answer:
    services = api.services()
    entry = visible_import(api, request)
    return rejections.page(
        services,
        request,
        entry.receipt,
        services.uploading.reports,
        f"/api/imports/{entry.import_id}/rejections",
    )


def _correct(api: "Api", request: Request) -> Answer:
    entry = visible_import(api, request)
    with _refusals():
        upload = api.services().uploading.correct(entry, _rows(api, request), owner(request.caller.id))
    return _started(api, upload)


def _correct_list(api: "Api", request: Request) -> Answer:
    refused = uploads.own_upload(request)
    with _refusals():
        upload = api.services().uploading.correct_list(
            refused, request.parameters["If-Match"], _rows(api, request)
        )
    return _started(api, upload)


def _rows(api: "Api", request: Request) -> list[CorrectedRow]:
    columns = api.settings.record.columns
    return [
        CorrectedRow(row["line"], [row["cells"][column] for column in columns], row.get("proof"))
        for row in request.body["rows"]
    ]


def _started(api: "Api", upload: WebUpload) -> Answer:
    state = uploads.state_answer(api.services().uploading.find(upload), HTTPStatus.ACCEPTED)
    return Answer(
        status=state.status, body=state.body, headers={**state.headers, "Location": uploads.path_of(upload)}
    )


@contextmanager
def _refusals() -> Iterator[None]:
    """Translate the refusal of corrections.

    Raises:
        Problem: They are refused.
    """
    try:
        yield
    except UnreadableCellError as error:
        detail = Detail(f"/rows/{error.row}/cells/{error.column}", Code.MALFORMED_QUOTING, str(error))
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, Code.MALFORMED_QUOTING, "no file can contain a cell", [detail]
        ) from None
    except CorrectionsRefusedError as error:
        conflict = error.code in {Code.UNDONE, Code.ALREADY_CORRECTED}
        raise Problem(
            HTTPStatus.CONFLICT if conflict else HTTPStatus.UNPROCESSABLE_ENTITY,
            error.code,
            str(error),
            [Detail(f"/rows/{row}/line", error.code, f"the row {error.code.says}") for row in error.rows],
        ) from None
    except RegistrationRefusedError as error:
        raise uploads.not_registered(error) from None
    except UploadNotAcceptedError as error:
        raise uploads.not_accepted(error) from None
    except WrongPositionError:
        raise Problem(
            HTTPStatus.CONFLICT, Code.SOURCE_CHANGED, "the file of rejected rows was changed by hand"
        ) from None
    except ObjectNotFoundError:
        raise Problem(
            HTTPStatus.CONFLICT, Code.SOURCE_GONE, "the file of rejected rows no longer exists"
        ) from None


ROUTES = (
    Route(
        method="GET",
        path="/api/imports/{id}/rejected",
        scope=Scope.UPLOAD,
        other_scope=Scope.OPERATE,
        name="download_rejected_rows",
        summary="The file of all rejected rows of an import",
        answer=_get_rejected,
        parameters=(
            IMPORT_ID,
            Parameter(
                name="as",
                place="query",
                schema={"type": "string", "enum": ["link"]},
                description="link: answer with the address as the member url, and do not redirect",
            ),
        ),
        # `rollcall serve` answers with the file itself.
        answers={HTTPStatus.SEE_OTHER: None, HTTPStatus.OK: None},
        headers={"Location": "The file, for some minutes"},
        problems=frozenset({HTTPStatus.SERVICE_UNAVAILABLE}),
    ),
    Route(
        method="GET",
        path="/api/imports/{id}/rejections",
        scope=Scope.UPLOAD,
        other_scope=Scope.OPERATE,
        name="get_import_rejections",
        summary="A page of the rows that an import rejected",
        answer=_get_rejections,
        parameters=(IMPORT_ID, *rejections.PARAMETERS),
        answers={HTTPStatus.OK: rejections.REJECTIONS},
        headers=HEADERS,
        problems=frozenset({HTTPStatus.SERVICE_UNAVAILABLE}),
    ),
    Route(
        method="POST",
        path="/api/imports/{id}/corrections",
        scope=Scope.UPLOAD,
        name="correct_rows",
        summary="Correct rejected rows of an import; they are imported as an upload of their own",
        answer=_correct,
        parameters=(IMPORT_ID,),
        body=_body(_PROVEN_ROW),
        max_body_bytes=MAX_BODY_BYTES,
        answers={HTTPStatus.ACCEPTED: uploads.UPLOAD},
        headers=_POST_HEADERS,
        problems=frozenset({HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE}),
    ),
    Route(
        method="POST",
        path="/api/uploads/{id}/corrections",
        scope=Scope.UPLOAD,
        name="correct_list",
        summary="Correct rows of a refused list; the corrected copy is checked as an upload of its own",
        answer=_correct_list,
        parameters=(uploads.UPLOAD_ID, uploads.IF_MATCH),
        body=_body(_CORRECTED_ROW),
        max_body_bytes=MAX_BODY_BYTES,
        answers={HTTPStatus.ACCEPTED: uploads.UPLOAD},
        headers=_POST_HEADERS,
        problems=frozenset(
            {
                HTTPStatus.CONFLICT,
                HTTPStatus.GONE,
                HTTPStatus.UNPROCESSABLE_ENTITY,
                HTTPStatus.SERVICE_UNAVAILABLE,
            }
        ),
    ),
)
