"""The slots of a replica, on a loop of their own."""

from __future__ import annotations

import asyncio
from typing import Any

from skate.serve._replica import slots as module
from skate.serve._replica.slots import Slots


def test_a_request_that_is_cancelled_as_its_turn_comes() -> None:
    """Between the cancel and the next step of the request, another request frees the slot for it."""

    async def run() -> tuple[int, int]:
        slots = Slots(1)
        await slots.enter("one/x")
        waiting = asyncio.create_task(slots.enter("two/x"))
        last = asyncio.create_task(slots.enter("three/x"))
        while slots.lender.ongoing < 3:
            await asyncio.sleep(0)
        waiting.cancel()
        slots.leave("one/x", False)
        await asyncio.wait([waiting, last])
        assert waiting.cancelled()
        assert not last.cancelled()
        began = slots.lender.running
        slots.leave("three/x", False)
        return began, slots.lender.ongoing

    assert asyncio.run(run()) == (1, 0)


def test_a_process_that_is_gone_leaves_nothing() -> None:
    """A request of it runs, another one waits for the slot, and its router waits for a credit."""

    async def run() -> tuple[list[bool], int, list[str]]:
        slots = Slots(1)
        tasks = [asyncio.create_task(hold(slots)) for _ in range(2)]
        while slots.lender.ongoing < 2:
            await asyncio.sleep(0)
        poll = asyncio.create_task(slots.credits("one/x", 1, 0, 0))
        await asyncio.sleep(0)
        slots.process_gone("one")
        await asyncio.wait([*tasks, poll])
        return [one.cancelled() for one in tasks], slots.lender.ongoing, slots.lender.routers()

    assert asyncio.run(run()) == ([True, True], 0, [])


def test_calls_that_the_news_of_the_end_has_overtaken(monkeypatch: Any) -> None:
    """They get no credits for good, and do not run for nobody."""
    monkeypatch.setattr(module, "LATE_S", 0.0)

    async def run() -> tuple[int, int, list[str]]:
        slots = Slots(2)
        slots.process_gone("one")
        task = asyncio.create_task(hold(slots))
        assert await slots.credits("one/x", 1, 0, 0) == (1, 0)
        await asyncio.wait([task])
        return slots.lender.ongoing, slots.lender.lent, slots.lender.routers()

    assert asyncio.run(run()) == (0, 0, [])


async def hold(slots: Slots) -> None:
    """Run a request that does not end."""
    await slots.enter("one/x")
    try:
        await asyncio.Event().wait()
    finally:
        slots.leave("one/x", True)
