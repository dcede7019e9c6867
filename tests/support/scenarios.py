"""Imports to interrupt: one upload of each kind, through each entry point, delivered any number of times."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString
from urllib.parse import quote_plus

import attrs
import psycopg
from psycopg import sql

from rollcall.adapters.postgres.migration import migrate
from rollcall.domain.policy import Policy
from rollcall.domain.user import USERS
from support.aws_events import in_sqs, s3_record
from support.builders import add_user, eventually
from support.oracle import Found, Oracle, foreign_users
from support.uploads import FaultyUpload, made_upload
from support.workers import Delivery, End, Workers

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROWS = 40
_UNIQUE = {"ROLLCALL_UNIQUE_BY": "name,country", "ROLLCALL_ON_DUPLICATE": "reject"}
_AT_WORK = (
    "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'rollcall'"
)


@attrs.frozen(kw_only=True)
class Scene:
    """An import to interrupt, and what must be true of it.

    Attributes:
        workers: The workers that import.
        deliveries: Puts a new copy of the upload in place for a given number.
        others: Uploads that already have their verdict and must not change.
        oracle: Checks database and reports.
        registers: Whether the upload registers users.
    """

    workers: Workers
    deliveries: Callable[[int], tuple[Delivery, FaultyUpload]]
    others: Sequence[FaultyUpload] = ()
    oracle: Oracle
    registers: bool = True

    def begin(self, number: int) -> tuple[Delivery, list[FaultyUpload]]:
        """Remove everything except the uploads of the start, and put a new copy of the upload in place.

        Returns:
            Its delivery, and all uploads that the oracle must know.
        """
        before = self.others[0].key if self.others else "nothing"
        for table, column in ("users", "import_id"), ("corrections", "corrected_by"), ("imports", "id"):
            self.ask(
                sql.SQL(
                    "delete from {0} where {1} in (select id from imports where object_key not like {2})"
                ).format(sql.Identifier(table), sql.Identifier(column), f"%/{before}")
            )
        delivery, upload = self.deliveries(number)
        return delivery, [upload, *self.others]

    def break_off(self, number: int, befall: Callable[[Delivery], End]) -> Found:
        """Interrupt a delivery, deliver again undisturbed, and check after each.

        Args:
            number: A number of its own for this repetition.
            befall: Delivers with a fault, and returns how the worker ended.

        Returns:
            What was found after the first delivery: nothing, or this raises.
        """
        delivery, uploads = self.begin(number)
        end = befall(delivery)
        # A commit that the server received may still be running.
        assert eventually(lambda: self.ask(_AT_WORK) == [(0,)])
        found = self.oracle.found(uploads)
        assert found == Found()
        if end.successful:
            self.require_settled(uploads)  # the worker reported that no other delivery is needed
        again = self.workers.deliver(delivery)
        assert again.code in {0, 3, 4}, again.said
        self.require_settled(uploads)
        return found

    def ask(self, query: LiteralString | sql.Composed) -> list[tuple[Any, ...]]:
        """Run a query on a connection of the test's own."""
        return self.oracle.asked(self.oracle.database_url, query)

    def require_settled(self, uploads: list[FaultyUpload]) -> None:
        """Check every promise after an undisturbed delivery."""
        if self.registers:
            self.oracle.require_all_settled(uploads)
            return
        self.oracle.require_nothing_broken(uploads)
        [(status, receipt)] = self.ask("select status, receipt from imports")
        assert status == "refused"
        assert json.loads(self.oracle.read_report(self.oracle.receipt_address(receipt))) == receipt
        assert self.oracle.read_report(receipt["rejected_rows"])


Ask = Callable[..., list[tuple[Any, ...]]]


@contextmanager
def _asking_on_one_connection(database_url: str) -> Iterator[Ask]:
    """Query like `asked`, but on one connection: thousands of repetitions would open tens of thousands."""
    with psycopg.connect(database_url, autocommit=True, application_name="behind") as connection:

        def ask(_: str, query: LiteralString | sql.Composed, *parameters: object) -> list[tuple[Any, ...]]:
            cursor = connection.execute(query, parameters or None)
            return cursor.fetchall() if cursor.description else []

        yield ask


@attrs.frozen
class _Stage:
    """What every scene needs.

    Attributes:
        workers: The workers that import.
        folder: The folder of local files.
        database_url: The database of users and ledger.
        asked: Runs a query on a connection of the test's own.
    """

    workers: Workers
    folder: Path
    database_url: str
    asked: Ask


def _local(
    folder: Path, upload: FaultyUpload, environment: Mapping[str, str], number: int
) -> tuple[Delivery, FaultyUpload]:
    file = folder / str(number) / upload.key
    file.parent.mkdir()
    file.write_bytes(upload.content)
    return Delivery(["import", str(file)], environment=environment), upload


def beside(receipt: Mapping[str, Any]) -> str:
    """Return the address of a local file's receipt."""
    source = receipt["source"]
    return f"{source['key']}.rollcall/{source['version'][:16]}/receipt.json"


def _in_a_folder(stage: _Stage, *, upload: FaultyUpload | None = None, **environment: str) -> Scene:
    add_user(stage.database_url)
    return Scene(
        workers=stage.workers,
        deliveries=partial(
            _local,
            stage.folder,
            upload or made_upload("list.csv", rows=ROWS, bad_share=0.2),
            {"ROLLCALL_DATABASE_URL": stage.database_url, **environment},
        ),
        oracle=Oracle(
            database_url=stage.database_url,
            read_report=lambda address: Path(address).read_bytes(),
            receipt_address=beside,
            foreign=foreign_users(stage.database_url),
            asked=stage.asked,
        ),
    )


