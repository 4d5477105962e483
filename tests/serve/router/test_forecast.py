"""Forecasts alone, and with routers and lenders under an open loop of requests, on a virtual clock."""

from __future__ import annotations

import itertools
import math
from collections import Counter, deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skate.serve._router import router as routing
from skate.serve._router.forecast import Forecast

from .simulated import Simulation

# ---------------------------------------------------------------------- alone


def test_nothing_is_known_at_first() -> None:
    forecast = Forecast()
    assert forecast.wait_s(ahead=100, slots=2, now=5.0) is None
    assert forecast.too_long_s(ahead=100, slots=2, remaining=0.001, now=5.0) is None
    assert forecast.service_s == 0


def test_service_times_bound_the_rate_before_it_is_measured() -> None:
    forecast = Forecast()
    for seconds in (0.1, 0.2, 0.9):
        forecast.served(seconds)
    assert forecast.service_s == 0.2
    assert forecast.wait_s(ahead=0, slots=2, now=0.0) == pytest.approx(0.1)
    assert forecast.wait_s(ahead=9, slots=2, now=0.0) == pytest.approx(1.0)
    # A burst that leaves at once does not say that the rest will.
    forecast.queued(0, 0.0)
    for left in range(9, -1, -1):
        forecast.sent(left, 2, 0.0)
    assert forecast.wait_s(ahead=9, slots=2, now=0.0) == pytest.approx(1.0)


def test_the_rate_is_measured_while_requests_wait() -> None:
    forecast = Forecast()
    now = 0.0
    for _ in range(50):  # two departures a second; between the queues nothing happens for an hour
        forecast.queued(0, now)
        forecast.queued(1, now)
        for left in (1, 0):
            now += 0.5
            forecast.sent(left, 1, now)
        forecast.sent(0, 1, now + 1000)  # it found a credit: it did not wait
        now += 3600
    assert forecast.wait_s(ahead=0, slots=1, now=now) == pytest.approx(0.5)
    forecast.queued(0, now)
    assert forecast.wait_s(ahead=9, slots=1, now=now) == pytest.approx(5.0)
    assert forecast.wait_s(ahead=9, slots=1, now=now + 0.25) == pytest.approx(4.75)


def test_the_rate_follows_changes_and_stalls() -> None:
    forecast = Forecast()
    forecast.queued(0, 0.0)
    now = 0.0
    for _ in range(100):
        now += 0.01
        forecast.sent(5, 1, now)
    assert forecast.wait_s(ahead=5, slots=1, now=now) == pytest.approx(0.06)
    stalled = forecast.wait_s(ahead=5, slots=1, now=now + 10)
    assert stalled is not None
    assert stalled > 2
    for _ in range(100):
        now += 0.1
        forecast.sent(5, 1, now)
    assert forecast.wait_s(ahead=5, slots=1, now=now) == pytest.approx(0.6, rel=0.02)


def test_a_request_is_refused_if_it_could_not_end_in_time() -> None:
    forecast = Forecast()
    forecast.served(0.1)
    assert forecast.too_long_s(ahead=4, slots=1, remaining=0.61, now=0.0) is None
    assert forecast.too_long_s(ahead=4, slots=1, remaining=0.59, now=0.0) == pytest.approx(0.5)
    # The first in line never is, so that something ends from which to learn.
    assert forecast.too_long_s(ahead=0, slots=1, remaining=0.01, now=0.0) is None
    assert [forecast.is_hopeless(left, 0.09) for left in (0, 1)] == [False, True]
    assert [forecast.is_hopeless(left, 0.11) for left in (0, 1)] == [False, False]
    assert forecast.is_hopeless(0, 0.0)


def test_a_few_long_services_do_not_count_for_all() -> None:
    forecast = Forecast()
    for seconds in [1.0] * 8 + [100.0] * 2:
        forecast.served(seconds)
    assert (forecast.service_s, forecast.enough_s) == (1.0, 2.0)


# ---------------------------------------------------------------------- in a simulation


