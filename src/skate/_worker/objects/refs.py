"""Reference counts of owners and borrowers. Decisions only.

Every driver and worker has one table: of the objects it owns and of those it borrows.

Owner's side. An entry lives while any of these is left: *local* ObjectRefs, *pins* (it is an
argument of a task in flight, or a ref inside another value that lives), *borrowers* (processes).

Borrower's side. The sender of a ref protects it: the caller an argument until the reply, a value the refs
inside it. Before that protection ends, the process must be registered with the owner, or have dropped the
ref::

    UNREGISTERED --piggyback on the reply to the owner itself------------.
         |                                                               v
         '-- AddBorrower(epoch) --> REGISTERING -- BorrowAck --> REGISTERED
    and when the last ref is gone: RemoveBorrower(epoch), from either state on the right.

Epochs make it exact when messages are repeated or overtake each other on different connections: an
owner ignores an Add whose epoch is not above that borrower's last Remove. Borrowers are a set of
processes, never a counter. Invariant: an object with a live ref anywhere is never freed; one without is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from skate._base.kinds import BUFFERS, ERROR, NONE, PICKLE, SHARED

if TYPE_CHECKING:
    from types import CodeType


#: ``ObjectEntry.kind`` while there is no value yet; else one of the kinds of _wire.worker.
PENDING = -1

UNREGISTERED, REGISTERING, REGISTERED = range(3)

#: The label of an entry that stands for the handles of an actor; its data is the actor's id.
ACTOR = "actor"

#: Kinds of values that an entry has itself.
_INLINE = frozenset({NONE, PICKLE, BUFFERS})

#: The words of errors for a value that is lost.
MISSING = "the node's store does not have it (any more)"


class Maker(Protocol):
    """A call that made an object, and may make it again: a TaskRecord."""

    @property
    def seq(self) -> int:
        """Its number."""

    def describe(self) -> str:
        """Return the name that users know it by."""


class Waits(Protocol):
    """A thread's wait for objects: a CountWaiter."""

    def one_ready(self, kind: int) -> None:
        """Count an entry that got its value, of this kind."""


#: A program that goes on making objects drops fewer refs than this between two turns.
_MAX_BURST_REFS = 5000


class ObjectEntry(msgspec.Struct, eq=False, gc=False):
    """One object as this process sees it.

    A program may hold millions, and the garbage collector would visit each of them repeatedly. So it does not
    track them (``gc=False``): reference counts alone free them. An entry refers to the task that makes its
    value, which refers to the entry: that cycle ends when the value is there or the entry is freed. ``maker``
    is such a cycle too: see ``Lineage.close``.
    """

    id: bytes
    #: None: owned by this process.
    owner_address: str | None
    #: ObjectRefs of this process.
    local: int = 0
    #: Where user code made it (see process.call_site); of a borrowed one, the task or method that got it.
    site: tuple[CodeType, int] | str | None = None
    kind: int = PENDING
    data: bytes = b""
    #: Uses that keep it: an argument in flight, a value around it.
    pins: int = 0
    #: Process to the epoch of its registration.
    borrowers: dict[bytes, int] | None = None
    #: Process to the highest epoch that it removed.
    removed: dict[bytes, int] | None = None
    #: Entries of the refs inside the value, each pinned by it.
    contained: list[ObjectEntry] | None = None
    #: Threads that wait for the value.
    waiters: list[Any] | None = None
    #: Called once, when the value (or error) is there.
    dependents: list[Callable[[ObjectEntry], None]] | None = None
    #: The task that makes it (owned objects).
    task: Any = None
    borrow_state: int = UNREGISTERED
    epoch: int = 0
    on_registered: list[Callable[[], None]] | None = None
    fetching: bool = False
    #: Another process may know where the value lies.
    exported: bool = False
    #: Its value may have moved: read it by request, its location counts no more.
    by_request: bool = False
    #: Freed: out of the table.
    gone: bool = False
    #: The call that makes the value again if it is lost, or (its name) one that may not be repeated;
    #: and how many remembered calls were given it. See ``lineage``.
    maker: Maker | str | None = None
    lineage: int = 0
    #: Its value had refs inside, which were released with it.
    contained_refs_released: bool = False
    #: Of an error: see ``unretrieved``.
    report_if_unretrieved: bool = False
    #: The program got the value, or knows why there is none.
    retrieved: bool = False
    #: ACTOR: it stands for the handles of an actor, whose id is ``data``.
    label: str = ""

    def mark_retrieved(self) -> None:
        """Note that the program gets the value, or knows why there is none: its error is not reported."""
        self.retrieved = True

    def mark_exported(self) -> None:
        """Note that another process may know where the value lies."""
        self.exported = True

    def read_by_request(self) -> None:
        """Note that the value may move: its location counts no more."""
        self.by_request = True

    @property
    def has_no_value(self) -> bool:
        """Whether a freed entry's value is gone as well. Small values without refs stay in the entry."""
        return self.kind in (SHARED, PENDING) or self.contained_refs_released

    def __repr__(self) -> str:
        role = "owned" if self.owner_address is None else f"borrowed({self.borrow_state})"
        return (
            f"<{role} {self.id.hex()} kind={self.kind} local={self.local} pins={self.pins} "
            f"borrowers={self.borrowers}>"
        )


