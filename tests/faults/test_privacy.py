"""No fault shows a cell, under any name or key, and every log line is JSON in ASCII."""

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import quote_plus

import pytest

from rollcall.adapters.postgres.migration import migrate
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.application.reports import Reports
from rollcall.bootstrap import now
from rollcall.domain.user import USERS
from rollcall.entrypoints.import_lambda import ImportLambda
from support.aws_events import Context, in_sqs, s3_record
from support.builders import asked, completed
from support.campaigns import Campaign
from support.command_line import CommandLine
from support.privacy import HOSTILE, lambda_log, require_log, require_quiet
from support.receipts import CheckedImport
from support.s3_server import Request, s3_server
from support.uploads import CANARY

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

KEYS = (
    "plain.csv",
    "a\nb.csv",
    "x\x1b[2J.csv",
    "\u202e\u2028\x85.csv",
    '"quoted" \\ %s {}.csv',
    "🙈/é.csv",
    "c" * 900,
)
# Rows that PostgreSQL, boto3 or Python would quote in an error.
ROWS = [f"{CANARY} {mark}{number},{mark},{number}" for number, mark in enumerate(HOSTILE)]
BAD = [f'{CANARY},{mark},old{mark}\n"{CANARY}"x,{mark},1' for mark in HOSTILE]
UPLOAD = completed(
    "\n".join(["name,country,age", *(f"{CANARY} {n},Japan,{n}" for n in range(99)), *ROWS, *BAD, ""]).encode()
)


@pytest.mark.parametrize(
    ("said", "shows"),
    [
        (f"a {CANARY}", True),
        (CANARY.encode(), True),
        (ValueError(CANARY), True),
        ("nobody", False),
        (ValueError("nobody"), False),
    ],
    ids=repr,
)
def test_the_search_finds_a_cell_and_nothing_else(said: object, *, shows: bool) -> None:
    if shows:
        with pytest.raises(AssertionError):
            require_quiet(said)
    else:
        require_quiet(said)


def test_a_cell_in_a_linked_error_is_found() -> None:
    """In the cause or the suppressed context, and in their attributes."""
    row = UnicodeDecodeError("utf-8", CANARY.encode(), 0, 1, "no reason")
    caused, hiding, beside = ValueError(), ValueError(), ExceptionGroup("two", [ValueError(), row])
    caused.__cause__ = hiding.__context__ = row
    hiding.__suppress_context__ = True
    for error in (caused, hiding, beside):
        with pytest.raises(AssertionError):
            require_quiet(error)


@pytest.mark.parametrize(
    "text", ["{}\n\x1b[2J\n", '{"a": "\u2028"}\n', "not JSON\n", "[]\n", f'{{"a": "{CANARY}"}}\n']
)
def test_a_log_line_that_is_no_json_in_ascii_is_found(text: str) -> None:
    with pytest.raises((AssertionError, json.JSONDecodeError)):
        require_log(text)


def _refuse(where: str, code: str) -> Callable[[Request], bool]:
    def breaking(request: Request) -> bool:
        if where in f"{request.command} {request.object_path}":
            request.refuse(503, code)
            return True
        return False

    return breaking


def _cut(request: Request) -> bool:
    found = request.s3.find(request.object_path)
    if request.command != "GET" or not found or "inbox/" not in request.object_path:
        return False
    request.begin(200, {**request.describing(found), "Content-Length": str(len(found.data))})
    request.wfile.write(found.data[:2000])
    return True


STORAGE: dict[str, Callable[[Request], bool]] = {
    "nothing": lambda _: False,
    "a body cut short": _cut,
    "uploads that cannot be read": _refuse("GET inbox/", "SlowDown"),
    "rejected rows that cannot be stored": _refuse("/rejected-", "AccessDenied"),
    "receipts that cannot be stored": _refuse("receipt.json", "InternalError"),
}
DATABASE = {
    "nothing": "select 1",
    "a constraint that fails": "alter table users add check (age < 3)",
    "a trigger that quotes the row": """
        create function quote() returns trigger language plpgsql as
            $$begin raise 'no room for %', new using errcode = 'disk_full', detail = new.name; end$$;
        create trigger quote before insert on users for each row execute function quote()""",
    "a column that is gone": "alter table users drop column country",
}


@pytest.mark.parametrize("database", DATABASE)
def test_the_lambda_shows_no_cell(
    campaign: Campaign,
    new_database: Callable[[], AbstractContextManager[str]],
    capfd: pytest.CaptureFixture[str],
    database: str,
) -> None:
    """Not in log, metrics or answer. A message reaches the dead-letter queue unchanged."""
    with campaign.line(f"quiet: the Lambda, with {database} in the database") as line, ExitStack() as held:
        url = held.enter_context(new_database())
        migrate(url, USERS)
        asked(url, DATABASE[database])
        s3 = held.enter_context(s3_server())
        users = PostgresUserRepository(url, USERS)
        held.callback(users.close)
        case = CheckedImport(
            uploads=s3.store("inbox"),
            reports=Reports(store=s3.store("reports")),
            users=users,
            now=now,
            spool=tempfile.TemporaryFile,
        )
        function = ImportLambda(import_users=case, send=lambda *_: None, now=now, tries=3)
        for storage, breaking in STORAGE.items():
            line.points += 1
            for key in KEYS if campaign.long or storage in {"nothing", "a body cut short"} else KEYS[:2]:
                stored = s3.put(f"inbox/{key}", UPLOAD + f"{storage},Japan,1\n".encode())
                s3.breaking = breaking
                record = s3_record(quote_plus(key), versionId=stored.version, size=len(stored.data))
                event = in_sqs({"Records": [record]})
                before = json.dumps(event)
                with lambda_log() as log:
                    answer = function(event, cast("LambdaContext", Context()))
                s3.breaking = lambda _: False
                assert log.getvalue()
                require_quiet(json.dumps(answer))
                require_quiet(before)
                assert json.dumps(event) == before
                line.repetitions += 1
        told = capfd.readouterr()
        require_log(told.out)
        require_quiet(told.err)
        assert told.err.isascii()


@pytest.mark.parametrize("database", DATABASE)
def test_an_error_of_the_command_line_shows_no_cell(
    campaign: Campaign, new_database: Callable[[], AbstractContextManager[str]], tmp_path: Path, database: str
) -> None:
    """It is one line, for any file name."""
    with campaign.line(f"quiet: the command line, with {database} in the database") as line, new_database() as url:
        migrate(url, USERS)
        asked(url, DATABASE[database])
        for name in ("a\nb\x1b[2J\u202e.csv", "plain.csv")[: campaign.choose(1, 2)]:
            (tmp_path / name).write_bytes(UPLOAD)
            for environment in ({}, {"ROLLCALL_REPORTS": "file:///dev/null/nowhere"}):
                line.points += 1
                rollcall = CommandLine(tmp_path, {"ROLLCALL_DATABASE_URL": url})
                outcome = rollcall("import", os.fsencode(name), **environment)
                require_quiet(outcome.err)
                assert "Traceback" not in outcome.err
                assert outcome.code in {0, 1, 3, 4}
                assert outcome.code != 1 or len(outcome.err.splitlines()) == 1
                line.repetitions += 1
