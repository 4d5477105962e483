"""Operators: a task does to blocks what they say.

A stage is a list of operators that run one after the other inside one task: each takes an iterator of blocks
and returns one. Operators are pickled with their stage once, travel to workers, and hold no state of a run:
what belongs to one task is in its ``TaskContext``, what belongs to one replica (instances of a user's class)
in ``Replica``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Made:
    """A block with a word of its operator to the driver; only the last operator of a stage may return it.

    Attributes:
        block: the rows.
        extra: ``BlockMeta.extra``: plain data.
    """

    block: pa.Table
    extra: Any


@dataclass(slots=True)
class Letter:
    """A row that failed, for the dead letters.

    Attributes:
        row: the row as a dict, or None if there is none yet (a file that could not be read).
        error: the exception.
        traceback_text: its traceback, formatted.
        stage: the operator's name.
        path: file that the row came from, or "".
        row_id: ``"<task>:<n>"``: the n-th row of a task's input; the same in every run of a plan.
        attempts: calls that failed with the row alone.
        is_kept: the row is to be kept; False: it is left out (``on_error="skip"``) and only counted.
        operation: number of the operation in its plan, of those above the reads; None: a read, or not known.
    """

    row: dict[str, Any] | None
    error: BaseException
    traceback_text: str
    stage: str
    path: str
    row_id: str
    attempts: int = 1
    is_kept: bool = True
    operation: int | None = None


class NotOfRow(BaseException):
    """An error that no row is to blame for, on its way past what handles the errors of calls.

    Args:
        error: what the operator is to raise.
    """

    def __init__(self, error: BaseException) -> None:
        self.error = error


class ChildCalls(ABC):
    """A function in a process of its own."""

    @abstractmethod
    def call(self, data: Any, seconds: float | None = None) -> Any:
        """Call the function, for so many seconds at most. Return its value, or an iterator for a generator's.

        Raises:
            RowCrashedError: it ended its process; the next call gets another one.
            RowTimeoutError: it took longer.
            NotOfRow: the function could not be made in the process.
            Exception: what the function raised.
        """

    @abstractmethod
    def close(self) -> None:
        """End the process."""


class Isolation(ABC):
    """Makes processes for what may end the process that it runs in."""

    @abstractmethod
    def child(self, make: Callable[[], Callable[[Any], Any]], name: str) -> ChildCalls:
        """Return the function that ``make``, which is pickled, makes in a process; ``name`` is for errors."""

    @abstractmethod
    def operator_child(self, position: int, name: str) -> ChildCalls:
        """Return the function of an operator of the stage, made anew in the process."""


@dataclass(slots=True)
class Replica:
    """State that lives as long as a process of a pool, or a task outside of pools.

    Attributes:
        instances: instance of a user's class by the position of its operator in the stage.
        isolation: makes processes for calls of users' functions and for the reading of files, in a task whose
            process has ended before; None: they run in this one.
    """

    instances: dict[int, Any] = field(default_factory=dict)
    isolation: Isolation | None = None


@dataclass(slots=True)
class TaskContext:
    """Facts that an operator may read, and report, while it runs; one for each task.

    Attributes:
        task_id: the task's name, the same in every run of a plan: ``"<stage>.<number>"``.
        number: of the task among those of its stage in this run, the same when it runs again; None: the one
            in its name.
        params: ``Bundle.params``.
        slices: number of blocks that the first operator gets.
        target_max_block_bytes: size at which outputs are cut.
        on_conflict: what ``concat`` does where the types of blocks differ.
        replica: what outlives the task.
        letters: rows that failed; the driver gets them with the next block.
        spent_s: seconds by name (``"read"``, ``"run"``, ``"input"``, ...), for stats.
        counts: counters by name (``"pickled_cells"``, ``"retries"``, ...), for stats.
    """

    task_id: str
    params: Any = None
    slices: int = 0
    target_max_block_bytes: int = 128 << 20
    on_conflict: str = "error"
    number: int | None = None
    replica: Replica = field(default_factory=Replica)
    letters: list[Letter] = field(default_factory=list)
    spent_s: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def spend(self, name: str, seconds: float) -> None:
        """Add seconds to a name of ``spent_s``."""
        self.spent_s[name] = self.spent_s.get(name, 0.0) + seconds


class Operator(ABC):
    """A step of a task: an iterator of blocks in, an iterator of blocks out.

    Attributes:
        name: for people: ``"MapBatches(embed)"``.
        preserves_rows: row i of the output belongs to row i of the input.
        is_deterministic: the same input gives the same output; False for samples without a seed.
        times_itself: it spends ``"run"`` itself; else all of its own time is counted so.
        unit_rows: a task's input may be cut after any multiple of this many rows, and the output of the parts
            is that of the whole; 0: it may not be cut.
        calls_user_code: it calls a user's function, which may take long.
    """

    name: str = ""
    preserves_rows: bool = False
    is_deterministic: bool = True
    times_itself: bool = False
    unit_rows: int = 0
    calls_user_code: bool = False

    @abstractmethod
    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table | Made]:
        """Return the output of one task. Lazy: take a block only when the next output needs it."""

    def open(self, position: int, replica: Replica) -> None:  # noqa: B027 - optional
        """Prepare a replica, once, before its first task: load what is expensive."""

    def __repr__(self) -> str:
        return self.name or type(self).__name__


def open_all(operators: Sequence[Operator], replica: Replica) -> Replica:
    """Open the operators of a stage in a replica, and return it."""
    for position, operator in enumerate(operators):
        operator.open(position, replica)
    return replica
