"""`rollcall serve` in a process of its own: who is answered, large bodies, and the end."""

import http.client
import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, cast

import pytest

from support.builders import cells_of
from support.command_line import CommandLine, ended, imports, wait_until
from support.served import Reply, Server, serving

MIB = 1024 * 1024
# docs/performance.md has the figures of 1 GiB; a short form shows the same.
UPLOADED = 128 * MIB
MEMORY = 100 * MIB

ROW = cells_of("Ann", "Chile", "30")


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The inbox of `served`."""
    return tmp_path_factory.mktemp("served") / "inbox"


@pytest.fixture(scope="module")
def served(inbox: Path) -> Iterator[Server]:
    """A running `rollcall serve` with an inbox, for the tests that leave it as it was."""
    with serving(_in_memory(inbox.parent), inbox=inbox) as server:
        yield server


def _in_memory(folder: Path) -> CommandLine:
    return CommandLine(folder, {"ROLLCALL_DATABASE_URL": "memory:", "ROLLCALL_DATA": str(folder / "data")})


def _rows(*rows: dict[str, str]) -> bytes:
    return json.dumps({"rows": rows}).encode()


def test_each_of_many_requests_at_once_gets_its_own_answer(served: Server) -> None:
    """Powertools keeps the current event in a class."""

    def ages(number: int) -> list[str]:
        body = _rows({**ROW, "age": f"no-{number}"}, ROW)
        rows = served.ask("POST", "/api/rows/check", body=body).json["rows"]
        return [fault["message"] for row in rows for fault in row["faults"]]

    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(ages, range(200)))

    assert answers == [
        [f"age is 'no-{number}', not a whole number; give digits only, 0 to 150"] for number in range(200)
    ]


@pytest.mark.parametrize(
    "header",
    [
        {"Authorization": ""},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer \xe9"},
        {"Authorization": "Basic {token}"},
    ],
)
def test_a_caller_without_the_token_is_not_answered(served: Server, header: dict[str, str]) -> None:
    found: dict[str, Any] = {name: value.format(token=served.token) for name, value in header.items()}

    assert served.ask("GET", "/api/policy", **found).problem == (401, "not-signed-in")


def test_the_openapi_document_needs_no_token(served: Server) -> None:
    assert served.ask("GET", "/api/openapi.json", Authorization="").json["openapi"] == "3.1.0"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "evil.example:{port}", "0.0.0.0:{port}"]
)
def test_another_host_name_is_not_answered(served: Server, host: str) -> None:
    """A page of a host whose name leads to this machine may send requests, but must not read answers."""
    for path in "/api/openapi.json", "/api/policy", "/inbox", "/":
        assert served.ask("GET", path, Host=host.format(port=served.port)).problem == (421, "wrong-host")


def test_the_name_localhost_is_answered(served: Server) -> None:
    assert served.ask("GET", "/api/policy", Host=f"LocalHost:{served.port}").status == 200


@pytest.mark.parametrize("origin", ["null", "http://evil.example", "https://127.0.0.1:{port}", "http://127.0.0.1"])
def test_a_page_of_another_origin_changes_nothing(served: Server, inbox: Path, origin: str) -> None:
    header = origin.format(port=served.port)

    for path in "/api/rows/check", "/inbox":
        reply = served.ask("POST", path, body=_rows(ROW), Origin=header)
        assert reply.problem == (403, "foreign-origin")
    assert not list(inbox.rglob("*.csv"))


def test_our_own_origin_may_change_something(served: Server) -> None:
    origin = f"http://127.0.0.1:{served.port}"

    assert served.ask("POST", "/api/rows/check", body=_rows(ROW), Origin=origin).status == 200


def test_a_body_over_the_limit_is_answered(served: Server) -> None:
    """Not by a broken connection, although the client is still sending."""
    for _ in range(5):
        reply = served.ask("POST", "/api/rows/check", body=bytes(20 * MIB))
        assert reply.problem == (413, "size-limit")


def test_an_upload_over_the_limit_is_answered(tmp_path: Path) -> None:
    with serving(_in_memory(tmp_path), inbox=tmp_path / "inbox", ROLLCALL_MAX_UPLOAD_BYTES="1000") as server:
        reply = server.upload("large.csv", itertools.repeat(bytes(MIB), 20), 20 * MIB)

    assert reply.problem == (413, "size-limit")
    assert not (tmp_path / "inbox").exists()


def test_a_body_without_a_length_is_refused(served: Server) -> None:
    reply = served.ask("POST", "/api/rows/check", body=iter([_rows(ROW)]))

    assert reply.problem == (411, "length-required")


def test_a_connection_is_kept_after_a_refusal(served: Server) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        for _ in range(3):
            connection.sendall(
                b"POST /api/rows/check HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 5\r\n\r\nGET /"
            )
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert (answer.status, bool(answer.read())) == (421, True)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of another process's memory is in /proc")
@pytest.mark.parametrize(
    ("request_line", "header", "status"),
    [
        ("GET /api/policy HTTP/1.1", "Content-Length: canary", 400),
        ("GET /api/policy HTTP/1.1", "canary", 400),
        ("GET /api/policy HTTP/9.1", "Accept: */*", 505),
        ("POST /api/rows/check HTTP/1.1", "Transfer-Encoding: canary", 501),
        ("GET canary HTTP/1.1", "Accept: */*", 400),
        (f"GET /{'canary' * 11_000}", "", 414),
        ("GET /api/policy HTTP/1.1", "canary: " + "canary" * 11_000, 413),
    ],
)
def test_a_request_that_is_no_http_is_a_problem(
    served: Server, request_line: str, header: str, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        connection.sendall(f"{request_line}\r\nHost: 127.0.0.1:{served.port}\r\n{header}\r\n\r\n".encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        reply = Reply(answer.status, dict(answer.headers), answer.read())

    assert reply.problem == (status, "size-limit" if status in {413, 414} else "invalid-request")
    assert b"canary" not in reply.body
    assert reply.headers["Connection"] == "close"


def test_an_upload_is_never_held_whole(served: Server, inbox: Path) -> None:
    reply = served.upload("large", itertools.repeat(b"a" * MIB, UPLOADED // MIB), UPLOADED)

    assert (reply.status, reply.body) == (204, b"")
    assert (inbox / "large").stat().st_size == UPLOADED
    assert served.peak_bytes() < MEMORY


def test_an_upload_that_is_cut_off_leaves_nothing(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    with serving(_in_memory(tmp_path), inbox=inbox) as server:
        assert server.process.stderr
        server.cut_upload("web/cut.csv", bytes(3 * MIB), 100 * MIB)

        assert server.process.stderr.readline().startswith(b"POST /inbox 400 ")
        assert [path for path in inbox.rglob("*") if path.is_file()] == []


def test_a_form_that_was_not_signed_is_refused(tmp_path: Path) -> None:
    """No token is asked for, as in S3: the signature shows who asked for the form."""
    with serving(_in_memory(tmp_path)) as server:
        reply = server.upload("web/users.csv", [b"name,country,age\n"], 17)

    assert reply.problem == (403, "form-refused")
    assert not [path for path in (tmp_path / "data/inbox").rglob("*") if path.is_file()]


def test_uploads_that_a_killed_process_left_are_imported(
    rollcall: CommandLine, tmp_path: Path, sample: Path, database_url: str
) -> None:
    data = tmp_path / "data"
    upload = data / "uploads/web" / ("0" * 64) / ("1" * 40) / "users.csv"
    upload.parent.mkdir(parents=True)
    upload.write_bytes(sample.read_bytes())

    with serving(rollcall, ROLLCALL_DATA=str(data)):
        wait_until(lambda: imports(database_url) == [("loaded", 5)])


def test_the_log_shows_no_query_no_name_and_no_token(tmp_path: Path) -> None:
    with serving(_in_memory(tmp_path)) as server:
        server.ask("GET", "/api/policy?secret=canary")
        server.ask("GET", "/api/canary")
        server.ask("CANARY", "/api/policy")
        server.ask("POST", "/api/rows/check", body=_rows({**ROW, "name": "canary\x01"}))
        server.process.send_signal(signal.SIGINT)
        outcome = ended(server.process)

    logged = outcome.out + outcome.err
    assert "canary" not in logged.lower()
    assert server.token not in logged
    assert [line.rsplit(" ", 2)[0] for line in outcome.err.splitlines()] == [
        "GET /api/policy 400",
        "GET - 404",
        "- /api/policy 405",
        "POST /api/rows/check 200",
    ]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.com"])  # noqa: S104 - refused
def test_another_interface_is_refused(tmp_path: Path, host: str) -> None:
    outcome = _in_memory(tmp_path)("serve", "--host", host)

    assert outcome.code == 2
    assert outcome.sentence.startswith(f"{host} is no address of this machine alone")


def test_a_port_in_use_is_one_sentence(served: Server, tmp_path: Path) -> None:
    outcome = _in_memory(tmp_path)("serve", "--port", str(served.port))

    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.sentence == (
        f"cannot listen at 127.0.0.1:{served.port}: another program uses it;"
        " give another --port, or 0 for a free one"
    )


@pytest.mark.parametrize("package", ["cheroot", "multipart", "aws_lambda_powertools"])
def test_a_missing_package_is_one_sentence(tmp_path: Path, package: str) -> None:
    program = (
        f"import sys; sys.modules[{package!r}] = None; from rollcall.entrypoints.__main__ import main; main()"
    )

    outcome = ended(_in_memory(tmp_path).start("serve", program=(sys.executable, "-c", program)))

    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.sentence == (
        f"this command needs the package {package}: pip install 'rollcall[cli,embedded,serve]'"
    )


@pytest.mark.parametrize("length", ["-5", "many"])
def test_a_wrong_length_is_survived(served: Server, length: str) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        connection.sendall(
            f"POST /api/rows/check HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n"
            f"Content-Length: {length}\r\nConnection: close\r\n\r\n".encode()
        )
        assert connection.recv(MIB).startswith(b"HTTP/1.1 ")

    assert served.ask("GET", "/api/policy").status == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.embedded
def test_an_interrupt_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """No process, no lock, no open port; `rollcall watch` may run at the same time."""
    data = tmp_path / "data"
    rollcall = CommandLine(tmp_path, {"ROLLCALL_DATA": str(data), "ROLLCALL_UPLOADS": f"file://{data}/uploads"})
    with serving(rollcall) as server:
        watching = rollcall.start("watch", "--reports", str(data / "reports"))
        with socket.create_connection(("127.0.0.1", server.port), timeout=30):
            assert server.ask("GET", "/api/policy").status == 200
            assert b"watching" in cast("IO[bytes]", watching.stdout).readline()  # it takes signals from now on
            watching.send_signal(signal.SIGINT)
            ended(watching)
            server.process.send_signal(number)
            outcome = ended(server.process)

    assert (outcome.code, outcome.out) == (0, "")
    assert not (data / "postgres/postmaster.pid").exists()
    assert not _processes_in(data)
    with socket.create_server(("127.0.0.1", server.port)):
        pass


def _processes_in(folder: Path) -> list[str]:
    """Return the processes that work in a folder; on Linux only."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cwd"):
        try:
            at = os.readlink(process)  # noqa: PTH115 - `Path.readlink` is the same, with a path
        except OSError:  # it has ended, or is another user's
            continue
        if at.startswith(str(folder)):
            found.append(at)
    return found
