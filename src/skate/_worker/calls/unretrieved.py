"""Prints unhandled errors of calls on stderr, so that no failure is silent.

A call's error is *retrieved* when code gets or awaits its value, when the value is sent to another process,
or when a call that depends on it fails for it. If the last ref is gone before that, it is printed, as a
thread's uncaught exception is. Not printed are the errors of cancelled calls, of calls that ended with their
actor or session, and of calls with several results or items.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from skate._serialize.exceptions import load_error

if TYPE_CHECKING:
    from skate._worker.calls.records import TaskRecord
    from skate._worker.objects.refs import ObjectEntry
    from skate._worker.process.context import ProcessContext

#: A process prints this many errors in full, and the number of the others when it ends.
_MAX_ERRORS = 10
_VARIABLES = ("SKATE_IGNORE_UNHANDLED_ERRORS", "RAY_IGNORE_UNHANDLED_ERRORS")


class UnretrievedErrors:
    """Prints the errors of calls that no code retrieves. Under the process's lock, except ``close``.

    Args:
        context: of the process.
        run_callback: runs a function on a thread for user code.
    """

    def __init__(self, context: ProcessContext, run_callback: Callable[[Callable[[], None]], None]) -> None:
        self._context = context
        self._run_callback = run_callback
        self._silent = any(os.environ.get(name, "0") not in ("", "0") for name in _VARIABLES)
        self._waiting: deque[bytes] = deque()
        self._count = 0
        #: One thread prints at a time.
        self._printing = threading.RLock()

    def failed(self, task: TaskRecord, error: bytes) -> None:
        """Note that a call failed, and that its result has the error."""
        if task.cancelled or task.is_reconstruction or task.stream is not None or len(task.returns) != 1:
            return
        if self._context.dead_reason:
            return
        entry = task.returns[0]
        if entry.retrieved:
            return
        if entry.gone:
            self._report(error)
        else:
            entry.report_if_unretrieved = True

    def freed(self, entry: ObjectEntry) -> None:
        """Print an error whose last ref is gone, unless it was retrieved."""
        if entry.report_if_unretrieved and not entry.retrieved:
            self._report(entry.data)

    def _report(self, error: bytes) -> None:
        if self._silent:
            return
        self._waiting.append(error)
        if len(self._waiting) == 1:
            try:
                # Not here: unpickling is the user's code.
                self._run_callback(self._print)
            except MemoryError:
                pass  # there is no thread for it: ``close`` prints it

    def _print(self) -> None:
        with self._printing:
            while self._waiting:
                self._count += 1
                error = load_error(self._waiting.popleft())
                if self._count <= _MAX_ERRORS:
                    self._context.warn(
                        f"this error was never retrieved ({_VARIABLES[0]}=1 hides such errors):\n{error}"
                    )

    def close(self) -> None:
        """Print the errors that are left. The connections may be closed by now."""
        self._print()
        self._silent = True  # refs may be dropped later; there is no thread to print them any more
        if self._count > _MAX_ERRORS:
            self._context.warn(f"{self._count - _MAX_ERRORS} more error(s) of calls were never retrieved")
            self._count = 0
