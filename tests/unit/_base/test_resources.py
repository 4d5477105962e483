"""Amounts are exact: what is added can be taken away again, to the last ten-thousandth."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skate._base.resources import UNIT, add, describe, fits, subtract, to_fixed, to_float

names = st.sampled_from(["CPU", "GPU", "memory", "license"])
fixed = st.dictionaries(names, st.integers(1, 10**12))
amounts = st.dictionaries(names, st.integers(0, 10**9).map(lambda units: units / UNIT))


@given(amounts)
def test_amounts_in_ten_thousandths_survive_the_way_there_and_back(given_: dict[str, float]) -> None:
    assert to_float(to_fixed(given_)) == {name: amount for name, amount in given_.items() if amount}


@given(amounts)
def test_what_is_not_needed_is_not_there(given_: dict[str, float]) -> None:
    assert all(to_fixed(given_).values())


def test_ten_tenths_make_one() -> None:
    total: dict[str, int] = {}
    for _ in range(10):
        add(total, to_fixed({"CPU": 0.1}))
    assert total == to_fixed({"CPU": 1})


@pytest.mark.parametrize("amount", [-1, -0.0001, math.nan, math.inf, -math.inf])
def test_negative_and_not_finite_amounts_are_refused(amount: float) -> None:
    with pytest.raises(ValueError, match="resource 'CPU' must be a finite number"):
        to_fixed({"CPU": amount})


@given(st.floats(0, 0.99 / UNIT, exclude_min=True))
def test_amounts_finer_than_the_unit_are_refused(amount: float) -> None:
    with pytest.raises(ValueError, match=r"0 or at least 0\.0001"):
        to_fixed({"CPU": amount})


def test_an_amount_that_is_off_by_a_rounding_error_is_taken() -> None:
    assert to_fixed({"CPU": 0.1 + 0.2}) == {"CPU": 3000}


@given(fixed, st.lists(fixed))
def test_adding_and_subtracting_are_exact(start: dict[str, int], changes: list[dict[str, int]]) -> None:
    free = dict(start)
    for change in changes:
        add(free, change)
    for change in reversed(changes):
        subtract(free, change)
    assert {name: units for name, units in free.items() if units} == start


@given(fixed, fixed)
def test_it_fits_exactly_when_nothing_becomes_negative(need: dict[str, int], free: dict[str, int]) -> None:
    left = dict(free)
    subtract(left, need)
    assert fits(need, free) == all(units >= 0 for units in left.values())


@pytest.mark.parametrize(
    ("resources", "text"),
    [
        ({}, "{}"),
        ({"CPU": 5000}, "{CPU: 0.5}"),
        ({"b": 10_000, "CPU": 25_000}, "{CPU: 2.5, b: 1}"),
        ({"memory": 17_700_000_000 * 10_000}, "{memory: 17.7 GB}"),
        (
            {"memory": 500 * 10_000, "object_store_memory": 2 * 10**6 * 10_000},
            "{memory: 500, object_store_memory: 2.0 MB}",
        ),
    ],
)
def test_describe_shows_the_numbers_users_wrote(resources: dict[str, int], text: str) -> None:
    assert describe(resources) == text
