"""Awkward CSVs from public suites, and what must be said of each (tests/cases/README.md)."""

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rollcall.domain.receipt import REJECTIONS_SHOWN
from unit.desk import Desk

CASES = Path(__file__).parent.parent / "cases"
EXPECTED: dict[str, dict[str, Any]] = json.loads((CASES / "expected.json").read_text("utf-8"))


def test_every_case_is_there() -> None:
    """Each file has its verdict, and each verdict its file."""
    assert {path.stem for path in CASES.glob("*.csv")} == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_case_gets_the_verdict_that_is_expected(name: str) -> None:
    """Status, code, users in order, and of every rejected row its line, columns and codes."""
    expected = EXPECTED[name]
    rejected = expected["rejected"]
    desk = Desk()
    receipt = desk.load(desk.drop((CASES / f"{name}.csv").read_bytes()))

    assert (receipt.status, receipt.code) == (expected["status"], expected["code"])
    assert receipt.counts.read == len(expected["accepted"]) + len(rejected)
    assert receipt.counts.rejected == len(rejected)
    if receipt.status.registers:
        assert [list(row) for row in desk.rows()] == expected["accepted"]
    else:
        assert desk.rows() == []
        assert receipt.counts.withheld == len(expected["accepted"])
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
    assert _lines_of(desk) == [row["line"] for row in rejected]


def _lines_of(desk: Desk) -> list[int]:
    """The lines that stand in the file of rejected rows."""
    files = [data for key, data in desk.stored().items() if not key.endswith("/receipt.json")]
    return [
        int(row["rollcall_line"])
        for data in files
        for row in csv.DictReader(_without_separator_line(data.decode("utf-8-sig")), strict=True)
    ]


def _without_separator_line(text: str) -> io.StringIO:
    return io.StringIO(text.split("\r\n", 1)[1] if text.startswith("sep=") else text, newline="")
