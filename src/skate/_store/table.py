"""Records where each object lies, and which processes read it or may still write. Decisions only.

Owner: the daemon's loop. An extent is always in exactly one of these hands::

    free (allocator) --granted--> held by a process --sealed--> object --freed, no pins--> free
                                     ^                             |
                                     '----- freed with keep -------'

An object is *pinned* by the processes that have views of it. A pinned object stays in its place, whichever
process frees it or dies. Extents lie in shared memory or, when that is full, in files: see ``spilling``.
"""

from __future__ import annotations

from collections import Counter

from skate._store.allocator import DISK, DISK_SEGMENT_SIZE, Allocator, Extent, Grant, round_up

#: The most ended processes that are remembered (count).
MAX_ENDED_PROCESSES = 10_000


class NotHeldError(ValueError):
    """Raised for a process that seals an extent that it does not hold."""


class StoredObject:
    """Describes one sealed object."""

    __slots__ = ("extent", "size", "owner", "creator", "label", "pins", "freed", "by_request", "moving")

    def __init__(self, extent: Extent, size: int, owner: bytes, creator: bytes, label: str) -> None:
        self.extent = extent
        self.size = size
        self.owner = owner
        self.creator = creator
        self.label = label
        #: Processes with views.
        self.pins: set[bytes] = set()
        #: No reference to it is left; it is removed with its last pin.
        self.freed = False
        #: The owner, too, reads it by request only.
        self.by_request = False
        #: It is being copied to disk.
        self.moving = False


