"""What a callable is."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from skate._base.code_flags import is_coroutine, is_generator


def plain() -> None: ...


def items() -> Iterator[int]:
    yield 1


async def wait() -> None: ...


async def async_items() -> AsyncIterator[int]:
    yield 1


def wrapped(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper() -> Any:
        return function()

    return wrapper


class Object:
    def __call__(self) -> Iterator[int]:
        yield 1

    async def method(self) -> None: ...

    @classmethod
    def of_class(cls) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize(
    ("function", "coroutine", "generator", "below"),
    [
        (plain, False, False, False),
        (items, False, True, True),
        (wait, True, False, False),
        (async_items, False, True, True),
        (wrapped(items), False, False, True),
        (wrapped(wrapped(wait)), True, False, False),
        (functools.partial(items), False, True, True),
        (functools.partial(Object().method), True, False, False),
        (functools.partial(functools.partial(Object().of_class)), False, True, True),
        (Object(), False, True, True),
        (Object().method, True, False, False),
        (Object.of_class, False, True, True),
        (staticmethod(items), False, True, True),
        (len, False, False, False),
        (int, False, False, False),
    ],
)
def test_kinds(function: Any, coroutine: bool, generator: bool, below: bool) -> None:
    assert is_coroutine(function) == coroutine
    assert is_generator(function) == generator
    assert is_generator(function, decorated=True) == below


def test_a_circle_of_decorators_ends() -> None:
    def odd() -> None: ...

    odd.__wrapped__ = odd  # type: ignore[attr-defined]
    assert not is_coroutine(odd)
