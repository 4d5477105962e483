"""The asyncio loop of an async actor, which reads the runtime's sockets besides its own."""

from __future__ import annotations

import asyncio
import selectors
import threading

from skate._transport.reactor import Reactor


class WatchingSelector(selectors.EpollSelector):
    """Has the reactor send what is queued each time before the loop sleeps.

    A round of the loop so ends with one flush: what the loop's own thread queues needs no descriptor to be
    written to, and no further round.
    """

    def __init__(self, reactor: Reactor) -> None:
        super().__init__()
        self._reactor = reactor
        self._thread = threading.get_ident()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See BaseSelector. On the loop's thread."""
        self._reactor.loop_sleeps()
        try:
            return super().select(timeout)
        finally:
            self._reactor.awake_thread = self._thread


def make_loop(reactor: Reactor) -> tuple[asyncio.AbstractEventLoop, bool]:
    """Return a loop for the calling thread, and whether it has the reactor send what is queued: loops of a
    policy of the user's (uvloop) do not."""
    loop = asyncio.new_event_loop()
    if type(loop) is not asyncio.SelectorEventLoop:
        return loop, False
    loop.close()
    return asyncio.SelectorEventLoop(WatchingSelector(reactor)), True
