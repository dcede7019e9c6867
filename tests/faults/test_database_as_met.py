"""Databases as they are met: shadowed names, tables and settings of others, and constraints that are not ours."""

import csv
import io
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from datetime import timedelta
from itertools import cycle, product
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from psycopg import sql

from contracts.steps import BEN, CEM, NOON, a_block, an_upload, asked
from faults.campaigns import Campaign
from faults.desk import Desk
from faults.oracle import Found
from faults.uploads import FaultyUpload, made_upload
from receipts import a_receipt
from rollcall.adapters.postgres.migrating import migrate
from rollcall.adapters.postgres.naming import Database
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.application.ports import Lost
from rollcall.domain.policy import OnDuplicate, Policy
from rollcall.domain.receipt import Counts, Receipt
from rollcall.domain.rejection import Code

NewDatabase = Callable[[], AbstractContextManager[str]]

PLAIN = Policy()
UPDATE = Policy(unique_by=("name",), on_duplicate=OnDuplicate.UPDATE)
REJECT = Policy(unique_by=("name", "country"), on_duplicate=OnDuplicate.REJECT)
POLICIES = UPDATE, PLAIN, REJECT

# A copy of everything that PostgreSQL has for the types that Rollcall uses, which raises an error when it is used.
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

# What another client of a pooled connection leaves there.
_USERS, _IMPORTS, _CORRECTIONS, _LOST, _YOYO = (
    f"create temporary table {table} (like public.{table} including all);"
    for table in ("users", "imports", "corrections", "lost_uploads", "_yoyo_migration")
)
_OURS = "".join(
    f"create temporary table rollcall_{table} (theirs int);" for table in ("staged", "rejected", "merging")
)
TEMPORARY = (_USERS, _IMPORTS, _USERS + _IMPORTS + _CORRECTIONS + _LOST + _YOYO, _OURS)


def with_path(url: str, path: str) -> str:
    """Give the URL by which one comes into a database with another search path."""
    options = "-c search_path=" + path.replace(" ", "\\ ")
    return f"{url}{'&' if '?' in url else '?'}options={quote(options)}"


def live_through_everything(desk: Desk, url: str) -> Found:
    """Import an upload, look at it, correct its rejected rows and undo both, by connections of that URL.

    Returns:
        What was lost or doubled before the undo.
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
    with closing(PostgresUserRepository(url)) as users:
        assert len(list(users.users(receipt.import_id))) == len(upload.good)
        assert users.note_lost(["lost"], NOON, at_most=2, patience=timedelta()) == Lost(queue=frozenset({"lost"}))
        assert users.undo(corrected.import_id or 0, NOON) == len(upload.bad)
        assert users.undo(receipt.import_id or 0, NOON) == len(upload.good)
        assert [entry.undone for entry in users.entries()] == [True, True]
    assert desk.oracle.found([upload]) == Found()
    return found


def _corrected(desk: Desk, receipt: Receipt) -> FaultyUpload:
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


def _emptied(url: str, policy: Policy) -> Desk:
    asked(url, "truncate users, imports, corrections, lost_uploads")
    migrate(url, policy)
    return Desk(url, policy)


def test_names_that_are_shadowed_are_not_used(campaign: Campaign, new_database: NewDatabase) -> None:
    """Whether the others' schema stands behind PostgreSQL's own or before it."""
    paths = "public,shadows", "shadows,public", "shadows,pg_catalog,public"
    with new_database() as url, campaign.line("everything of PostgreSQL's shadowed") as line:
        migrate(url)
        asked(url, SHADOW_EVERYTHING)
        cases = campaign.choose(zip(POLICIES, paths, strict=True), product(POLICIES, paths))
        for line.points, (policy, path) in enumerate(cases, 1):
            line.add(live_through_everything(_emptied(url, policy), with_path(url, path)))


def test_temporary_tables_of_others_are_not_used(
    campaign: Campaign, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a pooler that lends one connection to several clients."""
    connect = Database.connect

    theirs = ""

    def after_another_client(*arguments: Any, **named: Any) -> Database:  # noqa: ANN401 - psycopg's
        lent = connect(*arguments, **named)
        lent.execute(theirs.encode())
        lent.commit()
        return lent

    with new_database() as url, campaign.line("temporary tables of other clients") as line:
        migrate(url)
        cases = campaign.choose(zip(cycle(POLICIES), TEMPORARY), product(POLICIES, TEMPORARY))
        for line.points, (policy, left) in enumerate(cases, 1):
            theirs, desk = left, _emptied(url, policy)
            with monkeypatch.context() as patch:
                patch.setattr(Database, "connect", after_another_client)
                line.add(live_through_everything(desk, url))
                migrate(url, policy)


def test_the_operators_schema_and_triggers_work_as_before(new_database: NewDatabase) -> None:
    """The search path says where the tables are, and a trigger finds what stands in it."""
    with new_database() as plain:
        asked(plain, 'create schema "The ""App"""')
        url = with_path(plain, '"The ""App""", public')
        migrate(url)
        asked(url, "create table audit (name text)")
        asked(
            url,
            "create function noted() returns trigger language plpgsql as"
            " $$begin insert into audit values (new.name); return new; end$$;"
            "create trigger noted after insert on users for each row execute function noted()",
        )
        live_through_everything(Desk(url), url)

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
# Says which way the commit goes, and takes longer than a statement may by the settings.
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
    """Import two users, and pause where an upload may let the database wait."""
    upload = an_upload()
    with closing(PostgresUserRepository(url)) as users, users.importing(upload, "sha", policy) as importing:
        time.sleep(PAUSE_SECONDS)
        importing.register(a_block([BEN]))
        time.sleep(PAUSE_SECONDS)
        importing.register(a_block([CEM]))
        importing.settle()
        time.sleep(PAUSE_SECONDS)
        counts = Counts(read=2, registered=2)
        importing.commit(a_receipt(upload, importing.verdict.import_id, counts))


def test_settings_of_role_and_database_change_nothing(campaign: Campaign, new_database: NewDatabase) -> None:
    """All at once or one by one: an import takes its time, is durable, and waits for a rival as long as ever."""
    known = "select name from pg_settings"
    with new_database() as url, campaign.line("settings of role and database") as line:
        migrate(url)
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
