"""Ends workers and control stores at named points of the runtime's own code. Light: they import it.

A session whose jobs have the environment of ``environment`` runs ``install`` in each of its workers; one that
is started with ``control_argv`` runs ``install_control`` in its control stores. The points are wrapped from
outside: the runtime itself knows nothing of them.
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
Points = dict[str, tuple[str, str, str, str]]

#: Of workers.
POINTS: Points = {
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


#: Of control stores.
CONTROL_POINTS: Points = {
    "actor to be made": ("server", "ControlStore", "_create_actor", "before"),
    "actor made": ("server", "ControlStore", "_create_actor", "after"),
    "actor looked for": ("server", "ControlStore", "_find_actor", "before"),
    "actor found": ("server", "ControlStore", "_find_actor", "after"),
    "actor watched": ("server", "ControlStore", "_watch_actor", "after"),
    "actor to be released": ("server", "ControlStore", "_release_actor", "before"),
    "actor released": ("server", "ControlStore", "_release_actor", "after"),
    "start told": ("server", "ControlStore", "_actor_started", "before"),
    "start taken": ("server", "ControlStore", "_actor_started", "after"),
    "end told": ("server", "ControlStore", "_actor_ended", "before"),
    "end taken": ("server", "ControlStore", "_actor_ended", "after"),
    "decided": ("server", "ControlStore", "_run", "before"),
    "carried out": ("server", "ControlStore", "_run", "after"),
    "node comes": ("server", "ControlStore", "_register_node", "before"),
    "node came": ("server", "ControlStore", "_register_node", "after"),
    "process came": ("server", "ControlStore", "_register_job", "after"),
    "process left": ("server", "ControlStore", "_disconnected", "after"),
    "to be recorded": ("storage", "Storage", "commit", "before"),
    "recorded": ("storage", "Storage", "commit", "after"),
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
    _wrap("skate._worker", POINTS, os.environ["TEST_FAULT"], lambda: True)


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
    _wrap("skate._control", CONTROL_POINTS, plan, lambda: os.path.exists(armed))


def _wrap(package: str, points: Points, plan: str, armed: Callable[[], bool]) -> None:
    import importlib

    point, ending, seed, deaths, folder = plan.split("|")
    module, kind, method, when = points[point]
    owner = getattr(importlib.import_module(f"{package}.{module}"), kind)
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
        if not armed():
            return
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
