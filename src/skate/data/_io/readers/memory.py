"""Rows that are in memory: numbers, items, data frames, arrays, tables, and data sets of other libraries."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa

from skate.data._block.batches import from_batch
from skate.data._block.builder import BlockBuilder
from skate.data._block.rows import from_rows
from skate.data._io.datasource import BlockMetadata, Datasource, ReadTask
from skate.data._options import check_type
from skate.data._previews import doubled
from skate.data._task.operators import TaskContext

# Without a wish, blocks have at least this many rows and bytes.
_LEAST_ROWS = 50_000
_BLOCK_BYTES = 32 << 20
_MOST_BLOCKS = 200
# So many read tasks are made at once, more of them while rows are read.
_LISTED_TASKS = 4096


def _cuts(count: int, parts: int) -> Iterator[tuple[int, int]]:
    """Cut ``count`` rows as Ray does: blocks of ``count // parts`` rows, and one of the rest."""
    size = max(1, count // max(1, parts))
    return ((start, min(start + size, count)) for start in range(0, count, size))


class RangeDatasource(Datasource):
    """The integers from 0 to before ``n``, or with ``tensor_shape`` arrays full of them.

    Args:
        n: how many.
        column: name of the column.
        tensor_shape: shape of arrays; None: plain numbers.
    """

    def __init__(self, n: int, *, column: str = "id", tensor_shape: Sequence[int] | None = None) -> None:
        check_type("n", n, int, "an integer")
        if n < 0:
            raise ValueError(f"n must be 0 or more, not {n}")
        if tensor_shape is not None:
            check_type("shape", tensor_shape, (tuple, list), "a tuple of integers")
            for side in tensor_shape:
                check_type("shape", side, int, "a tuple of integers")
                if side < 0:
                    raise ValueError(f"shape must have no negative sides: {tensor_shape!r}")
        self._n = n
        self._column = column
        self._shape = None if tensor_shape is None else tuple(tensor_shape)

    @property
    def _row_bytes(self) -> int:
        size = 8
        for side in self._shape or ():
            size *= side
        return size

    def get_name(self) -> str:
        return "Range"

    def schema(self) -> pa.Schema:
        """Return the schema."""
        if self._shape is None:
            return pa.schema([(self._column, pa.int64())])
        return self._block(0, 1).schema

    def num_rows(self) -> int:
        """Return ``n``."""
        return self._n

    def estimate_inmemory_data_size(self) -> int:
        """Return the bytes of all rows."""
        return self._n * self._row_bytes

    def fingerprint(self) -> dict[str, Any]:
        """Return what there is to know."""
        return {"source": "Range", "n": self._n, "column": self._column, "shape": list(self._shape or ())}

    def get_read_tasks(
        self, parallelism: int = -1, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Return parts of ``n // parallelism`` rows; of at most 32 MiB without a wish."""
        return list(self._tasks(self._parts(parallelism), per_task_row_limit))

    def iter_read_tasks(
        self, parallelism: int = -1, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> Iterable[ReadTask]:
        """Return the same, as a list if they are few: it goes to each process once, with its stage."""
        parts = self._parts(parallelism)
        tasks = self._tasks(parts, per_task_row_limit)
        return list(tasks) if parts <= _LISTED_TASKS else tasks

    def _parts(self, parallelism: int) -> int:
        if parallelism > 0:
            return parallelism
        by_bytes = -(-self.estimate_inmemory_data_size() // _BLOCK_BYTES)
        return max(by_bytes, min(_MOST_BLOCKS, -(-self._n // _LEAST_ROWS)), 1)

    def _tasks(self, parts: int, per_task_row_limit: int | None) -> Iterator[ReadTask]:
        limits = [limit for limit in (per_task_row_limit, self.hints.limit) if limit is not None]
        most = min(limits, default=None)
        for start, stop in _cuts(self._n, parts):
            end = stop if most is None else min(stop, start + most)
            facts = BlockMetadata(num_rows=end - start, size_bytes=(end - start) * self._row_bytes)
            read = RangeRead(self, start, end)
            yield ReadTask(read, facts, None, per_task_row_limit, f"range[{start}:{stop}]")

    def _block(self, start: int, stop: int) -> pa.Table:
        if self._shape is None:
            return pa.table({self._column: _integers(start, stop)})
        import numpy as np

        count = stop - start
        numbers = np.arange(start, stop, dtype=np.int64).reshape(count, *(1 for _ in self._shape))
        return from_batch(
            {self._column: np.broadcast_to(numbers, (count, *self._shape)).copy()}, "range_tensor"
        )


def _integers(start: int, stop: int) -> pa.Array:
    try:
        import numpy as np
    except ImportError:
        return pa.array(builtins.range(start, stop), pa.int64())
    # Not pa.array, which loads numpy.ma to ask whether the array is masked.
    numbers = pa.py_buffer(np.arange(start, stop, dtype=np.int64))
    return pa.Array.from_buffers(pa.int64(), stop - start, [None, numbers])


class RangeRead:
    """The read function of a part of a range."""

    def __init__(self, source: RangeDatasource, start: int, stop: int) -> None:
        self._source = source
        self._start = start
        self._stop = stop

    def __call__(self) -> Iterator[pa.Table]:
        """Return the blocks."""
        return self.read(TaskContext("read"))

    def read(self, task: TaskContext) -> Iterator[pa.Table]:
        """Return the blocks of a task."""
        rows = max(1, task.target_max_block_bytes // max(1, self._source._row_bytes))
        for start in builtins.range(self._start, self._stop, rows):
            yield self._source._block(start, min(start + rows, self._stop))


class TorchDatasource(Datasource):
    """Items of a map-style data set of torch (``__len__``, ``__getitem__``): a column ``item``.

    An item that is a dict is a row of its own. Tensors become arrays.

    Args:
        dataset: the data set; it is pickled to the workers.
    """

    def __init__(self, dataset: Any) -> None:
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            raise TypeError(
                "from_torch takes map-style data sets, with __len__ and __getitem__; "
                f"{type(dataset).__name__} has not both. Iterate over it and use from_items"
            )
        self._dataset = dataset

    def get_name(self) -> str:
        return "Torch"

    def num_rows(self) -> int:
        """Return the length."""
        return len(self._dataset)

    def get_read_tasks(
        self, parallelism: int = -1, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Return parts of even numbers of items."""
        count = len(self._dataset)
        parts = parallelism if parallelism > 0 else max(1, min(_MOST_BLOCKS, -(-count // 256)))
        limits = [limit for limit in (per_task_row_limit, self.hints.limit) if limit is not None]
        most = min(limits, default=None)
        tasks = []
        for start, stop in _cuts(count, parts):
            end = stop if most is None else min(stop, start + most)
            read = TorchRead(self._dataset, start, end)
            tasks.append(
                ReadTask(
                    read,
                    BlockMetadata(num_rows=end - start),
                    None,
                    per_task_row_limit,
                    f"torch[{start}:{stop}]",
                )
            )
        return tasks


class TorchRead:
    """The read function of a part of a map-style data set."""

    def __init__(self, dataset: Any, start: int, stop: int) -> None:
        self._dataset = dataset
        self._start = start
        self._stop = stop

    def __call__(self) -> Iterator[pa.Table]:
        """Return the blocks."""
        return self.read(TaskContext("read"))

    def read(self, task: TaskContext) -> Iterator[pa.Table]:
        """Return the blocks of a task."""
        builder = BlockBuilder(task.target_max_block_bytes)
        for number in builtins.range(self._start, self._stop):
            item = self._dataset[number]
            builder.add_row(item if isinstance(item, dict) else {"item": _without_tensors(item)})
            yield from builder.ready()
        yield from builder.finish()


def _without_tensors(item: Any) -> Any:
    """Return an item in which tuples are lists and tensors are arrays: one column takes them all."""
    if isinstance(item, (tuple, list)):
        return [_without_tensors(part) for part in item]
    if hasattr(item, "detach") and hasattr(item, "numpy"):
        return item.detach().cpu().numpy()
    return item


def tables_of_items(items: Sequence[Any], parallelism: int = -1) -> list[pa.Table]:
    """Return blocks of items: a dict is a row, anything else ``{"item": value}``.

    Args:
        items: the items.
        parallelism: number of blocks; -1: a block for each row, 200 at most.
    """
    rows = [item if isinstance(item, Mapping) else {"item": item} for item in items]
    if not rows:
        return []
    wanted = parallelism if parallelism > 0 else _MOST_BLOCKS
    parts = min(len(rows), wanted)
    bounds = [len(rows) * part // parts for part in builtins.range(parts + 1)]
    return [from_rows(rows[start:stop]) for start, stop in pairwise(bounds)]


def tables_of_arrow(tables: Any) -> list[pa.Table]:
    """Return blocks of tables, record batches, their serialised bytes (IPC streams), or a list of these."""
    if isinstance(tables, (list, tuple)):
        if not tables:
            raise ValueError("from_arrow needs one table at least")
        return [table for item in tables for table in tables_of_arrow(item)]
    if isinstance(tables, pa.Table):
        if twice := doubled(tables.column_names):
            raise ValueError(
                f"from_arrow: a table has more than one column of the name {twice}: give them names of their "
                "own, as by table.rename_columns([...])"
            )
        return [tables]
    if isinstance(tables, pa.RecordBatch):
        return tables_of_arrow(pa.Table.from_batches([tables]))
    if isinstance(tables, (bytes, bytearray, memoryview)):
        with pa.ipc.open_stream(tables) as reader:
            return tables_of_arrow(reader.read_all())
    if isinstance(tables, pa.RecordBatchReader):
        return tables_of_arrow(tables.read_all())
    if hasattr(tables, "__arrow_c_stream__"):
        return tables_of_arrow(pa.table(tables))
    raise TypeError(f"tables must be a pyarrow.Table or a list of these, not {type(tables).__name__}")


def tables_of_pandas(frames: Any) -> list[pa.Table]:
    """Return blocks of data frames; the index is left out, NaN in a column of floats is null."""
    found = list(frames) if isinstance(frames, (list, tuple)) else [frames]
    if not found:
        raise ValueError("from_pandas needs one data frame at least")
    for frame in found:
        if not (hasattr(frame, "columns") and hasattr(frame, "iloc")):
            raise TypeError(f"dfs must be a pandas.DataFrame or a list of these, not {type(frame).__name__}")
    return [from_batch(frame, "from_pandas") for frame in found]


def tables_of_numpy(arrays: Any) -> list[pa.Table]:
    """Return blocks of arrays, a block each: a column ``data``, a row for each item of the first axis."""
    import numpy as np

    found = list(arrays) if isinstance(arrays, (list, tuple)) else [arrays]
    if not found:
        raise ValueError("from_numpy needs one array at least")
    made = []
    for array in found:
        if not hasattr(array, "__array__"):
            raise TypeError(f"ndarrays must be a numpy array or a list of these, not {type(array).__name__}")
        made.append(from_batch({"data": np.atleast_1d(np.asarray(array))}, "from_numpy"))
    return made


def tables_of_huggingface(dataset: Any) -> list[pa.Table]:
    """Return blocks of a ``datasets.Dataset``: its own Arrow table, in the order of its rows, without a copy.

    Raises:
        TypeError: it is a ``DatasetDict`` or an ``IterableDataset``; the message says what to do.
    """
    if isinstance(dataset, Mapping):
        names = ", ".join(repr(name) for name in dataset)
        raise TypeError(f"from_huggingface takes one split, not all of them: choose one of {names}")
    data = getattr(dataset, "data", None)
    table = getattr(data, "table", data)
    if not isinstance(table, pa.Table):
        raise TypeError(
            f"from_huggingface takes a datasets.Dataset, not {type(dataset).__name__}. Of an "
            "IterableDataset make one with Dataset.from_generator, or use from_items"
        )
    if getattr(dataset, "_indices", None) is not None:  # select, shuffle and sort keep the table and an index
        indices = dataset._indices.column(0)
        table = table.take(indices)
    return [table.replace_schema_metadata(None)]
