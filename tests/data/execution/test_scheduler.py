"""The scheduler against a played world: random times, sizes, crashes and consumers; nothing may be lost."""

from __future__ import annotations

import itertools
import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest

from skate.data._exec.commands import Cancel, Fail, Hold, PartDone, Release, StartReplica, StopReplica, Submit
from skate.data._exec.demand import Demand
from skate.data._exec.scheduler import Scheduler
from skate.data._exec.stages import Kind, Pool, Stage
from skate.data._exec.states import CRASHES_BEFORE_ISOLATION, Limits, StageState
from skate.data._io.datasource import ReadTask, ReadTasks
from skate.data._task.exchange import Exchange, ExchangeLimits
from skate.data._task.slices import BlockMeta, BlockSlice, Bundle

MIB = 1 << 20
#: ``make soak-data`` plays so many times as many worlds.
FACTOR = int(os.environ.get("SKATE_DATA_FACTOR", "1"))


class Gather(Exchange):
    """Puts all rows into bundles of one slice each."""

    name = "Gather"
    is_ordered = True

    def partition(self, side: int) -> None:
        return None

    def plan(self, sides: Any, limits: ExchangeLimits) -> list[Bundle]:
        return [Bundle((piece,)) for side in sides for piece in side]

    def merge(self) -> None:
        return None


@dataclass
class Play:
    """A task of the played world: the blocks that it will make, and when."""

    command: Submit
    blocks: list[tuple[Any, int]]
    held: bool = False
    stage: Stage = field(default=None)  # type: ignore[assignment]


