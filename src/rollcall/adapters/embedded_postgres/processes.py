"""Processes of the embedded PostgreSQL, file locks, and waiting for both within a time limit."""

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen, TimeoutExpired
from typing import IO

from rollcall.application.errors import RepositoryUnavailableError

START_SECONDS = 120.0  # after a crash, the server first replays up to `max_wal_size` of its log

_TICK_SECONDS = 0.01

# The server's environment: only fixed values, none that a person may have set, such as PGDATA, PGOPTIONS or LANG.
_ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath, "TZ": "UTC"}


class EmbeddedPostgresError(RepositoryUnavailableError):
    """The embedded PostgreSQL cannot be used; the message is one sentence: why, where, and what to do."""


def spawn(command: Sequence[str | Path], folder: Path, *, log: IO[bytes] | int, lock: IO[bytes]) -> Popen[bytes]:
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


def finished(process: Popen[bytes]) -> int:
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
            return process.wait(START_SECONDS)
        except TimeoutExpired as error:
            process.kill()
            raise EmbeddedPostgresError(
                f"{Path(error.cmd[0]).name} of the embedded PostgreSQL did not end within"
                f" {START_SECONDS:.0f} s: try again when the machine is less busy"
            ) from error
        except BaseException:
            process.kill()
            raise


def tries(seconds: float, otherwise: str) -> Iterator[None]:
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


def locked(file: IO[bytes]) -> bool:
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
