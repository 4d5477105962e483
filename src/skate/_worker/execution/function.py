"""Remote functions that owners sent to this worker."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from typing import Any

from skate._wire import worker as wire
from skate._worker.process import current


class Function:
    """A remote function that an owner sent; unpickled at its first call."""

    __slots__ = ("name", "label", "blob", "threads", "max_calls", "resources", "called", "callable")

    def __init__(self, message: wire.DefineFunction) -> None:
        self.name, self.label = message.name, current.CodeName(message.name)
        self.label.group = message.group, message.captures
        self.blob = message.blob
        self.threads = message.threads
        self.max_calls = message.max_calls
        self.resources = message.resources
        #: How often it ran here.
        self.called = 0
        self.callable: Callable[..., Any] | None = None

    def load(self) -> Callable[..., Any]:
        """Return the function."""
        if self.callable is None:
            limit_threads(self.threads)
            self.callable = self.label.of(pickle.loads(self.blob))
            self.blob = b""
        return self.callable


def limit_threads(count: int) -> None:
    """Let numeric libraries that are not imported yet use as many threads as the task has CPUs."""
    if "OMP_NUM_THREADS" not in os.environ or os.environ.get("_SKATE_OMP"):
        os.environ["OMP_NUM_THREADS"] = str(max(1, count))
        os.environ["_SKATE_OMP"] = "1"
