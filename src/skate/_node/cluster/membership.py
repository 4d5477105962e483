"""This node's place in its cluster: its connection to the control store, made again when that is another.

What it told of actors it keeps, as long as it matters, and tells it again at each connect.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from skate._base import descriptors
from skate._base.clock import monotonic
from skate._transport.connection import Connection
from skate._transport.dialing import dial_now
from skate._wire import control
from skate._wire.codec import PROTOCOL

if TYPE_CHECKING:
    from skate._node.daemon import Daemon

#: Ends of actors that are kept: more do not happen while a control store is away.
_ENDS_KEPT = 1000
#: A control store that hangs up right after it was dialled is dialled again after this time (seconds).
_PAUSE = 0.2


class Membership:
    """See the module's text. All methods run on the daemon's loop."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._connection: Connection | None = None
        self._dialled = 0.0
        #: By actor: that the incarnation which lives here was started.
        self._started: dict[bytes, control.ActorStarted] = {}
        self._ended: deque[control.ActorStarted | control.ActorEnded] = deque(maxlen=_ENDS_KEPT)

    def join(self) -> None:
        """Connect, and tell who we are."""
        daemon = self._daemon
        if daemon.closing:
            return
        self._dialled = monotonic()
        try:
            sock = dial_now(os.path.join(daemon.settings.session_dir, "control.sock"))
        except OSError as error:
            if descriptors.is_transient(error):
                daemon.reactor.call_later(_PAUSE, self.join)
                return
            daemon.log(f"the control store is gone: {error}")
            return
        connection = Connection(daemon.reactor, sock, daemon.actors.control_table(), self._closed)
        self._connection = connection
        connection.peer = "the control store"
        connection.send(
            control.RegisterNode(
                daemon.node_id,
                os.path.join(daemon.settings.session_dir, "node.sock"),
                daemon.settings.hostname,
                os.getpid(),
                daemon.settings.resources,
                PROTOCOL,
                daemon.labels,
                [*self._started.values(), *self._ended],
                daemon.actors.hosted(),
                daemon.processes.roots(),
                [bytes.fromhex(row["worker_id"]) for row in daemon.processes.dead],
            )
        )
        self.free(daemon.leases.free)

    def _closed(self, connection: Connection) -> None:
        """Running work goes on; only new actors and names need the control store."""
        self._connection = None
        if self._daemon.closing:
            return
        self._daemon.log(f"the connection to the control store ended ({connection.close_reason})")
        pause = 0.0 if monotonic() - self._dialled > _PAUSE else _PAUSE
        self._daemon.reactor.call_later(pause, self.join)

    def _tell(self, message: control.ActorStarted | control.ActorEnded | control.NodeUpdate) -> None:
        if self._connection is not None:
            self._connection.send(message)

    def free(self, available: Mapping[str, int]) -> None:
        """Resources were taken or given back."""
        self._tell(control.NodeUpdate(dict(available)))

    def started(self, message: control.ActorStarted) -> None:
        """An actor is alive, or its constructor raised."""
        if message.error:
            self._ended.append(message)
        else:
            self._started[message.actor_id] = message
        self._tell(message)

    def ended(self, message: control.ActorEnded) -> None:
        """The process of an actor ended, or it is not to be started any more."""
        self._started.pop(message.actor_id, None)
        self._ended.append(message)
        self._tell(message)
