"""Deliveries in any order and number, wrong clocks, and deadlines at any point."""

import random
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest

from rollcall.adapters.memory import MemoryObjectStore
from rollcall.adapters.postgres.migration import migrate
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.application.ports import ObjectStore, UserRepository
from rollcall.application.reports import Reports
from rollcall.domain.policy import OnDuplicate, OnNewVersion, Policy
from rollcall.domain.user import USERS
from rollcall.entrypoints.import_lambda import ImportLambda
from support.aws_events import Context, Event, in_sqs, s3_record
from support.builders import NOON, add_user, asked, completed, eventually
from support.campaigns import Campaign
from support.oracle import Oracle, foreign_users, in_s3
from support.privacy import lambda_log
from support.receipts import CheckedImport
from support.s3_server import s3_server
from support.uploads import CANARY, made_upload

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

Point = tuple[str, int]

# A long deadline: the test interrupts the invocation, not Lambda.
LONG = Context(900)
LINES_OF_LIBRARIES = 300  # tried by the long form, of thousands; each takes a second


def _function(
    uploads: ObjectStore,
    reports: ObjectStore,
    users: UserRepository,
    policy: Policy = Policy(),
    now: Callable[[], datetime] = lambda: NOON,
) -> Callable[[Event], list[str]]:
    """Return the Lambda. It answers with the messages to deliver again."""
    case = CheckedImport(
        uploads=uploads,
        reports=Reports(store=reports),
        users=users,
        policy=policy,
        now=now,
        spool=tempfile.TemporaryFile,
    )
    function = ImportLambda(import_users=case, send=lambda *_: None, now=lambda: NOON, tries=3)

    def invoke(event: Event) -> list[str]:
        answer = function(event, cast("LambdaContext", LONG))
        return [str(failure["itemIdentifier"]) for failure in answer["batchItemFailures"]] if answer else []

    return invoke


