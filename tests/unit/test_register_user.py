"""One user by a request: once for each idempotency key, also if the answer is lost."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NoReturn

import pytest

from rollcall.adapters.dry_run import NoReports
from rollcall.adapters.memory import MemoryUserRepository
from rollcall.application.errors import ImportInProgressError, RepositoryUnavailableError
from rollcall.application.register_user import RegisterUser
from rollcall.application.reports import Reports
from rollcall.domain.policy import OnDuplicate, OnNewVersion, Policy, Tolerance
from rollcall.domain.receipt import Receipt, Status
from rollcall.domain.rejection import Code
from rollcall.domain.upload import API_BUCKET, owner, request_key
from support.builders import cells_of
from support.fakes import Clock, Desk
from support.receipts import as_published

ME = owner("me")
ANN = cells_of()
BEN = cells_of("Ben", "Peru", "0")
FAULTY = cells_of(" ", age="x")
POLICIES = [
    Policy(),
    Policy(on_new_version=OnNewVersion.IMPORT),
    Policy(max_rejected=Tolerance("0")),
    *(Policy(unique_by=("name",), on_duplicate=what) for what in OnDuplicate),
]


def a_case(users: MemoryUserRepository, policy: Policy = Policy()) -> RegisterUser:
    """Return the use case on a repository."""
    return RegisterUser(users=users, reports=Reports(store=NoReports()), policy=policy, now=Clock())


def registered(receipt: object) -> Receipt:
    """Return the receipt of a registered user."""
    assert isinstance(receipt, Receipt)
    assert receipt.status is Status.LOADED
    return as_published(receipt)


def refusal(receipt: object) -> tuple[Status, Code | None]:
    """Return status and code of a receipt that the ledger does not keep."""
    assert isinstance(receipt, Receipt)
    assert receipt.status is Status.SKIPPED or receipt.import_id is None
    as_published(receipt)
    return receipt.status, receipt.code


@pytest.fixture
def users() -> MemoryUserRepository:
    """An empty repository."""
    return MemoryUserRepository(0.5)


def names(users: MemoryUserRepository) -> list[str]:
    return [user.name for user in users.users()]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_a_repeated_request_registers_once(users: MemoryUserRepository, policy: Policy) -> None:
    """And gets the receipt of the ledger."""
    register = a_case(users, policy)

    receipt = registered(register(ME, "k", ANN))
    again = [registered(register(ME, "k", ANN)) for _ in range(10)]

    assert again == [receipt] * 10
    [entry] = users.entries()
    assert (entry.receipt, entry.uploaded_by) == (receipt, ME)
    assert (receipt.source.bucket, receipt.source.key) == (API_BUCKET, request_key(ME, "k"))
    assert names(users) == ["Ann"]


def test_cells_that_mean_the_same_user_are_the_same(users: MemoryUserRepository) -> None:
    register = a_case(users)

    receipt = register(ME, "k", ANN)

    assert register(ME, "k", cells_of(" Ann\n", age="041")) == receipt


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_another_user_with_the_same_key_is_refused(users: MemoryUserRepository, policy: Policy) -> None:
    """With every policy, and the ledger keeps nothing of it."""
    register = a_case(users, policy)
    receipt = registered(register(ME, "k", ANN))

    refused = register(ME, "k", BEN)

    assert refusal(refused) == (Status.REFUSED, Code.KEY_ALREADY_LOADED)
    assert isinstance(refused, Receipt)
    assert f"import {receipt.import_id}" in (refused.message or "")
    assert [entry.receipt for entry in users.entries()] == [receipt]
    assert names(users) == ["Ann"]


def test_callers_and_keys_are_independent(users: MemoryUserRepository) -> None:
    """The same cells in two requests are two users."""
    register = a_case(users)

    receipts = [registered(register(who, key, ANN)) for who in (ME, owner("you")) for key in ("k", "K", "k/k")]

    assert len({receipt.import_id for receipt in receipts}) == 6
    assert names(users) == ["Ann"] * 6


@pytest.mark.parametrize("on_duplicate", OnDuplicate)
def test_a_user_is_compared_as_any_row(users: MemoryUserRepository, on_duplicate: OnDuplicate) -> None:
    """A rejected duplicate is refused, and the ledger keeps nothing of it."""
    register = a_case(users, Policy(unique_by=("name",), on_duplicate=on_duplicate))
    register(ME, "1", ANN)

    receipt = register(ME, "2", {**ANN, "age": "42"})

    assert isinstance(receipt, Receipt)
    assert [user.age for user in users.users()] == [42 if on_duplicate is OnDuplicate.UPDATE else 41]
    if on_duplicate is OnDuplicate.REJECT:
        assert refusal(receipt) == (Status.REFUSED, Code.TOO_MANY_REJECTIONS)
        assert [fault.code for fault in receipt.rejections[0].faults] == [Code.DUPLICATE_ROW]
        assert receipt.rejected_rows is None
        assert len(list(users.entries())) == 1
    else:
        counts = registered(receipt).counts
        updates = on_duplicate is OnDuplicate.UPDATE
        assert (counts.registered, counts.updated, counts.unchanged) == (0, int(updates), int(not updates))
        assert register(ME, "2", {**ANN, "age": "42"}) == receipt


def test_a_faulty_user_leaves_nothing(users: MemoryUserRepository) -> None:
    """So the corrected user may have the same key."""
    register = a_case(users)

    faults = register(ME, "k", FAULTY)

    assert isinstance(faults, tuple)
    assert [(fault.column, fault.code) for fault in faults] == [
        ("name", Code.BLANK_CELL),
        ("age", Code.TYPE_ERROR),
    ]
    assert list(users.entries()) == []
    registered(register(ME, "k", ANN))


def test_an_undone_request_stays_undone(users: MemoryUserRepository) -> None:
    """Another user may then have the key."""
    register = a_case(users)
    receipt = registered(register(ME, "k", ANN))
    users.undo(receipt.import_id or 0, receipt.started)

    assert refusal(register(ME, "k", ANN)) == (Status.SKIPPED, Code.UNDONE)
    registered(register(ME, "k", BEN))
    assert refusal(register(ME, "k", ANN)) == (Status.SKIPPED, Code.UNDONE)
    assert names(users) == ["Ben"]


def test_a_file_is_no_repeat_of_a_request() -> None:
    """Nor a request of a file."""
    users = MemoryUserRepository()
    desk = Desk(users=users)
    register = a_case(users)
    file = "\n".join(",".join(f'"{cell}"' for cell in row) for row in (ANN, ANN.values())) + "\n"

    receipt = registered(register(ME, "1", ANN))
    loaded = desk.upload(file.encode())
    register(ME, "2", ANN)

    assert receipt.source.sha256 == loaded.source.sha256
    assert loaded.status is Status.LOADED
    assert names(users) == ["Ann"] * 3


def at_once(*calls: Callable[[], object]) -> list[object]:
    """Run calls in threads that start together, and return their results; errors are results, too."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> object:
        gate.wait()
        try:
            return call()
        except ImportInProgressError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def test_the_same_request_twice_at_once_registers_once(users: MemoryUserRepository) -> None:
    register = a_case(users)

    for key in map(str, range(20)):
        one, two = at_once(*[partial(register, ME, key, ANN)] * 2)
        assert registered(one) == registered(two)

    assert names(users) == ["Ann"] * 20


