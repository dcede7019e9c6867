"""The body and the parameters of a request: read, and compared with their JSON Schema."""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from types import NoneType
from typing import Any, NoReturn

from rollcall.domain.rejection import Code, counted
from rollcall.entrypoints.api.problems import Detail, Problem, RequestCode
from rollcall.entrypoints.api.routes import JSON, Parameter, Route, Schema

_integer = re.compile("-?[0-9]{1,18}")
_types: Mapping[str, tuple[tuple[type, ...], str]] = {
    "object": ((dict,), "an object"),
    "array": ((list,), "an array"),
    "string": ((str,), "text"),
    "integer": ((int,), "a whole number"),
    "boolean": ((bool,), "true or false"),
    "null": ((NoneType,), "null"),
}


def read_body(event: Mapping[str, Any], schema: Schema, *, max_bytes: int) -> Any:  # noqa: ANN401 - any JSON
    """Return the body of a request, read from JSON.

    Args:
        event: The event of an HTTP API.
        schema: The schema of the body; see `errors_in` for its keywords.
        max_bytes: The largest size of the body.

    Raises:
        Problem: The body is too large, is not JSON, or does not match the schema.
    """
    media_type, _, _ = (_headers(event).get("content-type") or "").partition(";")
    if media_type.strip().lower() != JSON:
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, RequestCode.UNSUPPORTED_MEDIA_TYPE, f"send the body as {JSON}"
        )
    data = _bytes(event)
    if len(data) > max_bytes:
        raise Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            Code.SIZE_LIMIT,
            f"the body has {len(data):,} bytes; send at most {max_bytes:,}",
        )
    body = _read_json(data)
    errors = list(errors_in(body, schema))
    if any(error.code is RequestCode.TOO_MANY for error in errors):
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, Code.SIZE_LIMIT, errors[0].detail, errors)
    if errors:
        raise _invalid("the body is not as described", errors)
    return body


