"""A gate that tasks wait at, and a counter of who has come: for tests that must not sleep."""

from __future__ import annotations

import asyncio

import skate


@skate.remote(num_cpus=0)
class Gate:
    """Closed until somebody opens it."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.arrived = 0
        self.changed = asyncio.Condition()

    async def wait(self) -> None:
        async with self.changed:
            self.arrived += 1
            self.changed.notify_all()
        await self.opened.wait()

    async def open(self) -> None:
        self.opened.set()

    async def until_arrived(self, count: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: self.arrived >= count)
