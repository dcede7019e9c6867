"""The import Lambda in memory: the result of each delivery, and its log."""

import hashlib
import io
import json
import math
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import quote_plus

import attrs
import pytest

from rollcall.adapters.memory import MemoryObjectStore, MemoryUserRepository
from rollcall.application.errors import (
    NotPublishedError,
    RepositoryUnavailableError,
    StoreUnavailableError,
    TableLockedError,
)
from rollcall.application.notification import Notification
from rollcall.application.ports import StoredObject
from rollcall.application.values import ImportRequest, ListedObject
from rollcall.bootstrap.stores import is_report
from rollcall.domain.receipt import ConservationError
from rollcall.domain.rejection import Code
from rollcall.domain.upload import ObjectReference
from rollcall.entrypoints.import_lambda import FIRST_SENT, ImportFailedError, ImportLambda, wire
from rollcall.entrypoints.lambda_runtime import RESERVE_SECONDS
from rollcall.entrypoints.s3_events import UnknownEventError
from rollcall.settings import SettingError, read_settings
from support.aws_events import Context, Event, by_eventbridge, in_sqs, lambda_log, message, s3_record
from support.fakes import Desk
from support.privacy import logged_lines

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

HEADER = b"name,country,age\n"
GOOD = HEADER + b"Canary,Somewhere,1\n"
ALSO_GOOD = HEADER + b"Canary,Elsewhere,2\n"
SENT = datetime(2026, 1, 1, tzinfo=UTC)  # the time that `aws_events` gives every message


