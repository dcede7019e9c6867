"""A client that openapi-python-client generates from docs/openapi.json uses `rollcall serve`."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest

from support.builders import ANN
from support.command_line import CommandLine
from support.receipts import ROOT
from support.served import Server, serving

MESSY = ROOT / "examples/messy_users.csv"
PACKAGE = "rollcall_client"
SECONDS = 60


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of the generated package. The generator must understand all of the document."""
    folder = tmp_path_factory.mktemp("generated")
    programs = Path(sys.executable).parent
    done = subprocess.run(  # noqa: S603 - our own words
        [
            *(programs / "openapi-python-client", "generate", "--path", ROOT / "docs/openapi.json"),
            *("--output-path", folder / PACKAGE, "--meta", "none", "--fail-on-warning"),
        ],
        cwd=folder,
        env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},  # it formats with ruff
        capture_output=True,
        timeout=SECONDS,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield PACKAGE


# Bodies that the document defines by a name; the others are named after their operation.
NAMED = {"register_user": "NewUser"}


@attrs.frozen
class Client:
    """The generated client.

    Attributes:
        package: Its name.
        server: The server that it uses.
    """

    package: str
    server: Server

    @property
    def address(self) -> str:
        """The beginning of every address."""
        return f"http://127.0.0.1:{self.server.port}"

    def __call__(self, operation: str, body: Mapping[str, Any] | None = None, **parameters: Any) -> Any:  # noqa: ANN401 - each operation has types of its own
        """Call an operation, and return its answer."""
        module = import_module(f"{self.package}.api.default.{operation}")
        if body is not None:
            name = NAMED.get(operation) or "".join(map(str.capitalize, [*operation.split("_"), "body"]))
            parameters["body"] = getattr(import_module(f"{self.package}.models"), name).from_dict(body)
        authenticated = import_module(self.package).AuthenticatedClient(
            self.address, token=self.server.token, raise_on_unexpected_status=True
        )
        with authenticated as client:
            return module.sync(client=client, **parameters)

    def until(self, upload: str, reached: Callable[[Any], bool]) -> Any:  # noqa: ANN401 - see `__call__`
        """Ask for an upload until it reaches a state, and return that."""
        deadline = time.monotonic() + SECONDS
        while not reached(state := self("get_upload", id=upload)):
            assert time.monotonic() < deadline, state
            time.sleep(0.05)
        return state


@pytest.fixture
def client(generated: str, tmp_path: Path) -> Iterator[Client]:
    """The client of a server with an empty database."""
    rollcall = CommandLine(tmp_path, {"ROLLCALL_DATABASE_URL": "memory:", "ROLLCALL_DATA": str(tmp_path / "data")})
    with serving(rollcall) as server:
        yield Client(generated, server)


def test_the_client_registers_a_user(client: Client) -> None:
    user = attrs.asdict(ANN)

    receipt = client("register_user", user, idempotency_key="ann")
    again = client("register_user", user, idempotency_key="ann")

    assert receipt.to_dict() == again.to_dict()
    assert (receipt.import_id, receipt.counts.registered) == (1, 1)
    [listed] = client("list_users").users
    assert listed.user.to_dict() == user
    assert client("register_user", {**user, "age": "x"}, idempotency_key="b").status == 422


def test_the_client_uploads_registers_corrects_and_undoes(client: Client) -> None:
    data = MESSY.read_bytes()
    started = client("start_upload", {"filename": MESSY.name, "size": len(data)})
    form = httpx.post(f"{client.address}{started.url}", data=started.fields.to_dict(), files={"file": data})
    assert form.status_code == 201
    checked = client.until(started.id, lambda state: state.check)
    assert checked.check.receipt.counts.rejected == 4
    assert client("list_imports").imports == []

    client("register_upload", {}, id=started.id, if_match=checked.check.etag)
    registered = client.until(started.id, lambda state: state.import_).import_
    assert registered.receipt.counts.registered == 4
    first, *_ = client("get_import_rejections", id=registered.id).rows
    rows = [{"line": first.line, "cells": {**first.cells.to_dict(), "age": "30"}}]
    correcting = client("correct_rows", {"rows": rows}, id=registered.id)
    correction = client.until(correcting.id, lambda state: state.import_).import_
    assert (correction.receipt.corrects, correction.receipt.counts.registered) == (registered.id, 1)
    assert len(client("list_users").users) == 5

    assert client("undo_import", {}, id=registered.id).status == 409  # its correction has to be undone first
    for import_id in correction.id, registered.id:
        assert client("undo_import", {}, id=import_id).undone
    assert client("list_users").users == []
