"""The operator that gives the blocks of a task to a sink; where the task runs isolated, in another process.

::

    WriteRows ── ("begin", task) ───────► _ChildWrite: the sink writes in a thread
              ── ("block", rows) ───────►   answers when the sink wants the next block
              ── ("end", None) ─────────►   answers with what the sink returned
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from skate.data._block.errors import SchemaConflictError
from skate.data._block.sources import sources
from skate.data._block.tables import combine, compact
from skate.data._io.sink import Sink
from skate.data._io.writers.one_schema import SeenSchemas, Written
from skate.data._operators.own_process import OwnProcess
from skate.data._task.operators import Made, TaskContext
from skate.data.exceptions import RowCrashedError, wrap


class WriteRows(OwnProcess):
    """Gives the blocks of a task to a sink; its output has no rows and says what the sink returned.

    Args:
        sink: where rows go.
    """

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.name = sink.name

    def make_for_child(self) -> Callable[[Any], Any]:
        """Return what writes in a process of its own."""
        return _ChildWrite(self.sink)

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[Made]:
        """Write the task's rows."""
        seen = SeenSchemas()
        watched = seen.watched(blocks, task.task_id)
        try:
            with self.calls(task, _here) as call:
                result = self.sink.write(watched, task) if call is _here else self._sent(call, watched, task)
        except SchemaConflictError:
            if self.sink.has_one_schema:
                seen.check(self.name, self.sink.on_schema)  # it knows where the rows came from
            raise
        yield Made(pa.table({}), Written(result, tuple(seen.origins), seen.first))

    def _sent(self, call: Callable[[Any], Any], blocks: Iterator[pa.Table], task: TaskContext) -> Any:
        """Write in another process, block by block.

        Raises:
            RowCrashedError: the process ended; the error names the rows that were being written.
        """
        first = last = 0
        paths: set[str] = set()
        own = TaskContext(
            task.task_id, task.params, task.slices, task.target_max_block_bytes, task.on_conflict, task.number
        )
        try:
            call(("begin", own))
            for block in blocks:
                first, last = last, last + block.num_rows
                paths = {path for path, _ in sources(block)}
                call(("block", compact(combine(block))))
            result, counts = call(("end", None))
        except RowCrashedError as error:
            path = paths.pop() if len(paths) == 1 else ""
            row_id = f"{task.task_id}:{first}-{max(first, last - 1)}"
            raise wrap(error, self.name, None, path, row_id, has_on_error=False) from error
        for name, number in counts.items():
            task.counts[name] = task.counts.get(name, 0) + number
        return result


def _here(data: Any) -> Any:
    """Stands for a write in the process of the task."""
    raise NotImplementedError


class _ChildWrite:
    """A write in a process of its own, in a thread, since it takes blocks when it wants them."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._blocks: queue.SimpleQueue[pa.Table | None] = queue.SimpleQueue()
        # None: the next block is wanted; else the write has ended.
        self._news: queue.SimpleQueue[tuple[Any, BaseException | None] | None] = queue.SimpleQueue()

    def __call__(self, message: tuple[str, Any]) -> Any:
        kind, data = message
        if kind == "begin":
            self._task = data
            self._ended: tuple[Any, BaseException | None] | None = None
            threading.Thread(target=self._run, name="write", daemon=True).start()
        elif self._ended is None:
            self._blocks.put(data)
        if self._ended is None:
            self._ended = self._news.get()
        if self._ended is not None and self._ended[1] is not None:
            raise self._ended[1]
        return None if self._ended is None else (self._ended[0], self._task.counts)

    def _run(self) -> None:
        try:
            self._news.put((self._sink.write(self._wanted(), self._task), None))
        except BaseException as error:
            self._news.put((None, error))

    def _wanted(self) -> Iterator[pa.Table]:
        while True:
            self._news.put(None)
            block = self._blocks.get()
            if block is None:
                return
            yield block