def read_parameters(route: Route, event: Mapping[str, Any], path: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters of a request by name, with integers as numbers.

    Args:
        route: The route.
        event: The event of an HTTP API.
        path: The parameters in the path.

    Raises:
        Problem: A parameter is missing, unknown, or does not match its schema.
    """
    query: Mapping[str, str] = event.get("queryStringParameters") or {}
    sent: Mapping[str, Mapping[str, str]] = {"path": path, "query": query, "header": _headers(event)}
    found = {}
    errors = []
    known = {parameter.name for parameter in route.parameters if parameter.place == "query"}
    if set(query) - known and not route.ignores_query:
        names = f"; the parameters are {', '.join(sorted(known))}" if known else ""
        errors.append(Detail("", RequestCode.UNKNOWN_MEMBER, f"the query has an unknown parameter{names}"))
    for parameter in route.parameters:
        name = parameter.name.lower() if parameter.place == "header" else parameter.name
        if name not in sent[parameter.place]:
            if parameter.required:
                errors.append(
                    Detail(f"/{parameter.name}", RequestCode.MISSING_MEMBER, f"{parameter.name} is missing")
                )
            continue
        value = _converted(parameter, sent[parameter.place][name])
        wrong = list(errors_in(value, parameter.schema, f"/{parameter.name}"))
        if wrong and parameter.place == "path":
            raise not_found()
        errors += wrong
        found[parameter.name] = value
    if errors:
        raise _invalid("a parameter is not as described", errors)
    return found


def not_found() -> Problem:
    """Return the problem that something does not exist, or does not exist for this caller."""
    return Problem(HTTPStatus.NOT_FOUND, RequestCode.NOT_FOUND, "there is nothing at this address")


def errors_in(value: Any, schema: Schema, pointer: str = "") -> Iterator[Detail]:  # noqa: ANN401 - any JSON
    """Compare a value with a JSON Schema. The errors show neither the value nor the name of an unknown member.

    Args:
        value: A value that JSON has.
        schema: A JSON Schema with these keywords: type (one, or several simple ones), properties, required,
            additionalProperties (false), items, maxItems, minItems, minLength, maxLength, pattern, minimum,
            maximum, enum.
        pointer: The JSON Pointer of the value.

    Yields:
        The errors.
    """
    named = schema["type"]
    accepted = [_types[name] for name in ([named] if isinstance(named, str) else named)]
    types, noun = sum((types for types, _ in accepted), ()), " or ".join(noun for _, noun in accepted)
    what = pointer.rpartition("/")[2] or "the body"
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        yield Detail(pointer, RequestCode.WRONG_TYPE, f"{what} is not {noun}")
    elif isinstance(value, dict):
        yield from _errors_in_object(value, schema, pointer, what)
    elif isinstance(value, list):
        if len(value) > schema.get("maxItems", len(value)):
            detail = f"{what} has {counted(len(value), 'item')}; send at most {schema['maxItems']:,}"
            yield Detail(pointer, RequestCode.TOO_MANY, detail)
            return
        if len(value) < schema.get("minItems", 0):
            yield Detail(pointer, RequestCode.OUT_OF_RANGE, f"{what} has too few items")
        for index, item in enumerate(value):
            yield from errors_in(item, schema["items"], f"{pointer}/{index}")
    elif isinstance(value, str | int) and not _in_range(value, schema):
        yield Detail(pointer, RequestCode.OUT_OF_RANGE, f"{what} is too short, too long, or not an allowed value")


def resolved(schema: Any, schemas: Mapping[str, Schema]) -> Any:  # noqa: ANN401 - any part of a schema
    """Return a schema with what it refers to in place of each reference."""
    if isinstance(schema, list):
        return [resolved(item, schemas) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    if "$ref" in schema:
        return schemas[schema["$ref"].rpartition("/")[2]]
    return {keyword: resolved(value, schemas) for keyword, value in schema.items()}


def _errors_in_object(value: dict[str, Any], schema: Schema, pointer: str, what: str) -> Iterator[Detail]:
    properties: Mapping[str, Schema] = schema["properties"]
    for name in schema.get("required", ()):
        if name not in value:
            yield Detail(f"{pointer}/{name}", RequestCode.MISSING_MEMBER, f"{name} is missing")
    if set(value) - set(properties):
        detail = f"{what} has an unknown member; the members are {', '.join(properties)}"
        yield Detail(pointer, RequestCode.UNKNOWN_MEMBER, detail)
    for name, its_schema in properties.items():
        if name in value:
            yield from errors_in(value[name], its_schema, f"{pointer}/{name}")


def _in_range(value: str | int, schema: Schema) -> bool:
    if value not in schema.get("enum", (value,)):
        return False
    if isinstance(value, str):
        fits = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        # In a JSON Schema, `$` does not allow a line end.
        pattern = re.sub(r"\$\Z", r"\\Z", schema.get("pattern", ""))
        return fits and re.search(pattern, value) is not None
    smallest, largest = schema.get("minimum", value), schema.get("maximum", value)
    return bool(smallest <= value <= largest)


def _converted(parameter: Parameter, text: str) -> str | int:
    return int(text) if parameter.schema["type"] == "integer" and _integer.fullmatch(text) else text


def _bytes(event: Mapping[str, Any]) -> bytes:
    body: str = event.get("body") or ""
    if event.get("isBase64Encoded"):
        with suppress(ValueError):
            return base64.b64decode(body, validate=True)
        raise _invalid("the body is not base64", [])
    return body.encode(errors="surrogatepass")


def _read_json(data: bytes) -> Any:  # noqa: ANN401 - any JSON
    # The problem is raised outside, because the context of an exception of `json` holds the whole body.
    with suppress(ValueError, RecursionError):
        body = json.loads(data.decode(), parse_float=_number, parse_constant=_refuse, object_pairs_hook=_object)
        json.dumps(body, ensure_ascii=False).encode()  # an escape may hide a lone surrogate
        return body
    raise _invalid("the body is not JSON in UTF-8", [])


def _headers(event: Mapping[str, Any]) -> dict[str, str]:
    return {name.lower(): value for name, value in (event.get("headers") or {}).items()}


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        raise ValueError("a member occurs twice")
    return found


def _number(text: str) -> float:
    """Return a number; 1.0 is a whole number, as in JSON Schema."""
    number = float(text)
    return int(number) if number.is_integer() else number


def _refuse(_constant: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _invalid(detail: str, errors: list[Detail]) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, RequestCode.INVALID_REQUEST, detail, errors)
