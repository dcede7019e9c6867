"""The cost of the package in AWS Lambda's runtime: cold starts, and imports from S3 of growing size.

    ./dev bench-aws [ROWS...]

The emulator gives the function all processors of this machine, which the database also uses; AWS Lambda gives one
processor to a function of 1,769 MB. So times hold for this machine. Memory is that of the function alone.
"""

import re
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from data import csv_file
from rollcall.adapters.embedded_postgres import running
from support.builders import asked
from support.demo import aws
from support.emulator import Function
from support.stack import Stack, built, stacked

STARTS = 10
TIMEOUT_SECONDS = 900
TEST_EVENT = {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectRemoved:Delete", "s3": {}}]}
_INIT = re.compile(r"INIT REPORT\(durationMs: ([0-9.]+)\)")


def main() -> None:
    """Measure, and print a table for docs/performance.md."""
    sizes = [int(argument) for argument in sys.argv[1:]] or [1_000_000, 10_000_000]
    with TemporaryDirectory() as folder, aws() as endpoint, running(Path(folder, "postgres")) as database_url:
        package = built(Path(folder, "package"))
        size = sum(path.stat().st_size for path in package.rglob("*") if path.is_file())
        print(f"package: {size / 1e6:.1f} MB unpacked, Python {sys.version.split()[0]}")
        stack = stacked(package, endpoint, "bench", DatabaseUrl=database_url, DatabaseCa="")
        with stack.running("MigrateFunction") as migrate:
            migrate({})
        cold_starts(stack)
        print("\n| file | rows | MB | seconds | rows/s | peak RSS, MB |\n| --- | --- | --- | --- | --- | --- |")
        for rows in sizes:
            for form in ("clean", "bad"):
                import_one(stack, database_url, csv_file(Path(folder), form, rows), form, rows)


def cold_starts(stack: Stack) -> None:
    """Measure the time until the runtime can be invoked, and until an invocation without work has ended."""
    inits, firsts = [], []
    for _ in range(STARTS):
        with stack.running("ImportFunction") as function:
            begun = time.monotonic()
            function(TEST_EVENT)
            firsts.append(time.monotonic() - begun)
            [init] = _INIT.findall(function.log.read_text(encoding="utf-8"))
            inits.append(float(init) / 1000)
    for what, seconds in (("cold start", inits), ("with the first invocation", firsts)):
        print(
            f"{what}: {statistics.median(seconds):.2f} s, {min(seconds):.2f} to {max(seconds):.2f}, {STARTS} times"
        )


def import_one(stack: Stack, database_url: str, file: Path, form: str, rows: int) -> None:
    """Upload a file, and measure its import by a function that has just started."""
    asked(database_url, "truncate users, imports, corrections")
    with file.open("rb") as content:
        stack.chain.s3.upload_fileobj(content, stack.chain.bucket, file.name)
    with stack.running("ImportFunction", timeout_seconds=TIMEOUT_SECONDS) as function:
        begun = time.monotonic()
        failed = stack.deliver(function)
        seconds = time.monotonic() - begun
        peak = _peak_bytes(function)
    [(registered,)] = asked(database_url, "select count(*) from users")
    [(said,)] = asked(database_url, "select registered from imports")
    if failed or registered != said:
        sys.exit(f"{file}: {registered:,} users are in the table, but the receipt says {said:,}")
    size = file.stat().st_size / 1e6
    print(
        f"| {form} | {rows:,} | {size:.0f} | {seconds:.1f} | {rows / seconds:,.0f} | {peak / 1e6:.0f} |",
        flush=True,
    )


def _peak_bytes(function: Function) -> int:
    """Return the largest memory peak of a process of the function, in bytes."""
    peaks = []
    for process in function.processes():
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
        peaks.append(int(status.partition("VmHWM:")[2].split()[0]) * 1024)
    return max(peaks)


if __name__ == "__main__":
    main()
