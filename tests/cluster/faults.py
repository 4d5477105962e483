"""Faults at named points of the runtime's own code: processes end there, or run out of memory. Light: workers
import it.

A session whose jobs have the environment of ``environment`` runs ``install`` in each of its workers; one that
is started with ``control_argv`` runs ``install_control`` in its control stores; ``Raising`` is for the calling process itself. The points are wrapped from outside: the runtime knows nothing
of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import os
import random
import resource
import signal
import threading
import time
import types
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn

from skate._worker.process import current

from .waiting import attempt

# ---------------------------------------------------------------------- what happens there


def _sigkill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _segfault() -> None:
    ctypes.string_at(0)


def _exit() -> None:
    os._exit(7)


def _abort() -> None:
    os.abort()


#: How a process ends at once.
ENDINGS: dict[str, Callable[[], None]] = {
    "sigkill": _sigkill, "segfault": _segfault, "exit": _exit, "abort": _abort,
}  # fmt: skip

#: Bytes that a process takes until somebody ends it.
_ENOUGH = 2_000_000_000
#: Seconds until one that nobody ended counts as forgotten: longer than the test may last.
_FORGOTTEN_S = 600


def _hoard(step: int = 20_000_000) -> None:
    """Take ever more memory, until the session's monitor, or the kernel, ends this process."""
    held: list[bytearray] = []
    deadline = time.monotonic() + _FORGOTTEN_S
    while time.monotonic() < deadline:
        if len(held) * step < _ENOUGH:
            held.append(bytearray(step))
        else:
            time.sleep(0.01)
    os._exit(99)


#: A folder of a memory cgroup in which the tests may make others.
CGROUP = os.environ.get("SKATE_TEST_CGROUP", "")


def _hoard_in_a_cgroup() -> None:
    """Have the kernel's killer end this process: it is alone in a group whose limit it exceeds."""
    folder = os.path.join(CGROUP, f"skate-test-{os.getpid()}")
    os.mkdir(folder)  # the test removes it
    names = os.listdir(folder)
    limit = "memory.max" if "memory.max" in names else "memory.limit_in_bytes"
    for name, text in ((limit, "64000000"), ("cgroup.procs", str(os.getpid()))):
        with open(os.path.join(folder, name), "w") as file:
            file.write(text)
    _hoard(1_000_000)


def _raise() -> NoReturn:
    raise MemoryError("planned")


#: What keeps the heap full while memory is short.
_filler: list[bytes] = []
_filling = threading.Lock()


def _limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _run_short(left: int = 0) -> None:
    """Nothing more can be had but ``left`` bytes, until ``_relieve``."""
    with open("/proc/self/statm", "rb") as file:
        pages = int(file.read().split()[0])
    with _filling:
        _fill(pages * resource.getpagesize(), left)


def _fill(limit: int, left: int) -> None:
    _limit(limit)
    for size in (1 << 20, 1 << 16, 1 << 12, 1 << 9):
        try:
            while True:
                _filler.append(bytes(size))
        except MemoryError:
            pass
    freed = 0
    while _filler and freed < left:
        freed += len(_filler.pop())


def _relieve() -> None:
    with _filling:
        _filler.clear()
        _limit(resource.getrlimit(resource.RLIMIT_AS)[1])


#: How a process runs out of memory: the session's monitor or the kernel ends it; an allocation at the point
#: fails; every allocation fails from the point to the end of the call.
SHORTAGES: dict[str, Callable[[], None]] = {
    "hoard": _hoard, "cgroup": _hoard_in_a_cgroup, "raise": _raise,
    "short": _run_short, "short of 64 kB": lambda: _run_short(1 << 16), "short of 1 MB": lambda: _run_short(1 << 20),
}  # fmt: skip

# ---------------------------------------------------------------------- where

Point = tuple[str, str, str, str]
Points = dict[str, Point]

