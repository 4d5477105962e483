"""Watches memory while anything runs here: the machine's, and the session's own if it has a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skate._base import memory
from skate._node.memory import oom
from skate._transport.reactor import Timer

if TYPE_CHECKING:
    from skate._node.daemon import Daemon
    from skate._node.workers.table import WorkerProcess


class MemoryHandlers:
    """The daemon's part about memory."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._timer: Timer | None = None
        self._interval = daemon.config.memory_monitor_refresh_ms / 1000
        self._limit = daemon.config.memory_limit_bytes
        #: Worker to what it had begun at the last look, and the number of that beginning.
        self._begun: dict[bytes, tuple[tuple[bytes, int], int]] = {}
        self._beginnings = 0
        #: It was told to end, and is not gone yet.
        self._ending: bytes = b""

    def watch(self) -> None:
        """Something runs: look from now on, until nothing does."""
        if self._timer is None and self._interval:
            self._timer = self._daemon.reactor.call_later(self._interval, self._look)

    def _look(self) -> None:
        self._timer = None
        daemon = self._daemon
        if daemon.closing or not daemon.leases.leases:
            self._begun.clear()
            return
        self.watch()
        self._note_beginnings()
        if self._ending and daemon.workers.get(self._ending) is not None:
            return  # its memory is on its way back
        self._ending = b""
        try:
            machine = memory.of_machine()
        except OSError:
            return  # no descriptor is left to read it by: next time
        allowed = machine.total * daemon.config.memory_usage_percent // 100
        if machine.used > allowed:
            self._relieve(machine.used, allowed, f"the machine's {machine.total / 1e9:.3g} GB")
        elif self._limit:
            used = self._store() + sum(one.size for one in self._processes())
            if used > self._limit:
                self._relieve(used, self._limit, "the session's memory")

    def _note_beginnings(self) -> None:
        daemon = self._daemon
        alive = set()
        for worker in daemon.workers:
            alive.add(worker.id)
            word = daemon.board.read(worker.slot)
            known = self._begun.get(worker.id)
            if known is None or known[0] != word:
                self._beginnings += 1
                self._begun[worker.id] = (word, self._beginnings)
        for gone in self._begun.keys() - alive:
            del self._begun[gone]

    def _relieve(self, used: int, limit: int, of: str) -> None:
        daemon = self._daemon
        processes = self._processes()
        watched = daemon.breakpoints.workers  # somebody looks at these
        chosen = oom.victim([one for one in processes if one.worker not in watched])
        worker = daemon.workers.get(chosen.worker) if chosen is not None else None
        if chosen is None or worker is None:
            return
        text = oom.story(chosen, processes, self._store(), used, limit, of)
        daemon.event("ERROR", "MEMORY", f"ending {chosen.name} (process {chosen.pid}): {text}")
        self._ending = worker.id
        worker.out_of_memory = True
        daemon.processes.kill(worker, text)

    def _store(self) -> int:
        return self._daemon.store.bytes_of_objects(on_disk=False)

    def _processes(self) -> list[oom.Process]:
        daemon = self._daemon
        found = [
            # The session's roles and workers may be among its children.
            oom.Process(b"", client.pid, "the driver", memory.of_process(client.pid, with_children=False),
                        "driver", False, 0)
            for client in daemon.clients.values()
            if client.kind == "driver"
        ]  # fmt: skip
        return found + [self._process(worker) for worker in daemon.workers if worker.pid]

    def _process(self, worker: WorkerProcess) -> oom.Process:
        daemon = self._daemon
        began = self._begun.get(worker.id, ((b"", 0), 0))[1]
        size = memory.of_process(worker.pid)
        if worker.actor is not None:
            name, kind = f"actor {worker.name}", "actor"
            repeatable = daemon.actors.restartable(worker.id)
        elif daemon.leases.lease_of(worker.id) is not None:
            name, kind = "a task", "task"
            repeatable = daemon.board.repeatable(worker.slot)
        else:
            name, kind, repeatable = "an idle worker", "idle", True
        return oom.Process(worker.id, worker.pid, name, size, kind, repeatable, began)
