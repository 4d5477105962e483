"""The learned window, on a virtual clock, beside every fixed one."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean
from typing import Any

import pytest

from skate import serve
from skate.serve._batching.queue import BatchQueue, Waiting
from skate.serve._batching.windows import LearnedWindow

FIXED = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02)
MOST = 16
THINK_S = 0.0003
"""Clients send again after about this time."""
COSTS: dict[str, Callable[[int], float]] = {
    "fixed": lambda size: 0.01,
    "mixed": lambda size: 0.005 + 0.0005 * size,
    "linear": lambda size: 0.001 * size,
}


@dataclass
class Found:
    """What came of a simulated run (seconds)."""

    rate: float
    mean: float
    p99: float
    waits: list[float]
    """For how long batches waited although they could have begun."""


def simulate(
    window: float | LearnedWindow,
    cost: Callable[[int], float],
    rate: float = 0.0,
    clients: int = 0,
    places: int = 1,
    calls: int = 2000,
) -> Found:
    """Calls come at a rate (Poisson), or from clients that send again when they have an answer."""
    chance, queue, now = random.Random(1), BatchQueue(MOST, window, places), 0.0
    events: list[tuple[float, int, str, Any]] = []
    numbers = iter(range(10**9))

    def at(when: float, kind: str, what: Any = None) -> None:
        heapq.heappush(events, (when, next(numbers), kind, what))

    for _ in range(clients or 1):
        at(chance.random() * 0.01 if clients else chance.expovariate(rate), "call")
    took: list[float] = []
    waits: list[float] = []
    free_since = 0.0
    while len(took) < calls:
        now, _, kind, what = heapq.heappop(events)
        if kind == "call":
            queue.add(Waiting(0, "", now))
            if not clients:
                at(now + chance.expovariate(rate), "call")
        elif kind == "end":
            queue.ended(now, what, cost(len(what)))
            free_since = now
            for call in what:
                took.append(now - call.since)
                if clients:
                    at(now + THINK_S * chance.uniform(0.5, 1.5), "call")
        while batch := queue.take(now):
            waits.append(now - max(free_since, min(call.since for call in batch)))
            at(now + cost(len(batch)), "end", batch)
        if (due := queue.due()) is not None:
            assert due > now, "what is due has begun"
            at(due, "look")
    steady = sorted(took[calls // 8 :])
    return Found(len(took) / now, mean(steady), steady[int(0.99 * len(steady))], waits[len(waits) // 8 :])


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", COSTS)
def test_calls_at_random_times_lose_little_to_the_best_fixed_window(name: str, share: float) -> None:
    cost = COSTS[name]
    rate = share * MOST / cost(MOST)
    learned = simulate(LearnedWindow(), cost, rate)
    fixed = [simulate(window, cost, rate) for window in FIXED]
    assert learned.rate > 0.98 * max(one.rate for one in fixed)
    assert learned.mean < 1.05 * min(one.mean for one in fixed)
    assert learned.p99 < 1.25 * min(one.p99 for one in fixed)


@pytest.mark.parametrize("clients", [2, 3, 8, 16, 20, 64])
@pytest.mark.parametrize("name", COSTS)
def test_clients_that_wait_for_answers_lose_little_to_the_best_fixed_window(name: str, clients: int) -> None:
    learned = simulate(LearnedWindow(), COSTS[name], clients=clients)
    fixed = [simulate(window, COSTS[name], clients=clients) for window in FIXED]
    assert learned.rate > 0.95 * max(one.rate for one in fixed)
    assert learned.mean < 1.05 * min(one.mean for one in fixed)


@pytest.mark.parametrize("clients", [2, 8, 16])
def test_clients_that_come_back_together_share_a_batch(clients: int) -> None:
    """Without any window, one of them is served alone while the others gather: half the rate."""
    learned = simulate(LearnedWindow(), COSTS["fixed"], clients=clients)
    assert learned.rate > 1.8 * simulate(0.0, COSTS["fixed"], clients=clients).rate


@pytest.mark.parametrize("name", COSTS)
def test_a_lone_client_never_waits(name: str) -> None:
    assert simulate(LearnedWindow(), COSTS[name], clients=1, calls=200).waits == [0.0] * 175


def test_batches_that_cost_by_their_items_alone_never_wait_for_long() -> None:
    found = simulate(LearnedWindow(), COSTS["linear"], rate=900)
    assert mean(found.waits) < 0.0001


def test_a_batch_waits_for_the_last_place_only() -> None:
    """With two, a call that comes next has a place of its own: waiting for it saves it nothing."""
    queue = BatchQueue(MOST, LearnedWindow(), max_running=2)
    assert isinstance(queue.window, LearnedWindow)
    for _ in range(3):
        queue.window.ran(1, 0.01)
    for round in range(20):
        for late in (0.0, 0.0005):
            queue.add(Waiting(0, "", round + late))
        first = queue.take(round + 0.001)
        assert len(first) == 2
        queue.add(Waiting(0, "", round + 0.002))
        assert queue.take(round + 0.002) or round, "nothing is known yet"
        while queue.take(round + 0.5):
            pass
        queue.ended(round + 0.6)
        queue.ended(round + 0.6)
    queue.add(Waiting(0, "", 100.0))
    assert len(queue.take(100.0)) == 1, "the first place"


def test_the_costs_are_found() -> None:
    window, chance = LearnedWindow(), random.Random(2)
    window.ran(1, 30.0)  # compiles
    for _ in range(200):
        size = chance.randint(1, 16)
        window.ran(size, 0.004 + 0.0002 * size + chance.uniform(-0.0002, 0.0002))
    assert window.fixed == pytest.approx(0.004, rel=0.1)
    assert window.each == pytest.approx(0.0002, rel=0.15)
    window.ran(4, 60.0)  # a machine that paused
    assert window.fixed < 0.006


def test_a_change_of_the_costs_is_learned() -> None:
    window = LearnedWindow()
    for seconds in (0.001, 0.1, 0.002):
        for number in range(150):
            window.ran(1 + number % 8, seconds)
        assert window.fixed == pytest.approx(seconds, rel=0.1)


def test_the_option() -> None:
    @serve.batch(batch_wait_timeout_s="auto")
    async def good(items: list[int]) -> list[int]:
        return items

    for wrong in ("manual", None, True):
        with pytest.raises(TypeError, match="'auto'"):
            serve.batch(batch_wait_timeout_s=wrong)
