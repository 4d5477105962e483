"""Records of a process's own calls: functions and tasks."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from skate._wire.worker import Dependency
from skate._worker.objects.refs import ObjectEntry

if TYPE_CHECKING:
    from types import CodeType

    from skate._transport.connection import Connection
    from skate._worker.calls.streams import Stream
    from skate._worker.calls.tallies import Tally
    from skate._worker.process.current import CallInfo


class FunctionRecord:
    """A remote function, pickled once. ``microseconds`` is a moving average of the times of its calls."""

    __slots__ = ("number", "name", "blob", "threads", "microseconds", "depth", "refs", "max_calls", "retry",
                 "hidden", "tallies", "_dead")  # fmt: skip

    def __init__(
        self, number: int, name: str, blob: bytes, threads: int, refs: Sequence[object], dead: deque[int]
    ) -> None:
        self.number = number
        self.name = name
        self.blob = blob
        self.threads = threads
        #: The refs in its closure and defaults: alive as long as it is.
        self.refs = refs
        #: A worker ends after this many of its calls; 0: it does not.
        self.max_calls = 0
        #: See ``Call.retry``.
        self.retry: bytes | None = None
        #: Its calls are not reported (``enable_task_events=False``).
        self.hidden = False
        #: The counts of its calls: see ``tallies``.
        self.tallies: dict[str, Tally] = {}
        self._dead = dead
        self.microseconds = -1.0
        #: How many calls may be in flight to one worker.
        self.depth = 1

    def __del__(self) -> None:
        self._dead.append(self.number)  # workers that have it get a ForgetFunction

    def measured(self, microseconds: int, short_us: int, max_depth: int) -> None:
        """Adapt the pipeline depth to the time of a call: at once to a long one, gradually to short ones."""
        old = self.microseconds
        if old < 0 or microseconds > 10 * old + short_us:
            new = float(microseconds)
        else:
            new = old + (microseconds - old) * 0.2
        self.microseconds = new
        if new >= short_us:
            self.depth = 1
        else:
            # As many calls as a worker runs in two milliseconds: enough to hide the round trip.
            self.depth = min(self.max_calls or max_depth, max_depth, int(2000 / (new + 10)))


class ActorFacts(Protocol):
    """The callee of a method call, as reports show it: an ActorClient."""

    id: bytes
    class_name: str
    state: str
    tallies: dict[str, Tally]


class PoolFacts(Protocol):
    """The pool that runs a task, as reports show it: a LeasePool."""

    resources: dict[str, int]
    environment: bytes
    requirement: bytes
    group: tuple[bytes, bool]


class Route(Protocol):
    """Takes a call to a leased worker, or to an actor. Under the lock."""

    def ready(self, task: TaskRecord) -> None:
        """Take a call whose last argument got its value."""

    def resubmit(self, task: TaskRecord, may_go: bool) -> None:
        """Take a call that runs again; ``may_go``: its arguments have values."""

    def replied(self, task: TaskRecord, microseconds: int) -> None:
        """Note that the process to which a call was sent replied, and that the call took this long."""

    def argument_failed(self, task: TaskRecord) -> None:
        """Forget a call that was not sent: an argument of it is an error."""

    def withdraw(self, task: TaskRecord) -> None:
        """Forget a call that was not sent: it was cancelled."""


class TaskRecord(msgspec.Struct, eq=False, gc=False):
    """One call of this process, until its last return is there.

    Not garbage collected: see ``ObjectEntry``.
    """

    seq: int
    function: FunctionRecord | None
    method: str
    args_kind: int
    args: bytes
    returns: Sequence[ObjectEntry]
    #: Below zero: any number.
    retries_left: int
    flags: int
    #: The call that made it, in this process.
    parent: CallInfo | None = None
    #: Where user code made the call (see ``process.call_site``), and when (monotonic seconds).
    site: tuple[CodeType, int] | None = None
    made: float = 0.0
    #: Arguments given as refs: (position or keyword, entry).
    dependencies: list[tuple[int | str, ObjectEntry]] | None = None
    #: Entries that this call keeps alive.
    pins: list[ObjectEntry] | None = None
    name: str | None = None
    #: The concurrency group that the caller chose.
    group: str | None = None
    #: The number of arguments that have no value yet; below zero: the call is over.
    unresolved: int = 0
    #: Set when it is made.
    route: Route = None  # type: ignore[assignment]
    #: The process that it was sent to; None: it waits here. Replies from elsewhere do not count.
    connection: Connection | None = None
    #: Of a task: its pool; and the lease it was sent with, which only its route uses.
    pool: PoolFacts | None = None
    lease: Any = None
    #: Of a method: its actor.
    actor: ActorFacts | None = None
    #: Of a generator: its items.
    stream: Stream | None = None
    #: It was cancelled; and its worker is to be ended.
    cancelled: bool = False
    killed: bool = False
    #: How many attempts failed; and whether it is left out of reports.
    attempt: int = 0
    hidden: bool = False
    #: Its arguments, while its results may have to be made again; the number of these results; whether it
    #: runs to make them again (see ``lineage``, ``recovery``).
    lineage: list[ObjectEntry] | None = None
    makes: int = 0
    is_reconstruction: bool = False
    #: Items of its stream, by index, that were lost and are to be made again.
    lost_items: dict[int, ObjectEntry] | None = None
    #: See ``Call.retry``.
    retry: bytes | None = None

    def stream_state(self) -> tuple[int, int, int] | None:
        """Return the stream's first counter, the number of items to skip, and its limit, for the worker."""
        stream = self.stream
        if stream is None:
            return None
        if self.is_reconstruction:
            return stream.base, min(self.lost_items or (0,)), 0
        return stream.base, stream.received, stream.limit

    def values_to_send(self) -> list[Dependency]:
        """Return the values of the arguments that were given as refs, encoded, and note their export."""
        values: list[Dependency] = []
        for where, entry in self.dependencies or ():
            entry.mark_exported()
            values.append((where, entry.kind, entry.data, entry.id))
        return values

    def needs(self, argument: ObjectEntry) -> bool:
        """Tell whether an object is one of its arguments that were given as refs."""
        return any(entry is argument for _, entry in self.dependencies or ())

    def describe(self) -> str:
        """Return the name that users know it by."""
        if self.actor is not None:
            return self.name or f"{self.actor.class_name}.{self.method}"
        assert self.function is not None
        return self.name or self.function.name

    def spend_retry(self) -> bool:
        """Tell whether it may run again, and count that."""
        if self.cancelled:
            return False
        if self.retries_left == 0:
            return False
        self.attempt += 1
        if self.retries_left > 0:
            self.retries_left -= 1
        return True


def take_out(queue: deque[TaskRecord], task: TaskRecord) -> bool:
    """Remove a call from a queue; tell whether it was there. Fast at both ends, where most are."""
    if queue and queue[-1] is task:
        queue.pop()
        return True
    try:
        queue.remove(task)
    except ValueError:
        return False
    return True


def split_begun(calls: list[TaskRecord], begun_seq: int | None) -> tuple[list[TaskRecord], list[TaskRecord]]:
    """Divide the calls in flight to a process that died, in the order sent: begun, and not begun.

    ``begun_seq`` is the one it began last, None if that is not known: then all count as begun.
    Those before it are begun too: they were finished, but their replies were not sent.
    """
    if begun_seq is None:
        return calls, []
    for index, call in enumerate(calls):
        if call.seq == begun_seq:
            return calls[: index + 1], calls[index + 1 :]
    return [], calls
