"""How many replicas the load asks for: rules one by one, and simulations of a service by a virtual clock."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from skate.serve._controller.autoscaling import Autoscaler, Load, Loads
from skate.serve.config import AutoscalingConfig


def config(**given: object) -> AutoscalingConfig:
    values: dict[str, object] = {
        "max_replicas": 10,
        "target_ongoing_requests": 2,
        "look_back_period_s": 10,
        "upscale_delay_s": 3,
        "downscale_delay_s": 20,
        **given,
    }
    return AutoscalingConfig(**values)  # type: ignore[arg-type]


def decided(one: Autoscaler, number: int, wanted: list[tuple[float, float]]) -> list[tuple[float, int]]:
    """Return the changes, with their times, that a policy's answers at some times bring about."""
    changes = []
    for now, answer in wanted:
        new = one.decide(answer, number, now)
        if new != number:
            changes.append((now, new))
        number = new
    return changes


# ---------------------------------------------------------------------- the load


def test_the_load_is_the_sum_of_the_latest_reports() -> None:
    loads = Loads(0.0)
    loads.reported("a/replica", Load(3, 0), 1.0)
    loads.reported("b", Load(0, 4), 2.0)
    loads.reported("a/replica", Load(1, 0), 3.0)
    assert loads.latest == Load(1, 4)
    assert loads.latest.total == 5


def test_what_a_dead_process_reported_is_forgotten() -> None:
    loads = Loads(0.0)
    for source in ("a/replica", "a", "ab", "b/here"):
        loads.reported(source, Load(1, 1), 1.0)
    assert loads.gone("a", 2.0)
    assert loads.latest == Load(2, 2)
    assert not loads.gone("a", 3.0)


def test_the_reports_of_a_canary_that_has_ended_are_forgotten() -> None:
    loads = Loads(0.0)
    for source in ("a", "a/#canary", "b/replica/#canary"):
        loads.reported(source, Load(1, 1), 1.0)
    assert loads.latest == Load(3, 3)
    assert loads.forget("/#canary", 2.0)
    assert loads.latest == Load(1, 1)
    assert not loads.forget("/#canary", 3.0)


def test_the_mean_counts_how_long_a_load_lasted() -> None:
    loads = Loads(0.0)
    loads.reported("a", Load(8, 0), 4.0)
    loads.reported("a", Load(2, 2), 6.0)
    assert loads.over(10, "mean", 8.0) == Load(pytest.approx((8 * 2 + 2 * 2) / 8), pytest.approx(2 * 2 / 8))
    assert loads.over(10, "max", 8.0) == Load(8, 0)
    assert loads.over(10, "min", 8.0) == Load(0, 0)
    # Of the eight, only the last second lies in the period.
    assert loads.over(3, "mean", 8.0).total == pytest.approx((8 * 1 + 4 * 2) / 3)
    assert not loads.is_constant(3, 8.5)
    assert loads.is_constant(3, 9.0)
    assert loads.over(1, "min", 8.0) == Load(2, 2)


# ---------------------------------------------------------------------- the number


def test_a_delay_is_time_without_a_break() -> None:
    one = Autoscaler(config(), 0.0)
    assert decided(one, 1, [(0, 4), (2, 4), (2.5, 1), (3, 4), (5.5, 4), (6, 5), (7, 5)]) == [(6, 5)]


def test_on_the_way_down_the_mildest_number_counts() -> None:
    one = Autoscaler(config(), 0.0)
    assert decided(one, 8, [(0, 2), (10, 5), (19, 1), (20, 1), (21, 1), (40.9, 1), (41, 1)]) == [
        (20, 5),
        (41, 1),
    ]


def test_numbers_stay_within_their_bounds() -> None:
    one = Autoscaler(config(min_replicas=2, max_replicas=6, upscale_delay_s=0, downscale_delay_s=0), 0.0)
    assert one.decide(100, 3, 0.0) == 6
    assert one.decide(0, 6, 100.0) == 2


def test_to_zero_by_way_of_one() -> None:
    one = Autoscaler(config(min_replicas=0, downscale_to_zero_delay_s=100), 0.0)
    answers = [(float(now), 0.0) for now in range(150)]
    assert decided(one, 5, answers) == [(20, 1), (121, 0)]


