"""Steps of several contracts: users, an import of them, a query, and a server with one answer."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from rollcall.application.ports import UserRepository
from rollcall.application.values import Block, ImportRequest
from rollcall.domain.policy import OnNewVersion, OnRepeat, Policy
from rollcall.domain.receipt import Counts
from rollcall.domain.upload import Upload
from rollcall.domain.user import User
from support.receipts import a_receipt

NOON = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
SOON_SECONDS = 20
ANYTHING = Policy(on_repeat=OnRepeat.IMPORT, on_new_version=OnNewVersion.IMPORT)

ANN = User(name="Ann", country="Norway", age=41)
BEN = User(name="Ben", country="日本", age=0)
CEM = User(name='Cem "C", Öz', country="Türkiye", age=150)


def asked(url: str, query: str | sql.Composed, *parameters: object) -> list[tuple[Any, ...]]:
    """Run a query on a connection of the test's own."""
    with psycopg.connect(url, autocommit=True, application_name="behind") as connection:
        cursor = connection.execute(query, parameters or None)
        return cursor.fetchall() if cursor.description else []


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait until a condition holds, instead of a fixed time."""
    deadline = time.monotonic() + SOON_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def an_upload(key: str = "list.csv", version: str = "1", bucket: str = "bucket") -> Upload:
    """Return an upload."""
    return Upload(bucket=bucket, key=key, version=version, size=100, last_modified=NOON)


def a_block(registered: Sequence[User]) -> Block:
    """Return a block of users, every cell quoted."""
    rows = [
        ",".join('"' + str(value).replace('"', '""') + '"' for value in user.values()) + "\n"
        for user in registered
    ]
    return Block("".join(rows).encode(), [range(2, 2 + len(rows))])


def load(
    repository: UserRepository,
    registered: Sequence[User],
    upload: Upload | None = None,
    sha256: str | None = None,
    policy: Policy = ANYTHING,
    *,
    seconds_left: float | None = None,
) -> int:
    """Import some users, with any history, and return the import id."""
    upload = upload or an_upload()
    with repository.importing(ImportRequest(upload, sha256, policy, seconds_left=seconds_left)) as importing:
        if registered:
            importing.register(a_block(registered))
        counts = Counts(read=len(registered), registered=len(registered))
        importing.commit(a_receipt(upload, importing.verdict.import_id, counts))
    assert importing.verdict.import_id is not None
    return importing.verdict.import_id


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that sends one answer to each client, and closes the connection.

    Yields:
        Its port on this machine.
    """

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
