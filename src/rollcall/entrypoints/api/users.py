"""Users: one is registered by a request, and all are listed."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

from rollcall.application.receipts import to_dict
from rollcall.domain.receipt import Receipt, Status
from rollcall.domain.record import Field, RecordType
from rollcall.domain.rejection import Code, Fault
from rollcall.domain.upload import owner
from rollcall.entrypoints.api import imports
from rollcall.entrypoints.api.pages import HEADERS, LARGEST_ID, LIMIT, after, limit_of, page_of, page_schema
from rollcall.entrypoints.api.problems import Problem, of_fault
from rollcall.entrypoints.api.routes import Answer, Parameter, Request, Route, Schema, closed_object
from rollcall.entrypoints.callers import Scope

if TYPE_CHECKING:
    from rollcall.entrypoints.api import Api

PATH = "/api/users"
MAX_KEY_LENGTH = 255

_ID = {"type": "integer", "minimum": 1}


def _register_user(api: "Api", request: Request) -> Answer:
    columns = api.settings.record.columns
    sent = {column: request.body.get(column) for column in columns}
    cells = {column: "" if value is None else str(value) for column, value in sent.items()}
    answered = api.services().register(owner(request.caller.id), request.parameters["Idempotency-Key"], cells)
    if not isinstance(answered, Receipt):
        raise _rejected(answered)
    if answered.status.registers:
        return Answer(
            status=HTTPStatus.CREATED,
            body={**to_dict(answered), "undone": False},
            headers={"Location": f"{imports.PATH}/{answered.import_id}"},
        )
    if answered.rejections:
        raise _rejected(answered.rejections[0].faults)
    assert answered.code is not None  # noqa: S101 - for mypy
    status = HTTPStatus.CONFLICT if answered.status is Status.SKIPPED else HTTPStatus.UNPROCESSABLE_ENTITY
    raise Problem(status, answered.code, answered.message or "")


def _rejected(faults: Iterable[Fault]) -> Problem:
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        Code.ROWS_REJECTED,
        "the user was rejected, and nothing is stored",
        [of_fault(fault) for fault in faults],
    )


def _list_users(api: "Api", request: Request) -> Answer:
    found = api.services().users.users_after(
        request.parameters.get("after", 0),
        limit=limit_of(request) + 1,
        import_id=request.parameters.get("import"),
    )
    as_dict = api.settings.record.as_dict
    shown = (
        (registered.id, {"id": registered.id, "import_id": registered.import_id, "user": as_dict(registered.user)})
        for registered in found
    )
    return page_of(request, PATH, "users", shown)


def new_user_schema(record_type: RecordType) -> Schema:
    """Return the JSON Schema of a user to register: texts as in a file, or the values of JSON."""

    def types(field: Field) -> list[str]:
        return ["string", *({field.rule.schema()["type"]} - {"string"}), *["null"] * field.optional]

    properties = {field.name: types(field) for field in record_type.fields}
    return {
        **closed_object(
            {name: {"type": found if len(found) > 1 else found[0]} for name, found in properties.items()}
        ),
        "required": list(record_type.required),
    }


ROUTES = (
    Route(
        method="POST",
        path=PATH,
        scope=Scope.UPLOAD,
        name="register_user",
        summary="Register one user, once for each idempotency key",
        answer=_register_user,
        parameters=(
            Parameter(
                name="Idempotency-Key",
                place="header",
                schema={"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH, "pattern": "^[!-~]*$"},
                description=(
                    "The client's own name of this user, in visible ASCII. A repeated request with the same key "
                    "gets the same answer, and registers nobody; a key never expires. Another user "
                    "under the key of a registered user is a problem (422), and is not stored. After an "
                    "undo, a repeated request is a problem (409), and the key is free for another user."
                ),
                required=True,
            ),
        ),
        body={"$ref": "#/components/schemas/NewUser"},
        answers={HTTPStatus.CREATED: imports.IMPORT},
        headers={"Location": "The import of the user"},
        problems=frozenset({HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY, imports.UNAVAILABLE}),
    ),
    Route(
        method="GET",
        path=PATH,
        scope=Scope.OPERATE,
        name="list_users",
        summary="Users, in the order of their registration",
        answer=_list_users,
        parameters=(
            Parameter(
                name="import",
                place="query",
                schema={"type": "integer", "minimum": 1, "maximum": LARGEST_ID},
                description="Only the users of this import",
            ),
            after("The id of the last user of the page before"),
            LIMIT,
        ),
        answers={
            HTTPStatus.OK: page_schema(
                "users",
                closed_object(
                    {
                        "id": _ID,
                        "import_id": {**_ID, "type": ["integer", "null"], "description": "null if no import did"},
                        "user": {"$ref": "#/components/schemas/User"},
                    }
                ),
            )
        },
        headers=HEADERS,
        problems=frozenset({imports.UNAVAILABLE}),
    ),
)
