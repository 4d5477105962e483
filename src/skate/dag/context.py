"""Provides DAGContext, the default settings of compiled graphs."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass
class DAGContext:
    """Settings of the compiled graphs of this process; change them before you compile.

    Args:
        submit_timeout: seconds that ``execute`` waits for room.
        get_timeout: seconds that ``get`` waits without a timeout of its own.
        teardown_timeout: seconds that ``teardown`` waits for the actors.
        read_iteration_timeout: accepted; nothing here reads in turns.
        buffer_size_bytes: the first size of a buffer for large values.
        max_inflight_executions: the most executions that may be running or not taken.
        max_buffered_results: the most results that a ``get`` of a later execution may pass over.
        overlap_gpu_communication: accepted; there is no such communication.

    Example:
        >>> DAGContext.get_current().get_timeout = 60
    """

    submit_timeout: float = 10
    get_timeout: float = 10
    teardown_timeout: float = 30
    read_iteration_timeout: float = 0.1
    buffer_size_bytes: int = 1_000_000
    max_inflight_executions: int = 10
    max_buffered_results: int = 1000
    overlap_gpu_communication: bool = False

    @staticmethod
    def get_current() -> DAGContext:
        """Return the settings of this process."""
        with _lock:
            if _Current.context is None:
                _Current.context = DAGContext()
            return _Current.context


_lock = threading.RLock()


class _Current:
    """Holds the settings of this process, as ``_worker.process.current`` does."""

    context: DAGContext | None = None
