"""Defines the messages between drivers and workers: calls, replies, objects, borrowing.

The *dialer* opens a connection to the *listener*'s Unix socket; calls flow from dialer to listener, replies
back. ``services.PROCESS`` lists the messages that are allowed.
"""

from __future__ import annotations

from msgspec import Struct

from skate._base.kinds import BUFFERS as BUFFERS
from skate._base.kinds import ERROR as ERROR
from skate._base.kinds import LOST as LOST
from skate._base.kinds import NONE as NONE
from skate._base.kinds import PICKLE as PICKLE
from skate._base.kinds import RETRIABLE as RETRIABLE
from skate._base.kinds import SHARED as SHARED

#: Bits of ``Call.flags``; the call depth stands above them.
SHORT = 1  #: the owner knows this function to take less than ``Config.short_task_us``
REPEATABLE = 2  #: it is run again if its process ends
AGAIN = 4  #: it runs to make lost results again; those that are still there stay as they are
DEPTH_SHIFT = 3

#: In ``Call.retry``: any exception.
ALL = b"*"

Dependency = tuple[int | str, int, bytes, bytes]
"""An argument given as a ref: position or keyword, kind, data, object id."""


class PeerHello(Struct, array_like=True, frozen=True, tag=1):
    """Dialer to listener, first frame of a connection: the dialer's identity, and its address for a call
    back."""

    worker_id: bytes
    address: str
    protocol: int


class DefineFunction(Struct, array_like=True, frozen=True, tag=2):
    """Owner to worker, once for each connection and function, before the first call."""

    fn: int
    name: str
    blob: bytes
    #: How many threads numeric libraries may use: the CPUs of the task.
    threads: int
    #: The worker ends after this many calls of the function (0: no limit).
    max_calls: int = 0
    resources: dict[str, int] = {}
    #: The placement group in which the calls run, and whether it captures the tasks that they start.
    group: bytes = b""
    captures: bool = False


class ForgetFunction(Struct, array_like=True, frozen=True, tag=12):
    """Owner to worker: no more calls of this function will come."""

    fn: int


class Call(Struct, array_like=True, frozen=True, tag=3, gc=False):
    """Owner to worker: run a function (``fn`` is its number) or an actor's method (``fn`` is its name).

    ``seq`` counts the owner's tasks, so owner and seq name the task and, with an index, its returns. A
    receiver runs every Call that it reads and keeps no list of past seqs: the owner sends a seq once on a
    connection,
    a connection neither repeats nor reorders, and the owner sends the seq again only after that connection
    ended,
    when the lost attempt spent a retry or is known not to have begun (ADR 20).
    """

    seq: int
    fn: int | str
    args: bytes
    kind: int = NONE
    num_returns: int = 1
    flags: int = 0
    dependencies: list[Dependency] | None = None
    name: str | None = None
    #: The concurrency group to run in, if not the method's own.
    group: str | None = None
    #: Of a generator: the first counter of its items' ids, how many items to skip (they arrived from a worker
    #: that died since), and how many items may wait for the consumer (0: any number).
    stream: tuple[int, int, int] | None = None
    #: GPUs of its lease: comma-separated ids.
    gpus: str | None = None
    #: The exceptions after which the call may run again: a pickled tuple of types; ALL: any.
    retry: bytes | None = None


class Reply(Struct, array_like=True, frozen=True, tag=4, gc=False):
    """Worker to owner: the result of a call. ``microseconds`` is the time that user code took; the pipeline
    depth depends on it."""

    seq: int
    kind: int
    data: bytes
    microseconds: int = 0
    #: Results beyond the first, for num_returns above 1; with an error, all items that were yielded before
    #: it.
    more: list[tuple[int, bytes]] | None = None
    #: Refs of the caller that the worker still holds; it borrows them from now on, under this epoch.
    borrowed: list[tuple[bytes, int]] | None = None
    #: Refs inside the results: (return index, ref). The worker keeps them until ReplyAck.
    contained: list[tuple[int, bytes, str]] | None = None


class ReplyAck(Struct, array_like=True, frozen=True, tag=5):
    """Owner to worker: the refs inside the results of this call (or inside one item of its stream)
    are registered with their owners."""

    seq: int
    index: int = -1


class StreamItem(Struct, array_like=True, frozen=True, tag=13, gc=False):
    """Worker to owner: the generator yielded its next item. Its Reply follows the last one."""

    seq: int
    index: int
    kind: int
    data: bytes
    #: Refs inside the item; the worker keeps them until ReplyAck.
    contained: list[tuple[int, bytes, str]] | None = None


class StreamTaken(Struct, array_like=True, frozen=True, tag=14):
    """Owner to worker: the consumer has taken this many items in all; the generator may go on."""

    seq: int
    taken: int


class StreamStop(Struct, array_like=True, frozen=True, tag=15):
    """Owner to worker: no more items are wanted; close the generator and reply."""

    seq: int


class CancelCall(Struct, array_like=True, frozen=True, tag=16):
    """Owner to worker: cancel this call. ``force``: end the process if it runs the call."""

    seq: int
    force: bool
    recursive: bool


class CancelTask(Struct, array_like=True, frozen=True, tag=17):
    """Borrower to owner: cancel the call that makes this object."""

    object_id: bytes
    force: bool
    recursive: bool


class Returned(Struct, array_like=True, frozen=True, tag=6):
    """Worker to owner: I give these calls back unstarted, because the call before them takes long."""

    seqs: list[int]


class GetObject(Struct, array_like=True, frozen=True, tag=7):
    """Borrower to owner: send the value as soon as it exists."""

    object_id: bytes


class ObjectValue(Struct, array_like=True, frozen=True, tag=8):
    """Owner to borrower: the value, or the error that stands for it."""

    object_id: bytes
    kind: int
    data: bytes


class ObjectLost(Struct, array_like=True, frozen=True, tag=18):
    """Borrower to owner: the object is not where the owner said (``data`` of its ObjectValue).

    The owner makes the object again, unless that is under way, and sends ObjectValue. Repeats do no harm.
    """

    object_id: bytes
    data: bytes


class AddBorrower(Struct, array_like=True, frozen=True, tag=9):
    """Borrower to owner: I hold a ref. ``epoch`` grows with each registration by this borrower."""

    object_id: bytes
    epoch: int


class BorrowAck(Struct, array_like=True, frozen=True, tag=10):
    """Owner to borrower: you are registered; ``alive`` is false if the object was freed already."""

    object_id: bytes
    epoch: int
    alive: bool


class RemoveBorrower(Struct, array_like=True, frozen=True, tag=11):
    """Borrower to owner: the registration of this epoch and every earlier one end."""

    object_id: bytes
    epoch: int
