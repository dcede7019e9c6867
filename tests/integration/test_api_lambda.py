"""The functions of the Web API with real PostgreSQL, each as its role."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from rollcall.entrypoints.api_lambda import answer_in_time, wire
from rollcall.settings import read_settings
from support.api_events import http_event, token
from support.aws_events import Context, lambda_log
from support.builders import cells_of
from support.command_line import CommandLine, imports, users
from support.database_roles import IMPORTER, OPERATOR, acting_as

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


def _ask(url: str, role: str, method: str, path: str, **described: Any) -> tuple[int, Any, str]:  # noqa: ANN401 - any JSON
    """Ask a function that connects as a role. Return the status and the body of the answer, and the log."""
    settings = read_settings({"ROLLCALL_DATABASE_URL": acting_as(role, url)})
    with lambda_log() as log, ExitStack() as held:
        answer = answer_in_time(
            wire(settings, held), http_event(method, path, **described), cast("LambdaContext", Context())
        )
    return answer["statusCode"], json.loads(answer["body"]), log.getvalue()


@pytest.fixture
def sampled(tmp_path: Path, database_url: str, sample: Path) -> str:
    """A database with an import of five users."""
    assert CommandLine(tmp_path, {"ROLLCALL_DATABASE_URL": database_url})("import", sample).code == 0
    return database_url


def test_the_api_function_cannot_delete_a_user(sampled: str) -> None:
    """Not even if a request to undo reached it: it connects as the importer."""
    status, problem, log = _ask(sampled, IMPORTER, "POST", "/api/imports/1/undo", body="{}")

    assert status == 503
    assert problem["type"].endswith("unavailable")
    assert "permission denied" in log
    assert len(users(sampled)) == 5
    assert imports(sampled) == [("loaded", 5)]


def test_the_undo_function_undoes_and_registers_nobody(sampled: str) -> None:
    """It connects as the operator, who cannot add users."""
    user = json.dumps(cells_of())

    added, *_ = _ask(sampled, OPERATOR, "POST", "/api/users", body=user, headers={"idempotency-key": "k"})
    undone, receipt, _ = _ask(sampled, OPERATOR, "POST", "/api/imports/1/undo", body="{}")

    assert added == 503
    assert (undone, receipt["undone"]) == (200, True)
    assert users(sampled) == []


def test_an_uploader_may_not_undo(sampled: str) -> None:
    """Whichever function is asked."""
    for role in IMPORTER, OPERATOR:
        status, *_ = _ask(
            sampled, role, "POST", "/api/imports/1/undo", body="{}", authorizer=token(scope="rollcall/upload")
        )
        assert status == 403
    assert len(users(sampled)) == 5
