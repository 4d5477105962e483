"""The queue of processes that want shared memory, and what is done when there is none. Decisions only.

Owner: the daemon's loop. An allocation is granted at once if memory has room and no other one waits. Else it
goes through::

    WAITING --memory comes free, and it is the first--> granted
       |
       '--it is the first, no process has yet to return extents, no object is on its way to disk--> on disk

Every process is asked to return the extents that it keeps, and objects that no process reads are moved to
disk: both may free memory. Allocations are served in their order: a large one must not wait for ever while
small ones take what comes free. A process that does not answer in time may be stopped: others do not wait for
it, now or later, before it answers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from skate._store.allocator import Grant
from skate._store.table import StoreTable


class Allocation(NamedTuple):
    """The wish of a process for an extent."""

    process: bytes
    #: The number of its request; 0: ahead of need, not at the expense of others.
    request: int
    size: int


class GrantExtent(NamedTuple):
    """Give the process this extent of memory."""

    allocation: Allocation
    grant: Grant


class GrantOnDisk(NamedTuple):
    """Have the process write to a file, or refuse if the disk has no room either."""

    allocation: Allocation


class Refuse(NamedTuple):
    """Tell the process that memory has no room; it did not need any yet."""

    allocation: Allocation


class AskToTrim(NamedTuple):
    """Ask these processes to return the extents that they keep."""

    processes: list[bytes]


class MakeRoom(NamedTuple):
    """Begin to move objects to disk, for so many bytes and some slack; then say ``room_made``."""

    size: int


class GiveUpOwners(NamedTuple):
    """Count no more on owners that have not prepared their objects for a move."""


Command = GrantExtent | GrantOnDisk | Refuse | AskToTrim | MakeRoom | GiveUpOwners


class _Waiting:
    """An allocation in the queue."""

    __slots__ = ("allocation", "asked")

    def __init__(self, allocation: Allocation, asked: Iterable[bytes]) -> None:
        self.allocation = allocation
        #: Processes that have yet to return what they keep.
        self.asked = set(asked)


class Admission:
    """The allocations of one store."""

    def __init__(self, table: StoreTable) -> None:
        self._table = table
        self._queue: deque[_Waiting] = deque()
        #: Processes that did not answer in time.
        self._silent: set[bytes] = set()

    @property
    def waiting(self) -> bool:
        """Whether any allocation waits."""
        return bool(self._queue)

    def allocate(self, allocation: Allocation, processes: Iterable[bytes]) -> list[Command]:
        """A process wants an extent. ``processes``: all that are connected.

        Those that keep no extents are asked, too: they may hold objects that they have dropped unnoticed.
        """
        process, request, size = allocation
        if request and size > self._table.allocator.capacity:
            return [GrantOnDisk(allocation)]
        grant = None if self._queue else self._table.allocate(process, size)
        if not request:
            return [GrantExtent(allocation, grant) if grant is not None else Refuse(allocation)]
        if grant is not None:
            return [GrantExtent(allocation, grant), MakeRoom(0)]
        asked = [one for one in processes if one not in self._silent]
        self._queue.append(_Waiting(allocation, asked))
        return [AskToTrim(asked), *self._advance()]

    def _advance(self) -> list[Command]:
        """Serve those that wait, as far as memory has room."""
        commands: list[Command] = []
        while self._queue:
            allocation = self._queue[0].allocation
            grant = self._table.allocate(allocation.process, allocation.size)
            if grant is None:
                commands.append(MakeRoom(sum(one.allocation.size for one in self._queue)))
                break
            self._queue.popleft()
            commands.append(GrantExtent(allocation, grant))
        return commands

    def room_made(self, coming: bool) -> list[Command]:
        """``MakeRoom`` was carried out. ``coming``: something is under way that may free memory."""
        if not self._queue or coming or self._queue[0].asked:
            return []
        return [GrantOnDisk(self._queue.popleft().allocation), *self._advance()]

    def freed(self) -> list[Command]:
        """Memory may have come free, or it is clear that none will."""
        return self._advance()

    def returned(self, process: bytes) -> list[Command]:
        """A process returned the extents that it does not need."""
        self._silent.discard(process)
        for one in self._queue:
            one.asked.discard(process)
        return self._advance()

    def disconnected(self, process: bytes) -> list[Command]:
        """A process hung up: it wants nothing any more."""
        self._queue = deque(one for one in self._queue if one.allocation.process != process)
        return self._advance()

    def ended(self, process: bytes) -> list[Command]:
        """A process ended, and what it kept is free."""
        return self.returned(process)

    def timed_out(self) -> list[Command]:
        """Processes had time enough to answer: serve those that wait without them."""
        for one in self._queue:
            self._silent |= one.asked
            one.asked.clear()
        return [GiveUpOwners(), *self._advance()] if self._queue else []
