"""Running plans: the one place where verbs meet the executor."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pyarrow as pa

from skate.data._block.tables import size_bytes
from skate.data._exec.execution import Execution
from skate.data._plan.execute import execute
from skate.data._plan.logical import Node
from skate.data._task.slices import BlockSlice
from skate.data._verbs.randomness import for_execution
from skate.data.context import DataContext
from skate.data.exceptions import RayDataUserCodeException, for_caller

#: Operations of a plan from which on it may be too deep for Python (count).
_DEEP = 100

#: Called with an execution that begins, and with None when it has ended.
Watch = Callable[[Execution | None], None]


@contextmanager
def run(plan: Node, context: DataContext, watch: Watch | None = None) -> Iterator[Execution]:
    """Run a plan for the time of a ``with`` block; leaving it early stops what still runs.

    Args:
        plan: what to run.
        context: the settings.
        watch: gets the execution, for its figures and dead letters.

    Yields:
        The execution: an iterator of slices of blocks.

    Raises:
        Exception: what a user's function raised, as an instance of its own type; see
        ``skate.data.exceptions``.
    """
    number = context.executions
    if watch is not None:
        context.executions = number + 1
    try:
        with execute(for_execution(plan, number), context) as execution:
            if watch is not None:
                watch(execution)
            yield execution
    except Exception as error:
        raised = for_caller(_explained(error, plan))
        if raised is error:
            raise
        raise raised from raised.__cause__
    finally:
        if watch is not None:
            watch(None)


def _explained(error: Exception, plan: Node) -> Exception:
    """Return the error of a plan that is deeper than Python's stack; others as they are."""
    if isinstance(error, RayDataUserCodeException) or not isinstance(error, RecursionError):
        return error
    seen, todo = set[int](), [plan]
    while todo:
        node = todo.pop()
        if id(node) not in seen:
            seen.add(id(node))
            todo += node.inputs
    if len(seen) < _DEEP:
        return error
    made = RecursionError(
        f"the plan of this data set has {len(seen)} operations, nested deeper than Python's stack "
        "allows. Put several into one function, give with_columns() or union() all at once, or call "
        "materialize() in between"
    )
    made.__cause__ = error
    return made


def slices(plan: Node, context: DataContext, watch: Watch | None = None) -> list[BlockSlice]:
    """Run a plan and return all its slices; they stay valid."""
    with run(plan, context, watch) as execution:
        return [_kept(execution, piece) for piece in execution]


def _kept(execution: Execution, piece: BlockSlice) -> BlockSlice:
    """Return a slice that outlives its execution: files of an execution go with it."""
    if not piece.meta.is_on_disk:
        return piece
    table = execution.fetch(piece)
    return moved(piece, table, execution.port.put(table))


def moved(piece: BlockSlice, table: pa.Table, block: Any) -> BlockSlice:
    """Return the slice of a block that was made of the rows of another slice.

    Args:
        piece: the slice.
        table: its rows.
        block: where they are now.
    """
    meta = replace(piece.meta, num_rows=table.num_rows, size_bytes=size_bytes(table), is_on_disk=False)
    return BlockSlice.whole(block, meta)


def tables(plan: Node, context: DataContext, watch: Watch | None = None) -> Generator[pa.Table, None, None]:
    """Run a plan and yield its blocks as tables; closing the generator stops it."""
    with run(plan, context, watch) as execution:
        for piece in execution:
            yield execution.fetch(piece)
