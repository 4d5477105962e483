"""Looks for waits that can never end while a worker waits for long; raises in one of the waits concerned.

Nothing happens in a session whose workers do not wait. A deadlock must be found twice before it counts.
"""

from __future__ import annotations

from typing import Any

from skate._base.waits import Deadlock, confirmed, deadlocks, situation
from skate._node.context import NodeContext
from skate._node.reporting.state import Part, StateService
from skate._transport.connection import Connection, Handler
from skate._transport.reactor import Timer
from skate._wire import node
from skate._wire.codec import unpack

#: When to look after a wait became long, and again (seconds). Only a new wait can close a circle: so if
#: there is none by then, looking less and less often is for what was not told in time.
_LOOK_DELAYS_S = (0.2, 0.5, 1.0, 3.0, 10.0, 30.0)


class DeadlockDetector:
    """The waits of this node's workers."""

    def __init__(self, context: NodeContext, state: StateService) -> None:
        self._context = context
        self._state = state
        #: Worker to how many of its threads wait long.
        self._waiting: dict[bytes, int] = {}
        self._found: list[Deadlock] = []
        self._timer: Timer | None = None
        self._looks = 0

    def handlers(self) -> dict[type, Handler]:
        """Return the handlers of this part's messages."""
        return {node.Waiting: self._news}

    def _news(self, connection: Connection, message: node.Waiting) -> None:
        worker = connection.peer.id
        count = self._waiting.get(worker, 0) + (1 if message.waiting else -1)
        if count > 0:
            self._waiting[worker] = count
        else:
            self._waiting.pop(worker, None)
        if message.waiting:
            self._looks = 0
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = _LOOK_DELAYS_S[min(self._looks, len(_LOOK_DELAYS_S) - 1)]
        self._timer = self._context.reactor.call_later(delay, self._look)

    def _look(self) -> None:
        self._timer = None
        self._looks += 1
        for worker in [one for one in self._waiting if one not in self._context.clients]:
            del self._waiting[worker]
        if self._waiting and not self._context.closing:
            self._state.ask("waits", self._answered)
        else:
            self._found = []

    def _answered(self, parts: list[Part], silent: list[int]) -> None:
        rows: list[dict[str, Any]] = []
        for _, _, kind, told in parts:
            if kind != "daemon":
                rows += unpack(told, type=list[dict[str, Any]])
        found = deadlocks(situation(rows))
        for one in confirmed(self._found, found):
            self._tell(one)
        self._found = found
        if self._timer is None:
            self._arm()

    def _tell(self, found: Deadlock) -> None:
        """Raise in the wait that began last: it closed the circle, and the others go on when it fails."""
        process, number = found.waits[0]
        if self._context.send(bytes.fromhex(process), node.Deadlocked(number, found.text)):
            self._context.event("ERROR", "DEADLOCK", found.text)
