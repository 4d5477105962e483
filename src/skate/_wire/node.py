"""Defines the messages between the node daemon and the drivers and workers of its machine."""

from __future__ import annotations

from msgspec import Struct


class Hello(Struct, array_like=True, frozen=True, tag=40):
    """Driver or worker to daemon, first frame. Drivers send ``job_config``: JSON, not a pickle, that the
    daemon passes on to the workers of the job."""

    kind: str  # "driver", "worker", or "observer": it only asks for the state
    worker_id: bytes
    pid: int
    address: str
    protocol: int
    job_config: bytes
    #: Of a worker: why it cannot serve (the setup hook of its environment raised); it ends.
    error: str = ""
    #: Of a driver: the environment of its job, as JSON.
    environment: bytes = b""


class Welcome(Struct, array_like=True, frozen=True, tag=41):
    """Daemon to driver: the session that it joined."""

    node_id: bytes
    config: bytes


class LeaseDemand(Struct, array_like=True, frozen=True, tag=42):
    """Owner to daemon: for this resource shape I want ``count`` leases in all (not ``count`` more).

    The count is absolute, so that a repeated or late message does no harm. ``depth`` is how deep the owner's
    tasks are nested; the daemon serves deeper owners first, so that recursion ends instead of spreading.
    """

    shape: int
    resources: dict[str, int]
    count: int
    depth: int
    #: The environment of the workers, as JSON; empty: that of the owner.
    environment: bytes = b""
    #: A packed ``specs.Requirement``: which nodes may serve it; empty: any.
    requirement: bytes = b""


class LeaseGranted(Struct, array_like=True, frozen=True, tag=43):
    """Daemon to owner: this worker is yours."""

    shape: int
    lease: int
    worker_id: bytes
    address: str
    #: Ids of the GPUs that it may use.
    gpus: list[str] = []


class LeaseReturned(Struct, array_like=True, frozen=True, tag=44):
    """Owner to daemon: I am done with this lease."""

    lease: int


class LeaseBroken(Struct, array_like=True, frozen=True, tag=76):
    """Owner to daemon: my connection to the worker of this lease ended, and no exit report of it has come.
    End the worker if it lives: neither of us can know which calls it has done. Its exit report follows."""

    lease: int
    reason: str


class LeaseReclaim(Struct, array_like=True, frozen=True, tag=45):
    """Daemon to owner: other owners wait. Return idle leases now, and ``busy`` more when their tasks are
    finished."""

    busy: int


class DemandRefused(Struct, array_like=True, frozen=True, tag=46):
    """Daemon to owner: this node cannot satisfy this resource shape (``fatal``: and its tasks must fail)."""

    shape: int
    reason: str
    fatal: bool
    #: The environment cannot be prepared; resources are not the reason.
    environment: bool = False
    #: The placement group was removed: its workers end, and no lease of this shape is granted again.
    removed: bool = False


class Blocked(Struct, array_like=True, frozen=True, tag=47):
    """Worker to daemon: my task waits, so I release its CPUs. ``blocked`` false takes them back."""

    blocked: bool


class WorkerDied(Struct, array_like=True, frozen=True, tag=48):
    """Daemon to the owner of a lease: the exit report of that worker, and the task that it started last:
    owner and seq, from the worker's slot in the progress table."""

    lease: int
    worker_id: bytes
    cause: str
    begun_owner: bytes
    begun_seq: int
    #: The daemon ended it because memory ran short.
    out_of_memory: bool = False


class Allocate(Struct, array_like=True, frozen=True, tag=50):
    """Process to daemon: an extent of shared memory of at least ``size`` bytes.

    Request 0 asks ahead of need; a full store answers it with an error at once.
    """

    request: int
    size: int


class Extent(Struct, array_like=True, frozen=True, tag=51):
    """Daemon to process: the extent, or why there is none. The segment's descriptor comes along when this
    process sees the segment for the first time (``has_fd``)."""

    request: int
    segment: int
    segment_size: int
    offset: int
    size: int
    fresh: bool  # never touched: make the kernel provide the pages before writing
    has_fd: bool
    error: str = ""


