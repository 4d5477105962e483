"""Which objects leave shared memory for the disk, and when. Decisions only.

Owner: the daemon's loop. Files are segments as shared memory is: whoever reads an object that was
spilled maps the file, so nothing has to be brought back, and nobody needs memory to read. ::

    in memory --memory is short--> owner is asked --it will read by request--> copied --> on disk
        ^                                                                        |
        '------------------ pinned meanwhile, or no room on disk ----------------'

The owner of an object reads it without asking (see ADR 3); hence the question. Its answer comes
after whatever it pinned before, on the same connection. It is asked once: from then on it asks.
"""

from __future__ import annotations

from typing import NamedTuple

from skate._store.allocator import Extent
from skate._store.table import StoredObject, StoreTable

#: Objects leave before memory is full: this much stays free, or an eighth of a small store (bytes).
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
    """Moves the objects of one table."""

    def __init__(self, table: StoreTable) -> None:
        self._table = table
        self._slack = min(SLACK, table.allocator.capacity // 8)
        #: Objects whose owner was asked: the owner, and their size.
        self._asked: dict[bytes, tuple[bytes, int]] = {}
        #: By target, what is being copied.
        self._copying: dict[Extent, tuple[bytes, StoredObject]] = {}
        #: Owners that did not answer in time: nothing of theirs is counted on before they do.
        self._silent: set[bytes] = set()
        #: Bytes of memory that will be free when all that is under way is through.
        self._coming = 0

    @property
    def busy(self) -> bool:
        """Whether anything is under way that may free memory."""
        return bool(self._asked or self._copying)

    @property
    def copying(self) -> bool:
        """Whether the disk is at work."""
        return bool(self._copying)

    @property
    def short(self) -> bool:
        """Whether less memory is free than there should be."""
        allocator = self._table.allocator
        return allocator.capacity - allocator.used < self._slack

    def relieve(self, needed: int) -> list[Command]:
        """Memory is short by ``needed`` bytes and some slack: begin to move what nobody reads."""
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
        """The owner answered: it reads these by request from now on. What it reads now it has pinned."""
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
                continue  # given up, and perhaps under way again
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
        """The copy is there, or the disk would not take it."""
        table = self._table
        object_id, stored = self._copying.pop(target)
        self._coming -= target.size
        stored.moving = False
        if table.objects.get(object_id) is not stored:
            table.disk.free(target)  # freed meanwhile, or written again
        elif failed or stored.pins:
            table.disk.free(target)
            table.settle(object_id, stored)
        else:
            table.moved(object_id, stored, target)

    def owner_ended(self, owner: bytes) -> None:
        """It will not answer any more."""
        self._silent.discard(owner)
        self._drop([one for one, (asked, _) in self._asked.items() if asked == owner])

    def give_up(self) -> None:
        """These owners do not answer (stopped processes?): count on nothing of theirs."""
        self._silent.update(owner for owner, _ in self._asked.values())
        self._drop(list(self._asked))

    def _drop(self, object_ids: list[bytes]) -> None:
        for object_id in object_ids:
            _, size = self._asked.pop(object_id)
            self._coming -= size
            stored = self._table.objects.get(object_id)
            if stored is not None:
                stored.moving = False
