"""A PostgreSQL that speaks TLS and asks for passwords, as a database on AWS does.

The embedded one knows no TLS, so this takes the system's own: on Debian and Ubuntu the package `postgresql`.
"""

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, Popen, run
from tempfile import TemporaryDirectory

import attrs
import psycopg
import pytest
import trustme
from psycopg import sql

from integration.command_line import wait_until

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
    """A server that is known by its certificate.

    Attributes:
        port: Where it listens on this machine, with TLS only.
        behind: The address of its superuser's database, without TLS or password.
        ca: The file of certificates to know it by, as `localhost`.
    """

    port: int
    behind: str
    ca: Path

    def url(self, host: str = "localhost") -> str:
        """Give the address of its database without user or password."""
        return f"postgresql://{host}:{self.port}/postgres"

    def let_in(self, user: str, password: str) -> None:
        """Make a user who may make tables, or give one another password."""
        with psycopg.connect(self.behind, autocommit=True) as connection:
            if not connection.execute("select 1 from pg_roles where rolname = %s", [user]).fetchone():
                connection.execute(sql.SQL("create role {} login superuser").format(sql.Identifier(user)))
            connection.execute(
                sql.SQL("alter role {} password {}").format(sql.Identifier(user), sql.Literal(password))
            )

    def end_connections(self, user: str) -> None:
        """Cut every connection of a user, as when the database fails over."""
        with psycopg.connect(self.behind, autocommit=True) as connection:
            connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = %s", [user])


@contextmanager
def tls_postgres() -> Iterator[TlsPostgres]:
    """Start one with an empty database."""
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
        # PostgreSQL refuses to run as root, and to use a key that others may read.
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
        behind = f"postgresql://admin@/postgres?host={folder}&port={port}"
        with (
            (folder / "log").open("wb") as log,
            Popen([programs, "-D", data], stdout=log, stderr=log, cwd=folder, user=user) as server,  # noqa: S603 - as above
        ):
            try:
                wait_until(lambda: _answers(behind))
                yield TlsPostgres(port, behind, folder / "ca.pem")
            finally:
                server.send_signal(signal.SIGINT)  # a fast shutdown: whoever is connected is cut
                server.wait(_STOP_SECONDS)


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True
