"""Objects that leave shared memory: asks owners, has a thread copy, tells when there is room."""

from __future__ import annotations

import threading
from _queue import SimpleQueue  # the module "queue" imports more than it gives
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from skate._base.clock import monotonic
from skate._store import disk
from skate._store.allocator import Extent
from skate._store.spilling import Ask, Command, Copy, Spilling
from skate._transport.connection import Connection, Handler
from skate._wire import node

if TYPE_CHECKING:
    from skate._node.daemon import Daemon

#: A disk that took no more is not asked again before this time (seconds).
_REST = 1.0


class SpillHandlers:
    """The daemon's part about spilling; carries out what ``Spilling`` decides."""

    def __init__(self, daemon: Daemon, freed: Callable[[], None]) -> None:
        self._daemon = daemon
        self._spilling = Spilling(daemon.store)
        #: Called when memory may have become free.
        self._freed = freed
        self._folder = daemon.settings.spill_folder
        self._work: SimpleQueue[Copy] = SimpleQueue()
        self._done: deque[tuple[Extent, OSError | None]] = deque()
        self._thread: threading.Thread | None = None
        self._full_until = 0.0
        #: To be lost as soon as their owners read them by request.
        self._to_lose: set[bytes] = set()
        daemon.reactor.on_turn = self._collect

    def table(self) -> dict[type, Handler]:
        """Return which message goes where."""
        return {node.Prepared: self._prepared, node.Lose: self._lose}

    @property
    def busy(self) -> bool:
        """Whether anything is under way that may free memory."""
        return self._spilling.is_busy

    @property
    def folder(self) -> str:
        """Where the files are."""
        if not self._folder:
            self._folder = disk.default_folder()
        return self._folder

    def relieve(self, needed: int = 0) -> None:
        """Make room for that many bytes, and some slack."""
        if needed or self._spilling.is_short:
            self.look_for_room()
            self._run(self._spilling.relieve(needed))

    def look_for_room(self, *, insist: bool = False) -> None:
        """Find out how much the disk takes. ``insist``: even if it took no more a moment ago."""
        allocator = self._daemon.store.disk
        resting = monotonic() < self._full_until and not insist
        allocator.capacity = allocator.used + (0 if resting else disk.room(self.folder))

    def make_segment(self, segment: int, size: int) -> None:
        """Make a new file.

        Raises:
            OSError: the folder does not take it.
        """
        self._daemon.segments.create_on_disk(segment, size, self.folder)

    def give_up(self) -> None:
        """Owners did not answer for long: count on what is being copied only."""
        if not self._spilling.is_copying:
            self._spilling.give_up()

    def owner_ended(self, owner: bytes) -> None:
        """It will not answer."""
        self._spilling.owner_ended(owner)

    # ------------------------------------------------------------------ effects

    def _lose(self, connection: Connection, message: node.Lose) -> None:
        """A test wants objects to be lost. Their owners are to ask for them first: see Spilling."""
        store = self._daemon.store
        for object_id in message.object_ids:
            stored = store.objects.get(object_id)
            if stored is None:
                continue
            if stored.by_request:
                store.lose(object_id)
                continue
            self._to_lose.add(object_id)
            owner = self._daemon.clients.get(stored.owner)
            if owner is not None:
                owner.connection.send(node.PrepareMove([object_id]))
        self._freed()

    def _prepared(self, connection: Connection, message: node.Prepared) -> None:
        self.look_for_room()
        self._run(self._spilling.prepared(connection.peer.id, message.object_ids))
        for object_id in message.object_ids:
            if object_id in self._to_lose:
                self._to_lose.discard(object_id)
                self._daemon.store.lose(object_id)
        self._freed()  # or whoever waits has to know that nothing comes

    def _run(self, commands: Sequence[Command]) -> None:
        daemon = self._daemon
        for command in commands:
            if isinstance(command, Ask):
                owner = daemon.clients.get(command.owner)
                if owner is not None:
                    owner.connection.send(node.PrepareMove(command.object_ids))
                else:
                    self._spilling.owner_ended(command.owner)
                continue
            if not daemon.segments.has_segment(command.target.segment):
                try:
                    self.make_segment(command.target.segment, command.segment_size)
                except OSError as error:
                    self._done.append((command.target, error))
                    daemon.reactor.request_turn()
                    continue
            if self._thread is None:
                self._thread = threading.Thread(target=self._copy, name="skate-disk", daemon=True)
                self._thread.start()
            self._work.put(command)

    def _copy(self) -> None:
        """In a thread of its own: a disk may take its time."""
        segments = self._daemon.segments
        while True:
            command = self._work.get()
            source, target = command.source, command.target
            error = None
            try:
                with segments.memory(source) as memory:
                    disk.copy(memory, segments.fd(target.segment), target.offset)
            except OSError as found:
                error = found
            self._done.append((target, error))
            self._daemon.reactor.wake()

    def _collect(self) -> None:
        """After each turn of the loop: what the thread has done."""
        if not self._done:
            return
        while self._done:
            target, error = self._done.popleft()
            if error is not None:
                self._full_until = monotonic() + _REST
                self._daemon.event(
                    "ERROR", "OBJECT_STORE", f"cannot spill to {self.folder}: {error.strerror or error}"
                )
            self._spilling.copied(target, failed=error is not None)
        self._freed()
