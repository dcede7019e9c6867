"""The built package answers any request as the OpenAPI document says."""

from pathlib import Path

import pytest

from rollcall.entrypoints.api import ROUTES
from support.behind_http import TOKEN, behind_http
from support.generated_requests import RARE, reached, register_file, register_users, send_generated
from support.stack import stacked


def test_the_package_answers_generated_requests_as_documented(
    package: Path, s3_endpoint: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", s3_endpoint)
    stack = stacked(package, s3_endpoint, "generated", DatabaseUrl=database_url, DatabaseCa="")
    log: list[str] = []
    with stack.running("ApiFunction") as function, behind_http(function, log.append) as address:
        with stack.running("CheckFunction") as check, stack.running("ImportFunction") as importing:

            def work() -> None:
                stack.deliver(check, stack.inbox)
                stack.deliver(importing)

            upload = register_file(address, TOKEN, work)
        register_users(address, TOKEN)
        send_generated(address, TOKEN, tmp_path, upload)

    assert {route.name for route in ROUTES} - reached(log) <= RARE
