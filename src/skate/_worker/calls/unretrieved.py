"""Errors that nobody asks for: told on stderr, so that no failure is silent.

A call's error is *asked for* when somebody gets, awaits or is sent its value, or when a call that depends on
it fails for it. If the last ref is gone before that, the error goes where a thread's uncaught exception
goes. Not told: what was cancelled, what the end of an actor or of the session did to its calls, and calls
with several results or items.
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

#: So many errors are told in full by a process; of the others, how many there were.
_MOST = 10
_VARIABLES = ("SKATE_IGNORE_UNHANDLED_ERRORS", "RAY_IGNORE_UNHANDLED_ERRORS")


class UnretrievedErrors:
    """Shows such errors. Called under the process's lock, but for ``close``.

    Args:
        context: of the process.
        run_callback: runs a function on a thread for user code.
    """

    def __init__(self, context: ProcessContext, run_callback: Callable[[Callable[[], None]], None]) -> None:
        self._context = context
        self._run_callback = run_callback
        self._silent = any(os.environ.get(name, "0") not in ("", "0") for name in _VARIABLES)
        self._waiting: deque[bytes] = deque()
        self._told = 0
        #: One thread tells at a time.
        self._notifying = threading.RLock()

    def failed(self, task: TaskRecord, error: bytes) -> None:
        """A call is over with an error, which its result has by now."""
        if task.cancelled or task.is_reconstruction or task.stream is not None or len(task.returns) != 1:
            return
        if self._context.dead_reason:
            return
        entry = task.returns[0]
        if entry.retrieved:
            return
        if entry.gone:
            self._tell(error)
        else:
            entry.report_if_unretrieved = True

    def freed(self, entry: ObjectEntry) -> None:
        """The last ref of an error is gone."""
        if entry.report_if_unretrieved and not entry.retrieved:
            self._tell(entry.data)

    def _tell(self, error: bytes) -> None:
        if self._silent:
            return
        self._waiting.append(error)
        if len(self._waiting) == 1:
            try:
                # Not here: unpickling is the user's code.
                self._run_callback(self._print)
            except MemoryError:
                pass  # no thread for it: see close

    def _print(self) -> None:
        with self._notifying:
            while self._waiting:
                self._told += 1
                error = load_error(self._waiting.popleft())
                if self._told <= _MOST:
                    self._context.warn(
                        f"nobody asked for this error ({_VARIABLES[0]}=1 hides such):\n{error}"
                    )

    def close(self) -> None:
        """Tell what is left. The connections may be closed by now."""
        self._print()
        self._silent = True  # refs may be dropped later; there is no thread for it any more
        if self._told > _MOST:
            self._context.warn(f"nobody asked for {self._told - _MOST} more error(s) of calls")
            self._told = 0
