"""Many simultaneous attempts to register the same rows: one succeeds, and none waits for minutes."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime

import attrs
import pytest

from rollcall.adapters.postgres.migration import migrate
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.application.errors import ImportInProgressError, UndoRefusedError, UnknownImportError
from rollcall.domain.policy import Policy
from rollcall.domain.receipt import Receipt
from rollcall.domain.rejection import Code
from rollcall.domain.upload import ObjectReference
from rollcall.domain.user import USERS
from support.builders import completed
from support.campaigns import Campaign
from support.fakes import DatabaseDesk
from support.uploads import FaultyUpload, made_upload

DELIVERIES = 64
NOBODY_WAITS_SECONDS = 60  # generous: all 64 may share one or two cores

Attempt = Callable[[PostgresUserRepository], Receipt | int]
Outcome = Receipt | int | Exception


@pytest.fixture(scope="module")
def workers(migrated_database: str) -> Iterator[list[PostgresUserRepository]]:
    """One repository for each delivery, each with its own connection."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(closing(PostgresUserRepository(migrated_database, USERS)))
            for _ in range(DELIVERIES)
        ]


@pytest.fixture(params=[True, False], ids=["locks", "no locks"])
def locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether imports take locks; without locks, the ledger's constraints must give the same result."""
    if not request.param:
        for module in "repository", "merge":
            monkeypatch.setattr(f"rollcall.adapters.postgres.{module}.acquire_locks", lambda *_, **__: None)
    return bool(request.param)


def _named(fault: str, *, locks: bool) -> str:
    return fault if locks else f"{fault}, without locks"


