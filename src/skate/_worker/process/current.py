"""The runtime of this process, and what its threads are doing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from skate._base import ids

#: A group that every concurrent actor has, by Ray's name: one call at a time, beside all others.
SYSTEM_GROUP = "_ray_system"


class _Process:
    """The state of this process, which is connected to one session at a time."""

    #: The runtime: a Core, which this module must not know.
    core: Any = None
    #: Set in a forked child, where calls of the API raise.
    forked = False
    #: GPUs that the code here may use: ids, as CUDA_VISIBLE_DEVICES takes them.
    gpus: tuple[str, ...] = ()
    #: The resources of the task or actor that runs here, in fixed point.
    resources: Mapping[str, int] = {}


process = _Process()


def see_gpus(ids_: str | None) -> None:
    """Let the code of this process use these GPUs only (comma-separated ids)."""
    process.gpus = tuple(ids_.split(",")) if ids_ else ()
    os.environ["CUDA_VISIBLE_DEVICES"] = ids_ or ""


def require_core(what: str) -> Any:
    """Return the runtime (Core) of this process.

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


def module_name(code: Any) -> str:
    """Return the module of a function or class as Ray names it: for the program itself its file's name.

    Example:
        ``job`` for what ``job.py`` defines that was run as a script.
    """
    name = getattr(code, "__module__", None) or "__main__"
    if name == "__main__" and sys.argv and sys.argv[0].endswith(".py"):
        return os.path.basename(sys.argv[0])[:-3]
    return str(name)


class CodeName(str):
    """A remote function's name, with its module once it is loaded. It does not keep the function."""

    module = ""
    #: The placement group in which its calls run, and whether it captures the tasks that they start.
    group: tuple[bytes, bool] = (b"", False)

    def of(self, code: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function that was loaded, whose name this is."""
        self.module = module_name(code)
        return code


class CallInfo:
    """The call that runs: which task, under which name, how deep."""

    __slots__ = ("owner", "seq", "name", "depth", "function")

    def __init__(self, owner: bytes, seq: int, name: str, depth: int, function: str = "") -> None:
        self.owner = owner
        self.seq = seq
        self.name = name
        #: The function's name, if the call has a name of its own; a CodeName, if it is one.
        self.function = function or name
        #: How deep it is nested: 0 in a driver.
        self.depth = depth

    @property
    def task_id(self) -> bytes:
        """The task's id; empty outside of tasks."""
        return ids.task_id(self.owner, self.seq) if self.owner else b""


_NO_CALL = CallInfo(b"", 0, "", 0)

#: Of this thread, or of this coroutine in an async actor.
call: ContextVar[CallInfo] = ContextVar("skate_call", default=_NO_CALL)
