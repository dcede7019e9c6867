"""How fast `rollcall serve` tells the state of an upload while its worker imports it, and its memory.

    PYTHONPATH=tests:benchmarks .venv/bin/python benchmarks/while_importing.py [--rows 1000000] [--mib 1024]

The database is an embedded PostgreSQL in a temporary folder.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from subprocess import DEVNULL

import httpx

from support.command_line import CommandLine
from support.served import SECONDS, Server, serving

MIB = 1024 * 1024
_PAUSE_SECONDS = 0.02
_CHECK_SECONDS = 600


def _list_of(rows: int) -> bytes:
    lines = (f"Ann Müller {number},Österreich,{number % 100}\n" for number in range(rows))
    return ("name,country,age\n" + "".join(lines)).encode()


def _checked(client: httpx.Client, data: bytes) -> tuple[str, str]:
    """Upload a file, and return the path of the upload and the ETag of its check."""
    started = client.post("/api/uploads", json={"filename": "users.csv", "size": len(data)}).json()
    form = client.post(started["url"], data=started["fields"], files={"file": data}, timeout=_CHECK_SECONDS)
    form.raise_for_status()
    path = f"/api/uploads/{started['id']}"
    deadline = time.monotonic() + _CHECK_SECONDS
    while time.monotonic() < deadline:
        if check := client.get(path).json()["check"]:
            return path, check["etag"]
        time.sleep(_PAUSE_SECONDS)
    raise TimeoutError


def _times(server: Server, data: bytes) -> list[float]:
    """Return the seconds of each answer about an upload, from its registration until it is in the ledger."""
    headers = {"Authorization": f"Bearer {server.token}"}
    times: list[float] = []
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", headers=headers, timeout=SECONDS) as client:
        path, etag = _checked(client, data)
        client.put(f"{path}/registration", json={}, headers={"If-Match": etag}).raise_for_status()
        state = "registering"
        while state == "registering":
            began = time.perf_counter()
            state = client.get(path).json()["state"]
            times.append(time.perf_counter() - began)
            time.sleep(_PAUSE_SECONDS)
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--mib", type=int, default=1024)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rollcall = CommandLine(folder, {"ROLLCALL_DATA": str(folder / "data")})
        with serving(rollcall, err=DEVNULL) as server:
            began = time.perf_counter()
            times = _times(server, _list_of(options.rows))
            took = time.perf_counter() - began
        ninety_fifth = statistics.quantiles(times, n=20)[-1]
        print(
            f"{options.rows:,} rows uploaded, checked and imported within {took:.0f} s; {len(times):,} answers"
            f" during the import: median {statistics.median(times) * 1000:.0f} ms, 95th percentile"
            f" {ninety_fifth * 1000:.0f} ms, slowest {max(times) * 1000:.0f} ms"
        )
        with serving(rollcall, inbox=folder / "inbox") as server:
            before, began = server.peak_bytes(), time.perf_counter()
            server.upload("large", itertools.repeat(b"a" * MIB, options.mib), options.mib * MIB)
            took = time.perf_counter() - began
            print(
                f"{options.mib:,} MiB uploaded in {took:.0f} s; memory of the server at most"
                f" {server.peak_bytes() / MIB:.0f} MiB, {before / MIB:.0f} MiB before"
            )


if __name__ == "__main__":
    main()
