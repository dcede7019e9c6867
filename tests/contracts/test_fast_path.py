"""The fast path of the screen changes no result: whole imports into PostgreSQL."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.adapters.postgres.naming import Database
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.adapters.postgres.unique_index import make_unique_index
from rollcall.domain.policy import Policy
from rollcall.domain.user import USERS
from support.builders import asked
from support.fast_path import (
    EVERY_TRAP,
    FIRST,
    POLICIES,
    WHOLE,
    Came,
    anything,
    every_trap,
    what_comes_of,
    without_fast_path,
)

TABLES = (
    "select * from users order by id",
    "select * from corrections order by 1, 2",
    "select id, rows_read, registered, rejected, receipt from imports order by id",
)


@pytest.mark.parametrize(("header", "end", "policy"), EVERY_TRAP)
def test_an_awkward_row_among_clean_rows_changes_nothing(
    header: str, end: str, policy: Policy, emptied: Callable[[], str]
) -> None:
    """Nor do the rows around it change."""
    require_the_same(emptied, every_trap(header, end), policy)


@given(data=anything(), policy=st.sampled_from(POLICIES), batch=st.sampled_from([1, 50, WHOLE]))
def test_an_import_without_the_fast_path_has_the_same_result(
    emptied: Callable[[], str], data: bytes, policy: Policy, batch: int
) -> None:
    """Receipts, rejected rows to the byte, and every cell of every table, with COPY blocks of any size."""
    require_the_same(emptied, data, policy, batch=batch)


def require_the_same(emptied: Callable[[], str], data: bytes, policy: Policy, *, batch: int = WHOLE) -> None:
    """Import into an empty database with and without the fast path, and compare."""
    with without_fast_path():
        precise = _what_comes_of(emptied(), data, policy, batch=batch)

    assert precise == _what_comes_of(emptied(), data, policy, batch=batch)


def _what_comes_of(url: str, data: bytes, policy: Policy, *, batch: int = WHOLE) -> tuple[Came, list[Any]]:
    with Database.connect(url) as connection:
        connection.schema = "public"
        connection.record_type = USERS
        make_unique_index(connection, policy)
    with closing(PostgresUserRepository(url, USERS, new_secret=lambda: b"secret")) as users:
        came = what_comes_of([FIRST, data], users, policy, batch=batch)
    return came, [asked(url, table) for table in TABLES]
