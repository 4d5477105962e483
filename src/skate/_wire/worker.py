"""What drivers and workers say to each other: calls, replies, objects, borrowing.

The *dialer* opens a connection to the *listener*'s Unix socket; calls flow from dialer to listener,
replies back. Ids and counters make every message safe to repeat (see ``services.py``).
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
    """Dialer to listener, first frame of a connection: who dials, and how to dial back."""

    worker_id: bytes
    address: str
    protocol: int


class DefineFunction(Struct, array_like=True, frozen=True, tag=2):
    """Owner to worker, once a connection and function, before its first call."""

    fn: int
    name: str
    blob: bytes
    #: Threads that numeric libraries may use: the CPUs of the task.
    threads: int
    #: The worker ends after so many calls of it (0: it does not).
    max_calls: int = 0
    resources: dict[str, int] = {}


class ForgetFunction(Struct, array_like=True, frozen=True, tag=12):
    """Owner to worker: no call of this function will come any more."""

    fn: int


class Call(Struct, array_like=True, frozen=True, tag=3, gc=False):
    """Owner to worker: run a function (``fn`` is its number) or an actor's method (``fn`` is its name).

    ``seq`` counts the owner's tasks, so owner and seq name the task and, with an index, its returns.
    A receiver drops a seq that it has already seen from this owner.
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
    #: Of a generator: the first counter of its items' ids, how many items to skip (they arrived from a
    #: worker that died since), and how many may wait to be taken (0: any number).
    stream: tuple[int, int, int] | None = None
    #: GPUs of its lease: comma-separated ids.
    gpus: str | None = None
    #: Exceptions after which it may be run again: a pickled tuple of types; ALL: any.
    retry: bytes | None = None


class Reply(Struct, array_like=True, frozen=True, tag=4, gc=False):
    """Worker to owner: the result of a call. ``microseconds`` is what user code took, for the pipeline
    depth."""

    seq: int
    kind: int
    data: bytes
    microseconds: int = 0
    #: Results beyond the first, for num_returns above 1; with an error, all that was yielded before it.
    more: list[tuple[int, bytes]] | None = None
    #: Refs of the caller that the worker still holds: it borrows them from now on, under this epoch.
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
    #: Refs inside it: the worker keeps them until ReplyAck.
    contained: list[tuple[int, bytes, str]] | None = None


class StreamTaken(Struct, array_like=True, frozen=True, tag=14):
    """Owner to worker: so many items were taken in all; the generator may go on."""

    seq: int
    taken: int


class StreamStop(Struct, array_like=True, frozen=True, tag=15):
    """Owner to worker: nobody wants more items; close the generator and reply."""

    seq: int


class CancelCall(Struct, array_like=True, frozen=True, tag=16):
    """Owner to worker: nobody wants this call any more. ``force``: end the process if it runs."""

    seq: int
    force: bool
    recursive: bool


class CancelTask(Struct, array_like=True, frozen=True, tag=17):
    """Borrower to owner: cancel the call that makes this object."""

    object_id: bytes
    force: bool
    recursive: bool


class Returned(Struct, array_like=True, frozen=True, tag=6):
    """Worker to owner: calls not begun and now given back, because the one before them takes long."""

    seqs: list[int]


class GetObject(Struct, array_like=True, frozen=True, tag=7):
    """Borrower to owner: send the value as soon as there is one."""

    object_id: bytes


class ObjectValue(Struct, array_like=True, frozen=True, tag=8):
    """Owner to borrower: the value, or the error that stands for it."""

    object_id: bytes
    kind: int
    data: bytes


class ObjectLost(Struct, array_like=True, frozen=True, tag=18):
    """Borrower to owner: the object is not where the owner said (``data`` of its ObjectValue).

    The owner has it made again, unless it did already, and sends ObjectValue. Repeats do no harm.
    """

    object_id: bytes
    data: bytes


class AddBorrower(Struct, array_like=True, frozen=True, tag=9):
    """Borrower to owner: I hold a ref. ``epoch`` grows with each registration by this borrower."""

    object_id: bytes
    epoch: int


class BorrowAck(Struct, array_like=True, frozen=True, tag=10):
    """Owner to borrower: registered; ``alive`` is false if the object was gone already."""

    object_id: bytes
    epoch: int
    alive: bool


class RemoveBorrower(Struct, array_like=True, frozen=True, tag=11):
    """Borrower to owner: the registration of this epoch, and every earlier one, is over."""

    object_id: bytes
    epoch: int
