"""The uploader's page behind HTTP, with folders and a database in memory."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO  # noqa: TC003 - for `cast`
from pathlib import Path
from typing import cast

import attrs

from rollcall import bootstrap
from rollcall.adapters.memory import MemoryUserRepository
from rollcall.application.errors import RetryableError
from rollcall.bootstrap import web
from rollcall.domain.ledger import LedgerEntry
from rollcall.entrypoints import serve
from rollcall.settings import read_settings
from support.site import Site

TOKEN = "the-token-of-a-test"  # noqa: S105 - of a server that lives as long as a test
_POLL_SECONDS = 0.02
_END_SECONDS = 10


@attrs.frozen
class PageServer:
    """A running server.

    Attributes:
        site: Its stores, users and ledger.
        origin: The beginning of its addresses.
        works: Cleared while uploads are neither checked nor imported.
    """

    site: Site
    origin: str
    works: threading.Event

    @property
    def address(self) -> str:
        """The address that a person opens, with the token."""
        return f"{self.origin}/#token={TOKEN}"

    @property
    def names(self) -> list[str]:
        """The names of all users."""
        return self.site.names()

    @property
    def imports(self) -> list[LedgerEntry]:
        """The ledger, the oldest import first."""
        return list(self.site.users.entries())[::-1]


@contextmanager
def page_server(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[PageServer]:
    """Serve the page on a free port; uploads are checked and imported as they arrive.

    Args:
        folder: An empty folder for the stores.
        environment: Further settings.
    """
    site = Site.in_folders(folder)
    site.settings = read_settings({"ROLLCALL_ENCODINGS": "utf-8,cp932", **(environment or {})})
    site.users = MemoryUserRepository(record_type=site.settings.record)
    works, ended = threading.Event(), threading.Event()
    works.set()
    with serve.listening("127.0.0.1", 0) as server:
        served = serve.Served(
            api=attrs.evolve(site.api, caller_of=serve.local_caller),
            token=TOKEN,
            host="127.0.0.1",
            port=server.bind_addr[1],
            receive=lambda fields, file: site.receive(fields, cast("BytesIO", file)),
            max_upload_bytes=site.settings.max_upload_bytes,
            log=lambda _line: None,
        )
        threads = [
            threading.Thread(target=serve.serve, args=(server, served)),
            threading.Thread(target=_work, args=(site, works, ended)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield PageServer(site, served.address, works)
        finally:
            ended.set()
            server.stop()
            for thread in threads:
                thread.join(_END_SECONDS)


def _work(site: Site, works: threading.Event, ended: threading.Event) -> None:
    check = web.upload_checker(site.settings, site.stores.inbox, site.stores.reports)
    importer = bootstrap.import_users(
        site.settings, site.users, uploads=site.stores.uploads, into=site.uploading.reports
    )
    done = set()
    while not ended.wait(_POLL_SECONDS):
        for use_case, store in (check, site.stores.inbox), (importer, site.stores.uploads):
            for listed in list(store.list()):
                if listed.upload.identity not in done and works.is_set():
                    with suppress(RetryableError):
                        use_case(listed.reference)
                        done.add(listed.upload.identity)