class Shop(Simulation):
    """Routers, lenders and requests that come whatever happens. Times are mean service times."""

    def __init__(self, seed: int, routers: int, lenders: int, slots: int, service: str) -> None:
        super().__init__(seed, routers, lenders, slots, delay=0.005)
        self.closes_at = 1000.0
        self._service = service
        self.slots = slots * lenders
        self.forecasts = {name: Forecast() for name in self.routers}
        self.deadlines: dict[Any, float] = {}
        self.sent_at: dict[Any, float] = {}
        self.refused = self.expired = 0
        self.ended_at: list[float] = []
        self.served: Counter[str] = Counter()
        for name in self.lenders:
            self.tick(name)

    def service_time(self) -> float:
        if self._service == "constant":
            return 1.0
        if self._service == "uniform":
            return self.random.uniform(0.5, 1.5)
        return self.random.expovariate(1.0)

    # ------------------------------------------------------------------ as a port does

    def submit(self, name: str, key: Any, patience: float) -> None:
        router, forecast = self.routers[name], self.forecasts[name]
        if not router.credits:
            wait = forecast.too_long_s(router.queued, self.slots, patience, self.now)
            if wait is not None:
                self.refused += 1
                return
        self.deadlines[key] = self.now + patience
        self.of_router(name, router.submitted(key, self.deadlines[key]))
        if router.at(key) is None:
            forecast.queued(router.queued - 1, self.now)
            self.at(self.deadlines[key], self.expire, name)

    def expire(self, name: str) -> None:
        self.of_router(name, self.routers[name].expired(self.now))

    def of_router(self, name: str, commands: list[routing.Command]) -> None:
        router = self.routers[name]
        waiting = deque(commands)
        while waiting:
            command = waiting.popleft()
            if isinstance(command, routing.Send):
                remaining = self.deadlines[command.key] - self.now
                if self.forecasts[name].is_hopeless(router.queued, remaining):
                    self.expired += 1
                    waiting += router.repaid([command.key])
                    continue
                self.sent_at[command.key] = self.now
                self.forecasts[name].sent(router.queued, self.slots, self.now)
                self.soon(self.arrive, name, command.replica, command.key)
            elif isinstance(command, routing.Report):
                self.soon(self.report, name, command)
            elif isinstance(command, routing.Expire):
                self.expired += 1

    # ------------------------------------------------------------------ as a replica does

    def begin(self, name: str, replica: str, key: Any) -> None:
        if self.now >= self.deadlines[key]:
            self.expired += 1
            self.at(self.now, self.end, name, replica, key, False)
            return
        # A request whose deadline passes is cancelled.
        end = self.now + self.service_time()
        is_good = end <= self.deadlines[key]
        self.at(min(end, self.deadlines[key]), self.end, name, replica, key, is_good)

    def end(self, name: str, replica: str, key: Any, is_good: bool) -> None:
        if is_good:
            self.ended_at.append(self.now)
            self.served[name] += 1
        self.of_lender(replica, self.lenders[replica].ended(name, is_good, self.now))
        self.soon(self.ended, name, key, is_good)

    def ended(self, name: str, key: Any, is_good: bool) -> None:
        self.forecasts[name].served(self.now - self.sent_at.pop(key))
        self.of_router(name, self.routers[name].ended(key, is_good))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    routers=st.integers(1, 3),
    lenders=st.integers(1, 3),
    slots=st.integers(1, 4),
    patience=st.sampled_from([4.0, 8.0, 20.0]),
    service=st.sampled_from(["constant", "uniform"]),
)
def test_goodput_under_three_times_the_capacity(
    seed: int, routers: int, lenders: int, slots: int, patience: float, service: str
) -> None:
    shop = Shop(seed, routers, lenders, slots, service)
    start, end = 3 * patience, 3 * patience + 100
    moment = 0.0
    for key in itertools.count():
        moment += shop.random.expovariate(3 * shop.slots)
        if moment > end:
            break
        shop.at(moment, shop.submit, f"r{shop.random.randrange(routers)}", key, patience)
    shop.run(end)
    good = sum(start < one for one in shop.ended_at)
    assert good >= 0.9 * shop.slots * (end - start)
    # Slots are whole: two routers have two of three, and one.
    assert min(shop.served[name] for name in shop.routers) >= 0.3 * max(shop.served.values())
    # Most of the others are refused at once; and nothing is lost or left over.
    assert shop.refused > shop.expired
    shop.run(math.inf)
    assert all(router.queued == router.ongoing == 0 for router in shop.routers.values())
    assert all(lender.ongoing == 0 for lender in shop.lenders.values())
