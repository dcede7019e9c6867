"""What the fuzzer found once, and what showed it most, in seconds."""

import json

import pytest

from fuzz.checks import check
from fuzz.kept import PATH, read

LINES = PATH.read_text("ascii").splitlines()


@pytest.mark.parametrize("line", LINES, ids=[str(json.loads(line)["about"]) for line in LINES])
def test_what_was_found_once_is_found_no_more(line: str) -> None:
    """Each upload under the settings that it was found with, held against all that `checks` knows."""
    check(read(line))
