"""Steps that several contracts take: some users, an import of them, a look at the database from behind."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from rollcall.application.ports import Block, UserRepository
from rollcall.domain.receipt import Counts, FaultTotal, Receipt, Source, Status
from rollcall.domain.rejection import Code, Fault, Rejection
from rollcall.domain.upload import Upload
from rollcall.domain.user import User

NOON = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
SOON_SECONDS = 20

ANN = User(name="Ann", country="Norway", age=41)
BEN = User(name="Ben", country="日本", age=0)
CEM = User(name='Cem "C", Öz', country="Türkiye", age=150)


def asked(url: str, query: str | sql.Composed, *parameters: object) -> list[tuple[Any, ...]]:
    """Ask the database from behind."""
    with psycopg.connect(url, autocommit=True, application_name="behind") as connection:
        cursor = connection.execute(query, parameters or None)
        return cursor.fetchall() if cursor.description else []


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait for a condition, not for a time."""
    deadline = time.monotonic() + SOON_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def an_upload(key: str = "list.csv", version: str = "1", bucket: str = "bucket") -> Upload:
    """Some version of some object."""
    return Upload(bucket=bucket, key=key, version=version, size=100, last_modified=NOON)


def a_block(registered: Sequence[User]) -> Block:
    """Users on their way to the table, every cell quoted."""
    rows = [
        ",".join('"' + str(value).replace('"', '""') + '"' for value in user.values()) + "\n"
        for user in registered
    ]
    return Block("".join(rows).encode(), [range(2, 2 + len(rows))])


def a_receipt(
    upload: Upload, import_id: int | None, counts: Counts | None = None, status: Status = Status.LOADED
) -> Receipt:
    """An account with something in each of its parts."""
    return Receipt(
        status=status,
        code=None if status is Status.LOADED else Code.ROWS_REJECTED,
        message=None if status is Status.LOADED else "one sentence, é 日本",
        source=Source(
            bucket=upload.bucket,
            key=upload.key,
            version=upload.version or "",
            size=upload.size,
            last_modified=upload.last_modified,
            encoding="utf-8",
            delimiter=",",
            ignored_columns=("e-mail", "'quoted\"", "\\u0041\n"),
        ),
        policy={"max_rejected": "all"},
        counts=counts or Counts(),
        totals=(FaultTotal(Code.TYPE_ERROR, "age", 1, 2), FaultTotal(Code.EXTRA_CELL, None, 1, 3)),
        rejections=(Rejection(2, 4, (Fault(Code.TYPE_ERROR, "age is 'x'", "age"), Fault(Code.EXTRA_CELL, "no"))),),
        rejected_rows="s3://reports/rejected.csv",
        started=NOON,
        seconds=0.1,
        import_id=import_id,
    )


def load(
    repository: UserRepository, registered: Sequence[User], upload: Upload | None = None, sha256: str | None = None
) -> int:
    """Import some users whatever the history says, and tell the import's number."""
    upload = upload or an_upload()
    with repository.importing(upload, sha256) as importing:
        if registered:
            importing.register(a_block(registered))
        counts = Counts(read=len(registered), registered=len(registered))
        importing.commit(a_receipt(upload, importing.import_id, counts))
    assert importing.import_id is not None
    return importing.import_id
