"""The documentation agrees with the code about codes, settings and receipts."""

import re
import textwrap
from pathlib import Path

import attrs
import pytest

from rollcall.domain.rejection import Code
from rollcall.domain.user import USERS
from rollcall.entrypoints import record_page
from rollcall.settings import PREFIX, Settings
from support.receipts import SCHEMA

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_every_code_has_its_row_on_the_page_for_uploaders() -> None:
    """And every row of the page has a code."""
    page = (DOCS / "csv.md").read_text(encoding="utf-8")

    rows = set(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE))

    assert {code.value for code in Code} - {Code.ROWS_REJECTED.value} == rows
    assert f"`{Code.ROWS_REJECTED.value}`" in page


def test_the_published_schema_knows_every_code() -> None:
    """And no other code."""
    codes = [set(SCHEMA["$defs"][kind]["enum"]) for kind in ("row_code", "refusal_code", "skip_code")]

    assert {code.value for code in Code} == set.union(*codes, {Code.ROWS_REJECTED.value})


@pytest.mark.parametrize("code", list(Code))
def test_every_code_has_a_sentence(code: Code) -> None:
    """The sentence reads well after a label: "age is of the wrong kind"."""
    sentence = f"age {code.says}"

    assert re.fullmatch(r"age [a-z][\w ]+", sentence)


@pytest.mark.parametrize("field", attrs.fields(Settings))
def test_every_setting_has_its_row_in_the_readme(field: "attrs.Attribute[object]") -> None:
    """With its default, its description and its allowed values, word for word."""
    default = f"`{field.default}`" if field.default else ""
    row = (
        f"| `{PREFIX}{field.name.upper()}` | {default} | {field.metadata['what']} | {field.metadata['allowed']} |"
    )

    assert row in (ROOT / "docs/configuration.md").read_text(encoding="utf-8").splitlines()


def test_every_test_that_the_threat_model_names_exists() -> None:
    """A control without a test is no control."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "SECURITY.md").read_text(encoding="utf-8"))

    assert len(named) > 20
    for path, name in named:
        assert re.search(rf"^ *def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), name


def test_the_page_for_uploaders_has_the_table_of_the_record() -> None:
    """As `rollcall record --markdown` prints it."""
    page = (ROOT / "docs/csv.md").read_text(encoding="utf-8")

    assert textwrap.indent(record_page.table(USERS), "  ") in page


def test_the_readme_names_every_column() -> None:
    """An uploader must not have to read code."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    assert all(f"| `{column}` |" in readme for column in USERS.columns)
