"""Cuts a logical plan into stages.

Nodes that can run inside one task without waiting for another become one stage: a read with the functions
above it, the merge of an exchange with the functions above that, a write with what is below it. A pool is a
stage of its own, since its processes hold models and what is cheap should not wait for them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from skate.data._block.tables import concat, slice_rows
from skate.data._exec.stages import Kind, Pool, Stage
from skate.data._io.datasource import ReadTasks
from skate.data._io.sink import Sink
from skate.data._operators.writing import WriteRows
from skate.data._plan.logical import (
    ActorPool,
    Apply,
    Blocks,
    Exchanged,
    Limit,
    Node,
    Read,
    Resources,
    TaskPool,
    Union,
    Write,
)
from skate.data._plan.names import unique_name
from skate.data._task.operators import Operator, TaskContext

#: Bytes up to which rows of the caller's process are written by one task.
SMALL_WRITE_BYTES = 32 << 20
#: A source that has so many read tasks is not asked for more, to know whether all CPUs have one.
_ENOUGH_TASKS = 16


class TakeRows(Operator):
    """Passes the first rows of a task on and takes no more: below functions that keep the number of rows.

    Args:
        rows: how many.
    """

    preserves_rows = True

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.name = f"Take({rows})"

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        """Yield blocks until the rows are there."""
        left = self.rows
        for block in blocks:
            yield slice_rows(block, 0, min(left, block.num_rows))
            left -= block.num_rows
            if left <= 0:
                return


class JoinBlocks(Operator):
    """Makes one block of all blocks of a task."""

    name = "Join"
    preserves_rows = True

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        """Yield one block."""
        found = list(blocks)
        if found:
            yield concat(found, task.on_conflict)


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts that the planner needs about the place where stages will run.

    Attributes:
        cpus: CPUs.
        is_local: in the caller's process.
        preserves_order: the user's rows are to keep their order. The input of an exchange keeps it
            always: which rows go together, and which are drawn, follows from their places.
        on_conflict: what ``concat`` does where the types of blocks differ.
        read_parallelism: read tasks asked for where the user names no number; -1: chosen from sizes.
        context: the DataContext, for datasources.
    """

    cpus: float
    is_local: bool = False
    preserves_order: bool = True
    on_conflict: str = "error"
    read_parallelism: int = -1
    context: Any = None


def to_stages(plan: Node, machine: Machine) -> list[Stage]:
    """Return the stages of a plan, in an order in which inputs come first; the last one makes the output."""
    planner = _Planner(machine, isinstance(plan, Write) and plan.sink.is_resumable)
    planner.add(plan, None)
    return planner.stages


