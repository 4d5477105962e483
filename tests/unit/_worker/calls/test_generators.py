"""A generator at its caller, whose items another thread brings."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from skate._worker.calls.generators import ObjectRefGenerator
from skate._worker.calls.streams import Stream
from skate._worker.objects.refs import ObjectEntry, RefTable

from ..making import ME


class Source:
    """Brings all items and the end just after somebody has looked for an item in vain."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.waits = 0

    def take(self, task: Any) -> ObjectEntry | None:
        found = self.stream.take()
        if found is None and not self.stream.ended:
            for index in range(3):
                self.stream.arrive(index)
            self.stream.end()
        return found

    def next_entry(self, task: Any) -> ObjectEntry:
        return self.stream.peek()

    def wait(self, entry: ObjectEntry, timeout: float | None) -> None:
        self.waits += 1

    def when_ready(self, entry: ObjectEntry, call: Any) -> bool:
        self.waits += 1
        return False

    def drop(self, task: Any) -> None:
        pass


@pytest.fixture
def generator() -> ObjectRefGenerator[Any]:
    stream = Stream(RefTable(), ME, 1000, 0)
    task: Any = SimpleNamespace(stream=stream)
    completed: Any = None
    return ObjectRefGenerator(Source(stream), task, completed)  # type: ignore[arg-type]


def test_items_that_come_with_the_end_are_not_lost(generator: ObjectRefGenerator[Any]) -> None:
    assert len(list(generator)) == 3


def test_nor_in_a_coroutine(generator: ObjectRefGenerator[Any]) -> None:
    async def items() -> list[Any]:
        return [one async for one in generator]

    assert len(asyncio.run(items())) == 3