class Freed(NamedTuple):
    """Free the value of this owned object, wherever it is: no process refers to it."""

    entry: ObjectEntry


class Dropped(NamedTuple):
    """Forget this borrowed object, to which this process refers no more; tell the owner if ``tell``."""

    entry: ObjectEntry
    tell: bool


class Register(NamedTuple):
    """Send AddBorrower(entry.epoch) to the owner."""

    entry: ObjectEntry


Command = Freed | Dropped | Register


class RefTable:
    """All references of one process. The effects of each event are appended to ``commands``."""

    def __init__(self) -> None:
        self.entries: dict[bytes, ObjectEntry] = {}
        self.commands: list[Command] = []
        self._epoch = 0
        #: Dead refs that the last ``drop_locals`` left in the queue.
        self._left = 0
        #: Callbacks that ``notify`` calls, first in first out, with their arguments.
        self.to_notify: deque[tuple[Callable[..., None], tuple[ObjectEntry, ...]]] = deque()
        self._notifying = False

    # ------------------------------------------------------------------ local refs and pins

    def own(self, object_id: bytes, site: tuple[CodeType, int] | None = None) -> ObjectEntry:
        """Add an object that this process makes, with its first ref."""
        entry = ObjectEntry(object_id, None, 1, site)
        self.entries[object_id] = entry
        return entry

    def has_owned(self) -> bool:
        """Tell whether this process owns an object that is alive."""
        return any(entry.owner_address is None for entry in self.entries.values())

    def add_local(self, entry: ObjectEntry) -> None:
        """Count one more ObjectRef of this process."""
        entry.local += 1

    def pin(self, entry: ObjectEntry) -> None:
        """Keep the object for a use: an argument in flight, a value around it. ``unpin`` ends it."""
        entry.pins += 1

    def drop_local(self, entry: ObjectEntry) -> None:
        """Count one ObjectRef of this process less."""
        entry.local -= 1
        if entry.local == 0 and entry.pins == 0:
            self._settle(entry)

    def drop_locals(self, dead: deque[ObjectEntry], backlog: int | None = None) -> None:
        """Call ``drop_local`` for entries whose ObjectRefs are gone, and take them out of ``dead``.

        Args:
            dead: the entries; other threads append to it.
            backlog: how many to take of those that the call before this one left there; None: all. Of those
                that came since, it takes all but the rest of a burst.
        """
        count = len(dead)
        if backlog is not None:
            count = min(count, backlog + min(max(0, count - self._left), _MAX_BURST_REFS))
        self._left = len(dead) - count
        entries = self.entries
        for _ in range(count):
            entry = dead.popleft()
            entry.local -= 1
            if entry.local or entry.pins:
                continue
            if (
                entry.kind in _INLINE
                and entry.owner_address is None
                and not entry.borrowers
                and entry.contained is None
                and entry.maker is None
                and not entry.label
                and not entry.gone
            ):  # nearly always: the value is freed with its entry, and there is no command
                entry.gone = True
                del entries[entry.id]
            else:
                self._settle(entry)

    def unpin(self, entry: ObjectEntry) -> None:
        """End a use that kept the object (an argument in flight, a value around it)."""
        entry.pins -= 1
        if entry.pins == 0 and entry.local == 0:
            self._settle(entry)

    def _settle(self, entry: ObjectEntry) -> None:
        """Free or drop an entry to which nothing refers, and then the entries that only it kept."""
        work = [entry]
        dropped = False
        while work:
            entry = work.pop()
            if entry.local or entry.pins or entry.borrowers or entry.gone:
                continue
            entry.gone = True
            entry.task = None  # which refers to this entry, and is not garbage collected
            del self.entries[entry.id]
            if entry.owner_address is None:
                self.commands.append(Freed(entry))
            else:
                self.commands.append(Dropped(entry, entry.borrow_state != UNREGISTERED))
                if entry.on_registered is not None:
                    # The waiters for the registration need not protect a dropped ref.
                    self._now_registered(entry)
                    dropped = True
            contained, entry.contained = entry.contained, None
            if contained:
                entry.contained_refs_released = True
                for inner in contained:
                    inner.pins -= 1
                    work.append(inner)
        if dropped:
            self.notify()

    def revive(self, entry: ObjectEntry) -> None:
        """Take a freed object into the table again, to reconstruct another one; the caller pins it."""
        if entry.has_no_value:
            entry.kind, entry.data, entry.contained_refs_released = PENDING, b"", False
        entry.gone = False
        self.entries[entry.id] = entry

    def lost(self, entry: ObjectEntry) -> None:
        """Note that a referenced object lost its value, and wait for the value once more."""
        entry.kind, entry.data = PENDING, b""
        entry.by_request = True
        contained, entry.contained = entry.contained, None
        for inner in contained or ():
            self.unpin(inner)

    def replace_value(self, entry: ObjectEntry, kind: int, data: bytes) -> None:
        """Replace the value of an object, and release the refs inside the old one."""
        contained, entry.contained = entry.contained, None
        entry.kind, entry.data = kind, data
        for inner in contained or ():
            self.unpin(inner)

    def await_again(self, entry: ObjectEntry) -> None:
        """Have an object wait for a value once more: it is lost, or its error was not final."""
        entry.kind, entry.data = PENDING, b""

    def mark_in_store(self, entry: ObjectEntry) -> None:
        """Note that the value was sealed, at a location that is not known."""
        entry.kind, entry.data = SHARED, b""

    def stand_for_actor(self, entry: ObjectEntry, actor_id: bytes | None) -> None:
        """Make an owned object stand for the handles of an actor; None: for no actor, and it has no value."""
        entry.kind = NONE
        entry.label, entry.data = (ACTOR, actor_id) if actor_id is not None else ("", b"")

    def contain(self, outer: ObjectEntry, inner: list[ObjectEntry]) -> None:
        """Note that the value of ``outer`` has these refs inside: it keeps them alive."""
        if not inner:
            return
        for entry in inner:
            entry.pins += 1
        if outer.gone:
            for entry in inner:
                self.unpin(entry)
            return
        if outer.contained is None:
            outer.contained = []
        outer.contained += inner

    # ------------------------------------------------------------------ as a borrower

    def borrow(self, object_id: bytes, owner_address: str, site: str | None = None) -> ObjectEntry:
        """Return the entry of a ref that arrived. Its sender protects it until it is registered.

        ``site``: the task or method that got it.
        """
        entry = self.entries.get(object_id)
        if entry is None:
            entry = self.entries[object_id] = ObjectEntry(object_id, owner_address, 0, site)
            self._epoch += 1
            entry.epoch = self._epoch
        return entry

    def register(self, entry: ObjectEntry, then: Callable[[], None] | None = None) -> None:
        """Register this process with the owner; call ``then`` when it is registered (at once, if it is
        already), or when it has dropped the ref before."""
        if entry.owner_address is None or entry.borrow_state == REGISTERED or entry.gone:
            if then is not None:
                then()
            return
        if then is not None:
            if entry.on_registered is None:
                entry.on_registered = []
            entry.on_registered.append(then)
        if entry.borrow_state == UNREGISTERED:
            entry.borrow_state = REGISTERING
            self.commands.append(Register(entry))

    def registered(self, object_id: bytes, epoch: int) -> ObjectEntry | None:
        """Note that the owner acknowledged, or is gone, and end the waits for that."""
        entry = self.entries.get(object_id)
        if entry is None or entry.epoch != epoch or entry.borrow_state == REGISTERED:
            return None
        entry.borrow_state = REGISTERED
        if entry.on_registered is not None:
            self._now_registered(entry)
            self.notify()
        return entry

    def _now_registered(self, entry: ObjectEntry) -> None:
        callbacks, entry.on_registered = entry.on_registered, None
        self.to_notify += [(callback, ()) for callback in callbacks or ()]

    def piggyback(self, entry: ObjectEntry) -> tuple[bytes, int]:
        """Return what a reply to the owner says of the ref, which registers this process."""
        if entry.borrow_state == UNREGISTERED:  # else the owner's acknowledgement is awaited
            entry.borrow_state = REGISTERED
        return entry.id, entry.epoch

    # ------------------------------------------------------------------ as an owner

    def add_borrower(self, object_id: bytes, borrower: bytes, epoch: int) -> bool:
        """Register a process; tell whether the object is alive."""
        entry = self.entries.get(object_id)
        if entry is None or entry.owner_address is not None:
            return False
        if entry.removed is not None and entry.removed.get(borrower, 0) >= epoch:
            return True  # its Remove overtook this Add
        if entry.borrowers is None:
            entry.borrowers = {}
        if entry.borrowers.get(borrower, 0) < epoch:
            entry.borrowers[borrower] = epoch
        return True

    def remove_borrower(self, object_id: bytes, borrower: bytes, epoch: int) -> None:
        """End that registration and every earlier one of the process."""
        entry = self.entries.get(object_id)
        if entry is None or entry.owner_address is not None:
            return
        if entry.removed is None:
            entry.removed = {}
        if entry.removed.get(borrower, 0) < epoch:
            entry.removed[borrower] = epoch
        if entry.borrowers and entry.borrowers.get(borrower, epoch + 1) <= epoch:
            del entry.borrowers[borrower]
            self._settle(entry)

    def borrower_died(self, borrower: bytes) -> None:
        """Remove a process that ended from the borrowers of every object."""
        for entry in list(self.entries.values()):
            if entry.borrowers and entry.borrowers.pop(borrower, None) is not None:
                self._settle(entry)

    def is_lending_to(self, borrower: bytes) -> bool:
        """Tell whether a process borrows anything from this one."""
        return any(entry.borrowers and borrower in entry.borrowers for entry in self.entries.values())

    def pending(self) -> list[ObjectEntry]:
        """Return the entries that have no value."""
        return [entry for entry in self.entries.values() if entry.kind == PENDING]

    def owned_by(self, owner_address: str) -> list[ObjectEntry]:
        """Return the borrowed entries of one owner."""
        return [entry for entry in self.entries.values() if entry.owner_address == owner_address]

    # ------------------------------------------------------------------ values

    def fulfil(self, entry: ObjectEntry, kind: int, data: bytes) -> None:
        """Store a value, wake the threads that wait for it, and call its dependents; if dependents are being
        called already, these come after them."""
        entry.kind = kind
        entry.data = data
        entry.task = None
        waiters, entry.waiters = entry.waiters, None
        dependents, entry.dependents = entry.dependents, None
        if dependents is not None:
            if len(dependents) == 1 and not self._notifying and not self.to_notify:
                # The common case, without the queue; callbacks that it leaves there are called right after.
                self._notifying = True
                try:
                    dependents[0](entry)
                finally:
                    self._notifying = False
            else:
                self.to_notify += [(dependent, (entry,)) for dependent in dependents]
            if self.to_notify:
                self.notify()
        if waiters is not None:
            for waiter in waiters:
                waiter.one_ready(kind)

    def expect(self, entry: ObjectEntry, task: Any) -> None:
        """Note which call makes the value again."""
        entry.task = task

    def when_ready(self, entry: ObjectEntry, call: Callable[[ObjectEntry], None]) -> None:
        """Have ``call`` called once with the entry, which has no value yet, when it gets one."""
        if entry.dependents is None:
            entry.dependents = [call]
        else:
            entry.dependents.append(call)

    def await_value(self, entry: ObjectEntry, waiter: Waits) -> None:
        """Have a thread's wait count the entry, which has no value yet, when it gets one."""
        if entry.waiters is None:
            entry.waiters = [waiter]
        else:
            entry.waiters.append(waiter)

    def stop_awaiting(self, entry: ObjectEntry, waiter: Waits) -> None:
        """Undo ``await_value``; nothing, if the value is there."""
        if entry.waiters and waiter in entry.waiters:
            entry.waiters.remove(waiter)

    def notify(self) -> None:
        """Call the queued callbacks one after the other.

        A callback may give other entries values, or free them: their callbacks are queued behind it. So a
        chain of calls that fail for each other may have any length.
        """
        if self._notifying:
            return
        self._notifying = True
        to_notify = self.to_notify
        try:
            while to_notify:
                call, about = to_notify.popleft()
                call(*about)
        finally:
            self._notifying = False  # after an error the others are called in the next turn


def dead_entry(object_id: bytes, owner_address: str | None, error: bytes) -> ObjectEntry:
    """Return an entry outside of the table, with an error as its value, for an unreachable object."""
    return ObjectEntry(object_id, owner_address, kind=ERROR, data=error, gone=True)


def discarding_entry(object_id: bytes = b"") -> ObjectEntry:
    """Return an entry outside of the table, which drops the values that are put into it."""
    return ObjectEntry(object_id, None, gone=True)
