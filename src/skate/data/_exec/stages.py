"""Stages: a plan as an execution runs it. ``_plan/physical`` makes them; the scheduler walks them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from skate.data._io.datasource import ReadTasks
from skate.data._io.sink import Sink
from skate.data._task.exchange import Exchange
from skate.data._task.operators import Operator
from skate.data._task.slices import BlockSlice


class Kind(Enum):
    """Kinds of stages, by their use of input."""

    SOURCE = "source"  #: runs a task for each read task
    BLOCKS = "blocks"  #: passes blocks on that are there
    CHAIN = "chain"  #: runs a task for each bundle of input
    BARRIER = "barrier"  #: waits for all input, then runs a task for each bundle of the exchange's plan
    LIMIT = "limit"  #: passes the first rows on, then stops what is above it
    UNION = "union"  #: passes the rows of its inputs on, one input after the other


@dataclass(frozen=True, slots=True)
class Pool:
    """Replicas of a stage; see ``_plan.logical.ActorPool``, with all numbers chosen.

    Attributes:
        min_size, max_size, initial_size: replicas.
        in_flight: tasks given to a replica at a time.
        max_concurrency: calls that run at a time in a replica.
    """

    min_size: int
    max_size: int
    initial_size: int
    in_flight: int = 2
    max_concurrency: int = 1


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage.

    Attributes:
        index: its place; inputs have lower ones.
        name: for people: ``"ReadImages->MapBatches(embed)"``.
        kind: what it does with its input.
        inputs: indices of the stages whose output it takes.
        operators: what its tasks do, in order; empty for a stage that passes slices on.
        read_tasks: of a source.
        slices: of BLOCKS.
        pool: replicas, or None for tasks.
        max_tasks: most tasks at a time; None: no limit but resources.
        options: for ``.options()`` of its tasks or replicas.
        cpus: CPUs that a running task uses, for the scheduler's own count.
        batch_rows: bundles have a multiple of this many rows, but for the last; None: whatever comes.
        unit_rows: bundles may be cut after any multiple of this many rows; 0: blocks stay whole.
        min_bundle_rows, min_bundle_bytes: bundles have at least as much, but for the last.
        rows: of LIMIT: the rows that go on. Of a source: rows that are enough; 0: all are wanted.
        exchange: of BARRIER.
        keeps: what a barrier above collects: its output may go to files.
        is_ordered: the order of the bundles is the order of the output.
        sink: of a stage that writes: its last operator.
        on_conflict: what ``concat`` does in its tasks where the types of blocks differ.
        is_repeatable: bundles never mix rows of several parts of the source, so that another run makes the
            same.
    """

    index: int
    name: str
    kind: Kind
    inputs: tuple[int, ...] = ()
    operators: tuple[Operator, ...] = ()
    read_tasks: ReadTasks = field(default_factory=lambda: ReadTasks([]))
    slices: tuple[BlockSlice, ...] = ()
    pool: Pool | None = None
    max_tasks: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    cpus: float = 1.0
    batch_rows: int | None = None
    unit_rows: int = 0
    min_bundle_rows: int = 0
    min_bundle_bytes: int = 0
    rows: int = 0
    exchange: Exchange | None = None
    keeps: bool = False
    is_ordered: bool = True
    sink: Sink | None = None
    on_conflict: str = "error"
    is_repeatable: bool = False