#: Name to (module, class, method, whether it happens before or after it).
POINTS: Points = {
    # A call
    "arrived": ("_worker.execution.executor", "Executor", "_called", "after"),
    "begun": ("_worker.execution.executor", "Executor", "_invoke", "before"),
    "arguments read": ("_worker.execution.invocation", "Invocation", "decode_arguments", "after"),
    "computed": ("_worker.execution.invocation", "Invocation", "encode", "before"),
    "encoded": ("_worker.execution.invocation", "Invocation", "encode", "after"),
    "reply written": ("_worker.execution.invocation", "Invocation", "reply", "after"),
    "reply sent": ("_worker.execution.executor", "Executor", "_flush", "after"),
    "items": ("_worker.execution.yielding", "Yielding", "_send", "after"),
    # Objects
    "extent granted": ("_worker.objects.shared_memory", "SharedMemory", "_allocate", "after"),
    "sealed": ("_worker.objects.shared_memory", "SharedMemory", "store_value", "after"),
    "pinned": ("_worker.objects.shared_memory", "SharedMemory", "view", "after"),
    "view ended": ("_worker.objects.shared_memory", "SharedMemory", "end_view", "after"),
    "put": ("_worker.objects.values", "Values", "put", "after"),
    "before get": ("_worker.objects.values", "Values", "get", "before"),
    "after get": ("_worker.objects.values", "Values", "get", "after"),
    # References
    "ref arrived": ("_worker.objects.values", "Values", "adopt", "after"),
    "borrowing": ("_worker.objects.borrowing", "Borrowing", "register", "after"),
    "borrower added": ("_worker.objects.borrowing", "Borrowing", "_add_borrower", "after"),
    "giving up a borrow": ("_worker.objects.borrowing", "Borrowing", "release", "before"),
    "gave up a borrow": ("_worker.objects.borrowing", "Borrowing", "release", "after"),
    "value asked for": ("_worker.objects.borrowing", "Borrowing", "_get_object", "before"),
    "value sent": ("_worker.objects.borrowing", "Borrowing", "_get_object", "after"),
    "refs acknowledged": ("_worker.objects.borrowing", "Borrowing", "acknowledged", "before"),
    # As a caller itself
    "child submitted": ("_worker.calls.submission", "Submission", "submit_task", "after"),
    "child replied": ("_worker.calls.results", "Results", "replied", "before"),
    "lease granted": ("_worker.calls.task_submitter", "TaskSubmitter", "granted", "after"),
    "lends its CPUs": ("_worker.execution.blocking", "Blocking", "_block_releasing_cpus", "before"),
    # Actors
    "becoming an actor": ("_worker.execution.executor", "Executor", "_become", "before"),
    "constructed": ("_worker.execution.actor_host", "ActorHost", "start", "after"),
    # On its way out
    "to retire": ("_worker.execution.executor", "Executor", "_retire", "before"),
    "leaving told": ("_worker.execution.executor", "Executor", "_leave", "after"),
    "asked to exit": ("_worker.execution.executor", "Executor", "_exit_requested", "before"),
    "owner left": ("_worker.execution.executor", "Executor", "_owner_left", "before"),
}

#: Of control stores.
CONTROL_POINTS: Points = {
    "actor to be made": ("_control.server", "ControlStore", "_create_actor", "before"),
    "actor made": ("_control.server", "ControlStore", "_create_actor", "after"),
    "actor looked for": ("_control.server", "ControlStore", "_find_actor", "before"),
    "actor found": ("_control.server", "ControlStore", "_find_actor", "after"),
    "actor watched": ("_control.server", "ControlStore", "_watch_actor", "after"),
    "actor to be released": ("_control.server", "ControlStore", "_release_actor", "before"),
    "actor released": ("_control.server", "ControlStore", "_release_actor", "after"),
    "start told": ("_control.server", "ControlStore", "_actor_started", "before"),
    "start taken": ("_control.server", "ControlStore", "_actor_started", "after"),
    "end told": ("_control.server", "ControlStore", "_actor_ended", "before"),
    "end taken": ("_control.server", "ControlStore", "_actor_ended", "after"),
    "decided": ("_control.server", "ControlStore", "_run", "before"),
    "carried out": ("_control.server", "ControlStore", "_run", "after"),
    "node comes": ("_control.server", "ControlStore", "_register_node", "before"),
    "node came": ("_control.server", "ControlStore", "_register_node", "after"),
    "process came": ("_control.server", "ControlStore", "_register_job", "after"),
    "process left": ("_control.server", "ControlStore", "_disconnected", "after"),
    "to be recorded": ("_control.storage", "Storage", "commit", "before"),
    "recorded": ("_control.storage", "Storage", "commit", "after"),
}

