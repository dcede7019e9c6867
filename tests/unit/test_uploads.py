"""Uploads of the page: started, checked, registered exactly as seen, once."""

import io
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import attrs
import pytest

from rollcall.adapters.local import LocalObjectStore
from rollcall.adapters.memory import MemoryObjectStore
from rollcall.application.errors import FormRefusedError
from rollcall.application.find_upload import State
from rollcall.bootstrap.web import web_stores
from rollcall.domain.receipt import Status
from rollcall.domain.upload import ObjectReference, WebUpload
from rollcall.settings import SettingError, read_settings
from support.api_events import is_problem
from support.builders import cells_of, completed
from support.site import LIST, Site

DAY = timedelta(days=1)


@pytest.fixture(params=["memory", "folder"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    """An installation in memory, and one in folders."""
    return Site.in_memory() if request.param == "memory" else Site.in_folders(tmp_path)


def replace(site: Site, upload_id: str, data: bytes) -> None:
    """Replace the bytes of an upload in the inbox."""
    keys = {listed.reference.key for listed in site.stores.inbox.list()}
    [key] = [key for key in keys if upload_id[-32:] in key]
    site.stores.inbox.put(key, io.BytesIO(completed(data)))


def test_an_upload_passes_through_all_states(site: Site) -> None:
    started = site.ask("POST", "/api/uploads", send={"filename": "list.csv", "size": len(completed(LIST))})
    upload_id = started.json["id"]
    states = [site.state(upload_id)]
    site.receive(started.json["fields"], io.BytesIO(completed(LIST)))
    states.append(site.state(upload_id))
    receipt = site.check(upload_id)
    states.append(site.state(upload_id))
    etag = states[-1]["check"]["etag"]
    registered = site.register(upload_id, etag)
    states.append(registered.json)
    site.import_all()
    states.append(site.state(upload_id))

    assert [state["state"] for state in states] == ["awaiting", "checking", "checked", "registering", "registered"]
    assert (started.status, registered.status) == (201, 202)
    assert started.headers["Location"] == f"/api/uploads/{upload_id}" == states[0]["links"]["self"]
    assert (receipt.status, receipt.counts.registered) == (Status.PARTIALLY_LOADED, 2)
    assert states[2]["check"]["receipt"]["import_id"] is None
    assert states[4]["import"]["receipt"]["status"] == "partially_loaded"
    assert states[4]["links"]["import"] == f"/api/imports/{states[4]['import']['id']}"
    assert site.names() == ["Ann", "Cem"]


def test_a_client_waits_while_the_state_changes_by_itself(site: Site) -> None:
    upload_id = site.send()
    waiting = site.ask("GET", f"/api/uploads/{upload_id}")
    site.check(upload_id)
    settled = site.ask("GET", f"/api/uploads/{upload_id}")

    assert waiting.headers["Retry-After"] == "2"
    assert "Retry-After" not in settled.headers
    assert site.register(upload_id, settled.json["check"]["etag"]).headers["Retry-After"] == "2"


@pytest.mark.parametrize(
    ("filename", "size", "status", "code"),
    [
        ("list.csv", 5 * 2**30 + 1, 413, "size-limit"),
        ("list.XLSX", 10, 415, "format-error"),
        ("list.zip", 10, 415, "format-error"),
        ("list.pdf", 10, 415, "format-error"),
        ("list.xlsx.gz", 10, 415, "format-error"),
        ("list", 10, 201, ""),
        ("list.csv.gz", 10, 201, ""),
        ("xlsx", 10, 201, ""),
        ("../../etc/passwd", 10, 201, ""),
    ],
)
def test_what_can_never_be_a_list_is_not_sent(filename: str, size: int, status: int, code: str) -> None:
    site = Site.in_memory()

    answered = site.ask("POST", "/api/uploads", send={"filename": filename, "size": size})

    assert answered.status == status
    assert status == 201 or is_problem(answered, status, code)


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    site = Site.in_folders(tmp_path)

    for filename in "é" * 128, "..", ".":
        answered = site.ask("POST", "/api/uploads", send={"filename": filename, "size": 1})
        assert is_problem(answered, 422, "source-unreadable")


def test_a_check_changes_neither_users_nor_ledger(site: Site) -> None:
    site.loaded(b"name,country,age\nZoe,X,1\n", "other.csv")
    before = list(site.users.users()), list(site.users.entries()), list(site.stores.uploads.list())

    upload_id, _ = site.checked()

    assert site.state(upload_id)["state"] == "checked"
    assert (list(site.users.users()), list(site.users.entries()), list(site.stores.uploads.list())) == before


def test_a_repeated_check_has_the_same_etag(site: Site) -> None:
    """A message may be delivered again."""
    upload_id, etag = site.checked()
    rejections = site.ask("GET", f"/api/uploads/{upload_id}/rejections").json
    site.now.pass_by(timedelta(minutes=5))
    site.check(upload_id)

    assert site.state(upload_id)["check"]["etag"] == etag
    assert site.ask("GET", f"/api/uploads/{upload_id}/rejections").json == rejections


def test_the_rejected_rows_of_a_check_are_shown(site: Site) -> None:
    upload_id, _ = site.checked()

    shown = site.ask("GET", f"/api/uploads/{upload_id}/rejections").json

    assert shown["next"] is None
    [row] = shown["rows"]
    assert (row["line"], row["cells"]) == (3, cells_of("Ben", "X", "old"))
    assert row["faults"][0]["code"] == "type-error"


def test_rejected_rows_are_not_shown_before_the_check(site: Site) -> None:
    assert is_problem(site.ask("GET", f"/api/uploads/{site.send()}/rejections"), 409, "not-checked")


def test_nothing_is_registered_before_its_check(site: Site) -> None:
    assert is_problem(site.register(site.send(), '"x"'), 409, "not-checked")
    unknown = site.ask("POST", "/api/uploads", send={"filename": "a", "size": 1}).json["id"]
    assert is_problem(site.register(unknown, '"x"'), 409, "not-checked")
    assert list(site.stores.uploads.list()) == []


def test_an_etag_is_needed_to_register(site: Site) -> None:
    upload_id, etag = site.checked()

    missing = site.ask("PUT", f"/api/uploads/{upload_id}/registration", send={})
    assert is_problem(missing, 400, "invalid-request")
    for other in etag.strip('"'), '"x"', "*", "":
        assert is_problem(site.register(upload_id, other), 409, "changed-since-check")


def test_a_file_that_its_check_refused_is_not_registered(site: Site) -> None:
    upload_id, etag = site.checked(b"name,country\nAnn,Norway\n")

    answered = site.register(upload_id, etag)

    assert is_problem(answered, 409, "refused")
    assert "no column is called age" in answered.json["detail"]


def test_replaced_bytes_are_never_registered(site: Site) -> None:
    """Not before their own check, and not under the ETag of another."""
    upload_id, etag = site.checked()
    replace(site, upload_id, b"name,country,age\nEve,Z,9\n")

    assert site.register(upload_id, etag).status == 409
    site.check(upload_id)
    assert is_problem(site.register(upload_id, etag), 409, "changed-since-check")
    site.import_all()
    assert site.names() == []

    assert site.register(upload_id, site.state(upload_id)["check"]["etag"]).status == 202
    site.import_all()
    assert site.names() == ["Eve"]


def test_bytes_replaced_during_the_request_are_not_registered(site: Site) -> None:
    """Between the look at the check and the copy."""
    upload_id, etag = site.checked()
    uploading = site.uploading

    @attrs.frozen
    class Replacing:
        inner: MemoryObjectStore | LocalObjectStore

        def copy(self, *asked: Any) -> None:  # noqa: ANN401 - as it was
            replace(site, upload_id, b"name,country,age\nEve,Z,9\n")
            self.inner.copy(*asked)

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as it was
            return getattr(self.inner, name)

    register: Any = attrs.evolve(uploading.register, uploads=Replacing(site.stores.uploads))  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Site, "uploading", attrs.evolve(uploading, register=register))
        answered = site.register(upload_id, etag)
    site.import_all()

    assert (answered.status, site.names()) in [(202, ["Ann", "Cem"]), (409, [])]


def test_other_settings_need_another_look(site: Site) -> None:
    upload_id, etag = site.checked()
    site.settings = read_settings({"ROLLCALL_MAX_REJECTED": "0"})
    site.check(upload_id)

    assert is_problem(site.register(upload_id, etag), 409, "changed-since-check")


def test_ten_registrations_at_once_are_one_import(site: Site) -> None:
    upload_id, etag = site.checked()
    register = site.uploading.register

    with ThreadPoolExecutor(10) as pool:
        calls = [pool.submit(register, WebUpload.parse(upload_id), etag) for _ in range(10)]
        states = {call.result(timeout=60).state for call in calls}
    for _ in range(3):
        site.import_all()
    late = site.register(upload_id, etag)

    assert states == {State.REGISTERING}
    assert (late.status, late.json["state"]) == (202, "registered")
    assert len(list(site.users.entries())) == 1
    assert site.names() == ["Ann", "Cem"]


class KilledError(BaseException):
    """The process was killed."""


def test_a_registration_killed_after_its_copy_can_be_repeated(site: Site) -> None:
    upload_id, etag = site.checked()
    uploading = site.uploading

    @attrs.frozen
    class Killing:
        inner: Any

        def copy(self, *asked: Any) -> NoReturn:  # noqa: ANN401 - as it was
            self.inner.copy(*asked)
            raise KilledError

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as it was
            return getattr(self.inner, name)

    register = attrs.evolve(uploading.register, uploads=Killing(site.stores.uploads))
    with pytest.raises(KilledError):
        register(WebUpload.parse(upload_id), etag)
    site.import_all()

    assert site.register(upload_id, etag).json["state"] == "registered"
    site.import_all()
    assert site.names() == ["Ann", "Cem"]
    assert len(list(site.users.entries())) == 1


def test_an_upload_expires_by_time(site: Site) -> None:
    """The store removes it later."""
    upload_id, etag = site.checked()
    site.now.pass_by(DAY - timedelta(minutes=1))
    assert site.state(upload_id)["state"] == State.CHECKED
    site.now.pass_by(timedelta(minutes=2))

    assert site.state(upload_id)["state"] == State.EXPIRED
    assert is_problem(site.register(upload_id, etag), 410, "expired")


def test_an_upload_that_is_not_sent_expires_with_its_form(site: Site) -> None:
    started = site.ask("POST", "/api/uploads", send={"filename": "list.csv", "size": 1}).json
    waiting = [site.state(started["id"])["state"]]
    site.now.pass_by(timedelta(minutes=10))
    waiting.append(site.state(started["id"])["state"])

    assert waiting == [State.AWAITING, State.EXPIRED]
    with pytest.raises(FormRefusedError):
        site.receive(started["fields"], io.BytesIO(LIST))
    assert is_problem(site.register(started["id"], '"x"'), 410, "expired")


def test_an_expired_upload_stays_expired_when_it_is_gone() -> None:
    site = Site.in_memory()
    upload_id, etag = site.checked()
    site.now.pass_by(DAY)
    site.stores = attrs.evolve(site.stores, inbox=MemoryObjectStore("inbox", site.now))

    assert site.state(upload_id)["state"] == State.EXPIRED
    assert is_problem(site.register(upload_id, etag), 410, "expired")


def test_the_last_check_outlives_its_upload(site: Site) -> None:
    """With its rejected rows, for its uploader only."""
    upload_id, _ = site.checked()
    before = site.state(upload_id)["check"]
    site.now.pass_by(2 * DAY)
    path = f"/api/uploads/{upload_id}"

    assert site.state(upload_id)["check"] == before
    assert [row["line"] for row in site.ask("GET", f"{path}/rejections").json["rows"]] == [3]
    assert is_problem(site.ask("GET", path, by="ben"), 404, "not-found")


def test_a_registered_upload_does_not_expire(site: Site) -> None:
    upload_id, etag = site.checked()
    site.register(upload_id, etag)
    site.import_all()
    site.now.pass_by(10 * DAY)

    assert site.state(upload_id)["state"] == "registered"
    assert site.register(upload_id, etag).status == 202


class Unread(LocalObjectStore):
    """A folder whose files nobody may read."""

    def open(self, _reference: ObjectReference) -> NoReturn:
        raise AssertionError


def test_the_state_of_an_old_upload_needs_no_file(tmp_path: Path) -> None:
    """The file may be large, and is asked for often."""
    site = Site.in_folders(tmp_path)
    upload_id, etag = site.checked()
    site.register(upload_id, etag)
    site.import_all()
    site.now.pass_by(10 * DAY)
    site.stores = attrs.evolve(site.stores, uploads=Unread(tmp_path / "uploads"))

    assert site.state(upload_id)["state"] == "registered"


def test_a_second_file_of_that_name_names_the_first_import(site: Site) -> None:
    import_id = site.loaded()
    upload_id, etag = site.checked(b"name,country,age\nEve,Z,9\n")

    answered = site.register(upload_id, etag)

    assert is_problem(answered, 409, "key-already-loaded")
    assert f"import {import_id}" in answered.json["detail"]
    assert answered.headers["Link"] == f'</api/imports/{import_id}>; rel="related"'
    assert site.state(upload_id)["state"] == "checked"


def test_a_second_file_can_be_registered_as_a_new_list(site: Site) -> None:
    site.loaded()
    upload_id, etag = site.checked(b"name,country,age\nEve,Z,9\n")

    for _ in range(2):
        assert site.register(upload_id, etag, as_new=True).status == 202
        site.import_all()

    assert site.state(upload_id)["state"] == "registered"
    assert site.names() == ["Ann", "Cem", "Eve"]


def test_a_file_refused_on_import_can_become_a_new_list() -> None:
    """Two files of a name were registered before the first was imported."""
    site = Site.in_memory()
    first, second = site.checked(), site.checked(b"name,country,age\nEve,Z,9\n")
    for upload_id, etag in first, second:
        assert site.register(upload_id, etag).status == 202
    site.import_all()
    [refused] = [one for one in (first, second) if site.state(one[0])["import"]["receipt"]["status"] == "refused"]

    assert site.register(*refused).json["import"]["receipt"]["code"] == "key-already-loaded"
    assert site.register(*refused, as_new=True).json["state"] == "registering"
    site.import_all()
    assert site.state(refused[0])["import"]["receipt"]["status"] in {"loaded", "partially_loaded"}
    assert sorted(site.names()) == ["Ann", "Cem", "Eve"]


def test_another_uploader_may_use_the_same_name(site: Site) -> None:
    site.loaded()
    site.loaded(b"name,country,age\nEve,Z,9\n", by="ben")

    assert site.names() == ["Ann", "Cem", "Eve"]


def test_the_stores_of_the_page_are_those_of_the_settings(tmp_path: Path) -> None:
    settings = read_settings(
        {f"ROLLCALL_{name}": (tmp_path / name).as_uri() for name in ("INBOX", "UPLOADS", "REPORTS")}
    )
    in_memory = read_settings({f"ROLLCALL_{name}": "memory:" for name in ("INBOX", "UPLOADS", "REPORTS")})

    stores = web_stores(settings)

    assert list(stores.inbox.list()) == list(stores.uploads.list()) == []
    assert stores.receiver
    assert not web_stores(in_memory).receiver


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"INBOX": ""}, "INBOX"),
        ({"UPLOADS": ""}, "UPLOADS"),
        ({"REPORTS": ""}, "REPORTS"),
        ({"UPLOADS": "memory:"}, "INBOX"),
        ({"INBOX": "file:///dev/null/inbox"}, "INBOX"),
    ],
    ids=str,
)
def test_unfit_stores_of_the_page_are_refused(tmp_path: Path, changed: dict[str, str], named: str) -> None:
    environment = {name: (tmp_path / name).as_uri() for name in ("INBOX", "UPLOADS", "REPORTS")} | changed

    with pytest.raises(SettingError, match=f"ROLLCALL_{named} "):
        web_stores(read_settings({f"ROLLCALL_{name}": value for name, value in environment.items()}))


@pytest.mark.parametrize(
    ("inbox", "uploads"),
    [
        ("file:///a", "file:///a"),
        ("file:///a/b", "file:///a"),
        ("file:///a", "file:///a/b"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a/b", "s3://bucket/a"),
        ("s3://bucket", "s3://bucket/a"),
    ],
)
def test_inbox_and_uploads_are_two_stores(tmp_path: Path, inbox: str, uploads: str) -> None:
    """Otherwise every file would be registered without its check."""
    environment = {
        "ROLLCALL_INBOX": inbox.replace("file://", tmp_path.as_uri()),
        "ROLLCALL_UPLOADS": uploads.replace("file://", tmp_path.as_uri()),
        "ROLLCALL_REPORTS": "memory:",
    }

    with pytest.raises(SettingError, match="ROLLCALL_INBOX"):
        web_stores(read_settings(environment))
