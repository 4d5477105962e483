"""Decides what an execution does next: events in, commands out; no I/O, no clock, no blocks.

::

    SOURCE ──► CHAIN ──► BARRIER ──► LIMIT ──► outbox ──► consumer
      tasks      tasks     tasks

Rules, in the order in which they apply:

1. *Demand comes from the consumer.* The stage nearest to it that has a bundle is served first; sources last.
2. *One budget.* A task is submitted only if what it may make and use fits beside everything that is held
   (``budget``): slices in inboxes, in reorder windows and in the outbox, inputs and working sets of running
   tasks, models of pools. The stage nearest to the consumer that has a bundle and nothing running may always
   have one task; so an execution with work never waits for nothing.
3. *Order.* Bundles of a stage are numbered. The output of an ordered stage goes on in that order;
   the task whose turn it is passes its blocks on at once, those of later ones are held, and their tasks are
   held back when their part of the budget is full.
4. *Back-pressure.* A task whose stage's output is not being taken is held: the port reads nothing of it, so
   its process stops within its window, and then lends its CPU. The task whose turn it is in a stage below
   which nothing runs is never held.
5. *Crashes.* A task that a crash ended is given to any process again; the rows that it had passed on are
   skipped. The second time, it runs isolated: rows that end a process end that of their call. A replica that
   died is replaced. All of it is bounded; then the execution fails with the last error.

A limit that has its rows closes everything above it: running tasks there are cancelled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from skate.data._exec.budget import Budget
from skate.data._exec.commands import Cancel, Command, Fail, Hold, Release, Submit
from skate.data._exec.demand import Demand
from skate.data._exec.inbox import PassingInbox, SourceInbox, make_inbox
from skate.data._exec.parts import Parts
from skate.data._exec.replicas import MAX_REPLICA_DEATHS, Replicas
from skate.data._exec.shares import rows_for_next
from skate.data._exec.stage_sets import StageSets
from skate.data._exec.stages import Kind, Stage
from skate.data._exec.states import Limits, Replica, StageState, Task
from skate.data._task.exchange import ExchangeLimits
from skate.data._task.slices import BlockSlice

#: How often a bundle is run again after crashes of its process.
MAX_CRASHES = 3


class Scheduler:
    """The state of one execution. Every method is an event and returns commands, in order.

    Args:
        stages: the plan.
        limits: memory and CPUs.
        exchange: for the plans of barriers.
        finished_parts: of the source, that an earlier run has written.

    Attributes:
        outbox: what the consumer may take, in order; ``took`` tells that it did.
        is_finished: all output is in the outbox.
        extras: what the operators of the last stage said of their blocks, in the order of the output.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        limits: Limits,
        exchange: ExchangeLimits,
        finished_parts: Sequence[str] = (),
    ) -> None:
        consumers: dict[int, tuple[int, int]] = {}
        for stage in stages:
            for side, above in enumerate(stage.inputs):
                consumers[above] = (stage.index, side)
        self._limits = limits
        self.stages = [
            StageState(
                stage,
                make_inbox(stage, exchange, finished_parts),
                *consumers.get(stage.index, (None, 0)),
            )
            for stage in stages
        ]
        self._sets = StageSets(self.stages)
        self._budget = Budget(self._sets, limits)
        self._demand = Demand(self._sets, self._is_full)
        self.outbox: deque[BlockSlice] = deque()
        self.outbox_bytes = 0
        self.extras: list[Any] = []
        self.is_finished = False
        self._commands: list[Command] = []
        self._tasks: dict[int, Task] = {}
        self._replicas = Replicas()
        self._parts = Parts(any(stage.is_repeatable for stage in stages))
        self._next_task = 0
        self._failed = False

    # ------------------------------------------------------------------------------------------ events

    def begin(self) -> list[Command]:
        """Start: replicas of all pools first, so that they load while sources read."""
        for state in self.stages:
            if state.spec.pool is not None:
                self._commands += self._replicas.start_first(state)
        for state in self.stages:
            self._finish_if_done(state)  # those of no rows
        return self._decide()

    def listed(self, stage: int) -> list[Command]:
        """More read tasks of a source have been made, or all of them."""
        inbox = self.stages[stage].inbox
        assert isinstance(inbox, SourceInbox)
        inbox.listed()
        if inbox.is_closed:
            self._sets.listing.pop(stage, None)
        self._sets.got(self.stages[stage])
        self._finish_if_done(self.stages[stage])
        return self._decide()

    def sources_to_list(self, least: int) -> list[int]:
        """Return the sources of which fewer than ``least`` tasks wait, and more may be made."""
        return [index for index, inbox in self._sets.listing.items() if inbox.waiting() < least]

    def block_made(self, task: int, piece: BlockSlice, peak_bytes: int = 0) -> list[Command]:
        """A task made a block.

        Args:
            task: its number.
            piece: the block.
            peak_bytes: bytes of memory of its own that it used so far; 0: not measured.
        """
        found = self._tasks.get(task)
        if found is None:
            return []
        state = self.stages[found.stage]
        if peak_bytes:
            state.is_measured = True
            state.peak_bytes = max(peak_bytes, state.peak_bytes)
        if state.spec.sink is not None and piece.meta.extra is not None:
            if found.has_result:
                return self._decide()
            found.has_result = True
        if state.spec.keeps:
            # A barrier waits for all tasks anyway, and another attempt may cluster its rows in other ranges.
            found.made.append(piece)
            state.made_bytes += piece.memory_bytes
            return self._decide()
        found.passed_rows += piece.num_rows
        self._let_through(state, found, piece)
        return self._decide()

    def _let_through(self, state: StageState, found: Task, piece: BlockSlice) -> None:
        state.rows_out += piece.num_rows
        state.bytes_out += piece.size_bytes
        state.blocks_out += 1
        if state.spec.is_ordered and found.sequence != state.turn:
            state.waiting.setdefault(found.sequence, []).append((found.origin, piece))
            state.waiting_bytes += piece.memory_bytes
        else:
            self._pass_on(state, found.origin, piece)

    def task_done(self, task: int, peak_bytes: int = 0, seconds: float = 0.0) -> list[Command]:
        """A task has ended, and all that it made was reported.

        Args:
            task: its number.
            peak_bytes: bytes of memory of its own that it used; 0: not measured.
            seconds: it ran, without those in which nobody took its output.
        """
        found = self._forget(task)
        if found is None:
            return []
        state = self.stages[found.stage]
        state.tasks_done += 1
        state.is_measured = True
        if found.bundle.num_rows:
            a_row = seconds / found.bundle.num_rows
            before = state.seconds_per_row
            state.seconds_per_row = a_row if before is None else (a_row + before) / 2
        state.replica_deaths = 0
        state.peak_bytes = max(peak_bytes, state.peak_bytes * 7 // 8)
        for piece in self._unmade(state, found):
            self._let_through(state, found, piece)
        self._end_bundle(state, found)
        return self._decide()

    def task_failed(self, task: int, error: BaseException, is_crash: bool) -> list[Command]:
        """A task raised, or its process ended.

        Args:
            task: its number.
            error: what ``get`` raised.
            is_crash: the process ended, or the runtime failed: the task may be run again.
        """
        found = self._forget(task)
        if found is None:
            return []
        found.crashes += 1
        if not is_crash or found.crashes > MAX_CRASHES:
            return self._fail(error)
        state = self.stages[found.stage]
        self._unmade(state, found)
        found.replica, found.is_held = None, False
        state.retries.append(found)
        self._sets.got(state)
        return self._decide()

    def _unmade(self, state: StageState, task: Task) -> list[BlockSlice]:
        """Return what a task has made so far and was kept back, and forget it."""
        made, task.made = task.made, []
        state.made_bytes -= sum(piece.memory_bytes for piece in made)
        return made

    def replica_ready(self, replica: int, resident_bytes: int = 0) -> list[Command]:
        """A replica has loaded.

        Args:
            replica: its number.
            resident_bytes: memory that its process has without tasks; 0: not measured.
        """
        self._replicas.ready(replica, resident_bytes)
        return self._decide()

    def replica_died(self, replica: int, error: BaseException, is_crash: bool) -> list[Command]:
        """A replica's process ended, or its constructor raised.

        Its tasks are reported one by one, by ``task_failed``.
        """
        died = self._replicas.died(replica)
        if died is None:
            return []
        state = self.stages[died.stage]
        state.replicas.pop(replica, None)
        # The death is counted with the task that it ran. Those that waited behind that one are not to blame.
        state.replica_deaths += not died.tasks
        for task in sorted(died.tasks)[1:]:
            self._tasks[task].crashes -= 1
        if not is_crash or state.replica_deaths > MAX_REPLICA_DEATHS:
            return self._fail(error)
        return self._decide()

    def cpus_changed(self, cpus: float) -> list[Command]:
        """Tasks may use more or fewer CPUs from now on."""
        self._limits = replace(self._limits, cpus=cpus)
        return self._decide()

    def took(self, piece: BlockSlice) -> list[Command]:
        """The consumer took a slice from the outbox."""
        self.outbox_bytes -= piece.memory_bytes
        return self._decide()

    def stop(self) -> list[Command]:
        """The consumer wants no more."""
        self._cut(self.stages[-1])
        self.is_finished = True
        return self._drain()

    # ------------------------------------------------------------------------------------------ facts

    def held_bytes(self) -> int:
        """Return the bytes of all blocks that the execution holds."""
        return self._budget.held(self.outbox_bytes)

    # ------------------------------------------------------------------------------------------ output

    def _pass_on(self, state: StageState, origin: str, piece: BlockSlice) -> None:
        if state.consumer is None:
            if piece.meta.extra is not None and state.spec.sink is not None:
                self.extras.append(piece.meta.extra)
                self._parts.written(origin, piece.meta.extra)
            if piece.num_rows or state.spec.sink is None:
                self.outbox.append(piece)
                self.outbox_bytes += piece.memory_bytes
            return
        below = self.stages[state.consumer]
        if below.is_cut or state.is_cut:
            return
        self._parts.passed_on(origin, piece.num_rows)
        below.inbox.put(state.side, origin, piece)
        self._sets.got(below)
        if isinstance(below.inbox, PassingInbox):
            self._pass_through(below)

    def _pass_through(self, state: StageState) -> None:
        """Let slices go on through a stage that runs no tasks."""
        inbox = state.inbox
        assert isinstance(inbox, PassingInbox)
        while inbox.has_bundle() and (
            not self._is_full(state) or self._demand.starves_below(state, bool(self.outbox))
        ):
            origin, piece = inbox.take_slice()
            state.rows_out += piece.num_rows
            state.blocks_out += 1
            state.bytes_out += piece.size_bytes
            self._pass_on(state, origin, piece)
        if inbox.is_full:
            for above in state.spec.inputs:
                self._cut(self.stages[above])
        if (inbox.is_closed or inbox.is_full) and not inbox.has_bundle():
            self._finish(state)

    def _end_bundle(self, state: StageState, task: Task) -> None:
        """Note that a bundle's output is complete; let those behind it go on if it was their turn."""
        if not state.spec.is_ordered:
            self._through(state, task)
        else:
            state.ended[task.sequence] = task
            while state.turn in state.ended:
                self._through(state, state.ended.pop(state.turn))
                state.turn += 1
                turn = state.waiting.pop(state.turn, ())
                state.waiting_bytes -= sum(piece.memory_bytes for _, piece in turn)
                for origin, piece in turn:
                    self._pass_on(state, origin, piece)
        self._finish_if_done(state)

    def _finish_if_done(self, state: StageState) -> None:
        if state.is_done or state.running or state.retries or state.waiting:
            return
        if isinstance(state.inbox, PassingInbox):
            self._pass_through(state)
        elif state.inbox.is_closed and not state.inbox.has_bundle():
            self._finish(state)

    def _finish(self, state: StageState) -> None:
        if state.is_done:
            return
        state.is_done = True
        self._sets.ended(state)
        self._commands += self._replicas.stop_all(state)
        if state.consumer is None:
            self.is_finished = True
            return
        below = self.stages[state.consumer]
        below.inbox.close(state.side)
        self._sets.got(below)
        self._finish_if_done(below)

    def _cut(self, state: StageState) -> None:
        """End a stage whose output is not wanted, and all above it."""
        if state.is_cut or state.is_done:
            state.inbox.clear()
            return
        state.is_cut = state.is_done = True
        self._sets.ended(state)
        state.inbox.clear()
        state.waiting.clear()
        state.waiting_bytes = state.made_bytes = 0
        state.retries.clear()
        for task in list(state.running.values()):
            self._forget(task.number)
            self._commands.append(Cancel(task.number))
        self._commands += self._replicas.stop_all(state)
        for above in state.spec.inputs:
            self._cut(self.stages[above])

    def _through(self, state: StageState, task: Task) -> None:
        was_read = state.spec.kind is Kind.SOURCE
        self._commands += self._parts.task_ended(task.origin, task.bundle.num_rows, was_read)

    # ------------------------------------------------------------------------------------------ decisions

    def _decide(self) -> list[Command]:
        if not self._failed and not self.is_finished:
            for state in self._sets.waiting():
                self._pass_through(state)
            if not self.is_finished:
                for state in self._sets.pools.values():
                    has_work = bool(state.retries) or self._has_bundle(state)
                    self._commands += self._replicas.scale(state, has_work)
                self._hold_and_release()
                while self._submit_all():
                    self._hold_and_release()
        return self._drain()

    def _drain(self) -> list[Command]:
        commands, self._commands = self._commands, []
        return commands

    def _submit_all(self) -> bool:
        """Submit all tasks that may be. Return False if there was none."""
        count = self._next_task
        while self._submit_one():
            pass
        return self._next_task > count

    def _submit_one(self) -> bool:
        room = self._limits.cpus + self._limits.queued_tasks - self._demand.used_cpus()
        if not self.outbox:
            first = next(self._sets.fed(is_wanted=True), None)
            is_stuck = first is not None and not self._demand.goes_on(first)
            if first is not None and is_stuck and self._may_begin(first) and self._submit(first):
                return True
        if room < self._sets.least_cpus:
            return False
        # Stages whose output nobody waits for get only CPUs that nobody else has.
        spare = room - self._limits.queued_tasks - 1
        free_bytes = self._budget.free(self.outbox_bytes)
        for state in self._sets.fed(self._is_full_below, is_wanted=spare < self._sets.least_cpus):
            left = room if self._demand.is_wanted(state) else spare
            if state.spec.cpus > left - self._demand.lent_cpus(state) or not self._may_begin(state):
                continue
            if not self._is_full(state) and self._submit(state, free_bytes):
                return True
        return False

    def _may_begin(self, state: StageState) -> bool:
        """Tell whether another task of a stage is of any use, and allowed."""
        if state.spec.kind is Kind.SOURCE and 0 < state.spec.rows <= state.rows_out and state.running:
            return False  # it may have made what is enough; the tasks under way will tell
        return state.spec.max_tasks is None or len(state.running) < state.spec.max_tasks

    def _is_full(self, state: StageState) -> bool:
        return self._budget.is_full(state, self.outbox_bytes)

    def _is_full_below(self, consumer: int | None) -> bool:
        return self._budget.is_full_below(consumer, self.outbox_bytes)

    def _has_bundle(self, state: StageState) -> bool:
        return not isinstance(state.inbox, PassingInbox) and state.inbox.has_bundle()

    def _submit(self, state: StageState, free_bytes: int | None = None) -> bool:
        """Submit a task of a stage, if a replica may have it, and it fits in what is left of the budget."""
        replica = None
        if state.spec.pool is not None:
            replica = self._replicas.free(state)
            if replica is None:
                return False
        if free_bytes is not None and self._budget.needs(state, replica) > free_bytes:
            return False
        self._begin(state, replica)
        return True

    def _begin(self, state: StageState, replica: Replica | None) -> None:
        if state.retries:
            state.retries.sort(key=lambda one: one.sequence)
            task = state.retries.pop(0)
            task.number = self._next_task
        else:
            origin, bundle = state.inbox.take(rows_for_next(state, self._limits.cpus))
            if state.spec.is_repeatable:
                made = state.made_by_origin.get(origin, 0)
                state.made_by_origin[origin] = made + 1
                name = f"{state.spec.index}.{origin}.{made}"
            else:
                name = f"{state.spec.index}.{state.next_sequence}"
            task = Task(self._next_task, state.spec.index, state.next_sequence, origin, name, bundle)
            state.next_sequence += 1
        self._next_task += 1
        task.replica = replica.number if replica else None
        if replica:
            replica.tasks.add(task.number)
        self._sets.got(state)
        self._sets.ran()
        self._tasks[task.number] = state.running[task.number] = task
        to_file = state.spec.keeps and self._budget.is_barrier_full(state)
        self._commands.append(
            Submit(
                task.number,
                state.spec.index,
                task.name,
                task.bundle,
                task.replica,
                task.passed_rows,
                to_file,
                task.sequence,
                task.is_isolated,
                task.origin,
            )
        )

    def _forget(self, task: int) -> Task | None:
        found = self._tasks.pop(task, None)
        if found is None:
            return None
        state = self.stages[found.stage]
        del state.running[task]
        self._sets.ran()
        self._replicas.task_ended(found.replica, task)
        return found

    def _hold_and_release(self) -> None:
        is_over = self._budget.is_over(self.outbox_bytes)
        for task, is_held in self._demand.holds(self._replicas, bool(self.outbox), is_over):
            if is_held != task.is_held:
                task.is_held = is_held
                self._commands.append(Hold(task.number) if is_held else Release(task.number))

    def _fail(self, error: BaseException) -> list[Command]:
        if self._failed:
            return self._drain()
        self._failed = True
        self._cut(self.stages[-1])
        self._commands.append(Fail(error))
        return self._drain()