def test_one_of_two_users_at_once_wins_the_key(users: MemoryUserRepository) -> None:
    register = a_case(users, Policy(on_new_version=OnNewVersion.IMPORT, unique_by=("name",)))

    for key in map(str, range(20)):
        ann, ben = {**ANN, "name": f"Ann {key}"}, {**BEN, "name": f"Ben {key}"}
        found = at_once(partial(register, ME, key, ann), partial(register, ME, key, ben))
        assert sorted(isinstance(one, Receipt) and one.import_id is not None for one in found) == [False, True]

    assert len(names(users)) == 20


def test_the_ledger_lets_one_user_have_a_key(users: MemoryUserRepository) -> None:
    """Also if a frozen request lost its locks."""
    raced = False

    def rival() -> None:
        nonlocal raced
        if not raced:
            raced = True
            users._locked.clear()  # noqa: SLF001 - as if the deadline had passed
            a_case(users)(ME, "k", BEN)

    users._before_commit = rival  # noqa: SLF001 - the moment between ledger and commit

    with pytest.raises(ImportInProgressError):
        a_case(users)(ME, "k", ANN)
    assert names(users) == ["Ben"]


def test_a_lost_answer_is_given_again(users: MemoryUserRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends between the commit and the answer."""

    def die(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(NoReports, "put", die)
    with pytest.raises(KeyboardInterrupt):
        a_case(users)(ME, "k", ANN)
    monkeypatch.undo()
    [entry] = users.entries()

    assert registered(a_case(users)(ME, "k", ANN)) == entry.receipt
    assert names(users) == ["Ann"]


def test_a_failed_commit_leaves_nothing() -> None:
    def fail() -> None:
        raise RepositoryUnavailableError("the commit failed")

    users = MemoryUserRepository(before_commit=fail)
    with pytest.raises(RepositoryUnavailableError):
        a_case(users)(ME, "k", ANN)

    assert (list(users.entries()), names(users)) == ([], [])
