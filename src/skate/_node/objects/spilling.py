"""Moves objects out of shared memory: asks their owners, has a thread copy, reports when there is room."""

from __future__ import annotations

import threading
from _queue import SimpleQueue  # the module "queue" imports more than it gives
from collections import deque
from collections.abc import Callable, Sequence

from skate._base import clock
from skate._node.context import NodeContext
from skate._store import disk
from skate._store.allocator import Extent
from skate._store.segment import Segments
from skate._store.spilling import Ask, Command, Copy, Spilling
from skate._store.table import StoreTable
from skate._transport.connection import Connection, Handler
from skate._wire import node

#: A full disk is not asked for room again before this time.
_FULL_DISK_PAUSE_S = 1.0


class SpillService:
    """Carries out what ``Spilling`` decides.

    Args:
        context: of the daemon.
        store: the objects of this node.
        segments: their memory and files.
        on_freed: called when memory may have become free, or it is clear that none will.
    """

    def __init__(
        self, context: NodeContext, store: StoreTable, segments: Segments, *, on_freed: Callable[[], None]
    ) -> None:
        self._context = context
        self._store = store
        self._segments = segments
        self._spilling = Spilling(store)
        self._freed = on_freed
        self._folder = context.settings.spill_folder
        self._work: SimpleQueue[Copy] = SimpleQueue()
        self._done: deque[tuple[Extent, OSError | None]] = deque()
        self._thread: threading.Thread | None = None
        self._full_until = 0.0
        #: To be lost as soon as their owners read them by request.
        self._to_lose: set[bytes] = set()
        context.reactor.on_turn = self._collect

    def handlers(self) -> dict[type, Handler]:
        """Return the handlers of this part's messages."""
        return {node.Prepared: self._prepared, node.Lose: self._lose}

    @property
    def busy(self) -> bool:
        """Whether anything is under way that may free memory."""
        return self._spilling.busy

    @property
    def folder(self) -> str:
        """Where the files are."""
        if not self._folder:
            self._folder = disk.default_folder()
        return self._folder

    def relieve(self, needed: int = 0) -> None:
        """Make room for that many bytes, and some slack."""
        if needed or self._spilling.short:
            self.look_for_room()
            self._run(self._spilling.relieve(needed))

    def look_for_room(self, *, insist: bool = False) -> None:
        """Find out how much the disk takes. ``insist``: even if it took no more a moment ago."""
        allocator = self._store.disk
        resting = clock.monotonic() < self._full_until and not insist
        allocator.capacity = allocator.used + (0 if resting else disk.room(self.folder))

    def make_segment(self, segment: int, size: int) -> None:
        """Make a new file.

        Raises:
            OSError: the folder does not take it.
        """
        self._segments.create_on_disk(segment, size, self.folder)

    def give_up(self) -> None:
        """Count only on what is being copied: owners did not answer for long."""
        if not self._spilling.copying:
            self._spilling.give_up()

    def owner_ended(self, owner: bytes) -> None:
        """Expect no answer of a process that ended."""
        self._spilling.owner_ended(owner)

    # ------------------------------------------------------------------ effects

    def _lose(self, connection: Connection, message: node.Lose) -> None:
        """Lose objects, for a test. Their owners read them by request first: see ``Spilling``."""
        store = self._store
        for object_id in message.object_ids:
            stored = store.objects.get(object_id)
            if stored is None:
                continue
            if stored.by_request:
                store.lose(object_id)
                continue
            self._to_lose.add(object_id)
            self._context.send(stored.owner, node.PrepareMove([object_id]))
        self._freed()

    def _prepared(self, connection: Connection, message: node.Prepared) -> None:
        self.look_for_room()
        self._run(self._spilling.prepared(connection.peer.id, message.object_ids))
        for object_id in message.object_ids:
            if object_id in self._to_lose:
                self._to_lose.discard(object_id)
                self._store.lose(object_id)
        self._freed()  # or the waiting allocations have to learn that no memory comes free

    def _run(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Ask):
                if not self._context.send(command.owner, node.PrepareMove(command.object_ids)):
                    self._spilling.owner_ended(command.owner)
                continue
            if not self._segments.has(command.target.segment):
                try:
                    self.make_segment(command.target.segment, command.segment_size)
                except OSError as error:
                    self._done.append((command.target, error))
                    self._context.reactor.request_turn()
                    continue
            if self._thread is None:
                self._thread = threading.Thread(target=self._copy, name="skate-disk", daemon=True)
                self._thread.start()
            self._work.put(command)

    def _copy(self) -> None:
        """Copy to disk, in a thread of its own: a disk may be slow."""
        segments = self._segments
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
            self._context.reactor.wake()

    def _collect(self) -> None:
        """Take the results of the thread, after each turn of the loop."""
        if not self._done:
            return
        while self._done:
            target, error = self._done.popleft()
            if error is not None:
                self._full_until = clock.monotonic() + _FULL_DISK_PAUSE_S
                text = f"cannot spill to {self.folder}: {error.strerror or error}"
                self._context.event("ERROR", "OBJECT_STORE", text)
            self._spilling.copied(target, failed=error is not None)
        self._freed()
