"""Drives a scheduler and a port for a consumer, in the consumer's thread."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from skate.data._exec.budget import block_bytes, kept_bytes, window_bytes
from skate.data._exec.commands import (
    Cancel,
    Command,
    Fail,
    Hold,
    PartDone,
    Release,
    StartReplica,
    StopReplica,
    Submit,
)
from skate.data._exec.crashes import explain_crash
from skate.data._exec.port import (
    BlockMade,
    CpusChanged,
    Event,
    Port,
    ReplicaDied,
    ReplicaReady,
    TaskDone,
    TaskFailed,
)
from skate.data._exec.scheduler import Scheduler
from skate.data._exec.schemas import SchemaWatch
from skate.data._exec.spill_folder import SpillFolder, sweep
from skate.data._exec.stages import Kind, Stage
from skate.data._exec.stalls import describe_stall
from skate.data._exec.states import Limits
from skate.data._exec.statistics import Statistics
from skate.data._io.commit_letters import Failures
from skate.data._io.sink import Sink
from skate.data._io.writers.one_schema import Written
from skate.data._operators.dead_letters import SEEN
from skate.data._task.exchange import ExchangeLimits
from skate.data._task.operators import Letter
from skate.data._task.slices import BlockSlice
from skate.data.exceptions import ExecutionTimeoutError, describe, for_caller

#: Read tasks that wait at least, as long as a source makes more, and how many are made at a time.
_LEAST_LISTED, _LISTED_AT_A_TIME = 8, 16


class Observer(Protocol):
    """Looks at an execution, for progress."""

    def __call__(self, execution: Execution) -> None:
        """Look at it; events were taken in."""

    def ended(self, execution: Execution) -> None:
        """Look at it for the last time."""


class Execution:
    """One run of a plan. Iterate over it for the slices of its output; it is a context manager.

    Nothing happens between two calls of ``next`` but what tasks under way do by themselves.

    Args:
        stages: the plan, cut into stages.
        port: where tasks run. The execution closes it.
        memory_bytes: the budget; None: what the port offers.
        target_bytes: size at which tasks cut their output; less if the budget is small.
        on_report: called with the rows that failed and the counters of a task, as soon as it reports them; it
            raises if they are too many.
        on_end: called when all output was made; it raises if something is wrong after all.
        observer: called with the execution after each turn, and at its end.
        most_cpus: CPUs that it may use; None: all that the port has.
        stall_s: seconds without any event after which it fails; None: never.
        schemas: compares the columns of blocks; None: they may differ.

    Attributes:
        stats: what has happened so far.
        target_bytes: size at which tasks cut their output.
        letters: rows that failed and were kept; the maker of the execution fills it.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        port: Port,
        memory_bytes: int | None = None,
        target_bytes: int = 128 << 20,
        on_report: Callable[[Sequence[Letter], Mapping[str, int]], None] | None = None,
        on_end: Callable[[], None] | None = None,
        observer: Observer | None = None,
        most_cpus: float | None = None,
        stall_s: float | None = None,
        schemas: SchemaWatch | None = None,
    ) -> None:
        self._most_cpus = math.inf if most_cpus is None else most_cpus
        self._stall_s = stall_s
        self._schemas = schemas
        cpus = min(port.cpus(), self._most_cpus)
        budget = memory_bytes if memory_bytes is not None else port.memory_bytes()
        self._sink: Sink | None = stages[-1].sink
        limits = Limits(budget, cpus, 0 if port.name == "local" else 1, is_strict=memory_bytes is not None)
        self.target_bytes = block_bytes(limits, target_bytes)
        finished = self._sink.finished() if self._sink is not None else ()
        self.stages = stages
        self.port = port
        exchange = ExchangeLimits(self.target_bytes, max(1, int(cpus if most_cpus is None else most_cpus)))
        self.scheduler = Scheduler(stages, limits, exchange, finished)
        self.stats = Statistics(stages, port.name, budget, cpus)
        self._folder = SpillFolder()
        self._on_report = on_report
        self._on_end = on_end
        self._observer = observer
        self.letters: list[Letter] = []
        self._has_begun = False
        self._taken_at: float | None = None
        self._is_closed = False
        self._error: BaseException | None = None
        self._task_names: dict[int, str] = {}
        # The letters of tasks under way: one that a crash repeats finds the same rows again.
        self._seen_letters: dict[str, set[tuple[str, str, str]]] = {}
        # For a sink that can be resumed: what failed of each part of the source that is not yet written.
        self._failures: dict[str, Failures] = {}
        sweep()
        port.open(stages, self.target_bytes, window_bytes(limits), kept_bytes(limits), self._folder.path)

    def __enter__(self) -> Execution:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[BlockSlice]:
        return self

    def __next__(self) -> BlockSlice:
        if self._taken_at is not None:
            self.stats.consumer_s += time.perf_counter() - self._taken_at
            self._taken_at = None
        while self._is_closed or not self.scheduler.outbox:
            if self._error is not None:
                raise self._error
            if self.scheduler.is_finished or self._is_closed:
                self.close()
                raise StopIteration
            self._turn()
        piece = self.scheduler.outbox.popleft()
        self._carry_out(self.scheduler.took(piece))
        self._taken_at = time.perf_counter()
        return piece

    def _turn(self) -> None:
        try:
            if not self._has_begun:
                self._has_begun = True
                self._carry_out(self.scheduler.begin())
            self._list()
            if self.scheduler.outbox or self.scheduler.is_finished:
                return
            started = time.perf_counter()
            events = self.port.wait(self._stall_s)
            waited = time.perf_counter() - started
            self.stats.waited(waited)
            self.stats.start_s = self.port.start_s
            if not events and self._stall_s is not None and waited >= self._stall_s:
                raise ExecutionTimeoutError(describe_stall(self.scheduler.stages, self.stats, waited))
            if not events:
                raise RuntimeError(
                    "skate.data has nothing that runs and nothing to do, and is not finished; this is a bug "
                    f"of skate: {self.stats.as_text()}"
                )
            for event in events:
                self._happened(event)
            if self.scheduler.is_finished and self._on_end is not None:
                self._on_end()
            if self._observer is not None:
                self._observer(self)
        except BaseException as error:
            self._error = error
            self.close()
            raise

    def _list(self) -> None:
        """Make further read tasks of sources that have few left: listings go on while rows are read."""
        while wanted := self.scheduler.sources_to_list(_LEAST_LISTED):
            for index in wanted:
                tasks = self.stages[index].read_tasks
                tasks.make(len(tasks) + _LISTED_AT_A_TIME)
                self._carry_out(self.scheduler.listed(index))

    def _happened(self, event: Event) -> None:
        scheduler = self.scheduler
        if isinstance(event, BlockMade):
            self.stats.block_made(event.task, event.so_far)
            command = self.stats.command_of(event.task)
            self._reported(command, self._news(event.task, event.letters), {})
            if self._schemas is not None and command is not None:
                self._schemas.check(self.stages[command.stage].name, command, event.piece)
                if self._sink is not None and isinstance(event.piece.meta.extra, Written):
                    self._schemas.wrote(self._sink, event.piece.meta.extra)
            self._carry_out(scheduler.block_made(event.task, event.piece, event.peak_bytes))
        elif isinstance(event, TaskDone):
            command = self.stats.command_of(event.task)
            seconds = self.stats.task_done(event.task, event.report)
            self._reported(command, self._news(event.task, event.report.letters), event.report.counts)
            self._seen_letters.pop(self._task_names.pop(event.task, ""), None)
            if command is not None and self.stages[command.stage].kind is Kind.SOURCE:
                self.stages[command.stage].read_tasks.forget(command.bundle.params)
            self._carry_out(scheduler.task_done(event.task, event.report.peak_bytes, seconds))
        elif isinstance(event, TaskFailed):
            if event.is_crash:
                self._explain_crash(event)
            self.stats.task_failed(event.task)
            self._task_names.pop(event.task, None)
            self._carry_out(scheduler.task_failed(event.task, event.error, event.is_crash))
        elif isinstance(event, ReplicaReady):
            self.stats.replica_ready(event.replica)
            self._carry_out(scheduler.replica_ready(event.replica, event.resident_bytes))
        elif isinstance(event, ReplicaDied):
            self.stats.replica_ended(event.replica)
            self._carry_out(scheduler.replica_died(event.replica, event.error, event.is_crash))
        elif isinstance(event, CpusChanged):
            cpus = min(event.cpus, self._most_cpus)
            self.stats.cpus_changed(cpus)
            self._carry_out(scheduler.cpus_changed(cpus))

    def _news(self, task: int, letters: Sequence[Letter]) -> Sequence[Letter]:
        """Return the letters of a task that no attempt before it has reported."""
        if not letters:
            return letters
        seen = self._seen_letters.setdefault(self._task_names.get(task, ""), set())
        found = [one for one in letters if (one.stage, one.path, one.row_id) not in seen]
        seen.update((one.stage, one.path, one.row_id) for one in found)
        return found

    def _explain_crash(self, event: TaskFailed) -> None:
        command = self.stats.command_of(event.task)
        if command is not None:
            explain_crash(event.error, self.stages[command.stage].name, command)

    def _reported(self, command: Submit | None, letters: Sequence[Letter], counts: Mapping[str, int]) -> None:
        if (letters or counts) and self._on_report is not None:
            self._on_report(letters, counts)
        if self._sink is None or not self._sink.is_resumable:
            return
        seen = {name: rows for name, rows in counts.items() if name.startswith(SEEN)}
        if (letters or seen) and command is not None:
            self._failures.setdefault(command.origin, Failures()).take(letters, seen)

    def _carry_out(self, commands: Sequence[Command]) -> None:
        port = self.port
        failed: BaseException | None = None
        for command in commands:
            if isinstance(command, Submit):
                self.stats.submitted(command)
                self._task_names[command.task] = command.name
                if command.to_file:
                    self._folder.make()
                port.submit(command)
            elif isinstance(command, StartReplica):
                self.stats.replica_started(command)
                port.start_replica(command)
            elif isinstance(command, StopReplica):
                self.stats.replica_ended(command.replica)
                port.stop_replica(command.replica)
            elif isinstance(command, Cancel):
                self.stats.task_cancelled(command.task)
                self._task_names.pop(command.task, None)
                port.cancel(command.task)
            elif isinstance(command, Hold):
                port.hold(command.task)
            elif isinstance(command, Release):
                port.release(command.task)
            elif isinstance(command, PartDone):
                if self._sink is not None:
                    results = [written.result for written in command.results]
                    self._sink.record(command.part, results, self._failures.pop(command.part, Failures()))
            elif isinstance(command, Fail):
                failed = command.error
        if failed is not None:
            raise failed

    def fetch(self, piece: BlockSlice) -> pa.Table:
        """Return the rows of a slice of the output."""
        return self.port.fetch(piece)

    def pieces_before(self, name: str) -> list[BlockSlice]:
        """Return slices that lie before a stage now, then those that it works on. Any thread may call it.

        Args:
            name: a part of the stage's name; ``""``: slices before the consumer are wanted.

        Raises:
            ValueError: there is no such stage, or more than one.
        """
        if not name:
            return list(self.scheduler.outbox)
        found = [state for state in self.scheduler.stages if state.spec.inputs and name in state.spec.name]
        if len(found) != 1:
            names = [state.spec.name for state in self.scheduler.stages if state.spec.inputs]
            raise ValueError(
                f"{len(found)} of the stages with an input have {name!r} in their name; they are {names}"
            )
        taken = [piece for task in list(found[0].running.values()) for piece in task.bundle.slices]
        return [*found[0].inbox.slices(), *taken]

    def results(self) -> list[Written]:
        """Return what the tasks of the sink reported.

        The caller has started the sink before it made the execution, and commits it.
        """
        return self.scheduler.extras

    def close(self) -> None:
        """End what is left of the execution. Slices that were taken stay valid, but for those in files."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._error is not None:
            outcome = f"was ended by {describe(for_caller(self._error)).splitlines()[0]}"
        elif self.scheduler.is_finished and not self.scheduler.outbox:
            outcome = "finished"
        else:
            outcome = "was stopped before its end, as no more rows were asked for"
        try:
            for command in self.scheduler.stop():
                if isinstance(command, Cancel):
                    self.stats.task_cancelled(command.task)
                    self.port.cancel(command.task)
                elif isinstance(command, StopReplica):
                    self.stats.replica_ended(command.replica)
                    self.port.stop_replica(command.replica)
        finally:
            self.port.close()
            self.stats.ended(outcome)
            if self._observer is not None:
                self._observer.ended(self)
            self._folder.remove()
