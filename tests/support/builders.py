"""What tests build: users, files and imports of them, queries, and a server with one answer."""

import csv
import gzip
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import attrs
import psycopg
from psycopg import sql

from rollcall.application.ports import UserRepository
from rollcall.application.records import RecordReader, as_utf8
from rollcall.application.values import Block, ImportRequest
from rollcall.domain.correction import Origin
from rollcall.domain.policy import OnNewVersion, OnRepeat, Policy
from rollcall.domain.receipt import Counts
from rollcall.domain.record import AnyUser, RecordType
from rollcall.domain.rejection import Fault
from rollcall.domain.upload import Upload
from rollcall.domain.user import USERS, User
from support.receipts import a_receipt
from support.reference_reader import Limits, header_at, is_blank, read_record, unpacked

NOON = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
SOON_SECONDS = 20
ANYTHING = Policy(on_repeat=OnRepeat.IMPORT, on_new_version=OnNewVersion.IMPORT)

# The columns that tests write out. Cells of every other column are filled in here.
WRITTEN = ("name", "country", "age")
USUAL = {
    field.name: next(
        (cell for cell in ("unknown", "7") if not isinstance(field.parse(cell), Fault)), field.rule.sample()
    )
    for field in USERS.fields
}
_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
MORE = {column: cell for column, cell in USUAL.items() if column not in WRITTEN}
MORE_CELLS = "".join(f"{cell}," for cell in MORE.values())  # what `completed` puts before a row


def cells_of(name: str = "Ann", country: str = "Norway", age: str = "41") -> dict[str, str]:
    """Return one cell for each of `USERS.columns`, in that order."""
    return {**USUAL, "name": name, "country": country, "age": age}


def row_of(name: str, country: str, age: str) -> list[str]:
    """Return the cells of `cells_of` as a row."""
    return list(cells_of(name, country, age).values())


def a_user(name: str, country: str, age: int) -> User:
    """Return a user."""
    user = USERS.parse(row_of(name, country, str(age)))
    assert isinstance(user, User)
    return user


ANN = a_user("Ann", "Norway", 41)
BEN = a_user("Ben", "日本", 0)
CEM = a_user('Cem "C", Öz', "Türkiye", 150)


def add_user(url: str, user: User = ANN) -> None:
    """Add a user of no import to a database."""
    values = sql.SQL(", ").join(sql.Placeholder() * len(USERS.columns))
    columns = sql.SQL(", ").join(map(sql.Identifier, USERS.columns))
    asked(url, sql.SQL("insert into users ({}) values ({})").format(columns, values), *USERS.values(user))


def written(user: User) -> tuple[Any, ...]:
    """Return the values of a user in the columns that tests write out."""
    return tuple(getattr(user, column) for column in WRITTEN)


def csv_of(*rows: User | Mapping[str, object], labels: Sequence[str] = USERS.columns) -> bytes:
    """Return a file of users.

    Args:
        rows: Users, or cells by label; cells of missing labels are good ones.
        labels: The labels of the file, in order.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, labels, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {**dict.fromkeys(labels, ""), **USUAL, **(attrs.asdict(row) if isinstance(row, User) else row)}
        )
    return text.getvalue().encode()


def reader_of(*texts: str) -> RecordReader:
    """Return a reader of an upload in pieces."""
    return RecordReader(map(as_utf8, texts))


def completed_text(text: str) -> str:
    """Do as `completed`, for text."""
    return completed(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


def completed(data: bytes, more: Mapping[str, str] = MORE) -> bytes:
    """Add columns to a file that has the columns that tests write out; return any other file unchanged.

    The new cells come first in each record, so that every line, quote and missing cell stays as it is.

    Args:
        data: The file, compressed or not, in UTF-8 or UTF-16.
        more: The cell of each column to add.
    """
    if not more:
        return data
    if data.startswith(b"\x1f\x8b"):
        content = unpacked(data)
        return data if content is None else gzip.compress(completed(content, more), mtime=0)
    mark, encoding = next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", "utf-8"))
    try:
        text = data.removeprefix(mark).decode(encoding, "surrogateescape")
    except UnicodeError:
        return data
    if not (found := header_at(text, WRITTEN)) or header_at(text, [*more]):
        return data
    at, delimiter = found
    pieces, cells = [text[:at]], [*more]
    while at < len(text):
        record, behind = read_record(text, at, 1, delimiter, Limits())
        blank = not record.fault and all(map(is_blank, record.cells))
        pieces.append(text[at:behind] if blank else delimiter.join([*cells, text[at:behind]]))
        at, cells = behind, [*more.values()]
    return mark + "".join(pieces).encode(encoding, "surrogateescape")


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


def a_block(
    registered: Sequence[AnyUser],
    lines: Sequence[range] | None = None,
    origins: Sequence[Origin] | None = None,
    record_type: RecordType = USERS,
) -> Block:
    """Return a block of users, every value quoted; without `lines`, they start on line 2."""
    rows = [
        ",".join('"' + text.replace('"', '""') + '"' if text else "" for text in record_type.texts(user)) + "\n"
        for user in registered
    ]
    return Block("".join(rows).encode(), lines or [range(2, 2 + len(rows))], origins)


def load(
    repository: UserRepository,
    registered: Sequence[AnyUser],
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
            importing.register(a_block(registered, record_type=repository.record_type))
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
