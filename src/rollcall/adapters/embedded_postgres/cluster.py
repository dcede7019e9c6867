"""PostgreSQL's own folder: created, checked, and its log."""

import os
import pwd
import re
import shutil
from pathlib import Path
from typing import IO

from rollcall.adapters.embedded_postgres.binaries import MAJOR, reachable_binaries
from rollcall.adapters.embedded_postgres.connection import NAME
from rollcall.adapters.embedded_postgres.processes import EmbeddedPostgresError, finished, spawn

# A process's own working folder, by a path that needs no access to the folders above it.
_HERE = Path("/proc/self/cwd")


def create_cluster(cluster: Path, *, log: IO[bytes], lock: IO[bytes]) -> None:
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
    code = finished(
        spawn(
            [
                reachable_binaries(unfinished, log=log, lock=lock) / "initdb",
                *("-D", as_seen_inside(unfinished)),
                f"--username={NAME}",
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
            f"the embedded PostgreSQL cannot make its database: {last_words(cluster.parent / 'server.log')}"
        )
    unfinished.rename(cluster)
    _sync_folder(cluster.parent)


def check_cluster(cluster: Path) -> None:
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
    if major != MAJOR:
        raise EmbeddedPostgresError(
            f"the database in {cluster} was made by PostgreSQL {major}, and this is PostgreSQL {MAJOR}:"
            " dump it with the version that made it and restore it with this one, or name another folder"
        )


def as_seen_inside(cluster: Path) -> Path:
    """Return a path of PostgreSQL's own folder for a process whose working folder it is.

    The process can follow the path even as a user without access to the folders above.

    Args:
        cluster: The folder.
    """
    return _HERE if os.geteuid() == 0 and _HERE.exists() else cluster


def last_words(log: Path) -> str:
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
