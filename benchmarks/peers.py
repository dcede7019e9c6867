"""Other ways to load the rows of a CSV into PostgreSQL, as their manuals describe them: `peers.py WAY URL FILE`.

Each run is a process of its own, and imports only what its way needs.
"""

import csv
import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

INSERT = "insert into users (name, country, age) values (%s, %s, %s)"
COPY = "copy users (name, country, age) from stdin"


def connection_per_row(url: str, file: Path) -> None:
    """Read the file as one string and open a connection for each row, as the sample that Rollcall grew out of."""
    import psycopg

    for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines()):
        connection = psycopg.connect(url)
        with connection.cursor() as cursor:
            cursor.execute(INSERT, (row["name"], row["country"], row["age"]))
        connection.commit()
        connection.close()


def executemany(url: str, file: Path) -> None:
    """Call psycopg's `executemany`, which sends the rows in a pipeline."""
    import psycopg

    with psycopg.connect(url) as connection, file.open(encoding="utf-8", newline="") as lines:
        rows = [(row["name"], row["country"], row["age"]) for row in csv.DictReader(lines)]
        connection.cursor().executemany(INSERT, rows)


def write_row(url: str, file: Path) -> None:
    """Write row by row to psycopg's COPY."""
    import psycopg

    with (
        psycopg.connect(url) as connection,
        connection.cursor().copy(COPY) as copy,
        file.open(encoding="utf-8", newline="") as lines,
    ):
        for row in csv.DictReader(lines):
            copy.write_row((row["name"], row["country"], row["age"]))


def pandas_to_sql(url: str, file: Path) -> None:
    """Use pandas' INSERT of many rows."""
    import pandas as pd

    pd.read_csv(file).to_sql(
        "users", _engine(url), if_exists="append", index=False, method="multi", chunksize=1000
    )


def pandas_copy(url: str, file: Path) -> None:
    """Replace pandas' INSERT by a COPY, as its manual shows under "insertion method"."""
    import pandas as pd

    def insert(table: Any, connection: Any, columns: list[str], rows: Iterator[Any]) -> None:
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        statement = f"copy {table.name} ({', '.join(columns)}) from stdin (format csv)"
        with connection.connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(text.getvalue())

    pd.read_csv(file).to_sql("users", _engine(url), if_exists="append", index=False, method=insert)


def _engine(url: str) -> Any:
    import psycopg
    import sqlalchemy

    return sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url))


def polars(url: str, file: Path) -> None:
    """Write by polars, which uses ADBC."""
    import polars as pl

    # ADBC accepts a column only in exactly the type of the table.
    pl.read_csv(file, schema_overrides={"age": pl.Int32}).write_database(
        "users", url, engine="adbc", if_table_exists="append"
    )


def adbc(url: str, file: Path) -> None:
    """Write by ADBC the batches of pyarrow's CSV reader."""
    import adbc_driver_postgresql.dbapi
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    types = arrow_csv.ConvertOptions(column_types={"age": pa.int32()})
    with adbc_driver_postgresql.dbapi.connect(url) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("users", arrow_csv.open_csv(file, convert_options=types), mode="append")
        connection.commit()


def duckdb_postgres(url: str, file: Path) -> None:
    """Insert from DuckDB's CSV reader through its PostgreSQL extension, which is a package of PyPI."""
    import duckdb
    import duckdb_ext

    [extension] = Path(duckdb_ext.__path__[0]).rglob("postgres_scanner.duckdb_extension")
    connection = duckdb.connect()
    connection.execute(f"load '{extension}'")
    connection.execute(f"attach '{url}' as target (type postgres)")
    connection.execute(f"insert into target.users (name, country, age) from {_DUCKDB_ROWS.format(file)}")


_DUCKDB_ROWS = (
    "read_csv('{}', header = true, auto_detect = false,"
    " columns = {{name: 'varchar', country: 'varchar', age: 'integer'}})"
)


def dlt(url: str, file: Path) -> None:
    """Load by dlt from its file system source to a table that dlt creates, with additional columns."""
    _run_dlt(url, file, write_disposition="append")


def dlt_merge(url: str, file: Path) -> None:
    """Load by dlt in the same way, and merge by name and country."""
    _run_dlt(url, file, write_disposition="merge", primary_key=("name", "country"))


def _run_dlt(url: str, file: Path, **how: Any) -> None:
    import dlt
    from dlt.sources.filesystem import filesystem, read_csv
    from psycopg.conninfo import conninfo_to_dict

    address = conninfo_to_dict(url)
    credentials = {
        "host": quote(str(address.get("host", "localhost")), safe=""),
        "port": address.get("port", 5432),
        "database": address["dbname"],
        "username": address["user"],
        "password": address.get("password", "none"),
    }
    pipeline = dlt.pipeline(
        "benchmark",
        pipelines_dir=tempfile.mkdtemp(dir=Path.cwd()),
        destination=dlt.destinations.postgres(credentials),
        dataset_name="dlt",
    )
    rows = filesystem(bucket_url=file.parent.as_uri(), file_glob=file.name) | read_csv()
    pipeline.run(rows.with_name("users"), **how)


