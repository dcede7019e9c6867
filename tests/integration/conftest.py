"""The command line and the files that it is given."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.command_line import LARGE, CommandLine
from receipts import require_files_as_published

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def rollcall(tmp_path: Path, database_url: str) -> Iterator[CommandLine]:
    """`rollcall` in an empty folder and with a database in which nothing is registered."""
    command_line = CommandLine(tmp_path, {"ROLLCALL_DATABASE_URL": database_url})
    yield command_line
    command_line.end_all()
    require_files_as_published(tmp_path)


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A file of five good rows."""
    return _copy(EXAMPLES / "sample_users.csv", tmp_path)


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """A file of four good rows and four bad ones."""
    return _copy(EXAMPLES / "messy_users.csv", tmp_path)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file that takes a second or so to import, so that there is a middle of it."""
    path = tmp_path / "large.csv"
    with path.open("w", encoding="ascii") as file:
        file.write("name,country,age\n")
        file.writelines(f"Canary {number},Somewhere,{number % 100}\n" for number in range(LARGE))
    return path


def _copy(example: Path, folder: Path) -> Path:
    path = folder / example.name
    path.write_bytes(example.read_bytes())
    return path
