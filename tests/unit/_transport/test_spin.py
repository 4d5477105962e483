"""Looking before sleeping: it stops by itself where it does not pay."""

from __future__ import annotations

import pytest

from skate._transport import spin
from skate._transport.spin import MAX_SKIPPED_POLLS, Spin


class Poll:
    """Finds something at the n-th look."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.looks = 0

    def __call__(self, timeout: int) -> list[str]:
        assert timeout == 0
        self.looks += 1
        return ["found"] if self.looks == self.at else []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at it is a microsecond later."""
    now = iter(range(10_000_000))
    monkeypatch.setattr(spin, "perf_counter", lambda: next(now) / 1e6)
    monkeypatch.setattr(spin.os, "sched_getaffinity", lambda pid: {0, 1})


def test_it_finds_what_comes_soon(clock: None) -> None:
    habit = Spin(50e-6)
    assert habit.polls_to_skip == 0
    assert habit.look(Poll(10)) == ["found"]
    assert habit.polls_to_skip == 0


def test_it_looks_no_longer_than_it_may(clock: None) -> None:
    poll = Poll(1000)
    assert not Spin(50e-6).look(poll)
    assert 40 <= poll.looks <= 51


def test_looks_in_vain_become_rare(clock: None) -> None:
    habit = Spin(50e-6)
    skipped = []
    for _ in range(12):
        habit.look(Poll(1000))
        skipped.append(habit.polls_to_skip)
        habit.polls_to_skip = 0  # as if it was counted down
    assert skipped[:5] == [1, 3, 7, 15, 31]
    assert skipped[-1] == MAX_SKIPPED_POLLS


def test_one_success_and_it_looks_again(clock: None) -> None:
    habit = Spin(50e-6)
    for _ in range(5):
        habit.look(Poll(1000))
    habit.polls_to_skip = 0
    habit.look(Poll(3))
    assert habit.polls_to_skip == 0
    habit.look(Poll(1000))
    assert habit.polls_to_skip == 1


def test_never_on_one_cpu(clock: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spin.os, "sched_getaffinity", lambda pid: {0})
    assert Spin(50e-6).polls_to_skip < 0
    assert Spin(0.0).polls_to_skip < 0