#: More of workers and drivers, where memory is asked for or tables change: for ``raise``. No class: a name of the module.
ALLOCATIONS: Points = {
    # Values to bytes and back
    "pickling a put": ("_worker.objects.values", "", "serialize", "before"),
    "pickled a put": ("_worker.objects.values", "", "serialize", "after"),
    "pickling arguments": ("_worker.calls.arguments", "ArgumentEncoder", "encode", "before"),
    "pickled arguments": ("_worker.calls.arguments", "ArgumentEncoder", "encode", "after"),
    "pickling a result": ("_worker.execution.invocation", "", "serialize", "before"),
    "pickled a result": ("_worker.execution.invocation", "", "serialize", "after"),
    "joining bytes": ("_serialize.values", "Serialized", "to_bytes", "before"),
    "writing into shared memory": ("_serialize.values", "Serialized", "write_into", "before"),
    "wrote into shared memory": ("_serialize.values", "Serialized", "write_into", "after"),
    "writing fresh memory": ("_store.client", "StoreClient", "write_fresh", "before"),
    "wrote fresh memory": ("_store.client", "StoreClient", "write_fresh", "after"),
    "unpickling arguments": ("_worker.execution.invocation", "", "deserialize", "before"),
    "unpickled arguments": ("_worker.execution.invocation", "", "deserialize", "after"),
    "unpickling": ("_worker.objects.values", "", "deserialize", "before"),
    "unpickled": ("_worker.objects.values", "", "deserialize", "after"),
    "pickling an error": ("_worker.process.exhaustion", "", "dump_task_error", "before"),
    "unpickling an error": ("_worker.objects.values", "", "load_error", "before"),
    # Objects
    "asking for an extent": ("_worker.objects.shared_memory", "SharedMemory", "_allocate", "before"),
    "mapping a segment": ("_store.client", "StoreClient", "_map", "before"),
    "sealing": ("_store.client", "StoreClient", "sealed", "before"),
    "seal noted": ("_store.client", "StoreClient", "sealed", "after"),
    "making a view": ("_store.client", "StoreClient", "view", "before"),
    "made a view": ("_store.client", "StoreClient", "view", "after"),
    "making a ref": ("_worker.objects.object_ref", "", "_new", "before"),
    "about to wait": ("_worker.process.waiting", "Waiting", "begin", "before"),
    "waiting over": ("_worker.objects.values", "Values", "_stop_waiting", "after"),
    "value there": ("_worker.objects.refs", "RefTable", "fulfil", "before"),
    "value noted": ("_worker.objects.refs", "RefTable", "fulfil", "after"),
    "entry made": ("_worker.objects.refs", "RefTable", "own", "after"),
    "borrow noted": ("_worker.objects.refs", "RefTable", "borrow", "after"),
    "settled": ("_worker.objects.refs", "RefTable", "_settle", "after"),
    "draining": ("_worker.objects.garbage", "Garbage", "drain", "before"),
    "drained": ("_worker.objects.garbage", "Garbage", "drain", "after"),
    # Calls
    "record made": ("_worker.calls.submission", "Submission", "_new_task", "after"),
    "submitting": ("_worker.calls.task_submitter", "PoolRoute", "ready", "before"),
    "submitted": ("_worker.calls.task_submitter", "PoolRoute", "ready", "after"),
    "sending a task": ("_worker.calls.task_submitter", "TaskSubmitter", "_send", "before"),
    "sent a task": ("_worker.calls.task_submitter", "TaskSubmitter", "_send", "after"),
    "asking for leases": ("_worker.calls.task_submitter", "TaskSubmitter", "_demand", "before"),
    "sending a method call": ("_worker.calls.actor_submitter", "ActorSubmitter", "_send", "before"),
    "sent a method call": ("_worker.calls.actor_submitter", "ActorSubmitter", "_send", "after"),
    "method call submitted": ("_worker.calls.submission", "Submission", "submit_call", "after"),
    "reply taken": ("_worker.calls.results", "Results", "replied", "after"),
    "refs in a reply": ("_worker.objects.borrowing", "Borrowing", "take_contained", "after"),
    "item arrived": ("_worker.calls.stream_calls", "StreamCalls", "item_arrived", "before"),
    "item taken": ("_worker.calls.generators", "ObjectRefGenerator", "_take", "after"),
    # Messages
    "message for another": ("_transport.connection", "Connection", "send", "before"),
    "message queued": ("_transport.connection", "Connection", "send", "after"),
    "framing": ("_transport.connection", "", "append_frame", "before"),
    "bytes arrived": ("_wire.framing", "FrameReader", "feed", "before"),
    "dispatching": ("_transport.connection", "Connection", "_dispatch", "before"),
    "dispatched": ("_transport.connection", "Connection", "_dispatch", "after"),
    "timers": ("_transport.reactor", "Reactor", "_run_timers", "after"),
}


#: Modules that only workers use.
_OF_WORKERS = (
    "_worker.execution.executor",
    "_worker.execution.blocking",
    "_worker.execution.invocation",
    "_worker.execution.yielding",
    "_worker.execution.actor_host",
)
#: Where memory may run out in a driver.
OF_DRIVERS = [
    point for point, (module, *_) in (POINTS | ALLOCATIONS).items() if module not in _OF_WORKERS
]  # fmt: skip