def _with_duplicates(upload: FaultyUpload) -> FaultyUpload:
    """Append some of the upload's good rows a second time."""
    lines = upload.content.decode().splitlines()
    more = [lines[line - 1] for line in sorted(upload.good)[:3]]
    return attrs.evolve(
        upload,
        content="\n".join([*lines, *more, ""]).encode(),
        bad=upload.bad | {len(lines) + number for number in range(1, len(more) + 1)},
    )


def _compared(stage: _Stage) -> Scene:
    migrate(stage.database_url, USERS, Policy(unique_by=("name", "country")))
    upload = _with_duplicates(made_upload("list.csv", rows=ROWS, bad_share=0.2))
    return _in_a_folder(stage, upload=upload, **_UNIQUE)


def _updating(stage: _Stage) -> Scene:
    """Existing users would be updated. No row matches one, so that the oracle knows every user."""
    migrate(stage.database_url, USERS, Policy(unique_by=("name", "country")))
    return _in_a_folder(stage, ROLLCALL_UNIQUE_BY="name,country", ROLLCALL_ON_DUPLICATE="update")


def _refused(stage: _Stage) -> Scene:
    """Only the last row exceeds the limit, so that good rows are already in the table and must be rolled back."""
    upload = made_upload("list.csv", rows=ROWS, bad_share=0.2)
    scene = _in_a_folder(stage, upload=upload, ROLLCALL_MAX_REJECTED="1%")
    return attrs.evolve(scene, registers=False)


def _redelivered(stage: _Stage) -> Scene:
    """A loaded upload is delivered again, and its receipt is missing."""
    scene = _in_a_folder(stage)

    def deliveries(number: int) -> tuple[Delivery, FaultyUpload]:
        delivery, upload = scene.deliveries(number)
        assert stage.workers.deliver(delivery).code == 3
        [receipt] = (stage.folder / str(number)).glob("*/*/receipt.json")
        receipt.unlink()
        return delivery, upload

    return attrs.evolve(scene, deliveries=deliveries)


def _corrected(stage: _Stage) -> Scene:
    """The rejected rows are uploaded again, all but one of them corrected."""
    scene = _in_a_folder(stage)
    original = made_upload("original.csv", rows=ROWS, bad_share=0.3)
    delivery, _ = _local(stage.folder, original, {"ROLLCALL_DATABASE_URL": stage.database_url}, 0)
    assert stage.workers.deliver(delivery).code == 3
    [rejected] = (stage.folder / "0").glob("*/*/rejected-*.csv")
    [header, *rows] = csv.reader(io.StringIO(rejected.read_text("utf-8-sig"), newline=""))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    good = {}
    for line, row in enumerate(rows[1:], 2):
        good[line] = (f"Canary corrected {line}", "Japan", 30)
        writer.writerow([*map(str, good[line]), *row[3:]])
    writer.writerow(rows[0])
    upload = FaultyUpload("corrected.csv", text.getvalue().encode(), good, frozenset({min(original.bad)}))
    return attrs.evolve(
        scene,
        deliveries=partial(_local, stage.folder, upload, {"ROLLCALL_DATABASE_URL": stage.database_url}),
        others=[original],
    )


def _in_s3(stage: _Stage, client: "S3Client", bucket: str, *, by_event: bool) -> Scene:
    add_user(stage.database_url)
    upload = made_upload("list.csv", rows=ROWS, bad_share=0.2)
    environment = {"ROLLCALL_DATABASE_URL": stage.database_url, "ROLLCALL_REPORTS": f"s3://{bucket}/reports"}

    def deliveries(number: int) -> tuple[Delivery, FaultyUpload]:
        here = attrs.evolve(upload, key=f"{number}/list.csv")
        answer = client.put_object(Bucket=bucket, Key=here.key, Body=here.content)
        if by_event:
            described = {"eTag": answer["ETag"].strip('"'), "versionId": answer["VersionId"]}
            key, size = quote_plus(here.key, safe="/"), len(here.content)
            event = in_sqs({"Records": [s3_record(key, bucket=bucket, size=size, **described)]})
            return Delivery(event=event, environment=environment), here
        return Delivery(["import", f"s3://{bucket}/{here.key}"], environment=environment), here

    def read(address: str) -> bytes:
        key = address.removeprefix(f"s3://{bucket}/")
        return client.get_object(Bucket=bucket, Key=key)["Body"].read()

    return Scene(
        workers=stage.workers,
        deliveries=deliveries,
        oracle=Oracle(
            database_url=stage.database_url,
            read_report=read,
            receipt_address=lambda receipt: (
                f"s3://{bucket}/reports/{receipt['source']['key']}/{receipt['source']['version']}/receipt.json"
            ),
            foreign=foreign_users(stage.database_url),
            asked=stage.asked,
        ),
    )


@contextmanager
def scenes(
    workers: Workers, folder: Path, database_url: str, client: "S3Client", new_bucket: Callable[[bool], str]
) -> Iterator[Mapping[str, Callable[[], Scene]]]:
    """Return the functions that set up each scene, by name, in an empty database."""
    with _asking_on_one_connection(database_url) as ask:
        stage = _Stage(workers, folder, database_url, ask)
        yield {
            "a local file": partial(_in_a_folder, stage),
            "a local file, compared with who is there": partial(_compared, stage),
            "a local file that updates": partial(_updating, stage),
            "corrected rows": partial(_corrected, stage),
            "a file that is refused": partial(_refused, stage),
            "a second delivery": partial(_redelivered, stage),
            "an object of S3": lambda: _in_s3(stage, client, new_bucket(True), by_event=False),  # noqa: FBT003 - versioned
            "an object of S3, by the Lambda": lambda: _in_s3(stage, client, new_bucket(True), by_event=True),  # noqa: FBT003 - as above
        }
