"""Fixtures: the command line with its files, and the Lambdas with their bucket and queues."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rollcall.entrypoints import import_lambda
from rollcall.settings import read_settings
from support.builders import MORE, MORE_CELLS, WRITTEN, completed
from support.chain import Chain, Wire, chained
from support.command_line import LARGE, CommandLine
from support.receipts import require_files_as_published

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def rollcall(tmp_path: Path, database_url: str) -> Iterator[CommandLine]:
    """`rollcall` in an empty folder, with a database without users."""
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
    """A file of four good and four bad rows."""
    return _copy(EXAMPLES / "messy_users.csv", tmp_path)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file that takes about a second to import, so that an import can be stopped midway."""
    path = tmp_path / "large.csv"
    with path.open("w", encoding="ascii") as file:
        file.write(",".join([*MORE, *WRITTEN]) + "\n")
        file.writelines(f"{MORE_CELLS}Canary {number},Somewhere,{number % 100}\n" for number in range(LARGE))
    return path


@pytest.fixture
def chain(
    s3_endpoint: str,
    s3_client: "S3Client",
    new_bucket: Callable[[bool], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Chain:
    """A new bucket with versioning, as deployed, and new queues."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", s3_endpoint)
    return chained(s3_client, new_bucket(True))  # noqa: FBT003 - with versions


@pytest.fixture
def wired() -> Iterator[Wire]:
    """Make the import Lambda for some settings."""
    with ExitStack() as held:
        yield lambda settings: import_lambda.wire(read_settings(settings), held)


def _copy(example: Path, folder: Path) -> Path:
    path = folder / example.name
    path.write_bytes(completed(example.read_bytes()))
    return path
