"""Suites hold tests and nothing else; what they share is in tests/support."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SUITES = {"browser", "unit", "contracts", "integration", "deployment", "faults", "fuzz", "hygiene"}


def test_every_folder_of_python_is_a_suite_or_support() -> None:
    assert {path.parent.name for path in TESTS.rglob("*.py")} == {*SUITES, "support", TESTS.name}


@pytest.mark.parametrize("suite", sorted(SUITES))
def test_a_suite_holds_only_tests(suite: str) -> None:
    modules = {path.name for path in (TESTS / suite).rglob("*.py")}

    assert {name for name in modules if not name.startswith("test_")} <= {"conftest.py"}


@pytest.mark.parametrize("module", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_nothing_imports_from_a_suite(module: Path) -> None:
    nodes = list(ast.walk(ast.parse(module.read_text("utf-8"))))
    imported = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    imported += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]

    assert not {name.removeprefix("tests.").partition(".")[0] for name in imported} & SUITES