def test_from_zero_at_once() -> None:
    one = Autoscaler(config(min_replicas=0, upscaling_factor=2.5), 0.0)
    assert one.decide(0, 0, 5.0) == 0
    one.loads.reported("a", Load(0, 1), 6.0)
    assert one.decide(0, 0, 6.0) == 3
    one = Autoscaler(config(min_replicas=0), 0.0)
    assert one.decide(4, 0, 0.0) == 4  # a policy of its own kind: no request came


@pytest.mark.parametrize(
    ("factor", "wanted", "number", "expected"),
    [
        (0.5, 9, 1, 5),
        (0.1, 1.2, 1, 2),  # a small step is one replica
        (2.0, 3, 1, 5),
        (1.0, 4.0000000001, 4, 4),  # rounding errors are no load
        (0.5, 1, 9, 5),
        (0.1, 1, 2, 1),
        (2.0, 6, 8, 6),  # never fewer than are needed
        (1.0, 3.2, 4, 4),
    ],
)
def test_factors(factor: float, wanted: float, number: int, expected: int) -> None:
    one = Autoscaler(config(smoothing_factor=factor, upscale_delay_s=0, downscale_delay_s=0), 0.0)
    assert one.decide(wanted, number, 0.0) == expected


def test_no_reversal_within_the_look_back() -> None:
    one = Autoscaler(config(upscale_delay_s=0, downscale_delay_s=0), 0.0)
    answers = [(0, 5), (1, 2), (9.9, 2), (10, 2), (11, 5), (19, 5), (20, 5)]
    assert decided(one, 1, answers) == [(0, 5), (10, 2), (20, 5)]
    assert one.moved == {1: 20, -1: 10}


def test_decisions_are_due_only_while_something_may_change() -> None:
    one = Autoscaler(config(), 0.0)
    assert one.wait_s(0.0) < math.inf
    assert one.decide(1, 1, 0.0) == 1
    assert one.wait_s(0.0) == math.inf
    one.loads.reported("a", Load(20, 0), 1.0)
    assert one.wait_s(1.0) == 1.0
    one.decide(2, 1, 1.0)
    assert one.wait_s(3.5) == 0.5  # the delay is over then
    assert one.decide(2, 1, 4.0) == 2
    assert one.wait_s(4.0) < math.inf  # it may go on
    one.decide(2, 2, 4.0)
    assert one.wait_s(11.0) == math.inf


# ---------------------------------------------------------------------- simulations


class Service:
    """A deployment in virtual time: a stream of requests, replicas that take their time to start, reports.

    Args:
        config: of the autoscaling.
        work_s: how long a request runs.
        slots: how many a replica runs at a time.
        start_s: how long a replica takes to start.
    """

    def __init__(self, config: AutoscalingConfig, work_s: float, slots: int, start_s: float) -> None:
        self.config = config
        self.autoscaler = Autoscaler(config, 0.0)
        self.work_s, self.slots, self.start_s = work_s, slots, start_s
        self.now = 0.0
        self.number = config.min_replicas if config.initial_replicas is None else config.initial_replicas
        #: When each replica is ready.
        self.ready_at = [0.0] * self.number
        #: Requests in the system.
        self.inside = 0.0
        #: Time and number, from the beginning.
        self.changes: list[tuple[float, int]] = []
        self._reported_at = -math.inf
        self._asked_at = -math.inf

    @property
    def running(self) -> float:
        ready = sum(at <= self.now for at in self.ready_at)
        return min(self.inside, ready * self.slots)

    def run(self, rate: float, duration_s: float, step_s: float = 0.25) -> None:
        """Let time pass, while so many requests come in a second."""
        for _ in range(round(duration_s / step_s)):
            self.now += step_s
            self.inside = max(0.0, self.inside + (rate - self.running / self.work_s) * step_s)
            if not rate and self.inside < 0.01:
                self.inside = 0.0
            interval = self.config.metrics_interval_s
            is_first = not self.number and self.inside > 0
            if self.now - self._reported_at >= interval or is_first:
                self._reported_at = self.now
                running = self.running
                self.autoscaler.loads.reported("a", Load(running, self.inside - running), self.now)
                self._decide()
            elif self.now - self._asked_at >= self.autoscaler.wait_s(self._asked_at):
                self._decide()

    def _decide(self) -> None:
        self._asked_at = self.now
        load = self.autoscaler.load(self.now)
        wanted = load.total / self.config.target_ongoing_requests
        new = self.autoscaler.decide(wanted, self.number, self.now)
        assert self.config.min_replicas <= new <= self.config.max_replicas
        if new != self.number:
            self.changes.append((self.now, new))
            self.number = new
            self.ready_at = [*self.ready_at, *[self.now + self.start_s] * new][:new]

    def reversals(self) -> int:
        """Return how often the number turned from growing to shrinking, or back."""
        numbers = [number for _, number in self.changes]
        ways = [b > a for a, b in zip(numbers, numbers[1:], strict=False)]
        return sum(a != b for a, b in zip(ways, ways[1:], strict=False))


