"""Uploads of the page over HTTP and S3, with PostgreSQL as the importer's role: checked, registered, corrected."""

import io
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import urllib3

from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.bootstrap import web
from rollcall.domain.upload import WebUpload
from rollcall.domain.user import USERS
from rollcall.settings import read_settings
from support.api_events import is_problem
from support.builders import cells_of, completed
from support.database_roles import IMPORTER, EachJobAsItsRole, acting_as
from support.site import LIST, SetClock, Site

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

GOOD = cells_of("Ben", "X", "30")


@pytest.fixture(params=[True, False], ids=["versions", "no versions"])
def site(
    request: pytest.FixtureRequest,
    database_url: str,
    new_bucket: Callable[[bool], str],
    s3_client: "S3Client",
) -> Iterator[Site]:
    """An installation on AWS."""
    inbox = new_bucket(request.param)
    settings = read_settings(
        {
            "ROLLCALL_INBOX": f"s3://{inbox}/in",
            "ROLLCALL_UPLOADS": f"s3://{new_bucket(request.param)}/up",
            "ROLLCALL_REPORTS": f"s3://{new_bucket(False)}",  # noqa: FBT003 - the only argument
        }
    )

    def post(fields: Mapping[str, str], file: io.BytesIO) -> None:
        address = f"{s3_client.meta.endpoint_url}/{inbox}"
        answer = urllib3.request("POST", address, fields={**fields, "file": ("x", file.read())}, timeout=10)
        assert answer.status == 201

    users = EachJobAsItsRole(database_url)
    yield Site(SetClock(), web.web_stores(settings), post, users, settings)
    users.close()


def test_a_file_is_uploaded_checked_registered_and_corrected(site: Site) -> None:
    upload_id, etag = site.checked()
    assert site.names() == []
    assert site.register(upload_id, etag).json["state"] == "registering"
    site.import_all()
    registered = site.state(upload_id)
    import_id = registered["import"]["id"]
    path = f"/api/imports/{import_id}"

    [row] = site.ask("GET", f"{path}/rejections").json["rows"]
    link = site.ask("GET", f"{path}/rejected").headers["Location"]
    for_page = site.ask("GET", f"{path}/rejected", query={"as": "link"}).json["url"]
    assert for_page.partition("?")[0] == link.partition("?")[0]
    file = urllib3.request("GET", link, timeout=10)
    corrected = site.ask("POST", f"{path}/corrections", send={"rows": [{"line": row["line"], "cells": GOOD}]})
    site.import_all()
    late = site.ask(
        "POST", f"{path}/corrections", send={"rows": [{"line": row["line"], "cells": {**GOOD, "age": "31"}}]}
    )

    assert registered["state"] == "registered"
    assert b"Ben" in file.data
    assert file.headers["Content-Disposition"].startswith("attachment")
    assert corrected.status == 202
    assert site.state(corrected.json["id"])["import"]["receipt"]["corrects"] == import_id
    assert is_problem(late, 409, "already-corrected")
    assert site.names() == ["Ann", "Cem", "Ben"]


def test_replaced_bytes_are_not_registered_from_s3(site: Site) -> None:
    upload_id, etag = site.checked()
    [listed] = site.stores.inbox.list()
    site.stores.inbox.put(
        listed.reference.key.removeprefix("in/"), io.BytesIO(completed(LIST.replace(b"Ann", b"Eve")))
    )

    assert site.register(upload_id, etag).status == 409
    site.check(upload_id)
    assert is_problem(site.register(upload_id, etag), 409, "changed-since-check")
    assert list(site.stores.uploads.list()) == []


def test_ten_registrations_in_s3_are_one_import(site: Site, database_url: str) -> None:
    upload_id, etag = site.checked()
    start = threading.Barrier(10)

    def register(_: int) -> str:
        users = PostgresUserRepository(acting_as(IMPORTER, database_url), USERS)
        case = web.uploading(site.settings, site.stores, users, site.now).register
        start.wait(timeout=30)
        try:
            return case(WebUpload.parse(upload_id), etag).state
        finally:
            users.close()

    with ThreadPoolExecutor(10) as pool:
        states = set(pool.map(register, range(10)))
    site.import_all()
    site.import_all()

    assert states == {"registering"}
    assert site.names() == ["Ann", "Cem"]
    assert len(list(site.users.entries())) == 1


def test_a_second_file_of_a_name_is_found_in_the_ledger(site: Site) -> None:
    import_id = site.loaded()
    upload_id, etag = site.checked(LIST.replace(b"Ann", b"Eve"))

    refused = site.register(upload_id, etag)
    as_new = site.register(upload_id, etag, as_new=True)
    site.import_all()

    assert is_problem(refused, 409, "key-already-loaded")
    assert f"import {import_id}" in refused.json["detail"]
    assert as_new.status == 202
    assert site.names() == ["Ann", "Cem", "Eve", "Cem"]
