"""Ends worker processes at named points of the runtime's own code. Light: workers import it.

A session whose jobs have the environment of ``environment`` runs ``install`` in each of its workers. The
points are wrapped from outside: the runtime itself knows nothing of them.
"""

from __future__ import annotations

import ctypes
import functools
import os
import random
import signal
from collections.abc import Callable
from typing import Any


def _sigkill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _segfault() -> None:
    ctypes.string_at(0)


def _exit() -> None:
    os._exit(7)


def _abort() -> None:
    os.abort()


#: How a process ends.
ENDINGS: dict[str, Callable[[], None]] = {
    "sigkill": _sigkill, "segfault": _segfault, "exit": _exit, "abort": _abort,
}  # fmt: skip

#: Name to (module, class, method, whether the process ends before or after it).
POINTS: dict[str, tuple[str, str, str, str]] = {
    # A call
    "arrived": ("executor", "Executor", "_called", "after"),
    "begun": ("executor", "Executor", "_invoke", "before"),
    "arguments read": ("invocation", "Invocation", "decode_arguments", "after"),
    "computed": ("invocation", "Invocation", "encode", "before"),
    "encoded": ("invocation", "Invocation", "encode", "after"),
    "reply written": ("invocation", "Invocation", "reply", "after"),
    "reply sent": ("executor", "Executor", "_flush", "after"),
    "items": ("yielding", "Yielding", "_send", "after"),
    # Objects
    "extent granted": ("objects", "Objects", "_allocate", "after"),
    "sealed": ("objects", "Objects", "store_value", "after"),
    "pinned": ("objects", "Objects", "view", "after"),
    "view ended": ("objects", "Objects", "view_ended", "after"),
    "put": ("objects", "Objects", "put", "after"),
    "before get": ("objects", "Objects", "get", "before"),
    "after get": ("objects", "Objects", "get", "after"),
    # References
    "ref arrived": ("objects", "Objects", "adopt", "after"),
    "borrowing": ("peers", "Peers", "register", "after"),
    "borrower added": ("peers", "Peers", "_add_borrower", "after"),
    "giving up a borrow": ("peers", "Peers", "release", "before"),
    "gave up a borrow": ("peers", "Peers", "release", "after"),
    "value asked for": ("peers", "Peers", "_get_object", "before"),
    "value sent": ("peers", "Peers", "_get_object", "after"),
    "refs acknowledged": ("yielding", "Yielding", "_reply_ack", "before"),
    # As a caller itself
    "child submitted": ("calls", "Calls", "submit_task", "after"),
    "child replied": ("calls", "Calls", "replied", "before"),
    "lease granted": ("submit_normal", "NormalSubmitter", "granted", "after"),
    "lends its CPUs": ("executor", "Executor", "wait_lending", "before"),
    # Actors
    "becoming an actor": ("executor", "Executor", "_become", "before"),
    "constructed": ("actor_host", "ActorHost", "start", "after"),
}


def environment(point: str, ending: str, seed: int, deaths: int, folder: str) -> dict[str, Any]:
    """Return the ``runtime_env`` of a job whose workers end at a point.

    Args:
        point: one of POINTS.
        ending: one of ENDINGS.
        seed: of the passages through the point that a process survives.
        deaths: processes that end, of all.
        folder: an empty one, where they are counted.
    """
    plan = f"{point}|{ending}|{seed}|{deaths}|{folder}"
    return {"env_vars": {"TEST_FAULT": plan}, "worker_process_setup_hook": "cluster.faults.install"}


def install() -> None:
    """In a worker, before it is connected: wrap the point that its environment names."""
    import importlib

    point, ending, seed, deaths, folder = os.environ["TEST_FAULT"].split("|")
    module, kind, method, when = POINTS[point]
    owner = getattr(importlib.import_module(f"skate._worker.{module}"), kind)
    original = getattr(owner, method)
    left = random.Random(int(seed) + os.getpid()).randrange(4)

    def may_die() -> bool:
        for number in range(int(deaths)):
            try:
                os.close(os.open(os.path.join(folder, str(number)), os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            return True
        return False

    def passed() -> None:
        nonlocal left
        if left:
            left -= 1
        elif may_die():
            ENDINGS[ending]()

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            passed()
        result = original(*args, **kwargs)
        if when == "after":
            passed()
        return result

    setattr(owner, method, wrapped)