class World:
    """Plays ports: every step, something happens at random.

    A block is the tuple of the rows' numbers, so that what comes out can be compared with what went in.
    """

    def __init__(
        self, seed: int, stages: list[Stage], limits: Limits, crashes: float, takes: float = 1.0
    ) -> None:
        self.random = random.Random(seed)
        self.stages = stages
        self.scheduler = Scheduler(stages, limits, EXCHANGE)
        self.limits = limits
        self.crashes = crashes
        self.takes = takes
        self.running: dict[int, Play] = {}
        self.loading: set[int] = set()
        self.replicas: dict[int, int] = {}
        self.taken: list[int] = []
        self.parts: list[str] = []
        self.failed: BaseException | None = None
        self.crashes_of: dict[str, int] = {}
        self.peak = 0
        self.inputs_seen: dict[str, int] = {}
        self.working: dict[int, int] = {}
        self.models: dict[int, int] = {}
        self.most_working = 0
        self.times = [0.0, 0.001, 0.02, 1.0]

    # what tasks make: rows of their input (or of their part), cut at random but the same for every attempt

    def rows_of(self, command: Submit) -> list[int]:
        stage = self.stages[command.stage]
        if stage.kind is Kind.SOURCE:
            return list(stage.read_tasks[command.bundle.params].metadata.input_files or [])  # type: ignore[arg-type]
        return [row for piece in command.bundle.slices for row in piece.block[piece.start : piece.stop]]

    def blocks_of(self, command: Submit) -> list[tuple[Any, int]]:
        rows = self.rows_of(command)
        chooser = random.Random(f"{command.name}")
        if chooser.random() < 0.2 and self.stages[command.stage].kind is Kind.CHAIN:
            rows = [row for row in rows if row % 7]  # a filter
        blocks = []
        while rows:
            count = chooser.randint(1, 5)
            blocks.append((tuple(rows[:count]), chooser.randint(1, 3 * MIB)))
            rows = rows[count:]
        skip = command.skip_rows
        left = []
        for block, size in blocks:
            gone = min(skip, len(block))
            skip -= gone
            if block[gone:]:
                left.append((block[gone:], size))
        return left

    def carry_out(self, commands: list[Any]) -> None:
        for command in commands:
            if isinstance(command, Submit):
                assert command.task not in self.running
                if command.replica is not None:
                    assert command.replica in self.replicas and command.replica not in self.loading
                self.running[command.task] = Play(
                    command, self.blocks_of(command), stage=self.stages[command.stage]
                )
            elif isinstance(command, StartReplica):
                self.replicas[command.replica] = command.stage
                self.loading.add(command.replica)
            elif isinstance(command, StopReplica):
                del self.replicas[command.replica]
                self.loading.discard(command.replica)
            elif isinstance(command, Cancel):
                self.running.pop(command.task, None)  # it may have ended, and not been reported yet
            elif isinstance(command, (Hold, Release)):
                if command.task in self.running:  # or it has died, and the scheduler hears of that next
                    self.running[command.task].held = isinstance(command, Hold)
            elif isinstance(command, PartDone):
                self.parts.append(command.part)
            elif isinstance(command, Fail):
                self.failed = command.error
        self.check()

    def check(self) -> None:
        scheduler = self.scheduler
        held = scheduler.held_bytes()
        assert held == sum(self.bytes_of(state) for state in scheduler.stages) + scheduler.outbox_bytes
        self.peak = max(self.peak, held)
        calls = {
            (play.command.stage, task if play.command.replica is None else f"replica {play.command.replica}")
            for task, play in self.running.items()
        }
        self.most_working = max(self.most_working, sum(self.working.get(stage, 0) for stage, _ in calls))
        for state in scheduler.stages:
            assert state.inbox.bytes >= 0
            assert state.waiting_bytes >= 0
            if state.spec.pool is None:
                # As many as run at a time, one more, and one that must go on.
                assert len(state.running) <= self.limits.cpus + self.limits.queued_tasks + 1
            else:
                assert len(state.replicas) <= state.spec.pool.max_size
                for replica in state.replicas.values():
                    assert len(replica.tasks) <= state.spec.pool.in_flight

    def bytes_of(self, state: StageState) -> int:
        """Return the bytes that a stage holds, whether the scheduler looks at it or not."""
        assert not (state.is_done and state.running)
        here = 0 if state.spec.slices else state.inbox.bytes + state.waiting_bytes + state.made_bytes
        return here + sum(task.bundle.memory_bytes for task in state.running.values())

    def run(self) -> list[int]:
        self.carry_out(self.scheduler.begin())
        for _ in range(100_000):
            if self.failed is not None or (self.scheduler.is_finished and not self.scheduler.outbox):
                return self.taken
            self.step()
        raise AssertionError("no end")

    def step(self) -> None:
        scheduler = self.scheduler
        moves = []
        if scheduler.outbox and self.random.random() < self.takes:
            moves.append(self.take)
        if self.loading:
            moves.append(self.load)
        going = self.going()
        if going:
            moves += [lambda: self.go_on(self.random.choice(going))] * 3
        if not moves:
            assert scheduler.outbox, "work is left, and nothing can happen: a deadlock"
            moves.append(self.take)
        self.random.choice(moves)()

    def going(self) -> list[int]:
        """Tasks that can go on: not held, first in their replica, and with a CPU; a held task lends its own."""
        free = self.limits.cpus
        going = []
        busy: dict[int | None, int] = {}
        for task, play in self.running.items():
            replica = play.command.replica
            if replica is None:
                if play.held:
                    continue
                if free < play.stage.cpus:
                    continue  # it waits in the runtime's queue
                free -= play.stage.cpus
            else:
                assert play.stage.pool is not None
                busy[replica] = busy.get(replica, 0) + 1
                if busy[replica] > play.stage.pool.max_concurrency or play.held:
                    continue  # it waits behind the others of its replica
            going.append(task)
        return going

    def take(self) -> None:
        piece = self.scheduler.outbox.popleft()
        self.taken += piece.block[piece.start : piece.stop]
        self.carry_out(self.scheduler.took(piece))

    def load(self) -> None:
        replica = self.random.choice(sorted(self.loading))
        self.loading.discard(replica)
        if self.random.random() < self.crashes:
            del self.replicas[replica]
            self.carry_out(self.scheduler.replica_died(replica, RuntimeError("died"), is_crash=True))
        else:
            self.carry_out(self.scheduler.replica_ready(replica, self.models.get(self.replicas[replica], 0)))

    def crash(self, task: int) -> None:
        """End the process of a task, and with it all tasks that its replica has."""
        replica = self.running.pop(task).command.replica
        if replica is not None and replica in self.replicas:
            del self.replicas[replica]
            self.carry_out(self.scheduler.replica_died(replica, RuntimeError("died"), is_crash=True))
            for other, one in list(self.running.items()):
                if one.command.replica == replica:
                    del self.running[other]
                    self.carry_out(self.scheduler.task_failed(other, RuntimeError("died"), is_crash=True))
        self.carry_out(self.scheduler.task_failed(task, RuntimeError("died"), is_crash=True))

    def go_on(self, task: int) -> None:
        play = self.running[task]
        name = play.command.name
        if self.random.random() < self.crashes and self.crashes_of.get(name, 0) < 2:
            self.crashes_of[name] = self.crashes_of.get(name, 0) + 1
            self.crash(task)
        elif play.blocks:
            block, size = play.blocks.pop(0)
            meta = BlockMeta(len(block), size)
            peak = self.working.get(play.command.stage, 0)
            self.carry_out(self.scheduler.block_made(task, BlockSlice.whole(block, meta), peak))
        else:
            del self.running[task]
            peak = self.working.get(play.command.stage)
            seconds = play.command.bundle.num_rows * self.random.choice(self.times)
            peak = self.random.randint(0, 4 * MIB) if peak is None else peak
            self.carry_out(self.scheduler.task_done(task, peak, seconds))


