"""Small work in the caller's process; what turns out to take long goes to skate.

An execution over a few kilobytes is over before a session has started. Whether it will be is not known
before: a function may sleep. So tasks run in the caller's process for PATIENCE_S in all, and those that are
submitted later run on skate, in parallel.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from skate.data._exec.commands import StartReplica, Submit
from skate.data._exec.local_port import LocalPort
from skate.data._exec.port import CpusChanged, Event, NoCpusError, Port
from skate.data._exec.stages import Stage
from skate.data._operators.unpicklable import UnpicklableError
from skate.data._task.slices import BlockSlice

#: Seconds of work in the caller's process before further tasks go elsewhere.
PATIENCE_S = 0.2


class HybridPort(Port):
    """Runs tasks locally for a moment, then on another port.

    Args:
        local: runs the first ones.
        make_remote: makes the other port, when a task is submitted to it.
        cpus: that the other port will have.
        clock: seconds.
    """

    name = "local"

    def __init__(
        self,
        local: LocalPort,
        make_remote: Callable[[], Port],
        cpus: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._local = local
        self._make_remote = make_remote
        self._clock = clock
        self._remote: Port | None = None
        self._opened: tuple[Sequence[Stage], int, int, int, str] | None = None
        self._cpus = cpus
        self._spent_s = 0.0
        self._is_impatient = False
        self._is_remote: dict[int, bool] = {}
        self._stays: set[int] = set()  # stages that cannot go elsewhere

    def cpus(self) -> float:
        return self._cpus if self._is_impatient else self._local.cpus()

    def memory_bytes(self) -> int:
        return self._local.memory_bytes()

    def open(
        self, stages: Sequence[Stage], target_bytes: int, window_bytes: int, kept_bytes: int, folder: str
    ) -> None:
        self._opened = (stages, target_bytes, window_bytes, kept_bytes, folder)
        self._local.open(*self._opened)

    def submit(self, command: Submit) -> None:
        self._is_remote[command.task] = self._is_impatient and self._submit_remotely(command)
        if not self._is_remote[command.task]:
            self._local.submit(command)

    def _submit_remotely(self, command: Submit) -> bool:
        """Run a task elsewhere, and tell whether it can be: if not, small data works here anyway."""
        assert self._opened is not None
        stages = self._opened[0]
        if command.stage in self._stays:
            return False
        try:
            if self._remote is None:
                began = self._clock()
                remote = self._make_remote()
                remote.open(*self._opened)
                remote.cpus()  # starts a session if there is none
                self._remote, self.start_s = remote, self._clock() - began
            self._remote.submit(command)
        except UnpicklableError:
            self._stays.add(command.stage)
        except NoCpusError:
            self._stays.update(range(len(stages)))
        return command.stage not in self._stays

    def _port_of(self, task: int) -> Port:
        return self._remote if self._remote is not None and self._is_remote.get(task) else self._local

    def start_replica(self, command: StartReplica) -> None:
        self._local.start_replica(command)

    def stop_replica(self, replica: int) -> None:
        self._local.stop_replica(replica)

    def cancel(self, task: int) -> None:
        self._port_of(task).cancel(task)

    def hold(self, task: int) -> None:
        self._port_of(task).hold(task)

    def release(self, task: int) -> None:
        self._port_of(task).release(task)

    def wait(self, timeout_s: float | None) -> list[Event]:
        started = self._clock()
        events = self._local.wait(timeout_s)
        self._spent_s += self._clock() - started
        if self._remote is not None:
            events += self._remote.wait(0 if events else timeout_s)
        if not self._is_impatient and self._spent_s > PATIENCE_S:
            self._is_impatient = True
            events.append(CpusChanged(self._cpus))
        return events

    def fetch(self, piece: BlockSlice) -> pa.Table:
        if isinstance(piece.block, pa.Table) or self._remote is None:
            return self._local.fetch(piece)
        return self._remote.fetch(piece)

    def put(self, block: pa.Table) -> Any:
        return self._local.put(block)

    def close(self) -> None:
        self._local.close()
        if self._remote is not None:
            self._remote.close()
