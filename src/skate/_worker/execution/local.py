"""Answers questions about the calls of this process: runtime context, reports, ``is_canceled()``."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from skate._worker.process import current
from skate._worker.process.context import ProcessContext

if TYPE_CHECKING:
    from skate._worker.execution.actor_host import ActorInstance
    from skate._worker.execution.executor import Executor


class Local:
    """The calls that run here: in a worker those of its executor, in a driver none."""

    def __init__(self, context: ProcessContext) -> None:
        self._context = context
        #: In workers. Set by Core.
        self.executor: Executor | None = None

    def hosted(self) -> ActorInstance | None:
        """Return the actor that the caller runs in, if it is one."""
        return self.executor.host if self.executor is not None else None

    def id_here(self) -> bytes:
        """Return the id of the process that the caller runs in; in-process mode gives each actor its own."""
        return self._context.worker_id

    def assigned(self) -> tuple[Mapping[str, int], tuple[str, ...]]:
        """Return the caller's resources, in fixed point, and the ids of its GPUs."""
        return current.process.resources, current.process.gpus

    def lanes(self) -> list[dict[str, Any]]:
        """Return the lanes of this process: see ``_base.waits``. Under the lock."""
        return self.executor.lanes() if self.executor is not None else []

    def loop(self) -> Any:
        """Return the asyncio loop of the main thread of an async actor; None: there is none."""
        runner = self.executor.runner if self.executor is not None else None
        return runner.loop() if runner is not None else None

    def is_cancelled(self) -> bool:
        """Tell whether the call that the caller runs in was cancelled.

        Raises:
            RuntimeError: this process runs no calls, or only coroutines, which asyncio cancels.
        """
        host, info = self.hosted(), current.call.get()
        cancelled = self._cancelled()
        if cancelled is None or (host is not None and host.spec.is_async):
            raise RuntimeError(
                "is_canceled(): This method is only available when the process is a worker, in tasks and in "
                "methods of actors that are not async"
            )
        return (info.owner, info.seq) in cancelled

    def _cancelled(self) -> AbstractSet[tuple[bytes, int]] | None:
        """Return the running calls that were cancelled; None: this is no worker."""
        return self.executor.interrupts.cancelled if self.executor is not None else None