class Wrapped:
    """One point, with ``passed`` called at it. ``undo`` ends that."""

    def __init__(self, point: str, passed: Callable[[], None]) -> None:
        module, kind, self._name, when = (POINTS | ALLOCATIONS | CONTROL_POINTS)[point]
        found = importlib.import_module(f"skate.{module}")
        self._owner = getattr(found, kind) if kind else found
        original = self._original = getattr(self._owner, self._name)

        @functools.wraps(original)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if when == "before":
                passed()
            result = original(*args, **kwargs)
            if when == "after":
                passed()
            return result

        setattr(self._owner, self._name, wrapped)
        core = current.process.core
        if core is not None:
            # Parts looked it up when the core was built: as a hook, or to handle messages.
            for part in (core.context.reactor, *vars(core).values()):
                _bind_anew(part, original, wrapped)

    def undo(self) -> None:
        setattr(self._owner, self._name, self._original)


def _bind_anew(part: object, original: Any, wrapped: Any) -> None:
    """Put the wrapped method wherever a part has kept the original one, bound."""
    for name, value in list(getattr(part, "__dict__", {}).items()):
        if getattr(value, "__func__", None) is original:
            setattr(part, name, types.MethodType(wrapped, value.__self__))
        elif isinstance(value, dict):
            for key, method in value.items():
                if getattr(method, "__func__", None) is original:
                    value[key] = types.MethodType(wrapped, method.__self__)
        elif isinstance(value, list):
            for index, method in enumerate(value):
                if getattr(method, "__func__", None) is original:
                    value[index] = types.MethodType(wrapped, method.__self__)


# ---------------------------------------------------------------------- in workers


def environment(point: str, ending: str, seed: int, deaths: int, folder: str) -> dict[str, Any]:
    """Return the ``runtime_env`` of a job whose workers meet a fault at a point.

    Args:
        point: one of POINTS, or of ALLOCATIONS.
        ending: one of ENDINGS or SHORTAGES.
        seed: of the passages through the point that go well in a process.
        deaths: how many faults there are, in all processes.
        folder: an empty one, where they are counted.
    """
    plan = f"{point}|{ending}|{seed}|{deaths}|{folder}"
    return {"env_vars": {"TEST_FAULT": plan}, "worker_process_setup_hook": "cluster.faults.install"}


def install() -> None:
    """In a worker, before it is connected: wrap the point that its environment names."""
    plan = os.environ["TEST_FAULT"]
    _follow(plan, lambda: True)
    if plan.split("|")[1].startswith("short"):
        # A module that is imported meanwhile fails in ways of its own.
        importlib.import_module("cluster.arithmetic")
        # What runs out of memory has enough again when the call is over.
        from skate._worker.execution.executor import Executor

        for name in ("_idle", "_run_call"):
            setattr(Executor, name, _relieved(getattr(Executor, name)))


def _follow(plan: str, armed: Callable[[], bool]) -> None:
    point, ending, seed, deaths, folder = plan.split("|")
    happens = (ENDINGS | SHORTAGES)[ending]
    # Each process by its place in the order in which they start: their ids are others each time.
    left = random.Random(f"{seed} {attempt(os.path.join(folder, 'started'))}").randrange(4)

    def may_happen() -> bool:
        for number in range(int(deaths)):
            try:
                os.close(os.open(os.path.join(folder, str(number)), os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            return True
        return False

    def passed() -> None:
        nonlocal left
        if not armed():
            return
        if left:
            left -= 1
        elif may_happen():
            happens()

    Wrapped(point, passed)


def _relieved(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def relieved(*args: Any) -> Any:
        _relieve()
        return method(*args)

    return relieved


# ---------------------------------------------------------------------- in control stores


def control_argv(argv: list[str], plan: str) -> list[str]:
    """Return the command line of a control store that ends as the plan says, once its folder has a file "armed".

    Args:
        argv: that of an ordinary one.
        plan: point, ending, seed, deaths and folder, as for ``environment``, with ``|`` between them.
    """
    begin = "from skate._control."
    install = f"import cluster.faults; cluster.faults.install_control({plan!r}); "
    return [argument.replace(begin, install + begin) for argument in argv]


def install_control(plan: str) -> None:
    """In a control store, before it begins."""
    armed = os.path.join(plan.rpartition("|")[2], "armed")
    _follow(plan, lambda: os.path.exists(armed))


# ---------------------------------------------------------------------- in this process


class Raising(contextlib.AbstractContextManager["Raising"]):
    """A point of the calling process raises MemoryError, once, the next time that it is passed after ``arm``.

    Enter it before the session is started.
    """

    def __init__(self, point: str) -> None:
        self._armed = False
        #: It has.
        self.raised = False
        self._wrapped = Wrapped(point, self._passed)

    def arm(self) -> None:
        """Raise at the next passage."""
        self._armed = True

    def disarm(self) -> None:
        """Raise no more."""
        self._armed = False

    def _passed(self) -> None:
        if self._armed:
            self._armed, self.raised = False, True
            _raise()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wrapped.undo()
