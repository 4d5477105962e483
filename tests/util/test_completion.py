"""as_completed and map_unordered."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

import skate
from skate.exceptions import GetTimeoutError
from skate.util import as_completed, map_unordered

from .gate import Gate

pytestmark = pytest.mark.usefixtures("runtime")


@skate.remote
def double(x: int) -> int:
    return 2 * x


@skate.remote
def fail(x: int) -> None:
    raise ValueError(f"no {x}")


@skate.remote(num_cpus=0)
def pass_gate(gate: Any, x: int) -> int:
    skate.get(gate.wait.remote())
    return x


@pytest.mark.parametrize("chunk_size", [1, 3, 1000])
def test_all_values(chunk_size: int) -> None:
    values = as_completed([double.remote(i) for i in range(50)], chunk_size=chunk_size)
    assert sorted(values) == [2 * i for i in range(50)]


def test_what_is_ready_does_not_wait_for_a_chunk() -> None:
    gate = Gate.remote()
    values = as_completed([pass_gate.remote(gate, 1), double.remote(2)])
    assert next(values) == 4
    gate.open.remote()
    assert next(values) == 1
    assert list(values) == []


def test_refs_instead_of_values() -> None:
    refs = [double.remote(i) for i in range(5)]
    assert set(as_completed(refs, yield_obj_refs=True)) == set(refs)


def test_no_refs() -> None:
    assert list(as_completed([])) == []


def test_values_before_an_error_are_yielded() -> None:
    refs = [double.remote(1), double.remote(2), fail.remote(3)]
    skate.wait(refs, num_returns=3)
    values = as_completed(refs)
    assert [next(values), next(values)] == [2, 4]
    with pytest.raises(ValueError, match="no 3"):
        next(values)


def test_timeout() -> None:
    gate = Gate.remote()
    values = as_completed([pass_gate.remote(gate, 1)], timeout=0.01)
    with pytest.raises(GetTimeoutError):
        next(values)
    gate.open.remote()


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="chunk_size"):
        as_completed([], chunk_size=0)
    with pytest.raises(TypeError, match="num_returns"):
        as_completed([], num_returns=1)
    with pytest.raises(ValueError, match="backpressure_size"):
        map_unordered(double, [], backpressure_size=5, chunk_size=10)
    with pytest.raises(TypeError, match="remote function"):
        map_unordered(len, [])


@pytest.mark.parametrize("backpressure_size", [10, 1000, None])
def test_map_unordered(backpressure_size: int | None) -> None:
    values = map_unordered(double, range(200), backpressure_size=backpressure_size)
    assert sorted(values) == [2 * i for i in range(200)]


def test_map_unordered_with_a_method() -> None:
    gate = Gate.remote()
    assert list(map_unordered(gate.until_arrived, [0, 0])) == [None, None]


def test_items_are_taken_as_results_are_consumed() -> None:
    taken = itertools.count()
    values = map_unordered(double, taken, backpressure_size=4, chunk_size=1)
    for _ in range(10):
        next(values)
    assert next(taken) <= 10 + 4
