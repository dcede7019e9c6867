"""After any failure midway: one clear sentence, nothing half done, and the next run imports the file once."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from subprocess import Popen
from urllib.parse import urlsplit

import attrs
import psycopg
import pytest

from rollcall.adapters.embedded_postgres import running
from rollcall.adapters.postgres.migration import migrate
from rollcall.domain.user import USERS
from support.builders import completed_text
from support.command_line import (
    LARGE,
    CommandLine,
    Outcome,
    ended,
    go_on_with,
    imports,
    stop_midway,
    users,
    wait_until,
)

INTERRUPTED = "interrupted; run the same command again; nothing is registered twice"


def _nothing_was_done(database_url: str, file: Path) -> None:
    """Check that there is no user, no entry, and no report beside the file."""
    assert users(database_url) == []
    assert imports(database_url) == []
    assert not Path(f"{file}.rollcall").exists()


def _the_next_run_imports_all(rollcall: CommandLine, database_url: str, file: Path) -> None:
    """Check that the next run imports the whole file once."""
    outcome = rollcall("import", file)

    assert (outcome.code, outcome.err) == (0, "")
    assert len(users(database_url)) == LARGE
    assert imports(database_url) == [("loaded", LARGE)]


def _failed(outcome: Outcome) -> str:
    """Return the sentence of a failed command, which never shows a row."""
    assert (outcome.code, outcome.out) == (1, "")
    assert "Canary" not in outcome.err
    return outcome.sentence


def test_an_import_that_is_killed_leaves_nothing(rollcall: CommandLine, large: Path, database_url: str) -> None:
    """By kill -9, as in a power cut: the process has no time to clean up."""
    process = rollcall.start("import", large)
    stop_midway(process, database_url)
    process.kill()
    outcome = ended(process)

    assert outcome == Outcome(-signal.SIGKILL, "", "")
    _nothing_was_done(database_url, large)
    _the_next_run_imports_all(rollcall, database_url, large)


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_import_that_is_interrupted_leaves_nothing(
    rollcall: CommandLine, large: Path, database_url: str, by: signal.Signals
) -> None:
    """By Ctrl-C, a shutdown, or a closed terminal."""
    process = rollcall.start("import", large)
    stop_midway(process, database_url)
    go_on_with(process, by)

    assert _failed(ended(process)) == INTERRUPTED
    _nothing_was_done(database_url, large)
    _the_next_run_imports_all(rollcall, database_url, large)


def test_an_import_whose_connection_is_cut_leaves_nothing(
    rollcall: CommandLine, large: Path, database_url: str
) -> None:
    """As in a failover of the database."""
    process = rollcall.start("import", large)
    server = stop_midway(process, database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute("select pg_terminate_backend(%s)", [server])
    go_on_with(process)

    assert "database" in _failed(ended(process))
    _nothing_was_done(database_url, large)
    _the_next_run_imports_all(rollcall, database_url, large)


def test_two_imports_of_one_file_at_once_register_it_once(
    rollcall: CommandLine, large: Path, database_url: str
) -> None:
    """One imports it; the other waits and finds it imported, or says that it is in progress."""
    rivals = [rollcall.start("import", large, "--json") for _ in range(2)]
    outcomes = [ended(rival) for rival in rivals]

    loaded = [outcome for outcome in outcomes if outcome.code == 0 and outcome.records[0]["status"] == "loaded"]
    [other] = [outcome for outcome in outcomes if outcome not in loaded]
    assert other.records[0]["code"] == "redelivery" if other.code == 0 else "at this moment" in _failed(other)
    assert len(users(database_url)) == LARGE
    assert imports(database_url) == [("loaded", LARGE)]


def test_an_import_does_not_wait_for_a_frozen_rival(rollcall: CommandLine, large: Path, database_url: str) -> None:
    """The frozen one does not know its whole file yet; when it does, it registers nothing."""
    hanging = rollcall.start("import", large)
    stop_midway(hanging, database_url)
    other = rollcall("import", large)
    go_on_with(hanging)

    assert (other.code, other.out.split()[0]) == (0, "loaded")
    assert (ended(hanging).code, imports(database_url)) == (0, [("loaded", LARGE)])
    assert len(users(database_url)) == LARGE


@pytest.fixture
def database_of_ones_own(
    new_database: Callable[[], AbstractContextManager[str]], rollcall: CommandLine
) -> Iterator[tuple[str, CommandLine]]:
    """A database whose tables a test may change, and a command line that uses it."""
    with new_database() as url:
        migrate(url, USERS)
        yield url, attrs.evolve(rollcall, environment={"ROLLCALL_DATABASE_URL": url})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            """
            create function no_room() returns trigger language plpgsql as
                $$begin raise 'no room for %', new using errcode = 'disk_full'; end$$;
            create trigger no_room before insert on users for each row execute function no_room()
            """,
            "the disk of the database is full; nothing was registered",
        ),
        (
            "alter table imports rename column key_identity to other",
            "the database failed (UndefinedColumn, SQLSTATE 42703)",
        ),
        (
            "delete from _yoyo_migration where migration_id = '0002.imports'",
            "lacks 0002.imports; run: rollcall migrate",
        ),
    ],
)
def test_an_error_of_the_database_is_shown_without_a_row(
    database_of_ones_own: tuple[str, CommandLine], tmp_path: Path, change: str, sentence: str
) -> None:
    """PostgreSQL's own messages quote the rows that failed."""
    url, rollcall = database_of_ones_own
    (tmp_path / "users.csv").write_text(completed_text("name,country,age\nCanary,Canary,30\n"))
    with psycopg.connect(url) as connection:
        connection.execute(change.encode())

    outcome = rollcall("import", "users.csv")

    assert _failed(outcome).endswith(sentence)
    assert not Path(tmp_path / "users.csv.rollcall").exists()
    with psycopg.connect(url) as connection:
        assert connection.execute("select * from users").fetchall() == []


