"""The sweep Lambda in memory: where it continues, and what it logs."""

import io
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, cast

import attrs
import pytest

from rollcall.adapters.memory import MemoryObjectStore, MemoryUserRepository
from rollcall.application.errors import NotPublishedError, RepositoryUnavailableError
from rollcall.application.notification import Notification
from rollcall.application.sweep import Sweep
from rollcall.domain.upload import ObjectReference
from rollcall.entrypoints.s3_events import announcement, created_objects
from rollcall.entrypoints.sweep_lambda import POSITION_KEY, SweepFailedError, SweepLambda, give_up, tell, wire
from rollcall.settings import Address, SettingError, read_settings
from support.aws_events import Context, lambda_log
from support.privacy import logged_lines

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

NOW = datetime(2026, 1, 15, tzinfo=UTC)
HOUR = timedelta(hours=1)
SHORT = (900, 900, 39)  # seconds left: at first, when the sweep begins, and then at every call


@attrs.define
class Lambda:
    """The Lambda with its stores and a ledger.

    Attributes:
        sent: The messages that it sent.
        log: Its log.
    """

    log: io.StringIO
    uploads: MemoryObjectStore = attrs.field(factory=lambda: MemoryObjectStore("inbox", lambda: NOW - HOUR, ""))
    reports: MemoryObjectStore = attrs.field(factory=lambda: MemoryObjectStore("reports", lambda: NOW))
    users: MemoryUserRepository = attrs.Factory(MemoryUserRepository)
    sent: list[str] = attrs.Factory(list)
    publish: Callable[[Notification], None] | None = None
    later: timedelta = timedelta()

    def __call__(self, *seconds: float) -> dict[str, Any]:
        """Invoke it with batches of one upload."""
        function = SweepLambda(
            sweep=Sweep(
                uploads=self.uploads,
                users=self.users,
                is_report=lambda _: False,
                queue=lambda lost: self.sent.extend(map(announcement, lost)),
                tell=tell,
                now=lambda: NOW + self.later,
                older_than=HOUR,
                younger_than=timedelta(days=7),
                batch=1,
                give_up=partial(give_up, self.publish, "in/"),
            ),
            uploads=Address("s3", "inbox"),
            reports=self.reports,
        )
        return function(cast("LambdaContext", Context(*seconds)))

    def drop(self, *keys: str) -> None:
        """Upload a file under each of some keys."""
        for key in keys:
            self.uploads.put(key, io.BytesIO(b"name,country,age\nCanary,Somewhere,1\n"))

    def queued(self) -> list[ObjectReference]:
        """Return the references that the import Lambda reads from the messages."""
        return [reference for message in self.sent for reference in created_objects(message)]

    def kept(self) -> list[bytes]:
        """Return every stored position, the newest first."""
        found = []
        for listed in self.reports.list():
            with self.reports.open(listed.reference) as report:
                found.append(b"".join(report.read()))
        return found

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of the log."""
        return logged_lines(self.log)


@pytest.fixture
def function() -> Iterator[Lambda]:
    """The Lambda with empty stores."""
    with lambda_log() as log:
        yield Lambda(log)


def test_a_lost_upload_is_announced_like_one_of_s3(function: Lambda) -> None:
    """Each version by its own message."""
    function.drop("a b+c.csv", "a b+c.csv")

    assert function() == {"seen": 2, "queued": 2, "given_up": 0, "complete": True}
    assert function.queued() == [
        ObjectReference(bucket="inbox", key="a b+c.csv", version=version) for version in ("2", "1")
    ]


def test_each_lost_upload_has_one_line_in_the_log(function: Lambda) -> None:
    """An upload that is given up is an error; the sweep has a line of its own."""
    function.drop("a.csv")
    for hours in range(3):
        function.later = hours * HOUR
        function()

    lines = function.lines()
    assert [line["message"] for line in lines] == [
        *["a lost upload is queued", "swept"] * 2,
        *["a lost upload is given up", "swept"],
    ]
    assert [line["level"] for line in lines] == ["WARNING", "INFO", "WARNING", "INFO", "ERROR", "INFO"]
    assert (lines[4]["bucket"], lines[4]["key"], lines[4]["version"], lines[4]["bytes"]) == (
        "inbox",
        "a.csv",
        "1",
        36,
    )
    assert (lines[5]["seen"], lines[5]["queued"], lines[5]["given_up"], lines[5]["complete"]) == (1, 0, 1, True)


def test_an_upload_that_is_given_up_is_notified_once(function: Lambda) -> None:
    """Though every later sweep logs and counts it."""
    published: list[Notification] = []
    function.publish = published.append
    function.drop("in/a.csv")
    for hours in range(4):
        function.later = hours * HOUR
        function()

    [notification] = published
    event = notification.event
    assert (event["status"], event["code"]) == ("given_up", "never-imported")
    assert (event["bucket"], event["key"], event["version"]) == ("inbox", "in/a.csv", "1")
    assert [line["message"] for line in function.lines()].count("a lost upload is given up") == 2


def test_a_sweep_continues_if_nobody_can_be_notified(function: Lambda) -> None:
    """The log says so, and the alarm is raised nevertheless."""

    def refuse(_: Notification) -> None:
        raise NotPublishedError("arn:aws:sns", "away")

    function.publish = refuse
    function.drop("a.csv", "b.csv")
    for hours in range(3):
        function.later = hours * HOUR
        outcome = function()

    assert outcome["given_up"] == 2
    failures = [line for line in function.lines() if line["message"].endswith("nobody could be notified")]
    assert [(line["key"], line["reason"]) for line in failures] == [
        ("a.csv", "arn:aws:sns: away"),
        ("b.csv", "arn:aws:sns: away"),
    ]


def test_counts_are_published_as_metrics(function: Lambda, capsys: pytest.CaptureFixture[str]) -> None:
    """Zeros too, so that an alarm can end."""
    function.drop("a.csv")
    function()
    function()

    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Rollcall"
    assert first["service"] == "rollcall"
    assert (first["UploadsSeen"], first["UploadsQueued"], first["UploadsGivenUp"]) == ([1], [1], [0])
    assert (second["UploadsSeen"], second["UploadsQueued"], second["UploadsGivenUp"]) == ([1], [0], [0])


def test_the_next_invocation_continues_an_unfinished_sweep(function: Lambda) -> None:
    """From the position where the last one stopped; after the end, from the beginning."""
    function.drop("a", "b", "c")
    came = [function(*SHORT), function(*SHORT), function(), function()]

    assert [(outcome["seen"], outcome["complete"]) for outcome in came] == [
        (1, False),
        (1, False),
        (1, True),
        (3, True),
    ]
    assert [reference.key for reference in function.queued()] == ["a", "b", "c"]


def test_a_position_is_stored_only_if_a_sweep_stops(function: Lambda) -> None:
    """A finished sweep adds neither an object nor a version."""
    function.drop("a", "b")
    for _ in range(3):
        function()
    assert function.kept() == []

    function(*SHORT)
    for _ in range(3):
        function()
    place = b'{"bucket": "inbox", "key": "a", "version": "1", "etag": null, "sequencer": null, "size": null}'
    assert function.kept() == [b"{}", place]


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"key": "b"}',
        b'{"bucket": "another", "key": "b", "version": "1", "etag": null}',
        b'{"bucket": "inbox", "key": 1, "version": "1", "etag": null}',
        b'{"bucket": "inbox", "key": "b", "version": 1, "etag": null}',
        b'{"bucket": "inbox", "key": "\\ud800", "version": "1", "etag": null}',
        b'{"bucket": "inbox", "key": "b", "version": "never there", "etag": null}',
    ],
)
def test_a_sweep_with_a_damaged_position_starts_again(function: Lambda, damaged: bytes) -> None:
    """No upload is left out because of it, and the stored position is reset."""
    function.drop("a", "b", "c")
    function.reports.put(POSITION_KEY, io.BytesIO(damaged))

    assert function()["seen"] == 3
    assert function.kept()[0] == b"{}"
    assert function.lines()[0]["message"] == "the sweep begins again at the first upload"


def test_a_failed_sweep_is_logged_without_a_cell(function: Lambda) -> None:
    """An internal error is logged by its place; the next invocation continues from the stored position."""
    function.drop("a", "b", "c")
    function(*SHORT)
    users = function.users
    for error in (RepositoryUnavailableError("the database is away"), ValueError("Canary")):
        function.users = Away(error)
        with pytest.raises(SweepFailedError) as caught:
            function()
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None

    ours, other = function.lines()[-2:]
    assert (ours["message"], ours["reason"]) == ("the sweep failed", "the database is away")
    assert other["error"] == "ValueError"
    assert other["stack"][-1].endswith(" record_lost")
    function.users = users
    assert function()["seen"] == 2


class Away(MemoryUserRepository):
    """A database that fails.

    Args:
        error: The error of every call.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def record_lost(self, *_: object, **__: object) -> NoReturn:
        raise self._error


