"""Files from public suites and from users (tests/cases, tests/field): every entry point gives the same verdict."""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from rollcall.adapters.memory import MemoryUserRepository
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.domain.user import USERS
from support.case_files import checked, each_case, imported, require_alike, require_stored_as_expected


@pytest.fixture(scope="module")
def repository(migrated_database: str) -> Iterator[PostgresUserRepository]:
    """One repository for all cases, emptied before each."""
    with closing(PostgresUserRepository(migrated_database, USERS)) as repository:
        yield repository


@each_case
def test_check_memory_and_postgres_agree_on_every_case(
    name: str, repository: PostgresUserRepository, emptied: Callable[[], str]
) -> None:
    """Receipts equal the expected one, and rejected rows are equal to the byte except for the import id."""
    emptied()
    in_postgres = imported(name, repository)
    in_memory = imported(name, MemoryUserRepository())

    require_stored_as_expected(name, in_postgres)
    require_alike(in_postgres, in_memory)
    require_alike(in_postgres, checked(name))
