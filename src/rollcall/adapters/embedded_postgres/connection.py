"""Connections to the embedded PostgreSQL: its address, and the environment without libpq's variables."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from rollcall.adapters.embedded_postgres.processes import START_SECONDS, EmbeddedPostgresError

if TYPE_CHECKING:
    import psycopg

NAME = "rollcall"  # the name of the database and of its superuser
PORT = 5432  # only part of the socket's name, but a PGPORT in the environment must not change it
SOCKET = f".s.PGSQL.{PORT}"
_SOCKET_BYTES = 100  # the longest path of the socket; Linux allows 107, macOS 103

_CONNECT_SECONDS = 5

# Variables that libpq reads besides those of its options (PostgreSQL's documentation, "Environment Variables").
_MORE_VARIABLES = ("PGDATESTYLE", "PGGEQO", "PGLOCALEDIR", "PGSERVICEFILE", "PGSYSCONFDIR", "PGTZ")
# The excluded messages mean that the server is starting, recovering, stopping or full. Any other refusal is final.
_REFUSED_FOR_GOOD = re.compile(r"FATAL: ++(?!the database system is |sorry, too many|remaining connection)(.+)")


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


libpq_variables = _LibpqVariables()


@contextmanager
def server_url(cluster: Path) -> Iterator[str]:
    """Yield the address of the server.

    Args:
        cluster: PostgreSQL's own folder.

    Yields:
        The URL of the database.
    """
    with ExitStack() as held:
        # libpq reads a comma as a separator of hosts.
        if len(os.fsencode(cluster / SOCKET)) > _SOCKET_BYTES or "," in str(cluster):
            # Not in TMPDIR, whose path may be as long. The new folder is private also in /tmp.
            private = held.enter_context(TemporaryDirectory(prefix="rollcall-", dir="/tmp"))
            alias = Path(private, "db")
            alias.symlink_to(cluster)
            cluster = alias
        where = urlencode({"host": os.fsencode(cluster), "port": PORT}, quote_via=quote)
        yield f"postgresql://{NAME}@/{NAME}?{where}"


def answers(url: str) -> bool:
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
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [NAME]).fetchone():
                connection.execute(f"CREATE DATABASE {NAME}")
        except psycopg.Error as error:
            raise EmbeddedPostgresError(f"the embedded PostgreSQL cannot make its database: {error}") from error
    return True


def takes_connections(url: str) -> bool:
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

    libpq_variables.remove()
    return psycopg.connect(
        url,
        dbname="postgres",
        autocommit=True,
        connect_timeout=_CONNECT_SECONDS,
        options=f"-c statement_timeout={START_SECONDS:.0f}s",
    )
