"""A disk is full: one clear sentence, nothing lost, and the same command works once there is room again.

The disks are in-memory file systems of a few megabytes, filled with a file that can be deleted.
"""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from subprocess import run
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import attrs
import psycopg
import pytest
from psycopg import sql

from rollcall.adapters.embedded_postgres import running
from rollcall.adapters.postgres.migration import migrate
from rollcall.domain.policy import Policy
from rollcall.domain.user import USERS
from support.builders import add_user, asked, completed
from support.command_line import CommandLine, Outcome
from support.oracle import Oracle, foreign_users
from support.scenarios import beside
from support.uploads import CANARY, FaultyUpload, made_upload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from support.campaigns import Campaign, Line

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")

MEGABYTE = 1024**2
LOG_FILE_BYTES = 16 * MEGABYTE  # PostgreSQL's default
LITTLE = 200_000
FULL_HERE = "the disk is full; run the same command again; nothing is registered twice"
FULL = "the disk of the database is full; nothing was registered"


@attrs.frozen
class Disk:
    """A small file system.

    Attributes:
        folder: Its mount point.
    """

    folder: Path

    def fill(self, *, room: int = 0) -> None:
        """Fill the disk, except for some bytes."""
        free = os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize
        with (self.folder / "ballast").open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, max(1, free - room))

    def make_room(self) -> None:
        """Delete the filling."""
        (self.folder / "ballast").unlink()


@contextmanager
def small_disk(megabytes: int, *, owner: int = 0) -> Iterator[Disk]:
    """Mount a file system of a given size for a user."""
    with TemporaryDirectory(prefix="rollcall-disk-", dir="/tmp") as folder, ExitStack() as held:
        options = f"size={megabytes}m,uid={owner},mode=700"
        run(["mount", "-t", "tmpfs", "-o", options, "rollcall", folder], check=True)  # noqa: S603,S607 - our own
        held.callback(run, ["umount", "-l", folder], check=True)
        yield Disk(Path(folder))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Disk]]:
    """A PostgreSQL server with a small disk for tables, and that disk."""
    data = tmp_path_factory.mktemp("data")
    with running(data) as url, small_disk(8, owner=(data / "postgres").stat().st_uid) as disk:
        migrate(url, USERS)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("create tablespace small location {}").format(sql.Literal(str(disk.folder)))
            )
        yield url, disk
        with psycopg.connect(url, autocommit=True) as connection:
            for table in "users", "imports", "corrections":
                connection.execute(
                    sql.SQL("alter table {} set tablespace pg_default").format(sql.Identifier(table))
                )
            connection.execute("drop tablespace small")


@pytest.fixture
def database(server: tuple[str, Disk]) -> tuple[str, Disk]:
    """The same database, with only one user, of no import."""
    url, disk = server
    for statement in (
        "alter table users set tablespace pg_default",
        "alter table imports set tablespace pg_default",
        "truncate users, imports, corrections",
        "insert into users (name, country, age) values ('Ann', 'Norway', 41)",
    ):
        asked(url, statement)
    (disk.folder / "ballast").unlink(missing_ok=True)
    return url, disk


def _oracle(url: str) -> Oracle:
    return Oracle(
        database_url=url,
        read_report=lambda address: Path(address).read_bytes(),
        receipt_address=beside,
        foreign=foreign_users(url),
    )


def _until_there_is_room(
    line: "Line",
    deliver: Callable[[], Outcome],
    upload: FaultyUpload,
    oracle: Oracle,
    make_room: Callable[[], object],
) -> str:
    """Import without room, make room, import again, and check every promise.

    Returns:
        The output without room.
    """
    line.points += 1
    outcome = deliver()
    assert (outcome.code, outcome.out) == (1, ""), outcome.err
    assert CANARY not in outcome.err

    make_room()

    line.add(oracle.found([upload]))
    oracle.require_nothing_broken([upload])
    assert deliver().code in {0, 3}
    oracle.require_all_settled([upload])
    return outcome.sentence


