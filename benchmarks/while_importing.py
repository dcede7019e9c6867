"""How fast `rollcall serve` answers while its worker imports a file, and its memory after a large upload.

    PYTHONPATH=tests:benchmarks .venv/bin/python benchmarks/while_importing.py [--rows 1000000] [--mib 1024]

The database is an embedded PostgreSQL in a temporary folder.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.command_line import CommandLine
from support.served import Server, serving

MIB = 1024 * 1024
_PAUSE_SECONDS = 0.02


def _write(path: Path, rows: int) -> None:
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="utf-8") as file:
        file.write("name,country,age\n")
        file.writelines(f"Ann Müller {number},Österreich,{number % 100}\n" for number in range(rows))


def _times(server: Server, rollcall: CommandLine) -> list[float]:
    """Return the seconds of each answer until the import is in the ledger."""
    times: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        imported = pool.submit(_wait_for_import, rollcall)
        while not imported.done():
            began = time.perf_counter()
            server.ask("GET", "/api/policy")
            times.append(time.perf_counter() - began)
            time.sleep(_PAUSE_SECONDS)
    return times


def _wait_for_import(rollcall: CommandLine) -> None:
    while rollcall("imports").out.startswith("no imports"):
        time.sleep(2)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--mib", type=int, default=1024)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "data"
        rollcall = CommandLine(folder, {"ROLLCALL_DATA": str(data)})
        _write(data / "uploads/web" / ("0" * 64) / ("1" * 32) / "users.csv", options.rows)
        began = time.perf_counter()
        with serving(rollcall) as server:
            times = _times(server, rollcall)
        took = time.perf_counter() - began
        ninety_fifth = statistics.quantiles(times, n=20)[-1]
        print(
            f"{options.rows:,} rows imported within {took:.0f} s; {len(times):,} answers meanwhile:"
            f" median {statistics.median(times) * 1000:.0f} ms, 95th percentile {ninety_fifth * 1000:.0f} ms,"
            f" slowest {max(times) * 1000:.0f} ms"
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