# The rules of `User`, in the syntax of RE2 and of Rust's regex: forbidden characters, and a visible one.
FORBIDDEN = r"\x00-\x1f\x7f-\x{9f}\x{2028}\x{2029}\x{202a}-\x{202e}\x{2066}-\x{2069}"
VISIBLE = rf"[^{FORBIDDEN}\s\p{{Z}}\p{{Cf}}]"
TEXT = rf"^[^{FORBIDDEN}]*{VISIBLE}[^{FORBIDDEN}]*$"


def duckdb_check(_: str, file: Path) -> None:
    """Judge by DuckDB: its CSV reader stores the rows that it rejects, and SQL applies the other rules."""
    import duckdb

    rules = " and ".join(
        f"length(trim({column})) <= 200 and regexp_matches({column}, '{TEXT}')" for column in ("name", "country")
    )
    connection = duckdb.connect()
    connection.execute("set enable_progress_bar = false")
    rows = _DUCKDB_ROWS.format(file).removesuffix(")") + ", store_rejects = true)"
    [(good, read)] = connection.execute(
        f"select count(*) filter (where {rules} and age between 0 and 150), count(*) from {rows}"
    ).fetchall()
    [(rejected,)] = connection.execute("select count(distinct line) from reject_errors").fetchall()
    print(f"{good} good, {read - good + rejected} bad")


def polars_check(_: str, file: Path) -> None:
    """Judge by polars, which stops at a row of the wrong shape."""
    import polars as pl

    columns = ("name", "country", "age")
    rules = [
        rule
        for column in columns[:2]
        for rule in (
            pl.col(column).str.strip_chars().str.len_chars() <= 200,  # noqa: PLR2004 - the rule of `User`
            pl.col(column).str.contains(TEXT),
        )
    ]
    age = pl.col("age").str.strip_chars().cast(pl.Int32, strict=False).is_between(0, 150)
    is_good = pl.all_horizontal(*rules, age).fill_null(value=False)
    rows = pl.scan_csv(file, schema=dict.fromkeys(columns, pl.String))
    [(good, read)] = rows.select(is_good.sum(), read=pl.len()).collect(engine="streaming").rows()
    print(f"{good} good, {read - good} bad")


def pydantic_check(_: str, file: Path) -> None:
    """Judge the rows of `csv.reader` by pydantic."""
    from typing import Annotated, NamedTuple

    from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

    text = StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=TEXT)

    class Row(NamedTuple):
        name: Annotated[str, text]
        country: Annotated[str, text]
        age: Annotated[int, Field(ge=0, le=150)]

    validate = TypeAdapter(Row).validate_python
    good = bad = 0
    with file.open(encoding="utf-8", newline="") as lines:
        reader = csv.reader(lines, strict=True)
        next(reader)
        for cells in reader:
            try:
                validate(cells)
                good += 1
            except ValidationError:
                bad += 1
    print(f"{good} good, {bad} bad")


def frictionless_check(_: str, file: Path) -> None:
    """Judge by frictionless, which collects at most 1,000 errors by default."""
    from frictionless import Resource, Schema

    text = {"required": True, "minLength": 1, "maxLength": 200, "pattern": r"[^\x00-\x1f\x7f-\x9f]*"}
    schema = Schema.from_descriptor(
        {
            "fields": [
                {"name": "name", "type": "string", "constraints": text},
                {"name": "country", "type": "string", "constraints": text},
                {"name": "age", "type": "integer", "constraints": {"minimum": 0, "maximum": 150}},
            ]
        }
    )
    report = Resource(path=file.name, basepath=str(file.parent), schema=schema).validate()
    task = report.task
    bad = len({error[0] for error in report.flatten(["rowNumber"])})
    print(f"{(task.stats.get('rows') or 0) - bad} good, {bad} bad")


def plain_check(_: str, file: Path) -> None:
    """Load nothing: read with `csv`, and judge each row by the rules of Rollcall's `User`."""
    from rollcall.domain.user import USERS

    good = bad = 0
    with file.open(encoding="utf-8", newline="") as lines:
        reader = csv.reader(lines, strict=True)
        next(reader)
        for row in reader:
            if not isinstance(USERS.parse(row), tuple):
                good += 1
            else:
                bad += 1
    print(f"{good} good, {bad} bad")


WAYS = {
    way.__name__: way
    for way in (
        connection_per_row,
        executemany,
        write_row,
        pandas_to_sql,
        pandas_copy,
        polars,
        adbc,
        duckdb_postgres,
        dlt,
        dlt_merge,
        plain_check,
        duckdb_check,
        polars_check,
        pydantic_check,
        frictionless_check,
    )
}

if __name__ == "__main__":
    _, way, url, file = sys.argv
    WAYS[way](url, Path(file))
