"""Replay findings of the fuzzer and the inputs that covered most."""

import json

import pytest

from support.fuzz_checks import check
from support.kept import PATH, read

LINES = PATH.read_text("ascii").splitlines()


@pytest.mark.parametrize("line", LINES, ids=[str(json.loads(line)["about"]) for line in LINES])
def test_a_kept_upload_passes_every_check(line: str) -> None:
    """Each upload has its own settings."""
    check(read(line))
