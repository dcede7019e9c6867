"""Files from public suites and from the field, and the verdict on each (tests/cases, tests/field)."""

from collections.abc import Callable

import pytest

from case_files import CASES, EXPECTED, FIELD, Outcome, checked, each_case, imported, require_stored_as_expected
from rollcall.adapters.memory import MemoryUserRepository


def test_every_case_is_there() -> None:
    """Each file has its verdict, and each verdict its file."""
    in_field = {path.name for path in FIELD.iterdir()} - {"README.md", "expected.json"}

    assert {path.stem for path in CASES.glob("*.csv")} | in_field == set(EXPECTED)


def _imported_into_memory(name: str) -> Outcome:
    return imported(name, MemoryUserRepository())


@pytest.mark.parametrize("judge", [checked, _imported_into_memory], ids=["check", "memory"])
@each_case
def test_a_case_gets_the_verdict_that_is_expected(name: str, judge: Callable[[str], Outcome]) -> None:
    """Status, code, users in order, and of every rejected row its line, columns and codes."""
    require_stored_as_expected(name, judge(name))
