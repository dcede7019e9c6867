"""A PostgreSQL with TLS and passwords, like a database on AWS.

The embedded PostgreSQL has no TLS, so this uses the system's own: on Debian and Ubuntu the package `postgresql`.
"""

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, Popen, run
from tempfile import TemporaryDirectory

import attrs
import psycopg
import pytest
import trustme
from psycopg import sql

from support.command_line import wait_until

_STOP_SECONDS = 30
_SETTINGS = """
listen_addresses = 'localhost'
port = {port}
unix_socket_directories = '{folder}'
ssl = on
ssl_cert_file = '{folder}/server.pem'
ssl_key_file = '{folder}/server.key'
fsync = off
"""
_WHO_MAY_COME_IN = "local all all trust\nhostssl all all all scram-sha-256\n"


@attrs.frozen
class TlsPostgres:
    """A server with a certificate.

    Attributes:
        port: The local port, for TLS only.
        behind: The URL of the superuser's database, without TLS or password.
        ca: The CA bundle that verifies the server as `localhost`.
    """

    port: int
    behind: str
    ca: Path
    _start: Callable[[], Popen[bytes]]
    _process: list[Popen[bytes]] = attrs.Factory(list)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process.append(self._start())
        wait_until(lambda: _answers(self.behind))

    def stop(self) -> None:
        """Stop it, and cut every connection."""
        with suppress(IndexError), self._process.pop() as process:
            process.send_signal(signal.SIGINT)
            process.wait(_STOP_SECONDS)

    def url(self, host: str = "localhost") -> str:
        """Return the URL of its database without user or password."""
        return f"postgresql://{host}:{self.port}/postgres"

    def let_in(self, user: str, password: str) -> None:
        """Create a user who may create tables, or change the user's password."""
        with psycopg.connect(self.behind, autocommit=True) as connection:
            if not connection.execute("select 1 from pg_roles where rolname = %s", [user]).fetchone():
                connection.execute(sql.SQL("create role {} login superuser").format(sql.Identifier(user)))
            connection.execute(
                sql.SQL("alter role {} password {}").format(sql.Identifier(user), sql.Literal(password))
            )

    @contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Lock a table against everyone else."""
        with psycopg.connect(self.behind) as connection:
            connection.execute(sql.SQL("lock table {}").format(sql.Identifier(table)))
            yield

    def end_connections(self, user: str) -> None:
        """Cut every connection of a user, as in a failover of the database."""
        with psycopg.connect(self.behind, autocommit=True) as connection:
            connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = %s", [user])


@contextmanager
def tls_postgres() -> Iterator[TlsPostgres]:
    """Start a server with an empty database."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin/postgres"), default=None)
    if not programs:
        pytest.skip("no PostgreSQL with TLS is installed here; on Debian and Ubuntu: apt install postgresql")
    with TemporaryDirectory() as temporary, socket.create_server(("localhost", 0)) as listening:
        folder = Path(temporary)
        port = listening.getsockname()[1]
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost")
        certificate.cert_chain_pems[0].write_to_path(folder / "server.pem")
        certificate.private_key_pem.write_to_path(folder / "server.key")
        authority.cert_pem.write_to_path(folder / "ca.pem")
        (folder / "server.key").chmod(0o600)
        # PostgreSQL refuses to run as root, and refuses a key that others may read.
        user = "nobody" if os.getuid() == 0 else None
        if user:
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, user)
        data = folder / "data"
        run(  # noqa: S603 - a program of the system
            [
                programs.with_name("initdb"),
                "-D",
                data,
                "-U",
                "admin",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
            ],
            check=True,
            stdout=DEVNULL,
            cwd=folder,
            user=user,
        )
        (data / "postgresql.conf").write_text(_SETTINGS.format(port=port, folder=folder), encoding="ascii")
        (data / "pg_hba.conf").write_text(_WHO_MAY_COME_IN, encoding="ascii")
        listening.close()

        def start() -> Popen[bytes]:
            with (folder / "log").open("ab") as log:
                return Popen([programs, "-D", data], stdout=log, stderr=log, cwd=folder, user=user)  # noqa: S603 - as above

        behind = f"postgresql://admin@/postgres?host={folder}&port={port}"
        server = TlsPostgres(port, behind, folder / "ca.pem", start)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True
