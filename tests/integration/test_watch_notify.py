"""`rollcall watch --notify`: outcomes posted to a URL, or given to a command."""

import json
import shlex
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import Popen
from typing import Any

import attrs
import pytest

from rollcall import bootstrap
from rollcall.adapters import webhook
from rollcall.adapters.webhook import Command, Webhook
from rollcall.application.errors import NotPublishedError
from rollcall.application.notification import GivenUpCode, upload_given_up
from rollcall.domain.upload import ObjectReference
from support.builders import completed_text
from support.command_line import CommandLine, Outcome, ended, users, wait_until

ANN = completed_text("name,country,age\nAnn,Chile,30\n")
BAD = completed_text("name,country,age\nBen,Chile,30\nCanary,Chile,Canary\n")
NOTIFICATION = upload_given_up(ObjectReference(bucket="b", key="a.csv"), GivenUpCode.LAST_TRY_FAILED)


@attrs.define
class Receiver:
    """A server that receives notifications.

    Attributes:
        status: The status of its answers.
        seconds: How long it waits before it answers.
        posted: Path, content type, authorization and body of each request.
    """

    status: int = 200
    seconds: float = 0
    url: str = ""
    posted: list[tuple[str, str | None, str | None, Any]] = attrs.Factory(list)
    stopped: threading.Event = attrs.Factory(threading.Event)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver."""
    receiver = Receiver()

    class Request(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            named = self.headers["Content-Type"], self.headers["Authorization"]
            receiver.posted.append((self.path, *named, body))
            receiver.stopped.wait(receiver.seconds)
            self.send_response(receiver.status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Request) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.stopped.set()
            server.shutdown()
            thread.join()


@contextmanager
def _watching(rollcall: CommandLine, notify: str, *options: str) -> Iterator[Popen[bytes]]:
    (rollcall.folder / "incoming").mkdir(exist_ok=True)
    command = ["watch", "incoming", "--interval", "0.1", "--json", "--notify", notify, *options]
    with rollcall.start(*command) as process:
        try:
            yield process
        finally:
            process.kill()


def _import(rollcall: CommandLine, process: Popen[bytes], name: str, text: str) -> dict[str, Any]:
    """Put a file in the folder, and return its receipt."""
    (rollcall.folder / "incoming" / name).write_text(text)
    assert process.stdout
    receipt: dict[str, Any] = json.loads(process.stdout.readline())
    return receipt


def _stopped(process: Popen[bytes]) -> Outcome:
    process.terminate()
    return ended(process)


def test_each_outcome_is_posted(rollcall: CommandLine, receiver: Receiver) -> None:
    """As JSON that names the receipt beside the file, and shows no cell."""
    with _watching(rollcall, f"{receiver.url}/hook?token=x") as process:
        receipt = _import(rollcall, process, "bad.csv", BAD)
        wait_until(lambda: len(receiver.posted) == 1)
        assert _stopped(process) == Outcome(0, "", "")

    [(path, kind, authorization, event)] = receiver.posted
    assert (path, kind, authorization) == ("/hook?token=x", "application/json", None)
    assert (event["status"], event["key"], event["counts"]["rejected"]) == (
        "partially_loaded",
        str(rollcall.folder / "incoming" / "bad.csv"),
        1,
    )
    assert json.loads(Path(event["receipt"]).read_bytes()) == receipt
    assert Path(event["rejected_rows"]).exists()
    assert "Canary" not in json.dumps(event)


def test_a_restarted_watch_notifies_of_no_file_again(rollcall: CommandLine, receiver: Receiver) -> None:
    for number, name in enumerate(["one.csv", "two.csv"], 1):
        with _watching(rollcall, receiver.url, "--reports", "out") as process:
            _import(rollcall, process, name, ANN.replace("Ann", name))
            wait_until(partial(_have_come, receiver, number))
            _stopped(process)

    assert [Path(event["key"]).name for *_, event in receiver.posted] == ["one.csv", "two.csv"]
    assert all(Path(event["receipt"]).is_relative_to(rollcall.folder / "out") for *_, event in receiver.posted)


def _have_come(receiver: Receiver, number: int) -> bool:
    return len(receiver.posted) == number


def test_a_command_gets_each_outcome(rollcall: CommandLine) -> None:
    """On its standard input. What it prints is not mixed with the receipts."""
    program = "import sys; print('hello'); open('received', 'a').write(sys.stdin.read())"
    with _watching(rollcall, shlex.join([sys.executable, "-c", program])) as process:
        _import(rollcall, process, "ann.csv", ANN)
        received = rollcall.folder / "received"
        wait_until(lambda: received.exists() and received.read_text().endswith("\n"))
        assert _stopped(process) == Outcome(0, "", "")

    assert json.loads(received.read_text())["status"] == "loaded"


@pytest.mark.parametrize("notify", ["http://127.0.0.1:1/secret", f"{shlex.quote(sys.executable)} -c 'exit(3)'"])
def test_a_failed_notification_is_one_sentence(rollcall: CommandLine, notify: str, database_url: str) -> None:
    """The watch goes on, and a secret in the URL is not shown."""
    with _watching(rollcall, notify) as process:
        _import(rollcall, process, "ann.csv", ANN)
        assert process.stderr
        complaint = process.stderr.readline().decode()
        _import(rollcall, process, "bad.csv", BAD)
        process.stderr.readline()
        outcome = _stopped(process)

    ann = rollcall.folder / "incoming" / "ann.csv"
    assert complaint.startswith(f"rollcall: nobody was notified of {ann}: ")
    assert complaint.endswith(("127.0.0.1: it could not be reached\n", "it ended with status 3\n"))
    assert "secret" not in complaint
    assert (outcome.code, outcome.err) == (0, "")
    assert len(users(database_url)) == 2


@pytest.mark.parametrize(
    "notify", ["", "ftp://example.com", "http://", "no-such-command", "sh 'a", "https:///secret"]
)
def test_neither_url_nor_command_is_wrong_usage(rollcall: CommandLine, notify: str) -> None:
    """At once, and without showing it."""
    (rollcall.folder / "incoming").mkdir()
    outcome = rollcall("watch", "incoming", "--notify", notify)

    assert outcome.code == 2
    assert "--notify names no command of this machine and no URL" in outcome.sentence
    assert "secret" not in outcome.sentence


@pytest.mark.parametrize("status", [200, 202, 204, 299])
def test_a_success_of_the_receiver_is_one(receiver: Receiver, status: int) -> None:
    receiver.status = status
    bootstrap.local_publisher(receiver.url)(NOTIFICATION)

    assert [event for *_, event in receiver.posted] == [NOTIFICATION.event]


@pytest.mark.parametrize("status", [302, 307, 400, 404, 500])
def test_another_status_is_a_failure(receiver: Receiver, status: int) -> None:
    """A redirection is not followed, and nothing is posted twice."""
    receiver.status = status
    with pytest.raises(NotPublishedError, match=rf"127\.0\.0\.1: it answered with status {status}"):
        Webhook(receiver.url)(NOTIFICATION)

    assert len(receiver.posted) == 1


def test_a_url_may_contain_user_and_password(receiver: Receiver) -> None:
    Webhook(receiver.url.replace("//", "//ann:p%40ss@"))(NOTIFICATION)

    assert [authorization for _, _, authorization, _ in receiver.posted] == ["Basic YW5uOnBAc3M="]


def _slow_webhook(receiver: Receiver) -> Webhook:
    receiver.seconds = 60
    return Webhook(receiver.url)


@pytest.mark.parametrize(
    "slow",
    [_slow_webhook, lambda _: Command([sys.executable, "-c", "import time; time.sleep(60)"], seconds=0.3)],
)
def test_a_receiver_that_takes_too_long_is_left(
    receiver: Receiver, slow: Callable[[Receiver], Webhook | Command], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "HTTP_SECONDS", 0.3)
    with pytest.raises(NotPublishedError, match=r"it did not (answer|end) in 0\.3 seconds"):
        slow(receiver)(NOTIFICATION)


def test_a_command_that_reads_nothing_is_a_success() -> None:
    Command([sys.executable, "-c", ""])(NOTIFICATION)


def test_a_command_that_is_gone_is_a_failure() -> None:
    with pytest.raises(NotPublishedError, match="/gone: it could not be started"):
        Command(["/gone"])(NOTIFICATION)