def _import_of(rollcall: CommandLine, upload: FaultyUpload) -> Callable[[], Outcome]:
    """Write a file for the command line, and return its import."""
    file = rollcall.folder / upload.key
    file.write_bytes(upload.content)
    return partial(rollcall, "import", file)


@pytest.mark.parametrize(
    ("table", "room", "rows"),
    [("users", MEGABYTE // 2, 10_000), ("users", 0, 1_000), ("imports", 0, 1_000)],
    ids=["users, in the midst of COPY", "users, from the first on", "the ledger"],
)
def test_a_database_without_room_registers_nothing(
    campaign: "Campaign",
    request: pytest.FixtureRequest,
    tmp_path: Path,
    database: tuple[str, Disk],
    table: str,
    room: int,
    rows: int,
) -> None:
    """The room ends at any place."""
    url, disk = database
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("alter table {} set tablespace small").format(sql.Identifier(table)))
    disk.fill(room=room)

    upload = made_upload("list.csv", rows=rows, seed=campaign.seed)
    with campaign.line(f"no room in the database: {request.node.callspec.id}") as line:
        said = _until_there_is_room(
            line,
            _import_of(CommandLine(tmp_path, {"ROLLCALL_DATABASE_URL": url}), upload),
            upload,
            _oracle(url),
            disk.make_room,
        )

    assert said == FULL


def test_a_full_disk_for_the_staged_rows_registers_nothing(
    campaign: "Campaign", tmp_path: Path, database: tuple[str, Disk]
) -> None:
    """With `unique_by`, rows are staged in a temporary table first."""
    url, disk = database
    policy = Policy(unique_by=("name",))
    migrate(url, USERS, policy)
    disk.fill()
    environment = {
        "ROLLCALL_DATABASE_URL": f"{url}&options=-c%20temp_tablespaces%3Dsmall",
        "ROLLCALL_UNIQUE_BY": "name",
    }

    upload = made_upload("list.csv", rows=1_000, seed=campaign.seed)
    with campaign.line("no room in the database: what is compared") as line:
        said = _until_there_is_room(
            line, _import_of(CommandLine(tmp_path, environment), upload), upload, _oracle(url), disk.make_room
        )
    migrate(url, USERS)

    assert said == FULL


@pytest.fixture
def own_disk(tmp_path: Path) -> Iterator[tuple[CommandLine, Disk, str]]:
    """The embedded database, running on a small disk of its own, and the command line that uses it."""
    with small_disk(160) as disk, running(disk.folder) as url:
        migrate(url, USERS)
        add_user(url)
        yield CommandLine(tmp_path, {"ROLLCALL_DATA": str(disk.folder)}), disk, url
        (disk.folder / "ballast").unlink(missing_ok=True)


def test_a_full_disk_for_the_embedded_database_registers_nothing(
    campaign: "Campaign", own_disk: tuple[CommandLine, Disk, str]
) -> None:
    """The embedded database has everything on one disk."""
    rollcall, disk, url = own_disk
    disk.fill(room=random.Random(campaign.seed).randrange(MEGABYTE // 2))  # noqa: S311 - repeatable

    upload = made_upload("list.csv", rows=10_000, seed=campaign.seed)
    with campaign.line("no room on the disk of the whole database") as line:
        said = _until_there_is_room(line, _import_of(rollcall, upload), upload, _oracle(url), disk.make_room)

    assert said == FULL


def test_a_database_that_stops_on_a_full_disk_loses_nothing(
    campaign: "Campaign", own_disk: tuple[CommandLine, Disk, str]
) -> None:
    """PostgreSQL stops if its write-ahead log has no room."""
    rollcall, disk, url = own_disk
    upload = made_upload("list.csv", rows=10_000, seed=campaign.seed)
    _use_up_the_log(url, disk.folder / "postgres" / "pg_wal")
    disk.fill(room=8 * MEGABYTE)
    with ExitStack() as held:

        def make_room_and_start_again() -> None:
            disk.make_room()
            held.enter_context(running(disk.folder))

        with campaign.line("no room for the database's log") as line:
            said = _until_there_is_room(
                line, _import_of(rollcall, upload), upload, _oracle(url), make_room_and_start_again
            )

    assert "database" in said


def _use_up_the_log(url: str, folder: Path) -> None:
    """Write to PostgreSQL's write-ahead log until its last file is nearly full."""
    while True:
        [(name, used)] = asked(
            url,
            "select pg_walfile_name(at), (at - '0/0')::bigint from (select pg_current_wal_insert_lsn() at) as now",
        )
        left = LOG_FILE_BYTES - used % LOG_FILE_BYTES
        last = name == max(file.name for file in folder.glob("[0-9A-F]" * 24))
        if last and left <= 2 * LITTLE:
            return
        asked(url, "select pg_logical_emit_message(false, '', repeat('.', %s))", left - LITTLE if last else left)


@pytest.fixture
def rollcall(tmp_path: Path, database_url: str) -> CommandLine:
    """`rollcall` in an empty folder, with an empty database."""
    return CommandLine(tmp_path, {"ROLLCALL_DATABASE_URL": database_url})


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """A small disk for temporary files."""
    with small_disk(1) as disk:
        monkeypatch.setenv("TMPDIR", str(disk.folder))
        yield disk


def test_a_full_disk_for_rejected_rows_stops_the_import(
    campaign: "Campaign", tmp_path: Path, temporary: Disk, database_url: str
) -> None:
    """Rejected rows wait for the verdict in a temporary file."""
    temporary.fill(room=64 * 1024)

    upload = made_upload("list.csv", rows=4_000, bad_share=0.5, seed=campaign.seed)
    with campaign.line("no room for temporary files: rejected rows") as line:
        said = _until_there_is_room(
            line,
            _import_of(CommandLine(tmp_path, {"ROLLCALL_DATABASE_URL": database_url}), upload),
            upload,
            _oracle(database_url),
            temporary.make_room,
        )

    assert said == FULL_HERE


def test_a_full_disk_for_a_copy_of_the_object_stops_the_import(
    campaign: "Campaign",
    tmp_path: Path,
    temporary: Disk,
    database_url: str,
    s3_client: "S3Client",
    new_bucket: Callable[[bool], str],
) -> None:
    """The whole object is copied to this machine first."""
    bucket = new_bucket(True)  # noqa: FBT003 - versioned
    upload = made_upload("list.csv", rows=4_000, seed=campaign.seed)
    s3_client.put_object(Bucket=bucket, Key=upload.key, Body=upload.content)
    rollcall = CommandLine(tmp_path, {"ROLLCALL_DATABASE_URL": database_url})
    deliver = partial(rollcall, "import", f"s3://{bucket}/{upload.key}", "--reports", "reports")
    oracle = attrs.evolve(_oracle(database_url), receipt_address=lambda _: _only(tmp_path, "receipt.json"))
    temporary.fill(room=64 * 1024)

    with campaign.line("no room for temporary files: a copy of an object") as line:
        said = _until_there_is_room(line, deliver, upload, oracle, temporary.make_room)

    assert said == FULL_HERE


def _only(folder: Path, name: str) -> str:
    [found] = folder.rglob(name)
    return str(found)


@pytest.mark.parametrize(
    ("bad_share", "entries"), [(0.5, 0), (0.0, 1)], ids=["the rejected rows", "the receipt, after the commit"]
)
def test_reports_without_room_are_stored_once_there_is_room(
    campaign: "Campaign", request: pytest.FixtureRequest, database_url: str, bad_share: float, entries: int
) -> None:
    """Without its rejected rows, an import does not commit. The next delivery stores a missing receipt."""
    with small_disk(1) as disk:
        upload = made_upload("list.csv", rows=4_000, bad_share=bad_share, seed=campaign.seed)
        deliver = _import_of(CommandLine(disk.folder, {"ROLLCALL_DATABASE_URL": database_url}), upload)
        disk.fill()

        def make_room() -> None:
            assert asked(database_url, "select count(*) from imports") == [(entries,)]
            assert not list(disk.folder.rglob("*.unfinished"))
            disk.make_room()

        with campaign.line(f"no room for reports: {request.node.callspec.id}") as line:
            said = _until_there_is_room(line, deliver, upload, _oracle(database_url), make_room)

    assert "no space left on device; to store them elsewhere" in said


# Every written row takes a number of the sequence, also if it is rolled back.
_WRITTEN = "select last_value, is_called, pg_relation_size('users') from users_id_seq"
LOADED = completed(b"name,country,age\nHanako,Japan,28\n")
GOOD = completed(b"name,country,age\nTaro,Japan,30\n")
OF_IMPORT_99 = completed(b"name,country,age,rollcall_line,rollcall_import\nTaro,Japan,30,2,99\n")
BAD = b"Jiro,Japan,old\n"


@pytest.mark.parametrize(
    ("content", "setting", "code"),
    [
        (b"", {}, "empty-file"),
        (b"name,country\nTaro,Japan\n", {}, "missing-label"),
        (b"name,name,country,age\nTaro,Taro,Japan,30\n", {}, "duplicate-label"),
        (GOOD + b"\xff,Japan,30\n", {}, "encoding-error"),
        (b"PK\x03\x04", {}, "format-error"),
        (b"\x1f\x8b" + GOOD, {}, "compression-error"),
        (GOOD, {"ROLLCALL_MAX_UPLOAD_BYTES": "20"}, "size-limit"),
        (GOOD, {"ROLLCALL_MAX_CSV_BYTES": "20"}, "size-limit"),
        (GOOD + 3 * BAD, {"ROLLCALL_MAX_REJECTED": "2"}, "too-many-rejections"),
        (b"name,country,age\n" + BAD, {}, "too-many-rejections"),
        (OF_IMPORT_99, {}, "nothing-to-correct"),
        (LOADED + b"Jiro,Japan,30\n", {}, "key-already-loaded"),
    ],
)
def test_an_upload_refused_early_leaves_no_dead_rows(
    rollcall: CommandLine, database_url: str, content: bytes, setting: dict[str, str], code: str
) -> None:
    """None of its rows is written, so there is nothing to vacuum."""
    file = rollcall.folder / "list.csv"
    file.write_bytes(LOADED)
    if code == "key-already-loaded":
        assert rollcall("import", file).code == 0
    before = asked(database_url, _WRITTEN)
    file.write_bytes(content)

    outcome = rollcall("import", file, "--json", **setting)

    assert (outcome.code, outcome.records[0]["code"]) == (4, code)
    assert asked(database_url, _WRITTEN) == before


def test_an_upload_refused_at_its_end_is_cleaned_by_a_vacuum(rollcall: CommandLine, database_url: str) -> None:
    """The rejected share is known at the end, when good rows are already written."""
    file = rollcall.folder / "list.csv"
    file.write_bytes(GOOD + BAD)

    outcome = rollcall("import", file, "--json", ROLLCALL_MAX_REJECTED="1%")

    assert (outcome.code, outcome.records[0]["code"]) == (4, "too-many-rejections")
    assert asked(database_url, "select pg_relation_size('users') > 0") == [(True,)]
    asked(database_url, "vacuum users")
    assert asked(database_url, "select pg_relation_size('users')") == [(0,)]


@pytest.mark.parametrize("on_duplicate", ["skip", "update"])
def test_staged_rows_of_a_refused_upload_are_not_merged(
    rollcall: CommandLine, database_url: str, on_duplicate: str
) -> None:
    """Good rows wait in a temporary table, with ids, until the rejected share is known."""
    migrate(database_url, USERS, Policy(unique_by=("name",)))
    setting = {"ROLLCALL_UNIQUE_BY": "name", "ROLLCALL_ON_DUPLICATE": on_duplicate}
    file = rollcall.folder / "list.csv"
    file.write_bytes(GOOD + BAD)

    outcome = rollcall("import", file, "--json", ROLLCALL_MAX_REJECTED="1%", **setting)

    assert (outcome.code, outcome.records[0]["code"]) == (4, "too-many-rejections")
    assert outcome.records[0]["counts"]["withheld"] == 1
    assert asked(database_url, "select pg_relation_size('users')") == [(0,)]
