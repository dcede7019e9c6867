r"""How fast Rollcall is, beside others, on the same rows, the same server and the same table: `./dev bench`.

    ./dev bench                      all suites: more than an hour, and 10 GB in the temporary folder
    ./dev bench --short              all suites once with few rows, to see that they work; the figures mean nothing
    ./dev bench --suite goals        only this suite; the option may be repeated
    ./dev bench --rows 1000000       fewer rows in the largest file; the other sizes are fractions of it

The suites, with the minutes that each takes on an idle machine with two cores, estimated from single runs:

    ./dev bench --suite tenth        3: the goals of a million rows, five rounds beside both COPYs
    ./dev bench --suite goals        20: these and the goals of ten million rows, likewise
    ./dev bench --suite peers        9: five rounds of a million rows, the slow ones with fewer
    ./dev bench --suite checks       10: five rounds of ten million rows, the slow ones with fewer
    ./dev bench --suite unique       25: with `unique_by`, five rounds of a million rows, and ten million once
    ./dev bench --suite nightly      15: five rounds of a file of which the table has nearly every row
    ./dev bench --suite growth       10
    ./dev bench --suite small        1

Suites:

    goals     Rollcall's goals, each as a ratio of two runs of the same round
    tenth     only those goals that hold for a tenth of the rows
    peers     other ways to load the same clean file, and their results for a file with 1 % bad rows
    growth    whether the cost is proportional to the rows, and the cost of other forms of files
    checks    Rollcall's check beside others that apply the same rules
    unique    with `unique_by` name and country: into an empty table, into a full one, and the largest file once
    nightly   with `unique_by`, a file of which 99 % is in the table already, under `update`
    small     ten rows: the time that a person waits

How it is measured. Each run is a process of its own, timed from before its start until it has ended, with a limit.
Before the run, the tables of `rollcall migrate`, with their keys, indexes and defaults, are emptied, and a
checkpoint is made. After the run, the rows in the table are compared with those of the file by a checksum. A run
with other rows or another exit code does not count, and the benchmark exits with 1. Contenders take turns;
every second round has the reverse order. A ratio is that of two runs of one round; the tables give the median and
the range of these ratios. COPY is the server's own, sent by psql. COPY against COPY shows how much of a ratio is
noise. All contenders use the same server with the same settings, and commit equally durably. The server's CPU is
that of all its processes. A memory peak is that of the client's largest process. 1 MB is a million bytes.

The peers of `unique` and `nightly` load the file by the server's own COPY into a temporary table, then merge it by
one statement. For a full table, each run gets a new copy of a database with the users of the largest file.
Rollcall and its peers must leave the same rows. dlt merges into a table of its own, and gets fewer rows.

The peers of `checks` apply the rules of `User`: the shape of the row, blank or long text, forbidden characters,
and the range of ages. They only count; Rollcall would also name each bad cell and write a file of the rejected
rows. DuckDB and polars use every core, so the goal is one of CPU time.

The server is the embedded PostgreSQL. `ROLLCALL_BENCH_DATABASE_URL` names another one, whose user must be able to
create a database and to read this machine's files there. Its CPU is measured if it runs on this machine.

Each run is a line of JSON in the file of results, which `plot.py` draws. The tables are Markdown.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import TypeAlias

import data
from contenders import (
    CHECKS,
    PEERS,
    check,
    check_by_peer,
    client_copy,
    copy,
    import_from_s3,
    import_into_embedded,
    import_many_files,
    merge_by_conflict,
    merge_by_merge,
    peer,
    pgloader,
    plain_check,
    rollcall_import,
    s3_server,
)
from contest import HERE, PEERS_PYTHON, ROLLCALL, ROOT, Contender, Contest, Run, Server, clean_environment, psql
from figures import (
    cpu_ratios,
    is_met,
    more,
    peaks,
    per_row,
    rates,
    ratios,
    shares,
    short,
    show_runs,
    show_table,
    span,
)
from rollcall.adapters.embedded_postgres import running

PACKAGES = (
    "adbc-driver-postgresql",
    "dlt",
    "duckdb",
    "frictionless",
    "pandas",
    "polars",
    "psycopg",
    "pyarrow",
    "pydantic",
    "sqlalchemy",
)
SETTINGS = "shared_buffers", "max_wal_size", "wal_level", "fsync", "synchronous_commit", "full_page_writes"
UNIQUE_BY = {"ROLLCALL_UNIQUE_BY": "name,country"}
SMALLEST = 10_000
JUDGED_FROM = 10_000_000  # rows of the largest file; the goals hold for that many

# What is measured, the goal, and the measured figures.
Goal: TypeAlias = tuple[str, str, Sequence[float]]


def main() -> int:
    """Run the suites that were asked for; return 1 if any run does not count."""
    arguments = _arguments()
    arguments.work.mkdir(parents=True, exist_ok=True)
    arguments.work.chmod(0o755)  # the server, which may be another user, reads the files in it
    with ExitStack() as held:
        named = os.environ.get("ROLLCALL_BENCH_DATABASE_URL")
        server = Server(named or held.enter_context(running(arguments.work / "server")))
        held.callback(server.close)
        results = held.enter_context(arguments.results.open("a", encoding="utf-8"))
        contest = Contest(server, arguments.work, results, arguments.timeout)
        session = _session(server, arguments)
        contest.note("session", **session)
        show_table(("what", "was measured"), session.items())
        for suite in arguments.suite:
            start = time.monotonic()
            SUITES[suite](contest, arguments.rows, arguments.pairs)
            print(f"({suite}: {time.monotonic() - start:,.0f} s)\n", flush=True)
        for failure in contest.failures:
            print(f"FAILED {failure}")
    return bool(contest.failures)


def _arguments() -> argparse.Namespace:
    summary, _, _ = (__doc__ or "").partition("\n")
    temporary = Path(tempfile.gettempdir(), "rollcall-benchmark")
    parser = argparse.ArgumentParser(prog="./dev bench", description=summary)
    parser.add_argument("--suite", action="append", choices=[*SUITES, "all"], help="which; all by default")
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the largest file (%(default)s)")
    parser.add_argument("--pairs", type=int, default=5, help="rounds for each ratio (%(default)s)")
    parser.add_argument("--short", action="store_true", help=f"{SMALLEST:,} rows, one round: does all of it work?")
    parser.add_argument("--timeout", type=int, default=1200, help="seconds that one run may take (%(default)s)")
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl", help="added to (%(default)s)")
    parser.add_argument("--work", type=Path, default=temporary, help="where files are made and kept (%(default)s)")
    arguments = parser.parse_args()
    if arguments.short:
        arguments.rows, arguments.pairs = SMALLEST, 1
    if arguments.rows < SMALLEST or arguments.rows % SMALLEST:
        parser.error(f"--rows takes multiples of {SMALLEST:,}")
    if not arguments.suite or "all" in arguments.suite:
        arguments.suite = [suite for suite in SUITES if suite != "tenth"]  # the goals have it
    arguments.work = arguments.work.absolute()
    return arguments


def _session(server: Server, arguments: argparse.Namespace) -> dict[str, object]:
    """Return the machine, the versions and the settings that the figures hold for."""
    models = [line.partition(": ")[2] for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    commit = _said("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    script = (
        "import platform, sys; from importlib.metadata import version;"
        "print('Python ' + platform.python_version(), *(f'{n} {version(n)}' for n in sys.argv[1:]), sep=', ')"
    )
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": arguments.rows,
        "pairs": arguments.pairs,
        "machine": f"{next(iter(models), platform.machine())}, {os.cpu_count()} cores, {memory / 1e9:.0f} GB,"
        f" {platform.system()} {platform.release()}",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "rollcall": f"{metadata.version('rollcall')}, commit {commit}, Python {platform.python_version()}",
        "server": server.query("select split_part(version(), ' on ', 1)")[0][0],
        "its settings": ", ".join(f"{name} {server.query(f'show {name}')[0][0]}" for name in SETTINGS),
        "peers": ", ".join(
            [
                _said(str(PEERS_PYTHON), "-c", script, *PACKAGES),
                _said(psql(), "--version"),
                _said("pgloader", "--version") if shutil.which("pgloader") else "pgloader is not installed",
            ]
        ),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _said(*command: str) -> str:
    said = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env=clean_environment()
    ).stdout
    return next(iter(said.splitlines()), "")


def goals(contest: Contest, rows: int, pairs: int) -> None:
    """Measure Rollcall's goals."""
    fewer = rows // 10
    many = contest.rounds("goals", _beside_copy(contest, rows), pairs)
    few = _few_rows(contest, fewer, pairs)
    checks = contest.rounds("goals", [plain_check(contest, fewer), check(contest, fewer)], pairs)
    [check_of_many] = contest.rounds("goals", [check(contest, rows)], min(pairs, 3)).values()
    with s3_server() as s3:
        few_from_s3, many_from_s3 = (
            [contest.run("goals", import_from_s3(contest, s3, form, count)) for form in ("clean", "bad")]
            for count in (fewer, rows)
        )
    plain, screened = checks.values()

    size, lesser = f"{rows:,} rows", f"{fewer:,} rows"
    print(f"## Goals\n\nRatios are of seconds, in pairs; {size} and {lesser}.")
    _show_goals(
        contest,
        rows,
        [
            *_beside_both(many, "clean", size, "≤ 1.10"),
            *_beside_both(many, "1 % bad", size, "≤ 1.15"),
            (f"COPY ÷ COPY, {size}", "", ratios(many["COPY again"], many["COPY"])),
            *_goals_of_few(few, lesser),
            (f"CPU of client ÷ server, clean, {size}", "≤ 0.5", shares(many["clean"])),
            (f"CPU of client ÷ server, 1 % bad, {size}", "≤ 0.5", shares(many["1 % bad"])),
            (f"peak RSS in MB, clean, {size}", "≤ 64", peaks(many["clean"])),
            (f"peak RSS in MB, 1 % bad, {size}", "≤ 64", peaks(many["1 % bad"])),
            (f"peak RSS in MB, from S3, clean and 1 % bad, {size}", "≤ 96", peaks(many_from_s3)),
            ("its growth from the lesser size, clean", "≤ 5", more(peaks(few["clean"]), peaks(many["clean"]))),
            ("its growth, 1 % bad", "≤ 5", more(peaks(few["1 % bad"]), peaks(many["1 % bad"]))),
            ("its growth, from S3", "≤ 5", more(peaks(few_from_s3), peaks(many_from_s3))),
            (f"check: rows/s, {lesser}", "≥ 1,000,000", rates(screened)),
            (f"check: rows/s, {size}", "≥ 1,000,000", rates(check_of_many)),
            (f"csv.reader and User ÷ check, {lesser}", "≥ 4", ratios(plain, screened)),
        ],
    )
    show_runs([*many.values(), *few.values(), *checks.values(), check_of_many, few_from_s3, many_from_s3])


