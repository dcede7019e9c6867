"""Each role of docs/roles.sql can do its job, and nothing else."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import errors, sql

from support.builders import completed_text
from support.command_line import CommandLine, imports, users
from support.database_roles import IMPORTER, MIGRATOR, OPERATOR, acting_as, migrate_as_documented

EVERYBODY = (MIGRATOR, IMPORTER, OPERATOR)

# Forbidden to every role: other people's data, the server, and other roles.
NOT_OURS = (
    "select * from theirs.secrets",
    "select rolpassword from pg_authid",
    "copy users to '/tmp/users.csv'",
    "copy users to program 'cat'",
    "select pg_read_file('PG_VERSION')",
    "create role another superuser",
    "create database another",
    "create schema another",
    "set role theirs",
    "alter role theirs password 'mine'",
    "select pg_terminate_backend(pid) from pg_stat_activity where usename !~ '^rollcall_'",
)
SCHEMA = (
    "drop table users",
    "drop table imports",
    "truncate users",
    "truncate corrections",
    "alter table users add column email text",
    "alter table imports drop constraint imports_conserve_rows",
    "create table another (id int)",
    "create index another on users (name)",
    "drop index users_by_import",
    "create function another() returns int language sql return 1",
    "create trigger another before update on users execute function suppress_redundant_updates_trigger()",
    "insert into _yoyo_migration (migration_id) values ('9999.never')",
    "delete from _yoyo_migration",
)
OF_IMPORTER = (
    "delete from users",
    "delete from users where import_id = 1",
    "delete from imports",
    "delete from corrections",
    "update corrections set corrected_by = 2",
    "select setval('imports_id_seq', 1)",
)
OF_OPERATOR = (
    "insert into users (name, country, age) values ('Ann', 'Norway', 41)",
    "update users set name = 'Ann'",
    "insert into imports (id) overriding system value values (1)",
    "update imports set receipt = '{}'",
    "update imports set status = 'loaded', code = null",
    "update imports set identity = 'another'",
    "delete from imports",
    "insert into corrections values (1, 2, 3)",
    "update corrections set corrected_by = 2",
    "select * from lost_uploads",
    "select nextval('imports_id_seq')",
    "create temporary table another (id int)",
)


@pytest.fixture(scope="module")
def bare(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """A database without rights for the public, with a table of another owner beside Rollcall's."""
    with new_database() as url, psycopg.connect(url, autocommit=True) as theirs:
        name = sql.Identifier(urlsplit(url).path.removeprefix("/"))
        theirs.execute(sql.SQL("revoke all on database {} from public").format(name))
        migrate_as_documented(url)
        theirs.execute("create role theirs")
        theirs.execute("create schema theirs create table secrets (secret text)")
        try:
            yield url
        finally:
            theirs.execute("drop owned by theirs; drop role theirs")


@pytest.fixture
def url(bare: str) -> str:
    """The same database without users."""
    with psycopg.connect(bare, autocommit=True) as connection:
        connection.execute("truncate users, imports, corrections restart identity")
    return bare


