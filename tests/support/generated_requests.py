"""Requests to the Web API that schemathesis generates from the OpenAPI document, and compares the answers with it.

`./dev fuzz-api` runs the long form. For pytest, set FUZZ_API_LONG=1 and FUZZ_API_SEED.
"""

import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from string import Template
from typing import Any

import attrs
import httpx

from rollcall.entrypoints.api import ROUTES
from support.builders import ANN
from support.receipts import ROOT

LONG = bool(os.environ.get("FUZZ_API_LONG"))

# A correction needs the line of a rejected row that is not yet corrected, or a list that its check refused. A file
# of the page needs its name.
RARE = {"correct_list", "correct_rows", "get_asset"}

_EXAMPLES = 200 if LONG else 6  # for each operation
_SECONDS = 3600 if LONG else 300
_REQUEST_SECONDS = 30
_CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
_line = re.compile(r"([A-Z]+ \S+) ([0-9]{3}) [0-9]+ ms")


def register_users(address: str, token: str) -> None:
    """Register three users, because imports 1 to 3 are asked for most often: see schemathesis.toml.

    Args:
        address: The beginning of every address.
        token: A token with both scopes.
    """
    with _client(address, token) as client:
        for number in range(3):
            headers = {"Idempotency-Key": f"user-{number}"}
            assert client.post("/api/users", json=attrs.asdict(ANN), headers=headers).is_success


def register_file(address: str, token: str, work: Callable[[], object] = lambda: None) -> str:
    """Upload a file with rejected rows, register it, and return the id of the upload.

    Args:
        address: The beginning of every address.
        token: A token with both scopes.
        work: Called where a file waits for its check or its import; does nothing if a worker runs.
    """
    data = (ROOT / "examples/messy_users.csv").read_bytes()
    with _client(address, token) as client:
        started = client.post("/api/uploads", json={"filename": "users.csv", "size": len(data)}).json()
        assert client.post(started["url"], data=started["fields"], files={"file": data}).is_success
        work()
        path = f"/api/uploads/{started['id']}"
        check = _until(client, path, "check")
        answer = client.put(f"{path}/registration", json={}, headers={"If-Match": check["etag"]})
        assert answer.is_success
        work()
        _until(client, path, "import")
    return str(started["id"])


def _client(address: str, token: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=address, headers=headers, timeout=_REQUEST_SECONDS)


def _until(client: httpx.Client, path: str, member: str) -> Any:  # noqa: ANN401 - any JSON
    """Ask for an upload until it has a member, and return that."""
    deadline = time.monotonic() + _REQUEST_SECONDS
    while not (found := client.get(path).json()[member]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def send_generated(address: str, token: str, folder: Path, upload: str = "none") -> None:
    """Ask the Web API with generated requests, good and bad, alone and in a row.

    Args:
        address: The beginning of every address.
        token: A token with both scopes.
        folder: An empty folder.
        upload: The id of an upload.

    Raises:
        AssertionError: An answer is not as documented.
    """
    default = random.randrange(2**32) if LONG else 1  # noqa: S311 - no secret
    seed = int(os.environ.get("FUZZ_API_SEED", default))
    configuration = folder / _CONFIGURATION.name
    filled_in = Template(_CONFIGURATION.read_text(encoding="utf-8")).substitute(TOKEN=token, UPLOAD=upload)
    configuration.write_text(filled_in, encoding="utf-8")
    done = subprocess.run(  # noqa: S603 - our own words
        [
            *(Path(sys.executable).with_name("schemathesis"), "--config-file", configuration, "--no-color"),
            *("run", ROOT / "docs/openapi.json", "--url", address, "--checks", "all"),
            *("--max-examples", str(_EXAMPLES), "--seed", str(seed), "--request-timeout", str(_REQUEST_SECONDS)),
        ],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_SECONDS,
        check=False,
        text=True,
    )
    print(done.stdout)  # noqa: T201 - pytest shows it if the test fails
    assert done.returncode == 0, f"FUZZ_API_SEED={seed}\n{done.stdout}"


def reached(log: Iterable[str]) -> set[str]:
    """Return the names of the routes that answered with a success.

    Args:
        log: The lines of `rollcall serve` about its requests.
    """
    found = {line[1] for line in map(_line.fullmatch, map(str.strip, log)) if line and line[2] < "400"}
    return {route.name for route in ROUTES if f"{route.method} {route.path}" in found}
