"""Keeps the items of a remote generator in order at its caller. Decisions only.

The caller owns every item. It numbers them in advance (a range of counters for each stream), so that
a large one can be sealed under its id before the caller has heard of it::

    worker: item 0, item 1, ... --> [arrived] --take--> ObjectRef
                                        |
                    peek: an entry for the next item, there or not; waiting is waiting for its value

A crash in the middle runs the generator again, which skips the items that have arrived: each item is
sent once, whatever happens. An exception is the last item. Dropping the stream stops the generator.
"""

from __future__ import annotations

from collections import deque

from skate._base.ids import item_id
from skate._worker.objects.refs import ObjectEntry, RefTable


class Stream:
    """One generator's items, in their order. Called under the core's lock."""

    __slots__ = ("base", "limit", "dynamic", "received", "taken", "ended", "closed",
                 "_reported", "_owner", "_refs", "_arrived", "_next", "_end")  # fmt: skip

    def __init__(self, refs: RefTable, owner: bytes, base: int, limit: int, *, dynamic: bool = False) -> None:
        self.base = base
        #: The generator waits while this many items are not taken; 0: it never does.
        self.limit = limit
        #: All items become the value of one ref, in the end.
        self.dynamic = dynamic
        self.received = 0
        self.taken = 0
        #: How many the generator knows to be taken.
        self._reported = 0
        self.ended = False
        self.closed = False
        self._owner = owner
        self._refs = refs
        self._arrived: deque[ObjectEntry] = deque()
        #: The entry of the next item, once it was requested before it was there.
        self._next: ObjectEntry | None = None
        self._end: ObjectEntry | None = None

    def item_id(self, index: int) -> bytes:
        """Return the id of an item."""
        return item_id(self._owner, self.base, index)

    def _make(self) -> ObjectEntry:
        # Its first ref is the stream's, then its taker's.
        return self._refs.own(self.item_id(self.received))

    @property
    def ready(self) -> bool:
        """Whether ``take`` has an answer."""
        return bool(self._arrived) or self.ended

    def peek(self) -> ObjectEntry:
        """Return an entry that has a value when ``ready``."""
        if self._arrived:
            return self._arrived[0]
        if self.ended:
            if self._end is None:
                self._end = ObjectEntry(b"", None)
                self._end.kind = 0
                self._end.gone = True
            return self._end
        if self._next is None:
            self._next = self._make()
        return self._next

    def take(self) -> ObjectEntry | None:
        """Return the next item, whose ref is the caller's now; None: it is not there, or the stream ended."""
        if not self._arrived:
            return None
        self.taken += 1
        return self._arrived.popleft()

    def to_report(self) -> bool:
        """Tell whether the generator should hear now of the items that were taken since it last did.

        A message for each item would cost as much as the item: a large limit is reported by quarters, and
        when the taker has nothing left, as the generator may wait for it.
        """
        if not self.limit or (self._arrived and self.taken - self._reported < max(1, self.limit // 4)):
            return False
        self._reported = self.taken
        return True

    def arrive(self, index: int) -> ObjectEntry | None:
        """Return the entry that gets the value of an item that came. None: it is not wanted (any more)."""
        if self.closed or self.ended or index != self.received:
            return None
        entry, self._next = self._next or self._make(), None
        self.received += 1
        self._arrived.append(entry)
        return entry

    def end(self) -> ObjectEntry | None:
        """End the stream. Return the entry of the item that did not come, to be given some value."""
        self.ended = True
        entry, self._next = self._next, None
        return entry

    def close(self) -> None:
        """Drop the items that were not taken."""
        self.closed = True
        while self._arrived:
            self._refs.drop_local(self._arrived.popleft())
        entry, self._next = self._next, None
        if entry is not None:
            self._refs.drop_local(entry)