@attrs.define
class Lambda:
    """The import Lambda with a desk.

    Attributes:
        desk: The stores, users and clock.
        sent: The messages that it put back: queue, body, attributes, delay.
        log: Its log.
        settings: The settings that say where its reports are.
    """

    desk: Desk
    log: io.StringIO
    sent: list[tuple[str, str, Mapping[str, str], int]] = attrs.Factory(list)
    settings: Mapping[str, str] = attrs.Factory(dict)
    queue: Callable[..., None] | None = None
    publish: Callable[[Notification], None] | None = None
    hide: Callable[[str, str, int], None] = lambda *_: None

    def __call__(self, event: Event, context: Context | None = None) -> list[str]:
        """Invoke it, and return the messages to deliver again."""
        settings = read_settings(self.settings)
        importer = self.desk.importer()
        if settings.reports:
            is_its_own = partial(is_report, settings.reports, settings.uploads)
            importer = attrs.evolve(importer, reports=attrs.evolve(importer.reports, is_report=is_its_own))
        function = ImportLambda(
            import_users=importer,
            send=self.queue or (lambda *sent: self.sent.append(sent)),
            now=lambda: SENT,
            tries=3,
            publish=self.publish,
            hide=self.hide,
            chance=lambda: 0.5,
        )
        answer = function(event, cast("LambdaContext", context or Context()))
        return [str(failure["itemIdentifier"]) for failure in answer["batchItemFailures"]] if answer else []

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of the log."""
        return logged_lines(self.log)

    def said(self) -> list[str]:
        """Return the messages of the log."""
        return [line["message"] for line in self.lines()]

    def drop(self, data: bytes = GOOD, key: str = "users.csv") -> Event:
        """Upload some bytes, and return the record that announces them."""
        reference = self.desk.drop(data, key)
        return s3_record(quote_plus(key), versionId=reference.version)


@pytest.fixture
def function() -> Iterator[Lambda]:
    """The Lambda with a new desk."""
    with lambda_log() as log:
        yield Lambda(Desk(), log)


def records(*announced: Event) -> Event:
    """Return one event of S3, with encoded keys."""
    return {"Records": list(announced)}


def test_announced_uploads_are_imported(function: Lambda) -> None:
    """Every record of every message."""
    one, two = function.drop(GOOD, "1.csv"), function.drop(ALSO_GOOD, "2.csv")
    three = function.drop(HEADER + b"Canary,Nowhere,3\n", "3.csv")

    assert function(in_sqs(records(one, two), records(three))) == []
    assert [row[2] for row in function.desk.rows()] == [1, 2, 3]


def test_each_upload_has_one_line_in_the_log(function: Lambda) -> None:
    """With ids, status, counts and duration."""
    function(in_sqs(records(function.drop(GOOD + b"x,y,z\n"))))

    [line] = function.lines()
    assert line["message"] == "partially_loaded"
    assert line["level"] == "INFO"
    assert (line["message_id"], line["tries"]) == ("m1", 1)
    assert (line["bucket"], line["key"], line["version"], line["import_id"]) == ("inbox", "users.csv", "1", 1)
    assert (line["read"], line["registered"], line["rejected"], line["code"]) == (2, 1, 1, "rows-rejected")
    assert line["seconds"] > 0


def test_counts_are_published_as_metrics(function: Lambda, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows, imports by status, and durations."""
    function(in_sqs(records(function.drop(GOOD + b"x,y,z\n")), records(function.drop(b"", "empty.csv"))))

    [line] = capsys.readouterr().out.splitlines()
    published = json.loads(line)
    assert published["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Rollcall"
    assert published["RowsRead"] == [2, 0]
    assert published["RowsRegistered"] == [1, 0]
    assert published["RowsRejected"] == [1, 0]
    assert (published["ImportsPartiallyLoaded"], published["ImportsRefused"]) == ([1], [1])
    assert len(published["ImportDuration"]) == 2


def test_a_refused_upload_is_a_success(function: Lambda) -> None:
    """A retry would refuse it again, and its uploader has the receipt."""
    assert function(in_sqs(records(function.drop(b"Canary,Somewhere,1\n")))) == []
    assert function.said() == ["refused"]
    assert json.loads(function.desk.read("users.csv/1/receipt.json"))["code"] == "missing-label"


def test_a_missing_upload_is_a_success(function: Lambda) -> None:
    """No retry can bring that version back."""
    assert function(in_sqs(records(s3_record("gone.csv", versionId="1")))) == []
    assert [(line["message"], line["code"]) for line in function.lines()] == [("skipped", "source-gone")]


def test_a_redelivery_registers_nobody_twice(function: Lambda) -> None:
    event = in_sqs(records(function.drop()))

    assert function(event) == function(event) == []
    assert function.said() == ["loaded", "skipped"]
    assert len(function.desk.rows()) == 1


@pytest.mark.parametrize(
    "event",
    [
        {"Service": "Amazon S3", "Event": "s3:TestEvent"},
        records(s3_record("a.csv", name="ObjectRemoved:Delete")),
        records(s3_record("folder/", size=0)),
        records(),
    ],
)
def test_an_event_without_an_upload_is_ignored(function: Lambda, event: Event) -> None:
    """Acknowledged without an import, a receipt, a log line or a metric."""
    function.settings = {"ROLLCALL_REPORTS": "s3://inbox/reports"}

    assert function(in_sqs(event)) == []
    assert function(event) == []
    assert function.lines() == []
    assert function.desk.stored() == {}


@pytest.mark.parametrize("key", ["reports/users.csv/1/receipt.json", "reports/users.csv"])
def test_an_object_among_the_reports_is_ignored_and_logged(function: Lambda, key: str) -> None:
    """It may be a report, or an upload in the wrong place, which must not vanish without a log line."""
    function.settings = {"ROLLCALL_REPORTS": "s3://inbox/reports"}

    assert function(in_sqs(records(function.drop(key=key)))) == []
    [line] = function.lines()
    assert (line["message"], line["level"], line["key"]) == ("ignored", "INFO", key)
    assert line["reason"] == "it lies among the reports, where nothing is imported"
    assert function.desk.stored() == {}


@pytest.mark.parametrize(
    "key",
    [
        "reports.csv",
        "reports2/users.csv",
        "new/reports/users.csv",
        "users.rollcall",
        "users.rollcall/march.csv",
        "users.csv.rollcall/1/rejected-0.csv",
    ],
)
def test_a_key_that_only_resembles_a_report_is_an_upload(function: Lambda, key: str) -> None:
    """Reports are in folders; names that end in .rollcall mean something beside local files only."""
    function.settings = {"ROLLCALL_REPORTS": "s3://inbox/reports"}
    function(in_sqs(records(function.drop(key=key))))

    assert function.said() == ["loaded"]


def test_a_report_key_outside_the_reports_bucket_is_an_upload(function: Lambda) -> None:
    function.settings = {"ROLLCALL_REPORTS": "s3://outbox/reports"}
    function(in_sqs(records(function.drop(key="reports/users.csv"))))

    assert function.said() == ["loaded"]


@pytest.mark.parametrize(
    ("uploads", "reports"),
    [
        ("s3://inbox/march", "s3://inbox"),
        ("s3://inbox/march/new", "s3://inbox/march"),
        ("s3://inbox", "s3://inbox"),
    ],
)
def test_nothing_is_imported_if_receipts_would_be_uploads(function: Lambda, uploads: str, reports: str) -> None:
    """Otherwise each receipt would get a receipt, without end, or each upload would be taken for a report."""
    function.settings = {"ROLLCALL_UPLOADS": uploads, "ROLLCALL_REPORTS": reports}

    assert function(in_sqs(records(function.drop(key="march/new/users.csv")))) == ["m1"]
    assert function.lines()[0]["reason"].startswith(f"ROLLCALL_REPORTS is '{reports}'; give another bucket")
    assert function.desk.stored() == {}


def test_a_message_of_unknown_shape_fails_alone(function: Lambda) -> None:
    """It goes to the dead-letter queue unchanged, and the log does not show it."""
    event = {
        "Records": [
            message('{"name": "Canary"}', "poison"),
            message("Canary", "no-json"),
            message(json.dumps(records(function.drop())), "good"),
        ]
    }

    assert function(event) == ["poison", "no-json"]
    assert function.said() == ["failed; it is to be delivered again"] * 2 + ["loaded"]
    assert function.lines()[0]["reason"].startswith("an event of unknown shape")


@pytest.mark.parametrize(
    "error",
    [
        RepositoryUnavailableError("the database is away"),
        StoreUnavailableError("s3://inbox", "away"),
        ConservationError("1 rows were read but 2 are accounted for"),
    ],
)
def test_a_temporary_failure_fails_its_message_alone(function: Lambda, error: Exception) -> None:
    """The rest of the batch is imported; the failed message is imported once, at the retry."""
    failing = iter([error])

    def fail_once() -> None:
        for one in failing:
            raise one

    function.desk = attrs.evolve(function.desk, users=MemoryUserRepository(before_commit=fail_once))
    event = in_sqs(records(function.drop(GOOD, "1.csv")), records(function.drop(ALSO_GOOD, "2.csv")))

    assert function(event) == ["m1"]
    assert function.lines()[0]["reason"] == str(error)
    assert [row[2] for row in function.desk.rows()] == [2]
    assert function(event) == []
    assert [row[2] for row in function.desk.rows()] == [2, 1]


@pytest.mark.parametrize(
    ("error", "tries", "hidden"),
    [
        (RepositoryUnavailableError("the database is away"), 1, [30]),
        (StoreUnavailableError("s3://inbox", "away"), 2, [120]),
        (RepositoryUnavailableError("the database is away"), 3, []),  # the last try
        (ConservationError("1 rows were read but 2 are accounted for"), 1, []),
        (ValueError("Canary"), 1, []),
    ],
)
def test_only_a_failure_that_may_pass_is_retried_soon(
    function: Lambda, error: Exception, tries: int, hidden: list[int]
) -> None:
    """The message becomes visible again long before the queue's own timeout."""
    calls: list[tuple[str, str, int]] = []

    def fail() -> None:
        raise error

    function.hide = lambda *named: calls.append(named)
    function.desk = attrs.evolve(function.desk, users=MemoryUserRepository(before_commit=fail))
    event = in_sqs(records(function.drop()))
    event["Records"][0]["attributes"]["ApproximateReceiveCount"] = str(tries)

    assert function(event) == ["m1"]
    queue = "arn:aws:sqs:us-east-1:123456789012:queue"
    assert calls == [(queue, "handle of m1", seconds) for seconds in hidden]


def test_a_message_that_cannot_be_hidden_is_answered(function: Lambda) -> None:
    """It returns when the queue no longer hides it."""

    def fail() -> None:
        raise RepositoryUnavailableError("the database is away")

    def refuse(*_: object) -> None:
        raise StoreUnavailableError("arn:aws:sqs", "away")

    function.hide = refuse
    function.desk = attrs.evolve(function.desk, users=MemoryUserRepository(before_commit=fail))

    assert function(in_sqs(records(function.drop()))) == ["m1"]
    assert [(line["level"], line["message"]) for line in function.lines()] == [
        ("ERROR", "failed; it is to be delivered again"),
        ("WARNING", "the next try is not soon"),
    ]


def test_a_message_fails_if_one_of_its_records_fails(function: Lambda) -> None:
    """All its records are tried; at the retry the finished ones are skipped."""
    failing = iter([RepositoryUnavailableError("the database is away")])

    def fail_once() -> None:
        for one in failing:
            raise one

    function.desk = attrs.evolve(function.desk, users=MemoryUserRepository(before_commit=fail_once))
    event = in_sqs(records(function.drop(GOOD, "1.csv"), function.drop(ALSO_GOOD, "2.csv")))

    assert function(event) == ["m1"]
    assert function(event) == []
    assert function.said() == ["failed; it is to be delivered again", "loaded", "loaded", "skipped"]


def test_an_internal_error_is_logged_by_place_without_its_text(function: Lambda) -> None:
    """Its text might show a cell."""

    def stumble() -> None:
        raise ValueError("invalid literal: 'Canary'")

    function.desk = attrs.evolve(function.desk, users=MemoryUserRepository(before_commit=stumble))

    assert function(in_sqs(records(function.drop()))) == ["m1"]
    [line] = function.lines()
    assert line["error"] == "ValueError"
    assert line["stack"][-1].endswith(" stumble")


def test_an_upload_in_progress_elsewhere_is_put_back(function: Lambda) -> None:
    """As a new message with all its tries; the old message is acknowledged."""
    event = in_sqs(records(function.drop()))
    with _imported_elsewhere(function.desk):
        assert function(event) == []

    [(arn, body, attributes, delay)] = function.sent
    assert arn == "arn:aws:sqs:us-east-1:123456789012:queue"
    assert (body, attributes, delay) == (event["Records"][0]["body"], {FIRST_SENT: "1767225600000"}, 20)
    assert function.said() == ["put off"]
    assert function({"Records": [message(body, "again", **attributes)]}) == []
    assert len(function.desk.rows()) == 1


def test_a_locked_table_is_put_off_with_its_reason(function: Lambda) -> None:
    """It uses up no try, and an alarm counts it."""
    reasons = ["the table users is locked by another session, backend 7"]

    def fail() -> None:
        if reasons:
            raise TableLockedError(reasons.pop())

    function.desk = attrs.evolve(function.desk, users=MemoryUserRepository(patience=0, before_commit=fail))

    assert function(in_sqs(records(function.drop()))) == []
    [line] = function.lines()
    assert (line["message"], line["reason"]) == (
        "put off",
        "the table users is locked by another session, backend 7",
    )
    assert len(function.sent) == 1


def test_a_message_that_is_put_back_for_hours_fails(function: Lambda) -> None:
    """Six hours after it was first sent, otherwise it would be put back without end."""
    body = json.dumps(records(function.drop()))
    young, old = (
        {FIRST_SENT: str(round((SENT - timedelta(hours=hours)).timestamp() * 1000))} for hours in (5.9, 6.1)
    )
    with _imported_elsewhere(function.desk):
        event = {"Records": [message(body, "young", **young), message(body, "old", **old)]}
        assert function(event) == ["old"]

    assert [attributes for _, _, attributes, _ in function.sent] == [young]


def test_a_message_that_cannot_be_put_back_fails(function: Lambda) -> None:
    """No message is lost if the queue is unavailable."""

    def refuse(*_: object) -> None:
        raise StoreUnavailableError("arn:aws:sqs", "away")

    function.queue = refuse
    with _imported_elsewhere(function.desk):
        assert function(in_sqs(records(function.drop()))) == ["m1"]


def test_a_message_with_a_failed_upload_is_not_put_back(function: Lambda) -> None:
    """A failed upload must use up a try."""

    def fail() -> None:
        raise RepositoryUnavailableError("the database is away")

    function.desk = attrs.evolve(function.desk, users=MemoryUserRepository(patience=0, before_commit=fail))
    with _imported_elsewhere(function.desk):
        assert function(in_sqs(records(function.drop(), function.drop(ALSO_GOOD, "2.csv")))) == ["m1"]

    assert function.sent == []


def test_an_upload_that_fails_in_its_last_try_is_notified(function: Lambda) -> None:
    """Once, and without the uploads of its message that are imported."""
    failing = iter([RepositoryUnavailableError("the database is away")] * 2)

    def fail() -> None:
        for error in failing:
            raise error

    published: list[Notification] = []
    function.publish = published.append
    function.desk = attrs.evolve(function.desk, users=MemoryUserRepository(before_commit=fail))
    event = in_sqs(records(function.drop(GOOD, "1.csv"), function.drop(ALSO_GOOD, "2.csv")))
    event["Records"][0]["attributes"]["ApproximateReceiveCount"] = "2"
    function(event)
    assert published == []

    failing = iter([RepositoryUnavailableError("the database is away")])
    event["Records"][0]["attributes"]["ApproximateReceiveCount"] = "3"
    assert function(event) == ["m1"]
    [notification] = published
    assert (notification.status, notification.event["code"]) == ("given_up", "last-try-failed")
    assert (notification.event["key"], notification.event["version"]) == ("1.csv", "1")


@pytest.mark.parametrize("tries", ["3", "4"])
def test_a_last_try_that_succeeds_gives_up_nothing(function: Lambda, tries: str) -> None:
    published: list[Notification] = []
    function.publish = published.append
    event = in_sqs(records(function.drop()))
    event["Records"][0]["attributes"]["ApproximateReceiveCount"] = tries

    assert function(event) == []
    assert published == []


def test_a_message_is_answered_though_nobody_can_be_notified(function: Lambda) -> None:
    """The other messages of its batch are imported."""

    def refuse(_: Notification) -> None:
        raise NotPublishedError("arn:aws:sns", "away")

    def fail() -> None:
        raise RepositoryUnavailableError("the database is away")

    function.publish = refuse
    function.desk = attrs.evolve(function.desk, users=MemoryUserRepository(before_commit=fail))
    event = in_sqs(records(function.drop()), {"Service": "Amazon S3", "Event": "s3:TestEvent"})
    event["Records"][0]["attributes"]["ApproximateReceiveCount"] = "3"

    assert function(event) == ["m1"]
    assert function.said()[-1] == "the upload is given up, but nobody could be notified"


@attrs.define
class Stuck:
    """A store that does not answer for one key, and retries after any exception."""

    desk: Desk
    key: str
    times: float = math.inf

    @contextmanager
    def open(self, reference: ObjectReference) -> Iterator[StoredObject]:
        """Block until an exception interrupts, for the given number of times."""
        if reference.key == self.key:
            self.times -= 1
        while reference.key == self.key and self.times >= 0:
            try:
                signal.pause()
            except Exception:  # noqa: BLE001, S112 - as botocore does
                continue
        with self.desk.uploads.open(reference) as found:
            yield found

    def fits(self, key: str) -> bool:  # noqa: ARG002 - the port's
        return True

    def require_writable(self, key: str) -> None:
        """Accept every key."""

    def put(self, key: str, content: BinaryIO) -> str:
        raise NotImplementedError(key, content)

    def list(self, prefix: str = "", *, after: ObjectReference | None = None) -> Iterator[ListedObject]:
        raise NotImplementedError(prefix, after)


def test_an_import_that_takes_too_long_is_interrupted_and_fails(function: Lambda) -> None:
    """It rolls back and answers in time; a whole invocation counts as a try."""
    function.desk = attrs.evolve(function.desk, through=Stuck(function.desk, "stuck.csv"))

    assert function(in_sqs(records(function.drop(key="stuck.csv"))), Context(0.1)) == ["m1"]
    assert function.said()[0].startswith("out of time; what was not committed is rolled back")
    assert function.desk.rows() == []


@pytest.mark.parametrize(("tries", "refused"), [(2, False), (3, True), (4, True)])
def test_an_upload_too_slow_in_its_last_try_is_refused(function: Lambda, tries: int, refused: bool) -> None:  # noqa: FBT001 - what varies
    """After the last try, an operator would retry it without end, and the uploader would never know."""
    function.desk = attrs.evolve(function.desk, through=Stuck(function.desk, "stuck.csv", times=1))
    event = in_sqs(records(function.drop(key="stuck.csv")))
    event["Records"][0]["attributes"]["ApproximateReceiveCount"] = str(tries)

    assert function(event, Context(0.1)) == ([] if refused else ["m1"])
    codes = [entry.receipt.code for entry in function.desk.users.entries()]
    assert codes == ([Code.SIZE_LIMIT] if refused else [])
    assert any(key.endswith("/receipt.json") for key in function.desk.stored()) == refused


@pytest.mark.parametrize("seconds", [0.05, 0, -10])
def test_a_message_without_time_after_others_is_put_back(function: Lambda, seconds: float) -> None:
    """It had no try of its own, and may be the first of the next batch."""
    function.desk = attrs.evolve(function.desk, through=Stuck(function.desk, "stuck.csv"))
    event = in_sqs(records(function.drop(ALSO_GOOD)), records(function.drop(key="stuck.csv")))

    assert function(event, Context(900, 900, RESERVE_SECONDS + seconds)) == []
    assert [body for _, body, _, _ in function.sent] == [event["Records"][1]["body"]]
    assert function.said() == ["loaded", "put off"]


def test_no_import_starts_without_time(function: Lambda) -> None:
    """For example after a slow start."""
    event = in_sqs(records(function.drop()))

    assert function(event, Context(0)) == ["m1"]
    assert function.desk.rows() == []


@attrs.define
class Freezing(MemoryObjectStore):
    """A store of reports that runs other work before the first report is stored, as if the import were frozen."""

    behind: MemoryObjectStore
    meanwhile: Callable[[], object]

    def put(self, key: str, content: BinaryIO) -> str:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return self.behind.put(key, content)


@pytest.mark.parametrize(
    ("frozen_for", "said"),
    [(59, ["put off", "partially_loaded"]), (61, ["partially_loaded", "failed; it is to be delivered again"])],
)
def test_only_an_import_past_its_deadline_yields_to_another_one(
    function: Lambda, frozen_for: float, said: list[str]
) -> None:
    """AWS may freeze a function during an import and kill it later, without closing its database connection."""
    time = [0.0]
    users = MemoryUserRepository(patience=0, clock=lambda: time[0])
    function.desk = attrs.evolve(function.desk, users=users)
    event = in_sqs(records(function.drop(GOOD + b"Canary,Somewhere,old\n")))
    rival = attrs.evolve(function)

    def meanwhile() -> None:
        time[0] += frozen_for
        rival(event, Context(60))

    function.desk = attrs.evolve(function.desk, into=Freezing(function.desk.reports, meanwhile))
    function(event, Context(60))

    assert function.said() == said
    assert function.desk.rows() == [("Canary", "Somewhere", 1)]


def test_no_alarm_is_left_after_an_invocation(function: Lambda) -> None:
    before = signal.getsignal(signal.SIGALRM)
    function(in_sqs(records(function.drop())))

    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_an_alarm_at_the_very_end_leaves_no_alarm(function: Lambda, monkeypatch: pytest.MonkeyPatch) -> None:
    """The alarm may ring while it is being cancelled."""
    put = signal.setitimer
    rung: list[bool] = []

    def put_off_too_late(which: int, seconds: float, interval: float = 0) -> object:
        if not seconds and not rung:
            rung.append(True)
            signal.raise_signal(signal.SIGALRM)
        return put(which, seconds, interval)

    monkeypatch.setattr(signal, "setitimer", put_off_too_late)
    assert function(in_sqs(records(function.drop()))) == ["m1"]
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_a_key_cannot_break_the_log(function: Lambda) -> None:
    """Not even one with line separators or bidirectional controls."""
    key = "a\u2028b\u202ec\x85.csv"
    function(records(function.drop(key=key)))

    assert [line["key"] for line in function.lines()] == [key]


def test_an_event_without_a_queue_is_imported(function: Lambda) -> None:
    """From S3 itself or from EventBridge."""
    function(records(function.drop(GOOD, "1.csv")))
    function.drop(ALSO_GOOD, "2.csv")
    function(by_eventbridge("2.csv", **{"version-id": "1"}))

    assert [row[2] for row in function.desk.rows()] == [1, 2]


def test_a_failed_event_without_a_queue_raises(function: Lambda) -> None:
    """After all records were tried; there is no queue to put it back into."""
    with _imported_elsewhere(function.desk):
        event = records(function.drop(), function.drop(ALSO_GOOD, "2.csv"))
        with pytest.raises(ImportFailedError):
            function(event)

    assert [row[2] for row in function.desk.rows()] == [2]
    assert function.sent == []


def test_an_unknown_event_without_a_queue_raises(function: Lambda) -> None:
    """The exception does not show it."""
    with pytest.raises(UnknownEventError) as error:
        function({"name": "Canary"})

    assert "Canary" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"ROLLCALL_REPORTS": "memory:"}, "ROLLCALL_DATABASE_URL is ''; give postgresql://"),
        ({"ROLLCALL_DATABASE_URL": "memory:"}, "ROLLCALL_REPORTS is ''; give s3://"),
    ],
)
def test_it_does_not_start_without_a_required_setting(settings: dict[str, str], sentence: str) -> None:
    """On AWS there is no embedded database, and no folder beside an upload."""
    with ExitStack() as held, pytest.raises(SettingError) as error:
        wire(read_settings(settings), held)

    assert str(error.value).startswith(sentence)


@contextmanager
def _imported_elsewhere(desk: Desk, key: str = "users.csv") -> Iterator[None]:
    """Hold the locks of an import of the first version of a key, with the content of `GOOD`."""
    desk.drop(GOOD, key)
    with desk.uploads.open(ObjectReference(key=key, version="1")) as found:
        upload = found.upload
    with desk.users.importing(ImportRequest(upload, sha256=_sha256(GOOD))):
        yield


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
