"""`rollcall serve` answers any request as the OpenAPI document says."""

from pathlib import Path

from rollcall.entrypoints.api import ROUTES
from support.command_line import CommandLine
from support.generated_requests import RARE, reached, register_file, register_users, send_generated
from support.served import serving


def test_serve_answers_generated_requests_as_documented(tmp_path: Path) -> None:
    log = tmp_path / "log"
    rollcall = CommandLine(tmp_path, {"ROLLCALL_DATABASE_URL": "memory:", "ROLLCALL_DATA": str(tmp_path / "data")})
    with log.open("wb") as err, serving(rollcall, err=err.fileno()) as server:
        address = f"http://127.0.0.1:{server.port}"
        upload = register_file(address, server.token)
        register_users(address, server.token)
        send_generated(address, server.token, tmp_path, upload)

    assert {route.name for route in ROUTES} - reached(log.read_text("utf-8").splitlines()) <= RARE
