"""The uploader's page: files of the package, which contain no data."""

from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import rollcall
from rollcall.entrypoints.api.bodies import not_found
from rollcall.entrypoints.api.routes import Answer, Parameter, Request, Route

if TYPE_CHECKING:
    from rollcall.entrypoints.api import Api

FOLDER = Path(rollcall.__file__).parent / "web"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".svg": "image/svg+xml",
}


# What the page may load, and whom it may ask: only this host.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)


def _get_page(_api: "Api", _request: Request) -> Answer:
    headers = {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
    }
    return _file(FOLDER / "index.html", headers)


def _get_asset(_api: "Api", request: Request) -> Answer:
    # The name is compared with the files that exist, so it leads nowhere else.
    found = {path.name: path for path in FOLDER.iterdir() if path.suffix in MEDIA_TYPES}
    path = found.get(request.parameters["name"])
    if not path:
        raise not_found()
    return _file(path, {})


def _file(path: Path, headers: dict[str, str]) -> Answer:
    return Answer(body=path.read_text(encoding="utf-8"), media_type=MEDIA_TYPES[path.suffix], headers=headers)


ROUTES = (
    Route(
        method="GET",
        path="/",
        scope=None,
        name="get_page",
        summary="The uploader's page",
        answer=_get_page,
        answers={HTTPStatus.OK: {"type": "string"}},
        media_type="text/html",
        revalidates=True,
    ),
    Route(
        method="GET",
        path="/assets/{name}",
        scope=None,
        name="get_asset",
        summary="A file of the uploader's page",
        answer=_get_asset,
        parameters=(
            Parameter(
                name="name",
                place="path",
                schema={"type": "string", "pattern": r"^[a-z]+\.[a-z]+$"},
                description="The name of the file",
            ),
        ),
        answers={HTTPStatus.OK: {"type": "string"}},
        media_type="*/*",
        revalidates=True,
    ),
)
