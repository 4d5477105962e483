"""Memory runs out (``MemoryError``) inside the runtime itself.

Outside of the lock (pickling, copying, asking for shared memory) that is raised to whoever called, and
nothing has changed. Under it a table may be half changed: what it forgot nobody would ever hear of, and who
waits for it would wait for ever. So the process stops relying on its tables:

- a worker ends, with last words for its certificate: what it ran is retried, or fails, as after any crash;
- a driver cannot be ended for our sake: its session is lost. Every wait ends, and every call raises, with an
  error that says so, until ``shutdown`` and ``init``.
"""

from __future__ import annotations

import contextlib
import os
from types import TracebackType
from typing import TYPE_CHECKING, Any

from skate._base.errors import LocalRayletDiedError
from skate._base.process import LAST_WORDS, PACKAGE
from skate._serialize.exceptions import dump_error, dump_task_error
from skate._wire.worker import ERROR

if TYPE_CHECKING:
    from skate._worker.core import Core


#: What a driver is told whose session is lost.
_LOST = (
    "this process ran out of memory for skate itself, so it cannot tell any more what became of its calls, "
    "and the session is lost. Make room (del, smaller batches), then call shutdown() and init() to start "
    "anew."
)


class Changing:
    """The lock of a process, held by a thread of the user's that changes tables: see the module's text.

    Where calls are made most, a bare lock and an ``except`` do the same, faster.
    """

    __slots__ = ("_core",)

    def __init__(self, core: Core) -> None:
        self._core = core

    def __enter__(self) -> None:
        self._core.lock.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, MemoryError):
                ran_out(self._core, error)
        finally:
            self._core.lock.__exit__(kind, error, trace)


def ran_out(core: Core, error: MemoryError) -> None:
    """Tables may be half changed. Under the lock, or where nothing else can be done."""
    if core.executor is not None:
        try:
            os.write(2, f"{LAST_WORDS}it ran out of memory inside the runtime{_where(error)}\n".encode())
        finally:  # even if there is none for these words
            os._exit(1)
    if core.dead_reason:
        return
    reason = core.dead_reason = _LOST
    with contextlib.suppress(MemoryError):
        reason = core.dead_reason = f"{_LOST} It happened{_where(error)}."
    # The tables are what they are: as much of each as works.
    with contextlib.suppress(Exception):
        core.fail_everything(reason)
    with contextlib.suppress(Exception):
        lost = dump_error(LocalRayletDiedError(reason))
        for entry in core.refs.pending():
            with contextlib.suppress(Exception):
                core.fulfil(entry, ERROR, lost)
    for waiter in list(core.waits):
        waiter.notify()
    if core.in_process:
        return
    # Nothing more is to arrive, and what works for us ends.
    with contextlib.suppress(Exception):
        core.peers.close()
    for connection in (core.control.connection, core.node):
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close(reason)


def dump_or_end(
    core: Core, error: BaseException, name: str, actor_repr: str | None, actor_id: str | None
) -> tuple[bytes, list[Any]]:
    """``dump_task_error`` in a worker; without the memory for that nobody can be told: the process ends."""
    try:
        return dump_task_error(error, name, actor_repr, actor_id)
    except MemoryError as again:
        ran_out(core, again)
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
