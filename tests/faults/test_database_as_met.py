"""Databases in the field: shadowed names, foreign tables and settings, and the operator's own constraints."""

import csv
import io
import re
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from datetime import timedelta
from itertools import cycle, product
from typing import Any
from urllib.parse import quote, urlsplit

import attrs
import psycopg
import pytest
from psycopg import sql

from rollcall.adapters.postgres.migration import migrate
from rollcall.adapters.postgres.naming import Database
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.application.errors import RepositoryUnavailableError, TableConstraintError, TableLockedError
from rollcall.application.values import ImportRequest, LostUploads
from rollcall.domain.policy import OnDuplicate, Policy, Tolerance
from rollcall.domain.receipt import ConservationError, Counts, Receipt, Status
from rollcall.domain.rejection import Code
from rollcall.domain.upload import ObjectReference
from rollcall.domain.user import USERS
from support.builders import BEN, CEM, NOON, a_block, an_upload, asked, eventually
from support.campaigns import Campaign
from support.database_roles import IMPORTER, MIGRATOR, OPERATOR, acting_as, migrate_as_documented
from support.fakes import DatabaseDesk
from support.oracle import Found
from support.privacy import require_quiet
from support.receipts import a_receipt
from support.uploads import CANARY, FaultyUpload, made_upload

NewDatabase = Callable[[], AbstractContextManager[str]]

PLAIN = Policy()
UPDATE = Policy(unique_by=("name",), on_duplicate=OnDuplicate.UPDATE)
REJECT = Policy(unique_by=("name", "country"), on_duplicate=OnDuplicate.REJECT)
POLICIES = UPDATE, PLAIN, REJECT

# Copies of PostgreSQL's functions and operators for the types that Rollcall uses. Each raises an error when used.
SHADOW_EVERYTHING = """
create schema shadows;
create function shadows.used() returns bigint language plpgsql as $$begin raise exception 'shadowed'; end$$;
do $$
declare
    types constant oid[] := array[
        'text', 'varchar', 'name', 'bytea', 'bool', 'int2', 'int4', 'int8', 'oid', 'float8', 'jsonb', 'timestamp',
        'timestamptz', 'interval', 'regclass', '"char"', 'text[]', 'name[]'
    ]::regtype[];
    made record;
begin
    for made in
        select oid, proname, format_type(prorettype, null) as returned, proretset,
            (select string_agg(format_type(type, null), ', ' order by place)
                from unnest(proargtypes) with ordinality as argument (type, place)) as arguments
        from pg_proc
        where pronamespace = 'pg_catalog'::regnamespace and prokind = 'f' and provariadic = 0
            and (prorettype = any (types)) and proargtypes::oid[] <@ types and proname !~ '[^a-z0-9_]'
            and not (proargtypes::oid[] = '{}')
    loop
        execute format(
            'create function shadows.%I(%s) returns %s%s language plpgsql as '
            '$body$begin raise exception ''shadowed''; end$body$',
            made.proname, made.arguments, case when made.proretset then 'setof ' end, made.returned);
    end loop;
    for made in
        select oprname, oprleft::regtype as l, oprright::regtype as r, oprcode::regproc::text as code
        from pg_operator join pg_proc on pg_proc.oid = oprcode
        where oprnamespace = 'pg_catalog'::regnamespace and oprleft = any (types) and oprright = any (types)
            and to_regprocedure(format('shadows.%I(%s, %s)', proname, oprleft::regtype, oprright::regtype))
                is not null
            and proname !~ '[^a-z0-9_]'
    loop
        execute format(
            'create operator shadows.%s (leftarg = %s, rightarg = %s, function = shadows.%I)',
            made.oprname, made.l, made.r, replace(made.code, 'pg_catalog.', ''));
    end loop;
end
$$;
create function shadows.hashtextextended(text, integer) returns bigint language sql as 'select shadows.used()';
create function shadows.starts_with(name, text) returns boolean language sql as 'select shadows.used() is null';
create function shadows.format(text, name) returns text language sql as 'select shadows.used()::text';
"""

# Temporary tables that another client of a pooled connection left behind.
_USERS, _IMPORTS, _CORRECTIONS, _LOST, _YOYO = (
    f"create temporary table {table} (like public.{table} including all);"
    for table in ("users", "imports", "corrections", "lost_uploads", "_yoyo_migration")
)
_OURS = "".join(
    f"create temporary table rollcall_{table} (theirs int);" for table in ("staged", "rejected", "merging")
)
TEMPORARY = (_USERS, _IMPORTS, _USERS + _IMPORTS + _CORRECTIONS + _LOST + _YOYO, _OURS)


