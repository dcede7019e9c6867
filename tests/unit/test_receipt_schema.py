"""The published schema refuses everything that is not a receipt, so passing it means something."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.application.receipts import from_dict, to_json
from rollcall.domain.receipt import Status
from rollcall.domain.rejection import Code
from support.fakes import Desk
from support.receipts import (
    SCHEMA,
    as_published,
    is_as_published,
    require_as_published,
    require_files_as_published,
)

Place = tuple[str | int, ...]

MIXED = b"name,country,age,note\nAnn,Norway,41,\nBen,,x,\nCem,Norway\n"


def _receipts() -> dict[str, Any]:
    """Return a receipt of each status as JSON, made by imports."""
    desk = Desk()
    delivered = desk.drop(MIXED, "mixed.csv")
    made = {
        "loaded": desk.load(desk.drop(b"name,country,age\nAnn,Norway,41\n", "good.csv")),
        "partially_loaded": desk.load(delivered),
        "refused": desk.load(desk.drop(b"name,country,age\nAnn,Norway,x\n", "bad.csv")),
        "skipped": desk.load(delivered),
    }
    return {name: json.loads(to_json(receipt)) for name, receipt in made.items()}


RECEIPTS = _receipts()
PARTLY = RECEIPTS["partially_loaded"]

statuses = pytest.mark.parametrize("status", list(Status))


def _paths(shown: Any, so_far: Place = ()) -> Iterator[Place]:  # noqa: ANN401 - any JSON
    """Yield the path of every value in JSON."""
    inside = shown.items() if isinstance(shown, dict) else enumerate(shown) if isinstance(shown, list) else ()
    for name, value in inside:
        yield (*so_far, name)
        yield from _paths(value, (*so_far, name))


def _at(shown: Any, path: Place) -> Any:  # noqa: ANN401 - any JSON
    for name in path:
        shown = shown[name]
    return shown


def _with(shown: Any, path: Place, value: Any) -> Any:  # noqa: ANN401 - any JSON
    changed = copy.deepcopy(shown)
    _at(changed, path[:-1])[path[-1]] = value
    return changed


@statuses
def test_a_receipt_of_each_status_passes(status: Status) -> None:
    """With every part filled, so that the tests below cover it."""
    assert RECEIPTS[status]["status"] == status
    assert is_as_published(RECEIPTS[status])
    assert RECEIPTS["skipped"]["first_receipt"] == PARTLY
    assert [len(PARTLY[part]) for part in ("totals", "rejections")] == [3, 2]


@statuses
def test_a_receipt_without_one_of_its_fields_is_refused(status: Status) -> None:
    """Any field of any part."""
    for path in _paths(RECEIPTS[status]):
        if isinstance(path[-1], str):
            lacking = copy.deepcopy(RECEIPTS[status])
            del _at(lacking, path[:-1])[path[-1]]

            assert not is_as_published(lacking), path


@statuses
def test_a_receipt_with_another_field_is_refused(status: Status) -> None:
    """In any part."""
    for path in [(), *_paths(RECEIPTS[status])]:
        if isinstance(_at(RECEIPTS[status], path), dict):
            assert not is_as_published(_with(RECEIPTS[status], (*path, "more"), None)), path


@statuses
@pytest.mark.parametrize("wrong", [{"no": "such thing"}, [[]], True, -1, 0.5, "", "no such thing"], ids=repr)
def test_a_value_of_the_wrong_type_is_refused(status: Status, wrong: object) -> None:
    """Every field of a receipt has a type; texts of the uploader are texts."""
    texts = {"bucket", "key", "version", "encoding", "message", "rejected_rows", "unique_by", "column"}
    for path in _paths(RECEIPTS[status]):
        name = path[-2] if isinstance(path[-1], int) else path[-1]
        fits = isinstance(wrong, str) and name in {*texts, "ignored_columns"}
        fits |= wrong == 0.5 and name == "seconds"
        fits |= wrong is True and name == "last_line_ended"
        if not fits:
            assert not is_as_published(_with(RECEIPTS[status], path, wrong)), path


@statuses
@pytest.mark.parametrize("code", [None, *Code])
def test_each_status_has_codes_of_its_own(status: Status, code: Code | None) -> None:
    """A code of another status is refused, and so is a missing or an extra message."""
    kind = {"refused": "refusal_code", "skipped": "skip_code"}.get(status)
    its_own = set(SCHEMA["$defs"][kind]["enum"]) if kind else {None if status == "loaded" else "rows-rejected"}
    shown = _with(RECEIPTS[status], ("code",), code)

    assert is_as_published(shown) == (code in its_own)
    assert not is_as_published(_with(shown, ("message",), None if shown["message"] else "a sentence"))


@given(status=st.sampled_from(list(Status)), other=st.sampled_from(list(Status)))
def test_a_receipt_under_another_status_is_refused(status: Status, other: Status) -> None:
    """Its other fields contradict that status."""
    assert is_as_published(_with(RECEIPTS[status], ("status",), other)) == (status is other)


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("started",), "2026-01-01T00:00:00"),
        (("started",), "2026-01-01 00:00:00+00:00"),
        (("source", "last_modified"), "yesterday"),
        (("source", "sha256"), "A" * 64),
        (("source", "sha256"), "a" * 63),
        (("source", "delimiter"), ",,"),
        (("source", "compression"), "zip"),
        (("policy", "max_rejected"), "some"),
        (("policy", "on_duplicate"), "import"),
        (("counts", "withheld"), 1),
        (("counts", "rejected"), 0),
        (("rejections", 0, "line"), 0),
        (("rejections", 0, "faults"), []),
        (("rejections", 0, "faults", 0, "code"), "rows-rejected"),
        (("rejections",), PARTLY["rejections"] * 51),
        (("rejections",), []),
        (("totals",), []),
        (("totals", 0, "count"), 0),
        (("import_id",), 0),
        (("first_receipt",), RECEIPTS["loaded"]),
        (("undone",), "no"),
    ],
    ids=str,
)
def test_an_impossible_value_is_refused(path: Place, wrong: object) -> None:
    """Its type is right."""
    assert not is_as_published(_with(PARTLY, path, wrong))


@pytest.mark.parametrize("first", ["refused", "skipped"])
def test_the_first_receipt_of_a_redelivery_registered_users(first: str) -> None:
    """A refused or skipped upload is judged again."""
    assert not is_as_published(_with(RECEIPTS["skipped"], ("first_receipt",), RECEIPTS[first]))


def test_a_receipt_that_is_not_as_published_fails_its_test(tmp_path: Path) -> None:
    """Returned by an import or found in a file, it fails that test."""
    receipt = from_dict(PARTLY)
    (tmp_path / "receipt.json").write_text(json.dumps({**PARTLY, "code": "repeat"}), encoding="ascii")

    with pytest.raises(AssertionError, match=r"not as published at \$.code"):
        as_published(attrs.evolve(receipt, code=Code.REPEAT))
    with pytest.raises(AssertionError, match=r"not as published at \$.code"):
        require_files_as_published(tmp_path)


@pytest.mark.parametrize("count", ["read", "registered", "rejected"])
def test_a_receipt_that_loses_a_row_fails_its_test(count: str) -> None:
    counts = {**PARTLY["counts"], count: PARTLY["counts"][count] + 1}

    with pytest.raises(AssertionError, match="a row is lost or counted twice"):
        require_as_published({**PARTLY, "counts": counts})
