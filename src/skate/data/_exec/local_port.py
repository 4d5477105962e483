"""Tasks in the caller's process: an item of one task at each wait, in turn. No thread, no session."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from skate.data._exec.commands import StartReplica, Submit
from skate.data._exec.port import (
    BlockMade,
    Event,
    Port,
    ReplicaDied,
    ReplicaReady,
    TaskDone,
    TaskFailed,
    spec_of,
)
from skate.data._exec.stages import Kind, Stage
from skate.data._exec.work import FilePart, Input, Output, Report, load, run_task
from skate.data._task.operators import Replica, open_all
from skate.data._task.slices import BlockSlice


class LocalPort(Port):
    """Runs tasks one item at a time, as the consumer asks for them.

    A user's function sees the caller's own globals, and what ends its process ends the caller's. No other
    thread takes part, so an execution that nobody reads does nothing.
    """

    name = "local"

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._stages: Sequence[Stage] = ()
        self._target_bytes = 0
        self._running: dict[int, Iterator[Output | Report]] = {}
        self._held: set[int] = set()
        self._events: deque[Event] = deque()
        self._replicas: dict[int, Replica] = {}
        self._shared: dict[int, Replica] = {}

    def cpus(self) -> float:
        return 1.0

    def memory_bytes(self) -> int:
        return self._memory_bytes

    def open(
        self, stages: Sequence[Stage], target_bytes: int, window_bytes: int, kept_bytes: int, folder: str
    ) -> None:
        self._stages = stages
        self._target_bytes = target_bytes

    def submit(self, command: Submit) -> None:
        stage = self._stages[command.stage]
        inputs = [Input(_here(piece.block), piece.start, piece.stop) for piece in command.bundle.slices]
        read = stage.read_tasks[command.bundle.params] if stage.kind is Kind.SOURCE else None
        spec = spec_of(command, stage, inputs, read, self._target_bytes, merges_small=False)
        try:
            replica = self._replica(command)
        except Exception as error:
            self._events.append(TaskFailed(command.task, error, is_crash=False))
            return
        self._running[command.task] = run_task(stage.operators, spec, (), replica)

    def _replica(self, command: Submit) -> Replica:
        if command.replica is not None:
            return self._replicas[command.replica]
        found = self._shared.get(command.stage)
        if found is None:
            found = self._shared[command.stage] = open_all(self._stages[command.stage].operators, Replica())
        return found

    def start_replica(self, command: StartReplica) -> None:
        try:
            self._replicas[command.replica] = open_all(self._stages[command.stage].operators, Replica())
        except Exception as error:
            self._events.append(ReplicaDied(command.replica, error, is_crash=False))
        else:
            self._events.append(ReplicaReady(command.replica))

    def stop_replica(self, replica: int) -> None:
        self._replicas.pop(replica, None)

    def cancel(self, task: int) -> None:
        running = self._running.pop(task, None)
        if running is not None:
            running.close()  # type: ignore[attr-defined]
        self._held.discard(task)

    def hold(self, task: int) -> None:
        self._held.add(task)

    def release(self, task: int) -> None:
        self._held.discard(task)

    def wait(self, timeout_s: float | None) -> list[Event]:
        if self._events:
            events = list(self._events)
            self._events.clear()
            return events
        # The newest task is the one nearest to the consumer: the scheduler serves the lowest stages first.
        task = next((one for one in reversed(self._running) if one not in self._held), None)
        if task is None:
            return []
        try:
            item = next(self._running[task])
        except Exception as error:
            self._running.pop(task, None)
            return [TaskFailed(task, error, is_crash=False)]
        if isinstance(item, Report):
            del self._running[task]
            return [TaskDone(task, item)]
        return [BlockMade(task, BlockSlice.whole(item.block, item.meta), item.letters, so_far=item.so_far)]

    def fetch(self, piece: BlockSlice) -> pa.Table:
        return load(_here(piece.block), piece.start, piece.stop)

    def put(self, block: pa.Table) -> Any:
        return block

    def close(self) -> None:
        for task in list(self._running):
            self.cancel(task)
        self._replicas.clear()
        self._shared.clear()


def _here(block: Any) -> Any:
    """Return a block that this process can read: one in shared memory, of an earlier execution, is mapped."""
    if isinstance(block, (pa.Table, FilePart)):
        return block
    from skate import api

    return api.get(block)
