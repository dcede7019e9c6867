"""A list on this machine: from its upload over its verdict to users, corrections and undo."""

import csv
import io
import json
import time
from pathlib import Path
from typing import Any

from support.builders import completed
from support.command_line import CommandLine
from support.forms import form, multipart_type
from support.served import SECONDS, Server, serving

LIST = completed("name,country,age\nAnn,Norway,41\nBen,日本,thirty\nCleo,Chile,x\n".encode("cp932"))


def test_a_list_goes_from_upload_to_undo(tmp_path: Path) -> None:
    rollcall = CommandLine(
        tmp_path,
        {
            "ROLLCALL_DATA": str(tmp_path / "data"),
            "ROLLCALL_ENCODINGS": "cp932",
            "ROLLCALL_DATABASE_URL": "memory:",
        },
    )
    with serving(rollcall) as server:
        upload = _uploaded(server, LIST)
        checked = _reached(server, upload, "checked")
        assert _get(server, "/api/imports")["imports"] == []
        assert checked["check"]["receipt"]["counts"]["rejected"] == 2

        registration = f"{upload}/registration"
        answered = server.ask("PUT", registration, body=b"{}", If_Match=checked["check"]["etag"])
        assert answered.status == 202
        _reached(server, upload, "registered")
        [receipt] = _get(server, "/api/imports")["imports"]
        one = f"/api/imports/{receipt['import_id']}"
        file = server.ask("GET", f"{one}/rejected")
        rejected = list(csv.DictReader(io.StringIO(file.body.decode("cp932"))))
        assert (file.status, [row["name"] for row in rejected]) == (200, ["Ben", "Cleo"])
        assert file.headers["Content-Disposition"].startswith("attachment")

        rows = [
            {"line": row["line"], "cells": {**row["cells"], "age": "30"}}
            for row in _get(server, f"{one}/rejections")["rows"]
        ]
        corrections = _post(server, f"{one}/corrections", {"rows": rows})
        _reached(server, corrections["links"]["self"], "registered")
        assert len(_get(server, "/api/users")["users"]) == 3

        [correcting, first] = _get(server, "/api/imports")["imports"]
        assert correcting["corrects"] == first["import_id"]
        for each in correcting, first:
            _post(server, f"/api/imports/{each['import_id']}/undo", {})
        assert _get(server, "/api/users")["users"] == []


def _uploaded(server: Server, data: bytes) -> str:
    """Upload a file as the page does, and return the path of the upload."""
    started = _post(server, "/api/uploads", {"filename": "users.csv", "size": len(data)})
    body = form(started["fields"], data)
    sent = server.ask("POST", started["url"], body=body, Content_Type=multipart_type(), Authorization="")
    assert sent.status == 201
    return f"/api/uploads/{started['id']}"


def _reached(server: Server, upload: str, state: str) -> Any:  # noqa: ANN401 - any JSON
    deadline = time.monotonic() + SECONDS
    while (found := _get(server, upload))["state"] != state:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def _get(server: Server, path: str) -> Any:  # noqa: ANN401 - any JSON
    answered = server.ask("GET", path)
    assert answered.status == 200, answered.body
    return answered.json


def _post(server: Server, path: str, value: object) -> Any:  # noqa: ANN401 - any JSON
    answered = server.ask("POST", path, body=json.dumps(value).encode())
    assert answered.status < 300, answered.body
    return answered.json
