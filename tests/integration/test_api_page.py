"""`rollcall serve` gives the answers that docs/api.md records."""

import json
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from support.command_line import CommandLine
from support.receipts import ROOT
from support.served import Server, serving

PAGE = "docs/api.md"
SECONDS = 30

_block = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_member = re.compile(r"# the `([a-z.]+)` of the answer")
_variable = re.compile(r"\$(\w+)")
_ours = re.compile(r"^http://127\.0\.0\.1:8765")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    """A running `rollcall serve` with an empty database."""
    rollcall = CommandLine(tmp_path, {"ROLLCALL_DATABASE_URL": "memory:", "ROLLCALL_DATA": str(tmp_path / "data")})
    with serving(rollcall) as server:
        yield server


def test_serve_gives_the_recorded_answers(served: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every character is equal, except white space between lines and what an ellipsis stands for."""
    monkeypatch.chdir(ROOT)
    variables = {"TOKEN": served.token}
    answer = ""
    played = 0
    for kind, block in _block.findall((ROOT / PAGE).read_text(encoding="utf-8")):
        if kind == "python":
            api = f"http://127.0.0.1:{served.port}/api"
            known = {"API": api, "started": json.loads(answer), "Path": Path, "httpx": httpx, "urljoin": urljoin}
            exec(block, known)  # noqa: S102 - what the page says
            continue
        for command, recorded in _recorded(block):
            if command.startswith("export "):
                _export(command, answer, variables)
            if command.startswith("curl "):
                answer = _answered(served, command, recorded, variables)
                played += 1

    assert played > 2


def _recorded(block: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a block with its recorded output."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.replace("\\\n", " ").partition("\n")
        yield command, output


def _export(command: str, answer: str, variables: dict[str, str]) -> None:
    """Set the variables that a command exports; an ellipsis is the member of the answer that the comment names."""
    for word in shlex.split(command, comments=True)[1:]:
        name, _, value = word.partition("=")
        if value != "…":
            variables[name] = _filled_in(value, variables)
        elif member := _member.search(command):
            found = json.loads(answer)
            for part in member[1].split("."):
                found = found[part]
            variables[name] = str(found)


def _answered(served: Server, command: str, recorded: str, variables: dict[str, str]) -> str:
    """Send a request until its answer is the recorded one; an upload is judged and imported meanwhile."""
    deadline = time.monotonic() + SECONDS
    while not re.fullmatch(_pattern(recorded), _squeezed(answer := _sent(served, command, variables))):
        reads = "--json" not in command
        assert reads and time.monotonic() < deadline, f"{command}\n{answer}"  # noqa: PT018 - one message for both
        time.sleep(0.05)
    return answer


def _filled_in(text: str, variables: dict[str, str]) -> str:
    return _variable.sub(lambda found: variables[found[1]], text)


def _sent(served: Server, command: str, variables: dict[str, str]) -> str:
    """Send the request of a command of curl, and return the answer."""
    words = [
        word if f"'{word}'" in command else _filled_in(word, variables)
        for word in shlex.split(command, comments=True)
    ][1:]
    method, headers, body = "GET", {"Authorization": "", "Content-Type": ""}, None
    addresses = []
    while words:
        match words.pop(0):
            case "-H":
                name, _, value = words.pop(0).partition(": ")
                headers[name.replace("-", "_")] = value
            case "-X":
                method = words.pop(0)
            case "--json":
                method, body = method if "-X" in command else "POST", words.pop(0).encode()
                headers["Content_Type"] = "application/json"
            case address:
                addresses.append(address)
    [address] = addresses
    assert _ours.match(address)
    return served.ask(method, _ours.sub("", address), body=body, **headers).body.decode()


def _pattern(recorded: str) -> str:
    return ".*".join(map(re.escape, _squeezed(recorded).split("…")))


def _squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)
