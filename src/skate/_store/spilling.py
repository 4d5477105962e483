"""Decides which objects move from shared memory to disk, and when. Decisions only.

Owner: the daemon's loop. Files are segments like shared memory. A process that reads a spilled object maps
the file, so nothing has to be restored, and reading needs no shared memory. ::

    in memory --memory is short--> owner is asked --it will read by request--> copied --> on disk
        ^                                                                        |
        '------------------ pinned meanwhile, or no room on disk ----------------'

The owner of an object reads it without a request (see ADR 3), so the daemon asks it first. The answer comes
after all pins that the owner sent before, on the same connection. The daemon asks once for each object: from
then on the owner reads it by request.
"""

from __future__ import annotations

from typing import NamedTuple

from skate._store.allocator import Extent
from skate._store.table import StoredObject, StoreTable

#: Objects move before memory is full: this much stays free (bytes), or an eighth of a small store.
SLACK = 256 * 1024 * 1024


class Ask(NamedTuple):
    """Ask the owner to read these objects by request from now on."""

    owner: bytes
    object_ids: list[bytes]


class Copy(NamedTuple):
    """Copy an object from memory to disk, then say ``copied``."""

    source: Extent
    target: Extent
    segment_size: int


Command = Ask | Copy


class Spilling:
    """Decides about moves of the objects of one table."""

    def __init__(self, table: StoreTable) -> None:
        self._table = table
        self._slack = min(SLACK, table.allocator.capacity // 8)
        #: Objects whose owner was asked: the owner and the size (bytes).
        self._asked: dict[bytes, tuple[bytes, int]] = {}
        #: The copies under way, by target.
        self._copying: dict[Extent, tuple[bytes, StoredObject]] = {}
        #: Owners that did not answer in time; their objects do not count as movable before they answer.
        self._silent: set[bytes] = set()
        #: Bytes of memory that will be free when all moves under way are finished.
        self._coming = 0

    @property
    def busy(self) -> bool:
        """Tell whether a move is under way that may free memory."""
        return bool(self._asked or self._copying)

    @property
    def copying(self) -> bool:
        """Tell whether a copy to disk is under way."""
        return bool(self._copying)

    @property
    def short(self) -> bool:
        """Tell whether less memory is free than should be."""
        allocator = self._table.allocator
        return allocator.capacity - allocator.used < self._slack

    def relieve(self, needed: int) -> list[Command]:
        """Begin to move objects that no process reads, until ``needed`` bytes and some slack will be free."""
        table = self._table
        allocator = table.allocator
        missing = needed + self._slack - (allocator.capacity - allocator.used) - self._coming
        commands: list[Command] = []
        asks: dict[bytes, list[bytes]] = {}
        while missing > 0 and table.movable:
            object_id = next(iter(table.movable))
            stored = table.objects[object_id]
            size = stored.extent.size
            if table.disk.used + size > table.disk.capacity:
                break
            if not stored.by_request and stored.owner in self._silent:
                del table.movable[object_id]
                continue
            if stored.by_request:
                copy = self._copy(object_id, stored)
                assert copy is not None
                commands.append(copy)
            else:
                del table.movable[object_id]
                stored.moving = True
                self._asked[object_id] = stored.owner, size
                self._coming += size
                asks.setdefault(stored.owner, []).append(object_id)
            missing -= size
        return [*commands, *(Ask(owner, object_ids) for owner, object_ids in asks.items())]

    def prepared(self, owner: bytes, object_ids: list[bytes]) -> list[Command]:
        """Handle the owner's answer: it reads these objects by request from now on, and has pinned those that
        it reads now."""
        table = self._table
        commands: list[Command] = []
        if owner in self._silent:
            self._silent.discard(owner)
            for object_id, one in list(table.objects.items()):
                if one.owner == owner:
                    table.settle(object_id, one)  # movable again
        for object_id in object_ids:
            asked = self._asked.pop(object_id, None)
            if asked is not None:
                self._coming -= asked[1]
            stored = table.objects.get(object_id)
            if stored is None or stored.owner != owner:
                continue
            stored.by_request = True
            if asked is None:
                continue  # the daemon gave this object up, and may have asked again
            stored.moving = False
            table.settle(object_id, stored)
            if object_id in table.movable:
                copy = self._copy(object_id, stored)
                if copy is not None:
                    commands.append(copy)
        return commands

    def _copy(self, object_id: bytes, stored: StoredObject) -> Copy | None:
        table = self._table
        grant = table.disk.allocate(stored.extent.size)
        if grant is None:
            return None
        del table.movable[object_id]
        stored.moving = True
        target = grant.extent
        self._copying[target] = object_id, stored
        self._coming += stored.extent.size
        return Copy(stored.extent, target, grant.segment_size)

    def copied(self, target: Extent, *, failed: bool) -> None:
        """Handle the end of a copy: it is on disk, or the disk refused it."""
        table = self._table
        object_id, stored = self._copying.pop(target)
        self._coming -= target.size
        stored.moving = False
        if table.objects.get(object_id) is not stored:
            table.disk.free(target)  # the object was freed meanwhile, or written again
        elif failed or stored.pins:
            table.disk.free(target)
            table.settle(object_id, stored)
        else:
            table.moved(object_id, stored, target)

    def owner_ended(self, owner: bytes) -> None:
        """Forget an owner that ended; it will not answer any more."""
        self._silent.discard(owner)
        self._drop([one for one, (asked, _) in self._asked.items() if asked == owner])

    def give_up(self) -> None:
        """Stop counting on owners that do not answer, such as stopped processes."""
        self._silent.update(owner for owner, _ in self._asked.values())
        self._drop(list(self._asked))

    def _drop(self, object_ids: list[bytes]) -> None:
        for object_id in object_ids:
            _, size = self._asked.pop(object_id)
            self._coming -= size
            stored = self._table.objects.get(object_id)
            if stored is not None:
                stored.moving = False
