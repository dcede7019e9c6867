"""The commands that are measured."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

import data
from contest import HERE, PEERS_PYTHON, ROLLCALL, Contender, Contest, psql

_PARTLY_LOADED = frozenset({3})
_REFUSED = frozenset({4})
_START_SECONDS = 60


def copy(
    contest: Contest, form: str, rows: int, name: str = "COPY", *, options: str = "", **more: Any
) -> Contender:
    """Return server-side COPY, sent by psql, which starts in a hundredth of a second."""
    statement = (
        f"copy users (name, country, age) from '{contest.file(form, rows)}'"
        f" (format csv, header, encoding 'UTF8'{options})"
    )
    return Contender(name=name, command=_by_psql(contest, statement), rows=rows, form=form, **more)


def client_copy(contest: Contest, form: str, rows: int, **more: Any) -> Contender:
    r"""Return psql's \copy of a file."""
    statement = rf"\copy users (name, country, age) from '{contest.file(form, rows)}' (format csv, header)"
    return Contender(name=r"psql \copy", command=_by_psql(contest, statement), rows=rows, form=form, **more)


def merge_by_conflict(contest: Contest, form: str, rows: int, *, updates: bool, **more: Any) -> Contender:
    """Return a COPY into a temporary table, then `insert … on conflict`."""
    action = (
        "update set age = excluded.age where users.age is distinct from excluded.age" if updates else "nothing"
    )
    return _by_staging(
        contest,
        "staging and on conflict",
        form,
        rows,
        "insert into users (name, country, age) select name, country, age from staged"
        f" on conflict (name, country) do {action}",
        **more,
    )


def merge_by_merge(contest: Contest, form: str, rows: int, *, updates: bool, **more: Any) -> Contender:
    """Return a COPY into a temporary table that is then analyzed, then `merge`."""
    update = "when matched and users.age is distinct from staged.age then update set age = staged.age"
    return _by_staging(
        contest,
        "staging and merge",
        form,
        rows,
        "analyze staged; merge into users using staged"
        " on (users.name, users.country) = (staged.name, staged.country)"
        f" {update if updates else ''} when not matched then"
        " insert (name, country, age) values (staged.name, staged.country, staged.age)",
        **more,
    )


def _by_staging(contest: Contest, name: str, form: str, rows: int, statement: str, **more: Any) -> Contender:
    command = _by_psql(
        contest,
        "begin; create temporary table staged (name text, country text, age integer);"
        f" copy staged from '{contest.file(form, rows)}' (format csv, header, encoding 'UTF8');"
        f" {statement}; commit",
    )
    return Contender(name=name, command=command, rows=rows, form=form, alike=True, **more)


def _by_psql(contest: Contest, statement: str) -> tuple[str, ...]:
    return psql(), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", contest.server.url, "-c", statement


def rollcall_import(
    contest: Contest, form: str, rows: int, name: str = "rollcall import", **more: Any
) -> Contender:
    """Return `rollcall import FILE`; it must load exactly the good rows of the file."""
    file = contest.file(form, rows)
    return Contender(
        name=name,
        command=(str(ROLLCALL), "import", str(file)),
        rows=rows,
        form=form,
        litter=file.with_name(f"{file.name}.rollcall"),
        rejects="*/rejected-*.csv",
        **_wanted(form) | more,
    )


def _wanted(form: str) -> dict[str, Any]:
    if form in data.WITH_BAD_ROWS:
        return {"users": "good", "exits": _PARTLY_LOADED}
    if form == "all bad":
        return {"expected": 0, "exits": _REFUSED}
    if form in data.FOR_A_FULL_TABLE:
        return {"alike": True}
    return {"users": None if form in data.OTHER_USERS else "all"}


def import_many_files(contest: Contest, files: int, rows: int) -> Contender:
    """Return `rollcall import FILE…` of many small files."""
    paths = data.small_files(contest.work / f"small-files-{files}", files, rows)
    reports = contest.work / "small-files-reports"
    return Contender(
        name=f"{files:,} files of {rows} rows",
        command=(str(ROLLCALL), "import", "--reports", str(reports), *map(str, paths)),
        rows=files * rows,
        form="many files",
        expected=files * rows,
        litter=reports,
    )


def import_into_embedded(file: Path, folder: Path, name: str) -> Contender:
    """Return `rollcall import FILE` into an embedded PostgreSQL of its own."""
    return Contender(
        name=name,
        command=("/usr/bin/env", "-u", "ROLLCALL_DATABASE_URL", str(ROLLCALL), "import", str(file)),
        rows=10,
        table=None,
        environment={"ROLLCALL_DATA": str(folder)},
    )


