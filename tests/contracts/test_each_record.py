"""What a repository does with users, it does with those of any record: here, with those of the example."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import attrs
import pytest

from rollcall.adapters.memory import MemoryUserRepository
from rollcall.adapters.postgres.migration import migrate
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.application.ports import UserRepository
from rollcall.application.values import ImportRequest
from rollcall.domain.policy import OnDuplicate, Policy
from rollcall.domain.receipt import Counts
from rollcall.domain.record import AnyUser, RecordType
from rollcall.domain.rejection import Code
from rollcall.domain.user import USERS
from support.builders import a_block, a_user, an_upload, load
from support.receipts import a_receipt

EXAMPLE = Path(__file__).parents[2] / "examples/members"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
SOME_UUID = "123e4567-e89b-12d3-a456-426614174000"


def _members() -> RecordType:
    sys.path.insert(0, str(EXAMPLE))
    try:
        return RecordType.of(import_module("records").Member)
    finally:
        sys.path.remove(str(EXAMPLE))


MEMBERS = _members()


def member(name: str, number: int, **more: str) -> AnyUser:
    """Return a member; optional fields have no value."""
    cells = dict.fromkeys(MEMBERS.columns, "") | {
        "external_id": f"NO-{number:04}",
        "name": name,
        "email": "a@b.example",
        "points": str(number),
        "fee": "1.50",
        "active": "true",
        "role": "guest",
        "country": 'Norway, "N"',
    }
    return MEMBERS.parse(list((cells | more).values()))


UNIQUE_BY = {USERS: ("name",), MEMBERS: ("external_id",)}
PEOPLE = {
    USERS: [a_user("Ann", "Norway", 4), a_user("Ben", "Chile", 5), a_user("Cem", "UK", 6)],
    MEMBERS: [
        member("Ann", 1),
        member("Ben", 2, born="1999-12-31", token=SOME_UUID),
        member("Cem", 3, note="=1+1"),
    ],
}
# The first of them, with another value.
CHANGED = {
    USERS: a_user("Ann", "Norway", 44),
    MEMBERS: member("Ann", 1, born="2000-01-01", phone="03"),
}


@pytest.fixture(params=[USERS, MEMBERS], ids=["users", "members"])
def record_type(request: pytest.FixtureRequest) -> RecordType:
    found: RecordType = request.param
    return found


@pytest.fixture(params=["memory", "postgres"])
def repository(
    request: pytest.FixtureRequest,
    record_type: RecordType,
    new_database: Callable[[], AbstractContextManager[str]],
) -> Iterator[UserRepository]:
    """Each adapter without users, with the unique index of the record."""
    if request.param == "memory":
        yield MemoryUserRepository(record_type=record_type)
        return
    with new_database() as url:
        migrate(url, record_type, _policy(record_type))
        with closing(PostgresUserRepository(url, record_type)) as made:
            yield made


def _policy(record_type: RecordType, on_duplicate: OnDuplicate = OnDuplicate.SKIP) -> Policy:
    return Policy(unique_by=UNIQUE_BY[record_type], on_duplicate=on_duplicate)


@pytest.fixture
def people(record_type: RecordType) -> list[AnyUser]:
    return PEOPLE[record_type]


def test_every_value_survives_in_order(repository: UserRepository, people: list[AnyUser]) -> None:
    import_id = load(repository, people, policy=_policy(repository.record_type))

    assert list(repository.users()) == list(repository.users(import_id)) == people
    assert [found.user for found in repository.users_after(0, limit=2)] == people[:2]
    last = repository.users_after(0, limit=2)[-1].id
    assert [found.user for found in repository.users_after(last, limit=2)] == people[2:]


def test_an_undo_removes_only_the_users_of_its_import(repository: UserRepository, people: list[AnyUser]) -> None:
    policy = _policy(repository.record_type)
    load(repository, people[:1], an_upload("a.csv"), policy=policy)
    import_id = load(repository, people[1:], an_upload("b.csv"), policy=policy)

    assert repository.undo(import_id, NOON) == 2
    assert list(repository.users()) == people[:1]


@pytest.mark.parametrize("on_duplicate", OnDuplicate)
def test_an_existing_user_is_skipped_updated_or_rejected(
    repository: UserRepository, people: list[AnyUser], on_duplicate: OnDuplicate
) -> None:
    """A changed value may come where there was none; the user keeps its place."""
    record_type = repository.record_type
    changed = CHANGED[record_type]
    load(repository, people, an_upload("a.csv"), policy=_policy(record_type))
    request = ImportRequest(an_upload("b.csv"), "sha", _policy(record_type, on_duplicate))
    with repository.importing(request) as importing:
        importing.register(a_block([changed, people[1]], record_type=record_type))
        result = importing.merge()

    expected = {
        OnDuplicate.SKIP: (0, 0, 2, 0),
        OnDuplicate.UPDATE: (0, 1, 1, 0),
        OnDuplicate.REJECT: (0, 0, 0, 2),
    }
    assert (result.registered, result.updated, result.unchanged, result.rejected_on_merge) == expected[
        on_duplicate
    ]
    assert list(repository.users()) == people  # it was not committed


def test_a_duplicate_within_a_file_is_found(repository: UserRepository, people: list[AnyUser]) -> None:
    record_type = repository.record_type
    request = ImportRequest(an_upload(), "sha", _policy(record_type, OnDuplicate.REJECT))
    with repository.importing(request) as importing:
        importing.register(a_block([people[0], CHANGED[record_type]], record_type=record_type))
        result = importing.merge()
        rejected = list(result.rows_rejected_on_merge)

    assert rejected == [(3, Code.DUPLICATE_ROW)]


def test_an_update_leaves_columns_that_the_upload_lacks(
    repository: UserRepository, people: list[AnyUser], record_type: RecordType
) -> None:
    """A file without a column does not take away its values."""
    load(repository, people, an_upload("a.csv"), policy=_policy(record_type))
    changed = CHANGED[record_type]
    given = [column for column in record_type.columns if column not in {"born", "country"}]
    upload = an_upload("b.csv")
    request = ImportRequest(upload, "sha", _policy(record_type, OnDuplicate.UPDATE))
    with repository.importing(request) as importing:
        importing.register(a_block([changed], record_type=record_type))
        result = importing.merge(given)
        counts = Counts(read=1, updated=1)
        importing.commit(a_receipt(upload, importing.verdict.import_id, counts))

    assert (result.updated, result.unchanged) == (1, 0)
    values = {column: getattr(changed, column) for column in given}
    assert list(repository.users()) == [attrs.evolve(people[0], **values), *people[1:]]
