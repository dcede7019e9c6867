"""The shortcuts through the screen save time and change nothing: whole imports into PostgreSQL."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.steps import asked
from rollcall.adapters.postgres.naming import Database
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.adapters.postgres.uniqueness import make_unique_index
from rollcall.domain.policy import Policy
from shortcuts import (
    EVERY_TRAP,
    FIRST,
    POLICIES,
    WHOLE,
    Came,
    anything,
    every_trap,
    what_comes_of,
    without_shortcuts,
)

TABLES = (
    "select * from users order by id",
    "select * from corrections order by 1, 2",
    "select id, rows_read, registered, rejected, receipt from imports order by id",
)


@pytest.mark.parametrize(("header", "end", "policy"), EVERY_TRAP)
def test_a_trap_in_a_row_that_is_clean_otherwise_changes_nothing(
    header: str, end: str, policy: Policy, emptied: Callable[[], str]
) -> None:
    """Nor in the rows around it."""
    require_the_same(emptied, every_trap(header, end), policy)


@given(data=anything(), policy=st.sampled_from(POLICIES), batch=st.sampled_from([1, 50, WHOLE]))
def test_with_shortcuts_or_without_an_import_comes_to_the_same(
    emptied: Callable[[], str], data: bytes, policy: Policy, batch: int
) -> None:
    """Receipts, rejected rows to the byte, and every cell of every table, in whatever batches COPY gets them."""
    require_the_same(emptied, data, policy, batch=batch)


def require_the_same(emptied: Callable[[], str], data: bytes, policy: Policy, *, batch: int = WHOLE) -> None:
    """Import into an empty database, twice."""
    with without_shortcuts():
        precise = _what_comes_of(emptied(), data, policy, batch=batch)

    assert precise == _what_comes_of(emptied(), data, policy, batch=batch)


def _what_comes_of(url: str, data: bytes, policy: Policy, *, batch: int = WHOLE) -> tuple[Came, list[Any]]:
    with Database.connect(url) as connection:
        connection.schema = "public"
        make_unique_index(connection, policy)
    with closing(PostgresUserRepository(url, new_secret=lambda: b"secret")) as users:
        came = what_comes_of([FIRST, data], users, policy, batch=batch)
    return came, [asked(url, table) for table in TABLES]