def reads(rows: int, parts: int) -> ReadTasks:
    tasks = []
    for part in range(parts):
        numbers = list(range(part * rows // parts, (part + 1) * rows // parts))
        task = ReadTask(list, name=f"p{part}")
        task.metadata.input_files = numbers  # type: ignore[assignment]
        tasks.append(task)
    return ReadTasks(tasks)


def source(index: int, rows: int, parts: int, **more: Any) -> Stage:
    return Stage(index, f"read{index}", Kind.SOURCE, read_tasks=reads(rows, parts), **more)


def limits(memory: int = 64 * MIB, cpus: int = 2) -> Limits:
    return Limits(memory, cpus, 1, is_strict=True)


EXCHANGE = ExchangeLimits(4 * MIB, 2)


def random_plan(chooser: random.Random) -> tuple[list[Stage], bool]:
    """Return stages, and whether their output is ordered."""
    ordered = chooser.random() < 0.7
    stages = [source(0, chooser.randint(0, 60), chooser.randint(1, 8), is_ordered=ordered)]
    is_ordered = ordered
    for _ in range(chooser.randint(0, 4)):
        index = len(stages)
        kind = chooser.choice(["chain", "pool", "batch", "limit", "union", "barrier", "join"])
        if kind == "union":
            stages.append(source(index, chooser.randint(0, 20), 2, is_ordered=ordered))
            stages.append(Stage(index + 1, "union", Kind.UNION, (index - 1, index), is_ordered=ordered))
        elif kind == "join":
            stages.append(source(index, chooser.randint(0, 20), 4, is_ordered=ordered, keeps=True))
            stages.append(
                Stage(
                    index + 1,
                    "gather",
                    Kind.BARRIER,
                    (index - 1, index),
                    exchange=Gather(),
                    is_ordered=ordered,
                )
            )
        elif kind == "limit":
            stages.append(Stage(index, "limit", Kind.LIMIT, (index - 1,), rows=chooser.randint(0, 40)))
        elif kind == "barrier":
            if stages[-1].kind in (Kind.SOURCE, Kind.CHAIN):
                stages[-1] = replace(stages[-1], keeps=chooser.random() < 0.8)
            stages.append(
                Stage(index, "gather", Kind.BARRIER, (index - 1,), exchange=Gather(), is_ordered=ordered)
            )
        else:
            pool = None
            batch_rows = chooser.randint(1, 9) if kind == "batch" else None
            if kind == "pool":
                most = chooser.randint(1, 3)
                pool = Pool(chooser.randint(0, most), most, chooser.randint(0, most), chooser.randint(1, 3))
            stages.append(
                Stage(
                    index,
                    kind,
                    Kind.CHAIN,
                    (index - 1,),
                    pool=pool,
                    batch_rows=batch_rows,
                    unit_rows=chooser.choice([0, batch_rows or 1, 2 * (batch_rows or 1)]),
                    max_tasks=chooser.choice([None, 1, 2]) if pool is None else None,
                    is_ordered=ordered,
                )
            )
    return stages, is_ordered


def expected(stages: list[Stage], world: World) -> list[int] | None:
    """Return the rows of a plan without filters and limits, in order; None if it has one."""
    rows: dict[int, list[int]] = {}
    for stage in stages:
        if stage.kind is Kind.LIMIT:
            return None
        if stage.kind is Kind.SOURCE:
            rows[stage.index] = [row for task in stage.read_tasks for row in task.metadata.input_files or []]  # type: ignore[misc]
        else:
            rows[stage.index] = [row for above in stage.inputs for row in rows[above]]
    return rows[stages[-1].index]


@pytest.mark.parametrize("block", range(20 * FACTOR))
def test_random_plans_lose_nothing_and_end(block: int) -> None:
    for seed in range(block * 100, block * 100 + 100):
        chooser = random.Random(seed)
        stages, ordered = random_plan(chooser)
        memory = chooser.choice([1 * MIB, 8 * MIB, 64 * MIB])
        world = World(
            seed, stages, limits(memory), chooser.choice([0.0, 0.0, 0.03]), chooser.choice([1.0, 0.2])
        )
        world.working = {
            stage.index: chooser.randint(0, 2 * memory) for stage in stages if chooser.random() < 0.5
        }
        world.models = {stage.index: chooser.randint(0, memory) for stage in stages if chooser.random() < 0.5}
        plain = chooser.random() < 0.5
        if plain:  # without the filter, so that the result is known
            world.blocks_of = partial(unfiltered, world)  # type: ignore[method-assign]
        taken = world.run()
        if world.failed is not None:
            assert world.crashes, f"seed {seed}"
            continue
        wanted = expected(stages, world)
        if plain and wanted is not None:
            assert sorted(taken) == sorted(wanted), f"seed {seed}"
            if ordered:
                assert taken == wanted, f"seed {seed}"
        if stages[-1].kind is Kind.LIMIT:
            assert len(taken) <= stages[-1].rows, f"seed {seed}"
        assert not world.running, f"seed {seed}: tasks are left"
        assert not world.replicas, f"seed {seed}: replicas are left"
        assert world.scheduler.held_bytes() == 0, f"seed {seed}"


def unfiltered(world: World, command: Submit) -> list[tuple[Any, int]]:
    rows = world.rows_of(command)[command.skip_rows :]
    chooser = random.Random(command.name)
    blocks = []
    while rows:
        count = chooser.randint(1, 5)
        blocks.append((tuple(rows[:count]), chooser.randint(1, 3 * MIB)))
        rows = rows[count:]
    return blocks


def test_batches_have_exact_sizes_across_blocks() -> None:
    stages = [
        source(0, 10, 5),
        Stage(1, "batch", Kind.CHAIN, (0,), batch_rows=4),
    ]
    world = World(1, stages, limits(), 0.0)
    sizes = []
    blocks_of = world.blocks_of

    def watched(command: Submit) -> list[tuple[Any, int]]:
        if command.stage == 1:
            sizes.append(command.bundle.num_rows)
        return blocks_of(command)

    world.blocks_of = watched  # type: ignore[method-assign]
    world.run()
    assert sum(sizes) == 10
    assert all(size % 4 == 0 for size in sizes[:-1])


def test_input_is_cut_for_all_processes() -> None:
    """Ten rows in one block: the first tasks get one each; then each gets a part of what is left."""
    pool = Pool(2, 2, 2, 1)
    stages = [source(0, 10, 1), Stage(1, "pool", Kind.CHAIN, (0,), pool=pool, unit_rows=1)]
    for seed in range(20):
        world = World(seed, stages, limits(4 << 30), 0.0)
        world.times = [0.02]
        taken: list[tuple[int, int]] = []

        def whole(command: Submit, world: World = world, taken: list[tuple[int, int]] = taken) -> Any:
            rows = world.rows_of(command)
            if command.stage == 1:
                taken.append((command.replica or 0, len(rows)))
            return [(tuple(rows), MIB)] if rows else []

        world.blocks_of = whole  # type: ignore[method-assign, assignment]
        world.carry_out(world.scheduler.begin())
        while world.loading:
            world.load()
        while not world.scheduler.is_finished or world.scheduler.outbox:
            world.step()
        assert world.taken == list(range(10))
        assert [rows for _, rows in taken[:2]] == [1, 1]
        assert {replica for replica, _ in taken} == {0, 1}
        assert max(rows for _, rows in taken) == 3


def test_a_limit_stops_what_is_above_it() -> None:
    stages = [source(0, 1000, 200), Stage(1, "limit", Kind.LIMIT, (0,), rows=3)]
    world = World(1, stages, limits(), 0.0)
    assert world.run() == [0, 1, 2]
    assert world.scheduler.stages[0].tasks_done < 10
    assert not world.running


def test_a_consumer_that_takes_nothing_stops_the_sources() -> None:
    stages = [source(0, 2000, 500), Stage(1, "map", Kind.CHAIN, (0,))]
    world = World(1, stages, limits(memory=16 * MIB), 0.0)
    world.carry_out(world.scheduler.begin())
    for _ in range(20_000):
        going = world.going()
        if not going:
            break
        world.go_on(world.random.choice(going))
    else:
        raise AssertionError("sources went on")
    assert world.scheduler.stages[0].tasks_done < 100
    assert world.peak < 16 * MIB + 8 * 3 * MIB


def test_the_budget_holds_but_for_a_task_a_stage() -> None:
    for seed in range(50):
        stages = [source(0, 500, 100), Stage(1, "a", Kind.CHAIN, (0,)), Stage(2, "b", Kind.CHAIN, (1,))]
        world = World(seed, stages, limits(memory=24 * MIB), 0.0, takes=0.5)
        world.run()
        assert world.peak <= 24 * MIB + 3 * 15 * MIB


def test_tasks_are_held_while_more_is_used_than_the_budget() -> None:
    """Three tasks began beside each other; then their working sets turned out to be larger."""
    for seed in range(20):
        stages = [source(0, 300, 6), Stage(1, "map", Kind.CHAIN, (0,))]
        world = World(seed, stages, limits(64 * MIB), 0.0)
        world.working = {0: 10 * MIB, 1: 10 * MIB}
        world.carry_out(world.scheduler.begin())
        while world.scheduler.stages[0].peak_bytes == 0:
            world.go_on(world.random.choice(world.going()))
        world.working = {0: 40 * MIB, 1: 10 * MIB}
        while world.scheduler.stages[0].peak_bytes < 40 * MIB:
            world.step()
        for _ in range(3):
            going = [world.running[task].command.stage for task in world.going()]
            assert going.count(0) <= 1, f"seed {seed}"
            world.step()
        while not world.scheduler.is_finished or world.scheduler.outbox:
            world.step()


@pytest.mark.parametrize(
    ("working", "memory", "together"),
    [(40 * MIB, 64 * MIB, 1), (25 * MIB, 64 * MIB, 2), (20 * MIB, 2 << 30, 3), (400 * MIB, 64 * MIB, 1)],
)
def test_tasks_run_together_if_their_working_sets_fit(working: int, memory: int, together: int) -> None:
    for seed in range(20):
        world = World(seed, [source(0, 200, 100)], limits(memory), 0.0)
        world.working = {0: working}
        world.run()
        assert world.most_working == together * working, f"seed {seed}"


def test_the_first_task_of_a_stage_runs_alone_until_it_is_measured() -> None:
    world = World(1, [source(0, 200, 100)], limits(64 * MIB), 0.0)
    world.carry_out(world.scheduler.begin())
    assert len(world.running) == 1
    while not world.scheduler.stages[0].is_measured:
        assert len(world.running) == 1
        world.go_on(next(iter(world.running)))
    assert len(world.running) == 3


def test_models_of_pools_take_their_part_of_the_budget() -> None:
    stages = [source(0, 200, 100), Stage(1, "pool", Kind.CHAIN, (0,), pool=Pool(2, 2, 2))]
    for seed in range(20):
        world = World(seed, stages, limits(64 * MIB), 0.0)
        world.working, world.models = {0: 10 * MIB, 1: 10 * MIB}, {1: 25 * MIB}
        world.blocks_of = partial(unfiltered, world)  # type: ignore[method-assign]
        world.carry_out(world.scheduler.begin())
        while world.loading:
            world.load()
        while not world.scheduler.is_finished or world.scheduler.outbox:
            world.step()
        assert world.taken == list(range(200))
        assert world.most_working <= 2 * 10 * MIB, f"seed {seed}"


def test_tasks_whose_output_nobody_takes_stay_held_while_others_go_on() -> None:
    stages = [source(0, 400, 4), Stage(1, "slow", Kind.CHAIN, (0,), max_tasks=1)]
    world = World(3, stages, limits(16 * MIB), 0.0)
    world.carry_out(world.scheduler.begin())
    for _ in range(2000):
        going = world.going()
        sources = [task for task in going if world.running[task].command.stage == 0]
        if not sources:
            break
        world.go_on(sources[0])
    held = [play for play in world.running.values() if play.held]
    assert held and all(play.command.stage == 0 for play in held)
    assert [world.running[task].command.stage for task in world.going()] == [1]


def test_what_stands_before_the_next_task_of_a_replica_goes_on() -> None:
    """A task that is run again, and whose turn it is, may stand behind one whose output nobody takes."""
    stages = [source(0, 60, 20), Stage(1, "pool", Kind.CHAIN, (0,), pool=Pool(1, 1, 1, 3))]
    for seed in range(100):
        world = World(seed, stages, limits(2 * MIB), 0.05, takes=0.3)
        world.blocks_of = partial(unfiltered, world)  # type: ignore[method-assign]
        taken = world.run()
        assert world.failed is not None or taken == list(range(60)), f"seed {seed}"


def test_a_crash_runs_a_bundle_again_without_repeating_rows() -> None:
    stages = [source(0, 100, 10), Stage(1, "pool", Kind.CHAIN, (0,), pool=Pool(2, 2, 2))]
    for seed in range(50):
        world = World(seed, stages, limits(), 0.1)
        world.blocks_of = lambda command, world=world: unfiltered(world, command)  # type: ignore[method-assign, misc]
        taken = world.run()
        if world.failed is None:
            assert taken == list(range(100))


class BadRows(World):
    """Some rows end the process of their task; an isolated one leaves them out. Replicas take call after call."""

    def is_bad(self, row: int, stage: int) -> bool:
        return (row * 7 + stage) % 10 == 0

    def blocks_of(self, command: Submit) -> list[tuple[Any, int]]:
        rows = self.rows_of(command)
        if not command.is_isolated:
            rows = list(itertools.takewhile(lambda row: not self.is_bad(row, command.stage), rows))
        rows = [row for row in rows if not self.is_bad(row, command.stage)][command.skip_rows :]
        return [((row,), self.random.randint(1, 3 * MIB)) for row in rows]

    def going(self) -> list[int]:
        running = self.running.items()
        calls = {play.command.replica: task for task, play in reversed(running)}  # the first of each replica
        return [
            task
            for task in super().going()
            if (replica := self.running[task].command.replica) is None or calls[replica] == task
        ]

    def go_on(self, task: int) -> None:
        play = self.running[task]
        command = play.command
        if not play.blocks and not command.is_isolated:
            if any(self.is_bad(row, command.stage) for row in self.rows_of(command)):
                self.crashes_of[command.name] = self.crashes_of.get(command.name, 0) + 1
                self.crash(task)
                return
        super().go_on(task)


@pytest.mark.parametrize("block", range(5 * FACTOR))
def test_rows_that_end_their_process_end_nothing_else(block: int) -> None:
    for seed in range(block * 50, block * 50 + 50):
        stages, ordered = random_plan(random.Random(seed))
        world = BadRows(seed, stages, limits(8 * MIB), 0.0)
        taken = world.run()
        assert world.failed is None, f"seed {seed}"
        assert all(count <= CRASHES_BEFORE_ISOLATION for count in world.crashes_of.values()), f"seed {seed}"
        if expected(stages, world) is None:
            continue
        wanted: dict[int, list[int]] = {}
        for stage in stages:
            rows = [row for above in stage.inputs for row in wanted[above]]
            if stage.kind is Kind.SOURCE:
                rows = [row for task in stage.read_tasks for row in task.metadata.input_files or []]  # type: ignore[misc]
            has_tasks = stage.kind in (Kind.SOURCE, Kind.CHAIN, Kind.BARRIER)
            wanted[stage.index] = [row for row in rows if not (has_tasks and world.is_bad(row, stage.index))]
        assert sorted(taken) == sorted(wanted[stages[-1].index]), f"seed {seed}"
        if ordered:
            assert taken == wanted[stages[-1].index], f"seed {seed}"


def crashed(scheduler: Scheduler, command: Any) -> Any:
    """End the process of a task, and return the command that runs it again."""
    (again,) = scheduler.task_failed(command.task, RuntimeError("died"), is_crash=True)
    return again


def test_a_task_runs_isolated_when_two_processes_have_died_of_it() -> None:
    scheduler = Scheduler([source(0, 10, 1)], limits(), EXCHANGE)
    (first,) = scheduler.begin()
    second = crashed(scheduler, first)
    third = crashed(scheduler, second)
    fourth = crashed(scheduler, third)
    assert [one.is_isolated for one in (first, second, third, fourth)] == [False, False, True, True]  # type: ignore[union-attr]
    error = RuntimeError("died")
    assert Fail(error) in scheduler.task_failed(fourth.task, error, is_crash=True)


def pool_of_one(tasks: int) -> tuple[Scheduler, list[Any]]:
    """Return a scheduler whose only replica was given so many tasks, and these."""
    pool = Pool(1, 1, 1, in_flight=2)
    scheduler = Scheduler(
        [source(0, tasks, tasks), Stage(1, "pool", Kind.CHAIN, (0,), pool=pool)], limits(4 << 30), EXCHANGE
    )
    reads = submitted(scheduler.begin())
    scheduler.replica_ready(0)
    calls = []
    for read in reads:
        calls += submitted(scheduler.block_made(read.task, BlockSlice.whole((1,), BlockMeta(1, 1))))
        calls += submitted(scheduler.task_done(read.task))
    return scheduler, calls


def submitted(commands: list[Any]) -> list[Submit]:
    return [one for one in commands if isinstance(one, Submit)]


def test_a_call_that_waited_behind_the_one_that_ended_its_replica_is_not_to_blame() -> None:
    scheduler, calls = pool_of_one(2)
    for replica in (0, 1):
        scheduler.replica_died(replica, RuntimeError("died"), is_crash=True)
        for call in calls:
            scheduler.task_failed(call.task, RuntimeError("died"), is_crash=True)
        calls = submitted(scheduler.replica_ready(replica + 1))
    assert [(one.name, one.is_isolated) for one in calls] == [("1.0", True), ("1.1", False)]


def test_a_call_is_not_held_before_one_of_an_earlier_bundle_in_its_replica() -> None:
    scheduler, _ = pool_of_one(2)
    first, second = scheduler.stages[1].running.values()
    first.sequence, second.sequence = 1, 0  # a crash ended the earlier one before
    demand = Demand(scheduler._sets, lambda state: True)
    for has_output in (False, True):
        holds = {task.number: hold for task, hold in demand.holds(scheduler._replicas, has_output)}
        assert holds == {first.number: has_output, second.number: has_output}


def test_the_death_of_a_replica_counts_for_the_call_that_it_ran() -> None:
    scheduler, calls = pool_of_one(1)
    died = RuntimeError("died")
    for replica in range(3):
        scheduler.replica_died(replica, died, is_crash=True)
        (call,) = calls
        scheduler.task_failed(call.task, died, is_crash=True)
        calls = submitted(scheduler.replica_ready(replica + 1))
    scheduler.replica_died(3, died, is_crash=True)
    assert Fail(died) in scheduler.task_failed(calls[0].task, died, is_crash=True), "the call's fourth crash"

    scheduler = Scheduler(
        [source(0, 1, 1), Stage(1, "pool", Kind.CHAIN, (0,), pool=Pool(1, 1, 1))], limits(), EXCHANGE
    )
    scheduler.begin()
    deaths = [scheduler.replica_died(replica, died, is_crash=True) for replica in range(4)]
    assert [Fail(died) in commands for commands in deaths] == [False, False, False, True]


def test_a_user_error_ends_the_execution_and_everything_under_way() -> None:
    stages = [source(0, 100, 10), Stage(1, "pool", Kind.CHAIN, (0,), pool=Pool(2, 2, 2))]
    world = World(1, stages, limits(), 0.0)
    world.carry_out(world.scheduler.begin())
    task = next(iter(world.running))
    del world.running[task]
    error = ValueError("row 3")
    world.carry_out(world.scheduler.task_failed(task, error, is_crash=False))
    assert world.failed is error
    assert not world.running
    assert not world.replicas


def test_replicas_that_keep_dying_end_the_execution() -> None:
    stages = [source(0, 100, 10), Stage(1, "pool", Kind.CHAIN, (0,), pool=Pool(1, 1, 1))]
    world = World(1, stages, limits(), 1.0)
    world.crashes_of = {f"0.{number}": 9 for number in range(10)}
    world.run()
    assert isinstance(world.failed, RuntimeError)


def test_pool_replicas_start_before_anything_is_read() -> None:
    stages = [source(0, 100, 10), Stage(1, "pool", Kind.CHAIN, (0,), pool=Pool(1, 4, 4))]
    commands = Scheduler(stages, limits(), EXCHANGE).begin()
    assert [type(command) for command in commands[:5]] == [StartReplica] * 4 + [Submit]


@pytest.mark.parametrize("seed", range(20))
def test_another_attempt_before_a_barrier_may_make_its_rows_in_another_order(seed: int) -> None:
    stages = [
        source(0, 60, 4, keeps=True),
        Stage(1, "gather", Kind.BARRIER, (0,), exchange=Gather(), is_ordered=False),
    ]
    world = World(seed, stages, limits(8 * MIB), 0.1)
    attempts: dict[str, int] = {}

    def other_order(command: Submit) -> list[tuple[Any, int]]:
        rows = world.rows_of(command)
        if command.stage == 0:
            attempts[command.name] = attempts.get(command.name, 0) + 1
            random.Random(attempts[command.name]).shuffle(rows)
            assert command.skip_rows == 0
        rows = rows[command.skip_rows :]
        return [(tuple(rows[at : at + 3]), MIB) for at in range(0, len(rows), 3)]

    world.blocks_of = other_order  # type: ignore[method-assign]
    assert sorted(world.run()) == list(range(60))


def test_parts_are_reported_once_when_all_their_rows_are_through() -> None:
    for seed in range(100):
        stages = [
            source(0, 60, 6, is_repeatable=True),
            Stage(1, "batch", Kind.CHAIN, (0,), batch_rows=4, is_repeatable=True),
            Stage(2, "pool", Kind.CHAIN, (1,), pool=Pool(2, 2, 2), is_repeatable=True),
        ]
        world = World(seed, stages, limits(), 0.02)
        taken = world.run()
        if world.failed is None:
            assert sorted(world.parts) == sorted(f"p{part}" for part in range(6)), f"seed {seed}"
            assert len(taken) == len(set(taken))


def calls_in(function: Callable[[], Any]) -> int:
    """Return the calls of functions of Python that a call makes: what it costs, on any machine."""
    count = 0

    def watch(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(watch)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def union_of(sources: int, is_ordered: bool) -> list[Stage]:
    stages = [source(index, 4, 2, is_ordered=is_ordered) for index in range(sources)]
    return [*stages, Stage(sources, "union", Kind.UNION, tuple(range(sources)), is_ordered=is_ordered)]


def chain_of(limits: int) -> list[Stage]:
    """Return stages with a long queue of those that wait for a first row, or for the last one."""
    stages = [source(0, 4, 2)]
    for index in range(1, 2 * limits, 2):
        stages.append(Stage(index, "limit", Kind.LIMIT, (index - 1,), rows=100))
        stages.append(Stage(index + 1, "map", Kind.CHAIN, (index,)))
    return stages


@pytest.mark.parametrize(
    "make",
    [partial(union_of, is_ordered=True), partial(union_of, is_ordered=False), chain_of],
    ids=["ordered union", "union", "chain"],
)
def test_a_stage_costs_as_much_in_a_long_plan(make: Callable[[int], list[Stage]]) -> None:
    """Eight times as many stages are eight times as much work, not sixty-four times."""

    class Unchecked(World):
        def check(self) -> None:
            pass

        def step(self) -> None:
            # The world's own moves cost the same however many stages there are.
            if self.scheduler.outbox:
                self.take()
            else:
                self.go_on(self.going()[0])

    def cost(stages: list[Stage]) -> float:
        world = Unchecked(1, stages, Limits(1 << 30, 2, 1), 0.0)
        world.blocks_of = partial(unfiltered, world)  # type: ignore[method-assign]
        return calls_in(world.run) / len(stages)

    assert cost(make(160)) < 1.5 * cost(make(20))


def test_names_of_tasks_repeat_whatever_the_timing() -> None:
    names = []
    for seed in range(10):
        stages = [
            source(0, 60, 6, is_repeatable=True),
            Stage(1, "batch", Kind.CHAIN, (0,), batch_rows=4, is_repeatable=True),
        ]
        world = World(seed, stages, limits(), 0.0)
        seen: dict[str, tuple[int, ...]] = {}

        def watched(command: Submit, world: World = world, seen: dict[str, tuple[int, ...]] = seen) -> Any:
            seen[command.name] = tuple(world.rows_of(command))
            return unfiltered(world, command)

        world.blocks_of = watched  # type: ignore[method-assign, assignment]
        world.run()
        names.append(seen)
    assert all(one == names[0] for one in names)
