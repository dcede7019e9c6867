"""Migrations apply completely or not at all, once, and keep existing data."""

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from rollcall.adapters.postgres import connection
from rollcall.adapters.postgres.migration import migrate
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.adapters.postgres.schema import migration_ids
from rollcall.application.errors import RepositoryUnavailableError
from rollcall.domain.user import USERS
from support.builders import ANN, BEN, asked, eventually, load

MIGRATIONS = Path(connection.__file__).parent / "migrations"

# The table as earlier versions made it, before the record could be another one.
EARLIER_USERS = """
create table users (
    id bigint generated always as identity (cache 1000) primary key,
    name text not null,
    country text not null,
    age integer not null
);
alter table users add column import_id bigint
    default nullif(current_setting('rollcall.import_id', true), '')::bigint;
create index users_by_import on users using brin (import_id) with (autosummarize = on);
"""
MADE = "made the table users"

# A value for each type of column in any version of the schema.
BY_TYPE = {
    "bigint": 0,
    "integer": 0,
    "text": "Ann",
    "timestamp with time zone": "2026-11-23T12:00:00Z",
    "jsonb": "{}",
    "boolean": True,
    "bytea": b"secret",
}
BY_COLUMN = {"status": "loaded"}


@pytest.fixture
def url(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """A database without any table."""
    with new_database() as made:
        yield made


def tables(url: str) -> set[str]:
    """Return the names of the tables, without those of yoyo."""
    rows = asked(url, "select tablename from pg_tables where schemaname = 'public'")
    return {name for (name,) in rows if "yoyo" not in name}


def fill(url: str) -> None:
    """Insert a row into every table."""
    for table in tables(url):
        columns = asked(
            url,
            "select column_name, data_type from information_schema.columns where table_schema = 'public'"
            " and table_name = %s and is_identity = 'NO' and is_generated = 'NEVER'",
            table,
        )
        asked(
            url,
            sql.SQL("insert into {} ({}) values ({})").format(
                sql.Identifier(table),
                sql.SQL(", ").join(sql.Identifier(name) for name, _ in columns),
                sql.SQL(", ").join(sql.Literal(BY_COLUMN.get(name, BY_TYPE[kind])) for name, kind in columns),
            ),
        )


def contents(url: str) -> dict[str, list[dict[str, object]]]:
    """Return all rows of all tables."""
    return {
        table: [
            row
            for (row,) in asked(url, sql.SQL("select to_jsonb(rows) from {} rows").format(sql.Identifier(table)))
        ]
        for table in tables(url)
    }


def applied(url: str) -> list[str]:
    """Return the migrations that the database records as applied."""
    return [name for (name,) in asked(url, "select migration_id from _yoyo_migration order by migration_id")]


def with_more(folder: Path, **texts: str) -> Path:
    """Return a folder with this version's migrations and additional ones."""
    shutil.copytree(MIGRATIONS, folder / "migrations")
    for name, text in texts.items():
        (folder / "migrations" / f"{name.removeprefix('m')}.sql").write_text(text)
    return folder


@pytest.mark.parametrize("migration", migration_ids())
def test_every_migration_keeps_existing_rows(url: str, migration: str) -> None:
    before = [earlier for earlier in migration_ids() if earlier < migration]
    if before:
        migrate(url, USERS, up_to=before[-1])
    fill(url)
    was = contents(url)

    migrate(url, USERS, up_to=migration)

    now = contents(url)
    assert applied(url) == [*before, migration]
    assert all(
        row.items() <= kept.items() for table in was for row, kept in zip(was[table], now[table], strict=True)
    )


def test_new_and_earlier_databases_get_the_same_schema(
    url: str, new_database: Callable[[], AbstractContextManager[str]]
) -> None:
    query = (
        "select table_name, column_name, data_type, is_nullable, column_default, is_identity"
        " from information_schema.columns where table_schema = 'public' and table_name not like '%%yoyo%%'"
        " order by table_name, column_name"
    )
    indexes = "select indexname, indexdef from pg_indexes where schemaname = 'public' order by indexname"
    with new_database() as one_by_one:
        asked(one_by_one, EARLIER_USERS)
        for migration in migration_ids():
            migrate(one_by_one, USERS, up_to=migration)
        assert migrate(one_by_one, USERS) == []
        migrate(url, USERS)

        assert asked(url, query) == asked(one_by_one, query)
        assert asked(url, indexes) == asked(one_by_one, indexes)


def test_a_second_run_applies_nothing(url: str) -> None:
    """A deployment may always migrate."""
    assert migrate(url, USERS) == [*migration_ids(), MADE]
    assert migrate(url, USERS) == []
    assert applied(url) == migration_ids()


def test_one_of_several_simultaneous_runs_applies(url: str) -> None:
    """Several machines may start together."""
    outcomes: list[list[str]] = []
    threads = [threading.Thread(target=lambda: outcomes.append(migrate(url, USERS))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == [[], [], [], [*migration_ids(), MADE]]


def test_a_migration_leaves_no_connection_open(url: str) -> None:
    migrate(url, USERS)
    query = "select 1 from pg_stat_activity where datname = current_database() and application_name <> 'behind'"

    assert eventually(lambda: asked(url, query + " and backend_type = 'client backend'") == [])


def test_a_failed_migration_changes_nothing_and_shows_no_row(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a correction, the migration succeeds."""
    asked(url, EARLIER_USERS)
    migrate(url, USERS, up_to=migration_ids()[0])
    asked(url, "insert into users (name, country, age) values ('Canary', 'Norway', 4), ('Canary', 'Norway', 5)")
    was = contents(url)
    bad = with_more(
        tmp_path,
        m9998="create table half (done int)",
        m9999="update users set age = age + 1; create unique index on users (name)",
    )
    with monkeypatch.context() as patch:
        patch.setattr("rollcall.adapters.postgres.schema.files", lambda _: bad)
        with pytest.raises(RepositoryUnavailableError, match="could not create unique index") as caught:
            migrate(url, USERS)

    assert contents(url) == was
    assert applied(url) == migration_ids()[:1]
    assert "Canary" not in str(caught.value)
    assert migrate(url, USERS) == migration_ids()[1:]


def test_an_existing_table_of_the_same_name_is_named(url: str) -> None:
    """Rollcall needs a name that a table of another program already has."""
    asked(url, "create table imports (theirs int)")

    with pytest.raises(RepositoryUnavailableError, match='"imports" already exists'):
        migrate(url, USERS)

    assert tables(url) == {"imports"}


# The tables of yoyo-migrations 9, which applied the migrations of earlier databases.
YOYO = """
create table _yoyo_migration (
    migration_hash varchar(64) primary key, migration_id varchar(255), applied_at_utc timestamp
);
create table _yoyo_log (
    id varchar(36) primary key, migration_hash varchar(64), migration_id varchar(255), operation varchar(10),
    username varchar(255), hostname varchar(255), comment varchar(255), created_at_utc timestamp
);
create table _yoyo_version (version int primary key, installed_at_utc timestamp);
create table yoyo_lock (locked int primary key, ctime timestamp, pid int not null);
insert into _yoyo_version values (2, now());
insert into yoyo_lock values (1, now(), 1);
insert into _yoyo_migration values
    ('fafccf060ea338d3ee062368503189df2a4dd2159af164d65b6f53b2e27ef162', '0001.users', now()),
    ('d95d580616adb1ceec1bc4828d73755b431883f5d4e2e08d7d306b0364910a92', '0002.imports', now());
"""


def test_a_database_migrated_by_yoyo_is_recognised(url: str) -> None:
    """No migration is applied twice, and later ones are recorded as yoyo does, by the hash of their id."""
    migrate(url, USERS, up_to="0002.imports")
    asked(url, EARLIER_USERS)
    record = asked(url, "select migration_hash, migration_id from _yoyo_migration order by migration_id")
    asked(url, "drop table _yoyo_migration")
    asked(url, YOYO)

    assert record[0] in asked(url, "select migration_hash, migration_id from _yoyo_migration")
    assert migrate(url, USERS) == migration_ids()[1:]
    assert applied(url) == ["0001.users", *migration_ids()]


MIGRATE = """
import sys
from rollcall.adapters.postgres.migration import migrate
from rollcall.domain.user import USERS
migrate(sys.argv[1], USERS)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
def test_a_killed_migration_does_not_block_the_next(url: str, how: signal.Signals) -> None:
    """It leaves neither half a schema nor a lock."""
    asked(url, EARLIER_USERS)
    migrate(url, USERS, up_to=migration_ids()[0])
    asked(url, "insert into users (name, country, age) values ('Ann', 'Norway', 41)")
    command = [sys.executable, "-c", MIGRATE, url]
    waiting = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with psycopg.connect(url) as somebody:
        somebody.execute("select * from users, imports")  # locks that a migration waits for
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as migrating:  # noqa: S603 - ours
            seen = eventually(lambda: bool(asked(url, waiting)))
            migrating.send_signal(how)

    assert seen
    assert migrate(url, USERS) == migration_ids()[1:]
    assert [row["name"] for row in contents(url)["users"]] == ["Ann"]


def test_a_migration_that_waits_too_long_fails(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment must not hang while another migration holds the lock."""
    monkeypatch.setattr("rollcall.adapters.postgres.migration._LOCK_SECONDS", 0.2)
    with psycopg.connect(url) as other:
        other.execute("select pg_advisory_xact_lock(hashtext('rollcall migration'))")

        with pytest.raises(RepositoryUnavailableError, match="somebody else is migrating"):
            migrate(url, USERS)


@pytest.mark.parametrize("form", ["url", "words", "environment", "a name that has to be escaped"])
def test_every_form_of_a_libpq_address_is_accepted(url: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The migration and the repository accept the same forms."""
    parts = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    address = url
    if form == "words":
        address = make_conninfo(**parts)
    elif form == "environment":
        for name, value in parts.items():
            monkeypatch.setenv({"dbname": "PGDATABASE"}.get(name, f"PG{name.upper()}"), value)
        address = ""
    elif form == "a name that has to be escaped":
        address = f"{url}{'&' if '?' in url else '?'}application_name=it%27s%20%25%20%3D%20%C3%A9"

    migrate(address, USERS)

    repository = PostgresUserRepository(address, USERS)
    load(repository, [ANN, BEN])
    repository.close()
    assert applied(url) == migration_ids()
    assert len(contents(url)["users"]) == 2
