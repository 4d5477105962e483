"""Watches the memory of the machine, and of the session if it has a limit, while anything runs here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from skate._base import memory
from skate._node.context import NodeContext
from skate._node.leases.table import Leases
from skate._node.memory import oom
from skate._node.workers.launcher import ProgressTable
from skate._node.workers.service import WorkerService
from skate._node.workers.table import WorkerProcess, Workers
from skate._store.table import StoreTable
from skate._transport.reactor import Timer


class MemoryProbe(Protocol):
    """Measures memory: ``_base.memory`` does, as the kernel sees it."""

    def of_machine(self) -> memory.Memory:
        """Return bytes in use, and in all, of this machine or container."""

    def of_process(self, pid: int, *, with_children: bool = True) -> int:
        """Return the bytes that a process (and all its children) has for itself."""

    def killed_by_kernel(self) -> int:
        """Return how many processes the kernel has ended for want of memory."""


class MemoryMonitor:
    """Has a worker ended when memory runs short.

    Args:
        context: of the daemon.
        lease_table, worker_table, progress, store: say what runs, and what it uses.
        workers: end the one that was chosen.
        probe: measures.
        debugged: returns the workers that stopped at a breakpoint: they are spared.
    """

    def __init__(
        self,
        context: NodeContext,
        lease_table: Leases,
        worker_table: Workers,
        progress: ProgressTable,
        store: StoreTable,
        workers: WorkerService,
        *,
        probe: MemoryProbe,
        debugged: Callable[[], set[bytes]],
    ) -> None:
        self._context = context
        self._lease_table = lease_table
        self._worker_table = worker_table
        self._progress = progress
        self._object_store = store
        self._workers = workers
        self._probe = probe
        self._debugged = debugged
        self._timer: Timer | None = None
        self._interval = context.config.memory_monitor_refresh_ms / 1000
        self._limit = context.config.memory_limit_bytes
        #: Worker to what it had begun at the last look, and the number of that beginning.
        self._begun: dict[bytes, tuple[tuple[bytes, int], int]] = {}
        self._beginnings = 0
        #: The worker that was killed for its memory, until it is gone.
        self._ending: bytes = b""

    def watch(self) -> None:
        """Look at regular intervals from now on, until nothing runs."""
        if self._timer is None and self._interval:
            self._timer = self._context.reactor.call_later(self._interval, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._context.closing or not self._lease_table.leases:
            self._begun.clear()
            return
        self.watch()
        self._note_beginnings()
        if self._ending and self._worker_table.get(self._ending) is not None:
            return  # its memory is on its way back
        self._ending = b""
        try:
            machine = self._probe.of_machine()
        except OSError:
            return  # no descriptor is left to read it by: next time
        allowed = machine.total * self._context.config.memory_usage_percent // 100
        if machine.used > allowed:
            self._relieve(machine.used, allowed, f"the machine's {machine.total / 1e9:.3g} GB")
        elif self._limit:
            used = self._store() + sum(one.size for one in self._processes())
            if used > self._limit:
                self._relieve(used, self._limit, "the session's memory")

    def _note_beginnings(self) -> None:
        for worker in self._worker_table:
            begun = self._progress.last_begun(worker.slot)
            known = self._begun.get(worker.id)
            if known is None or known[0] != begun:
                self._beginnings += 1
                self._begun[worker.id] = (begun, self._beginnings)
        for gone in [one for one in self._begun if self._worker_table.get(one) is None]:
            del self._begun[gone]

    def _relieve(self, used: int, limit: int, of: str) -> None:
        processes = self._processes()
        debugged = self._debugged()
        chosen = oom.victim([one for one in processes if one.worker not in debugged])
        worker = self._worker_table.get(chosen.worker) if chosen is not None else None
        if chosen is None or worker is None:
            return
        text = oom.story(chosen, processes, self._store(), used, limit, of)
        self._context.event("ERROR", "MEMORY", f"ending {chosen.name} (process {chosen.pid}): {text}")
        self._ending = worker.id
        self._workers.kill(worker, text, out_of_memory=True)

    def _store(self) -> int:
        return self._object_store.bytes_of_objects(on_disk=False)

    def _processes(self) -> list[oom.Process]:
        found = []
        for client in self._context.clients.drivers():
            # The session's roles and workers may be among its children.
            size = self._probe.of_process(client.pid, with_children=False)
            found.append(oom.Process(b"", client.pid, "the driver", size, "driver", False, 0))
        return found + [self._process(worker) for worker in self._worker_table if worker.pid]

    def _process(self, worker: WorkerProcess) -> oom.Process:
        began = self._begun.get(worker.id, ((b"", 0), 0))[1]
        size = self._probe.of_process(worker.pid)
        if worker.actor is not None:
            name, kind = f"actor {worker.name}", "actor"
            repeatable = worker.restartable
        elif self._lease_table.lease_of(worker.id) is not None:
            name, kind = "a task", "task"
            repeatable = self._progress.is_repeatable(worker.slot)
        else:
            name, kind, repeatable = "an idle worker", "idle", True
        return oom.Process(worker.id, worker.pid, name, size, kind, repeatable, began)