class _Planner:
    def __init__(self, machine: Machine, is_recorded: bool) -> None:
        self._machine = machine
        self._is_recorded = is_recorded
        self.stages: list[Stage] = []
        self._chosen: set[int] = set()  # sources whose number of tasks is the user's choice
        self._names: Counter[str] = Counter()
        self._is_ordered = machine.preserves_order

    def add(self, node: Node, rows_wanted: int | None) -> int:
        """Add the stages of a node.

        Args:
            node: the node.
            rows_wanted: rows of the node that are enough; None: all.

        Returns:
            The index of the stage that makes the node's rows.
        """
        if isinstance(node, Read):
            return self._read(node, rows_wanted)
        if isinstance(node, Blocks):
            for name in node.stands_for:
                unique_name(self._names, name)
            return self._append(Stage(0, node.name, Kind.BLOCKS, slices=node.slices))
        if isinstance(node, Apply):
            wanted = rows_wanted if node.operator.preserves_rows else None
            return self._apply(node, self.add(node.input, wanted), wanted)
        if isinstance(node, Limit):
            wanted = node.rows if rows_wanted is None else min(rows_wanted, node.rows)
            below = self.add(node.input, wanted)
            return self._append(Stage(0, node.name, Kind.LIMIT, (below,), rows=node.rows))
        if isinstance(node, Union):
            parts = tuple(self.add(part, rows_wanted) for part in node.parts)
            return self._append(Stage(0, node.name, Kind.UNION, parts, is_ordered=self._is_ordered))
        if isinstance(node, Exchanged):
            return self._exchange(node)
        if isinstance(node, Write):
            return self._write(node)
        raise TypeError(f"no stage for {type(node).__name__}")

    def _append(self, stage: Stage) -> int:
        index = len(self.stages)
        self.stages.append(replace(stage, index=index, on_conflict=self._machine.on_conflict))
        return index

    # ------------------------------------------------------------------------------------------ kinds

    def _read(self, node: Read, rows_wanted: int | None) -> int:
        parallelism = node.parallelism if node.parallelism > 0 else self._machine.read_parallelism
        source = node.source
        if self._is_recorded:
            source = source.with_hints(replace(source.hints, is_recorded=True))
        if rows_wanted is not None:
            hints = source.hints
            limit = rows_wanted if hints.limit is None else min(rows_wanted, hints.limit)
            source = source.with_hints(replace(hints, limit=limit))
        make = getattr(source, "iter_read_tasks", source.get_read_tasks)
        tasks = ReadTasks(make(parallelism, rows_wanted, self._machine.context))
        operators: tuple[Operator, ...] = () if rows_wanted is None else (TakeRows(rows_wanted),)
        cpus, options = _resources(node.resources, is_pool=False)
        if node.parallelism > 0:
            self._chosen.add(len(self.stages))
        return self._append(
            Stage(
                0,
                node.name,
                Kind.SOURCE,
                operators=operators,
                read_tasks=tasks,
                max_tasks=node.max_tasks,
                options=options,
                cpus=cpus,
                rows=rows_wanted or 0,
                is_ordered=self._is_ordered,
            )
        )

    def _named(self, node: Apply) -> Apply:
        """Return a node whose operator has a name of its own: figures and limits of errors go by name."""
        name = unique_name(self._names, node.operator.name)
        if name == node.operator.name:
            return node
        operator = copy(node.operator)
        operator.name = name
        return replace(node, operator=operator)

    def _apply(self, node: Apply, below: int, rows_wanted: int | None) -> int:
        node = self._named(node)
        stage = self.stages[below]
        cpus, options = _resources(node.resources, is_pool=isinstance(node.compute, ActorPool))
        if isinstance(node.compute, TaskPool) and self._can_fuse(stage, node, cpus, options):
            operators = (*stage.operators, node.operator)
            self.stages[below] = replace(
                stage,
                name=f"{stage.name}->{node.name}",
                operators=operators,
                unit_rows=_unit_rows(operators) if stage.kind is Kind.CHAIN else 0,
            )
            return below
        pool = self._pool(node.compute) if isinstance(node.compute, ActorPool) else None
        operators = (node.operator,)
        if rows_wanted is not None and stage.kind is Kind.BLOCKS:
            operators = (TakeRows(rows_wanted), node.operator)
        return self._append(
            Stage(
                0,
                node.name,
                Kind.CHAIN,
                (below,),
                operators=operators,
                pool=pool,
                max_tasks=node.compute.size if isinstance(node.compute, TaskPool) else None,
                options=options,
                cpus=cpus,
                batch_rows=node.batch_rows,
                unit_rows=_unit_rows(operators),
                is_ordered=self._is_ordered,
            )
        )

    def _can_fuse(self, stage: Stage, node: Apply, cpus: float, options: dict[str, Any]) -> bool:
        if stage.kind not in (Kind.SOURCE, Kind.CHAIN, Kind.BARRIER) or stage.pool is not None or stage.keeps:
            return False
        if stage.options != options or stage.cpus != cpus:
            return False
        assert isinstance(node.compute, TaskPool)
        if node.compute.size is not None and node.compute.size != stage.max_tasks:
            return False
        if node.operator.calls_user_code and self._has_few_tasks(stage):
            return False  # on its own, its input is cut for all CPUs
        if stage.unit_rows and not node.operator.unit_rows:
            return False  # it would keep the input of a user's function whole
        return not (node.batch_rows and self._has_small_inputs(stage, node.batch_rows))

    def _has_few_tasks(self, stage: Stage) -> bool:
        """Tell whether a stage may run fewer tasks than there are CPUs; the merges of an exchange are few."""
        if stage.kind is Kind.SOURCE:
            if stage.index in self._chosen:
                return False
            wanted = min(int(self._machine.cpus), _ENOUGH_TASKS)
            stage.read_tasks.make(wanted)
            return len(stage.read_tasks) < wanted
        return stage.kind is Kind.BARRIER

    def _has_small_inputs(self, stage: Stage, batch_rows: int) -> bool:
        """Tell whether a source's tasks are known to have fewer rows than a batch."""
        stage.read_tasks.make(2)
        known = [task.metadata.num_rows for task in stage.read_tasks]
        rows = [count for count in known if count is not None]
        return len(rows) > 1 and len(rows) == len(known) and max(rows) < batch_rows

    def _pool(self, compute: ActorPool) -> Pool:
        most = compute.max_size if compute.max_size is not None else int(self._machine.cpus)
        most = max(1, most, compute.min_size)
        first = compute.initial_size if compute.initial_size is not None else compute.min_size
        return Pool(
            compute.min_size, most, min(most, first), max(1, compute.in_flight), compute.max_concurrency
        )

    def _exchange(self, node: Exchanged) -> int:
        inputs = []
        is_ordered, self._is_ordered = self._is_ordered, True
        for side, child in enumerate(node.sides):
            below = self.add(child, None)
            operator = node.exchange.partition(side)
            if operator is not None:
                apply = Apply(child, operator, resources=node.resources)
                below = self._apply(apply, below, None)
                self.stages[below] = replace(self.stages[below], keeps=True)
            inputs.append(below)
        self._is_ordered = is_ordered
        cpus, options = _resources(node.resources, is_pool=False)
        return self._append(
            Stage(
                0,
                node.name,
                Kind.BARRIER,
                tuple(inputs),
                operators=(node.exchange.merge() or JoinBlocks(),),
                exchange=node.exchange,
                options=options,
                cpus=cpus,
                is_ordered=node.exchange.is_ordered or is_ordered,
            )
        )

    def _write(self, node: Write) -> int:
        below = self.add(node.input, None)
        operator = WriteRows(node.sink)
        apply = Apply(node.input, operator, TaskPool(node.max_tasks), node.resources)
        rows, size = self._least_write(node.sink)
        if not rows and not size:
            index = self._apply(apply, below, None)
        else:
            cpus, options = _resources(node.resources, is_pool=False)
            index = self._append(
                Stage(
                    0,
                    node.name,
                    Kind.CHAIN,
                    (below,),
                    operators=(operator,),
                    max_tasks=node.max_tasks,
                    options=options,
                    cpus=cpus,
                    min_bundle_rows=rows,
                    min_bundle_bytes=size,
                )
            )
        self.stages[index] = replace(self.stages[index], sink=node.sink)
        return index

    def _least_write(self, sink: Sink) -> tuple[int, int]:
        """Return the rows and bytes that each task of a write gets at least; without either it is fused.

        Small data, which is read in the caller's process, goes to one file.
        """
        if sink.one_task:
            return 1 << 62, 0
        if sink.min_rows or sink.min_bytes:
            return sink.min_rows or 0, sink.min_bytes or 0
        return 0, SMALL_WRITE_BYTES if self._machine.is_local and not sink.is_resumable else 0