def test_a_database_that_does_not_answer_is_interrupted(function: Lambda) -> None:
    """In time to log it, before AWS kills the function with locks held."""
    function.drop("a")
    function.users = Stuck()
    with pytest.raises(SweepFailedError):
        function(0.1)

    assert function.lines()[0]["message"].startswith("out of time")
    assert function.sent == []


class Stuck(MemoryUserRepository):
    """A database that does not answer, and retries after any exception."""

    def record_lost(self, *_: object, **__: object) -> NoReturn:
        """Block without end."""
        while True:
            with suppress(Exception):
                signal.pause()


WHOLE = {
    "ROLLCALL_UPLOADS": "s3://inbox",
    "ROLLCALL_REPORTS": "memory:",
    "ROLLCALL_DATABASE_URL": "memory:",
    "ROLLCALL_QUEUE": "arn:aws:sqs:us-east-1:123456789012:queue",
}


@pytest.mark.parametrize("name", WHOLE)
def test_it_does_not_start_without_a_required_setting(name: str) -> None:
    """The message names the setting."""
    with ExitStack() as held, pytest.raises(SettingError, match=f"{name} is ''; give "):
        wire(read_settings({**WHOLE, name: ""}), held)


@pytest.mark.parametrize("elsewhere", ["memory:", "file:///inbox"])
def test_it_sweeps_only_s3_buckets(elsewhere: str) -> None:
    """Only S3 announces uploads."""
    with ExitStack() as held, pytest.raises(SettingError, match=r"ROLLCALL_UPLOADS is .*; give s3://"):
        wire(read_settings({**WHOLE, "ROLLCALL_UPLOADS": elsewhere}), held)
