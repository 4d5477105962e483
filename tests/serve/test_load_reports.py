"""When a process reports its load, by a virtual clock."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from skate.serve._client.load import Meter


class Clock:
    """The part of a loop that a meter uses."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, Any]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, function: Any) -> Any:
        entry = (self.now + delay, function)
        self.due.append(entry)
        clock = self

        class Handle:
            def cancel(self) -> None:
                if entry in clock.due:
                    clock.due.remove(entry)

        return Handle()

    def pass_until(self, now: float) -> None:
        while self.due and min(at for at, _ in self.due) <= now:
            entry = min(self.due, key=lambda one: one[0])
            self.due.remove(entry)
            self.now = entry[0]
            entry[1]()
        self.now = now


class Place:
    """Has requests, and a meter for them."""

    def __init__(self, sleeps: bool = True) -> None:
        self.clock = Clock()
        self.count = 0
        #: Time and value.
        self.reports: list[tuple[float, float]] = []
        loop: asyncio.AbstractEventLoop = self.clock  # type: ignore[assignment]
        self.meter = Meter(loop, lambda: self.count, self._report, sleeps)

    def _report(self, mean: float) -> None:
        self.reports.append((round(self.clock.now, 3), mean))


def test_nothing_is_reported_without_an_interval() -> None:
    place = Place(sleeps=False)
    place.count = 5
    place.meter.wake()
    place.meter.report_now()
    place.meter.follow(0.0)
    place.meter.stop()
    place.clock.pass_until(100)
    assert place.reports == []
    assert place.clock.due == []


def test_a_mean_for_each_interval_that_changed_something() -> None:
    place = Place(sleeps=False)
    place.meter.follow(1.0)
    place.clock.pass_until(5)
    assert place.reports == [], "nothing ran, and nothing was reported before"
    place.count = 4
    place.clock.pass_until(10.5)
    assert [value for _, value in place.reports][-1] == 4
    assert len(place.reports) <= 2
    place.count = 0
    place.clock.pass_until(20)
    assert place.reports[-1][1] == 0
    assert len(place.reports) <= 4
    times = [at for at, _ in place.reports]
    assert all(b - a >= 1 for a, b in zip(times, times[1:], strict=False))


def test_a_place_that_sleeps_takes_no_samples_while_nothing_is_there() -> None:
    place = Place()
    place.meter.follow(1.0)
    assert place.clock.due == []
    place.count = 2
    place.meter.wake()
    place.clock.pass_until(3)
    place.count = 0
    place.clock.pass_until(10)
    assert place.reports[0][1] == 2
    assert place.reports[-1][1] == 0
    assert place.clock.due == []


def test_the_first_request_is_reported_at_once_and_once() -> None:
    place = Place()
    place.meter.follow(10.0)
    place.clock.pass_until(3)
    place.meter.report_now()
    assert place.reports == [], "none is there"
    place.count = 1
    place.meter.report_now()
    place.count = 2
    place.meter.report_now()
    assert place.reports == [(3, 1)]
    place.clock.pass_until(14)
    assert place.reports == [(3, 1), (pytest.approx(13, abs=0.6), pytest.approx(2, abs=0.1))]


def test_a_restarted_controller_hears_the_load_again() -> None:
    place = Place()
    place.meter.follow(1.0)
    place.count = 3
    place.meter.report_now()
    place.clock.pass_until(5)
    assert place.reports == [(0, 3)]
    place.meter.follow(1.0)
    place.clock.pass_until(7)
    assert [value for _, value in place.reports] == [3, 3]


def test_a_place_that_is_left_reports_that_nothing_is_there() -> None:
    place = Place(sleeps=False)
    place.meter.follow(1.0)
    place.count = 3
    place.clock.pass_until(5)
    place.meter.stop()
    assert place.reports[-1][1] == 0
    place.clock.pass_until(20)
    assert place.reports[-1][0] == 5
    assert place.clock.due == []
