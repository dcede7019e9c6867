"""Connection or server break: only the ledger knows the outcome, and a redelivery queries it."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rollcall.adapters.embedded_postgres import running
from rollcall.adapters.postgres.migration import migrate
from rollcall.application.errors import RepositoryUnavailableError
from rollcall.domain.receipt import Receipt
from rollcall.domain.rejection import Code
from rollcall.domain.user import USERS
from support.builders import asked
from support.campaigns import Campaign, Line
from support.fakes import DatabaseDesk
from support.privacy import require_quiet
from support.proxy import AtByte, CommitReplyLost, Counting, Fault, Proxy, commit_request_lost, proxy_before
from support.uploads import FaultyUpload, made_upload

SIGNALS = (signal.SIGKILL, signal.SIGQUIT)


@pytest.fixture(scope="module")
def proxy(migrated_database: str) -> Iterator[Proxy]:
    """A proxy for the tests' database."""
    with proxy_before(migrated_database) as proxy:
        yield proxy


def _an_upload(chance: random.Random) -> FaultyUpload:
    return made_upload("list.csv", rows=chance.randint(50, 300), seed=chance.randrange(10**9))


def _broken(desk: DatabaseDesk, upload: FaultyUpload, proxy: Proxy, fault: Fault) -> bool:
    """Deliver an upload once with a fault.

    Returns:
        Whether the worker noticed the fault.
    """
    proxy.fault = fault
    try:
        desk.deliver(desk.drop(upload), proxy.url)
    except RepositoryUnavailableError as error:
        require_quiet(error)
        return True
    return False


def _judged(line: Line, desk: DatabaseDesk, upload: FaultyUpload) -> Receipt:
    """Compare the database with its ledger, deliver again, and check every promise."""
    desk.oracle.require_nothing_broken([upload])
    [reference] = desk.versions(upload.key)
    receipt = desk.merge(reference)
    line.add(desk.oracle.found([upload]))
    desk.oracle.require_all_settled([upload])
    return receipt


@pytest.mark.parametrize("lost", ["request", "reply"])
def test_a_commit_in_doubt_is_looked_up_in_the_ledger(
    campaign: Campaign, emptied: Callable[[], str], proxy: Proxy, lost: str
) -> None:
    """The worker sees the same failure, whether everything was committed or nothing."""
    chance = random.Random(f"{campaign.seed} {lost}")  # noqa: S311 - to be repeated
    with campaign.line(f"COMMIT {lost} lost") as line:
        line.points = 1
        for _ in range(campaign.choose(10, 500)):
            desk, upload = DatabaseDesk(emptied()), _an_upload(chance)
            proxy.resets = chance.random() < 0.5

            assert _broken(desk, upload, proxy, commit_request_lost if lost == "request" else CommitReplyLost())

            assert (_judged(line, desk, upload).code is Code.REDELIVERY) is (lost == "reply")


@pytest.mark.parametrize("whose", ["client", "server"])
def test_a_connection_may_be_cut_at_any_byte(
    campaign: Campaign, emptied: Callable[[], str], proxy: Proxy, whose: str
) -> None:
    """From the first byte of the connection to the last."""
    of_client = whose == "client"
    chance = random.Random(f"{campaign.seed} {whose}")  # noqa: S311 - to be repeated
    with campaign.line(f"connection cut at any byte of the {whose}") as line:
        upload, points = _an_upload(chance), set()
        whole = _length(upload, DatabaseDesk(emptied()), proxy, of_client=of_client)
        for _ in range(campaign.choose(8, 250)):
            desk, byte = DatabaseDesk(emptied()), chance.randrange(whole)
            proxy.resets = chance.random() < 0.5
            _broken(desk, upload, proxy, AtByte(byte, of_client))
            _judged(line, desk, upload)
            points.add(byte)
        line.points = len(points)


def _length(upload: FaultyUpload, desk: DatabaseDesk, proxy: Proxy, *, of_client: bool) -> int:
    """Count the bytes of one direction during an undisturbed import."""
    counting = Counting()
    assert not _broken(desk, upload, proxy, counting)
    return counting.of_client if of_client else counting.of_server


def test_the_server_may_end_the_connection_at_any_moment(
    campaign: Campaign, emptied: Callable[[], str], proxy: Proxy
) -> None:
    """An operator does that, and a failover."""
    chance = random.Random(f"{campaign.seed} end")  # noqa: S311 - to be repeated
    with campaign.line("pg_terminate_backend at any moment") as line:
        upload, points = _an_upload(chance), set()
        whole = _length(upload, DatabaseDesk(emptied()), proxy, of_client=True)
        for _ in range(campaign.choose(8, 250)):
            desk, byte = DatabaseDesk(emptied()), chance.randrange(whole)
            wait = chance.choice([0, 10_000])  # whether the worker continues at once, or finds its connection cut

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
    """After its recovery, all committed rows are in the table, and no others."""
    chance = random.Random(f"{campaign.seed} kill")  # noqa: S311 - to be repeated
    moments, points = ["before the request", "after the request", "before the reply"], set()
    with campaign.line("postmaster killed around the COMMIT, and recovered") as line, running(tmp_path) as url:
        migrate(url, USERS)
        with proxy_before(url) as proxy:
            for number in range(campaign.choose(2, 30)):
                asked(url, "truncate users, imports, corrections restart identity")
                desk, upload = DatabaseDesk(url), _an_upload(chance)
                how, pause = chance.choice(SIGNALS), chance.random() * 0.004

                def kill(pause: float = 0, how: signal.Signals = how) -> None:
                    time.sleep(pause)
                    os.kill(int((tmp_path / "postgres" / "postmaster.pid").read_text().split("\n")[0]), how)

                moment = moments[number % len(moments)]
                with _killing(moment, kill, pause) as fault:
                    _broken(desk, upload, proxy, fault)
                with running(tmp_path):  # recovers the database and keeps it running
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
        # The server receives the commit and dies during it, or just after it.
        killer = threading.Thread(target=kill, args=(pause,))
        yield CommitReplyLost(before_request=killer.start)
        killer.join()
