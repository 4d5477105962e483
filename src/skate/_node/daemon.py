"""The node daemon: builds the tables and their effects, starts and stops them. No rules here.

One thread, one loop. It is on the path of leases, of large objects and of deaths, never on the
path of a call. It ends when the connection of the driver that started it does.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections import deque
from typing import Any

import msgspec

from skate._base import descriptors
from skate._base.clock import monotonic
from skate._base.config import Config
from skate._node.actors.service import ActorHandlers
from skate._node.cluster.control_store_supervisor import Keeper
from skate._node.cluster.membership import Membership
from skate._node.environments.service import EnvironmentHandlers
from skate._node.leases.service import LeaseHandlers
from skate._node.leases.table import Leases
from skate._node.memory.monitor import MemoryHandlers
from skate._node.objects.service import ObjectHandlers
from skate._node.objects.spilling import SpillHandlers
from skate._node.reporting.breakpoints import BreakpointHandlers
from skate._node.reporting.deadlocks import DeadlockHandlers
from skate._node.reporting.state import StateHandlers
from skate._node.settings import NodeSettings
from skate._node.workers.launcher import Board, Launcher
from skate._node.workers.service import Client, ProcessHandlers
from skate._node.workers.table import Workers
from skate._scheduling.labels import NODE_ID
from skate._store.segment import Segments
from skate._store.table import StoreTable
from skate._transport.acceptor import Acceptor
from skate._transport.connection import Handler, Listener
from skate._transport.reactor import Reactor
from skate._wire import services

#: Holds the session's lock: see ``_launch.session``.
ALIVE_FD = 4
#: How long a driver may take to read what its workers printed last (seconds).
_LAST_WORDS = 5.0
#: Events that are remembered for those who look.
_EVENTS_KEPT = 1000


class Daemon:
    """Everything of one node."""

    def __init__(self, settings: NodeSettings, zygote_argv: list[str], board_fd: int) -> None:
        self.settings = settings
        self.config = Config(**settings.config)
        self.node_id = bytes.fromhex(settings.node_id)
        self.labels = settings.labels | {NODE_ID: settings.node_id}
        self.reactor = Reactor("node daemon")
        self.leases = Leases(settings.resources, self.config.max_workers, settings.gpus)
        self.workers = Workers()
        self.store = StoreTable(settings.store_capacity)
        self.segments = Segments()
        #: Every process that said hello, by worker id.
        self.clients: dict[bytes, Client] = {}
        self.closing = False
        #: What happened lately: plain rows.
        self.events: deque[dict[str, Any]] = deque(maxlen=_EVENTS_KEPT)

        self.processes = ProcessHandlers(self)
        self.lease_handlers = LeaseHandlers(self)
        self.objects = ObjectHandlers(self)
        self.spilling = SpillHandlers(self, self.objects.room)
        self.actors = ActorHandlers(self)
        self.environments = EnvironmentHandlers(self)
        self.state = StateHandlers(self)
        self.deadlocks = DeadlockHandlers(self)
        self.memory = MemoryHandlers(self)
        self.breakpoints = BreakpointHandlers(self)
        self.membership = Membership(self)
        kept = settings.control
        #: On the head.
        self.keeper = Keeper(self.reactor, kept, ALIVE_FD, self.event) if kept is not None else None
        self.board = Board(board_fd)
        log_fd = os.dup(2)
        self.launcher = Launcher(
            self.reactor,
            zygote_argv,
            self.board,
            log_fd,
            self.processes.spawned,
            self.processes.exited,
            self.processes.zygote_died,
        )
        self.handlers: dict[type, Handler] = {
            **self.processes.table(),
            **self.lease_handlers.table(),
            **self.objects.table(),
            **self.spilling.table(),
            **self.actors.table(),
            **self.state.table(),
            **self.deadlocks.table(),
            **self.breakpoints.table(),
        }
        self.acceptor = Acceptor(self.reactor, services.NODE, self.handlers, self.processes.disconnected)

    def start(self) -> None:
        """Begin to serve."""
        listening = socket.socket(fileno=self.settings.listen_fd)
        Listener(self.reactor, listening, self._accept, self._out_of_descriptors)
        if self.settings.driver_fd >= 0:
            self._accept(socket.socket(fileno=self.settings.driver_fd), is_lifeline=True)
        self.membership.join()

    def _accept(self, sock: socket.socket, is_lifeline: bool = False) -> None:
        client = Client(is_lifeline)
        client.connection = self.acceptor.accept(sock, client, patient=is_lifeline)

    def _out_of_descriptors(self, error: OSError) -> None:
        text = f"the node daemon {descriptors.explain(error)}. Whoever dials it waits until there are some"
        self.event("ERROR", "NODES", text)

    def log(self, text: str) -> None:
        """Write a line to the daemon's log."""
        try:
            print(text, file=sys.stderr, flush=True)
        except OSError:
            pass  # the disk is full, or the file as large as it may be: the work goes on without it

    def event(self, severity: str, source: str, text: str) -> None:
        """Log what happened, and remember it for those who look."""
        self.log(text)
        self.events.append(
            {"severity": severity, "time": time.time(), "source_type": source, "message": text}
        )

    def shutdown(self, reason: str) -> None:
        """End every worker, pass on what they printed last, and stop."""
        if self.closing:
            return
        self.closing = True
        self.log(f"shutting down: {reason}")
        self.environments.close()
        self.launcher.close()  # the zygote kills its workers, and is reaped here
        if self.keeper is not None:
            self.keeper.close()
        for worker in self.workers:
            self.processes.kill(worker, "the session ended")
        self.processes.drain_logs()
        deadline = monotonic() + _LAST_WORDS
        for client in self.clients.values():
            if client.kind == "driver":
                client.connection.flush_all(deadline)
        self.reactor.stop()


def main(
    settings_json: str, zygote_argv: list[str], board_fd: int, zygote_pid: int, zygote: socket.socket
) -> None:
    """Run a daemon, whose zygote was executed already, until its driver is gone."""
    descriptors.keep_reserve()
    settings = msgspec.json.decode(settings_json, type=NodeSettings)
    daemon = Daemon(settings, zygote_argv, board_fd)
    with daemon.reactor.lock:
        daemon.launcher.adopt(zygote_pid, zygote)
        daemon.start()
    daemon.reactor.run()
