"""How many replicas a deployment should have, by its load. Decisions only: no I/O, no clock.

::

    reports of processes --> Loads --aggregate--> policy --wanted--> Autoscaler.decide --> number
                             (over the look-back)                    (factors, bounds, delays)

A change waits until the policy has asked for it without a break for the delay of its direction, and then
takes the mildest number that was asked for on the way down, the latest on the way up. A change is not
reversed before the look-back period has passed: until then the load that is averaged is partly the one from
before the change. Without any replica no rule applies: the first request starts some at once.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from skate.serve.config import AggregationFunction, AutoscalingConfig

#: A policy's answer is a quotient of sums of means: this is no replica more.
_EPSILON = 1e-6
#: While the load changes, decisions are at least and at most so far apart (seconds).
_SHORTEST_S, _LONGEST_S = 0.05, 1.0


class Load(NamedTuple):
    """Requests that run in replicas, and requests that wait in routers."""

    running: float = 0.0
    queued: float = 0.0

    @property
    def total(self) -> float:
        """Both."""
        return self.running + self.queued


class Loads:
    """The latest reports of the processes of one deployment, and the course of their sum.

    Args:
        now: seconds of a monotonic clock, as everywhere here.
    """

    def __init__(self, now: float) -> None:
        self._by_source: dict[str, Load] = {}
        #: Since when there was which sum; the last holds now.
        self._course: deque[tuple[float, Load]] = deque([(now, Load())])

    @property
    def latest(self) -> Load:
        """The sum of the latest reports."""
        return self._course[-1][1]

    def reported(self, source: str, load: Load, now: float) -> None:
        """A process reports its part.

        Args:
            source: the id of the process, perhaps with a slash and more behind it.
            load: what it has, instead of what it reported before.
        """
        if load.total > 0:
            self._by_source[source] = load
        else:
            self._by_source.pop(source, None)
        self._changed(now)

    def gone(self, process: str, now: float) -> bool:
        """A process has ended: forget what it reported; tell whether that was anything."""
        return self._forget([name for name in self._by_source if name.partition("/")[0] == process], now)

    def forget(self, suffix: str, now: float) -> bool:
        """Forget the reports of sources whose names end so; tell whether there were any."""
        return self._forget([name for name in self._by_source if name.endswith(suffix)], now)

    def _forget(self, sources: list[str], now: float) -> bool:
        for name in sources:
            del self._by_source[name]
        if sources:
            self._changed(now)
        return bool(sources)

    def over(self, period_s: float, function: AggregationFunction | str, now: float) -> Load:
        """Return the load over a period that ends now, or since the beginning if that is shorter."""
        begin = now - period_s
        while len(self._course) > 1 and self._course[1][0] <= begin:
            self._course.popleft()
        if function != AggregationFunction.MEAN:
            most = function == AggregationFunction.MAX
            loads = [load for _, load in self._course]
            return (max if most else min)(loads, key=lambda load: load.total)
        begin = max(begin, self._course[0][0])
        if now <= begin:
            return self.latest
        running = queued = 0.0
        until = now
        for since, load in reversed(self._course):
            length = until - max(since, begin)
            running += load.running * length
            queued += load.queued * length
            until = since
        return Load(running / (now - begin), queued / (now - begin))

    def is_constant(self, period_s: float, now: float) -> bool:
        """Tell whether the load did not change over a period that ends now."""
        return len(self._course) == 1 or self._course[-1][0] <= now - period_s

    def _changed(self, now: float) -> None:
        total = Load(
            sum(one.running for one in self._by_source.values()),
            sum(one.queued for one in self._by_source.values()),
        )
        if self._course[-1][0] >= now:
            self._course.pop()
        self._course.append((now, total))


class Autoscaler:
    """The number of replicas of one deployment.

    Args:
        config: its factors and delays; may be replaced at any time.
        now: seconds of a monotonic clock.
        bounds: the least and the largest number, likewise; None: those of ``config``.
    """

    def __init__(self, config: AutoscalingConfig, now: float, bounds: tuple[int, int] | None = None) -> None:
        self.config = config
        self.bounds = bounds or (config.min_replicas, config.max_replicas)
        self.loads = Loads(now)
        #: The direction that the policy asks for, since when, and the mildest number since then. None: it was
        #: not asked since the number changed.
        self._direction: int | None = None
        self._since = now
        self._mildest = 0
        #: Direction to the time of the latest change.
        self.moved: dict[int, float] = {}

    def load(self, now: float) -> Load:
        """Return the load that a policy sees."""
        return self.loads.over(self.config.look_back_period_s, self.config.aggregation_function, now)

    def decide(self, wanted: float, number: int, now: float) -> int:
        """Return how many replicas there should be from now on.

        Args:
            wanted: what the policy asks for.
            number: how many there should be until now.
        """
        config = self.config
        if number == 0:
            at_once = math.ceil(max(wanted, 0) - _EPSILON)
            if self.loads.latest.total > 0:
                at_once = max(at_once, 1, math.ceil(config.get_upscaling_factor()))
            return self._move(number, self._within(at_once), now)
        goal = self._goal(wanted, number)
        direction = (goal > number) - (goal < number)
        if direction != self._direction:
            self._direction, self._since, self._mildest = direction, now, goal
        if not direction:
            return number
        if direction < 0:
            goal = self._mildest = max(goal, self._mildest)
        return number if now + _EPSILON < self._due(direction, goal) else self._move(number, goal, now)

    def wait_s(self, now: float) -> float:
        """Return how long it takes until another decision is possible without another report."""
        if self._direction == 0 and self.loads.is_constant(self.config.look_back_period_s, now):
            return math.inf
        wait = min(_LONGEST_S, self.config.metrics_interval_s)
        if self._direction:
            wait = min(wait, self._due(self._direction, self._mildest) - now)
        return max(_SHORTEST_S, wait)

    def _goal(self, wanted: float, number: int) -> int:
        """Apply factors and bounds."""
        config = self.config
        difference = wanted - number
        factor = config.get_upscaling_factor() if difference > 0 else config.get_downscaling_factor()
        goal = math.ceil(number + factor * difference - _EPSILON)
        needed = math.ceil(wanted - _EPSILON)
        if needed < number:
            # One less at least, or a small factor would change nothing; and never less than needed.
            goal = max(needed, min(goal, number - 1))
        goal = self._within(goal)
        return max(goal, 1) if number > 1 else goal

    def _within(self, number: int) -> int:
        least, most = self.bounds
        return min(max(number, least), most)

    def _due(self, direction: int, goal: int) -> float:
        """Return when a change may happen that was asked for since ``_since``."""
        config = self.config
        delay = config.upscale_delay_s if direction > 0 else config.downscale_delay_s
        if not goal and config.downscale_to_zero_delay_s is not None:
            delay = config.downscale_to_zero_delay_s
        due = self._since + delay
        if -direction in self.moved:
            due = max(due, self.moved[-direction] + config.look_back_period_s)
        return due

    def _move(self, number: int, goal: int, now: float) -> int:
        self._direction = 0
        if goal != number:
            self._direction = None
            self.moved[1 if goal > number else -1] = now
        return goal
