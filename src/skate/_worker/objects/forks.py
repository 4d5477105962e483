"""Keeps objects in shared memory unchanged while a child that user code forked can see them.

The child keeps the parent's mappings, and with them the views that existed at the fork. It holds the
write end of a pipe; when the parent reads end of file, the child and its own children are gone (or have
executed another program, which drops the mappings as well).
"""

from __future__ import annotations

import os

from skate._store.client import LocalObject, StoreClient
from skate._transport.reactor import Reactor
from skate._worker.objects.garbage import Garbage
from skate._worker.objects.shared_memory import SharedMemory


class ForkGuard:
    """Counts a forked child as one more view of everything that had views at the fork."""

    def __init__(self, reactor: Reactor, store: StoreClient, memory: SharedMemory, garbage: Garbage) -> None:
        self._reactor = reactor
        self._store = store
        self._memory = memory
        self._garbage = garbage
        self._pipe: tuple[int, int] | None = None
        self._seen: list[tuple[bytes, LocalObject]] = []

    def before(self) -> None:
        """Count one more view of each object that has views. In the forking thread, before the fork."""
        with self._reactor.lock:
            self._garbage.drain()
            self._seen = [item for item in self._store.objects.items() if item[1].views]
            for _, local in self._seen:
                local.views += 1
        try:
            self._pipe = os.pipe() if self._seen else None
        except OSError:  # no descriptor is left for the pipe: these views last until this process ends
            self._seen = []

    def after_in_parent(self) -> None:
        """Watch for the end of the child. In the parent, whether or not the fork succeeded."""
        if self._pipe is None:
            return
        read_end, write_end = self._pipe
        self._pipe = None
        os.close(write_end)
        with self._reactor.lock:
            _Child(self._reactor, self._store, self._memory, read_end, self._seen)
            self._seen = []
        self._reactor.request_turn()


class _Child:
    """One forked child, until its end closes the pipe."""

    def __init__(
        self,
        reactor: Reactor,
        store: StoreClient,
        memory: SharedMemory,
        fd: int,
        seen: list[tuple[bytes, LocalObject]],
    ) -> None:
        self._reactor = reactor
        self._store = store
        self._memory = memory
        self._fd = fd
        self._seen = seen
        reactor.register(fd, self)

    def handle(self, events: int) -> None:
        """End the child's views: it is gone. The reactor calls this."""
        self._reactor.unregister(self._fd)
        os.close(self._fd)
        for object_id, local in self._seen:
            local.views -= 1
            if not local.views and self._store.objects.get(object_id) is local:
                self._memory.end_view(object_id, local)
