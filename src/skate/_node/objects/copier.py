"""Copies objects from shared memory to disk, in a thread of its own: a disk may be slow."""

from __future__ import annotations

import threading
from _queue import SimpleQueue  # the module "queue" imports more than it gives
from collections import deque

from skate._store import disk
from skate._store.allocator import Extent
from skate._store.segment import Segments
from skate._store.spilling import Copy
from skate._transport.reactor import Reactor

Outcome = tuple[Extent, OSError | None]
"""The target of a copy, and why it failed, if it did."""


class DiskCopier:
    """The thread, from its first copy on; it ends with the process."""

    def __init__(self, reactor: Reactor, segments: Segments) -> None:
        self._reactor = reactor
        self._segments = segments
        self._copies: SimpleQueue[Copy] = SimpleQueue()
        self._outcomes: deque[Outcome] = deque()
        self._thread: threading.Thread | None = None

    def copy(self, command: Copy) -> None:
        """Have an object copied; the reactor takes a turn when that is done."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="skate-disk", daemon=True)
            self._thread.start()
        self._copies.put(command)

    @property
    def has_outcomes(self) -> bool:
        """Whether copies came to an end since the last call of ``take_outcomes``."""
        return bool(self._outcomes)

    def take_outcomes(self) -> list[Outcome]:
        """Return the copies that came to an end since the last call."""
        found: list[Outcome] = []
        while self._outcomes:
            found.append(self._outcomes.popleft())
        return found

    def _run(self) -> None:
        while True:
            command = self._copies.get()
            source, target = command.source, command.target
            error = None
            try:
                with self._segments.memory(source) as memory:
                    disk.copy(memory, self._segments.fd(target.segment), target.offset)
            except OSError as found:
                error = found
            self._outcomes.append((target, error))
            self._reactor.wake()