def tenth(contest: Contest, rows: int, pairs: int) -> None:
    """Measure only the goals for a tenth of the rows, which takes a tenth of the time."""
    few = _few_rows(contest, rows // 10, pairs)
    print("## Goals of a tenth of the rows\n\nRatios are of seconds, in pairs.")
    _show_goals(contest, rows, _goals_of_few(few, f"{rows // 10:,} rows"))
    show_runs([*few.values()])


def _few_rows(contest: Contest, rows: int, pairs: int) -> dict[str, list[Run]]:
    return contest.rounds(
        "goals",
        [
            *_beside_copy(contest, rows),
            rollcall_import(contest, "padded", rows, "padded"),
            copy(contest, "quoted", rows, "COPY quoted", users="all"),
            rollcall_import(contest, "quoted", rows, "quoted"),
        ],
        pairs,
    )


def _goals_of_few(few: dict[str, list[Run]], size: str) -> list[Goal]:
    return [
        *_beside_both(few, "clean", size, "≤ 1.25"),
        *_beside_both(few, "1 % bad", size, ""),
        *_beside_both(few, "padded", size, "≤ 1.5"),
        (f"quoted ÷ COPY of quoted, {size}", "≤ 1.5", ratios(few["quoted"], few["COPY quoted"])),
        (f"COPY ÷ COPY, {size}", "", ratios(few["COPY again"], few["COPY"])),
        (f"CPU of client ÷ server, padded, {size}", "", shares(few["padded"])),
        (f"CPU of client ÷ server, quoted, {size}", "", shares(few["quoted"])),
        (f"peak RSS in MB, padded, {size}", "≤ 64", peaks(few["padded"])),
        (f"peak RSS in MB, quoted, {size}", "≤ 64", peaks(few["quoted"])),
    ]


def _beside_both(runs: dict[str, list[Run]], form: str, size: str, wanted: str) -> list[Goal]:
    """Return an import's ratios to each COPY of the clean file in its round."""
    return [
        (f"{form} ÷ {other} of clean, {size}", wanted, ratios(runs[form], runs[other]))
        for other in ("COPY", "COPY again")
    ]


def _show_goals(contest: Contest, rows: int, judged: list[Goal]) -> None:
    rows_of_table = []
    for what, wanted, figures in judged:
        met = is_met(figures, wanted) if rows >= JUDGED_FROM else None
        contest.note("goal", what=what, wanted=wanted, met=met, figures=figures)
        shown = (short(median(figures)), span(figures)) if figures else ("no run counts", "")
        rows_of_table.append((what, *shown, len(figures), wanted, {None: "", True: "yes", False: "NO"}[met]))
    show_table(("what", "median", "range", "pairs", "goal", "met"), rows_of_table)


def _beside_copy(contest: Contest, rows: int) -> list[Contender]:
    """Return imports with a COPY on either side of the clean one; the two COPYs show the noise."""
    return [
        rollcall_import(contest, "bad", rows, "1 % bad"),
        copy(contest, "clean", rows, users="all"),
        rollcall_import(contest, "clean", rows, "clean"),
        copy(contest, "clean", rows, "COPY again", users="all"),
    ]


def peers(contest: Contest, rows: int, pairs: int) -> None:
    """Compare other ways to load the same file."""
    rows //= 10
    fast = contest.rounds(
        "peers",
        [
            copy(contest, "clean", rows, users="all"),
            client_copy(contest, "clean", rows, users="all"),
            rollcall_import(contest, "clean", rows),
            *(
                peer(contest, way, "clean", rows, users="all")
                for way in ("adbc", "polars", "write_row", "pandas_copy", "duckdb_postgres")
            ),
            *pgloader(contest, "clean", rows, users="all"),
        ],
        pairs,
    )
    slow = contest.rounds(
        "peers",
        [peer(contest, way, "clean", rows // 10, users="all") for way in ("executemany", "pandas_to_sql", "dlt")],
        pairs,
    )
    slowest = contest.rounds("peers", [peer(contest, "connection_per_row", "clean", rows // 100, users="all")], 1)
    print(f"## Peers\n\n{rows:,} clean rows; the slow ones were given fewer.")
    show_runs([*fast.values(), *slow.values(), *slowest.values()])
    _with_bad_rows(contest, "bad", "1 % bad rows of every kind")
    _with_bad_rows(contest, "bad values", "1 % bad values in rows of the right shape")


def _with_bad_rows(contest: Contest, form: str, title: str) -> None:
    rows = SMALLEST
    runs = contest.rounds(
        form,
        [
            rollcall_import(contest, form, rows),
            copy(contest, form, rows, exits=None),
            copy(contest, form, rows, "COPY, on_error ignore", options=", on_error ignore", exits=None),
            client_copy(contest, form, rows, exits=None),
            *(peer(contest, way, form, rows, exits=None) for way in PEERS),
            *pgloader(contest, form, rows, exits=None),
        ],
        1,
    )
    print(f"## {title}\n\n{rows:,} rows; {rows - rows // 100:,} of them are good.")
    show_table(
        ("contender", "exit", "good rows loaded", "bad rows loaded", "lines of rejects", "what it says"),
        [
            (
                run.contender,
                run.exit,
                f"{(run.loaded or 0) - (run.broken or 0):,}",
                f"{run.broken or 0:,}",
                "" if run.rejects is None else f"{run.rejects:,}",
                run.said,
            )
            for [run] in runs.values()
        ],
    )


def growth(contest: Contest, rows: int, pairs: int) -> None:
    """Measure the cost of more rows, and of other forms of files."""
    sizes = [rows // part for part in (1000, 100, 10, 1) if rows // part >= 1000]  # noqa: PLR2004 - a file of some size

    def measured(name: str, **setting: dict[str, str]) -> list[list[Run]]:
        return [
            runs
            for count in sizes
            for runs in contest.rounds(
                "growth",
                [rollcall_import(contest, "clean", count, name, **setting)],
                max(1, min(pairs, 3_000_000 // count)),
            ).values()
        ]

    shown = measured("rollcall import")
    with contest.unique_by(UNIQUE_BY["ROLLCALL_UNIQUE_BY"]):
        shown += measured("rollcall import, unique_by", environment=UNIQUE_BY)
    print("## Growth")
    show_runs(shown)

    count = rows // 10
    same_rows = "clean", "semicolon", "crlf", "gzip", "utf-16", "padded", "quoted", "wide", "bad"
    forms = contest.rounds(
        "forms",
        [
            *(rollcall_import(contest, form, count, form) for form in same_rows),
            rollcall_import(contest, "long names", count, "long names", expected=count),
            rollcall_import(
                contest,
                "cp1252",
                count,
                "cp1252",
                expected=count,
                environment={"ROLLCALL_ENCODINGS": "utf-8,cp1252"},
            ),
            rollcall_import(contest, "all bad", count // 10, "all bad"),
            import_many_files(contest, max(10, rows // SMALLEST), 10),
        ],
        min(pairs, 2),
    )
    print("## Forms of files")
    show_runs([*forms.values()])


def checks(contest: Contest, rows: int, pairs: int) -> None:
    """Compare other ways to apply the same rules."""
    fast, slow = ("duckdb_check", "polars_check"), ("pydantic_check", "frictionless_check")
    runs = contest.rounds(
        "checks", [check(contest, rows), *(check_by_peer(contest, way, "clean", rows) for way in fast)], pairs
    )
    slower = contest.rounds(
        "checks", [check_by_peer(contest, way, "clean", rows // 10) for way in slow], min(pairs, 2)
    )
    print(f"## Checks\n\n{rows:,} clean rows; the slow ones were given fewer.")
    ours = runs["rollcall check"]
    _show_goals(
        contest,
        rows,
        [
            (f"CPU of check ÷ {CHECKS[way]}, {rows:,} rows", "≤ 0.6", cpu_ratios(ours, runs[CHECKS[way]]))
            for way in fast
        ],
    )
    show_runs([*runs.values(), *slower.values()])


def unique(contest: Contest, rows: int, pairs: int) -> None:
    """Measure the cost of `unique_by`, beside other ways to leave out users that are in the table."""
    fewer = rows // 10

    def contenders(form: str) -> list[Contender]:
        return [
            rollcall_import(contest, form, fewer, environment=UNIQUE_BY, users=None, alike=True),
            merge_by_conflict(contest, form, fewer, updates=False),
            merge_by_merge(contest, form, fewer, updates=False),
        ]

    with contest.unique_by(UNIQUE_BY["ROLLCALL_UNIQUE_BY"]):
        many = contest.run("unique", rollcall_import(contest, "clean", rows, environment=UNIQUE_BY))
        into_empty = contest.rounds("unique", contenders("clean"), pairs)
        by_dlt = contest.rounds("unique", [peer(contest, "dlt_merge", "clean", fewer // 10)], min(pairs, 2))
    with contest.filled(rows, UNIQUE_BY["ROLLCALL_UNIQUE_BY"]):
        into_full = contest.rounds("unique", contenders("next"), pairs)
    print("## Users identified by name and country")
    few = into_empty["rollcall import"]
    costs = [per_row([many])[0] / cost for cost in per_row(few)] if not many.wrong else []
    _show_goals(
        contest,
        rows,
        [
            *_beside_peers(into_empty, f"{fewer:,} rows into an empty table", "≤ 0.7"),
            *_beside_peers(into_full, f"{fewer:,} rows into {rows:,}", "≤ 0.7"),
            (f"cost of a row, {rows:,} rows ÷ {fewer:,} rows", "≤ 1.3", costs),
        ],
    )
    show_runs([*into_empty.values(), *by_dlt.values(), [many]])
    print(f"Into a table of {rows:,} users:")
    show_runs([*into_full.values()])


def nightly(contest: Contest, rows: int, pairs: int) -> None:
    """Measure a file of which the table has nearly every row, under `update`."""
    fewer = rows // data.TABLE_PER_FILE
    environment = UNIQUE_BY | {"ROLLCALL_ON_DUPLICATE": "update"}
    with contest.filled(rows, UNIQUE_BY["ROLLCALL_UNIQUE_BY"]):
        runs = contest.rounds(
            "nightly",
            [
                rollcall_import(contest, "nightly", fewer, environment=environment),
                merge_by_conflict(contest, "nightly", fewer, updates=True),
                merge_by_merge(contest, "nightly", fewer, updates=True),
            ],
            pairs,
        )
    print(f"## A nightly file\n\n{fewer:,} rows, of which 99 % are unchanged, into {rows:,}.")
    _show_goals(contest, rows, _beside_peers(runs, f"{fewer:,} rows", "≤ 0.5"))
    show_runs([*runs.values()])


def _beside_peers(runs: dict[str, list[Run]], size: str, wanted: str) -> list[Goal]:
    """Return the ratios of Rollcall's import, which is the first, to each other contender."""
    ours, *peers = runs.values()
    return [(f"unique_by ÷ {other[0].contender}, {size}", wanted, ratios(ours, other)) for other in peers]


def small(contest: Contest, _rows: int, pairs: int) -> None:
    """Measure how long a person waits for ten rows."""
    times = 2 * pairs
    # Each import needs other rows; otherwise it is a repeat and is skipped.
    folder = contest.work / "ten-rows"
    shutil.rmtree(folder, ignore_errors=True)
    files = iter(data.small_files(folder, 2 * times + 2, 10))
    embedded = contest.work / "embedded"
    shutil.rmtree(embedded, ignore_errors=True)

    def command(name: str, *words: str) -> list[Run]:
        [runs] = contest.rounds(
            "small", [Contender(name=name, command=words, rows=10, table=None)], times
        ).values()
        return runs

    def imports(name: str, count: int) -> list[Run]:
        return [
            contest.run("small", import_into_embedded(next(files), embedded, name), number)
            for number in range(count)
        ]

    shown = [
        command("python -c pass", sys.executable, "-c", "pass"),
        command("rollcall --version", str(ROLLCALL), "--version"),
        command("rollcall check", str(ROLLCALL), "check", str(next(files))),
        imports("rollcall import, making the embedded database", 1),
        imports("rollcall import, starting it", times),
    ]
    with running(embedded):
        shown.append(imports("rollcall import, it runs already", times))
    print("## Small things\n\nTen rows each.")
    show_table(
        ("what", "seconds", "range", "runs", "CPU seconds", "peak RSS, MB"),
        [
            (
                runs[0].contender,
                short(median(run.seconds for run in runs)),
                span([run.seconds for run in runs]),
                len(runs),
                short(median(run.client_cpu for run in runs)),
                f"{median(peaks(runs)):.0f}",
            )
            for runs in shown
        ],
    )


SUITES: dict[str, Callable[[Contest, int, int], None]] = {
    "goals": goals,
    "tenth": tenth,
    "peers": peers,
    "growth": growth,
    "checks": checks,
    "unique": unique,
    "nightly": nightly,
    "small": small,
}

if __name__ == "__main__":
    sys.exit(main())
