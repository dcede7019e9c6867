"""The round trip on the page for uploaders, played again."""

import json
import re
from pathlib import Path

from integration.command_line import CommandLine

PAGE = Path(__file__).parents[2] / "docs/csv.md"


def test_the_round_trip_that_is_recorded_is_what_happens(rollcall: CommandLine) -> None:
    """From a messy file to no rejection, to the letter but for the time it took."""
    section = PAGE.read_text(encoding="utf-8").split("## A round trip\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    (_, messy), (_, first), (_, rejected), (_, mended), (_, second) = blocks
    returned = rollcall.folder / first.split()[-1]

    (rollcall.folder / "users.csv").write_text(messy, encoding="utf-8")

    assert _played(rollcall, first) == _without_time(first)
    assert returned.read_text(encoding="utf-8-sig") == rejected

    returned.write_text(mended, encoding="utf-8")

    assert _played(rollcall, second) == _without_time(second)
    [receipt] = Path(f"{returned}.rollcall").rglob("receipt.json")
    assert json.loads(receipt.read_bytes())["corrects"] == 1
    assert [kind for kind, _ in blocks] == ["csv", "console", "csv", "csv", "console"]


def _played(rollcall: CommandLine, recorded: str) -> str:
    """Give the same commands, and record what they say."""
    commands = re.findall(r"^\$ rollcall (.*)$", recorded, re.MULTILINE)
    said = [f"$ rollcall {command}\n{rollcall(*command.split()).out}" for command in commands]
    return _without_time("\n".join(said))


def _without_time(recorded: str) -> str:
    return re.sub(r"\d+\.\d\d s, [\d,]+ rows/s", "", recorded)
