"""The WSGI application of `rollcall serve`: signed forms, clients that stop, and a turn that does not come."""

import io
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from rollcall.adapters.local import LocalObjectStore
from rollcall.application.forms import FORM_PATH
from rollcall.entrypoints import serve
from rollcall.entrypoints.serve import Served
from support.api_events import an_api
from support.forms import form, multipart_type

MAX_BYTES = 100
KEY = "web/users.csv"


@pytest.fixture
def inbox(tmp_path: Path) -> LocalObjectStore:
    return LocalObjectStore(tmp_path)


@pytest.fixture
def served(inbox: LocalObjectStore) -> Served:
    return Served(
        api=an_api(),
        token="token",  # noqa: S106 - of this test
        host="127.0.0.1",
        port=80,
        receive=inbox.receive,
        max_upload_bytes=1000,
        log=lambda _line: None,
    )


def _soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=10)


def _status(served: Served, method: str, path: str, body: BinaryIO, length: int, **more: str) -> int:
    started: list[str] = []
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "REQUEST_URI": path,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "CONTENT_LENGTH": str(length),
        "wsgi.input": body,
        **more,
    }
    list(served(environ, lambda line, _headers: started.append(line)))
    return int(started[0].partition(" ")[0])


def _upload(served: Served, body: bytes) -> int:
    return _status(served, "POST", FORM_PATH, io.BytesIO(body), len(body), CONTENT_TYPE=multipart_type())


def test_forms_are_signed_for_the_address_of_the_inbox(inbox: LocalObjectStore) -> None:
    assert inbox.sign(KEY, max_bytes=MAX_BYTES, expires=_soon()).url == FORM_PATH


def test_a_signed_form_is_stored_once(served: Served, inbox: LocalObjectStore, tmp_path: Path) -> None:
    body = form(inbox.sign(KEY, max_bytes=MAX_BYTES, expires=_soon()).fields, b"a" * MAX_BYTES)

    assert [_upload(served, body) for _ in range(2)] == [HTTPStatus.CREATED, HTTPStatus.FORBIDDEN]
    assert (tmp_path / KEY).read_bytes() == b"a" * MAX_BYTES


def test_a_file_that_is_longer_than_signed_is_refused(
    served: Served, inbox: LocalObjectStore, tmp_path: Path
) -> None:
    body = form(inbox.sign(KEY, max_bytes=MAX_BYTES, expires=_soon()).fields, b"a" * (MAX_BYTES + 1))

    assert _upload(served, body) == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("end", [1, 200, -1, -4])
def test_a_signed_form_that_is_cut_off_stores_nothing(
    served: Served, inbox: LocalObjectStore, tmp_path: Path, end: int
) -> None:
    signed = inbox.sign(KEY, max_bytes=MAX_BYTES, expires=_soon())
    body = form(signed.fields, b"a" * MAX_BYTES).removesuffix(b"\r\n")

    cut = io.BytesIO(body[:end])
    assert (
        _status(served, "POST", FORM_PATH, cut, len(body), CONTENT_TYPE=multipart_type()) == HTTPStatus.BAD_REQUEST
    )
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


class _Stalled(io.BytesIO):
    def read(self, _size: int | None = -1, /) -> bytes:
        raise TimeoutError("timed out")


def test_a_client_that_stops_sending_is_left_to_the_server(served: Served) -> None:
    with pytest.raises(TimeoutError):
        _status(served, "POST", "/api/rows/check", _Stalled(), 10)


def test_a_request_waits_for_its_turn_for_a_limited_time(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "_TURN_SECONDS", 0.01)

    with served._turn:  # noqa: SLF001 - as a request that hangs holds it
        assert _status(served, "GET", "/api/policy", io.BytesIO(), 0) == HTTPStatus.SERVICE_UNAVAILABLE
