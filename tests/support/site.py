"""The page's side of Rollcall: stores, use cases and the Web API, in memory or in folders."""

import io
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import attrs
from jsonschema import Draft202012Validator

from rollcall import bootstrap
from rollcall.adapters.local import LocalObjectStore
from rollcall.adapters.memory import MemoryObjectStore, MemoryUserRepository
from rollcall.application.ports import UserRepository
from rollcall.bootstrap import web
from rollcall.bootstrap.web import Services, Uploading, WebStores
from rollcall.domain.receipt import Receipt
from rollcall.domain.upload import ObjectReference
from rollcall.entrypoints.api import ROUTES, Api
from rollcall.entrypoints.api.openapi import document
from rollcall.settings import Settings, read_settings
from support.api_events import Answered, ask, token
from support.builders import completed

LIST = b"name,country,age\nAnn,Norway,41\nBen,X,old\nCem,Y,3\n"


@attrs.define
class SetClock:
    """A clock that stands still until it is set."""

    time: datetime = attrs.field(factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __call__(self) -> datetime:
        return self.time

    def pass_by(self, time: timedelta) -> None:
        """Let some time pass."""
        self.time += time


@attrs.define
class Site:
    """One installation.

    Attributes:
        now: Its clock.
        stores: Inbox, uploads and reports.
        receive: Takes the fields of a form, and the file.
        users: Users and ledger.
        settings: The settings.
    """

    now: SetClock
    stores: WebStores
    receive: Callable[[Mapping[str, str], io.BytesIO], object]
    users: UserRepository = attrs.Factory(MemoryUserRepository)
    settings: Settings = attrs.field(factory=lambda: read_settings({"ROLLCALL_ENCODINGS": "utf-8,cp932"}))

    @classmethod
    def in_memory(cls, environment: Mapping[str, str] | None = None) -> "Site":
        """Return an installation in memory."""
        now = SetClock()
        inbox = MemoryObjectStore("inbox", now)
        stores = WebStores(
            inbox=inbox, uploads=MemoryObjectStore("uploads", now), reports=MemoryObjectStore("reports", now)
        )
        made = cls(now, stores, inbox.receive)
        if environment is not None:
            made.settings = read_settings(environment)
            made.users = MemoryUserRepository(record_type=made.settings.record)
        return made

    @classmethod
    def in_folders(cls, folder: Path) -> "Site":
        """Return an installation in folders."""
        now = SetClock()
        for name in "inbox", "uploads", "reports":
            (folder / name).mkdir()
        inbox = LocalObjectStore(folder / "inbox", now=now)
        stores = WebStores(
            inbox=inbox,
            uploads=LocalObjectStore(folder / "uploads"),
            reports=LocalObjectStore(folder / "reports"),
        )
        return cls(now, stores, inbox.receive)

    @property
    def uploading(self) -> Uploading:
        """The use cases."""
        return web.uploading(self.settings, self.stores, self.users, self.now)

    @property
    def api(self) -> Api:
        """The Web API."""
        services = Services(
            open_users=lambda: self.users,
            open_uploading=lambda _: self.uploading,
            policy=self.settings.policy,
            now=self.now,
        )
        return Api(settings=self.settings, services=lambda: services, now=self.now)

    def ask(self, method: str, path: str, *, by: str = "ann", **sent: Any) -> Answered:  # noqa: ANN401 - as `ask`
        """Send a request as some uploader, and check that its answer is as documented."""
        answered = ask(self.api, method, path, **{"authorizer": token(by, "rollcall/upload"), **sent})
        [route] = [route for route in ROUTES if route.method == method and route.has_path(path)]
        if answered.status >= HTTPStatus.BAD_REQUEST:
            assert answered.status in route.all_problems
        elif schema := route.answers[HTTPStatus(answered.status)]:
            components = document(ROUTES, self.settings.record)["components"]
            Draft202012Validator({**schema, "components": components}).validate(answered.json)
        return answered

    def send(self, data: bytes = LIST, name: str = "list.csv", by: str = "ann") -> str:
        """Upload a file with every column, see `completed`, to the inbox; return the id of the upload."""
        data = completed(data)
        started = self.ask("POST", "/api/uploads", by=by, send={"filename": name, "size": max(1, len(data))})
        assert started.status == 201, started.text
        self.receive(started.json["fields"], io.BytesIO(data))
        return str(started.json["id"])

    def check(self, upload_id: str) -> Receipt:
        """Check the newest version of an upload, as the function at the inbox does."""
        newest = next(listed for listed in self.stores.inbox.list() if _is_of(listed.reference, upload_id))
        check = web.upload_checker(self.settings, self.stores.inbox, self.stores.reports)
        return check(newest.reference)

    def checked(self, data: bytes = LIST, name: str = "list.csv", by: str = "ann") -> tuple[str, str]:
        """Upload and check a file, and return the id of the upload and the ETag of the check."""
        upload_id = self.send(data, name, by)
        self.check(upload_id)
        return upload_id, self.state(upload_id, by)["check"]["etag"]

    def state(self, upload_id: str, by: str = "ann") -> Any:  # noqa: ANN401 - any JSON
        """Return the state of an upload."""
        return self.ask("GET", f"/api/uploads/{upload_id}", by=by).json

    def register(self, upload_id: str, etag: str, by: str = "ann", **body: bool) -> Answered:
        """Register an upload."""
        return self.ask(
            "PUT", f"/api/uploads/{upload_id}/registration", by=by, send=body, headers={"if-match": etag}
        )

    def import_all(self) -> list[Receipt]:
        """Import what lies among the uploads, as the import function does; a repeat does nothing."""
        importer = bootstrap.import_users(
            self.settings, self.users, uploads=self.stores.uploads, into=self.uploading.reports
        )
        return [importer(listed.reference) for listed in self.stores.uploads.list()]

    def loaded(self, data: bytes = LIST, name: str = "list.csv", by: str = "ann") -> int:
        """Upload, check, register and import a file, and return the number of the import."""
        upload_id, etag = self.checked(data, name, by)
        assert self.register(upload_id, etag, by).status == 202
        self.import_all()
        return int(self.state(upload_id, by)["import"]["id"])

    def names(self) -> list[str]:
        """Return the names of all users, in order."""
        return [user.name for user in self.users.users()]


def _is_of(reference: ObjectReference, upload_id: str) -> bool:
    return upload_id.replace("-", "/") in reference.key
