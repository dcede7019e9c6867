"""The core knows no command line: entry points word the commands and settings."""

import re
from pathlib import Path

import pytest

ROOMS = Path(__file__).parents[2] / "src/rollcall"
COMMAND_LINE = re.compile(
    r"ROLLCALL_[A-Z]|`rollcall |run: rollcall|\brollcall (import|migrate|undo|check|watch)\b|README"
)


@pytest.mark.parametrize("room", ["domain", "application", "adapters"])
def test_the_core_names_no_command_and_no_setting(room: str) -> None:
    found = [
        f"{path}:{number}: {line.strip()}"
        for path in (ROOMS / room).rglob("*.py")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if COMMAND_LINE.search(line)
    ]

    assert found == []
