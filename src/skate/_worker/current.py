"""The runtime of this process, and what its threads are doing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skate._worker.core import Core


class _Process:
    """One slot: a process is connected to one session at a time."""

    core: Core | None = None
    #: Set in a forked child: what to say to whoever calls the API there.
    forked = False


process = _Process()


def require_core(what: str) -> Core:
    """Return the runtime of this process.

    Raises:
        RuntimeError: it has none.
    """
    core = process.core
    if core is None:
        if process.forked:
            raise RuntimeError(
                f"cannot {what} in a process forked from one that is connected to skate (multiprocessing "
                "inside a task, os.fork): use skate tasks instead, or the 'spawn' start method and init()"
            )
        raise RuntimeError(f"cannot {what}: this process is not connected; call init() first")
    return core


class Context(threading.local):
    """What this thread runs: set by the executor around user code."""

    task_id: bytes = b""
    task_name: str = ""
    #: How deep the running task is nested: 0 in a driver.
    depth: int = 0


context = Context()
