"""A dataflow with a block that runs in parallel."""

from hamilton.htypes import Collect, Parallelizable


def number(count: int) -> Parallelizable[int]:
    yield from range(count)


def square(number: int) -> int:
    return number**2


def total(square: Collect[int]) -> int:
    return sum(square)
