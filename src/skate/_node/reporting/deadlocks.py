"""Looks for waits that can never end, while somebody waits long; tells one of those concerned.

Nothing happens in a session whose workers do not wait. What was found must be found twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skate._base.waits import Deadlock, confirmed, deadlocks, situation
from skate._node.reporting.state import Part
from skate._transport.connection import Connection, Handler
from skate._transport.reactor import Timer
from skate._wire import node
from skate._wire.codec import unpack

if TYPE_CHECKING:
    from skate._node.daemon import Daemon

#: When to look after a wait became long, and again (seconds). Only a new wait can close a circle: so if
#: there is none by then, looking less and less often is for what was not told in time.
_LOOKS = (0.2, 0.5, 1.0, 3.0, 10.0, 30.0)


class DeadlockHandlers:
    """The daemon's part about waits."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        #: Worker to how many of its threads wait long.
        self._waiting: dict[bytes, int] = {}
        self._found: list[Deadlock] = []
        self._timer: Timer | None = None
        self._looks = 0

    def table(self) -> dict[type, Handler]:
        """Return which message goes where."""
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
        delay = _LOOKS[min(self._looks, len(_LOOKS) - 1)]
        self._timer = self._daemon.reactor.call_later(delay, self._look)

    def _look(self) -> None:
        self._timer = None
        self._looks += 1
        daemon = self._daemon
        for worker in [one for one in self._waiting if one not in daemon.clients]:
            del self._waiting[worker]
        if self._waiting and not daemon.closing:
            daemon.state.ask("waits", self._answered)
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
        client = self._daemon.clients.get(bytes.fromhex(process))
        if client is not None:
            self._daemon.event("ERROR", "DEADLOCK", found.text)
            client.connection.send(node.Deadlocked(number, found.text))
