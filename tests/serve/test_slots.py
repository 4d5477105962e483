"""The slots of a replica, on a loop of their own."""

from __future__ import annotations

import asyncio

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
