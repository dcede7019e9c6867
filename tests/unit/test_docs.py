"""What the documentation says of codes, settings and receipts is what the code does."""

import json
import re
from pathlib import Path

import pytest

from rollcall.domain.rejection import Code

DOCS = Path(__file__).parents[2] / "docs"


def test_every_code_has_its_row_on_the_page_for_uploaders() -> None:
    """And the page has none that does not exist."""
    page = (DOCS / "csv.md").read_text(encoding="utf-8")

    rows = set(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE))

    assert {code.value for code in Code} - {Code.ROWS_REJECTED.value} == rows
    assert f"`{Code.ROWS_REJECTED.value}`" in page


def test_the_published_schema_knows_every_code() -> None:
    """And no other."""
    schema = json.loads((DOCS / "receipt.schema.json").read_text(encoding="utf-8"))

    assert {code.value for code in Code} == set(schema["$defs"]["code"]["enum"])


@pytest.mark.parametrize("code", list(Code))
def test_every_code_says_something(code: Code) -> None:
    """Read after a label: "age is not a whole number"."""
    sentence = f"age {code.says}"

    assert re.fullmatch(r"age [a-z][\w ]+", sentence)
