"""The built package answers any request as the OpenAPI document says."""

from pathlib import Path

import pytest

from support.behind_http import TOKEN, behind_http
from support.generated_requests import reached, register_users, send_generated
from support.stack import stacked


def test_the_package_answers_generated_requests_as_documented(
    package: Path, s3_endpoint: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", s3_endpoint)
    stack = stacked(package, s3_endpoint, "generated", DatabaseUrl=database_url, DatabaseCa="")
    log: list[str] = []
    with stack.running("ApiFunction") as function, behind_http(function, log.append) as address:
        register_users(address, TOKEN)
        send_generated(address, TOKEN, tmp_path)

    assert reached(log) >= {
        "register_user",
        "list_users",
        "get_import",
        "list_imports",
        "undo_import",
        "check_rows",
    }
