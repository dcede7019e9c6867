"""The shortcuts through the screen save time and change nothing: whole imports into memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.adapters.memory import MemoryUserRepository
from rollcall.domain.policy import Policy
from shortcuts import EVERY_TRAP, FIRST, POLICIES, WHOLE, anything, every_trap, what_comes_of, without_shortcuts


@pytest.mark.parametrize(("header", "end", "policy"), EVERY_TRAP)
def test_a_trap_in_a_row_that_is_clean_otherwise_changes_nothing(header: str, end: str, policy: Policy) -> None:
    """Nor in the rows around it."""
    require_the_same(every_trap(header, end), policy)


@given(
    data=anything(),
    policy=st.sampled_from(POLICIES),
    piece_bytes=st.sampled_from([1, 3, 100, 10_000]),
    batch=st.sampled_from([1, 50, 10_000]),
)
def test_with_shortcuts_or_without_an_import_comes_to_the_same(
    data: bytes, policy: Policy, piece_bytes: int, batch: int
) -> None:
    """Receipts, rejected rows to the byte, and users, in whatever pieces the file comes."""
    require_the_same(data, policy, piece_bytes=piece_bytes, batch=batch)


def require_the_same(data: bytes, policy: Policy, *, piece_bytes: int = WHOLE, batch: int = WHOLE) -> None:
    """Import into an empty memory, twice."""
    uploads = [FIRST, data]
    with without_shortcuts():
        precise = what_comes_of(
            uploads,
            MemoryUserRepository(new_secret=lambda: b"secret"),
            policy,
            piece_bytes=piece_bytes,
            batch=batch,
        )

    assert precise == what_comes_of(
        uploads, MemoryUserRepository(new_secret=lambda: b"secret"), policy, piece_bytes=piece_bytes, batch=batch
    )
