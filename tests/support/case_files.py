"""The files of tests/cases and tests/field, their expected verdicts, and checks of an outcome."""

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import pytest

from rollcall import bootstrap
from rollcall.adapters.memory import MemoryObjectStore
from rollcall.application.header import IMPORT, LINE
from rollcall.application.import_users import ImportUsers
from rollcall.application.ports import UserRepository
from rollcall.application.reports import Reports
from rollcall.domain.receipt import REJECTIONS_SHOWN, Receipt, Status
from rollcall.settings import read_settings
from support.builders import completed, written
from support.receipts import as_published

CASES = Path(__file__).parents[1] / "cases"
FIELD = Path(__file__).parents[1] / "field"


def _expected(folder: Path) -> dict[str, dict[str, Any]]:
    expected: dict[str, dict[str, Any]] = json.loads((folder / "expected.json").read_text("utf-8"))
    return expected


def _expected_in_field() -> dict[str, dict[str, Any]]:
    """Read the expected verdicts of tests/field, in the form of tests/cases."""
    parts = "line", "fields", "codes"
    return {
        name: {**case, "rejected": [dict(zip(parts, row, strict=True)) for row in case["rejected"]]}
        for name, case in _expected(FIELD).items()
    }


EXPECTED = {**_expected(CASES), **_expected_in_field()}

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_copies = TemporaryDirectory(prefix="cases")

each_case = pytest.mark.parametrize("name", sorted(EXPECTED))


@attrs.frozen
class Outcome:
    """Result of one case through one entry point.

    Attributes:
        receipt: The receipt.
        rejected_rows: The rejected-rows file; None if none was stored.
        users: The users as stored; None if the entry point stores none.
    """

    receipt: Receipt
    rejected_rows: bytes | None
    users: Sequence[Sequence[str | int]] | None


@cache
def path_of(name: str) -> Path:
    """Return the path of a copy of a case with every column, see `completed`.

    Args:
        name: The name of the case; the names of field cases include the extension.
    """
    original = FIELD / name if "." in name else CASES / f"{name}.csv"
    copy = Path(_copies.name) / original.name
    copy.write_bytes(completed(original.read_bytes()))
    return copy


def checked(name: str) -> Outcome:
    """Judge a case as `rollcall check` does, but keep the rejected rows."""
    return _outcome(bootstrap.checker(read_settings({})), name, None)


def imported(name: str, users: UserRepository) -> Outcome:
    """Import a case as `rollcall import` does."""
    return _outcome(bootstrap.import_users(read_settings({}), users), name, users)


def _outcome(importer: ImportUsers, name: str, users: UserRepository | None) -> Outcome:
    reports = MemoryObjectStore()
    reference = bootstrap.file_reference(path_of(name))
    receipt = as_published(attrs.evolve(importer, reports=Reports(store=reports))(reference))
    rejected_rows = None
    for report in (listed.reference for listed in reports.list()):
        if not report.key.endswith("/receipt.json"):
            assert receipt.rejected_rows == f"memory:{report.key}"
            with reports.open(report) as stored:
                rejected_rows = b"".join(stored.read())
    registered = None if users is None else [written(user) for user in users.users()]
    return Outcome(receipt, rejected_rows, registered)


def require_as_expected(name: str, receipt: Receipt) -> None:
    """Check a receipt against the expected verdict of a case.

    Raises:
        AssertionError: Status, code, message, ignored columns, a count, or the line, columns or codes of a
            rejected row differ.
    """
    expected = EXPECTED[name]
    accepted, rejected = len(expected["accepted"]), expected["rejected"]

    assert receipt.status == expected["status"]
    # Some cases leave the code of a refusal open, but there must be one.
    assert receipt.code == (expected["code"] or (receipt.code if expected["status"] == "refused" else None))
    assert receipt.status is Status.LOADED or receipt.code
    message = receipt.message or ""
    assert "ROLLCALL_" not in message
    assert [part for part in expected.get("message_has", ()) if part not in message] == []
    assert [part for part in expected.get("message_has_not", ()) if part in message] == []
    ignored = receipt.source.ignored_columns
    assert list(ignored) == expected.get("ignored", list(ignored))
    assert receipt.counts.read == accepted + len(rejected)
    assert receipt.counts.rejected == len(rejected)
    assert receipt.counts.registered == (accepted if receipt.status.registers else 0)
    assert receipt.counts.withheld == (0 if receipt.status.registers else accepted)
    assert [
        {
            "line": rejection.line,
            "fields": [fault.column for fault in rejection.faults if fault.column],
            "codes": [fault.code for fault in rejection.faults],
        }
        for rejection in receipt.rejections
    ] == rejected[:REJECTIONS_SHOWN]
    assert {(total.code, total.column): total.count for total in receipt.totals} == Counter(
        (code, row["fields"][at] if row["fields"] else None)
        for row in rejected
        for at, code in enumerate(row["codes"])
    )


def require_stored_as_expected(name: str, outcome: Outcome) -> None:
    """Check the receipt, the stored users and every rejected row of a case.

    Raises:
        AssertionError: A part differs from the expected verdict.
    """
    expected = EXPECTED[name]
    require_as_expected(name, outcome.receipt)
    if outcome.users is not None:
        accepted = expected["accepted"] if outcome.receipt.status.registers else []
        assert list(map(list, outcome.users)) == accepted
    header, *rows = _rows_of(outcome) or [[]]
    lines = [int(row[header.index(LINE)]) for row in rows]
    assert lines == [row["line"] for row in expected["rejected"]]


def require_alike(one: Outcome, other: Outcome) -> None:
    """Check that two entry points agree on a case, except for import id, time and place.

    Raises:
        AssertionError: They differ.
    """
    assert _without_run(one.receipt) == _without_run(other.receipt)
    assert _without_import(one) == _without_import(other)


def _without_run(receipt: Receipt) -> Receipt:
    return attrs.evolve(receipt, import_id=None, rejected_rows=None, remedies=(), started=EPOCH, seconds=0.0)


def _without_import(outcome: Outcome) -> list[list[str]]:
    header, *rows = _rows_of(outcome) or [[]]
    for row in rows:
        row[header.index(IMPORT)] = ""
    return [header, *rows]


def _rows_of(outcome: Outcome) -> list[list[str]]:
    """Read the rejected-rows file without losing a byte; return no rows if there is no file."""
    if outcome.rejected_rows is None:
        return []
    delimiter = outcome.receipt.source.delimiter or ""
    encoding = "utf-16" if outcome.receipt.source.encoding == "utf-16-le" else "utf-8-sig"
    text = outcome.rejected_rows.decode(encoding)
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    again = io.StringIO(newline="")
    csv.writer(again, delimiter=delimiter).writerows(rows)
    assert again.getvalue().encode(encoding) == outcome.rejected_rows
    return rows
