"""The Web API and the page's uploads with a record of one's own."""

from pathlib import Path

import pytest

from support.api_events import is_problem, pointers, token
from support.site import Site

EXAMPLE = Path(__file__).parents[2] / "examples/members"
ANN = {
    "external_id": "NO-0001",
    "name": "Ann",
    "email": "ann@example.com",
    "points": 7,
    "fee": "1.5",
    "active": True,
    "role": "GUEST",
    "country": "Norway",
}


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    """An installation whose record is that of the example."""
    monkeypatch.syspath_prepend(EXAMPLE)
    return Site.in_memory({"ROLLCALL_RECORD": "records:Member", "ROLLCALL_UNIQUE_BY": "external_id"})


def test_the_policy_describes_each_column(site: Site) -> None:
    columns = {column["name"]: column for column in site.ask("GET", "/api/policy").json["columns"]}

    assert columns["name"]["labels"] == ["氏名", "Full name"]
    assert [name for name, column in columns.items() if column["optional"]] == ["born", "token", "phone", "note"]
    assert columns["role"]["schema"] == {"type": "string", "enum": ["member", "guest", "staff"]}
    assert columns["born"]["schema"] == {"type": "string", "format": "date"}


def test_a_user_is_registered_with_json_values(site: Site) -> None:
    """Optional members may be null or missing."""
    send = {**ANN, "phone": None}
    answer = site.ask("POST", "/api/users", send=send, headers={"idempotency-key": "ann"})
    assert answer.status == 201, answer.text
    [listed] = site.ask("GET", "/api/users", authorizer=token()).json["users"]
    assert listed["user"] == {
        **ANN,
        "born": None,
        "fee": "1.50",
        "role": "guest",
        "token": None,
        "phone": None,
        "note": None,
    }


def test_a_missing_required_member_is_a_problem(site: Site) -> None:
    send = {name: value for name, value in ANN.items() if name != "email"}
    answer = site.ask("POST", "/api/users", send=send, headers={"idempotency-key": "ann"})

    assert is_problem(answer, 400, "invalid-request")
    assert pointers(answer) == [("/email", "missing-member")]


def test_rows_are_judged_by_the_record(site: Site) -> None:
    row = dict.fromkeys(site.settings.record.columns, "") | {"active": "はい", "born": "31.2.2001"}
    [judged] = site.ask("POST", "/api/rows/check", send={"rows": [row]}).json["rows"]

    assert [(fault["column"], fault["code"]) for fault in judged["faults"]] == [
        ("external_id", "blank-cell"),
        ("name", "blank-cell"),
        ("email", "blank-cell"),
        ("born", "type-error"),
        ("points", "blank-cell"),
        ("fee", "blank-cell"),
        ("role", "blank-cell"),
        ("country", "blank-cell"),
    ]


def test_the_example_is_checked_corrected_and_registered(site: Site) -> None:
    upload, etag = site.checked((EXAMPLE / "members.csv").read_bytes(), "members.csv")
    site.register(upload, etag)
    [receipt] = site.import_all()
    rejected = site.ask("GET", f"/api/imports/{receipt.import_id}/rejections").json["rows"]
    first = {**rejected[0], "cells": {**rejected[0]["cells"], "points": "7"}}
    send = {"rows": [{name: first[name] for name in ("line", "cells", "proof")}]}

    assert (receipt.counts.registered, len(rejected)) == (2, 11)
    assert rejected[0]["cells"]["name"] == "O'Brien, Mary"
    assert site.ask("POST", f"/api/imports/{receipt.import_id}/corrections", send=send).status == 202
    site.import_all()
    assert len(list(site.users.users())) == 3
