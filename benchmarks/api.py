"""The Web API in AWS Lambda's runtime: the time of an answer, and cold starts, beside FastAPI and Mangum.

    ./dev bench-api                  three rounds of a thousand calls of each route, ten cold starts
    ./dev bench-api --short          few calls and a small ledger, to see that it works; the figures mean nothing

Each round starts the functions anew and asks them in turn. A function has one processor, as a function of 1,769 MB
has on AWS; the database, the emulator and the client have the others, or share that one where there is no other.
The time is that of the client: it includes the emulator and HTTP, which an empty function shows.
"""

import argparse
import json
import os
import platform
import random
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
from psycopg import sql

from rollcall.adapters.embedded_postgres import running
from support.api_events import http_event
from support.builders import asked
from support.command_line import CommandLine
from support.demo import EXAMPLES, aws
from support.emulator import Event, Function, Tools, emulated
from support.stack import AWS_TOOLS, Stack, built, stacked

HERE = Path(__file__).parent
CALLS, STARTS, ROUNDS, LEDGER = 1000, 10, 3, 200_000
WARM_UP = 20  # calls that do not count: they connect to the database, and load modules
LIMIT = 100
LOADED, PARTIALLY_LOADED = 0, 3  # exit codes
ROWS = 100
PROCESSOR = {0}
TEST_EVENT = {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectRemoved:Delete", "s3": {}}]}
ROLLCALL, PEER, NOTHING = "Rollcall", "FastAPI and Mangum", "an empty function"
_INIT = re.compile(r"INIT REPORT\(durationMs: ([0-9.]+)\)")


@attrs.frozen
class Call:
    """A route that is measured.

    Attributes:
        what: What the tables call it.
        event_of: Makes the event of a call from its number, which no other call has.
        status: The status of its answer.
        goal: The goal of the 99th percentile, in milliseconds.
        functions: What is asked.
    """

    what: str
    event_of: Callable[[int], Event]
    status: int
    goal: float | None
    functions: tuple[str, ...]


def main() -> None:
    """Measure, and print tables for docs/performance.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    calls, starts, ledger, rounds = (50, 2, 2000, 1) if options.short else (CALLS, STARTS, LEDGER, options.rounds)
    with TemporaryDirectory() as folder, aws() as endpoint, running(Path(folder, "postgres")) as database_url:
        package = built(Path(folder, "package"))
        stack = stacked(package, endpoint, "bench", DatabaseUrl=database_url, DatabaseCa="")
        with stack.running("MigrateFunction") as migrate:
            migrate({})
        asked(database_url, "create table peer_users (key text primary key, name text, country text, age int)")
        fill_ledger(Path(folder), database_url, ledger)
        print(
            f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, "
            f"Linux {platform.release()}, {os.cpu_count()} processors, load {_load()}; "
            f"{ledger:,} imports in the ledger"
        )
        functions = {
            ROLLCALL: partial(stack.running, "ApiFunction"),
            PEER: partial(peer, Path(folder), "handler", database_url),
            NOTHING: partial(peer, Path(folder), "nothing", database_url),
        }
        answer_times(functions, calls, rounds, ledger)
        cold_starts(stack, functions, starts)
        sizes(package)
        print(f"\nload at the end: {_load()}")


def fill_ledger(folder: Path, database_url: str, imports: int) -> None:
    """Fill the ledger with copies of two receipts: of a clean file, and of one with rejected rows."""
    rollcall = CommandLine(folder, {"ROLLCALL_DATABASE_URL": database_url})
    for name in "sample_users.csv", "messy_users.csv":
        outcome = rollcall("import", EXAMPLES / name, "--reports", folder / "reports")
        if outcome.code not in {LOADED, PARTIALLY_LOADED}:
            sys.exit(outcome.err)
    columns = [
        name
        for (name,) in asked(
            database_url,
            "select column_name from information_schema.columns where table_name = 'imports' "
            "and is_generated = 'NEVER' and column_name not in ('id', 'identity', 'key_identity', 'sha256')",
        )
    ]
    asked(
        database_url,
        sql.SQL(
            "insert into imports (identity, key_identity, sha256, {0}) "
            "select identity || '-' || copy, key_identity || '-' || copy, "
            "encode(sha256((sha256 || copy)::bytea), 'hex'), {0} from generate_series(1, {1}) copy, imports"
        ).format(sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Literal(imports // 2 - 1)),
    )
    asked(database_url, "analyze imports")


@contextmanager
def peer(folder: Path, handler: str, database_url: str) -> Iterator[Function]:
    """Start a function of api_peer.py, with the libraries of the peers."""
    package = folder / "peer"
    if not package.exists():
        package.mkdir()
        [libraries] = HERE.glob(".venv/lib/python3*/site-packages")
        for path in (*libraries.iterdir(), HERE / "api_peer.py"):
            (package / path.name).symlink_to(path)
    with (
        TemporaryDirectory(dir=folder) as own,
        emulated(
            Tools.installed_in(AWS_TOOLS),
            # The interpreter outside any virtual environment, as for the package.
            Path(sys._base_executable),  # type: ignore[attr-defined]  # noqa: SLF001 - venv uses it, too
            package,
            f"api_peer.{handler}",
            {"DATABASE_URL": database_url},
            Path(own),
        ) as started,
    ):
        yield started


def calls_of(ledger: int) -> list[Call]:
    """Return what is measured."""
    chance = random.Random(0)  # noqa: S311 - no secret
    rows = [
        {"name": f"Ann Müller {number}", "country": "Österreich", "age": "thirty" if number % 10 == 0 else "30"}
        for number in range(ROWS)
    ]
    run = f"{time.time_ns()}"

    def check(_number: int) -> Event:
        return http_event("POST", "/api/rows/check", body=json.dumps({"rows": rows}))

    def register(number: int) -> Event:
        body = json.dumps({"name": f"Ann Müller {number}", "country": "Österreich", "age": 30})
        return http_event("POST", "/api/users", body=body, headers={"idempotency-key": f"{run}-{number}"})

    def page(_number: int) -> Event:
        query = {"limit": str(LIMIT), "after": str(chance.randrange(LIMIT, ledger))}
        return http_event("GET", "/api/imports", query=query)

    def policy(_number: int) -> Event:
        return http_event("GET", "/api/policy")

    return [
        Call(f"POST /api/rows/check, {ROWS} rows", check, 200, 30, (ROLLCALL, PEER)),
        Call("POST /api/users", register, 201, 60, (ROLLCALL, PEER)),
        Call(f"GET /api/imports?limit={LIMIT}", page, 200, 60, (ROLLCALL,)),
        Call("GET /api/policy", policy, 200, None, (ROLLCALL, NOTHING)),
    ]


def answer_times(functions: Mapping[str, Any], calls: int, rounds: int, ledger: int) -> None:
    """Measure warm answers."""
    print(
        f"\n{rounds} rounds of {calls:,} calls; milliseconds: the median of the rounds, and their range\n\n"
        "| route | function | p50 | p99 | goal of p99 |\n| --- | --- | --- | --- | --- |"
    )
    asked_for = calls_of(ledger)
    found: dict[tuple[str, str], list[list[float]]] = {}
    number = 0
    for _ in range(rounds):
        with ExitStack() as started:
            running_now = {name: started.enter_context(start()) for name, start in functions.items()}
            for call in asked_for:
                for name in call.functions:
                    times = _times(running_now[name], call, number, calls)
                    found.setdefault((call.what, name), []).append(times)
                    number += calls + WARM_UP
    for call in asked_for:
        for name in call.functions:
            p50, p99 = (
                [statistics.quantiles(times, n=100)[percent - 1] * 1000 for times in found[call.what, name]]
                for percent in (50, 99)
            )
            goal = f"{call.goal:.0f}" if call.goal and name == ROLLCALL else ""
            print(f"| {call.what} | {name} | {_span(p50, 1)} | {_span(p99, 1)} | {goal} |", flush=True)


def _times(function: Function, call: Call, first: int, calls: int) -> list[float]:
    """Return the seconds of each warm call."""
    times = []
    for number in range(first, first + WARM_UP + calls):
        event = call.event_of(number)
        begun = time.perf_counter()
        answer = function(event)
        times.append(time.perf_counter() - begun)
        if answer["statusCode"] != call.status:
            sys.exit(f"{call.what}: {answer}")
        if number == first:
            _keep_on_one_processor(function)
    return times[WARM_UP:]


def _keep_on_one_processor(function: Function) -> None:
    for process in function.processes():
        for thread in Path(f"/proc/{process}/task").iterdir():
            os.sched_setaffinity(int(thread.name), PROCESSOR)


def cold_starts(stack: Stack, functions: Mapping[str, Any], starts: int) -> None:
    """Measure the time until the runtime can be invoked, and until a first answer without a database has come."""
    policy = http_event("GET", "/api/policy")
    started = {
        "Rollcall's import function": (partial(stack.running, "ImportFunction"), TEST_EVENT),
        "Rollcall's API function": (functions[ROLLCALL], policy),
        PEER: (functions[PEER], policy),
    }
    inits: dict[str, list[float]] = {name: [] for name in started}
    firsts: dict[str, list[float]] = {name: [] for name in started}
    for _ in range(starts):
        for name, (start, event) in started.items():
            with start() as function:
                begun = time.perf_counter()
                function(event)
                firsts[name].append(time.perf_counter() - begun)
                [init] = _INIT.findall(function.log.read_text(encoding="utf-8"))
                inits[name].append(float(init) / 1000)
    print(
        f"\nCold starts, {starts} of each; seconds: the median and the range\n\n"
        "| function | until it can be invoked | with a first invocation |\n| --- | --- | --- |"
    )
    for name in started:
        print(f"| {name} | {_span(inits[name], 2)} | {_span(firsts[name], 2)} |")


def sizes(package: Path) -> None:
    """Print the size of the package, and of Rollcall's part."""
    whole, ours = (
        sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
        for folder in (package, package / "rollcall")
    )
    print(f"\npackage: {whole:.2f} MB unpacked, {ours:.2f} MB of it Rollcall's own")


def _load() -> str:
    return " ".join(f"{load:.1f}" for load in os.getloadavg())


def _span(figures: list[float], digits: int) -> str:
    """Return the median and the range."""
    return f"{statistics.median(figures):.{digits}f} ({min(figures):.{digits}f} to {max(figures):.{digits}f})"


if __name__ == "__main__":
    main()
