"""Uploads of the page: started, checked, registered."""

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from rollcall.application.errors import UploadNotAcceptedError
from rollcall.application.find_upload import State, UploadState
from rollcall.application.receipts import to_dict
from rollcall.application.register_upload import Refusal, RegistrationRefusedError
from rollcall.domain.rejection import Code
from rollcall.domain.upload import WEB_UPLOAD_ID, WebUpload, owner
from rollcall.entrypoints.api import pages, rejections
from rollcall.entrypoints.api.bodies import not_found
from rollcall.entrypoints.api.problems import Problem, RequestCode
from rollcall.entrypoints.api.routes import Answer, Parameter, Request, Route, Schema, closed_object
from rollcall.entrypoints.callers import Scope

if TYPE_CHECKING:
    from rollcall.entrypoints.api import Api

POLL_SECONDS = 2
HEADERS = {"Retry-After": "The seconds after which to ask again, while the state changes by itself"}

_MAX_NAME_CHARACTERS = 255
_MAX_SIZE = 2**53  # JavaScript's largest number

_STATUSES = {
    Code.SIZE_LIMIT: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Code.FORMAT_ERROR: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
}
IF_MATCH = Parameter(
    name="If-Match",
    place="header",
    schema={"type": "string"},
    description="The ETag of the check",
    required=True,
)
UPLOAD_ID = Parameter(
    name="id",
    place="path",
    schema={"type": "string", "pattern": f"^{WEB_UPLOAD_ID}$"},
    description="The id of an upload",
)

_LINK: Schema = {"type": ["string", "null"]}
UPLOAD: Schema = {"$ref": "#/components/schemas/Upload"}
UPLOAD_SCHEMA: Schema = closed_object(
    {
        "id": {"type": "string"},
        "state": {
            "enum": list(State),
            "description": "registered: there is a verdict in the ledger, which may be a refusal",
        },
        "check": {
            **closed_object(
                {
                    "etag": {"type": "string", "description": "For If-Match, to register what this check saw"},
                    "receipt": {"$ref": "#/components/schemas/Receipt"},
                }
            ),
            "type": ["object", "null"],
        },
        "import": {
            **closed_object(
                {
                    "id": {"type": "integer"},
                    "undone": {"type": "boolean"},
                    "receipt": {"$ref": "#/components/schemas/Receipt"},
                }
            ),
            "type": ["object", "null"],
        },
        "links": closed_object(
            {
                "self": {"type": "string"},
                "rejections": _LINK,
                "registration": _LINK,
                "import": _LINK,
            }
        ),
    }
)


def state_answer(found: UploadState, status: HTTPStatus) -> Answer:
    """Answer the state of an upload, with the time after which to ask again while it changes by itself."""
    path = path_of(found.upload)
    entry = found.entry
    body: dict[str, Any] = {
        "id": found.upload.id,
        "state": found.state.value,
        "check": {"etag": found.etag, "receipt": to_dict(found.check)} if found.check else None,
        "import": {"id": entry.import_id, "undone": entry.undone, "receipt": to_dict(entry.receipt)}
        if entry
        else None,
        "links": {
            "self": path,
            "rejections": f"{path}/rejections" if found.check else None,
            "registration": f"{path}/registration" if found.state is State.CHECKED else None,
            "import": f"/api/imports/{entry.import_id}" if entry else None,
        },
    }
    waits = found.state in {State.CHECKING, State.REGISTERING}
    return Answer(status=status, body=body, headers={"Retry-After": str(POLL_SECONDS)} if waits else {})


def path_of(upload: WebUpload) -> str:
    """Return the path of an upload in the Web API."""
    return f"/api/uploads/{upload.id}"


def own_upload(request: Request) -> WebUpload:
    """Return the upload that a request names.

    Raises:
        Problem: It is not the caller's.
    """
    upload = WebUpload.parse(request.parameters["id"])
    if upload.owner != owner(request.caller.id):
        raise not_found()
    return upload


def _start(api: "Api", request: Request) -> Answer:
    try:
        started = api.services().uploading.start(
            owner(request.caller.id), request.body["filename"], request.body["size"]
        )
    except UploadNotAcceptedError as error:
        raise not_accepted(error) from None
    return Answer(
        status=HTTPStatus.CREATED,
        body={
            "id": started.upload.id,
            "url": started.form.url,
            "fields": dict(started.form.fields),
            "expires": started.expires.isoformat(),
            "max_bytes": started.max_bytes,
        },
        headers={"Location": path_of(started.upload)},
    )


