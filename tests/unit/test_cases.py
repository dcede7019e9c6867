"""Files from public suites (tests/cases) and from the field (tests/field), and their verdicts."""

from collections.abc import Callable

import pytest

from rollcall.adapters.memory import MemoryUserRepository
from support.case_files import (
    CASES,
    EXPECTED,
    FIELD,
    Outcome,
    checked,
    each_case,
    imported,
    require_stored_as_expected,
)


def test_every_file_has_a_verdict_and_every_verdict_a_file() -> None:
    in_field = {path.name for path in FIELD.iterdir()} - {"README.md", "expected.json"}

    assert {path.stem for path in CASES.glob("*.csv")} | in_field == set(EXPECTED)


def _imported_into_memory(name: str) -> Outcome:
    return imported(name, MemoryUserRepository())


@pytest.mark.parametrize("judge", [checked, _imported_into_memory], ids=["check", "memory"])
@each_case
def test_a_case_gets_its_expected_verdict(name: str, judge: Callable[[str], Outcome]) -> None:
    """The verdict: status, code, users in order, and the line, columns and codes of each rejected row."""
    require_stored_as_expected(name, judge(name))
