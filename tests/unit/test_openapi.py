"""The OpenAPI document is valid, complete, and the one in docs/."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from rollcall.domain.user import User
from rollcall.entrypoints.api import ROUTES
from rollcall.entrypoints.api.openapi import document
from rollcall.entrypoints.cli import cli
from support.receipts import SCHEMA

DOCUMENT: dict[str, Any] = document(ROUTES)
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
    """The receipt's schema differs only by the place of its references."""
    schemas = DOCUMENT["components"]["schemas"]
    back = json.dumps(schemas["Receipt"]).replace("#/components/schemas/Receipt", "#")

    assert schemas["User"] == User.schema()
    assert {"$schema": SCHEMA["$schema"], **json.loads(back)} == SCHEMA


def test_every_schema_is_a_json_schema() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert name