def _get(api: "Api", request: Request) -> Answer:
    upload = own_upload(request)
    return state_answer(api.services().uploading.find(upload), HTTPStatus.OK)


def _get_rejections(api: "Api", request: Request) -> Answer:
    upload = own_upload(request)
    services = api.services()
    check = services.uploading.find(upload).check
    if not check:
        raise Problem(HTTPStatus.CONFLICT, RequestCode.NOT_CHECKED, "the file is not checked yet")
    return rejections.page(services, request, check, services.uploading.checks, f"{path_of(upload)}/rejections")


def _register(api: "Api", request: Request) -> Answer:
    upload = own_upload(request)
    try:
        found = api.services().uploading.register(
            upload, request.parameters["If-Match"], as_new=request.body.get("as_new", False)
        )
    except RegistrationRefusedError as error:
        raise not_registered(error) from None
    return state_answer(found, HTTPStatus.ACCEPTED)


def not_registered(error: RegistrationRefusedError) -> Problem:
    """Return the problem that answers why an upload cannot be registered or corrected."""
    expired = error.refusal is Refusal.EXPIRED
    return Problem(
        HTTPStatus.GONE if expired else HTTPStatus.CONFLICT,
        Code.KEY_ALREADY_LOADED
        if error.refusal is Refusal.KEY_ALREADY_LOADED
        else RequestCode(error.refusal.value),
        str(error),
        headers={"Link": f'</api/imports/{error.import_id}>; rel="related"'} if error.import_id else {},
    )


def not_accepted(error: UploadNotAcceptedError) -> Problem:
    """Return the problem that answers why a file is not accepted."""
    status = _STATUSES.get(error.fault.code, HTTPStatus.UNPROCESSABLE_ENTITY)
    return Problem(status, error.fault.code, error.fault.message)


ROUTES = (
    Route(
        method="POST",
        path="/api/uploads",
        scope=Scope.UPLOAD,
        name="start_upload",
        summary="Get a form with which to upload one file; nothing is registered",
        answer=_start,
        body=closed_object(
            {
                "filename": {"type": "string", "minLength": 1, "maxLength": _MAX_NAME_CHARACTERS},
                "size": {"type": "integer", "minimum": 1, "maximum": _MAX_SIZE},
            }
        ),
        answers={
            HTTPStatus.CREATED: closed_object(
                {
                    "id": {"type": "string"},
                    "url": {"type": "string", "description": "Where to POST the form, as multipart/form-data"},
                    "fields": {
                        "type": "object",
                        "additionalProperties": {"type": "string"},
                        "description": "The fields of the form, before the field file",
                    },
                    "expires": {"type": "string", "format": "date-time"},
                    "max_bytes": {"type": "integer", "minimum": 1},
                }
            )
        },
        headers={"Location": "The upload"},
        problems=frozenset({HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE}),
    ),
    Route(
        method="GET",
        path="/api/uploads/{id}",
        scope=Scope.UPLOAD,
        name="get_upload",
        summary="The state of an upload, with the receipts of its check and its import",
        answer=_get,
        parameters=(UPLOAD_ID,),
        answers={HTTPStatus.OK: UPLOAD},
        headers=HEADERS,
        problems=frozenset({HTTPStatus.SERVICE_UNAVAILABLE}),
    ),
    Route(
        method="GET",
        path="/api/uploads/{id}/rejections",
        scope=Scope.UPLOAD,
        name="get_upload_rejections",
        summary="A page of the rows that the check of an upload rejected",
        answer=_get_rejections,
        parameters=(UPLOAD_ID, *rejections.PARAMETERS),
        answers={HTTPStatus.OK: rejections.REJECTIONS},
        headers=pages.HEADERS,
        problems=frozenset({HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE}),
    ),
    Route(
        method="PUT",
        path="/api/uploads/{id}/registration",
        scope=Scope.UPLOAD,
        name="register_upload",
        summary="Register exactly the version that a check saw; to repeat it is harmless",
        answer=_register,
        parameters=(
            UPLOAD_ID,
            IF_MATCH,
        ),
        body={
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "as_new": {
                    "type": "boolean",
                    "description": "Whether it is a new list, also if a file of that name was registered before",
                }
            },
        },
        answers={HTTPStatus.ACCEPTED: UPLOAD},
        headers=HEADERS,
        problems=frozenset({HTTPStatus.CONFLICT, HTTPStatus.GONE, HTTPStatus.SERVICE_UNAVAILABLE}),
    ),
)
