"""`rollcall serve` gives the answers that docs/api.md and README.md record."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.command_line import CommandLine
from support.receipts import ROOT
from support.served import Server, serving

PAGES = ("docs/api.md", "README.md")

_block = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_variable = re.compile(r"\$(\w+)")
_ours = re.compile(r"^http://127\.0\.0\.1:8765")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    """A running `rollcall serve` with an empty database."""
    rollcall = CommandLine(tmp_path, {"ROLLCALL_DATABASE_URL": "memory:", "ROLLCALL_DATA": str(tmp_path / "data")})
    with serving(rollcall) as server:
        yield server


@pytest.mark.parametrize("page", PAGES)
def test_serve_gives_the_recorded_answers(served: Server, page: str) -> None:
    """Every character is equal, except white space between lines and what an ellipsis stands for."""
    variables = {"TOKEN": served.token}
    played = 0
    for command, recorded in _recorded((ROOT / page).read_text(encoding="utf-8")):
        if command.startswith("export "):
            for name, value in _exported(command).items():
                variables.setdefault(name, _filled_in(value, variables))
        if command.startswith("curl "):
            answer = _sent(served, command, variables)
            assert re.fullmatch(_pattern(recorded), _squeezed(answer)), f"{command}\n{answer}"
            played += 1

    assert played > 2


def _recorded(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a page with its recorded output."""
    for block in _block.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.replace("\\\n", " ").partition("\n")
            yield command, output


def _exported(command: str) -> dict[str, str]:
    """Return the variables that a command exports."""
    return dict(word.split("=", 1) for word in shlex.split(command, comments=True)[1:])


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
                method, body = "POST", words.pop(0).encode()
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
