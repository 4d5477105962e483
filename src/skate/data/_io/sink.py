"""Sinks: what becomes of rows that are written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from skate.data._io.commit_letters import Failures
from skate.data._task.operators import TaskContext

if TYPE_CHECKING:
    import pyarrow as pa


class Sink(ABC):
    """Writes blocks in tasks, and commits in the driver; picklable.

    The driver calls ``start`` once before the first task and ``commit`` once after the last, or ``abort``. A
    task may be run again, after a crash, with the same ``task.task_id``: what it writes must then replace
    what it wrote.

    Attributes:
        name: for people: ``"WriteParquet"``.
        min_rows: rows that each task should get at least; None: whatever comes.
        min_bytes: bytes in memory that each task should get at least; None: whatever comes.
        one_task: a single task gets all rows.
        is_resumable: parts of the source are recorded as they are written, and not read again by a later run.
        has_one_schema: all rows that it writes have the same columns and types.
        on_schema: what it does with rows whose schemas differ: ``DataContext.on_schema``.
        is_uniform: all rows of the run had the same schema; known before ``commit``.
    """

    name: str = "Write"
    min_rows: int | None = None
    min_bytes: int | None = None
    one_task: bool = False
    is_resumable: bool = False
    has_one_schema: bool = False
    on_schema: str = "unify"
    is_uniform: bool = False

    def start(self, schema: pa.Schema | None) -> None:  # noqa: B027 - optional
        """Check the target and prepare it; raise before anything is read if it cannot be written to."""

    def is_needed(self) -> bool:
        """Tell whether anything is to be done at all (False: mode "ignore" and the target exists). After
        ``start``.
        """
        return True

    @abstractmethod
    def write(self, blocks: Iterator[pa.Table], task: TaskContext) -> Any:
        """Write the blocks of one task. Runs in a worker. Return plain data for ``commit``."""

    def record(  # noqa: B027 - optional
        self, part: str, results: Sequence[Any], failures: Failures | None = None
    ) -> None:
        """Take a part of the source into account, in the driver: all rows that came from it are written.

        Args:
            part: the name of a read task (``ReadTask.name``, or its number): the same in every run of a plan.
            results: what ``write`` returned for each task that wrote rows of the part.
            failures: rows of the part that failed.
        """

    def finished(self) -> Sequence[str]:
        """Return the parts that an earlier run recorded, which are not read again. After ``start``."""
        return ()

    def failures(self) -> Failures:
        """Return what failed in the parts that an earlier run recorded. After ``start``."""
        return Failures()

    @abstractmethod
    def commit(self, results: Sequence[Any], schema: pa.Schema | None) -> None:
        """Make everything visible.

        Args:
            results: what ``write`` returned, of all tasks (those of an earlier run included).
            schema: of the rows; None if there were none and it is not known.
        """

    def abort(self, error: BaseException) -> None:  # noqa: B027 - optional
        """Remove what was written; the run failed."""