def test_a_report_without_disk_space_stops_the_import(
    rollcall: CommandLine, database_url: str, tmp_path: Path
) -> None:
    """Rejected rows must not be lost, so the good rows are not registered without them."""
    rows = "".join(f"Canary {number},Chile,{'x' if number % 2 else 1}\n" for number in range(10_000))
    (tmp_path / "users.csv").write_text(completed_text(f"name,country,age\n{rows}"))
    no_room = attrs.evolve(rollcall, before=["/bin/sh", "-c", 'ulimit -f 64; exec "$@"', "sh"])

    outcome = no_room("import", "users.csv")

    assert "file too large" in _failed(outcome)
    _nothing_was_done(database_url, tmp_path / "users.csv")
    assert rollcall("import", "users.csv").code == 3
    assert len(users(database_url)) == 5_000


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it, macOS does not")
def test_a_failed_output_does_not_repeat_the_import(
    rollcall: CommandLine, sample: Path, database_url: str
) -> None:
    """The import stays committed, though its result could not be printed."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - no path on all systems
        outcome = ended(rollcall.start("import", sample, out=full.fileno()))

    assert _failed(outcome) == "the disk is full; run the same command again; nothing is registered twice"
    assert len(users(database_url)) == 5
    assert rollcall("import", sample, "--json").records[0]["code"] == "redelivery"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of an embedded database that several tests use in turn."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def embedded(tmp_path: Path, data: Path) -> Iterator[CommandLine]:
    """`rollcall` with the embedded database, without users."""
    with running(data) as url:
        migrate(url, USERS)
        with psycopg.connect(url) as connection:
            connection.execute("truncate users, imports, corrections restart identity")
    command_line = CommandLine(tmp_path, {"ROLLCALL_DATA": str(data)})
    yield command_line
    command_line.end_all()


@contextmanager
def _importing(rollcall: CommandLine, file: Path, data: Path) -> Iterator[tuple[Popen[bytes], list[int]]]:
    """Freeze an import into the embedded database midway; yield it with the server's main process and its own."""
    url = f"postgresql://rollcall@/rollcall?host={data / 'postgres'}&port=5432"
    with rollcall.start("import", file) as process:
        wait_until(lambda: _reachable(url))
        at_work = stop_midway(process, url)
        yield process, [int((data / "postgres" / "postmaster.pid").read_text().splitlines()[0]), at_work]


def _reachable(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize(
    "by", [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGHUP,), (signal.SIGHUP, signal.SIGTERM)]
)
def test_an_interrupted_import_stops_the_server_that_it_started(
    embedded: CommandLine, large: Path, data: Path, by: tuple[signal.Signals, ...]
) -> None:
    """No process is left; a closed terminal may send more than one signal."""
    with _importing(embedded, large, data) as (process, servers):
        go_on_with(process, *by)
        outcome = ended(process)

    assert _failed(outcome) == INTERRUPTED
    for server in servers:
        with pytest.raises(ProcessLookupError):
            os.kill(server, 0)
    with running(data) as url:
        _nothing_was_done(url, large)


@pytest.mark.parametrize("which", [0, 1], ids=["all of it", "the process at work"])
def test_a_database_killed_midway_recovers_and_imports_the_file(
    embedded: CommandLine, large: Path, data: Path, which: int
) -> None:
    """PostgreSQL recovers, without a user of the lost import."""
    with _importing(embedded, large, data) as (process, servers):
        os.kill(servers[which], signal.SIGKILL)
        go_on_with(process)
        outcome = ended(process)

    assert "database" in _failed(outcome)
    with running(data) as url:
        _nothing_was_done(url, large)
        _the_next_run_imports_all(embedded, url, large)


def test_a_wrong_password_is_reported_and_not_shown(embedded: CommandLine, sample: Path, data: Path) -> None:
    """The message names the user, but not the password that was tried."""
    with running(data) as url:
        rules = data / "postgres" / "pg_hba.conf"
        before = rules.read_text()
        rules.write_text(f"local all guest scram-sha-256\n{before}")
        with psycopg.connect(url) as connection:
            connection.execute("create role guest login password 'right'")
            connection.execute("select pg_reload_conf()")
        theirs = urlsplit(url)
        guest = theirs._replace(netloc="guest:s3cret@").geturl()
        outcome = embedded("import", sample, ROLLCALL_DATABASE_URL=guest)
        rules.write_text(before)

    assert 'password authentication failed for user "guest"' in _failed(outcome)
    assert "s3cret" not in outcome.err
