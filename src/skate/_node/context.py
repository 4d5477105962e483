"""The ground of every part of the daemon: settings, reactor, connected clients, log and events."""

from __future__ import annotations

import os
import sys
from collections import deque
from typing import Any

from skate._base import clock
from skate._base.config import Config
from skate._node.clients import Clients
from skate._node.settings import NodeSettings
from skate._scheduling.labels import NODE_ID
from skate._transport.reactor import Reactor

#: Events that the state API can still show.
_MAX_EVENTS = 1000
#: Ended processes that the state API can still show.
_MAX_ENDED_PROCESSES = 1000


class NodeContext:
    """Made first and passed to every part; it knows no part."""

    __slots__ = ("settings", "config", "node_id", "pid", "labels", "reactor", "clients", "closing", "events",
                 "ended_processes")  # fmt: skip

    def __init__(self, settings: NodeSettings, reactor: Reactor) -> None:
        self.settings = settings
        self.config = Config(**settings.config)
        self.node_id = bytes.fromhex(settings.node_id)
        self.pid = os.getpid()
        self.labels = settings.labels | {NODE_ID: settings.node_id}
        self.reactor = reactor
        self.clients = Clients()
        #: The session ends; written by ``Daemon.shutdown``.
        self.closing = False
        #: Recent events, as rows of the state API: written by ``event``.
        self.events: deque[dict[str, Any]] = deque(maxlen=_MAX_EVENTS)
        #: Rows of the state API about processes that ended, the newest last: written by ``remember_ended``.
        self.ended_processes: deque[dict[str, Any]] = deque(maxlen=_MAX_ENDED_PROCESSES)

    @property
    def cpu_count(self) -> int:
        """The whole CPUs of this node."""
        return self.settings.resources.get("CPU", 0) // 10_000

    def send(self, client_id: bytes, message: Any) -> bool:
        """Send a message to a connected process. False: it is not connected, and the message is dropped."""
        return self.clients.send(client_id, message)

    def log(self, text: str) -> None:
        """Write a line to the daemon's log."""
        try:
            print(text, file=sys.stderr, flush=True)
        except OSError:
            pass  # the disk is full, or the file as large as it may be: the work goes on without it

    def event(self, severity: str, source: str, text: str) -> None:
        """Log what happened, and keep it for the state API."""
        self.log(text)
        row = {"severity": severity, "time": clock.time(), "source_type": source, "message": text}
        self.events.append(row)

    def remember_ended(self, row: dict[str, Any]) -> None:
        """Keep what is known of a process that ended, for the state API."""
        self.ended_processes.append(row)
