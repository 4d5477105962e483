"""Deals with a ``MemoryError`` inside the runtime itself.

Outside of the lock (pickling, copying, requests for shared memory) it is raised to the caller, and nothing
has changed. Under it a table may be half changed: a thread that waits for something that the table lost
would wait for ever. So the process stops relying on its tables:

- a worker ends, with a line for its exit report: its calls are retried, or fail, as after any crash;
- a driver cannot be ended for the runtime's sake: its session is lost. Every wait ends, and every call
  raises, with an error that says so, until ``shutdown`` and ``init``.
"""

from __future__ import annotations

import contextlib
import os
from types import TracebackType
from typing import Any, Protocol

from skate._base.process import LAST_WORDS, PACKAGE
from skate._serialize.exceptions import dump_task_error
from skate._transport.table_lock import TableLock

#: The error text of a driver whose session is lost.
_LOST = (
    "this process ran out of memory for skate itself, so it cannot tell any more what became of its calls, "
    "and the session is lost. Make room (del, smaller batches), then call shutdown() and init() to start "
    "a new session."
)


class Exhaustible(Protocol):
    """The part of ProcessContext that this module needs."""

    lock: TableLock
    dead_reason: str

    @property
    def is_worker(self) -> bool:
        """Whether this process runs tasks and actors."""

    def on_exhausted(self, reason: str) -> None:
        """End all waits and connections."""


class LockedTables:
    """Holds the lock of a process for a user's thread that changes tables, and deals with a MemoryError.

    The busiest places use a bare lock and an ``except`` instead, which is faster.
    """

    __slots__ = ("_context",)

    def __init__(self, context: Exhaustible) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._context.lock.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, MemoryError):
                ran_out(self._context, error)
        finally:
            self._context.lock.__exit__(kind, error, trace)


def ran_out(context: Exhaustible, error: MemoryError) -> None:
    """End the worker, or the driver's session: tables may be half changed.

    Under the lock, or where nothing else can be done.
    """
    if context.is_worker:
        try:
            os.write(2, f"{LAST_WORDS}it ran out of memory inside the runtime{_where(error)}\n".encode())
        finally:  # even if there is none for these words
            os._exit(1)
    if context.dead_reason:
        return
    context.dead_reason = _LOST
    with contextlib.suppress(MemoryError):
        context.dead_reason = f"{_LOST} It happened{_where(error)}."
    context.on_exhausted(context.dead_reason)


def dump_or_end(
    context: Exhaustible, error: BaseException, name: str, actor_repr: str | None, actor_id: str | None
) -> tuple[bytes, list[Any]]:
    """Return ``dump_task_error``; without the memory for that, end the process: no error can be sent."""
    try:
        return dump_task_error(error, name, actor_repr, actor_id)
    except MemoryError as again:
        ran_out(context, again)
        raise


def _where(error: BaseException) -> str:
    trace, found = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename.startswith(PACKAGE):
            file = code.co_filename[len(PACKAGE) :]
            found = f" in {code.co_name} ({file}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return found
