"""The command line gives the round trip that docs/csv.md records."""

import json
import re
from pathlib import Path

from support.command_line import CommandLine

PAGE = Path(__file__).parents[2] / "docs/csv.md"

# The proof of a rejected row differs in every ledger, and so does the SHA-256 in the file's name.
PROOF = re.compile(r"(?<=-)[0-9a-f]{24}\b")
FILE_NAME = re.compile(r"rejected-[0-9a-f]{12}\.csv")
TIME = re.compile(r"\d+\.\d\d s, [\d,]+ rows/s")


def test_the_command_line_gives_the_recorded_round_trip(rollcall: CommandLine) -> None:
    """Every character is equal, except times, proofs and the hash in the file's name."""
    section = PAGE.read_text(encoding="utf-8").split("## A round trip\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    (_, messy), (_, first), (_, rejected), (_, corrected), (_, second) = blocks

    (rollcall.folder / "users.csv").write_text(messy, encoding="utf-8")

    assert _played(rollcall, first) == _comparable(first)
    [returned] = (rollcall.folder / "users.csv.rollcall").rglob("rejected-*.csv")
    text = returned.read_text(encoding="utf-8-sig")
    assert _comparable(text) == _comparable(rejected)

    proofs = dict(zip(PROOF.findall(rejected), PROOF.findall(text), strict=True))
    returned.write_text(PROOF.sub(lambda found: proofs[found[0]], corrected), encoding="utf-8")

    assert _played(rollcall, FILE_NAME.sub(returned.name, second)) == _comparable(second)
    [receipt] = Path(f"{returned}.rollcall").rglob("receipt.json")
    assert json.loads(receipt.read_bytes())["corrects"] == 1
    assert [kind for kind, _ in blocks] == ["csv", "console", "csv", "csv", "console"]


def _played(rollcall: CommandLine, recorded: str) -> str:
    """Run the recorded commands, and return them with their output."""
    commands = re.findall(r"^\$ rollcall (.*)$", recorded, re.MULTILINE)
    said = [f"$ rollcall {command}\n{rollcall(*command.split()).out}" for command in commands]
    return _comparable("\n".join(said))


def _comparable(recorded: str) -> str:
    """Remove what differs in each run."""
    return PROOF.sub("", FILE_NAME.sub("", TIME.sub("", recorded)))
