"""The routes that need no database: the policy, and rows that are judged."""

import base64
import io
import json
import subprocess
import sys
from typing import Any

import attrs
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from rollcall.adapters.dry_run import DryRunUserRepository, NoReports
from rollcall.application.check_rows import MAX_ROWS
from rollcall.application.reports import Reports
from rollcall.domain.receipt import Receipt
from rollcall.domain.user import USERS
from rollcall.entrypoints.api.routes import MAX_BODY_BYTES
from support.api_events import an_api, answer_to, ask, http_event, is_problem, pointers
from support.builders import cells_of
from support.fakes import Clock, Desk
from support.receipts import CheckedImport
from support.strategies import RULES, invalid_cells, valid_cells

GOOD = cells_of()
CANARY = "S3CRET"
API = an_api()
THIRTY = "\N{FULLWIDTH DIGIT THREE}\N{FULLWIDTH DIGIT ZERO}"

any_cells = {
    column: st.one_of(
        valid_cells(rule),
        invalid_cells(rule).map(lambda found: found[0]),
        st.text(st.characters(codec="utf-8"), max_size=8),
    )
    for column, rule in RULES.items()
}


def test_the_policy_is_that_of_the_settings() -> None:
    environment = {
        "ROLLCALL_ENCODINGS": "utf-8,cp932",
        "ROLLCALL_UNIQUE_BY": "name",
        "ROLLCALL_MAX_REJECTED": "2%",
    }

    policy = ask(an_api(environment=environment), "GET", "/api/policy").json

    assert [column["name"] for column in policy["columns"]] == list(USERS.columns)
    assert policy["columns"][2]["schema"] == {"type": "integer", "minimum": 0, "maximum": 150}
    assert policy["encodings"] == ["utf-8", "cp932"]
    assert (policy["policy"]["max_rejected"], policy["policy"]["unique_by"]) == ("2%", "name")
    assert policy["limits"] == {
        "max_upload_bytes": 5 * 2**30,
        "max_csv_bytes": 20 * 2**30,
        "max_checked_rows": 500,
    }


@pytest.mark.parametrize("path", ["/api/policy", "/api/openapi.json"])
def test_an_unchanged_answer_is_not_sent_again(path: str) -> None:
    first = ask(API, "GET", path)
    etag = first.headers["ETag"]

    assert etag.startswith('"')
    for sent in etag, f'"other", {etag}', f"W/{etag}", "*":
        again = ask(API, "GET", path, headers={"if-none-match": sent})
        assert (again.status, again.text, again.headers["ETag"]) == (304, "", etag)
    for sent in '"other"', etag.strip('"'), "":
        assert ask(API, "GET", path, headers={"if-none-match": sent}).status == 200


def test_another_policy_has_another_etag() -> None:
    first, other = an_api(), an_api(environment={"ROLLCALL_MAX_REJECTED": "3"})

    assert ask(first, "GET", "/api/policy").headers["ETag"] != ask(other, "GET", "/api/policy").headers["ETag"]


def test_checked_rows_have_their_faults_in_order() -> None:
    answered = ask(API, "POST", "/api/rows/check", send={"rows": [GOOD, {**GOOD, "age": THIRTY}]})

    message = f"age is '{THIRTY}', not in half-width digits (0-9); give 30"
    assert answered.status == 200
    assert answered.json == {
        "rows": [{"faults": []}, {"faults": [{"code": "type-error", "message": message, "column": "age"}]}]
    }


# Fifty rows take minutes to shrink.
@settings(max_examples=20, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(st.fixed_dictionaries(any_cells), min_size=50, max_size=50))
def test_check_api_and_import_agree_on_every_row(rows: list[dict[str, str]]) -> None:
    """A thousand rows: the same codes, columns and sentences."""
    desk = Desk()
    written, lines = _as_file(rows)
    reference = desk.drop(written)
    check = CheckedImport(
        uploads=desk.uploads,
        reports=Reports(store=NoReports()),
        users=DryRunUserRepository(USERS),
        now=Clock(),
        spool=io.BytesIO,
    )

    answered = ask(API, "POST", "/api/rows/check", send={"rows": rows}).json["rows"]

    faulty = {line: row["faults"] for line, row in zip(lines, answered, strict=True) if row["faults"]}
    assert _faults(check(reference)) == faulty
    assert _faults(desk.load(reference)) == faulty


def _as_file(rows: list[dict[str, str]]) -> tuple[bytes, list[int]]:
    """Write rows in quotes, with a column that makes none blank, and return the line of each."""
    text = f"{','.join(USERS.columns)},note\n"
    lines = []
    for row in rows:
        lines.append(len(text.replace("\r\n", "\n").replace("\r", "\n").split("\n")))
        text += "".join('"' + row[column].replace('"', '""') + '",' for column in USERS.columns) + "x\n"
    return text.encode(), lines


def _faults(receipt: Receipt) -> dict[int, list[dict[str, Any]]]:
    return {
        rejection.line: [attrs.asdict(fault) for fault in rejection.faults] for rejection in receipt.rejections
    }


def test_too_many_rows_are_refused_with_the_limit() -> None:
    answered = ask(API, "POST", "/api/rows/check", send={"rows": [GOOD] * (MAX_ROWS + 1)})

    assert is_problem(answered, 413, "size-limit")
    assert answered.json["detail"] == "rows has 501 items; send at most 500"
    assert ask(API, "POST", "/api/rows/check", send={"rows": [GOOD] * MAX_ROWS}).status == 200


@pytest.mark.parametrize("encoded", [False, True])
def test_a_body_over_the_limit_is_refused(encoded: bool) -> None:  # noqa: FBT001 - a parameter of the test
    for size, status in (MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413):
        body = json.dumps({"rows": []}).ljust(size)
        event = http_event("POST", "/api/rows/check", body=body)
        if encoded:
            event |= {"body": base64.b64encode(body.encode()).decode(), "isBase64Encoded": True}
        assert answer_to(API, event).status == status


def test_a_cell_that_no_file_can_contain_is_refused() -> None:
    """It has no verdict."""
    answered = ask(API, "POST", "/api/rows/check", send={"rows": [GOOD, {**GOOD, "name": "\n" * 100 + CANARY}]})

    assert is_problem(answered, 422, "malformed-quoting")
    assert pointers(answered) == [("/rows/1/name", "malformed-quoting")]
    assert CANARY not in answered.text


def test_policy_and_checked_rows_load_no_driver() -> None:
    """In a fresh interpreter."""
    script = f"""
import json, sys
from datetime import datetime
from rollcall.entrypoints.api import Api
from rollcall.settings import read_settings
api = Api(settings=read_settings({{}}), services=lambda: 1 / 0, now=datetime.now)
for event in json.loads(sys.argv[1]):
    assert api(event, None)["statusCode"] == 200
print(sorted({{"boto3", "psycopg", "pydantic", "rich", "click"}} & set(sys.modules)), {CANARY!r})
"""
    events = [
        http_event("GET", "/api/policy"),
        http_event("POST", "/api/rows/check", body=json.dumps({"rows": [GOOD]})),
    ]

    ran = subprocess.run(  # noqa: S603 - this Python
        [sys.executable, "-c", script, json.dumps(events)], capture_output=True, text=True, check=True, timeout=60
    )

    assert ran.stdout.strip() == f"[] {CANARY}"
