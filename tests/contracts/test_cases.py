"""Files from public suites and from the field: every entry point agrees (tests/cases, tests/field)."""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from case_files import checked, each_case, imported, require_alike, require_stored_as_expected
from rollcall.adapters.memory import MemoryUserRepository
from rollcall.adapters.postgres.repository import PostgresUserRepository


@pytest.fixture(scope="module")
def repository(migrated_database: str) -> Iterator[PostgresUserRepository]:
    """One for all cases; what is in it is emptied before each."""
    with closing(PostgresUserRepository(migrated_database)) as repository:
        yield repository


@each_case
def test_check_memory_and_postgres_agree_on_every_case(
    name: str, repository: PostgresUserRepository, emptied: Callable[[], str]
) -> None:
    """The one that is expected; the receipts, and the rejected rows byte for byte, but for the import's number."""
    emptied()
    in_postgres = imported(name, repository)
    in_memory = imported(name, MemoryUserRepository())

    require_stored_as_expected(name, in_postgres)
    require_alike(in_postgres, in_memory)
    require_alike(in_postgres, checked(name))
