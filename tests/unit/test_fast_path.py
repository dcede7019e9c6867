"""The screen's fast path saves time and changes nothing: whole imports into memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.adapters.memory import MemoryUserRepository
from rollcall.domain.policy import Policy
from rollcall.domain.rejection import Code
from support.fast_path import (
    EVERY_TRAP,
    FIRST,
    POLICIES,
    WHOLE,
    anything,
    every_trap,
    what_comes_of,
    without_fast_path,
)


@pytest.mark.parametrize(("header", "end", "policy"), EVERY_TRAP)
def test_a_trap_in_a_clean_row_changes_nothing(header: str, end: str, policy: Policy) -> None:
    """Nor the rows around it."""
    require_the_same(every_trap(header, end), policy)


@given(
    data=anything(),
    policy=st.sampled_from(POLICIES),
    piece_bytes=st.sampled_from([1, 3, 100, 10_000]),
    batch=st.sampled_from([1, 50, 10_000]),
)
def test_an_import_with_and_without_the_fast_path_is_the_same(
    data: bytes, policy: Policy, piece_bytes: int, batch: int
) -> None:
    """Receipts, rejected rows to the byte, and users, for pieces of any size."""
    require_the_same(data, policy, piece_bytes=piece_bytes, batch=batch)


@pytest.mark.parametrize("header", ["name,country,age", "name,country,age,note", "name;country;age"])
@pytest.mark.parametrize("cell", [0, -1])
@pytest.mark.parametrize("junk", ["E08080", "F0808080", "F4908080", "EDA080"])
def test_what_only_re2_takes_for_a_character_is_refused(junk: str, cell: int, header: str) -> None:
    """Overlong forms, code points that do not exist, and surrogates, in a field and in an ignored column."""
    mark = ";" if ";" in header else ","
    cells = ["Ann", "Chile", "30", "ok"][: header.count(mark) + 1]
    row = mark.join(cells).encode() + b"\n"
    cells[cell] = f"a{junk}a"
    bad = mark.join(cells).encode().replace(junk.encode(), bytes.fromhex(junk)) + b"\n"
    data = header.encode() + b"\n" + row * 9 + bad + row

    came = what_comes_of([data], MemoryUserRepository(), Policy())

    assert [receipt.code for receipt in came.receipts] == [Code.ENCODING_ERROR]


def require_the_same(data: bytes, policy: Policy, *, piece_bytes: int = WHOLE, batch: int = WHOLE) -> None:
    """Import into an empty memory with and without the fast path, and compare."""
    uploads = [FIRST, data]
    with without_fast_path():
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
