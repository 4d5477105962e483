"""The logical plan: what the user asked for, as a tree of frozen nodes.

A node says what it does, not how: rules rewrite the tree (``rules``), ``physical`` cuts it into stages. Plans
are never executed in place; every verb of a Dataset makes a new node above the old one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from skate.data._task.exchange import Exchange
from skate.data._task.operators import Operator
from skate.data._task.slices import BlockSlice

if TYPE_CHECKING:
    import pyarrow as pa

    from skate.data._io.datasource import Datasource
    from skate.data._io.sink import Sink


@dataclass(frozen=True)
class TaskPool:
    """Run as tasks.

    Attributes:
        size: most tasks at a time; None: as many as resources allow.
    """

    size: int | None = None


@dataclass(frozen=True)
class ActorPool:
    """Run on replicas: processes that hold instances of the user's class.

    Attributes:
        min_size: replicas that are kept while the stage has input; 0 is allowed.
        max_size: most replicas; None: as many as resources allow.
        initial_size: replicas to start with; None: as many as resources allow, ``max_size`` at most.
        in_flight: tasks that a replica is given at a time: one runs, the others' input is on its way.
        max_concurrency: calls that run at a time in a replica (async functions).
    """

    min_size: int = 1
    max_size: int | None = None
    initial_size: int | None = None
    in_flight: int = 2
    max_concurrency: int = 1


@dataclass(frozen=True)
class Resources:
    """Options of the tasks or replicas of a stage, as ``.options()`` takes them.

    Attributes:
        num_cpus: CPUs of one task or replica; None: 1 for tasks, 1 for replicas without GPUs, else 0.
        num_gpus: GPUs.
        memory: bytes.
        others: further options: ``resources``, ``runtime_env``, ``label_selector``, ...
    """

    num_cpus: float | None = None
    num_gpus: float | None = None
    memory: float | None = None
    others: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Node:
    """A node of the logical plan."""

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The nodes below."""
        return ()

    @property
    def name(self) -> str:
        """For people: ``"MapBatches(embed)"``."""
        return type(self).__name__


@dataclass(frozen=True)
class Read(Node):
    """Rows of a datasource.

    Attributes:
        source: makes the read tasks.
        parallelism: number of read tasks asked for; -1: chosen from sizes.
        resources: of a read task.
        max_tasks: most read tasks at a time (``concurrency=``); None: no limit.
    """

    source: Datasource
    parallelism: int = -1
    resources: Resources = Resources()
    max_tasks: int | None = None

    @property
    def name(self) -> str:
        return f"Read{self.source.get_name()}"


@dataclass(frozen=True)
class Blocks(Node):
    """Blocks that are there: of ``from_arrow``, or a materialised data set.

    Attributes:
        slices: the blocks, in order.
        schema: their schema, if known.
        label: for people.
        stands_for: names of the operations in whose place the blocks stand, for rows that are tried again:
            those above keep their own names and numbers.
    """

    slices: tuple[BlockSlice, ...]
    schema: pa.Schema | None = None
    label: str = "Blocks"
    stands_for: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.label


@dataclass(frozen=True)
class Apply(Node):
    """An operator over every block.

    Attributes:
        input: the node below.
        operator: what is done.
        compute: tasks or a pool.
        resources: of a task or replica.
        batch_rows: the operator wants inputs of a multiple of this many rows; None: whatever comes.
    """

    input: Node
    operator: Operator
    compute: TaskPool | ActorPool = TaskPool()
    resources: Resources = Resources()
    batch_rows: int | None = None

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.input,)

    @property
    def name(self) -> str:
        return self.operator.name


@dataclass(frozen=True)
class Limit(Node):
    """The first rows.

    Attributes:
        rows: how many.
    """

    input: Node
    rows: int

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.input,)

    @property
    def name(self) -> str:
        return f"limit={self.rows}"


@dataclass(frozen=True)
class Union(Node):
    """The rows of several nodes, one node after the other."""

    parts: tuple[Node, ...]

    @property
    def inputs(self) -> tuple[Node, ...]:
        return self.parts


@dataclass(frozen=True)
class Exchanged(Node):
    """An exchange over one or two nodes: sort, group, join, shuffle, zip, repartition.

    Attributes:
        sides: the nodes below.
        exchange: what is done.
        resources: of its tasks.
    """

    sides: tuple[Node, ...]
    exchange: Exchange
    resources: Resources = Resources()

    @property
    def inputs(self) -> tuple[Node, ...]:
        return self.sides

    @property
    def name(self) -> str:
        return self.exchange.name


@dataclass(frozen=True)
class Write(Node):
    """Rows written; its output is one row of facts for each task.

    Attributes:
        sink: writes, and commits at the end.
    """

    input: Node
    sink: Sink
    resources: Resources = Resources()
    max_tasks: int | None = None

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.input,)

    @property
    def name(self) -> str:
        return self.sink.name
