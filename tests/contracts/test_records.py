"""Any record is imported alike: in memory and in PostgreSQL, with the fast path of the screen and without it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.adapters.memory import MemoryUserRepository
from rollcall.adapters.postgres.migration import migrate
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.domain.policy import OnDuplicate, Policy
from rollcall.domain.record import RecordType
from support.builders import asked
from support.fakes import Desk
from support.fast_path import Came, what_comes_of, without_fast_path
from support.strategies import record_types, uploads_of


@pytest.fixture(scope="module")
def url(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """A database of these tests alone."""
    with new_database() as made:
        yield made


@st.composite
def records_and_uploads(draw: st.DrawFn) -> tuple[RecordType, list[bytes], Policy]:
    """A record, some uploads of it, and a policy."""
    record_type = draw(record_types())
    unique_by = draw(st.sets(st.sampled_from(record_type.identifying))) if record_type.identifying else set()
    policy = Policy(
        unique_by=tuple(column for column in record_type.columns if column in unique_by),
        on_duplicate=draw(st.sampled_from(OnDuplicate)),
    )
    return record_type, draw(st.lists(uploads_of(record_type), min_size=1, max_size=2)), policy


def in_memory(record_type: RecordType, uploads: list[bytes], policy: Policy) -> Came:
    return what_comes_of(uploads, MemoryUserRepository(new_secret=_secret, record_type=record_type), policy)


def in_postgres(url: str, record_type: RecordType, uploads: list[bytes], policy: Policy) -> Came:
    asked(url, "drop schema public cascade; create schema public")
    migrate(url, record_type, policy)
    with closing(PostgresUserRepository(url, record_type, new_secret=_secret)) as users:
        return what_comes_of(uploads, users, policy)


def _secret() -> bytes:
    return b"secret"


@given(generated=records_and_uploads())
def test_any_record_is_imported_alike(url: str, generated: tuple[RecordType, list[bytes], Policy]) -> None:
    """Receipts, rejected rows to the byte, and users."""
    came = in_memory(*generated)

    with without_fast_path():
        assert in_memory(*generated) == came
        assert in_postgres(url, *generated) == came
    assert in_postgres(url, *generated) == came


@given(generated=records_and_uploads())
def test_rejected_rows_are_rejected_again_alike(generated: tuple[RecordType, list[bytes], Policy]) -> None:
    """The file of rejected rows has every cell as it was, under the uploader's own labels."""
    record_type, [data, *_], _ = generated
    desk = Desk(users=MemoryUserRepository(new_secret=_secret, record_type=record_type))
    first = desk.importer()(desk.drop_as_it_is(data))
    if not first.rejected_rows or not first.status.registers:
        return
    again = desk.importer()(desk.drop_as_it_is(desk.rejected_rows(first), "rejected.csv"))

    assert (again.counts.read, again.counts.registered) == (first.counts.rejected, 0)
    for rejection, before in zip(again.rejections, first.rejections, strict=True):
        if all(fault.column for fault in before.faults):  # the row could be split
            assert rejection.faults == before.faults