def _unit_rows(operators: Sequence[Operator]) -> int:
    """Return the rows after whose multiples the input of some operators may be cut; 0: none, or no use."""
    units = [operator.unit_rows for operator in operators]
    return math.lcm(*units) if any(one.calls_user_code for one in operators) else 0


def _resources(resources: Resources, is_pool: bool) -> tuple[float, dict[str, Any]]:
    """Return the CPUs that a task uses, and the options for it or its replica.

    A replica takes no CPU for itself: the scheduler counts the calls that run. Else a pool that holds all
    CPUs would starve the tasks that feed it.
    """
    options = dict(resources.others)
    if resources.num_gpus:
        options["num_gpus"] = resources.num_gpus
    if resources.memory:
        options["memory"] = resources.memory
    cpus = resources.num_cpus
    if cpus is None:
        cpus = 0.0 if resources.num_gpus else 1.0
    if not is_pool and resources.num_cpus is not None:
        options["num_cpus"] = resources.num_cpus
    return float(cpus), options


def repeatable(stages: list[Stage]) -> list[Stage]:
    """Return stages whose tasks never mix rows of two parts of the source, for a write that can be resumed.

    Raises:
        ValueError: the plan has a stage that needs rows of several parts together.
    """
    mixing = [stage.name for stage in stages if stage.kind not in (Kind.SOURCE, Kind.CHAIN)]
    if mixing:
        raise ValueError(
            f"resume=True: a write can be resumed if its plan reads, maps and filters only; {mixing[0]} "
            "needs rows of several files together. Write its result without resume, or materialise it first"
        )
    return [replace(stage, is_repeatable=True, is_ordered=True, unit_rows=0) for stage in stages]
