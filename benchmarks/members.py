"""How fast a record of your own is imported, beside the server's COPY of the same file into the same table.

    .venv/bin/python benchmarks/members.py [--rows 1000000] [--rounds 5]

The record is that of examples/members, with twelve columns. The database is an embedded PostgreSQL in a temporary
folder. The two take turns, and every second round has the reverse order. Each run begins with an empty table after
a checkpoint.
"""

import argparse
import os
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from contest import ROLLCALL, ROOT, clean_environment, psql
from rollcall.adapters.embedded_postgres import running

COLUMNS = "external_id,name,email,born,points,fee,active,role,token,phone,country,note"
SECONDS = 600
ROLES = "member", "guest", "staff"


def write(file: Path, rows: int) -> None:
    """Write clean rows; every third has no optional value."""
    with file.open("w", encoding="utf-8") as out:
        out.write(f"{COLUMNS}\n")
        for number in range(rows):
            code = f"{chr(65 + number // 260_000 % 26)}{chr(65 + number // 10_000 % 26)}-{number % 10_000:04}"
            born, token, phone, note = "", "", "", ""
            if number % 3:
                born, token = f"{1950 + number % 50}-0{1 + number % 9}-1{number % 10}", _token(number)
                phone, note = f"03-{number % 10_000:04}-{number % 9973:04}", "by post"
            out.write(
                f"{code},Person {number},p{number}@example.com,{born},{number % 1000},{number % 5000}.50,"
                f"{'true' if number % 2 else 'false'},{ROLES[number % 3]},{token},{phone},Österreich,{note}\n"
            )


def _token(number: int) -> str:
    digits = f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder, "data")) as url:
        Path(folder).chmod(0o755)  # the server may run as another user
        file = Path(folder, "members.csv")
        write(file, options.rows)
        environment = clean_environment() | {
            "ROLLCALL_DATABASE_URL": url,
            "ROLLCALL_RECORD": "records:Member",
            "ROLLCALL_REPORTS": Path(folder, "reports").as_uri(),
        }

        def rollcall(*arguments: str) -> None:
            subprocess.run(
                [ROLLCALL, *arguments],
                cwd=ROOT / "examples/members",
                env=environment,
                check=True,
                timeout=SECONDS,
                stdout=subprocess.DEVNULL,
            )

        def copy() -> None:
            statement = f"copy members ({COLUMNS}) from '{file}' (format csv, header, encoding 'UTF8')"
            subprocess.run([psql(), "-X", "-q", "-d", url, "-c", statement], check=True, timeout=SECONDS)

        rollcall("migrate")
        contenders = (("COPY", copy), ("rollcall import", lambda: rollcall("import", str(file))))
        took: dict[str, list[float]] = {name: [] for name, _ in contenders}
        used: dict[str, list[float]] = {name: [] for name, _ in contenders}
        for number in range(options.rounds):
            for name, run in contenders if number % 2 == 0 else contenders[::-1]:
                with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
                    connection.execute("truncate members, imports, corrections")
                    connection.execute("checkpoint")
                    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
                    run()
                    took[name].append(time.perf_counter() - began)
                    after = resource.getrusage(resource.RUSAGE_CHILDREN)
                    used[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
                    found = connection.execute("select count(*) from members").fetchone()
                if found != (options.rows,):
                    raise SystemExit(f"{name}: {found} rows instead of {options.rows:,}")
        for name, seconds in took.items():
            rate = options.rows / statistics.median(seconds)
            cpu = statistics.median(used[name]) / options.rows * 1e6
            print(f"{name}: {statistics.median(seconds):.2f} s, {rate:,.0f} rows/s, client CPU {cpu:.2f} us a row")
        ratios = [ours / theirs for theirs, ours in zip(took["COPY"], took["rollcall import"], strict=True)]
        load, _, _ = os.getloadavg()
        print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), load {load:.1f}")


if __name__ == "__main__":
    main()