def with_path(url: str, path: str) -> str:
    """Return a database's URL with another search path."""
    options = "-c search_path=" + path.replace(" ", "\\ ")
    return f"{url}{'&' if '?' in url else '?'}options={quote(options)}"


def live_through_everything(desk: DatabaseDesk, url: str) -> Found:
    """Import an upload, query it, correct its rejected rows and undo both imports, through one URL.

    Returns:
        The rows that were lost or doubled before the undo.
    """
    upload = made_upload("a.csv", rows=20, bad_share=0.2)
    reference = desk.drop(upload)
    receipt = desk.deliver(reference, url)
    assert receipt.counts.registered == len(upload.good)
    assert desk.deliver(reference, url).code is Code.REDELIVERY
    desk.oracle.require_all_settled([upload])
    found = desk.oracle.found([upload])
    corrected = desk.deliver(desk.drop(_corrected(desk, receipt)), url)
    assert corrected.counts.registered == len(upload.bad)
    with closing(PostgresUserRepository(url, USERS)) as users:
        assert len(list(users.users(receipt.import_id))) == len(upload.good)
        assert users.record_lost(["lost"], NOON, at_most=2, patience=timedelta()) == LostUploads(
            queue=frozenset({"lost"})
        )
        assert users.undo(corrected.import_id or 0, NOON) == len(upload.bad)
        assert users.undo(receipt.import_id or 0, NOON) == len(upload.good)
        assert [entry.undone for entry in users.entries()] == [True, True]
    assert desk.oracle.found([upload]) == Found()
    return found