def no_extent(request: int, error: str) -> Extent:
    """Return the answer that says why there is none."""
    return Extent(request, 0, 0, 0, 0, False, False, error)


class Seal(Struct, array_like=True, frozen=True, tag=52):
    """Creator to daemon: the extent now holds this object, which is complete and never changes."""

    object_id: bytes
    segment: int
    offset: int
    size: int
    #: The type of the value, for messages to people ("numpy.ndarray", "bytes", ...).
    label: str
    #: The object was made again in case it is lost. If it is not lost, the stored object stays, and this one
    #: is dropped.
    again: bool = False


class EndActor(Struct, array_like=True, frozen=True, tag=74):
    """Daemon to an actor's worker: no handle refers to the actor; clean up and end."""

    reason: str


class Lose(Struct, array_like=True, frozen=True, tag=89):
    """Tests to daemon: these objects are lost, as if their memory had failed. Views that processes have of
    them stay valid."""

    object_ids: list[bytes]


class Free(Struct, array_like=True, frozen=True, tag=53):
    """Owner to daemon: no reference to these objects is left. ``keep`` asks for the extents back for later
    objects (granted if no other process has a view)."""

    object_ids: list[bytes]
    keep: bool
    #: Free only objects that this process sealed; an object that another process sealed under the same id
    #: stays.
    creator: bytes = b""


class CreatorDied(Struct, array_like=True, frozen=True, tag=72):
    """Daemon to owner: this process sealed these objects for you and ended. Free (by ``creator``) those whose
    reply you never got: their task failed or runs again."""

    worker_id: bytes
    object_ids: list[bytes]


class Pin(Struct, array_like=True, frozen=True, tag=54):
    """Process to daemon: I am going to read this object; keep it in its place.

    Request 0 asks for no answer: the owner knows where the object is.
    """

    request: int
    object_id: bytes


class Pinned(Struct, array_like=True, frozen=True, tag=55):
    """Daemon to process: where the object is, or why not."""

    request: int
    segment: int
    segment_size: int
    offset: int
    size: int
    has_fd: bool
    error: str = ""


class Unpin(Struct, array_like=True, frozen=True, tag=56):
    """Process to daemon: my last view of this object ended."""

    object_id: bytes


class ReturnExtents(Struct, array_like=True, frozen=True, tag=57):
    """Process to daemon: take back free extents that I kept and do not need: (segment, offset)."""

    extents: list[tuple[int, int]]


class SegmentMissed(Struct, array_like=True, frozen=True, tag=77):
    """Process to daemon: the descriptor of this segment did not arrive, because I have no free number for it
    (RLIMIT_NOFILE). Send it along again with the next message that needs it."""

    segment: int


class LogLines(Struct, array_like=True, frozen=True, tag=58):
    """Daemon to driver: whole lines that a worker printed."""

    name: str
    pid: int
    error: bool
    text: str


class StartActor(Struct, array_like=True, frozen=True, tag=60):
    """Daemon to worker: become this actor."""

    actor_id: bytes
    incarnation: int
    spec: bytes
    gpus: list[str] = []


class ActorReady(Struct, array_like=True, frozen=True, tag=61):
    """Worker to daemon: the constructor returned, or raised (``error`` is the pickled exception)."""

    actor_id: bytes
    incarnation: int
    error: bytes
    #: The text of its class's own ``__repr__``; empty: the class has none.
    repr_name: str = ""


class ActorRefused(Struct, array_like=True, frozen=True, tag=69):
    """Worker to daemon: I own objects of earlier tasks; start this actor in another process, so that the
    objects do not end with the actor."""

    actor_id: bytes
    incarnation: int


class ActorAccepted(Struct, array_like=True, frozen=True, tag=71):
    """Worker to daemon: from now on this process is that actor, and ends with it."""

    actor_id: bytes
    incarnation: int


class Exit(Struct, array_like=True, frozen=True, tag=62):
    """Daemon to worker: end, unless you own or hold objects (then answer ExitRefused)."""


class OwnerLeft(Struct, array_like=True, frozen=True, tag=70):
    """Daemon to worker: the owner of your lease ended. End if you run its task and own nothing; else answer
    ExitRefused, now or when the task is finished."""

    owner: bytes


