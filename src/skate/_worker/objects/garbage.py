"""Counts the refs, views and functions that ended since the last turn, frees values and informs owners.

``__del__`` may run on any thread, at any bytecode, inside the runtime's own code too. So it only appends to
a queue, and each turn of the event loop drains the queues under the lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from skate._base.hooks import unset
from skate._store.client import StoreClient
from skate._transport.reactor import Reactor
from skate._wire import node
from skate._wire.worker import ERROR, SHARED
from skate._worker.objects.borrowing import Borrowing
from skate._worker.objects.home import Home
from skate._worker.objects.refs import ACTOR, Dropped, Freed, ObjectEntry, RefTable
from skate._worker.objects.shared_memory import SharedMemory
from skate._worker.process.daemon_link import DaemonLink
from skate._worker.process.peers import Peers

#: When a program drops a million refs, each turn counts at most this many: a thread that wants the lock then
#: waits for a millisecond, not for a second.
_MAX_REFS_PER_TURN = 1000


class Garbage:
    """Drains the queues of ``__del__`` methods. Built by Core, which sets the hooks. Under the lock."""

    def __init__(
        self,
        reactor: Reactor,
        daemon: DaemonLink,
        peers: Peers,
        refs: RefTable,
        store: StoreClient,
        memory: SharedMemory,
        borrowing: Borrowing,
        home: Home,
    ) -> None:
        self._reactor = reactor
        self._daemon = daemon
        self._peers = peers
        self._refs = refs
        self._store = store
        self._memory = memory
        self._borrowing = borrowing
        self._dead_refs = home.dead_refs
        #: Numbers of remote functions that ended.
        self.dead_functions: deque[int] = deque()
        #: Calls of generators whose remaining items will not be taken.
        self.dead_streams: deque[Any] = deque()
        store.on_dead_view = self._dead_view
        reactor.leftovers = self._dead_refs, store.dead_views, self.dead_functions, self.dead_streams
        #: Called for each of ``dead_streams``.
        self.on_dead_stream: Callable[[Any], None] = unset
        #: Called with the id of an actor whose handles are all gone.
        self.on_handles_gone: Callable[[bytes], None] = unset
        #: Called with a freed object that a call made.
        self.on_result_freed: Callable[[ObjectEntry], None] = unset
        #: Called with a freed error.
        self.on_error_freed: Callable[[ObjectEntry], None] = unset

    def _dead_view(self) -> None:
        if self._reactor.blocked_in_poll:
            self._reactor.request_turn()

    def drain_in_turn(self) -> None:
        """Drain in a turn of the event loop, as much as it has time for."""
        self.drain(_MAX_REFS_PER_TURN)

    def drain(self, backlog: int | None = None) -> None:
        """Count what ended since the last turn, and carry out the commands of the ref table.

        ``backlog``: see ``RefTable.drop_locals``.
        """
        refs, store, dead = self._refs, self._store, self._dead_refs
        if self.dead_functions:
            self._peers.forget_functions(self.dead_functions)
        while self.dead_streams:
            self.on_dead_stream(self.dead_streams.popleft())
        if refs.to_notify:
            refs.notify()
        if not dead and not store.dead_views and not refs.commands:
            return
        free: list[bytes] = []
        keep: list[bytes] = []
        while True:
            if dead:
                refs.drop_locals(dead, backlog)
                if backlog:
                    backlog = 0  # the rest has time until the next turn
            if store.dead_views:
                for object_id, local in store.drain_dead():
                    self._memory.end_view(object_id, local)
            if not refs.commands:
                break
            commands, refs.commands = refs.commands, []
            for command in commands:
                if isinstance(command, Freed):
                    self._freed(command.entry, free, keep)
                elif isinstance(command, Dropped):
                    if command.tell:
                        self._borrowing.release(command.entry)
                else:
                    self._borrowing.register(command.entry)
        if free:
            self._daemon.send(node.Free(free, False))
        if keep:
            self._daemon.send(node.Free(keep, True))

    def _freed(self, entry: ObjectEntry, free: list[bytes], keep: list[bytes]) -> None:
        """Note which message about a freed object the daemon must get, and call the hooks."""
        kind = entry.kind
        if kind == SHARED:
            found = self._memory.free_value(entry)
            if found is not None:
                (keep if found[1] else free).append(found[0])
        elif kind == ERROR:
            self.on_error_freed(entry)
        if entry.label == ACTOR:
            self.on_handles_gone(entry.data)
        elif entry.maker is not None:
            self.on_result_freed(entry)
