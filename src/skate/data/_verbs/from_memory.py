"""Data sets of what is in memory: items, tables, frames, arrays, references, data sets of other libraries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa

from skate import api
from skate.data._block.batches import from_batch
from skate.data._block.rows import from_rows
from skate.data._block.tables import concat, size_bytes, slice_rows
from skate.data._exec.slices import BlockMeta, BlockSlice, cut
from skate.data._io.datasource import BlockMetadata, Datasource, ReadTask
from skate.data._plan.logical import Blocks

#: Most blocks that ``from_items`` makes by itself.
MOST_BLOCKS = 200
#: Rows of a block that is filled from an iterator.
ROWS_A_BLOCK = 1024


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
    rows = [item if isinstance(item, Mapping) else {"item": item} for item in items]
    number = min(len(rows), MOST_BLOCKS if blocks is None else blocks)
    stops = [len(rows) * index // number for index in range(number + 1)] if rows else [0]
    tables = [from_rows(rows[start:stop]) for start, stop in pairwise(stops)]
    return held(tables, "FromItems")


def of_tables(tables: Any, blocks: int | None) -> Blocks:
    """Return the node of Arrow tables, record batches, or bytes of an IPC stream; one or a list.

    Raises:
        TypeError: something else.
    """
    given = tables if isinstance(tables, (list, tuple)) else [tables]
    return held([_table(one) for one in given], "FromArrow", blocks)


def _table(value: Any) -> pa.Table:
    if isinstance(value, (bytes, bytearray, memoryview, pa.Buffer)):
        return pa.ipc.open_stream(pa.py_buffer(value)).read_all()
    if isinstance(value, pa.RecordBatch):
        return pa.Table.from_batches([value])
    if isinstance(value, pa.Table):
        return value
    if hasattr(value, "__arrow_c_stream__"):
        return pa.table(value)
    raise TypeError(
        f"from_arrow() takes a pyarrow.Table or bytes of an IPC stream, got a {type(value).__name__}"
    )


def of_frames(frames: Any, blocks: int | None) -> Blocks:
    """Return the node of pandas frames; one or a list."""
    given = frames if isinstance(frames, (list, tuple)) else [frames]
    for frame in given:
        if not hasattr(frame, "columns"):
            raise TypeError(
                f"from_pandas() takes a pandas.DataFrame or a list of them, got a {type(frame).__name__}"
            )
    return held([from_batch(frame, "from_pandas") for frame in given], "FromPandas", blocks)


def of_arrays(arrays: Any) -> Blocks:
    """Return the node of numpy arrays; one or a list: rows are along the first axis, in a column ``data``."""
    given = arrays if isinstance(arrays, (list, tuple)) else [arrays]
    for array in given:
        if not hasattr(array, "dtype") or not getattr(array, "shape", ()):
            raise TypeError(
                "from_numpy() takes a numpy array with an axis of rows, or a list of them, got "
                f"{type(array).__name__}"
            )
    return held([from_batch({"data": array}, "from_numpy") for array in given], "FromNumpy")


def of_refs(refs: Any, label: str, kind: str) -> Blocks:
    """Return the node of references.

    Args:
        refs: one or a list.
        label: for people.
        kind: ``"arrow"``: the blocks stay where they are; ``"pandas"``, ``"numpy"``: they are converted here.
    """
    given = list(refs) if isinstance(refs, (list, tuple)) else [refs]
    slices = []
    for ref, value in zip(given, api.get(given), strict=True):
        if kind == "arrow":
            table = _table(value)
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
    if isinstance(dataset, Mapping):
        raise TypeError(
            "from_huggingface() takes one data set, and this is a dictionary of them: choose one of "
            f"{', '.join(map(repr, dataset))}"
        )
    if hasattr(dataset, "data") and hasattr(dataset, "with_format"):
        table = dataset.with_format("arrow")[:]
        return held([_table(table)], "FromHuggingFace", blocks or _pieces(table))
    if hasattr(dataset, "__iter__"):
        return IterableSource(dataset, "HuggingFace")
    raise TypeError(
        f"from_huggingface() takes a datasets.Dataset or IterableDataset, got {type(dataset).__name__}"
    )


def _pieces(table: pa.Table) -> int:
    """Return the number of blocks for a table: at least 1 MiB and at least a row each."""
    return max(1, min(MOST_BLOCKS, int(size_bytes(table)) >> 20, int(table.num_rows)))


def of_torch(dataset: Any) -> Datasource:
    """Return the datasource of a torch data set: items go into a column ``item``.

    Raises:
        TypeError: it has neither ``__iter__`` nor ``__getitem__`` and ``__len__``.
    """
    if hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
        return IndexedSource(dataset)
    if hasattr(dataset, "__iter__"):
        return IterableSource(dataset, "Torch")
    raise TypeError(
        f"from_torch() takes a torch.utils.data.Dataset or IterableDataset, got a {type(dataset).__name__}"
    )


class IndexedSource(Datasource):
    """Items of something with ``__getitem__`` and ``__len__``, read in parts by several tasks.

    Args:
        dataset: the items; pickled to the tasks.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def get_name(self) -> str:
        """Return a name for people."""
        return "Torch"

    def num_rows(self) -> int:
        """Return the number of items."""
        return len(self._dataset)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Return the parts: ranges of indices."""
        rows = len(self._dataset)
        number = max(1, min(rows, parallelism if parallelism > 0 else max(1, min(16, rows // ROWS_A_BLOCK))))
        stops = [rows * index // number for index in range(number + 1)]
        return [
            ReadTask(
                _ReadItems(self._dataset, start, stop, per_task_row_limit),
                BlockMetadata(num_rows=stop - start),
                name=f"{start}-{stop}",
            )
            for start, stop in pairwise(stops)
        ]


class _ReadItems:
    def __init__(self, dataset: Any, start: int, stop: int, limit: int | None) -> None:
        self._dataset = dataset
        self._start = start
        self._stop = stop if limit is None else min(stop, start + limit)

    def __call__(self) -> Iterator[pa.Table]:
        return _filled({"item": self._dataset[index]} for index in range(self._start, self._stop))


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
        return [ReadTask(_ReadIterable(self._items, per_task_row_limit), name="items")]


class _ReadIterable:
    def __init__(self, items: Iterable[Any], limit: int | None) -> None:
        self._items = items
        self._limit = limit

    def __call__(self) -> Iterator[pa.Table]:
        return _filled(
            item if isinstance(item, Mapping) else {"item": item}
            for number, item in zip(_numbers(self._limit), self._items, strict=False)
        )


def _numbers(limit: int | None) -> Iterator[int]:
    number = 0
    while limit is None or number < limit:
        yield number
        number += 1


def _filled(rows: Iterable[Mapping[str, Any]]) -> Iterator[pa.Table]:
    waiting: list[Mapping[str, Any]] = []
    for row in rows:
        waiting.append(row)
        if len(waiting) == ROWS_A_BLOCK:
            yield from_rows(waiting)
            waiting = []
    if waiting:
        yield from_rows(waiting)


class RangeSource(Datasource):
    """Whole numbers from 0, in a column ``id``; or arrays filled with them, in a column ``data``.

    Args:
        rows: how many.
        shape: of the arrays; None: the numbers themselves.
    """

    def __init__(self, rows: int, shape: tuple[int, ...] | None = None) -> None:
        self._rows = rows
        self._shape = shape

    def get_name(self) -> str:
        """Return a name for people."""
        return "Range"

    def num_rows(self) -> int:
        """Return the number of rows."""
        return self._rows

    def schema(self) -> pa.Schema:
        """Return the schema."""
        return _range_table(0, 0, self._shape).schema

    def estimate_inmemory_data_size(self) -> int:
        """Return the bytes of all rows."""
        cells = 1
        for length in self._shape or ():
            cells *= length
        return self._rows * cells * 8

    def fingerprint(self) -> Any:
        """Return what makes the rows."""
        return ["Range", self._rows, list(self._shape or ())]

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Return the parts: exactly as many as asked for, if there are so many rows."""
        if parallelism > 0:
            number = parallelism
        else:
            at_least = getattr(data_context, "read_op_min_num_blocks", MOST_BLOCKS)
            largest = getattr(data_context, "target_block_bytes", 128 << 20)
            number = max(at_least, -(-self.estimate_inmemory_data_size() // largest))
        number = max(1, min(self._rows, number))
        stops = [self._rows * index // number for index in range(number + 1)]
        parts = pairwise(stops)
        return [
            ReadTask(
                _ReadRange(start, stop if limit is None else min(stop, start + limit), self._shape),
                BlockMetadata(num_rows=stop - start, size_bytes=(stop - start) * 8),
                self.schema(),
                per_task_row_limit,
                name=f"{start}-{stop}",
            )
            for limit in (per_task_row_limit,)
            for start, stop in parts
        ]


class _ReadRange:
    def __init__(self, start: int, stop: int, shape: tuple[int, ...] | None) -> None:
        self._start = start
        self._stop = stop
        self._shape = shape

    def __call__(self) -> Iterator[pa.Table]:
        yield _range_table(self._start, self._stop, self._shape)


def _range_table(start: int, stop: int, shape: tuple[int, ...] | None) -> pa.Table:
    if shape is None:
        if hasattr(pa, "arange"):
            return pa.table({"id": pa.arange(start, stop)})
        return pa.table({"id": pa.array(range(start, stop), pa.int64())})
    import numpy as np

    data = np.ones(shape, dtype=np.int64) * np.arange(start, stop).reshape((-1,) + (1,) * len(shape))
    return from_batch({"data": data}, "range_tensor")