class StoreTable:
    """Holds the objects and extents of one node. Processes are named by their worker ids."""

    def __init__(self, capacity: int) -> None:
        #: Shared memory, and files for objects that do not fit there (none until the disk has room: see
        #: spilling).
        self.allocator = Allocator(capacity)
        self.disk = Allocator(0, first=DISK, segment_size=DISK_SEGMENT_SIZE)
        self.objects: dict[bytes, StoredObject] = {}
        #: Extents that a process writes to or keeps for later: (segment, offset) to size, and whether its
        #: pages exist (see allocator).
        self.held: dict[bytes, dict[tuple[int, int], tuple[int, bool]]] = {}
        #: Unpinned objects in memory, which may move to disk; the least recently used come first.
        self.movable: dict[bytes, None] = {}
        #: Lost objects that processes still read, since they had views before the loss.
        self.ghosts: dict[bytes, list[StoredObject]] = {}
        #: Lost objects that no process has asked for since.
        self.lost: set[bytes] = set()
        #: Objects that were freed, and objects that were pinned (by which processes), before the daemon read
        #: the creator's seal: two sockets have no order between them. An object in both is in use: the
        #: processes that pinned it have views.
        self.freed_early: set[bytes] = set()
        self.pinned_early: dict[bytes, set[bytes]] = {}
        #: The processes that ended last: no owner will free objects that are sealed for them now.
        self._ended: dict[bytes, None] = {}

    def allocate(self, process: bytes, size: int, *, on_disk: bool = False) -> Grant | None:
        """Grant an extent to a process; return None if the store (or the disk) is full."""
        grant = (self.disk if on_disk else self.allocator).allocate(size)
        if grant is not None and on_disk:
            grant = grant._replace(fresh=True)  # files are written through the descriptor
        if grant is not None:
            self._hold(process, grant.extent, not grant.fresh)
        return grant

    def _hold(self, process: bytes, extent: Extent, warm: bool) -> None:
        held = self.held.setdefault(process, {})
        held[extent.segment, extent.offset] = (extent.size, warm)

    def seal(
        self, process: bytes, object_id: bytes, owner: bytes, extent: Extent, label: str, again: bool = False
    ) -> bool:
        """Record that the process finished writing. Tell whether that is news (a repeat is not).

        ``extent.size`` is the object's size; the process keeps the rest of the extent. A task that ran again
        seals its result again: the later seal counts, as the owner gets its location in the reply. But with
        ``again`` the object was made in case it is lost, and a stored object stays. A process can only seal
        extents that it holds.
        """
        before = self.objects.get(object_id)
        if before is not None and before.extent[:2] == extent[:2]:
            return False
        found = self.held.get(process, {}).pop((extent.segment, extent.offset), None)
        if found is None:
            raise NotHeldError(f"process {process.hex()} sealed {extent}, which it does not hold")
        whole, warm = found
        used = round_up(extent.size)
        if used < whole:
            rest = Extent(extent.segment, extent.offset + used, whole - used)
            self._hold(process, rest, warm)
        place = Extent(extent.segment, extent.offset, used)
        self.lost.discard(object_id)
        if again and before is not None:
            self.free_extent(place)
            return False
        stored = self.objects[object_id] = StoredObject(place, extent.size, owner, process, label)
        if before is not None:
            stored.pins = before.pins
            stored.by_request = before.by_request
            self.free_extent(before.extent)
            self.movable.pop(object_id, None)
        stored.pins |= self.pinned_early.pop(object_id, set())
        if object_id in self.freed_early or owner in self._ended:
            self.freed_early.discard(object_id)
            self.free(object_id)
        else:
            self.settle(object_id, stored)
        return True

    def pin(self, process: bytes, object_id: bytes) -> StoredObject | None:
        """Let a process read the object; None if there is no such object (yet)."""
        stored = self.objects.get(object_id)
        if stored is not None:
            stored.pins.add(process)
            self.movable.pop(object_id, None)
        return stored

    def pin_early(self, process: bytes, object_id: bytes) -> None:
        """Pin an object that is not there and was not lost: its seal is on its way, or the object never
        existed."""
        self.pinned_early.setdefault(object_id, set()).add(process)

    def unpin(self, process: bytes, object_id: bytes) -> None:
        """Drop the pin of a process that has no view any more."""
        self._unpin_early(process, object_id)
        stored = self.objects.get(object_id)
        if stored is not None:
            stored.pins.discard(process)
            self.settle(object_id, stored)
        if object_id in self.ghosts:
            self._leave(object_id, process)

    def _unpin_early(self, process: bytes, object_id: bytes) -> None:
        early = self.pinned_early.get(object_id)
        if early is not None:
            early.discard(process)
            if not early:
                del self.pinned_early[object_id]

    def lose(self, object_id: bytes) -> None:
        """Record that the object's memory is lost. Existing views of processes stay valid."""
        stored = self.objects.pop(object_id, None)
        if stored is None:
            return
        if not stored.freed:  # else its owner, which has ended or freed it, will never report it
            self.lost.add(object_id)
        self.movable.pop(object_id, None)
        if stored.pins:
            self.ghosts.setdefault(object_id, []).append(stored)
        else:
            self.free_extent(stored.extent)

    def reported(self, object_id: bytes) -> bool:
        """Tell whether the object was lost, once for each loss: from then on a new seal may be on its way."""
        if object_id not in self.lost:
            return False
        self.lost.discard(object_id)
        return True

    def _leave(self, object_id: bytes, process: bytes) -> None:
        """Record that a process has no view of a lost object any more."""
        left = []
        for stored in self.ghosts.pop(object_id):
            stored.pins.discard(process)
            if stored.pins:
                left.append(stored)
            else:
                self.free_extent(stored.extent)
        if left:
            self.ghosts[object_id] = left

    def free(self, object_id: bytes, new_holder: bytes | None = None, creator: bytes = b"") -> None:
        """Free an object without references. Its extent goes to ``new_holder``, if given and no process has
        views.

        ``creator``: free only an object that this process sealed, not one that a retry sealed since.
        """
        stored = self.objects.get(object_id)
        if creator and (stored is None or stored.creator != creator):
            return
        if stored is None:
            if object_id in self.lost:
                self.lost.discard(object_id)
            else:
                self.freed_early.add(object_id)
            return
        stored.freed = True
        if new_holder is not None and not stored.pins - {new_holder} and stored.extent.segment < DISK:
            del self.objects[object_id]
            self.movable.pop(object_id, None)
            self._hold(new_holder, stored.extent, True)
        else:
            self.settle(object_id, stored)

    def give_back(self, process: bytes, segment: int, offset: int) -> None:
        """Take back an extent that the process does not need. Unknown extents are ignored (a repeat)."""
        found = self.held.get(process, {}).pop((segment, offset), None)
        if found is not None:
            size, warm = found
            self.free_extent(Extent(segment, offset, size), warm=warm)

    def free_extent(self, extent: Extent, *, warm: bool = True) -> None:
        """Take an extent back, of memory or of disk."""
        (self.allocator if extent.segment < DISK else self.disk).free(extent, warm=warm)

    def segment_size(self, segment: int) -> int:
        """Return the size in bytes of a segment."""
        return (self.allocator if segment < DISK else self.disk).segment_size(segment)

    def created_by(self, process: bytes) -> dict[bytes, list[bytes]]:
        """Return the objects that the process sealed for other owners and that are not freed: owner to object
        ids."""
        found: dict[bytes, list[bytes]] = {}
        for object_id, stored in self.objects.items():
            if stored.creator == process and stored.owner != process and not stored.freed:
                found.setdefault(stored.owner, []).append(object_id)
        return found

    def process_ended(self, process: bytes) -> None:
        """Drop the pins, extents and objects of a process that ended."""
        for (segment, offset), (size, warm) in self.held.pop(process, {}).items():
            self.free_extent(Extent(segment, offset, size), warm=warm)
        self._ended[process] = None
        if len(self._ended) > MAX_ENDED_PROCESSES:
            del self._ended[next(iter(self._ended))]
        self.freed_early = {one for one in self.freed_early if not one.startswith(process)}
        self.lost = {one for one in self.lost if not one.startswith(process)}
        for object_id in list(self.pinned_early):
            self._unpin_early(process, object_id)
        for object_id in list(self.ghosts):
            self._leave(object_id, process)
        for object_id, stored in list(self.objects.items()):
            stored.pins.discard(process)
            if stored.owner == process:
                stored.freed = True
            self.settle(object_id, stored)

    def settle(self, object_id: bytes, stored: StoredObject) -> None:
        """Update an object after a change of its pins or its freed flag."""
        if stored.pins:
            return
        if stored.freed:
            del self.objects[object_id]
            self.movable.pop(object_id, None)
            self.free_extent(stored.extent)
        elif stored.extent.segment < DISK and not stored.moving:
            self.movable[object_id] = None

    def moved(self, object_id: bytes, stored: StoredObject, target: Extent) -> None:
        """Record that the object lies on disk now."""
        self.allocator.free(stored.extent)
        stored.extent = target

    def bytes_of_objects(self, *, on_disk: bool) -> int:
        """Return the bytes of the sealed objects' extents, in memory or on disk."""
        return sum(
            stored.extent.size for stored in self.objects.values()
            if (stored.extent.segment >= DISK) == on_disk
        )  # fmt: skip

    def describe_full(self, size: int, where: str) -> str:
        """Return the text of an ObjectStoreFullError, with the largest holders. ``where``: the disk."""
        by_owner: Counter[tuple[bytes, str]] = Counter()
        count: Counter[tuple[bytes, str]] = Counter()
        for stored in self.objects.values():
            by_owner[stored.owner, stored.label] += stored.extent.size
            count[stored.owner, stored.label] += 1
        lines = [
            f"  {_mib(total)} in {count[key]} object(s) of type {key[1]}, owned by process {key[0].hex()}"
            for key, total in by_owner.most_common(5)
        ]
        holders = "\n".join(lines) or "  (no objects: the request alone exceeds the capacity)"
        return (
            f"an object of {_mib(size)} does not fit: {_mib(self.bytes_of_objects(on_disk=False))} of "
            f"{_mib(self.allocator.capacity)} of shared memory hold objects that are referenced, and "
            f"{where} has no room for more (it holds {_mib(self.bytes_of_objects(on_disk=True))} of them). "
            f"The largest holders:\n{holders}\nDrop refs (del, smaller batches), give the store more room "
            "with init(object_store_memory=BYTES), or a larger disk with init(object_spilling_directory=...)."
        )


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
