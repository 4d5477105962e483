"""Data sets of what is in memory: items, tables, frames, arrays, references, data sets of other libraries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from skate.data._block.batches import from_batch
from skate.data._block.builder import BlockBuilder
from skate.data._block.tables import concat, size_bytes, slice_rows
from skate.data._io.datasource import Datasource, ReadTask
from skate.data._io.readers.memory import (
    TorchDatasource,
    tables_of_arrow,
    tables_of_huggingface,
    tables_of_items,
    tables_of_numpy,
    tables_of_pandas,
)
from skate.data._plan.logical import Blocks
from skate.data._task.operators import TaskContext
from skate.data._task.slices import BlockMeta, BlockSlice, cut

#: Most blocks that a table is cut into by itself.
MOST_BLOCKS = 200


def held(tables: Sequence[pa.Table], label: str, blocks: int | None = None) -> Blocks:
    """Return the node of tables that are in this process.

    Args:
        tables: one block each.
        label: for people: ``"FromArrow"``.
        blocks: number of blocks wanted: rows are cut evenly, without a copy.

    Returns:
        The node.
    """
    slices = [whole(table, table) for table in tables]
    if blocks is not None:
        rows = sum(piece.num_rows for piece in slices)
        parts = cut(slices, [rows * index // blocks for index in range(1, blocks)])
        slices = []
        for part in parts:
            made = [slice_rows(piece.block, piece.start, piece.stop) for piece in part]
            if made:
                table = made[0] if len(made) == 1 else concat(made)
                slices.append(whole(table, table))
    return Blocks(tuple(slices), label=label)


def whole(block: Any, table: pa.Table) -> BlockSlice:
    """Return the slice of a block: where it is, and its rows for the facts."""
    return BlockSlice.whole(block, BlockMeta(table.num_rows, size_bytes(table), table.schema))


def of_items(items: Sequence[Any], blocks: int | None) -> Blocks:
    """Return the node of Python objects: dicts are rows, other objects go into a column ``item``."""
    return held(tables_of_items(items, blocks or -1), "FromItems")


def of_tables(tables: Any, blocks: int | None) -> Blocks:
    """Return the node of Arrow tables, record batches, or bytes of an IPC stream; one or a list."""
    return held(tables_of_arrow(tables), "FromArrow", blocks)


def of_frames(frames: Any, blocks: int | None) -> Blocks:
    """Return the node of pandas frames; one or a list."""
    return held(tables_of_pandas(frames), "FromPandas", blocks)


def of_arrays(arrays: Any) -> Blocks:
    """Return the node of numpy arrays; one or a list: rows are along the first axis, in a column ``data``."""
    return held(tables_of_numpy(arrays), "FromNumpy")


def of_refs(refs: Any, label: str, kind: str) -> Blocks:
    """Return the node of references.

    Args:
        refs: one or a list.
        label: for people.
        kind: ``"arrow"``: the blocks stay where they are; ``"pandas"``, ``"numpy"``: they are converted here.
    """
    # The session's API is imported when it is needed: small data sets do without.
    from skate import api

    given = list(refs) if isinstance(refs, (list, tuple)) else [refs]
    slices = []
    for ref, value in zip(given, api.get(given), strict=True):
        if kind == "arrow":
            for table in tables_of_arrow(value):
                slices.append(whole(ref if table is value else table, table))
        else:
            table = from_batch(value if kind == "pandas" else {"data": value}, label)
            slices.append(whole(table, table))
    return Blocks(tuple(slices), label=label)


def of_huggingface(dataset: Any, blocks: int | None) -> Blocks | Datasource:
    """Return the node, or the datasource, of a data set of the library ``datasets``.

    Raises:
        TypeError: something else, such as a DatasetDict; the message says which parts it has.
    """
    if not isinstance(dataset, Mapping) and not hasattr(dataset, "data") and hasattr(dataset, "__iter__"):
        return IterableSource(dataset, "HuggingFace")
    tables = tables_of_huggingface(dataset)
    rows = sum(table.num_rows for table in tables)
    mebibytes = sum(map(size_bytes, tables)) >> 20
    return held(tables, "FromHuggingFace", blocks or max(1, min(MOST_BLOCKS, mebibytes, rows)))


def of_torch(dataset: Any) -> Datasource:
    """Return the datasource of a torch data set: items go into a column ``item``.

    Raises:
        TypeError: it has neither ``__iter__`` nor ``__getitem__`` and ``__len__``.
    """
    is_indexed = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    if not is_indexed and hasattr(dataset, "__iter__"):
        return IterableSource(dataset, "Torch")
    return TorchDatasource(dataset)


class IterableSource(Datasource):
    """Items of an iterable, read in order by one task.

    Args:
        items: dicts are rows, other objects go into a column ``item``; pickled to the task.
        name: for people.
    """

    def __init__(self, items: Iterable[Any], name: str) -> None:
        self._items = items
        self._name = name

    def get_name(self) -> str:
        """Return a name for people."""
        return self._name

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Return the one part."""
        read = _ReadIterable(self._items, per_task_row_limit)
        return [ReadTask(read, per_task_row_limit=per_task_row_limit, name="items")]


class _ReadIterable:
    """The read function of an iterable."""

    def __init__(self, items: Iterable[Any], limit: int | None) -> None:
        self._items = items
        self._limit = limit

    def __call__(self) -> Iterator[pa.Table]:
        """Return the blocks."""
        return self.read(TaskContext("read"))

    def read(self, task: TaskContext) -> Iterator[pa.Table]:
        """Return the blocks of a task."""
        builder = BlockBuilder(task.target_max_block_bytes)
        for item in islice(self._items, self._limit):
            builder.add_row(item if isinstance(item, Mapping) else {"item": item})
            yield from builder.ready()
        yield from builder.finish()
