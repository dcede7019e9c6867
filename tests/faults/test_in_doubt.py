"""Whatever becomes of the connection, or of the server: only the ledger knows, and a redelivery asks it."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from contracts.steps import asked
from faults.campaigns import Campaign, Line
from faults.desk import Desk, require_quiet
from faults.proxy import AtByte, CommitReplyLost, Counting, Fault, Proxy, commit_request_lost, proxy_before
from faults.uploads import FaultyUpload, made_upload
from rollcall.adapters.embedded_postgres import running
from rollcall.adapters.postgres.migrating import migrate
from rollcall.application.ports import RepositoryUnavailableError
from rollcall.domain.receipt import Receipt
from rollcall.domain.rejection import Code

SIGNALS = (signal.SIGKILL, signal.SIGQUIT)


@pytest.fixture(scope="module")
def proxy(migrated_database: str) -> Iterator[Proxy]:
    """A proxy before the database of the tests."""
    with proxy_before(migrated_database) as proxy:
        yield proxy


def _an_upload(chance: random.Random) -> FaultyUpload:
    return made_upload("list.csv", rows=chance.randint(50, 300), seed=chance.randrange(10**9))


def _broken(desk: Desk, upload: FaultyUpload, proxy: Proxy, fault: Fault) -> bool:
    """Deliver an upload once while something breaks.

    Returns:
        Whether the worker noticed.
    """
    proxy.fault = fault
    try:
        desk.deliver(desk.drop(upload), proxy.url)
    except RepositoryUnavailableError as error:
        require_quiet(error)
        return True
    return False


def _judged(line: Line, desk: Desk, upload: FaultyUpload) -> Receipt:
    """Hold the database to its ledger, deliver again, and hold everything to the promise."""
    desk.oracle.require_nothing_broken([upload])
    [reference] = desk.versions(upload.key)
    receipt = desk.settle(reference)
    line.add(desk.oracle.found([upload]))
    desk.oracle.require_all_settled([upload])
    return receipt


@pytest.mark.parametrize("lost", ["request", "reply"])
def test_a_commit_that_is_in_doubt_is_asked_of_the_ledger(
    campaign: Campaign, emptied: Callable[[], str], proxy: Proxy, lost: str
) -> None:
    """Both look the same to the worker; in one case nothing is there, in the other everything."""
    chance = random.Random(f"{campaign.seed} {lost}")  # noqa: S311 - to be repeated
    with campaign.line(f"COMMIT {lost} lost") as line:
        line.points = 1
        for _ in range(campaign.choose(10, 500)):
            desk, upload = Desk(emptied()), _an_upload(chance)
            proxy.resets = chance.random() < 0.5

            assert _broken(desk, upload, proxy, commit_request_lost if lost == "request" else CommitReplyLost())

            assert (_judged(line, desk, upload).code is Code.REDELIVERY) is (lost == "reply")


@pytest.mark.parametrize("whose", ["client", "server"])
def test_a_connection_may_be_cut_at_any_byte(
    campaign: Campaign, emptied: Callable[[], str], proxy: Proxy, whose: str
) -> None:
    """From the first of the greeting to the last of the farewell."""
    of_client = whose == "client"
    chance = random.Random(f"{campaign.seed} {whose}")  # noqa: S311 - to be repeated
    with campaign.line(f"connection cut at any byte of the {whose}") as line:
        upload, points = _an_upload(chance), set()
        whole = _length(upload, Desk(emptied()), proxy, of_client=of_client)
        for _ in range(campaign.choose(8, 250)):
            desk, byte = Desk(emptied()), chance.randrange(whole)
            proxy.resets = chance.random() < 0.5
            _broken(desk, upload, proxy, AtByte(byte, of_client))
            _judged(line, desk, upload)
            points.add(byte)
        line.points = len(points)


def _length(upload: FaultyUpload, desk: Desk, proxy: Proxy, *, of_client: bool) -> int:
    """Count the bytes that go one way in an import that nothing breaks."""
    counting = Counting()
    assert not _broken(desk, upload, proxy, counting)
    return counting.of_client if of_client else counting.of_server


def test_the_server_may_end_the_connection_at_any_moment(
    campaign: Campaign, emptied: Callable[[], str], proxy: Proxy
) -> None:
    """As an operator does, or a failover."""
    chance = random.Random(f"{campaign.seed} end")  # noqa: S311 - to be repeated
    with campaign.line("pg_terminate_backend at any moment") as line:
        upload, points = _an_upload(chance), set()
        whole = _length(upload, Desk(emptied()), proxy, of_client=True)
        for _ in range(campaign.choose(8, 250)):
            desk, byte = Desk(emptied()), chance.randrange(whole)
            wait = chance.choice([0, 10_000])  # whether the worker goes on at once, or finds it ended

            def end(url: str = desk.database_url, wait: int = wait) -> None:
                asked(
                    url,
                    "select pg_terminate_backend(pid, %s) from pg_stat_activity "
                    "where datname = current_database() and application_name = 'rollcall'",
                    wait,
                )

            _broken(desk, upload, proxy, AtByte(byte, of_client=True, meanwhile=end, cuts=False))
            _judged(line, desk, upload)
            points.add(byte)
        line.points = len(points)


def test_the_server_may_be_killed_around_the_commit(campaign: Campaign, tmp_path: Path) -> None:
    """And recovers; what it had committed is there, and nothing else."""
    chance = random.Random(f"{campaign.seed} kill")  # noqa: S311 - to be repeated
    moments, points = ["before the request", "after the request", "before the reply"], set()
    with campaign.line("postmaster killed around the COMMIT, and recovered") as line, running(tmp_path) as url:
        migrate(url)
        with proxy_before(url) as proxy:
            for number in range(campaign.choose(2, 30)):
                asked(url, "truncate users, imports, corrections restart identity")
                desk, upload = Desk(url), _an_upload(chance)
                how, pause = chance.choice(SIGNALS), chance.random() * 0.004

                def kill(pause: float = 0, how: signal.Signals = how) -> None:
                    time.sleep(pause)
                    os.kill(int((tmp_path / "postgres" / "postmaster.pid").read_text().split("\n")[0]), how)

                moment = moments[number % len(moments)]
                with _killing(moment, kill, pause) as fault:
                    _broken(desk, upload, proxy, fault)
                with running(tmp_path):  # which recovers it, and leaves it running for us
                    _judged(line, desk, upload)
                points.add((moment, how))
        line.points = len(points)


@contextmanager
def _killing(moment: str, kill: Callable[..., None], pause: float) -> Iterator[Fault]:
    if moment == "before the request":
        yield CommitReplyLost(before_request=kill)
    elif moment == "before the reply":
        yield CommitReplyLost(before_reply=kill)
    else:
        # The server hears of the commit and dies while it is at it, or has just done it.
        killer = threading.Thread(target=kill, args=(pause,))
        yield CommitReplyLost(before_request=killer.start)
        killer.join()
