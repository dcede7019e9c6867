"""The OpenAPI 3.1 document, made from the routes, the record and the receipt's JSON Schema."""

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rollcall.domain.record import RecordType
from rollcall.entrypoints.api import problems, rejections, rows, uploads, users
from rollcall.entrypoints.api.routes import JSON, Answer, Parameter, Request, Route, Schema
from rollcall.entrypoints.callers import Scope

if TYPE_CHECKING:
    from rollcall.entrypoints.api import Api

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_SCHEMAS = "#/components/schemas/"
_ETAG = {"ETag": {"schema": {"type": "string"}, "description": "Changes with the body"}}


# The phrases of RFC 9110, which Python has from 3.13 on.
_PHRASES = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Content Too Large",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Unprocessable Content",
}


def body_schemas(record_type: RecordType) -> dict[str, Schema]:
    """Return the schemas to which those of bodies refer, by their names in the document."""
    return {"NewUser": users.new_user_schema(record_type), "Cells": rows.cells_schema(record_type)}


def schemas(record_type: RecordType) -> dict[str, Any]:
    """Return the schemas to which routes refer, by their names in the document."""
    return {
        "User": record_type.schema(),
        **body_schemas(record_type),
        **receipt_schemas(),
        "Upload": uploads.UPLOAD_SCHEMA,
        "Rejections": rejections.REJECTIONS_SCHEMA,
        "Problem": problems.SCHEMA,
    }


def document(routes: Iterable[Route], record_type: RecordType) -> dict[str, Any]:
    """Return the OpenAPI document of some routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Rollcall",
            "version": "1",
            "description": "Register the users of CSV files: exactly once, with every rejected row explained.",
        },
        "jsonSchemaDialect": DIALECT,
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas(record_type),
            "securitySchemes": {
                "caller": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": f"A token with the scope of the route: {' or '.join(Scope)}",
                }
            },
        },
    }


def as_text(routes: Iterable[Route], record_type: RecordType) -> str:
    """Return the OpenAPI document as the text that `rollcall openapi` prints, without a line end."""
    return json.dumps(document(routes, record_type), indent=2)


def receipt_schemas() -> dict[str, Any]:
    """Return the published JSON Schema of a receipt, and those that it defines, by their names in the document.

    Each definition is a schema of the document, because generators of clients follow references to these alone.
    """
    published = Path(__file__).with_name("receipt.schema.json").read_text(encoding="utf-8")

    def moved(members: dict[str, Any]) -> dict[str, Any]:
        if isinstance(members.get("$ref"), str):
            members["$ref"] = _SCHEMAS + _name_of(members["$ref"])
        return members

    schema: dict[str, Any] = json.loads(published, object_hook=moved)
    del schema["$schema"]  # the document's own dialect
    defined = schema.pop("$defs")
    return {"Receipt": schema, **{_name_of(name): definition for name, definition in defined.items()}}


def _name_of(reference: str) -> str:
    """Return the name in the document: Receipt for "#", RowCode for "#/$defs/row_code" and for "row_code"."""
    return "Receipt" if reference == "#" else "".join(map(str.capitalize, reference.rpartition("/")[2].split("_")))


def _operation(route: Route) -> dict[str, Any]:
    shown: dict[str, Any] = {"operationId": route.name, "summary": route.summary}
    if route.scopes:
        shown["security"] = [{"caller": [scope.value]} for scope in route.scopes]
    if route.parameters:
        shown["parameters"] = [_parameter(parameter) for parameter in route.parameters]
    if route.body is not None:
        shown["requestBody"] = {"required": True, "content": {JSON: {"schema": route.body}}}
    headers = {
        name: {"schema": {"type": "string"}, "description": description}
        for name, description in route.headers.items()
    }
    if route.revalidates:
        headers |= _ETAG
    answers = {
        status: _answer(status, route.media_types, schema, headers) for status, schema in route.answers.items()
    }
    if route.revalidates:
        answers[HTTPStatus.NOT_MODIFIED] = _answer(HTTPStatus.NOT_MODIFIED, (), None, _ETAG)
    answers |= {
        status: _answer(status, (problems.MEDIA_TYPE,), {"$ref": f"{_SCHEMAS}Problem"})
        for status in route.all_problems
    }
    shown["responses"] = {str(status.value): answers[status] for status in sorted(answers)}
    return shown


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required or parameter.place == "path",
        "description": parameter.description,
        "schema": parameter.schema,
    }


def _answer(
    status: HTTPStatus, media_types: Iterable[str], schema: Schema | None, headers: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    shown: dict[str, Any] = {"description": _PHRASES.get(status, status.phrase)}
    if headers:
        shown["headers"] = headers
    if schema is not None:
        shown["content"] = {media_type: {"schema": schema} for media_type in media_types}
    return shown


def _get_document(api: "Api", _request: Request) -> Answer:
    return Answer(body=document(api.routes, api.settings.record))


ROUTES = (
    Route(
        method="GET",
        path="/api/openapi.json",
        scope=None,
        name="get_openapi",
        summary="This document",
        answer=_get_document,
        answers={HTTPStatus.OK: {"type": "object"}},
        revalidates=True,
    ),
)