def _refused(url: str, role: str, statement: str) -> None:
    with (
        psycopg.connect(acting_as(role, url), autocommit=True) as connection,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


@pytest.mark.parametrize("statement", NOT_OURS)
@pytest.mark.parametrize("role", EVERYBODY)
def test_no_role_has_access_beyond_rollcalls_tables(bare: str, role: str, statement: str) -> None:
    """A stolen password of Rollcall gives access to Rollcall's tables at most."""
    _refused(bare, role, statement)


@pytest.mark.parametrize("statement", SCHEMA)
@pytest.mark.parametrize("role", [IMPORTER, OPERATOR])
def test_only_the_migrator_changes_the_schema(bare: str, role: str, statement: str) -> None:
    """No other role can truncate a table or change the record of migrations."""
    _refused(bare, role, statement)


@pytest.mark.parametrize("statement", OF_IMPORTER)
def test_the_importer_cannot_delete(bare: str, statement: str) -> None:
    """The importer reads files of strangers, so it must not be able to delete."""
    _refused(bare, IMPORTER, statement)


@pytest.mark.parametrize("statement", OF_OPERATOR)
def test_the_operator_cannot_add_users_or_change_the_ledger(bare: str, statement: str) -> None:
    """Except for the mark of an undone import."""
    _refused(bare, OPERATOR, statement)


def test_each_role_can_do_its_job_from_the_command_line(
    url: str, tmp_path: Path, sample: Path, messy: Path
) -> None:
    """An import, its corrected rows, lists, and an undo, in a database without rights for the public."""
    importer, operator, migrator = (
        CommandLine(tmp_path, {"ROLLCALL_DATABASE_URL": acting_as(role, url)})
        for role in (IMPORTER, OPERATOR, MIGRATOR)
    )
    assert migrator("migrate").code == 0
    assert importer("import", sample).code == 0
    assert importer("import", messy).code == 3
    [rejected] = tmp_path.glob("*.rollcall/*/rejected-*.csv")
    rejected.write_bytes(rejected.read_bytes().replace(b"thirty", b"30"))
    assert importer("import", rejected).code == 3
    assert imports(url) == [("loaded", 5), ("partially_loaded", 4), ("partially_loaded", 1)]

    assert len(operator("imports", "--json").records) == 3
    assert len(operator("users", "--json").records) == 10
    assert operator("undo", "3").code == 0
    assert operator("undo", "1").code == 0
    assert len(users(url)) == 4
    assert importer("import", "--again", sample).code == 0
    assert len(users(url)) == 9


def test_the_importer_updates_duplicates(url: str, tmp_path: Path) -> None:
    """The migrator makes the index before, and drops it afterwards."""
    by_name = {"ROLLCALL_UNIQUE_BY": "name", "ROLLCALL_ON_DUPLICATE": "update"}
    file = tmp_path / "list.csv"
    try:
        assert (
            CommandLine(tmp_path, {"ROLLCALL_DATABASE_URL": acting_as(MIGRATOR, url)})("migrate", **by_name).code
            == 0
        )
        importer = CommandLine(tmp_path, {"ROLLCALL_DATABASE_URL": acting_as(IMPORTER, url), **by_name})
        for age in 41, 42:
            file.write_text(completed_text(f"name,country,age\nAnn,Norway,{age}\n"), encoding="ascii")
            assert importer("import", file).code == 0
        assert users(url) == [("Ann", "Norway", 42)]
    finally:
        ended = CommandLine(tmp_path, {"ROLLCALL_DATABASE_URL": acting_as(MIGRATOR, url)})("migrate")

    assert ended.code == 0


@pytest.mark.parametrize(
    ("role", "command"),
    [(IMPORTER, ("undo", "1")), (OPERATOR, ("import", "another.csv")), (OPERATOR, ("migrate",))],
)
def test_the_wrong_role_gets_one_sentence(
    url: str, tmp_path: Path, sample: Path, role: str, command: tuple[str, ...]
) -> None:
    """The command fails before it changes anything, and names the missing right."""
    assert CommandLine(tmp_path, {"ROLLCALL_DATABASE_URL": acting_as(IMPORTER, url)})("import", sample).code == 0
    another = tmp_path / "another.csv"
    another.write_text(completed_text("name,country,age\nAnn,Norway,41\n"), encoding="ascii")

    outcome = CommandLine(tmp_path, {"ROLLCALL_DATABASE_URL": acting_as(role, url)})(*command)

    assert outcome.code == 1
    assert "permission denied" in outcome.sentence or "must be owner" in outcome.sentence
    assert len(users(url)) == 5


def test_every_table_has_grants(bare: str) -> None:
    """A new table must say which role may do what with it."""
    migrate_as_documented(bare)
    with psycopg.connect(bare) as connection:
        lacking = connection.execute(
            "select tablename from pg_tables where schemaname = 'public' except select table_name"
            " from information_schema.role_table_grants where grantee = 'rollcall_importer'"
            " except select table_name from information_schema.role_column_grants"
            " where grantee = 'rollcall_importer'"
        ).fetchall()

    assert lacking == []


def test_the_roles_can_be_created_and_granted_again(bare: str) -> None:
    """After each migration, and for another database of the same server."""
    migrate_as_documented(bare)