@settings(max_examples=30, deadline=None)
@given(
    base=st.floats(0.5, 8),
    work_s=st.floats(0.5, 3),
    start_s=st.floats(0.1, 10),
    target=st.floats(1, 4),
    interval=st.floats(0.2, 5),
    look_back=st.floats(5, 30),
    up=st.floats(0, 30),
    down=st.floats(0, 60),
    up_factor=st.floats(0.3, 1.0),
    down_factor=st.floats(0.3, 1.0),
)
def test_a_step_of_the_load_and_back_turns_once(
    base: float, work_s: float, start_s: float, target: float, interval: float, look_back: float,
    up: float, down: float, up_factor: float, down_factor: float,
) -> None:  # fmt: skip
    slots = 5
    needed = math.ceil(4 * base * work_s / target)
    assume(interval <= look_back / 2)
    options = config(
        max_replicas=max(60, 2 * needed),
        target_ongoing_requests=target,
        metrics_interval_s=interval,
        look_back_period_s=look_back,
        upscale_delay_s=up,
        downscale_delay_s=down,
        upscaling_factor=up_factor,
        downscaling_factor=down_factor,
    )
    one = Service(options, work_s, slots, start_s)
    long = 20 * (look_back + down + up + start_s)
    one.run(base, long)
    settled = one.number
    # Sums of reports and products of these numbers differ in their last digits.
    assert base * work_s / target - 0.01 <= settled <= math.ceil(base * work_s / target + 0.01)
    one.changes = [(one.now, settled)]
    one.run(4 * base, long)
    assert 4 * base * work_s / target - 0.01 <= one.number <= math.ceil(4 * base * work_s / target + 0.01)
    one.run(base, long)
    assert one.number == settled
    assert one.reversals() <= 1, one.changes


@settings(max_examples=50, deadline=None)
@given(
    rates=st.lists(st.tuples(st.integers(0, 30), st.floats(1, 60)), min_size=1, max_size=8),
    least=st.integers(0, 3),
    most=st.integers(3, 8),
    look_back=st.floats(1, 30),
    up=st.floats(0, 20),
    down=st.floats(0, 40),
    factor=st.floats(0.1, 3),
)
def test_any_load_keeps_bounds_and_never_turns_back_within_the_look_back(
    rates: list[tuple[int, float]], least: int, most: int, look_back: float, up: float, down: float,
    factor: float,
) -> None:  # fmt: skip
    options = config(
        min_replicas=least,
        max_replicas=most,
        look_back_period_s=look_back,
        metrics_interval_s=min(1.0, look_back),
        upscale_delay_s=up,
        downscale_delay_s=down,
        smoothing_factor=factor,
    )
    one = Service(options, 0.5, 5, 1.0)
    before = [(0.0, one.number)]
    for rate, duration in rates:
        one.run(rate, duration)
        if rate and duration > 1.5:
            assert one.number, "a request that comes to zero replicas starts one"
    history = before + one.changes
    moves = [
        (at, new - old, old) for (_, old), (at, new) in zip(history, history[1:], strict=False)
    ]  # fmt: skip
    for index, (at, change, old) in enumerate(moves):
        opposite = [when for when, other, _ in moves[:index] if other * change < 0]
        if opposite and old:
            assert at - opposite[-1] >= look_back - 0.01
    one.run(0.0, 3 * (look_back + down) + 10 * most / min(factor, 1) + 200)
    assert one.number == least
