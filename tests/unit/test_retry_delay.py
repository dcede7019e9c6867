"""Delays of retries: short at first, and not the same for all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.application.retry_delay import retry_delay


@pytest.mark.parametrize(("tries", "seconds"), [(1, 30), (2, 120), (3, 600), (4, None), (5, None), (1000, None)])
def test_delays_grow_until_the_queue_decides(tries: int, seconds: int | None) -> None:
    assert retry_delay(tries, 0.5) == seconds


@given(st.integers(1, 3), st.floats(0, 1))
def test_a_delay_varies_by_a_quarter(tries: int, chance: float) -> None:
    """So the next delay is always longer."""
    seconds, middle, longest = retry_delay(tries, chance), retry_delay(tries, 0.5), retry_delay(tries, 1)
    following = retry_delay(tries + 1, 0)

    assert seconds is not None
    assert middle is not None
    assert longest is not None
    assert 0.7 * middle <= seconds <= 1.3 * middle
    assert following is None or longest < following
