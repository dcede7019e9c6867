"""A list that its check refused is corrected in the browser: its corrected copy is checked as any other list."""

import codecs
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.application.records import Record, RecordReader
from rollcall.domain.upload import ObjectReference
from rollcall.domain.user import USERS
from support.api_events import Answered, is_problem, pointers
from support.site import Site

STRICT = {"ROLLCALL_MAX_REJECTED": "0", "ROLLCALL_ENCODINGS": "utf-8,cp932"}
GOOD = {"name": "Ben", "country": "X", "age": "30"}
LIST = b"note,age,name,country\r\nfirst,41,Ann,Norway\r\n\r\nsecond,old,Ben,X\nthird,3,Cem\n"


@pytest.fixture(params=["memory", "folder"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    """An installation that refuses each list with a wrong row, in memory and in folders."""
    made = Site.in_memory() if request.param == "memory" else Site.in_folders(tmp_path)
    made.settings = Site.in_memory(STRICT).settings
    return made


def correct(
    site: Site, upload_id: str, rows: dict[int, dict[str, str]], etag: str = "", by: str = "ann"
) -> Answered:
    etag = etag or site.state(upload_id)["check"]["etag"]
    send = {"rows": [{"line": line, "cells": cells} for line, cells in rows.items()]}
    path = f"/api/uploads/{upload_id}/corrections"
    return site.ask("POST", path, by=by, send=send, headers={"if-match": etag})


def content(site: Site, upload_id: str) -> bytes:
    """Return the file of an upload in the inbox."""
    [key] = [
        listed.reference.key
        for listed in site.stores.inbox.list()
        if upload_id.replace("-", "/") in listed.reference.key
    ]
    with site.stores.inbox.open(ObjectReference(key=key)) as stored:
        return b"".join(stored.read())


def test_a_refused_list_is_corrected_checked_and_registered(site: Site) -> None:
    refused, _ = site.checked(LIST)
    answer = correct(site, refused, {4: GOOD, 5: {**GOOD, "name": "Cem"}})
    copy = answer.json["id"]

    assert (answer.status, answer.json["state"]) == (202, "checking")
    assert answer.headers["Location"] == f"/api/uploads/{copy}"
    assert content(site, copy) == (
        b"\xef\xbb\xbfnote,age,name,country\r\nfirst,41,Ann,Norway\r\n\r\nsecond,30,Ben,X\r\n,30,Cem,X\r\n"
    )
    assert correct(site, refused, {4: GOOD, 5: {**GOOD, "name": "Cem"}}).json["id"] == copy
    site.check(copy)
    assert site.names() == []
    assert site.register(copy, site.state(copy)["check"]["etag"]).status == 202
    site.import_all()
    assert site.names() == ["Ann", "Ben", "Cem"]


def test_rows_that_are_still_wrong_are_rejected_again(site: Site) -> None:
    """By the same lines, as they are now."""
    refused, _ = site.checked(LIST)
    copy = correct(site, refused, {4: {**GOOD, "age": "thirty"}}).json["id"]
    site.check(copy)
    rows = site.ask("GET", f"/api/uploads/{copy}/rejections").json["rows"]

    assert [(row["line"], row["cells"].get("age")) for row in rows] == [(4, "thirty"), (5, "")]


@given(
    cells=st.lists(
        st.text("aB \",;'=é山", min_size=1, max_size=5).map(lambda text: f"x{text}x"), min_size=2, max_size=2
    ),
    delimiter=st.sampled_from(",;\t"),
    pack=st.sampled_from([bytes, gzip.compress]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp932"]),
)
def test_any_cell_reaches_the_copy_of_any_list(
    cells: list[str],
    delimiter: str,
    pack: Callable[[bytes], bytes],
    encoding: str,
) -> None:
    site = Site.in_memory(STRICT)
    rows = (USERS.columns, ("Ann", "山", "41"), ("Ben", "X", "old"), ("Cem", "山", "3"))
    data = "\r".join(delimiter.join(row) for row in rows).encode(encoding)
    refused, _ = site.checked(pack(data))
    corrected = dict(zip(USERS.columns, [*cells, "7"], strict=True))
    copy = correct(site, refused, {3: corrected}).json["id"]

    receipt = site.check(copy)

    assert (receipt.counts.registered, receipt.counts.rejected) == (3, 0)
    site.register(copy, site.state(copy)["check"]["etag"])
    site.import_all()
    assert [(user.name, user.country, user.age) for user in site.users.users()][1] == (*cells, 7)


@given(rest=st.text('a,"\r\n ', max_size=40))
def test_all_other_rows_of_the_copy_are_those_of_the_list(rest: str) -> None:
    """On their lines, however their quotes and line ends are."""
    site = Site.in_memory(STRICT)
    data = f"name,country,age\nBen,X,old\n{rest}".encode()
    refused, _ = site.checked(data)
    copy = correct(site, refused, {2: GOOD}).json["id"]

    def records(content: bytes) -> list[Record]:
        reader = RecordReader(iter([content.removeprefix(codecs.BOM_UTF8)]))
        return [record for record in iter(lambda: reader.take(","), None) if record.line != 2]

    assert records(content(site, copy)) == records(data)


def test_a_row_that_is_not_in_the_list_is_not_corrected(site: Site) -> None:
    """The header, a line inside a row, and a line behind the end are no rows."""
    refused, _ = site.checked(b'name,country,age\n"A\nn",X,1\nBen,X,old\n')
    answer = correct(site, refused, {1: GOOD, 3: GOOD, 4: GOOD, 9: GOOD})

    assert is_problem(answer, 422, "nothing-to-correct")
    assert [pointer for pointer, _ in pointers(answer)] == ["/rows/0/line", "/rows/1/line", "/rows/3/line"]


def test_a_row_that_is_too_long_to_copy_is_corrected_too(site: Site) -> None:
    refused, _ = site.checked(b"name,country,age\nAnn,X,1\n" + b"y" * (2 * 1024 * 1024) + b",X,2\nBen,X,old\n")

    assert is_problem(correct(site, refused, {4: GOOD}), 422, "record-too-long")
    copy = correct(site, refused, {3: GOOD, 4: GOOD}).json["id"]
    assert site.check(copy).counts.registered == 3


def refused_for_its_columns(site: Site) -> Any:  # noqa: ANN401 - what `correct` takes
    return site.checked(b"name,country\nAnn,X\n")[0], {2: GOOD}


def good(site: Site) -> Any:  # noqa: ANN401 - as above
    return site.checked(b"name,country,age\nAnn,X,1\n")[0], {2: GOOD}


def of_corrected_rows(site: Site) -> Any:  # noqa: ANN401 - as above
    return site.checked(b"name,country,age,rollcall_line,rollcall_import\nAnn,X,1,x,i1\n")[0], {2: GOOD}


@pytest.mark.parametrize("listed", [refused_for_its_columns, good, of_corrected_rows])
def test_no_other_list_is_corrected_here(site: Site, listed: Any) -> None:  # noqa: ANN401 - a function above
    assert is_problem(correct(site, *listed(site)), 422, "nothing-to-correct")


def test_only_the_list_that_was_seen_is_corrected(site: Site) -> None:
    refused, etag = site.checked(LIST)
    unchecked = site.send(LIST)

    assert is_problem(correct(site, refused, {4: GOOD}, by="ben"), 404, "not-found")
    assert is_problem(correct(site, refused, {4: GOOD}, etag='"other"'), 409, "changed-since-check")
    assert is_problem(correct(site, unchecked, {4: GOOD}, etag=etag), 409, "not-checked")
    assert is_problem(correct(site, refused, {4: {**GOOD, "name": '"' + "\n" * 100}}), 422, "malformed-quoting")


def test_a_large_list_is_not_corrected_here(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    refused, _ = site.checked(gzip.compress(LIST * 2))
    monkeypatch.setattr("rollcall.application.correct_list.MAX_BYTES", len(LIST))

    assert is_problem(correct(site, refused, {4: GOOD}), 413, "size-limit")
