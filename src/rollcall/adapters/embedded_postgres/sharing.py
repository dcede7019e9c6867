"""The use of one server by many processes and threads: the first starts it, the last stops it."""

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from rollcall.adapters.embedded_postgres.connection import libpq_variables, server_url
from rollcall.adapters.embedded_postgres.processes import START_SECONDS, EmbeddedPostgresError, locked, tries
from rollcall.adapters.embedded_postgres.server import STOP_SECONDS, start_server, stop_server

_TURN_SECONDS = 3 * START_SECONDS + STOP_SECONDS  # the longest time that a turn can take


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
        held.enter_context(libpq_variables.restored())
        with _turn(data):
            url = held.enter_context(server_url(data / "postgres"))
            users = (data / "users.lock").open("ab")
            # No need to wait: only a process in its turn holds this lock exclusively.
            fcntl.flock(users, fcntl.LOCK_SH | fcntl.LOCK_NB)
            try:
                start_server(data, url)
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
            for _ in tries(
                _TURN_SECONDS,
                f"another process has been starting or stopping the embedded PostgreSQL in {data} for"
                f" {_TURN_SECONDS:.0f} s: look for one that hangs, and end it",
            ):
                if locked(turn):
                    break
            yield
    except OSError as error:
        raise EmbeddedPostgresError(
            f"the embedded PostgreSQL cannot work in {data}: {error.strerror or error}"
            f" ({error.filename or data}); it needs a folder of yours that can be written, with room"
        ) from error


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
            if locked(users):
                stop_server(data, url)
        finally:
            # Closing the file would not release the lock if a forked child still has it open.
            fcntl.flock(users, fcntl.LOCK_UN)
