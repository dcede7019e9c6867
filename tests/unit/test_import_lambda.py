"""The import Lambda in memory: what is done with each delivery, and what is told of it."""

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

from announcements import Context, Event, by_eventbridge, in_sqs, lambda_log, message, s3_record
from rollcall import bootstrap
from rollcall.adapters.memory import MemoryObjectStore, MemoryUserRepository
from rollcall.application.ports import Listed, RepositoryUnavailableError, StoredObject, StoreUnavailableError
from rollcall.domain.receipt import ConservationError
from rollcall.domain.rejection import Code
from rollcall.domain.upload import ObjectReference
from rollcall.entrypoints.import_lambda import FIRST_SENT, ImportFailedError, ImportLambda, wire
from rollcall.entrypoints.on_lambda import RESERVE_SECONDS
from rollcall.entrypoints.s3_events import UnknownEventError
from rollcall.settings import SettingError, read_settings
from unit.desk import Desk

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

HEADER = b"name,country,age\n"
GOOD = HEADER + b"Canary,Somewhere,1\n"
ALSO_GOOD = HEADER + b"Canary,Elsewhere,2\n"
SENT = datetime(2026, 1, 1, tzinfo=UTC)  # as every message of `announcements` says


@attrs.define
class Lambda:
    """The Lambda on a desk.

    Attributes:
        desk: Its stores, users and clock.
        sent: What it put back: queue, body, attributes, delay.
        log: What it logged.
        settings: Where its reports go, as far as it knows.
    """

    desk: Desk
    log: io.StringIO
    sent: list[tuple[str, str, Mapping[str, str], int]] = attrs.Factory(list)
    settings: Mapping[str, str] = attrs.Factory(dict)
    queue: Callable[..., None] | None = None

    def __call__(self, event: Event, context: Context | None = None) -> list[str]:
        """Invoke it; gives the messages to be delivered again."""
        function = ImportLambda(
            import_users=self.desk.importer(),
            is_report=partial(bootstrap.is_report, read_settings(self.settings)),
            send=self.queue or (lambda *sent: self.sent.append(sent)),
            now=lambda: SENT,
            tries=3,
        )
        answer = function(event, cast("LambdaContext", context or Context()))
        return [str(failure["itemIdentifier"]) for failure in answer["batchItemFailures"]] if answer else []

    def lines(self) -> list[dict[str, Any]]:
        """What it logged, which has to be one JSON object a line, in ASCII and without a cell."""
        text = self.log.getvalue()
        assert text.isascii()
        assert "Canary" not in text
        return [json.loads(line) for line in text.splitlines()]

    def said(self) -> list[str]:
        """The messages of the log."""
        return [line["message"] for line in self.lines()]

    def drop(self, data: bytes = GOOD, key: str = "users.csv") -> Event:
        """Upload something, and give the record that announces it."""
        reference = self.desk.drop(data, key)
        return s3_record(quote_plus(key), versionId=reference.version)


@pytest.fixture
def function() -> Iterator[Lambda]:
    """The Lambda on a new desk."""
    with lambda_log() as log:
        yield Lambda(Desk(), log)


def records(*announced: Event) -> Event:
    """One event of S3's own, in which keys are encoded."""
    return {"Records": list(announced)}


def test_what_is_announced_is_imported(function: Lambda) -> None:
    """Every record of every message."""
    one, two = function.drop(GOOD, "1.csv"), function.drop(ALSO_GOOD, "2.csv")
    three = function.drop(HEADER + b"Canary,Nowhere,3\n", "3.csv")

    assert function(in_sqs(records(one, two), records(three))) == []
    assert [row[2] for row in function.desk.rows()] == [1, 2, 3]


def test_each_upload_has_one_line_in_the_log(function: Lambda) -> None:
    """With numbers, status, counts and duration."""
    function(in_sqs(records(function.drop(GOOD + b"x,y,z\n"))))

    [line] = function.lines()
    assert line["message"] == "partially_loaded"
    assert line["level"] == "INFO"
    assert (line["message_id"], line["tries"]) == ("m1", 1)
    assert (line["bucket"], line["key"], line["version"], line["import_id"]) == ("inbox", "users.csv", "1", 1)
    assert (line["read"], line["registered"], line["rejected"], line["code"]) == (2, 1, 1, "rows-rejected")
    assert line["seconds"] > 0


