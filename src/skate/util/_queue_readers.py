"""Records which items the readers of a queue have returned, so that no item is lost with a reader.

An item that left the queue's actor may not have arrived: its reader can die before ``get`` returns. The
actor cannot see whether it did, and a message for every item would double the cost of ``get``. So a reader
notes it in shared memory, which outlives the reader::

    reader                                           actor
    take a slot; get(reader, slot, number) ------->  keeps (slot: number, items) beside the reply
    write the number into the slot, return <-------  reply
    dies                                    ------>  the slot has the number: the items were returned
                                                     else: the items go back to the head of the queue

The slots of a process are a file in the session's folder, which the actors of its queues map. A number is
written before ``get`` returns, and after all steps that may fail: an item is returned once, or goes to the
next reader.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import weakref
from collections.abc import Callable
from itertools import count
from typing import Any

from skate.engine import engine
from skate.engine.interface import Engine

_WORD = struct.Struct("<Q")
#: How many gets a process may have in progress. Items of further ones are lost with their reader.
_SLOTS = 8192

#: Identifies one get: (process, slot, number). The process is empty if its items are not tracked.
Ticket = tuple[bytes, int, int]
UNTRACKED: Ticket = (b"", -1, 0)


def _path(session: str, reader: bytes) -> str:
    return os.path.join(session, f"reader-{reader.hex()}")


class Reader:
    """This process as a reader, in one session."""

    def __init__(self, worker_id: bytes, session: str) -> None:
        self._id = worker_id
        fd = os.open(_path(session, worker_id), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, _SLOTS * _WORD.size)
            self._words = mmap.mmap(fd, _SLOTS * _WORD.size)
        finally:
            os.close(fd)
        self._free = list(range(_SLOTS - 1, -1, -1))
        self._numbers = count(1)

    def ticket(self) -> Ticket:
        """Return the ticket of a get that begins."""
        try:
            return self._id, self._free.pop(), next(self._numbers)
        except IndexError:
            return UNTRACKED

    def returned(self, ticket: Ticket) -> None:
        """Note that the items are about to be returned to the user."""
        if ticket[0]:
            _WORD.pack_into(self._words, ticket[1] * _WORD.size, ticket[2])
            self._free.append(ticket[1])

    def over(self, ticket: Ticket) -> None:
        """Release the slot of a get that returns no item."""
        if ticket[0]:
            self._free.append(ticket[1])


class _Untracked:
    """Replaces a Reader where no process can die alone, or none can be tracked."""

    def ticket(self) -> Ticket:
        return UNTRACKED

    def returned(self, ticket: Ticket) -> None:
        pass

    over = returned


class _Mine:
    #: Returns the engine to which the reader belongs.
    engine: Callable[[], Engine | None] = staticmethod(lambda: None)
    reader: Reader | _Untracked = _Untracked()
    making = threading.Lock()


def this_process() -> Reader | _Untracked:
    """Return the reader of this process."""
    found = engine()
    if found is not _Mine.engine():
        with _Mine.making:
            if found is not _Mine.engine():
                _Mine.reader = _reader(found)
                _Mine.engine = weakref.ref(found)
    return _Mine.reader


def _reader(found: Engine | None) -> Reader | _Untracked:
    followed = found.followed_as() if found is not None else None
    if followed is None:
        return _Untracked()
    try:
        return Reader(*followed)
    except OSError:
        return _Untracked()  # no room or no descriptor: read without tracking


class Handed:
    """Items that have left the actor and may come back. Decisions only, except for the files."""

    def __init__(self, session: str) -> None:
        self._session = session
        #: By reader and slot: number and items.
        self._out: dict[bytes, dict[int, tuple[int, list[Any]]]] = {}
        self._words: dict[bytes, mmap.mmap] = {}
        self._gone: set[bytes] = set()

    def knows(self, ticket: Ticket) -> bool:
        """Tell whether a reader can be tracked, and map its slots."""
        reader = ticket[0]
        if not reader or reader in self._words:
            return bool(reader)
        try:
            fd = os.open(_path(self._session, reader), os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._words[reader] = mmap.mmap(fd, _SLOTS * _WORD.size, prot=mmap.PROT_READ)
            finally:
                os.close(fd)
        except (OSError, ValueError):
            return False
        return True

    def is_gone(self, ticket: Ticket) -> bool:
        """Tell whether the reader has died."""
        return ticket[0] in self._gone

    def note(self, ticket: Ticket, items: list[Any]) -> None:
        """Record items that go to a reader. It has returned, or given back, the earlier items of its slot."""
        if self.knows(ticket):
            reader, slot, number = ticket
            self._out.setdefault(reader, {})[slot] = (number, items)

    def take_back(self, ticket: Ticket) -> list[Any] | None:
        """Remove and return the items of a get that ended without a return; None if it has none."""
        reader, slot, number = ticket
        slots = self._out.get(reader, {})
        if slots.get(slot, (0,))[0] != number:
            return None
        return slots.pop(slot)[1]

    def left(self, reader: bytes) -> list[Any]:
        """Remove and return the items that a dead process has not returned, the earliest first."""
        self._gone.add(reader)
        self._forget_returned(reader)
        lost = [
            item for _, items in sorted(self._out.pop(reader, {}).values(), key=_number) for item in items
        ]
        words = self._words.pop(reader, None)
        if words is not None:
            words.close()
            try:
                os.unlink(_path(self._session, reader))  # actors of other queues have it open
            except OSError:
                pass
        return lost

    def sweep(self) -> bool:
        """Drop items that have been returned; tell whether others remain."""
        for reader in list(self._out):
            self._forget_returned(reader)
        return bool(self._out)

    def _forget_returned(self, reader: bytes) -> None:
        slots, words = self._out.get(reader), self._words.get(reader)
        if slots is None or words is None:
            return
        for slot, (number, _) in list(slots.items()):
            if _WORD.unpack_from(words, slot * _WORD.size)[0] == number:
                del slots[slot]
        if not slots:
            del self._out[reader]


def _number(one: tuple[int, list[Any]]) -> int:
    return one[0]
