"""Uploaders see only what is theirs, on every route that names an upload or an import."""

import io
from typing import Any

import pytest

from rollcall.domain.user import USERS
from rollcall.entrypoints.api import ROUTES
from rollcall.entrypoints.api.openapi import document
from rollcall.entrypoints.api.routes import Route
from rollcall.entrypoints.callers import Scope
from support.api_events import ISSUER, Answered, everything_logged, is_problem, signed, token
from support.builders import cells_of, completed
from support.site import Site

CANARY = "S3CRET"
LIST = f"name,country,age\n{CANARY},X,old\nAnn,X,1\n".encode()

OWNED = [
    route
    for route in ROUTES
    if "{id}" in route.path
    and route.scope is Scope.UPLOAD
    and route.path.startswith(("/api/uploads", "/api/imports"))
]
CORRECTION = {"rows": [{"line": 2, "cells": cells_of(CANARY, "X", "3")}]}


def sent(route: Route, etag: str) -> dict[str, Any]:
    """Return a valid body and valid headers for a route."""
    bodies = {"register_upload": {}, "correct_rows": CORRECTION, "correct_list": CORRECTION}
    return {"send": bodies.get(route.name), "headers": {"if-match": etag}}


@pytest.fixture
def site() -> Site:
    """An installation in memory."""
    return Site.in_memory()


def test_every_route_with_an_id_is_tried() -> None:
    """As the OpenAPI document shows them."""
    paths = document(ROUTES, USERS)["paths"]
    documented = {
        (method.upper(), path)
        for path, operations in paths.items()
        for method, operation in operations.items()
        if "{id}" in path and {"caller": [Scope.UPLOAD]} in operation["security"]
    }

    assert {(route.method, route.path) for route in OWNED} == documented
    assert len(documented) >= 6


def ask(site: Site, route: Route, ids: dict[str, object], etag: str, **by: Any) -> Answered:  # noqa: ANN401 - as `ask`
    path = route.path.replace("{id}", str(ids[route.path.split("/")[2]]))
    return site.ask(route.method, path, **sent(route, etag), **by)


@pytest.mark.parametrize("route", OWNED, ids=lambda route: route.name)
def test_what_is_anothers_does_not_exist(site: Site, route: Route) -> None:
    upload_id, etag = site.checked(LIST)
    import_id = site.loaded(LIST, "other.csv")
    ids: dict[str, object] = {"uploads": upload_id, "imports": import_id}
    before = list(site.stores.uploads.list())

    strangers = [
        ask(site, route, ids, etag, authorizer=authorizer)
        for authorizer in (
            token("ben", Scope.UPLOAD),
            token("ann", Scope.UPLOAD, "https://other.example"),
            token(f"{ISSUER}ann", Scope.UPLOAD),
        )
    ]
    missing = ask(site, route, {"uploads": upload_id[:-1] + "g", "imports": 999}, etag)

    assert all(is_problem(answered, 404, "not-found") for answered in [*strangers, missing])
    assert list(site.stores.uploads.list()) == before
    # The check of that list did not refuse it, so it is not corrected as a whole.
    assert (ask(site, route, ids, etag).status < 400) == (route.name != "correct_list")


@pytest.mark.parametrize(
    "route", [route for route in OWNED if route.other_scope is Scope.OPERATE], ids=lambda route: route.name
)
def test_operators_see_all_imports(site: Site, route: Route) -> None:
    import_id = site.loaded(LIST)
    site.stores.uploads.put("direct.csv", io.BytesIO(completed(LIST.replace(b"Ann", b"Eve"))))
    site.import_all()
    [direct] = [entry.import_id for entry in site.users.entries() if entry.uploaded_by is None]

    for number in import_id, direct:
        answered = ask(site, route, {"imports": number}, "", authorizer=token("oz", Scope.OPERATE))
        assert answered.status < 400, answered.text
    assert is_problem(ask(site, route, {"imports": direct}, ""), 404, "not-found")


def test_the_session_of_a_principal_does_not_matter(site: Site) -> None:
    upload = site.ask(
        "POST", "/api/uploads", send={"filename": "a", "size": 1}, authorizer=signed("AROAX:one")
    ).json["id"]

    assert site.ask("GET", f"/api/uploads/{upload}", authorizer=signed("AROAX:two")).status == 200
    assert site.ask("GET", f"/api/uploads/{upload}", authorizer=signed("AROAY:one")).status == 404


def test_no_route_logs_cells_names_or_tokens(site: Site) -> None:
    """Answers are for the uploader; the log is not."""
    with everything_logged() as log:
        upload_id, etag = site.checked(LIST, f"{CANARY}.csv")
        site.register(upload_id, etag)
        site.import_all()
        import_id = site.state(upload_id)["import"]["id"]
        for by in "ann", CANARY:
            for route in OWNED:
                ask(site, route, {"uploads": upload_id, "imports": import_id}, etag, by=by)
        site.ask("POST", "/api/uploads", send={"filename": f"{CANARY}.zip", "size": 1})
        site.ask("POST", f"/api/imports/{import_id}/corrections", send={"rows": [{"line": 99, "cells": CANARY}]})

    assert CANARY not in log.getvalue()
