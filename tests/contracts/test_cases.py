"""Awkward CSVs from public suites: every way in says the same of each (tests/cases/README.md)."""

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
def test_a_case_gets_the_same_verdict_from_a_check_from_memory_and_from_postgres(
    name: str, repository: PostgresUserRepository, emptied: Callable[[], str]
) -> None:
    """The one that is expected; the receipts, and the rejected rows byte for byte, but for the import's number."""
    emptied()
    in_postgres = imported(name, repository)
    in_memory = imported(name, MemoryUserRepository())

    require_stored_as_expected(name, in_postgres)
    require_alike(in_postgres, in_memory)
    require_alike(in_postgres, checked(name))
