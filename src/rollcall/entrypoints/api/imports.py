"""Imports: the ledger's receipts, and undo. Uploaders see their own imports, operators see all."""

from contextlib import closing
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import attrs

from rollcall.application.errors import UnknownImportError
from rollcall.application.receipts import to_dict
from rollcall.domain.ledger import LedgerEntry
from rollcall.domain.upload import owner
from rollcall.entrypoints.api.pages import HEADERS, LARGEST_ID, LIMIT, after, limit_of, page_of, page_schema
from rollcall.entrypoints.api.routes import Answer, Parameter, Request, Route, Schema
from rollcall.entrypoints.callers import Scope

if TYPE_CHECKING:
    from rollcall.entrypoints.api import Api

PATH = "/api/imports"
IMPORT: Schema = {"$ref": "#/components/schemas/Receipt"}
IMPORT_ID = Parameter(
    name="id",
    place="path",
    schema={"type": "integer", "minimum": 1, "maximum": LARGEST_ID},
    description="The number of the import",
)
UNAVAILABLE = HTTPStatus.SERVICE_UNAVAILABLE


def shown(entry: LedgerEntry) -> dict[str, Any]:
    """Return an import as values that JSON has: its receipt, and whether it was undone."""
    return {**to_dict(entry.receipt), "undone": entry.undone}


def uploader(request: Request) -> str | None:
    """Return the uploader whose imports the caller may see; None for everybody's."""
    return None if Scope.OPERATE in request.caller.scopes else owner(request.caller.id)


def visible_import(api: "Api", request: Request) -> LedgerEntry:
    """Return the import that the path names.

    Raises:
        UnknownImportError: There is none, or the caller may not see it.
    """
    entry = api.services().users.get_import(request.parameters["id"])
    if uploader(request) not in {None, entry.uploaded_by}:
        raise UnknownImportError(entry.import_id)
    return entry


def _list_imports(api: "Api", request: Request) -> Answer:
    entries = api.services().users.entries(
        before=request.parameters.get("after"),
        uploaded_by=uploader(request),
        correcting=request.parameters.get("corrects"),
        limit=limit_of(request) + 1,
    )
    with closing(entries):
        return page_of(request, PATH, "imports", ((entry.import_id, shown(entry)) for entry in entries))


def _get_import(api: "Api", request: Request) -> Answer:
    return Answer(body=shown(visible_import(api, request)))


def _undo_import(api: "Api", request: Request) -> Answer:
    confirmed = request.body.get("confirmed", False)
    return Answer(body=shown(api.services().undo(request.parameters["id"], confirmed=confirmed)))


ROUTES = (
    Route(
        method="GET",
        path=PATH,
        scope=Scope.UPLOAD,
        other_scope=Scope.OPERATE,
        name="list_imports",
        summary="The caller's imports, the newest first; with rollcall/operate, all imports",
        answer=_list_imports,
        parameters=(
            after("The number of the last import of the page before"),
            LIMIT,
            attrs.evolve(
                IMPORT_ID,
                name="corrects",
                place="query",
                description="Only the imports in force that registered corrected rows of this import",
            ),
        ),
        answers={HTTPStatus.OK: page_schema("imports", IMPORT)},
        headers=HEADERS,
        problems=frozenset({UNAVAILABLE}),
    ),
    Route(
        method="GET",
        path=f"{PATH}/{{id}}",
        scope=Scope.UPLOAD,
        other_scope=Scope.OPERATE,
        name="get_import",
        summary="The receipt of one import, and whether it was undone; another uploader's import is not found",
        answer=_get_import,
        parameters=(IMPORT_ID,),
        answers={HTTPStatus.OK: IMPORT},
        problems=frozenset({UNAVAILABLE}),
    ),
    Route(
        method="POST",
        path=f"{PATH}/{{id}}/undo",
        scope=Scope.OPERATE,
        name="undo_import",
        summary="Remove the users of an import; a repeated request is answered the same",
        answer=_undo_import,
        parameters=(IMPORT_ID,),
        body={
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "confirmed": {
                    "type": "boolean",
                    "default": False,
                    "description": "Also if fewer of its users are left than it registered",
                }
            },
        },
        answers={HTTPStatus.OK: IMPORT},
        problems=frozenset({HTTPStatus.CONFLICT, UNAVAILABLE}),
    ),
)
