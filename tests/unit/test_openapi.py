"""The OpenAPI document is valid, complete, and the one in docs/."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from rollcall.domain.user import USERS
from rollcall.entrypoints.api import ROUTES
from rollcall.entrypoints.api.openapi import document
from rollcall.entrypoints.cli import cli
from support.receipts import SCHEMA

DOCUMENT: dict[str, Any] = document(ROUTES, USERS)
PUBLISHED = Path(__file__).parents[2] / "docs/openapi.json"


def test_the_published_document_is_the_printed_one() -> None:
    """After a change: rollcall openapi > docs/openapi.json."""
    printed = CliRunner().invoke(cli, ["openapi"])

    assert printed.exit_code == 0
    assert printed.stdout == PUBLISHED.read_text(encoding="utf-8")
    assert json.loads(printed.stdout) == DOCUMENT


def test_the_document_is_valid_openapi() -> None:
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_route_is_documented_with_its_scope(route: Any) -> None:  # noqa: ANN401 - as `parametrize` passes it
    operation = DOCUMENT["paths"][route.path][route.method.lower()]

    assert operation["operationId"] == route.name
    assert operation.get("security", []) == [{"caller": [scope]} for scope in route.scopes]


def test_no_two_routes_are_the_same() -> None:
    assert len({route.name for route in ROUTES}) == len({(route.method, route.path) for route in ROUTES})
    assert len({route.name for route in ROUTES}) == len(ROUTES)


def test_the_document_holds_the_user_and_the_receipt() -> None:
    """The receipt's schemas differ only by their names."""
    names = {"Receipt": "#"} | {name.title().replace("_", ""): f"#/$defs/{name}" for name in SCHEMA["$defs"]}
    text = json.dumps(DOCUMENT["components"]["schemas"])
    for name, reference in names.items():
        text = text.replace(f'"#/components/schemas/{name}"', f'"{reference}"')
    schemas = json.loads(text)

    assert schemas["User"] == USERS.schema()
    moved = {name: schemas[name.title().replace("_", "")] for name in SCHEMA["$defs"]}
    assert {"$schema": SCHEMA["$schema"], "$defs": moved, **schemas["Receipt"]} == SCHEMA


def test_references_name_schemas_of_the_document() -> None:
    """Generators of clients follow no others."""
    named = set(re.findall(r'"\$ref": "([^"]*)"', json.dumps(DOCUMENT)))

    assert named <= {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}


def test_every_schema_is_a_json_schema() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert name
