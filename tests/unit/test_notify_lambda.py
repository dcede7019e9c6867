"""The notify Lambda in memory: which objects it publishes, and its log."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

import attrs
import pytest

from rollcall.adapters.memory import MemoryObjectStore
from rollcall.application.errors import NotPublishedError
from rollcall.application.notification import Notification
from rollcall.entrypoints.notify_lambda import NotifyFailedError, NotifyLambda, wire
from rollcall.settings import Address, SettingError, read_settings
from support.aws_events import Event, lambda_log, s3_record
from support.fakes import Desk
from support.privacy import logged_lines

MIXED = b"name,country,age\nCanary,Somewhere,1\nCanary,Somewhere,Canary\n"
KEY = "march/users 1.csv"
CHECK = f"checks/{'ab' * 32}-{'01' * 20}/1/receipt.json"


@attrs.define
class Lambda:
    """The notify Lambda with a desk, whose reports lie below a prefix.

    Attributes:
        published: The published notifications.
        error: Fails each publication; None if it succeeds.
        log: Its log.
    """

    log: io.StringIO
    desk: Desk = attrs.Factory(Desk)
    published: list[Notification] = attrs.Factory(list)
    error: Exception | None = None

    def __call__(self, *keys: str, bucket: str = "reports") -> None:
        """Invoke it with an event of new objects."""
        store = MemoryObjectStore("reports", lambda: datetime(2026, 1, 1, tzinfo=UTC), "")
        for key, content in self.desk.stored().items():
            store.put(f"out/{key}", io.BytesIO(content))
        function = NotifyLambda(
            reports=store, address=Address("s3", "reports", "out/"), uploads_prefix="", publish=self._publish
        )
        function({"Records": [s3_record(quote_plus(f"out/{key}"), bucket=bucket, versionId="1") for key in keys]})

    def _publish(self, notification: Notification) -> None:
        if self.error:
            raise self.error
        self.published.append(notification)

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of the log."""
        return logged_lines(self.log)


@pytest.fixture
def function() -> Iterator[Lambda]:
    """The Lambda with a new desk."""
    with lambda_log() as log:
        yield Lambda(log)


def test_a_new_receipt_is_published(function: Lambda) -> None:
    """The log has no cell of it."""
    function.desk.upload(MIXED, KEY)
    [receipt] = [key for key in function.desk.stored() if key.endswith("/receipt.json")]
    function(receipt)

    [notification] = function.published
    event = notification.event
    assert event["event_id"].startswith("1-")
    assert event["receipt"] == f"s3://reports/out/{receipt}"
    assert (event["status"], event["key"], event["counts"]["rejected"]) == ("partially_loaded", KEY, 1)
    assert "Canary" not in json.dumps(attrs.asdict(notification))
    [line] = function.lines()
    assert (line["message"], line["receipt"], line["status"]) == (
        "published",
        f"out/{receipt}",
        "partially_loaded",
    )


def test_a_repeated_event_is_published_with_the_same_id(function: Lambda) -> None:
    """S3 announces an object at least once."""
    function.desk.upload(MIXED, KEY)
    [receipt] = [key for key in function.desk.stored() if key.endswith("/receipt.json")]
    function(receipt, receipt)

    one, other = function.published
    assert one == other


@pytest.mark.parametrize(
    ("key", "bucket"),
    [
        (CHECK, "reports"),
        (f"{KEY}/1/receipt.html", "reports"),
        (f"{KEY}/1/rejected-0123456789ab.csv", "reports"),
        ("sweep/position.json", "reports"),
        ("receipt.json", "reports"),
        (f"{KEY}/1/receipt.json", "uploads"),
        (f"../{KEY}/1/receipt.json", "uploads"),
    ],
)
def test_other_objects_are_ignored(function: Lambda, key: str, bucket: str) -> None:
    """Nothing is read, published or logged."""
    function(key, bucket=bucket)

    assert function.published == []
    assert function.lines() == []


def test_a_key_that_only_resembles_a_check_is_published(function: Lambda) -> None:
    """A person may upload a file to a folder of that name."""
    function.desk.upload(MIXED, "checks/users.csv")
    function(*[key for key in function.desk.stored() if key.endswith("/receipt.json")])

    assert [notification.key for notification in function.published] == ["checks/users.csv"]


def test_a_failed_publication_raises_after_the_others(function: Lambda) -> None:
    """AWS Lambda invokes again; the exception shows no reason."""
    function.desk.upload(MIXED, "1.csv")
    function.desk.upload(MIXED + b"a,b,1\n", "2.csv")
    function.error = NotPublishedError("arn:aws:sns", "away")
    with pytest.raises(NotifyFailedError) as caught:
        function(*[key for key in function.desk.stored() if key.endswith("/receipt.json")])

    assert caught.value.__cause__ is None
    assert [(line["level"], line["reason"]) for line in function.lines()] == [("ERROR", "arn:aws:sns: away")] * 2


def test_a_receipt_that_is_gone_is_no_failure(function: Lambda) -> None:
    """A retry could not bring it back."""
    function(f"{KEY}/1/receipt.json")

    [line] = function.lines()
    assert (line["level"], line["message"]) == ("WARNING", "the receipt is gone")


@pytest.mark.parametrize("event", [{"name": "Canary"}, {"Records": [{"name": "Canary"}]}])
def test_an_unknown_event_raises(function: Lambda, event: Event) -> None:
    """It goes to the dead-letter queue; neither exception nor log shows it."""
    handler = NotifyLambda(
        reports=function.desk.reports,
        address=Address("s3", "reports"),
        uploads_prefix="",
        publish=function.published.append,
    )
    with pytest.raises(NotifyFailedError) as caught:
        handler(event)

    assert "Canary" not in str(caught.value)
    assert function.lines()[0]["reason"].startswith("an event of unknown shape")


@pytest.mark.parametrize("name", ["ROLLCALL_REPORTS", "ROLLCALL_NOTIFY_TOPIC"])
def test_it_does_not_start_without_a_required_setting(name: str) -> None:
    """The message names the setting."""
    whole = {
        "ROLLCALL_REPORTS": "s3://reports",
        "ROLLCALL_NOTIFY_TOPIC": "arn:aws:sns:us-east-1:123456789012:outcomes",
    }
    with pytest.raises(SettingError, match=f"{name} is ''; give "):
        wire(read_settings({**whole, name: ""}))