def _corrected(desk: DatabaseDesk, receipt: Receipt) -> FaultyUpload:
    content = desk.oracle.read_report(receipt.rejected_rows or "").decode("utf-8-sig")
    rows = [
        {
            **row,
            "name": f"Corrected {row['rollcall_line']}",
            "country": "Norway",
            "age": "1",
            "rollcall_record": "",
        }
        for row in csv.DictReader(io.StringIO(content, newline=""))
    ]
    written = io.StringIO(newline="")
    writer = csv.DictWriter(written, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return FaultyUpload("corrected.csv", written.getvalue().encode(), {}, frozenset())


def _emptied(url: str, policy: Policy) -> DatabaseDesk:
    asked(url, "truncate users, imports, corrections, lost_uploads")
    migrate(url, USERS, policy)
    return DatabaseDesk(url, policy)


def test_names_that_are_shadowed_are_not_used(campaign: Campaign, new_database: NewDatabase) -> None:
    """The foreign schema stands before or after PostgreSQL's own in the search path."""
    paths = "public,shadows", "shadows,public", "shadows,pg_catalog,public"
    with new_database() as url, campaign.line("everything of PostgreSQL's shadowed") as line:
        migrate(url, USERS)
        asked(url, SHADOW_EVERYTHING)
        cases = campaign.choose(zip(POLICIES, paths, strict=True), product(POLICIES, paths))
        for line.points, (policy, path) in enumerate(cases, 1):
            line.add(live_through_everything(_emptied(url, policy), with_path(url, path)))


def test_temporary_tables_of_others_are_not_used(
    campaign: Campaign, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pooler lends one connection to several clients."""
    connect = Database.connect

    theirs = ""

    def after_another_client(*arguments: Any, **named: Any) -> Database:  # noqa: ANN401 - psycopg's
        lent = connect(*arguments, **named)
        lent.execute(theirs.encode())
        lent.commit()
        return lent

    with new_database() as url, campaign.line("temporary tables of other clients") as line:
        migrate(url, USERS)
        cases = campaign.choose(zip(cycle(POLICIES), TEMPORARY), product(POLICIES, TEMPORARY))
        for line.points, (policy, left) in enumerate(cases, 1):
            theirs, desk = left, _emptied(url, policy)
            with monkeypatch.context() as patch:
                patch.setattr(Database, "connect", after_another_client)
                line.add(live_through_everything(desk, url))
                migrate(url, USERS, policy)


def test_the_operators_schema_and_triggers_work_as_before(new_database: NewDatabase) -> None:
    """The search path says where the tables are, and triggers of the operator depend on it."""
    with new_database() as plain:
        asked(plain, 'create schema "The ""App"""')
        url = with_path(plain, '"The ""App""", public')
        migrate(url, USERS)
        asked(url, "create table audit (name text)")
        asked(
            url,
            "create function noted() returns trigger language plpgsql as"
            " $$begin insert into audit values (new.name); return new; end$$;"
            "create trigger noted after insert on users for each row execute function noted()",
        )
        live_through_everything(DatabaseDesk(url), url)

        assert asked(plain, 'select count(*) from "The ""App""".audit') == [(21,)]


PAUSE_SECONDS = 0.3
SETTINGS = {
    "application_name": "rollcall until 2000-01-01T00:00:00Z",
    "array_nulls": "off",
    "bytea_output": "escape",
    "client_encoding": "latin1",
    "client_min_messages": "error",
    "datestyle": "German",
    "debug_parallel_query": "on",
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "enable_hashjoin": "off",
    "extra_float_digits": "-15",
    "idle_in_transaction_session_timeout": "100ms",
    "intervalstyle": "sql_standard",
    "lock_timeout": "100ms",
    "plan_cache_mode": "force_generic_plan",
    "rollcall.import_id": "77",
    "row_security": "off",
    "standard_conforming_strings": "off",
    "statement_timeout": "100ms",
    "synchronous_commit": "off",
    "timezone": "Asia/Tokyo",
    "transaction_timeout": "100ms",
    "transform_null_equals": "on",
    "work_mem": "64kB",
}
# Reports how the commit is made, and takes longer than the settings allow a statement.
WATCH_COMMIT = """
create function watched() returns trigger language plpgsql as $$
begin
    if current_setting('synchronous_commit') <> 'on' then
        raise exception 'not durable';
    end if;
    perform pg_sleep(0.2);
    return new;
end
$$;
create trigger watched after insert or update on imports for each row execute function watched()
"""


def _slow_import(url: str, policy: Policy) -> None:
    """Import two users, with a pause during which the database waits for the upload."""
    upload = an_upload()
    with (
        closing(PostgresUserRepository(url, USERS)) as users,
        users.importing(ImportRequest(upload, "sha", policy)) as importing,
    ):
        time.sleep(PAUSE_SECONDS)
        importing.register(a_block([BEN]))
        time.sleep(PAUSE_SECONDS)
        importing.register(a_block([CEM]))
        importing.merge()
        time.sleep(PAUSE_SECONDS)
        counts = Counts(read=2, registered=2)
        importing.commit(a_receipt(upload, importing.verdict.import_id, counts))


def test_settings_of_role_and_database_change_nothing(campaign: Campaign, new_database: NewDatabase) -> None:
    """All settings at once or one by one: the import still takes its time, is durable, and waits for a rival."""
    known = "select name from pg_settings"
    with new_database() as url, campaign.line("settings of role and database") as line:
        migrate(url, USERS)
        asked(url, WATCH_COMMIT)
        there = {"rollcall.import_id", *(name.lower() for (name,) in asked(url, known))}
        settings = {name: value for name, value in SETTINGS.items() if name in there}
        line.points = len(settings)
        database = sql.Identifier(urlsplit(url).path.removeprefix("/"))
        for policy, names in product(
            (PLAIN, UPDATE), campaign.choose([list(settings)], [[one] for one in settings])
        ):
            _emptied(url, policy)
            with psycopg.connect(url, autocommit=True) as behind:
                behind.execute(sql.SQL("alter database {} reset all").format(database))
                for name in names:
                    alter = sql.SQL("alter database {} set {} = {}")
                    behind.execute(alter.format(database, sql.SQL(name), sql.Literal(settings[name])))
                _slow_import(url, policy)
                behind.execute(sql.SQL("alter database {} reset all").format(database))
            [(registered,)] = asked(url, "select count(*) from users join imports on imports.id = import_id")
            line.add(Found(lost=2 - registered))
            assert registered == 2


REFUSED, FAILED, MISCOUNTED = TableConstraintError, RepositoryUnavailableError, ConservationError


def _trigger(body: str, kind: str = "before") -> str:
    return (
        f"create function theirs() returns trigger language plpgsql as $$begin {body}; return new; end$$;"
        f"create trigger theirs {kind} insert on users for each row execute function theirs()"
    )


# The operator's rule on the users table, the import's error, and what its message names.
THEIRS: dict[str, tuple[str, type[Exception] | None, str]] = {
    "check": (
        "alter table users add constraint c check (age < 9) not valid",
        REFUSED,
        "constraint c of table users",
    ),
    "not null": (
        "alter table users add email text not null default ''; alter table users alter email drop default",
        REFUSED,
        "of column email of table users",
    ),
    "unique": ("create unique index c on users (country)", REFUSED, "constraint c of table users"),
    "unique, deferred": (
        "alter table users add constraint c unique (country) deferrable initially deferred",
        REFUSED,
        "constraint c of table users",
    ),
    "exclusion": (
        "alter table users add constraint c exclude using hash (country with =)",
        REFUSED,
        "constraint c",
    ),
    "foreign key": (
        """
        create table countries (name text primary key);
        alter table users add constraint c foreign key (country) references countries not valid
        """,
        REFUSED,
        "constraint c of table users",
    ),
    "domain": (
        """
        create domain short as text constraint c check (length(value) < 9);
        alter table users alter name type short
        """,
        REFUSED,
        "constraint c of type short",
    ),
    "narrow column": ("alter table users alter name type varchar(9)", REFUSED, r"character varying\(9\)"),
    "trigger, check": (_trigger("raise check_violation using message = new.name"), REFUSED, "trigger"),
    "trigger, check at the end": (
        """
        create function theirs() returns trigger language plpgsql as
            $$begin raise check_violation using message = new.name, constraint = new.name; end$$;
        create constraint trigger theirs after insert on users deferrable initially deferred
            for each row execute function theirs()
        """,
        REFUSED,
        "trigger",
    ),
    "row-level security": ("alter table users enable row level security", REFUSED, "row-level security"),
    "row-level security, with a policy": (
        "alter table users enable row level security; create policy p on users using (true) with check (age < 9)",
        REFUSED,
        "row-level security.*users",
    ),
    "trigger, error": (_trigger("raise exception '%', new.name"), FAILED, "RaiseException, SQLSTATE P0001"),
    "trigger, privilege": (
        _trigger("raise insufficient_privilege using message = new.name"),
        FAILED,
        "InsufficientPrivilege, SQLSTATE 42501",
    ),
    "trigger, no right": (
        _trigger("insert into corrections values (0, 0, 0); delete from imports"),
        FAILED,
        "permission denied for table imports",
    ),
    "trigger, lock": (
        _trigger("raise lock_not_available using message = new.name"),
        FAILED,
        "not released in time",
    ),
    "generated column": (
        "alter table users add c int generated always as (1 / (length(country) - 5)) stored",
        FAILED,
        "DivisionByZero",
    ),
    "trigger, row left out": (
        _trigger("if new.age > 9 then return null; end if"),
        MISCOUNTED,
        "a trigger or a rule",
    ),
    "trigger, all left out": (_trigger("return null"), MISCOUNTED, "the table took 0 of"),
    "rule": ("create rule theirs as on insert to users do instead nothing", MISCOUNTED, "the table took 0 of"),
    "trigger, row changed": (_trigger("new.age := 7"), None, ""),
    "trigger, statement": (
        """
        create function theirs() returns trigger language plpgsql as $$begin return null; end$$;
        create trigger theirs after insert on users execute function theirs()
        """,
        None,
        "",
    ),
}


AS_IT_WAS = """
drop table users cascade;
drop function if exists theirs;
drop domain if exists short;
drop table if exists countries;
truncate imports, corrections;
set role rollcall_migrator;
create table users (like untouched including all)
"""


def test_a_rule_of_the_table_refuses_the_upload_or_is_reported(
    campaign: Campaign, new_database: NewDatabase
) -> None:
    """The message contains the names that an operator needs, and no cell. Nothing is registered."""
    chosen = campaign.choose(zip(THEIRS, cycle(POLICIES)), product(THEIRS, POLICIES))
    with new_database() as url, campaign.line("triggers, rules and constraints of others") as line:
        migrate_as_documented(url)
        asked(acting_as(MIGRATOR, url), "create table untouched (like users including all)")
        for line.points, (name, policy) in enumerate(chosen, 1):
            asked(url, AS_IT_WAS)
            line.add(_met(url, policy, name))


def _met(url: str, policy: Policy, name: str) -> Found:
    definition, expected, named = THEIRS[name]
    migrate(acting_as(MIGRATOR, url), USERS, policy)
    upload, desk = made_upload("a.csv", rows=20, bad_share=0.2), DatabaseDesk(url, policy)
    asked(url, definition)
    reference = desk.drop(upload)
    if name == "rule" and not policy.unique_by:
        expected = None  # COPY ignores rules
    if expected in {FAILED, MISCOUNTED}:
        with pytest.raises(expected, match=named) as caught:
            desk.deliver(reference, acting_as(IMPORTER, url))
        require_quiet(caught.value)
        assert asked(url, "select from imports") == []
    else:
        receipt = desk.deliver(reference, acting_as(IMPORTER, url))
        assert receipt.counts.rejected == len(upload.bad), name
        if expected:
            assert (receipt.status, receipt.code) == (Status.REFUSED, Code.TABLE_CONSTRAINT), name
            assert re.search(named, receipt.message or ""), (name, receipt.message)
            assert CANARY not in (receipt.message or "")
            assert receipt.counts.withheld == len(upload.good)
            assert desk.oracle.read_report(receipt.rejected_rows or "")
        else:
            assert receipt.counts.registered == len(upload.good), name
    [(there,)] = asked(url, "select count(*) from users where import_id is not null")
    return Found(duplicated=there if expected else there - len(upload.good))


LOCKS = {
    "lock table users in share mode": "users",
    "alter table imports alter code set default null": "imports",
    "alter table users add note text": "users",
    "update imports set code = code": "imports",
}


@pytest.mark.parametrize("held", LOCKS)
def test_a_lock_of_another_application_is_named(
    database_url: str, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the table and the holder's activity, as far as the role may see it, and no statement."""
    monkeypatch.setattr("rollcall.adapters.postgres.locks.LOCK_SECONDS", 0.2)
    desk, upload = (
        DatabaseDesk(database_url, Policy(max_rejected=Tolerance("0"))),
        made_upload("a.csv", rows=20, bad_share=0.2),
    )
    reference = desk.drop(upload)
    assert desk.deliver(reference, database_url).status is Status.REFUSED
    desk = attrs.evolve(desk, policy=PLAIN)
    with psycopg.connect(database_url, application_name="theirs") as theirs:
        theirs.execute(held.encode())
        said = [_said_of_lock(desk, reference, url) for url in (database_url, acting_as(IMPORTER, database_url))]
        pid = theirs.info.backend_pid
        theirs.rollback()

    locked = f"the table {LOCKS[held]} is locked by another session, backend {pid}; "
    assert re.fullmatch(
        re.escape(locked) + r"it is idle in transaction since [0-9: -]+ UTC; try again .*", said[0]
    )
    assert re.fullmatch(re.escape(locked) + "try again .*", said[1])


def _said_of_lock(desk: DatabaseDesk, reference: ObjectReference, url: str) -> str:
    with pytest.raises(TableLockedError) as caught:
        desk.deliver(reference, url)
    return str(caught.value)


def test_one_connection_is_enough(new_database: NewDatabase) -> None:
    """One connection migrates, imports, and answers a redelivery whose receipt is missing."""
    role = f"rollcall_test_{secrets.token_hex(6)}"
    create = "create role {} login connection limit 1 in role rollcall_migrator, rollcall_importer"
    sessions = "select from pg_stat_activity where usename = %s"
    with new_database() as url:
        migrate_as_documented(url)
        asked(url, sql.SQL(create).format(sql.Identifier(role)))
        asked(url, sql.SQL("alter role {} password 'of-tests'").format(sql.Identifier(role)))
        migrate(acting_as(role, url), USERS, UPDATE)
        assert eventually(lambda: not asked(url, sessions, role))
        with closing(PostgresUserRepository(acting_as(role, url), USERS)) as users:
            desk = DatabaseDesk(url, UPDATE)
            importer = desk.importer(users)
            reference = desk.drop(made_upload("a.csv", rows=20))
            first = importer(reference)
            desk.desk.reports.put("a.csv/1/receipt.json", io.BytesIO(b""))

            assert importer(reference).first_receipt == first
            assert importer.reports.has(first)
        asked(url, sql.SQL("drop role {}").format(sql.Identifier(role)))


def test_a_migration_leaves_nothing_in_the_session(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pooler lends the session to another client next. A wrong role is reported in one sentence."""
    kept: list[Database] = []

    def keep(connection: Database) -> None:
        kept.append(connection)

    monkeypatch.setattr(Database, "close", keep)
    settings = "select name, setting from pg_settings where source = 'session' and name <> 'transaction_isolation'"
    with new_database() as url:
        migrate_as_documented(url)
        migrate(acting_as(MIGRATOR, url), USERS, UPDATE)
        for role in IMPORTER, OPERATOR:
            with pytest.raises(
                RepositoryUnavailableError, match=rf"role {role} may not migrate .* as the role that"
            ):
                migrate(acting_as(role, url), USERS)
        assert [connection.execute(settings.encode()).fetchall() for connection in kept] == [[]] * len(kept)
        assert kept
        assert asked(url, "select from pg_locks where locktype = 'advisory'") == []
        monkeypatch.undo()
        for connection in kept:
            connection.close()
