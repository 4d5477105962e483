"""The state of an execution, as its scheduler keeps it: stages, tasks, replicas. No rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from skate.data._exec.inbox import Inbox
from skate.data._exec.stages import Stage
from skate.data._task.slices import BlockSlice, Bundle

#: Crashes of a bundle's process after which it runs isolated. One may be chance: the kernel ran out of
#: memory, a node was lost. Two point to a row. The isolated attempts that are left may end by chance, too.
CRASHES_BEFORE_ISOLATION = 2


@dataclass(slots=True)
class Task:
    """A task that was submitted and has not ended.

    Attributes:
        sequence: the number of its bundle in its stage.
        passed_rows: rows of its output that were passed on, over all attempts.
        crashes: attempts that a crash ended.
        has_result: what its sink returned was passed on; that of a later attempt is left out.
        made: output before a barrier, which goes on when the task has ended.
    """

    number: int
    stage: int
    sequence: int
    origin: str
    name: str
    bundle: Bundle
    replica: int | None = None
    passed_rows: int = 0
    crashes: int = 0
    is_held: bool = False
    has_result: bool = False
    made: list[BlockSlice] = field(default_factory=list)

    @property
    def is_isolated(self) -> bool:
        """Calls that may have ended its process get processes of their own."""
        return self.crashes >= CRASHES_BEFORE_ISOLATION


class ReplicaState(Enum):
    """Where a replica is in its life."""

    STARTING = "starting"
    READY = "ready"


@dataclass(slots=True)
class Replica:
    """A process of a pool.

    Attributes:
        number: never used again.
        stage: index of its stage.
        state: where it is in its life.
        tasks: the tasks that were given to it and have not ended.
        resident_bytes: memory that its process has without tasks: its model.
    """

    number: int
    stage: int
    state: ReplicaState = ReplicaState.STARTING
    tasks: set[int] = field(default_factory=set)
    resident_bytes: int = 0


@dataclass(slots=True)
class StageState:
    """A stage while it runs.

    Attributes:
        next_sequence: number of the next bundle.
        turn: number of the bundle whose output may go on (ordered stages).
        waiting: output of later bundles, by number.
        ended: tasks that have ended and whose turn has not come, by number of the bundle.
        retries: tasks that a crash ended, to be submitted again first.
        waiting_bytes: bytes in ``waiting``.
        made_bytes: bytes in ``made`` of its tasks.
        is_done: its output has ended.
        tasks_done, rows_out, bytes_out, blocks_out: counters.
        peak_bytes: largest working set of a task of late.
        is_measured: a task has reported its working set.
        seconds_per_row: time of a row of input of late; None: no task has ended.
    """

    spec: Stage
    inbox: Inbox
    consumer: int | None
    side: int
    next_sequence: int = 0
    turn: int = 0
    waiting: dict[int, list[tuple[str, BlockSlice]]] = field(default_factory=dict)
    ended: dict[int, Task] = field(default_factory=dict)
    retries: list[Task] = field(default_factory=list)
    running: dict[int, Task] = field(default_factory=dict)
    replicas: dict[int, Replica] = field(default_factory=dict)
    replica_deaths: int = 0
    waiting_bytes: int = 0
    made_bytes: int = 0
    is_done: bool = False
    is_cut: bool = False
    tasks_done: int = 0
    rows_out: int = 0
    bytes_out: int = 0
    blocks_out: int = 0
    peak_bytes: int = 0
    is_measured: bool = False
    seconds_per_row: float | None = None
    made_by_origin: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of an execution.

    Attributes:
        memory_bytes: the budget.
        cpus: CPUs.
        queued_tasks: tasks submitted beyond the free CPUs, so that none waits for the next one.
        is_strict: the user gave the budget, so nothing is begun of which it is not known that it fits; else
            all CPUs have a task from the beginning.
    """

    memory_bytes: int
    cpus: float
    queued_tasks: int
    is_strict: bool = False
