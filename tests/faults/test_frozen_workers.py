"""A frozen worker delays others only for a short time, and changes nothing when it continues."""

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import attrs
import pytest

from rollcall import bootstrap
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.application.errors import ImportInProgressError
from rollcall.domain.receipt import Receipt
from rollcall.domain.user import USERS
from rollcall.settings import read_settings
from support import worker
from support.builders import add_user, asked
from support.campaigns import Campaign
from support.command_line import wait_until
from support.oracle import Oracle, foreign_users
from support.proxy import COMMIT, AtByte, Fault, Proxy, proxy_before
from support.uploads import CANARY, FaultyUpload, made_upload

LIVES_SECONDS = 2.0
# After the frozen worker's own deadline.
RIVAL_DONE_WITHIN_SECONDS = 30


@pytest.fixture(scope="module")
def proxy(migrated_database: str) -> Iterator[Proxy]:
    """A proxy for the tests' database."""
    with proxy_before(migrated_database) as proxy:
        yield proxy


@attrs.define
class Freezer:
    """Freezes a worker at a place in its stream: during COPY, or before or after its commit.

    Attributes:
        worker: The worker process.
        frozen: Whether the worker is frozen.
        goes_on: Set when the worker continues.
    """

    worker: Popen[str] | None = None
    frozen: bool = False
    goes_on: threading.Event = attrs.Factory(threading.Event)

    def freeze(self) -> None:
        """Stop the worker until `thaw`."""
        assert self.worker
        self.worker.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.worker.pid, os.WSTOPPED | os.WNOWAIT)
        self.frozen = True

    def freeze_before(self) -> None:
        """Stop the worker before the proxy forwards data that it has already sent."""
        self.freeze()
        self.goes_on.wait()

    def thaw(self) -> None:
        """Let the worker continue."""
        assert self.worker
        self.worker.send_signal(signal.SIGCONT)
        self.goes_on.set()

    def at(self, place: str, byte: int) -> Fault:
        """Return the proxy's fault that freezes the worker at a place.

        Args:
            place: "copying", "before COMMIT" or "after COMMIT".
            byte: The byte of its COPY, for "copying".
        """
        if place == "before COMMIT":
            return _AtCommit(self.freeze_before, lambda: None)
        if place == "after COMMIT":
            return _AtCommit(lambda: None, self.freeze)
        return AtByte(byte, of_client=True, meanwhile=self.freeze, cuts=False)


@attrs.define
class _AtCommit:
    """Does something before the server receives the commit, or before the client receives the reply."""

    before: Callable[[], None]
    after: Callable[[], None]
    _asked: bool = False

    def __call__(self, piece: bytes, *, from_client: bool) -> bytes:
        if from_client and piece == COMMIT:
            self._asked = True
            self.before()
        elif self._asked and not from_client:
            self._asked = False
            self.after()
        return piece


@attrs.frozen
class Shop:
    """A folder of uploads with their reports, and a database."""

    folder: Path
    database_url: str
    foreign: list[tuple[Any, ...]]

    def drop(self, upload: FaultyUpload) -> Path:
        """Put an upload into the folder."""
        path = self.folder / upload.key
        path.write_bytes(upload.content)
        return path

    def deliver(self, file: Path, *, again: bool = False) -> Receipt:
        """Deliver an upload until it has its verdict, within the time that a frozen worker may delay others."""
        deadline = time.monotonic() + LIVES_SECONDS + RIVAL_DONE_WITHIN_SECONDS
        reference = bootstrap.file_reference(file)
        with closing(PostgresUserRepository(self.database_url, USERS)) as users:
            importer = bootstrap.import_users(read_settings({}), users)
            while True:
                try:
                    return importer(reference, again=again)
                except ImportInProgressError:
                    assert time.monotonic() < deadline, "nobody may be held up for so long"

    def undo_all(self) -> None:
        """Undo every import that can be undone."""
        with closing(PostgresUserRepository(self.database_url, USERS)) as users:
            for entry in list(users.entries()):
                users.undo(entry.import_id, datetime.now(UTC))

    @property
    def oracle(self) -> Oracle:
        """The oracle for this database and folder."""
        return Oracle(
            database_url=self.database_url,
            read_report=lambda address: Path(address).read_bytes(),
            receipt_address=lambda receipt: str(self.receipt(receipt["source"]["key"])),
            foreign=self.foreign,
        )

    def receipt(self, key: str) -> Path:
        """The only receipt of an upload."""
        [found] = self.folder.glob(f"{Path(key).name}.rollcall/*/receipt.json")
        return found

    def all_that_counts(self, upload: FaultyUpload) -> tuple[object, ...]:
        """Everything that a worker could change, except stray files."""
        return (
            asked(self.database_url, "select * from users order by id"),
            asked(self.database_url, "select * from imports order by id"),
            json.loads(self.receipt(upload.key).read_bytes()),
        )


@contextmanager
def _working(proxy: Proxy, file: Path, freezer: Freezer, place: str, byte: int) -> Iterator[Popen[str]]:
    """Start a worker, wait until it is frozen, and let it continue at the end."""
    proxy.fault = freezer.at(place, byte)
    command = [sys.executable, "-W", "error", str(worker.__file__), proxy.url, str(file), str(LIVES_SECONDS)]
    with Popen(command, stderr=PIPE, text=True) as process:  # noqa: S603 - our own words
        try:
            freezer.worker = process
            wait_until(lambda: freezer.frozen)
            yield process
        finally:
            freezer.goes_on.set()
            process.kill()


@pytest.mark.parametrize(
    "place", ["copying", "before COMMIT", "after COMMIT", "after COMMIT, undone and imported again"]
)
def test_a_frozen_worker_holds_up_nobody_and_changes_nothing(
    campaign: Campaign, tmp_path: Path, emptied: Callable[[], str], proxy: Proxy, place: str
) -> None:
    """A rival finishes at most half a minute after the worker's own deadline."""
    chance = random.Random(f"{campaign.seed} {place}")  # noqa: S311 - to be repeated
    place, _, undone = place.partition(", ")
    with campaign.line(f"worker frozen {place}{undone and ', ' + undone}") as line:
        bytes_tried = set()
        for number in range(campaign.choose(1, 20)):
            url = emptied()
            add_user(url)
            shop = Shop(tmp_path, url, foreign_users(url))
            upload = made_upload(f"{number}.csv", rows=5000, seed=chance.randrange(10**9))
            # Most bytes that the worker sends are its COPY, which begins within the first thousands.
            byte = chance.randrange(5000, len(upload.content) // 2)
            freezer, file = Freezer(), shop.drop(upload)
            with _working(proxy, file, freezer, place, byte) as process:
                frozen_at = time.monotonic()

                shop.deliver(file)

                assert time.monotonic() - frozen_at < LIVES_SECONDS + RIVAL_DONE_WITHIN_SECONDS
                if undone:
                    shop.undo_all()
                    shop.deliver(file, again=True)
                before = shop.all_that_counts(upload)
                freezer.thaw()
                _, said = process.communicate(timeout=60)

                assert (process.returncode, said.count("\n")) == ((0, 0) if place == "after COMMIT" else (1, 1))
                assert CANARY not in said
                assert shop.all_that_counts(upload) == before
            line.add(shop.oracle.found([upload]))
            shop.oracle.require_all_settled([upload])
            bytes_tried.add(byte)
        line.points = len(bytes_tried) if place == "copying" else 1