def test_what_was_counted_is_published(function: Lambda, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows, imports by status, and how long they took."""
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
    """Another try would refuse it again; its uploader has the receipt."""
    assert function(in_sqs(records(function.drop(b"Canary,Somewhere,1\n")))) == []
    assert function.said() == ["refused"]
    assert json.loads(function.desk.read("users.csv/1/receipt.json"))["code"] == "missing-label"


def test_an_upload_that_is_gone_is_a_success(function: Lambda) -> None:
    """Nobody can bring that version back."""
    assert function(in_sqs(records(s3_record("gone.csv", versionId="1")))) == []
    assert [(line["message"], line["code"]) for line in function.lines()] == [("skipped", "source-gone")]


def test_a_redelivery_registers_nobody_twice(function: Lambda) -> None:
    """It is a success."""
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
def test_what_is_no_upload_is_left_alone(function: Lambda, event: Event) -> None:
    """Acknowledged without a word: neither an import nor a receipt nor a line nor a figure."""
    function.settings = {"ROLLCALL_REPORTS": "s3://inbox/reports"}

    assert function(in_sqs(event)) == []
    assert function(event) == []
    assert function.lines() == []
    assert function.desk.stored() == {}


@pytest.mark.parametrize("key", ["reports/users.csv/1/receipt.json", "reports/users.csv"])
def test_what_lies_among_the_reports_is_ignored_and_logged(function: Lambda, key: str) -> None:
    """It may be a report, or an upload that somebody put there, which must not vanish without a line."""
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
def test_what_is_only_called_like_a_report_is_an_upload(function: Lambda, key: str) -> None:
    """Reports lie in folders, and only those of local files in such as end in .rollcall."""
    function.settings = {"ROLLCALL_REPORTS": "s3://inbox/reports"}
    function(in_sqs(records(function.drop(key=key))))

    assert function.said() == ["loaded"]


def test_the_same_key_in_another_bucket_than_the_reports_is_an_upload(function: Lambda) -> None:
    """Where they cannot be confused."""
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
def test_nothing_is_imported_while_receipts_would_be_uploads(function: Lambda, uploads: str, reports: str) -> None:
    """Each receipt would have a receipt, for ever, or each upload be taken for a report."""
    function.settings = {"ROLLCALL_UPLOADS": uploads, "ROLLCALL_REPORTS": reports}

    assert function(in_sqs(records(function.drop(key="march/new/users.csv")))) == ["m1"]
    assert function.lines()[0]["reason"].startswith(f"ROLLCALL_REPORTS is '{reports}'; give another bucket")
    assert function.desk.stored() == {}


def test_a_message_that_nobody_understands_fails_alone(function: Lambda) -> None:
    """It ends in the dead-letter queue, whole, and is not shown before."""
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
def test_what_another_try_can_mend_fails_alone(function: Lambda, error: Exception) -> None:
    """The others of the batch are imported; then it is, once."""
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


def test_a_message_fails_with_any_of_its_records(function: Lambda) -> None:
    """All of them are tried; those that are done are skipped the next time."""
    failing = iter([RepositoryUnavailableError("the database is away")])

    def fail_once() -> None:
        for one in failing:
            raise one

    function.desk = attrs.evolve(function.desk, users=MemoryUserRepository(before_commit=fail_once))
    event = in_sqs(records(function.drop(GOOD, "1.csv"), function.drop(ALSO_GOOD, "2.csv")))

    assert function(event) == ["m1"]
    assert function(event) == []
    assert function.said() == ["failed; it is to be delivered again", "loaded", "loaded", "skipped"]


def test_an_error_of_ours_is_told_by_its_place_and_not_by_its_text(function: Lambda) -> None:
    """Which might show a cell."""

    def stumble() -> None:
        raise ValueError("invalid literal: 'Canary'")

    function.desk = attrs.evolve(function.desk, users=MemoryUserRepository(before_commit=stumble))

    assert function(in_sqs(records(function.drop()))) == ["m1"]
    [line] = function.lines()
    assert line["error"] == "ValueError"
    assert line["stack"][-1].endswith(" stumble")


def test_an_upload_that_is_imported_elsewhere_goes_back_for_later(function: Lambda) -> None:
    """As a new message, which has all its tries, while the old one is done with."""
    event = in_sqs(records(function.drop()))
    with _imported_elsewhere(function.desk):
        assert function(event) == []

    [(arn, body, attributes, delay)] = function.sent
    assert arn == "arn:aws:sqs:us-east-1:123456789012:queue"
    assert (body, attributes, delay) == (event["Records"][0]["body"], {FIRST_SENT: "1767225600000"}, 20)
    assert function.said() == ["put off"]
    assert function({"Records": [message(body, "again", **attributes)]}) == []
    assert len(function.desk.rows()) == 1


def test_what_goes_back_again_and_again_fails_in_the_end(function: Lambda) -> None:
    """Counted from when it was sent first, or it would go round for ever."""
    body = json.dumps(records(function.drop()))
    young, old = (
        {FIRST_SENT: str(round((SENT - timedelta(hours=hours)).timestamp() * 1000))} for hours in (5.9, 6.1)
    )
    with _imported_elsewhere(function.desk):
        event = {"Records": [message(body, "young", **young), message(body, "old", **old)]}
        assert function(event) == ["old"]

    assert [attributes for _, _, attributes, _ in function.sent] == [young]


def test_what_cannot_be_put_back_fails(function: Lambda) -> None:
    """Nothing is lost with the queue away."""

    def refuse(*_: object) -> None:
        raise StoreUnavailableError("arn:aws:sqs", "away")

    function.queue = refuse
    with _imported_elsewhere(function.desk):
        assert function(in_sqs(records(function.drop()))) == ["m1"]


def test_a_message_of_which_one_upload_failed_does_not_go_back_for_another(function: Lambda) -> None:
    """What failed uses up a try."""

    def fail() -> None:
        raise RepositoryUnavailableError("the database is away")

    function.desk = attrs.evolve(function.desk, users=MemoryUserRepository(patience=0, before_commit=fail))
    with _imported_elsewhere(function.desk):
        assert function(in_sqs(records(function.drop(), function.drop(ALSO_GOOD, "2.csv")))) == ["m1"]

    assert function.sent == []


@attrs.define
class Stuck:
    """A store that answers nothing about one key, and takes every failure of its own for one to try again."""

    desk: Desk
    key: str
    times: float = math.inf

    @contextmanager
    def open(self, reference: ObjectReference) -> Iterator[StoredObject]:
        """Wait until somebody interrupts, so many times."""
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
        """Take every key."""
        return True

    def require_writable(self, key: str) -> None:
        """Find nothing in the way."""

    def put(self, key: str, content: BinaryIO) -> str:
        """Put nothing."""
        raise NotImplementedError(key, content)

    def list(self, prefix: str = "", *, after: ObjectReference | None = None) -> Iterator[Listed]:
        """List nothing."""
        raise NotImplementedError(prefix, after)


def test_what_takes_too_long_is_interrupted_and_fails(function: Lambda) -> None:
    """In time to roll back and to answer; it has had the whole of an invocation and so a try."""
    function.desk = attrs.evolve(function.desk, through=Stuck(function.desk, "stuck.csv"))

    assert function(in_sqs(records(function.drop(key="stuck.csv"))), Context(0.1)) == ["m1"]
    assert function.said()[0].startswith("out of time; what was not committed is rolled back")
    assert function.desk.rows() == []


@pytest.mark.parametrize(("tries", "refused"), [(2, False), (3, True), (4, True)])
def test_an_upload_that_takes_too_long_is_refused_at_last(function: Lambda, tries: int, refused: bool) -> None:  # noqa: FBT001 - what varies
    """After its last try it would be retried by hand without end, and its uploader would never know."""
    function.desk = attrs.evolve(function.desk, through=Stuck(function.desk, "stuck.csv", times=1))
    event = in_sqs(records(function.drop(key="stuck.csv")))
    event["Records"][0]["attributes"]["ApproximateReceiveCount"] = str(tries)

    assert function(event, Context(0.1)) == ([] if refused else ["m1"])
    codes = [entry.receipt.code for entry in function.desk.users.entries()]
    assert codes == ([Code.SIZE_LIMIT] if refused else [])
    assert any(key.endswith("/receipt.json") for key in function.desk.stored()) == refused


@pytest.mark.parametrize("seconds", [0.05, 0, -10])
def test_what_has_no_time_left_behind_others_goes_back(function: Lambda, seconds: float) -> None:
    """It has not had a try of its own, and the next time it may be first."""
    function.desk = attrs.evolve(function.desk, through=Stuck(function.desk, "stuck.csv"))
    event = in_sqs(records(function.drop(ALSO_GOOD)), records(function.drop(key="stuck.csv")))

    assert function(event, Context(900, 900, RESERVE_SECONDS + seconds)) == []
    assert [body for _, body, _, _ in function.sent] == [event["Records"][1]["body"]]
    assert function.said() == ["loaded", "put off"]


def test_nothing_is_begun_without_time(function: Lambda) -> None:
    """Such as after a slow start."""
    event = in_sqs(records(function.drop()))

    assert function(event, Context(0)) == ["m1"]
    assert function.desk.rows() == []


@attrs.define
class Freezing(MemoryObjectStore):
    """A store of reports before which an import is frozen while something else is done."""

    behind: MemoryObjectStore
    meanwhile: Callable[[], object]

    def put(self, key: str, content: BinaryIO) -> str:
        """Let the others go first, once."""
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return self.behind.put(key, content)


@pytest.mark.parametrize(
    ("frozen_for", "said"),
    [(59, ["put off", "partially_loaded"]), (61, ["partially_loaded", "failed; it is to be delivered again"])],
)
def test_whose_invocation_is_over_gives_way_to_another_delivery_and_nobody_else_does(
    function: Lambda, frozen_for: float, said: list[str]
) -> None:
    """AWS may freeze a function in the midst of an import, and later kill it, without a word to the database."""
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


def test_nobody_is_interrupted_afterwards(function: Lambda) -> None:
    """Neither the answer nor whoever comes next."""
    before = signal.getsignal(signal.SIGALRM)
    function(in_sqs(records(function.drop())))

    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_time_that_is_up_at_the_very_end_interrupts_nobody_afterwards(
    function: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alarm may ring while it is being put off."""
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
    """Not even with what ends a line elsewhere or turns text around."""
    key = "a\u2028b\u202ec\x85.csv"
    function(records(function.drop(key=key)))

    assert [line["key"] for line in function.lines()] == [key]


def test_what_comes_directly_is_imported(function: Lambda) -> None:
    """From S3 itself or by EventBridge."""
    function(records(function.drop(GOOD, "1.csv")))
    function.drop(ALSO_GOOD, "2.csv")
    function(by_eventbridge("2.csv", **{"version-id": "1"}))

    assert [row[2] for row in function.desk.rows()] == [1, 2]


def test_what_comes_directly_and_fails_is_left_to_the_invoker(function: Lambda) -> None:
    """After all of it was tried; there is no queue that it could go back to."""
    with _imported_elsewhere(function.desk):
        event = records(function.drop(), function.drop(ALSO_GOOD, "2.csv"))
        with pytest.raises(ImportFailedError):
            function(event)

    assert [row[2] for row in function.desk.rows()] == [2]
    assert function.sent == []


def test_what_comes_directly_and_is_not_understood_is_left_to_the_invoker(function: Lambda) -> None:
    """Without being shown."""
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
def test_it_does_not_start_without_what_it_needs(settings: dict[str, str], sentence: str) -> None:
    """There is no database of its own on AWS, nor a folder beside an upload."""
    with ExitStack() as held, pytest.raises(SettingError) as error:
        wire(read_settings(settings), held)

    assert str(error.value).startswith(sentence)


@contextmanager
def _imported_elsewhere(desk: Desk, key: str = "users.csv") -> Iterator[None]:
    """Hold what somebody holds who is importing the first version of a key with the content of `GOOD`."""
    desk.drop(GOOD, key)
    with desk.uploads.open(ObjectReference(key=key, version="1")) as found:
        upload = found.upload
    with desk.users.importing(upload, sha256=_sha256(GOOD)):
        yield


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
