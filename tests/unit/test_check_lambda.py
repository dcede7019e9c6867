"""The check Lambda in memory: it stores a receipt of each upload in the inbox, and registers nobody."""

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, cast
from urllib.parse import quote_plus

import attrs
import pytest

from rollcall.application.errors import StoreUnavailableError
from rollcall.bootstrap import web
from rollcall.entrypoints.check_lambda import CheckLambda, wire
from rollcall.entrypoints.lambda_runtime import OutOfTimeError
from rollcall.settings import SettingError, read_settings
from support.aws_events import Context, Event, in_sqs, lambda_log, message, s3_record
from support.privacy import logged_lines
from support.site import LIST, Site

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

CANARY = "S3CRET"


@attrs.define
class Function:
    """The check Lambda of a site.

    Attributes:
        site: The site.
        log: Its log.
        failing: Called before each read of the inbox.
    """

    site: Site
    log: io.StringIO
    failing: Callable[[], object] = lambda: None

    def __call__(self, event: Event) -> list[str]:
        """Invoke it, and return the messages to deliver again."""
        check = web.upload_checker(
            self.site.settings, _Failing(self.site.stores.inbox, self.failing), self.site.stores.reports
        )
        answer = CheckLambda(check=check, tries=3)(event, cast("LambdaContext", Context()))
        assert CANARY not in self.log.getvalue()
        return [str(failure["itemIdentifier"]) for failure in answer["batchItemFailures"]]

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of the log."""
        return logged_lines(self.log)

    def announced(self) -> list[Event]:
        """Return the records that announce all that lies in the inbox."""
        return [
            s3_record(quote_plus(listed.reference.key), versionId=listed.reference.version)
            for listed in self.site.stores.inbox.list()
        ]


@attrs.frozen
class _Failing:
    inner: Any
    failing: Callable[[], object]

    def open(self, *asked: Any) -> Any:  # noqa: ANN401 - as it was
        self.failing()
        return self.inner.open(*asked)


@pytest.fixture
def function() -> Iterator[Function]:
    """The Lambda of a new site."""
    with lambda_log() as log:
        yield Function(Site.in_memory(), log)


def records(*announced: Event) -> Event:
    return {"Records": list(announced)}


def test_an_announced_upload_is_checked_and_not_registered(function: Function) -> None:
    upload_id = function.site.send(LIST, f"{CANARY}.csv")

    assert function(in_sqs(records(*function.announced()))) == []

    assert function.site.state(upload_id)["check"]["receipt"]["counts"]["rejected"] == 1
    assert function.site.names() == []
    assert list(function.site.users.entries()) == []
    assert all(listed.reference.key.startswith("checks/") for listed in function.site.stores.reports.list())
    [line] = function.lines()
    assert (line["message"], line["upload"], line["status"]) == ("checked", upload_id, "partially_loaded")


def test_a_redelivery_has_the_same_result(function: Function) -> None:
    upload_id = function.site.send()
    event = in_sqs(records(*function.announced()))
    function(event)
    first = function.site.state(upload_id)
    function.site.now.pass_by(timedelta(minutes=5))

    assert function(event) == []
    assert function.site.state(upload_id)["check"]["etag"] == first["check"]["etag"]


def test_each_message_is_checked_by_itself(function: Function) -> None:
    function.site.send()
    [good] = function.announced()

    assert function(in_sqs({"unknown": CANARY}, records(good))) == ["m1"]
    assert len(list(function.site.stores.reports.list())) == 2


def test_what_is_no_upload_of_the_page_is_ignored(function: Function) -> None:
    function.site.stores.inbox.put(f"{CANARY}.csv", io.BytesIO(LIST))

    assert function(in_sqs(records(*function.announced()))) == []
    assert [line["message"] for line in function.lines()] == ["ignored"]
    assert list(function.site.stores.reports.list()) == []


def test_an_upload_that_is_gone_is_done(function: Function) -> None:
    function.site.send()
    [record] = function.announced()
    record["s3"]["object"]["versionId"] = "9-gone"

    assert function(in_sqs(records(record))) == []


def test_a_store_that_fails_is_asked_again(function: Function) -> None:
    def fail() -> NoReturn:
        raise StoreUnavailableError(CANARY, "it failed")

    upload_id = function.site.send()
    function.failing = fail

    assert function(in_sqs(records(*function.announced()))) == ["m1"]
    assert function.site.state(upload_id)["state"] == "checking"


@pytest.mark.parametrize(("tries", "again"), [("1", ["m1"]), ("3", [])])
def test_an_upload_that_takes_too_long_is_refused_at_last(
    function: Function, tries: str, again: list[str]
) -> None:
    """So its uploader does not wait without end."""
    reads = 0

    def fail_once() -> None:
        nonlocal reads
        reads += 1
        if reads == 1:
            raise OutOfTimeError

    upload_id = function.site.send()
    function.failing = fail_once
    sent = message(json.dumps(records(*function.announced())), "m1")
    sent["attributes"]["ApproximateReceiveCount"] = tries

    assert function({"Records": [sent]}) == again
    check = function.site.state(upload_id)["check"]
    assert (check["receipt"]["code"] if check else None) == (None if again else "size-limit")


@pytest.mark.parametrize("missing", ["INBOX", "REPORTS"])
def test_a_missing_setting_is_named(missing: str) -> None:
    environment = {"ROLLCALL_INBOX": "memory:", "ROLLCALL_REPORTS": "memory:"}
    del environment[f"ROLLCALL_{missing}"]

    with pytest.raises(SettingError, match=f"ROLLCALL_{missing}"):
        wire(read_settings(environment))


def test_it_loads_no_database_driver() -> None:
    """It has no access to the database."""
    script = """
import sys
from rollcall.entrypoints.check_lambda import wire
from rollcall.settings import read_settings
wire(read_settings({"ROLLCALL_INBOX": "s3://inbox", "ROLLCALL_REPORTS": "s3://reports"}))
print("psycopg" in sys.modules)
"""
    ran = subprocess.run(  # noqa: S603 - this Python
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )

    assert ran.stdout.strip() == "False"