def _at_once(workers: list[PostgresUserRepository], attempts: list[Attempt]) -> list[Outcome]:
    """Let each worker make one attempt, all at the same moment.

    Returns:
        The outcome of each attempt: a receipt, a number of removed users, or the error of a late attempt.
    """
    outcomes: list[Outcome] = []
    ready = threading.Barrier(len(attempts))

    def make(attempt: Attempt, worker: PostgresUserRepository) -> None:
        ready.wait()
        begun = time.monotonic()
        try:
            outcomes.append(attempt(worker))
        except (ImportInProgressError, UndoRefusedError, UnknownImportError) as error:
            outcomes.append(error)
        assert time.monotonic() - begun < NOBODY_WAITS_SECONDS

    threads = [
        threading.Thread(target=make, args=(attempt, worker))
        for attempt, worker in zip(attempts, workers, strict=False)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == len(attempts)  # no other error was raised
    return outcomes


def _delivery(desk: DatabaseDesk, reference: ObjectReference, *, again: bool = False) -> Attempt:
    return lambda users: desk.importer(users)(reference, again=again)


def _undo(import_id: int) -> Attempt:
    return lambda users: users.undo(import_id, datetime.now(UTC))


def _receipts(outcomes: list[Outcome]) -> list[Receipt]:
    return [outcome for outcome in outcomes if isinstance(outcome, Receipt)]


def _registering(outcomes: list[Outcome]) -> list[Receipt]:
    return [receipt for receipt in _receipts(outcomes) if receipt.status.registers]


def test_one_of_64_deliveries_imports_the_upload(
    campaign: Campaign, emptied: Callable[[], str], workers: list[PostgresUserRepository], *, locks: bool
) -> None:
    """The other deliveries are skipped, at once or when they are retried."""
    chance = random.Random(f"{campaign.seed} one upload")  # noqa: S311 - a seed makes the run repeatable
    with campaign.line(_named(f"{DELIVERIES} deliveries of one upload at once", locks=locks)) as line:
        line.points = DELIVERIES
        for _ in range(campaign.choose(1 + locks, 200)):
            desk, upload = DatabaseDesk(emptied()), made_upload("a.csv", rows=300, seed=chance.randrange(10**9))
            reference = desk.drop(upload)

            outcomes = _at_once(workers, [_delivery(desk, reference)] * DELIVERIES)

            line.add(desk.oracle.found([upload]))
            desk.oracle.require_all_settled([upload])
            assert len(_registering(outcomes)) == 1
            others = [receipt.code for receipt in _receipts(outcomes) if not receipt.status.registers]
            assert set(others) <= {Code.REDELIVERY}
            assert desk.merge(reference).code is Code.REDELIVERY


def test_one_of_16_uploads_with_one_content_is_imported(
    campaign: Campaign, emptied: Callable[[], str], workers: list[PostgresUserRepository], *, locks: bool
) -> None:
    """As when people upload the same list under several names."""
    chance = random.Random(f"{campaign.seed} one content")  # noqa: S311 - a seed makes the run repeatable
    with campaign.line(_named("16 uploads with one content at once", locks=locks)) as line:
        line.points = 16
        for _ in range(campaign.choose(1 + locks, 50)):
            upload = made_upload("0.csv", rows=300, seed=chance.randrange(10**9))
            uploads = [attrs.evolve(upload, key=f"{number}.csv") for number in range(16)]
            desk = DatabaseDesk(emptied())
            references = [desk.drop(one) for one in uploads]

            outcomes = _at_once(workers, [_delivery(desk, reference) for reference in references])

            line.add(desk.oracle.found(uploads))
            [loaded] = _registering(outcomes)
            assert {desk.merge(reference).code for reference in references} == {Code.REDELIVERY, Code.REPEAT}
            desk.oracle.require_all_settled([one for one in uploads if one.key == loaded.source.key])


def test_one_of_8_versions_of_a_key_is_imported(
    campaign: Campaign, emptied: Callable[[], str], workers: list[PostgresUserRepository], *, locks: bool
) -> None:
    """The other versions are refused, at once or when they are retried."""
    chance = random.Random(f"{campaign.seed} one key")  # noqa: S311 - a seed makes the run repeatable
    with campaign.line(_named("8 versions of one key at once", locks=locks)) as line:
        line.points = 8
        for _ in range(campaign.choose(1 + locks, 50)):
            desk = DatabaseDesk(emptied())
            versions = [made_upload("a.csv", rows=300, seed=chance.randrange(10**9)) for _ in range(8)]
            for version in versions:
                desk.drop(version)
            references = desk.versions("a.csv")

            outcomes = _at_once(workers, [_delivery(desk, reference) for reference in references])

            [loaded] = _registering(outcomes)
            upload = versions[int(loaded.source.version) - 1]
            line.add(desk.oracle.found([upload]))
            codes = [desk.merge(reference).code for reference in references]
            assert sorted(map(str, codes)) == sorted([Code.REDELIVERY, *[Code.KEY_ALREADY_LOADED] * 7])
            desk.oracle.require_all_settled([upload])


@pytest.mark.parametrize("unique_by", [(), ("name", "country")], ids=["", "told apart"])
def test_an_undo_during_imports_of_the_same_upload_is_complete(
    campaign: Campaign,
    emptied: Callable[[], str],
    workers: list[PostgresUserRepository],
    unique_by: tuple[str, ...],
    *,
    locks: bool,
) -> None:
    """In any order, all users are registered or none, and the ledger agrees."""
    policy = Policy(unique_by=unique_by)
    chance = random.Random(f"{campaign.seed} undo")  # noqa: S311 - a seed makes the run repeatable
    fault = f"undo beside imports of the same upload{', told apart' if unique_by else ''}"
    with campaign.line(_named(fault, locks=locks)) as line:
        line.points = 8
        for _ in range(campaign.choose(1 + locks, 50)):
            upload = made_upload("a.csv", rows=300, seed=chance.randrange(10**9))
            url = emptied()
            migrate(url, USERS, policy)
            desk = DatabaseDesk(url, policy)
            reference = desk.drop(upload)
            import_id = desk.merge(reference).import_id or 0
            attempts = [_undo(import_id), _undo(import_id)]
            attempts += [_delivery(desk, reference, again=number % 2 == 0) for number in range(6)]
            chance.shuffle(attempts)

            _at_once(workers, attempts)

            line.add(desk.oracle.found([upload]))
            desk.oracle.require_all_settled([upload])


@pytest.mark.parametrize("what", ["corrected rows", "users told apart"])
def test_one_of_8_files_of_the_same_rows_registers_each_row(
    campaign: Campaign,
    emptied: Callable[[], str],
    workers: list[PostgresUserRepository],
    what: str,
    *,
    locks: bool,
) -> None:
    """The rows correct one import, or their names are unique."""
    policy = Policy(unique_by=("name",) if what == "users told apart" else ())
    with campaign.line(_named(f"8 files of the same {what} at once", locks=locks)) as line:
        line.points = 8
        for _ in range(campaign.choose(1 + locks, 50)):
            url = emptied()
            migrate(url, USERS, policy)
            desk = DatabaseDesk(url, policy)
            first = desk.merge(_drop(desk, "a.csv", ["name,country,age", "own,X,0", *["{n},X,x"] * 50]))
            header, *rows = desk.oracle.read_report(first.rejected_rows or "").decode("utf-8-sig").splitlines()
            again = [header, *rows] if what == "corrected rows" else ["name,country,age", *["{n},X,x"] * 50]
            references = [
                # Blank lines are no rows, and make the contents differ.
                _drop(desk, f"{number}.csv", [line.replace(",x", ",7", 1) for line in again] + [""] * number)
                for number in range(8)
            ]

            _at_once(workers, [_delivery(desk, reference) for reference in references])
            for reference in references:
                desk.merge(reference)

            query = "select count(*), count(distinct name) from users where age = 7"
            [(there, different)] = desk.oracle.asked(url, query)
            line.repetitions += 1
            line.duplicated += there - different
            line.lost += 50 - different
            assert (there, different) == (50, 50)


def _drop(desk: DatabaseDesk, key: str, lines: list[str]) -> ObjectReference:
    numbered = [line.replace("{n}", f"n{number}") for number, line in enumerate(lines)]
    return desk.drop(FaultyUpload(key, completed("\n".join(numbered).encode()), {}, frozenset()))
