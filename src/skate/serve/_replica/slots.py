"""The slots of this replica at work: carries out what its lender decides. On the actor's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from skate.serve._router import lender as lending

Answer = Callable[[int, int], object]

#: The calls of a process that has ended begin no later than this after the news of its end (seconds).
LATE_S = 1.0


class Slots:
    """Which requests run now, and which routers wait for credits.

    Args:
        slots: how many requests may run at a time.
    """

    def __init__(self, slots: int) -> None:
        self.lender = lending.Lender(slots)
        self._loop = asyncio.get_running_loop()
        #: Answers the latest report of each router.
        self._polls: dict[str, Answer] = {}
        #: The requests of each router of another process: those that run, and those that wait for a slot.
        self._calls: dict[str, set[asyncio.Task[Any]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------------ requests that came here

    def end_here(self) -> None:
        """A request that ``lender.begin_here`` let in has ended."""
        commands = self.lender.ended_here(self._loop.time())
        if commands:
            self._perform(commands)

    def arrived_here(self, begin: Callable[[], None]) -> None:
        """A request of this process's router, which has a credit, begins now or later."""
        token: asyncio.Future[None] = self._loop.create_future()
        token.add_done_callback(lambda _: begin())
        self._perform(self.lender.arrived(lending.HERE, token, self._loop.time()))

    # ------------------------------------------------------------------ requests of other processes

    async def enter(self, router: str) -> None:
        """Begin a request of a router, which the calling task is: at once, or when a slot is free.

        The task is cancelled when the router's process ends.
        """
        task = asyncio.current_task()
        assert task is not None
        calls = self._calls.setdefault(router, set())
        calls.add(task)
        task.add_done_callback(calls.discard)
        if self.lender.begins(router):
            return
        token: asyncio.Future[None] = self._loop.create_future()
        self._perform(self.lender.arrived(router, token, self._loop.time()))
        if token.done():
            return
        try:
            await token
        except asyncio.CancelledError:
            try:
                commands = self.lender.withdrawn(token, self._loop.time())
            except KeyError:  # it was its turn in the same moment
                self.leave(router, False)
            else:
                self._perform(commands)
            raise

    def leave(self, router: str, keeps: bool) -> None:
        """A request has ended; with ``keeps`` its result brings the credit back to the router."""
        self._perform(self.lender.ended(router, keeps, self._loop.time()))

    # ------------------------------------------------------------------ credits

    def report(self, router: str, wanted: int, held: int, received: int, answer: Answer) -> None:
        """A router reports; ``answer(granted, recalled)`` is called when there is something to say."""
        before = self._polls.get(router)
        self._polls[router] = answer
        if before is not None:
            before(0, 0)
        self._perform(self.lender.report(router, wanted, held, received, self._loop.time()))

    async def credits(self, router: str, wanted: int, held: int, received: int) -> tuple[int, int]:
        """The same for routers of other processes; returns the answer."""
        future: asyncio.Future[tuple[int, int]] = self._loop.create_future()

        def answer(granted: int, recalled: int) -> None:
            if not future.done():
                future.set_result((granted, recalled))

        self.report(router, wanted, held, received, answer)
        return await future

    def process_gone(self, process: str) -> None:
        """A process has ended: its credits are free, and its requests need no answer.

        Its last calls may be tasks that have not begun yet, as the news of its end overtakes them.
        """
        self._routers_gone(process)
        self._loop.call_later(LATE_S, self._routers_gone, process)

    def _routers_gone(self, process: str) -> None:
        for router in [one for one in self._calls if one.partition("/")[0] == process]:
            for task in self._calls.pop(router):
                task.cancel()
        for router in self.lender.routers():
            if router.partition("/")[0] == process:
                answer = self._polls.pop(router, None)
                if answer is not None:
                    answer(0, 0)
                self._perform(self.lender.gone(router, self._loop.time()))

    def resize(self, slots: int) -> None:
        """Run so many requests at a time from now on."""
        self._perform(self.lender.resized(slots, self._loop.time()))

    def drain(self) -> None:
        """Lend no more credits."""
        self._perform(self.lender.drain(self._loop.time()))

    # ------------------------------------------------------------------ effects

    def _perform(self, commands: list[lending.Command]) -> None:
        for command in commands:
            if isinstance(command, lending.Begin):
                token: asyncio.Future[None] = command.token  # type: ignore[assignment]
                if not token.cancelled():  # else its request gives the slot back at its next step
                    token.set_result(None)
            else:
                self._polls.pop(command.router)(command.granted, command.recalled)
        if self._timer is None and self.lender.is_awaited:
            self._timer = self._loop.call_later(lending.REVOKE_AFTER_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._perform(self.lender.tick(self._loop.time()))
