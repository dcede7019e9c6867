"""The uploader's page: files of the package, which contain no data."""

from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from rollcall.bootstrap import PAGE_FOLDER
from rollcall.entrypoints.api.bodies import not_found
from rollcall.entrypoints.api.routes import Answer, Parameter, Request, Route

if TYPE_CHECKING:
    from rollcall.entrypoints.api import Api

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".svg": "image/svg+xml",
}


SITE = "site.json"


def content_security_policy(hosts: Sequence[str]) -> str:
    """Return what the page may load, and whom it may ask.

    Args:
        hosts: The hosts that it may ask besides its own.
    """
    sources = ["'self'", *hosts]
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src {' '.join(sources)}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )


def _get_page(api: "Api", _request: Request) -> Answer:
    headers = {
        "Content-Security-Policy": content_security_policy(api.settings.page_hosts),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
    }
    return _file(PAGE_FOLDER / "index.html", headers)


def _get_asset(api: "Api", request: Request) -> Answer:
    if request.parameters["name"] == SITE:
        sign_in = api.settings.sign_in
        return Answer(body={"sign_in": attrs.asdict(sign_in) if sign_in else None})
    # The name is compared with the files that exist, so it leads nowhere else.
    found = {path.name: path for path in PAGE_FOLDER.iterdir() if path.suffix in MEDIA_TYPES}
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
        media_types=("text/html",),
        revalidates=True,
        ignores_query=True,  # a sign-in comes back with a code and more, which is for the page alone
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
        answers={HTTPStatus.OK: {}},
        media_types=tuple(media_type.partition(";")[0] for media_type in MEDIA_TYPES.values()),
        revalidates=True,
    ),
)
