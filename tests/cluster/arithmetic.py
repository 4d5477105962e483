"""What the random programs compute, and by which tasks and actors. Light: workers import it."""

from __future__ import annotations

import array
import asyncio
import pickle
from typing import Any

import skate
from skate import ObjectRef

PRIME = 1_000_003


class Planned(Exception):
    """Raised on purpose, with a number."""


def pack(number: int, large: bool) -> Any:
    """Return a value that stands for a number: itself, or a buffer that shared memory will hold."""
    return pickle.PickleBuffer(array.array("q", [number]) * 30_000) if large else number


def unpack(value: Any) -> int:
    """Return the number that a value stands for."""
    if isinstance(value, int):
        return value
    view = memoryview(value)
    assert view.readonly
    numbers = view.cast("B").cast("q")
    assert numbers[0] == numbers[15_000] == numbers[-1]
    return numbers[0]


def mix(*numbers: int) -> int:
    """The function that all programs compute."""
    result = 7
    for number in numbers:
        result = (result * 31 + number) % PRIME
    return result


@skate.remote
def combine(large: bool, *values: Any) -> Any:
    return pack(mix(*map(unpack, values)), large)


@skate.remote
def count(large: bool, start: int, length: int) -> Any:
    for number in range(start, start + length):
        yield pack(number, large)


@skate.remote
def combine_inside(large: bool, refs: list[ObjectRef[Any]]) -> Any:
    return pack(mix(*map(unpack, skate.get(refs))), large)


@skate.remote
def combine_in_a_tree(large: bool, refs: list[ObjectRef[Any]]) -> Any:
    """Like combine_inside, by tasks of its own, each for a part."""
    if len(refs) <= 2:
        return pack(mix(*map(unpack, skate.get(refs))), large)
    half = len(refs) // 2
    parts = [combine_in_a_tree.remote(large, part) for part in (refs[:half], refs[half:])]
    return pack(mix(*map(unpack, skate.get(parts))), large)


def mix_in_a_tree(numbers: list[int]) -> int:
    """What combine_in_a_tree computes."""
    if len(numbers) <= 2:
        return mix(*numbers)
    half = len(numbers) // 2
    return mix(mix_in_a_tree(numbers[:half]), mix_in_a_tree(numbers[half:]))


@skate.remote
def wrap(large: bool, number: int, refs: list[ObjectRef[Any]]) -> dict[str, Any]:
    """Return refs: a new one that the worker owns, one of a task, and those given."""
    return {"own": skate.put(pack(number, large)), "task": combine.remote(large, number), "given": refs}


@skate.remote
def delegate(large: bool, start: int) -> Any:
    """Have a generator make three numbers and an actor mix them."""
    items = list(count.remote(large, start, 3))
    if len(items) < 3:
        skate.get(items[-1])  # the error that is the last of them
    actor = Accumulator.options(num_cpus=0).remote(items[0])
    return [actor.add.remote(large, item) for item in items[1:]][-1:]


def mix_delegated(start: int) -> int:
    """What the ref that delegate returns stands for."""
    return mix(mix(start, start + 1), start + 2)


@skate.remote(num_returns=2)
def split(large: bool, value: Any) -> tuple[Any, Any]:
    number = unpack(value)
    return pack(number // 2, large), pack(number - number // 2, not large)


@skate.remote
def fail(number: int) -> None:
    raise Planned(number)


@skate.remote(num_cpus=0)
class Desk:
    """Combines several at a time."""

    async def combine(self, large: bool, refs: list[ObjectRef[Any]]) -> Any:
        return pack(mix(*map(unpack, await asyncio.gather(*refs))), large)


@skate.remote
class Accumulator:
    """Keeps a number and refs."""

    def __init__(self, value: Any) -> None:
        self.number = unpack(value)
        self.refs: list[ObjectRef[Any]] = []

    def add(self, large: bool, value: Any) -> Any:
        self.number = mix(self.number, unpack(value))
        return pack(self.number, large)

    def keep(self, refs: list[ObjectRef[Any]]) -> int:
        self.refs = [*self.refs, *refs][-3:]
        return len(self.refs)

    def give(self) -> list[ObjectRef[Any]]:
        return self.refs

    def read(self, large: bool) -> Any:
        return pack(mix(*map(unpack, skate.get(self.refs))), large)
