"""The rejected rows of an import are corrected in the browser, each once, in every encoding."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.adapters.memory import MemoryObjectStore
from rollcall.domain.receipt import Receipt, Status
from rollcall.domain.user import USERS, User
from support.api_events import Answered, is_problem, pointers
from support.builders import a_user, cells_of
from support.site import LIST, Site

GOOD = cells_of("Ben", "X", "30")


@pytest.fixture(params=["memory", "folder"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    """An installation in memory, and one in folders."""
    return Site.in_memory() if request.param == "memory" else Site.in_folders(tmp_path)


def correct(
    site: Site, import_id: int, *rows: tuple[int, dict[str, str]], by: str = "ann", **proof: str | None
) -> Answered:
    send = {"rows": [{"line": line, "cells": cells, **proof} for line, cells in rows]}
    return site.ask("POST", f"/api/imports/{import_id}/corrections", by=by, send=send)


def follow(site: Site, address: str) -> Answered:
    """Get what is at an address with a query."""
    path, _, query = address.partition("?")
    return site.ask("GET", path, query=dict(parse_qsl(query)))


def last(receipts: Sequence[Receipt], import_id: int) -> Receipt:
    """Return the receipt of the import that corrects another."""
    [found] = [receipt for receipt in receipts if receipt.corrects == import_id]
    return found


def without_reports(site: Site) -> Site:
    """Return an installation that lost its reports."""
    site.stores = attrs.evolve(site.stores, reports=MemoryObjectStore("reports"))
    return site


def proofs(site: Site, path: str) -> list[str | None]:
    """Return the proofs of the rejected rows of a check or an import."""
    return [row["proof"] for row in site.ask("GET", f"{path}/rejections").json["rows"]]


def test_a_corrected_row_is_imported_once(site: Site) -> None:
    import_id = site.loaded()

    first = correct(site, import_id, (3, GOOD))
    again = correct(site, import_id, (3, GOOD))
    receipt = last(site.import_all(), import_id)
    late = correct(site, import_id, (3, GOOD))

    assert (first.status, first.json["state"]) == (202, "registering")
    assert first.headers["Location"] == first.json["links"]["self"]
    assert again.json == first.json
    assert (receipt.status, receipt.counts.registered) == (Status.LOADED, 1)
    assert (late.status, late.json["id"], late.json["state"]) == (202, first.json["id"], "registered")
    assert site.names() == ["Ann", "Cem", "Ben"]


def test_a_second_correction_of_a_row_is_refused(site: Site) -> None:
    import_id = site.loaded()
    correct(site, import_id, (3, GOOD))
    site.import_all()

    answered = correct(site, import_id, (3, {**GOOD, "age": "31"}))

    assert is_problem(answered, 409, "already-corrected")
    assert pointers(answered) == [("/rows/0/line", "already-corrected")]


def test_rows_are_corrected_in_several_rounds(site: Site) -> None:
    """A page of rejected rows says which are corrected."""
    import_id = site.loaded(b"name,country,age\nAnn,X,old\nBen,X,old\nCem,X,old\nDan,X,1\n")
    for line, name in (4, "Cem"), (2, "Ann"):
        assert correct(site, import_id, (line, {**GOOD, "name": name})).status == 202
        site.import_all()

    assert site.names() == ["Dan", "Cem", "Ann"]
    rows = site.ask("GET", f"/api/imports/{import_id}/rejections").json["rows"]
    assert [row["line"] for row in rows if row["corrected"]] == [2, 4]


def test_a_row_that_is_still_bad_is_rejected_again(site: Site) -> None:
    """Its correction has rejected rows of its own, which can be corrected."""
    import_id = site.loaded(b"name,country,age\nAnn,X,old\nBen,X,old\nCem,X,1\n")
    bad = cells_of("Ann", "=1+1", "older")
    corrected = correct(site, import_id, (2, bad), (3, GOOD)).json
    site.import_all()
    second = site.state(corrected["id"])["import"]["id"]

    [row] = site.ask("GET", f"/api/imports/{second}/rejections").json["rows"]
    assert (row["line"], row["cells"]) == (2, bad)
    assert correct(site, second, (2, {**bad, "age": "40"})).status == 202
    site.import_all()
    assert site.names() == ["Cem", "Ben", "Ann"]
    assert [user.country for user in site.users.users()] == ["X", "X", "=1+1"]


@pytest.mark.parametrize("line", [1, 2, 4, 99])
def test_a_line_that_was_not_rejected_cannot_be_corrected(site: Site, line: int) -> None:
    """Not even with a line that was: all or nothing."""
    import_id = site.loaded()

    answered = correct(site, import_id, (3, GOOD), (line, GOOD))

    assert is_problem(answered, 422, "nothing-to-correct")
    assert pointers(answered) == [("/rows/1/line", "nothing-to-correct")]
    assert len(list(site.stores.uploads.list())) == 1


def test_a_cell_that_looks_like_an_origin_is_none(site: Site) -> None:
    """Without its proof, nobody can correct a row that was not rejected."""
    forged = ",i1-2-000000000000000000000000\r\n,i1-3-000000000000000000000000\r\n"
    import_id = site.loaded(f'name,country,age\nAnn,X,1\n"Ben{forged}",X,old\n'.encode())
    assert import_id == 1

    assert correct(site, import_id, (2, GOOD)).status == 422
    assert correct(site, import_id, (3, GOOD)).status == 202


def test_a_line_is_corrected_once_a_request(site: Site) -> None:
    answered = correct(site, site.loaded(), (3, GOOD), (3, GOOD))

    assert is_problem(answered, 422, "nothing-to-correct")


def test_nothing_is_corrected_after_an_undo(site: Site) -> None:
    import_id = site.loaded()
    site.users.undo(import_id, site.now())

    assert is_problem(correct(site, import_id, (3, GOOD)), 409, "undone")


def test_a_row_can_be_corrected_again_after_an_undo(site: Site) -> None:
    """The undo of its correction."""
    import_id = site.loaded()
    first = correct(site, import_id, (3, GOOD)).json["id"]
    site.import_all()
    site.users.undo(site.state(first)["import"]["id"], site.now())

    second = correct(site, import_id, (3, GOOD)).json["id"]
    site.import_all()

    assert second != first
    assert site.names() == ["Ann", "Cem", "Ben"]


def test_a_file_that_was_refused_has_nothing_to_correct(site: Site) -> None:
    upload_id, etag = site.checked()
    site.register(upload_id, etag)
    site.settings = Site.in_memory({"ROLLCALL_MAX_REJECTED": "0"}).settings
    site.import_all()
    import_id = site.state(upload_id)["import"]["id"]

    [proof] = proofs(site, f"/api/imports/{import_id}")

    assert is_problem(correct(site, import_id, (3, GOOD)), 422, "nothing-to-correct")
    assert is_problem(correct(site, import_id, (3, GOOD), proof=proof), 422, "nothing-to-correct")


def test_a_cell_that_no_file_can_contain_is_refused(site: Site) -> None:
    answered = correct(site, site.loaded(), (3, {**GOOD, "name": "\n" * 100}))

    assert is_problem(answered, 422, "malformed-quoting")
    assert pointers(answered) == [("/rows/0/cells/name", "malformed-quoting")]


def test_a_file_of_rejected_rows_that_is_gone_is_a_problem() -> None:
    site = Site.in_memory()
    import_id = site.loaded()
    without_reports(site)

    assert is_problem(correct(site, import_id, (3, GOOD)), 409, "source-gone")
    assert is_problem(site.ask("GET", f"/api/imports/{import_id}/rejections"), 404, "not-found")


def test_a_row_with_its_proof_needs_no_file() -> None:
    """However large the file is, none of it is read."""
    site = Site.in_memory()
    import_id = site.loaded()
    [proof] = proofs(site, f"/api/imports/{import_id}")

    answered = correct(without_reports(site), import_id, (3, GOOD), proof=proof)

    assert answered.status == 202
    assert last(site.import_all(), import_id).counts.registered == 1


@pytest.mark.parametrize("line", [2, 3])
def test_a_proof_of_something_else_proves_nothing(line: int) -> None:
    """The file is asked, as without a proof."""
    site = Site.in_memory()
    import_id, other = site.loaded(), site.loaded(b"name,country,age\nEve,X,1\nDan,X,old\n", "other.csv")
    [proof], [of_other] = (proofs(site, f"/api/imports/{number}") for number in (import_id, other))
    assert proof
    wrong = [of_other, f"{proof[:-1]}{'0' if proof[-1] != '0' else '1'}", proof.replace("-3-", "-2-"), "x", None]

    for one in (*wrong, proof):
        assert is_problem(correct(site, import_id, (2, GOOD), proof=one), 422, "nothing-to-correct")
    without_reports(site)
    for one in wrong:
        assert is_problem(correct(site, import_id, (line, GOOD), proof=one), 409, "source-gone")


def test_the_rejected_rows_of_a_check_have_no_proof(site: Site) -> None:
    upload_id, _ = site.checked()

    assert proofs(site, f"/api/uploads/{upload_id}") == [None]


def test_a_file_of_rejected_rows_changed_by_hand_is_a_problem(site: Site) -> None:
    import_id = site.loaded()
    [key] = [listed.reference.key for listed in site.stores.reports.list() if "rejected-" in listed.reference.key][
        -1:
    ]
    site.stores.reports.put(key, io.BytesIO(b"name,country,age\nBen,X,3\n"))

    assert is_problem(correct(site, import_id, (3, GOOD)), 409, "source-changed")


@pytest.mark.parametrize("encoding", ["utf-16", "cp932"])
def test_ten_thousand_rows_are_corrected_by_one_import(encoding: str) -> None:
    site = Site.in_memory()
    lines = "".join(f"山田{number},日本,老\r\n" for number in range(10_000))
    import_id = site.loaded(f"name,country,age\r\n太郎,日本,7\r\n{lines}".encode(encoding))
    shown: list[Any] = []
    following = f"/api/imports/{import_id}/rejections?limit=1000"
    while following:
        page = follow(site, following).json
        shown += page["rows"]
        following = page["next"]
    rows = [(row["line"], {**row["cells"], "age": "30"}) for row in shown]

    first, again = correct(site, import_id, *rows), correct(site, import_id, *reversed(rows))
    receipt = last(site.import_all(), import_id)

    assert (first.status, again.json["id"]) == (202, first.json["id"])
    assert (receipt.status, receipt.counts.registered, receipt.corrects) == (Status.LOADED, 10_000, import_id)
    assert correct(site, import_id, *rows).json["state"] == "registered"
    assert list(site.users.users(receipt.import_id))[9_999] == a_user("山田9999", "日本", 30)
    assert is_problem(correct(site, import_id, *rows, (99_999, GOOD)), 413, "size-limit")


@given(st.lists(st.text(max_size=12), min_size=len(GOOD), max_size=len(GOOD)))
def test_corrected_cells_are_imported_as_they_were_sent(cells: list[str]) -> None:
    """A formula, a quote or a line end is no other text in the file."""
    site = Site.in_memory()
    import_id = site.loaded()
    sent = dict(zip(GOOD, cells, strict=True))
    expected = USERS.parse(cells)

    answered = correct(site, import_id, (3, sent))
    if answered.status == 400:  # a lone surrogate
        return
    receipt = last(site.import_all(), import_id)

    assert answered.status == 202
    if isinstance(expected, User):
        assert list(site.users.users(receipt.import_id)) == [expected]
    else:
        assert receipt.rejections[0].faults == expected


def test_the_file_of_rejected_rows_is_downloaded_by_a_link(site: Site) -> None:
    import_id = site.loaded()

    answered = site.ask("GET", f"/api/imports/{import_id}/rejected")

    assert (answered.status, answered.text) == (303, "")
    assert "rejected-" in answered.headers["Location"]
    if answered.headers["Location"].startswith("file://"):
        assert b"Ben" in Path(answered.headers["Location"].removeprefix("file://")).read_bytes()


def test_an_import_without_rejected_rows_has_no_file(site: Site) -> None:
    import_id = site.loaded(b"name,country,age\nAnn,Norway,41\n")

    assert is_problem(site.ask("GET", f"/api/imports/{import_id}/rejected"), 404, "not-found")
    assert site.ask("GET", f"/api/imports/{import_id}/rejections").json == {"rows": [], "next": None}


def test_pages_are_linked(site: Site) -> None:
    import_id = site.loaded(LIST + b"Dan,X,old\nEve,X,old\n")
    path = f"/api/imports/{import_id}/rejections"

    first = site.ask("GET", path, query={"limit": "2"})
    following = first.json["next"]
    rest = follow(site, following)
    wrong = follow(site, following + "3")

    assert first.headers["Link"] == f'<{following}>; rel="next"'
    assert following.startswith(f"{path}?limit=2&after=")
    assert [row["line"] for row in first.json["rows"] + rest.json["rows"]] == [3, 5, 6]
    assert ("Link" in rest.headers, rest.json["next"]) == (False, None)
    assert wrong.json == {"rows": [], "next": None}  # far behind the end
    number = int(following.rpartition("=")[2])
    wrong = follow(site, following.replace(str(number), str(number + 3)))
    assert is_problem(wrong, 400, "invalid-request")
    assert pointers(wrong) == [("/after", "out-of-range")]


def test_the_corrections_of_an_import_are_found_by_its_number(site: Site) -> None:
    """However many imports came after them; only by their uploader, and by operators."""
    import_id = site.loaded()
    correct(site, import_id, (3, GOOD))
    site.import_all()
    for number in range(3):
        site.loaded(LIST + f"Eve,X,{number}\n".encode(), f"{number}.csv")

    def found(by: str, number: int = import_id) -> list[int]:
        listed = site.ask("GET", "/api/imports", by=by, query={"corrects": str(number), "limit": "1"})
        assert listed.json["next"] is None
        return [one["corrects"] for one in listed.json["imports"]]

    assert (found("ann"), found("ben"), found("ann", 10**6)) == ([import_id], [], [])
