"""The server's process: started and stopped."""

import re
import threading
from pathlib import Path
from subprocess import DEVNULL

from rollcall.adapters.embedded_postgres.binaries import reachable_binaries
from rollcall.adapters.embedded_postgres.cluster import as_seen_inside, check_cluster, create_cluster, last_words
from rollcall.adapters.embedded_postgres.connection import PORT, SOCKET, answers, takes_connections
from rollcall.adapters.embedded_postgres.processes import (
    START_SECONDS,
    EmbeddedPostgresError,
    finished,
    locked,
    spawn,
    tries,
)

STOP_SECONDS = 60.0

_SETTINGS = {
    "listen_addresses": "",
    # The server's working folder, because an absolute path could be too long or not reachable.
    "unix_socket_directories": ".",
    "port": PORT,
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


def start_server(data: Path, url: str) -> None:
    """Start the server if it does not run; to be called during a turn.

    Args:
        data: The folder.
        url: The URL of the database.

    Raises:
        EmbeddedPostgresError: If the server does not start in time.
    """
    cluster = data / "postgres"
    with (data / "server.lock").open("ab") as lock:
        for _ in tries(
            START_SECONDS,
            f"the embedded PostgreSQL in {data} runs but has not answered for {START_SECONDS:.0f} s:"
            " see server.log there",
        ):
            # If the lock is free, no server runs, and no process that a killed server or `initdb` left behind.
            if locked(lock):
                break
            if answers(url):
                return
        with (data / "server.log").open("wb") as log:
            if not cluster.exists():
                create_cluster(cluster, log=log, lock=lock)
            check_cluster(cluster)
            # We hold the server's lock, so no server runs, even if some process has the id in these files now.
            # (A server that a person started is still safe: PostgreSQL finds its shared memory in use.)
            for leftover in "postmaster.pid", f"{SOCKET}.lock":
                (cluster / leftover).unlink(missing_ok=True)
            binaries = reachable_binaries(cluster, log=log, lock=lock)
            settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
            server = spawn(
                [binaries / "postgres", "-D", as_seen_inside(cluster), *settings],
                cluster,
                log=log,
                lock=lock,
            )
        # Another process may stop the server, but it is our child: we must collect its exit status.
        threading.Thread(target=server.wait, name="embedded-postgres", daemon=True).start()
        for _ in tries(
            START_SECONDS,
            f"the embedded PostgreSQL in {data} did not start within {START_SECONDS:.0f} s: see server.log there",
        ):
            if answers(url):
                break
            if server.poll() is not None:
                raise EmbeddedPostgresError(
                    f"the embedded PostgreSQL did not start: {last_words(data / 'server.log')}"
                )


def stop_server(data: Path, url: str) -> None:
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
        for _ in tries(
            STOP_SECONDS,
            f"the embedded PostgreSQL in {data} has not stopped within {STOP_SECONDS:.0f} s:"
            " what was committed is safe, and the next command waits for it; see server.log there",
        ):
            if locked(lock):
                return
            if not asked and (server := _process_id(cluster)):
                # During crash recovery, PostgreSQL 18 may hang without end after the signal for an orderly stop.
                # An immediate stop loses nothing then: the next start recovers again.
                how = "INT" if takes_connections(url) else "QUIT"
                # Sent as the owner of the files: a process id in them must not make root stop any other process.
                command = ["/bin/sh", "-c", f"kill -s {how} {server}"]
                asked = finished(spawn(command, cluster, log=DEVNULL, lock=lock)) == 0


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