@attrs.define
class Deadline:
    """Ends the time of an invocation at the n-th new line, of Rollcall's and the libraries' files.

    Attributes:
        at: The number of the line; None to count only.
        passed: The lines that were reached while an import was running.
    """

    at: int | None = None
    passed: dict[Point, None] = attrs.Factory(dict)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:  # noqa: ANN401 - the type that tracing requires
        if event == "line":
            point = frame.f_code.co_filename, frame.f_lineno
            if point not in self.passed and _under_way():
                self.passed[point] = None
                if len(self.passed) - 1 == self.at:
                    # Like the real timer, but earlier and repeatedly.
                    signal.setitimer(signal.ITIMER_REAL, 0.5, 0.5)
                    signal.raise_signal(signal.SIGALRM)
        return self._trace

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Trace until the block ends."""
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            yield
        finally:
            sys.settrace(before)


def _under_way() -> bool:
    handler = signal.getsignal(signal.SIGALRM)
    armed, _ = signal.getitimer(signal.ITIMER_REAL)
    return armed > 0 and getattr(handler, "__name__", "") == "interrupt"


# A destructor cannot raise, and Python warns about it; the timer fires again. A connection that is interrupted
# before it has an owner also warns, and is closed: the test checks that.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_deadline_at_any_line_loses_and_doubles_nothing(campaign: Campaign, database_url: str) -> None:
    """In Rollcall or a library: the message is delivered again, and completes the import."""
    add_user(database_url)
    upload = made_upload("list.csv", rows=12, seed=campaign.seed)
    with ExitStack() as held:
        s3 = held.enter_context(s3_server())
        held.enter_context(lambda_log())
        users = PostgresUserRepository(database_url, USERS)
        held.callback(users.close)
        oracle = Oracle(
            database_url=database_url,
            read_report=s3.read,
            receipt_address=in_s3,
            foreign=foreign_users(database_url),
        )
        stored = s3.put(f"inbox/{upload.key}", upload.content)
        event = in_sqs({"Records": [s3_record(upload.key, versionId=stored.version, size=len(stored.data))]})
        invoke = _function(s3.store("inbox"), s3.store("reports"), users)

        def begin_anew() -> None:
            s3.forget("reports/")
            asked(database_url, "delete from users where import_id is not null; delete from imports")

        assert invoke(event) == []  # a first run, so that modules that are imported late are loaded
        begin_anew()
        whole = Deadline()
        with whole.watching():
            assert invoke(event) == []
        ours = [at for at, (file, _) in enumerate(whole.passed) if "/rollcall/" in file]
        libraries = sorted({*range(len(whole.passed))} - {*ours})
        chance = random.Random(campaign.seed)  # noqa: S311 - repeatable, not secret
        some_of_ours = campaign.choose([*chance.sample(ours, 12), ours[-1]], ours)
        points = sorted({*some_of_ours, *chance.sample(libraries, campaign.choose(8, LINES_OF_LIBRARIES))})
        with campaign.line("Lambda: its deadline at any line") as line:
            line.points = len(points)
            for at in points:
                begin_anew()
                deadline = Deadline(at)
                with deadline.watching():
                    again = invoke(event)
                line.add(oracle.found([upload]))
                oracle.require_nothing_broken([upload])
                assert again in ([], ["m1"])
                if not again:
                    oracle.require_all_settled([upload])
                assert signal.getitimer(signal.ITIMER_REAL) == (0, 0), "whoever comes next would be interrupted"
                assert eventually(lambda: _open_transactions(database_url) == 0)
                assert invoke(event) == []
                oracle.require_all_settled([upload])


def _open_transactions(database_url: str) -> int:
    [(count,)] = asked(
        database_url,
        "select count(*) from pg_stat_activity where datname = current_database()"
        " and application_name = 'rollcall' and state <> 'idle'",
    )
    return int(count)


POLICIES = {
    "refused": Policy(),
    "imported as new": Policy(on_new_version=OnNewVersion.IMPORT),
    "updated": Policy(unique_by=("name",), on_duplicate=OnDuplicate.UPDATE),
    "skipped": Policy(unique_by=("name",)),
}


@pytest.mark.parametrize("policy", POLICIES)
def test_any_order_and_number_of_deliveries_ends_the_same(
    campaign: Campaign, emptied: Callable[[], str], policy: str
) -> None:
    """The clocks are up to an hour wrong: only the store orders versions."""
    chance = random.Random(f"{campaign.seed} {policy}")  # noqa: S311 - repeatable, not secret
    keys, versions, people = ("a.csv", "b.csv"), (1, 2, 3), 5
    url = emptied()
    migrate(url, USERS, POLICIES[policy])
    with campaign.line(f"order of deliveries, new versions {policy}") as line, ExitStack() as held:
        held.callback(lambda: migrate(emptied(), USERS, Policy()))
        held.enter_context(lambda_log())
        users = PostgresUserRepository(url, USERS)
        held.callback(users.close)
        for _ in range(campaign.choose(3, 100)):
            asked(url, "truncate users, imports, corrections")
            time = [NOON]
            uploads = MemoryObjectStore("inbox", lambda time=time: time[0], "")  # type: ignore[misc]
            invoke = _function(
                uploads,
                MemoryObjectStore("reports"),
                users,
                POLICIES[policy],
                lambda: NOON + timedelta(hours=chance.choice((-1, 0, 1)), seconds=chance.random()),
            )
            events = []
            for key in keys:
                for version in versions:
                    rows = "".join(f"{CANARY} {key} {person},Japan,{version}\n" for person in range(people))
                    with tempfile.TemporaryFile() as file:
                        file.write(completed(f"name,country,age\n{rows}".encode()))
                        file.seek(0)
                        uploads.put(key, file)
                    time[0] += timedelta(seconds=1)
                    record = s3_record(key, versionId=str(version), sequencer=f"00{version:X}")
                    events.append({"Records": [record]})
            order = chance.sample(events * 3, len(events) * 3)
            line.points += 1
            while order:
                batch, order = order[:4], order[4:]
                assert invoke(in_sqs(*batch)) == []
            line.repetitions += len(events) * 3
            _require_order_to_be_all_one(url, policy, keys, people)
            first = asked(url, "select * from users order by id")
            assert invoke(in_sqs(*events)) == []
            assert asked(url, "select * from users order by id") == first


def _require_order_to_be_all_one(url: str, policy: str, keys: tuple[str, ...], people: int) -> None:
    found = asked(url, "select name, count(*), min(age), max(age) from users group by name order by name")
    assert [name for name, *_ in found] == [f"{CANARY} {key} {person}" for key in keys for person in range(people)]
    for _, count, youngest, oldest in found:
        if policy == "imported as new":
            assert (count, youngest, oldest) == (3, 1, 3)
        elif policy == "updated":
            assert (count, youngest) == (1, 3)
        else:
            assert (count, youngest) == (1, oldest)
    by_status = dict(asked(url, "select status, count(*) from imports group by status"))
    in_force = by_status.get("loaded", 0)
    assert sum(by_status.values()) == 3 * len(keys)
    assert in_force == {"refused": len(keys), "imported as new": 6, "skipped": 6}.get(policy, in_force)
