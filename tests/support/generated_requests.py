"""Requests to the Web API that schemathesis generates from the OpenAPI document, and compares the answers with it.

`./dev fuzz-api` runs the long form. For pytest, set FUZZ_API_LONG=1 and FUZZ_API_SEED.
"""

import os
import random
import re
import subprocess
import sys
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path

import attrs
import httpx

from rollcall.entrypoints.api import ROUTES
from support.builders import ANN
from support.receipts import ROOT

LONG = bool(os.environ.get("FUZZ_API_LONG"))

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
    for number in range(3):
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": f"user-{number}"}
        answer = httpx.post(
            f"{address}/api/users", json=attrs.asdict(ANN), headers=headers, timeout=_REQUEST_SECONDS
        )
        assert answer.status_code == HTTPStatus.CREATED


def send_generated(address: str, token: str, folder: Path) -> None:
    """Ask the Web API with generated requests, good and bad, alone and in a row.

    Args:
        address: The beginning of every address.
        token: A token with both scopes.
        folder: An empty folder.

    Raises:
        AssertionError: An answer is not as documented.
    """
    default = random.randrange(2**32) if LONG else 1  # noqa: S311 - no secret
    seed = int(os.environ.get("FUZZ_API_SEED", default))
    done = subprocess.run(  # noqa: S603 - our own words
        [
            *(Path(sys.executable).with_name("schemathesis"), "--config-file", _CONFIGURATION, "--no-color"),
            *("run", ROOT / "docs/openapi.json", "--url", address, "--checks", "all"),
            *("--max-examples", str(_EXAMPLES), "--seed", str(seed), "--request-timeout", str(_REQUEST_SECONDS)),
        ],
        cwd=folder,
        env={**os.environ, "TOKEN": token},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_SECONDS,
        check=False,
        text=True,
    )
    print(done.stdout)  # noqa: T201 - pytest shows it if the test fails
    assert done.returncode == 0, f"FUZZ_API_SEED={seed}\n{done.stdout}"


def unreached(log: Iterable[str]) -> set[str]:
    """Return the routes that never answered a generated request with a success.

    Args:
        log: The lines of `rollcall serve` about its requests.
    """
    reached = {found[1] for line in log if (found := _line.fullmatch(line.strip())) and found[2] < "400"}
    return {f"{route.method} {route.path}" for route in ROUTES} - reached