def import_from_s3(contest: Contest, s3: dict[str, str], form: str, rows: int) -> Contender:
    """Upload a file, and return `rollcall import s3://…` of it."""
    client = boto3.client(
        "s3",
        endpoint_url=s3["AWS_ENDPOINT_URL"],
        aws_access_key_id=s3["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=s3["AWS_SECRET_ACCESS_KEY"],
        region_name=s3["AWS_DEFAULT_REGION"],
    )
    bucket, key = "uploads", f"{form}-{rows}.csv"
    client.create_bucket(Bucket=bucket)
    client.upload_file(str(contest.file(form, rows)), bucket, key)
    return Contender(
        name=f"{form} from S3",
        command=(str(ROLLCALL), "import", "--reports", f"s3://{bucket}/reports", f"s3://{bucket}/{key}"),
        rows=rows,
        form=form,
        environment=s3,
        **_wanted(form),
    )


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """Run a stand-in for S3 that answers over HTTP, in a process of its own.

    Yields:
        The environment variables by which boto3 reaches it.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen(
        [Path(sys.prefix, "bin", "moto_server"), "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as moto:
        try:
            _wait_for(port)
            yield {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": "benchmark",
                "AWS_SECRET_ACCESS_KEY": "benchmark",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        finally:
            moto.kill()  # it keeps nothing


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def check(contest: Contest, rows: int) -> Contender:
    """Return `rollcall check FILE`."""
    command = (str(ROLLCALL), "check", str(contest.file("clean", rows)))
    return Contender(name="rollcall check", command=command, rows=rows, table=None)


def plain_check(contest: Contest, rows: int) -> Contender:
    """Return a check without Rollcall's reader and screen."""
    command = (sys.executable, str(HERE / "peers.py"), "plain_check", "", str(contest.file("clean", rows)))
    return Contender(name="csv.reader and User", command=command, rows=rows, table=None)


def check_by_peer(contest: Contest, way: str, form: str, rows: int) -> Contender:
    """Return one of the checks in `peers.py`."""
    command = (str(PEERS_PYTHON), str(HERE / "peers.py"), way, "", str(contest.file(form, rows)))
    return Contender(name=CHECKS[way], command=command, rows=rows, form=form, table=None)


CHECKS = {
    "duckdb_check": "DuckDB, rejects stored",
    "polars_check": "polars",
    "pydantic_check": "csv.reader and pydantic",
    "frictionless_check": "frictionless",
}


def peer(contest: Contest, way: str, form: str, rows: int, **more: Any) -> Contender:
    """Return one of the ways in `peers.py`."""
    command = (str(PEERS_PYTHON), str(HERE / "peers.py"), way, contest.server.url, str(contest.file(form, rows)))
    table = "dlt.users" if way in {"dlt", "dlt_merge"} else "users"
    return Contender(name=(PEERS | MERGES)[way], command=command, rows=rows, form=form, table=table, **more)


PEERS = {
    "adbc": "pyarrow and ADBC",
    "polars": "polars write_database (ADBC)",
    "write_row": "DictReader and write_row",
    "pandas_copy": "pandas to_sql, COPY recipe",
    "duckdb_postgres": "DuckDB's postgres extension",
    "executemany": "psycopg executemany",
    "pandas_to_sql": "pandas to_sql, multi",
    "dlt": "dlt (a table of its own)",
    "connection_per_row": "a connection per row",
}
MERGES = {"dlt_merge": "dlt merge (a table of its own)"}


def pgloader(contest: Contest, form: str, rows: int, **more: Any) -> list[Contender]:
    """Return pgloader if it is installed (on Debian: `apt install pgloader`); otherwise an empty list."""
    program = shutil.which("pgloader")
    if not program:
        return []
    address = contest.server.address()
    host = f"unix:{address['host']}" if str(address.get("host", "")).startswith("/") else address.get("host", "")
    rejects = contest.work / "pgloader"
    script = contest.work / f"{form}-{rows}.load"
    script.write_text(
        f"load csv from '{contest.file(form, rows)}' (name, country, age)\n"
        f"into postgresql://{address['user']}@{host}:{address.get('port', 5432)}/{address['dbname']}\n"
        "target table users (name, country, age)\n"
        "with skip header = 1, fields terminated by ',', fields optionally enclosed by '\"',\n"
        "    fields escaped by double-quote;\n",
        encoding="utf-8",
    )
    return [
        Contender(
            name="pgloader",
            command=(program, "--root-dir", str(rejects), str(script)),
            rows=rows,
            form=form,
            litter=rejects,
            rejects="users/*.dat",
            **more,
        )
    ]
