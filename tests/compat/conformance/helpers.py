"""What the tests share. Nothing here is skate's or Ray's own: the public API alone."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

import ray
import ray.exceptions

from compat.markers import differs, needs_processes

__all__ = [
    "Counter",
    "Gate",
    "Record",
    "dead",
    "differs",
    "kept",
    "needs_processes",
    "never",
    "until",
]


@ray.remote(num_cpus=0)
class Gate:
    """Closed until somebody opens it; counts who has come."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.changed = asyncio.Condition()
        self.arrived = 0

    async def wait(self) -> None:
        async with self.changed:
            self.arrived += 1
            self.changed.notify_all()
        await self.opened.wait()

    async def open(self) -> None:
        self.opened.set()

    async def until_arrived(self, count: int = 1) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: self.arrived >= count)


@ray.remote(num_cpus=0)
class Record:
    """A list that tasks and actors write to, wherever they run."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def add(self, item: Any) -> int:
        self.items.append(item)
        return len(self.items)

    def all(self) -> list[Any]:
        return self.items


@ray.remote
class Counter:
    """Counts."""

    step = 1

    def __init__(self, start=0):
        self.value = start

    def add(self, n=None):
        self.value += self.step if n is None else n
        return self.value

    def fail(self):
        raise ValueError("on purpose")

    def pid(self):
        return os.getpid()

    def crash(self):
        os._exit(1)

    def wait(self, gate):
        ray.get(gate.wait.remote())
        return self.value


def dead(actor: Any) -> bool:
    """Tell whether calls of the actor fail."""
    try:
        ray.get(actor.__ray_ready__.remote(), timeout=60)
    except ray.exceptions.RayActorError:
        return True
    return False


def until(condition: Callable[[], Any], what: str = "the condition", seconds: float = 60) -> Any:
    """Ask until the answer is true, and return it: for what comes to hold only eventually."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come true")
        time.sleep(0.02)


#: Gates that stay closed: Ray's driver crashes when an argument of a task that was cancelled arrives, or fails.
kept: list[Any] = []


def never() -> Any:
    """Return a ref whose value never comes."""
    gate = Gate.remote()
    kept.append(gate)
    return gate.wait.remote()
