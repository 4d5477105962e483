"""Connects this node to the control store, and again when that was started anew.

Its reports about actors are kept as long as they matter, and sent again at each connect.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping

from skate._base import clock, descriptors
from skate._node.context import NodeContext
from skate._node.jobs import Jobs
from skate._transport.connection import Connection, Handler
from skate._wire import control
from skate._wire.codec import PROTOCOL

#: Ends of actors that are kept: more do not happen while a control store is away.
_MAX_ENDS = 1000
#: A control store that hangs up right after it was dialled is dialled again after this time.
_REDIAL_DELAY_S = 0.2


_Report = (
    control.ActorStarted
    | control.ActorEnded
    | control.NodeUpdate
    | control.BundlesReserved
    | control.AskForGroup
)


class Membership:
    """This node as a member of its cluster. All methods run on the daemon's loop.

    Args:
        context: of the daemon.
        jobs: of this node.
        handlers: returns the handlers of the control store's messages.
        hosted: returns the incarnations of actors that are here, or on their way.
        free: returns the resources that are free.
        groups: returns the placement groups that are here or wait: see ``control.RegisterNode``.
        joined: called when this node has registered.
    """

    def __init__(
        self,
        context: NodeContext,
        jobs: Jobs,
        *,
        handlers: Callable[[], Mapping[type, Handler]],
        hosted: Callable[[], list[tuple[bytes, int]]],
        free: Callable[[], Mapping[str, int]],
        groups: Callable[[], list[tuple[bytes, int, bool]]],
        joined: Callable[[], None],
    ) -> None:
        self._context = context
        self._jobs = jobs
        self._handlers = handlers
        self._hosted = hosted
        self._free = free
        self._groups = groups
        self._joined = joined
        self._connection: Connection | None = None
        self._dialled = 0.0
        #: By actor: the report that the incarnation which lives here was started.
        self._started: dict[bytes, control.ActorStarted] = {}
        self._ended: deque[control.ActorStarted | control.ActorEnded] = deque(maxlen=_MAX_ENDS)

    def join(self) -> None:
        """Connect, and register this node."""
        context = self._context
        if context.closing:
            return
        self._dialled = clock.monotonic()
        try:
            sock = context.reactor.dial(os.path.join(context.settings.session_dir, "control.sock"))
        except OSError as error:
            if descriptors.is_transient(error):
                context.reactor.call_later(_REDIAL_DELAY_S, self.join)
                return
            context.log(f"the control store is gone: {error}")
            return
        connection = Connection(context.reactor, sock, dict(self._handlers()), self._closed)
        self._connection = connection
        connection.peer = "the control store"
        connection.send(
            control.RegisterNode(
                context.node_id,
                os.path.join(context.settings.session_dir, "node.sock"),
                context.settings.hostname,
                context.pid,
                context.settings.resources,
                PROTOCOL,
                context.labels,
                [*self._started.values(), *self._ended],
                self._hosted(),
                self._jobs.detached_actors(),
                [bytes.fromhex(row["worker_id"]) for row in context.ended_processes],
                self._groups(),
            )
        )
        self.report_free(self._free())
        self._joined()

    def _closed(self, connection: Connection) -> None:
        """Dial again. Running work goes on meanwhile: only new actors and names need the control store."""
        self._connection = None
        if self._context.closing:
            return
        self._context.log(f"the connection to the control store ended ({connection.close_reason})")
        delay = 0.0 if clock.monotonic() - self._dialled > _REDIAL_DELAY_S else _REDIAL_DELAY_S
        self._context.reactor.call_later(delay, self.join)

    def send(self, message: _Report) -> None:
        """Send a message, unless the control store is away: it hears what counts when it is back."""
        if self._connection is not None:
            self._connection.send(message)

    def report_free(self, available: Mapping[str, int]) -> None:
        """Report the resources that are free."""
        self.send(control.NodeUpdate(dict(available)))

    def started(self, message: control.ActorStarted) -> None:
        """Report that an actor is alive, or that its constructor raised."""
        if message.error:
            self._ended.append(message)
        else:
            self._started[message.actor_id] = message
        self.send(message)

    def ended(self, message: control.ActorEnded) -> None:
        """Report that the process of an actor ended, or that the actor will not be started."""
        self._started.pop(message.actor_id, None)
        self._ended.append(message)
        self.send(message)
