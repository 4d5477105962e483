"""When something that failed is tried again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skate._base.backoff import FIRST_DELAY_S, MAX_DELAY_S, QUIET_S, RETRY_TIMEOUT_S, Backoff


def pauses(attempts: Backoff, now: float = 0.0) -> list[float]:
    """Return the pauses of attempts that all fail at once."""
    found = []
    while (pause := attempts.again(now)) is not None:
        found.append(pause)
        now += pause
    return found


def test_pauses_grow_up_to_the_longest() -> None:
    found = pauses(Backoff(0.0))
    assert found[0] == FIRST_DELAY_S
    assert found == sorted(found)
    assert found[-1] == MAX_DELAY_S
    assert RETRY_TIMEOUT_S <= sum(found) < RETRY_TIMEOUT_S + MAX_DELAY_S


@given(st.floats(0, 1e6), st.floats(0.001, 1e3))
def test_it_never_spins_and_ends(start: float, patience: float) -> None:
    found = pauses(Backoff(start, patience), start)
    assert found
    assert min(found) >= FIRST_DELAY_S
    assert len(found) <= patience / MAX_DELAY_S + 8


def test_a_series_of_failures_is_over_some_time_after_the_last() -> None:
    attempts = Backoff(100.0, 3.0)
    assert attempts.again(102.0) is not None
    assert not attempts.stale(102.0 + MAX_DELAY_S)
    assert attempts.stale(102.1 + QUIET_S)
    assert attempts.again(103.0) is None
    assert not attempts.stale(103.0)
