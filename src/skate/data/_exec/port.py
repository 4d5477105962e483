"""The calls by which an execution meets the world.

Three adapters: ``local_port`` (the caller's process), ``skate_port`` (skate's public API), and, later, one
for somebody else's cluster. A block's handle (``BlockSlice.block``) is a table, a ``FilePart`` or an object
ref; a port takes all that its execution may hold.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skate.data._exec.commands import StartReplica, Submit
from skate.data._exec.stages import Stage
from skate.data._exec.work import Input, Report, TaskSpec
from skate.data._io.datasource import ReadTask
from skate.data._task.slices import BlockSlice
from skate.data.exceptions import DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from skate.data._task.operators import Letter


@dataclass(frozen=True, slots=True)
class BlockMade:
    """A task made a block; ``peak_bytes`` is the memory that it used so far, 0 if that is not measured."""

    task: int
    piece: BlockSlice
    letters: Sequence[Letter] = ()
    peak_bytes: int = 0
    so_far: Report | None = None


@dataclass(frozen=True, slots=True)
class TaskDone:
    """A task has ended well."""

    task: int
    report: Report


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """A task raised, or a crash ended it."""

    task: int
    error: BaseException
    is_crash: bool


@dataclass(frozen=True, slots=True)
class ReplicaReady:
    """A replica has loaded; ``resident_bytes`` is the memory of its process, 0 if that is not measured."""

    replica: int
    resident_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ReplicaDied:
    """A replica ended by a crash, or its constructor raised."""

    replica: int
    error: BaseException
    is_crash: bool


@dataclass(frozen=True, slots=True)
class CpusChanged:
    """Tasks may use more or fewer CPUs from now on."""

    cpus: float


Event = BlockMade | TaskDone | TaskFailed | ReplicaReady | ReplicaDied | CpusChanged


def spec_of(
    command: Submit,
    stage: Stage,
    inputs: Sequence[Input],
    read: ReadTask | int | None,
    target_bytes: int,
    merges_small: bool,
    folder: str | None = None,
    kept_bytes: int = 0,
) -> TaskSpec:
    """Return the task of a command, as its process gets it.

    Args:
        command: the command.
        stage: its stage.
        inputs: the slices of its bundle, as the process finds them.
        read: the read task of a source, or its number; None for other stages.
        target_bytes: size at which output is cut.
        merges_small: small blocks of output are put together.
        folder: where to put output as files, or None.
        kept_bytes: memory that the process may keep for its next task.
    """
    return TaskSpec(
        name=command.name,
        inputs=tuple(inputs),
        read=read,
        params=command.bundle.params if read is None else None,
        skip_rows=command.skip_rows,
        folder=folder,
        target_bytes=target_bytes,
        merges_small=merges_small,
        number=command.number,
        on_conflict=stage.on_conflict,
        is_isolated=command.is_isolated,
        kept_bytes=kept_bytes,
    )


class NoCpusError(DataError):
    """A port will never have a CPU for a task."""


class Port(ABC):
    """Carries out commands of a scheduler and reports events. One thread uses it.

    Attributes:
        name: "local", "skate", ...
        start_s: seconds in which an execution that had begun waited for a session to start.
    """

    name: str = ""
    start_s: float = 0.0

    @abstractmethod
    def cpus(self) -> float:
        """Return the CPUs that tasks may use.

        Raises:
            NoCpusError: there will be none.
        """

    @abstractmethod
    def memory_bytes(self) -> int:
        """Return a budget for what an execution holds, if the user gave none."""

    @abstractmethod
    def open(
        self, stages: Sequence[Stage], target_bytes: int, window_bytes: int, kept_bytes: int, folder: str
    ) -> None:
        """Prepare for the stages of one execution.

        Args:
            stages: all of them.
            target_bytes: size at which tasks cut their output.
            window_bytes: output that a task may have made and the port has not read.
            kept_bytes: memory that a process may keep from a task for the next one.
            folder: for output that goes to files; it is there when a task is submitted that needs it.
        """

    @abstractmethod
    def submit(self, command: Submit) -> None:
        """Run a task."""

    @abstractmethod
    def start_replica(self, command: StartReplica) -> None:
        """Start a replica."""

    @abstractmethod
    def stop_replica(self, replica: int) -> None:
        """End a replica, or keep it warm."""

    @abstractmethod
    def cancel(self, task: int) -> None:
        """End a task; nothing is reported of it any more."""

    @abstractmethod
    def hold(self, task: int) -> None:
        """Read no further blocks of a task."""

    @abstractmethod
    def release(self, task: int) -> None:
        """Go on reading blocks of a task."""

    @abstractmethod
    def wait(self, timeout_s: float | None) -> list[Event]:
        """Return what has happened, and wait for it if nothing has; [] when the time is up."""

    @abstractmethod
    def fetch(self, piece: BlockSlice) -> pa.Table:
        """Return the rows of a slice."""

    @abstractmethod
    def put(self, block: pa.Table) -> Any:
        """Return a handle of a block of the caller's, which other executions may use."""

    @abstractmethod
    def close(self) -> None:
        """End what is left of the execution."""
