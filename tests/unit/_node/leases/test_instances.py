"""Devices: whole ones and shares, never more than there is of one, and all back at the end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skate._base.resources import UNIT
from skate._node.leases.instances import Devices

HALF = UNIT // 2


def test_whole_devices_are_given_in_order() -> None:
    devices = Devices(["a", "b", "c"])
    first = devices.take(2 * UNIT)
    assert first is not None and devices.names(first) == ["a", "b"]
    assert devices.take(2 * UNIT) is None
    devices.give_back(first, 2 * UNIT)
    assert devices.take(3 * UNIT) == [0, 1, 2]


def test_shares_fill_one_device_before_the_next() -> None:
    devices = Devices(["0", "1"])
    assert devices.take(HALF) == [0]
    assert devices.take(HALF) == [0]
    assert devices.take(HALF) == [1]
    assert devices.take(UNIT) is None
    devices.give_back([0], HALF)
    assert devices.take(UNIT) is None, "two halves of different devices are no whole one"
    devices.give_back([1], HALF)
    assert devices.take(UNIT) == [1]


def test_a_share_that_no_device_has_left() -> None:
    devices = Devices(["0", "1"])
    for _ in range(2):
        assert devices.take(6 * UNIT // 10) is not None
    assert devices.take(HALF) is None, "0.4 + 0.4 are free, but on two devices"
    assert devices.take(4 * UNIT // 10) is not None


def test_nothing_is_always_there() -> None:
    devices = Devices([])
    assert devices.take(0) == []
    assert devices.take(UNIT) is None
    assert devices.choose(1) is None


AMOUNTS = st.one_of(st.integers(1, UNIT - 1), st.integers(1, 5).map(lambda count: count * UNIT))


@given(st.integers(0, 4), st.lists(st.tuples(AMOUNTS, st.booleans(), st.integers(0, 100))))
def test_no_device_is_ever_given_twice(count: int, steps: list[tuple[int, bool, int]]) -> None:
    devices = Devices([str(index) for index in range(count)])
    held: list[tuple[list[int], int]] = []
    for units, returns, which in steps:
        if returns and held:
            devices.give_back(*held.pop(which % len(held)))
        else:
            before = list(devices.free)
            chosen = devices.take(units)
            if chosen is None:
                assert devices.free == before
                room = sum(free == UNIT for free in before) if units >= UNIT else max(before, default=0)
                assert room < (units // UNIT if units >= UNIT else units), "there was room"
            else:
                assert len(set(chosen)) == len(chosen) == max(1, units // UNIT)
                held.append((chosen, units))
        for index, free in enumerate(devices.free):
            used = sum(min(units, UNIT) for chosen, units in held if index in chosen)
            assert free == UNIT - used >= 0
    for chosen, units in held:
        devices.give_back(chosen, units)
    assert devices.free == [UNIT] * count