class ExitRefused(Struct, array_like=True, frozen=True, tag=63):
    """Worker to daemon: I stay, as I own objects or run nothing that must end; I am idle."""


class Leaving(Struct, array_like=True, frozen=True, tag=64):
    """Worker to daemon: I am about to end on purpose, for this reason.

    ``intended``: the actor ends for good; else it is restarted, as after a crash."""

    reason: str
    intended: bool = True


class Shutdown(Struct, array_like=True, frozen=True, tag=65):
    """Driver to the daemon (and control store) of its own ``init()``: end the session. From a driver that
    joined: end my job; the daemon answers with the same message after its last message. From any process to
    the roles of ``skate start``: end the session."""


class PrepareMove(Struct, array_like=True, frozen=True, tag=80):
    """Daemon to owner: memory is short. Pin those of these objects that you read, and read them only by
    request from now on. Then answer with Prepared; objects that are not pinned may move to disk."""

    object_ids: list[bytes]


class Prepared(Struct, array_like=True, frozen=True, tag=81):
    """Owner to daemon: I have prepared all of these objects, whether I still know them or not."""

    object_ids: list[bytes]


class KillTask(Struct, array_like=True, frozen=True, tag=86):
    """Owner to daemon: end the worker of this lease if it runs this call of mine."""

    lease: int
    seq: int


class Preload(Struct, array_like=True, frozen=True, tag=135):
    """Process to daemon: have the workers to come start with these modules imported."""

    modules: list[str]


class Waiting(Struct, array_like=True, frozen=True, tag=87):
    """Worker to daemon: a thread has waited long and without a timeout, or its wait ended."""

    waiting: bool


class Deadlocked(Struct, array_like=True, frozen=True, tag=88):
    """Daemon to worker: this wait can never end."""

    number: int
    text: str


class Stopped(Struct, array_like=True, frozen=True, tag=120):
    """Worker to daemon, and daemon to the driver of the job: a thread stopped at a breakpoint."""

    #: Its socket, to which a terminal attaches; the path also names this stop.
    address: str
    #: The task or actor, its process, and the task's id (empty: none).
    name: str
    pid: int
    task_id: bytes
    #: "file:line".
    where: str
    #: "breakpoint", or "exception" for post-mortem debugging.
    kind: str


class Resumed(Struct, array_like=True, frozen=True, tag=121):
    """Worker to daemon, and daemon to the driver of the job: that stop ended."""

    address: str


class Metrics(Struct, array_like=True, frozen=True, tag=73):
    """Process to daemon: all metrics that the program counted here so far, as packed rows. Absolute; the
    newest message counts, also after the process ended."""

    rows: bytes


class StateQuery(Struct, array_like=True, frozen=True, tag=82):
    """Any process to daemon: report the state of this kind ("tasks", "objects", "workers", "stacks",
    "store")."""

    request: int
    what: str


class StateAsk(Struct, array_like=True, frozen=True, tag=83):
    """Daemon to driver or worker: a process asks for the state; answer with StateRows."""

    request: int
    what: str


class StateRows(Struct, array_like=True, frozen=True, tag=84):
    """Driver or worker to daemon: a list of plain rows, packed."""

    request: int
    rows: bytes


class LastRows(Struct, array_like=True, frozen=True, tag=75):
    """Driver or worker to daemon, when it leaves: the finished calls that it made, as packed rows."""

    rows: bytes
    #: How many calls there are, and whether they are the failed ones.
    count: int
    failed: bool


class Counts(Struct, array_like=True, frozen=True, tag=79):
    """Driver or worker to daemon: how many calls that it made are finished, for names whose numbers changed,
    as packed rows. Absolute; the newest message counts, also after the process ended."""

    rows: bytes


class StateAnswer(Struct, array_like=True, frozen=True, tag=85):
    """Daemon to the asking process: the rows of each process (id, pid, kind), the daemon's own last, and the
    pids of processes that did not answer."""

    request: int
    parts: list[tuple[bytes, int, str, bytes]]
    silent: list[int]


class TrimExtents(Struct, array_like=True, frozen=True, tag=68):
    """Daemon to process: the store is full; give back the extents that you keep for later (answer with
    ReturnExtents, empty if there are none)."""
