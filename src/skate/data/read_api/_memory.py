"""Data sets of numbers, and of what is in memory or in another library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from skate.data._io.datasource import Datasource
from skate.data._io.readers.memory import RangeDatasource
from skate.data._verbs import from_memory
from skate.data._verbs import resources as options
from skate.data._verbs.checks import listed
from skate.data.context import DataContext
from skate.data.dataset import Dataset, MaterializedDataset
from skate.data.read_api._made import held, made


def range(
    n: int,
    *,
    parallelism: int = -1,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
) -> Dataset:
    """Return whole numbers from 0, in a column ``id``.

    Args:
        n: how many.
        parallelism: the old spelling of ``override_num_blocks``.
        concurrency: most read tasks at a time.
        override_num_blocks: number of blocks, about: each has as many rows, rounded down, as that says.

    Returns:
        A Dataset.

    Raises:
        ValueError: ``n`` is below 0.

    Example:
        >>> skate.data.range(3).take_all()
        [{'id': 0}, {'id': 1}, {'id': 2}]
    """
    return made(
        "range",
        RangeDatasource(_rows("range", n)),
        override_num_blocks=_range_blocks("range", n, parallelism, override_num_blocks),
        concurrency=concurrency,
    )


def range_tensor(
    n: int,
    *,
    shape: tuple[int, ...] = (1,),
    parallelism: int = -1,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
) -> Dataset:
    """Return arrays in a column ``data``; array i is filled with the number i.

    Args:
        n: how many.
        shape: of each array.
        parallelism: the old spelling of ``override_num_blocks``.
        concurrency: most read tasks at a time.
        override_num_blocks: number of blocks, about: each has as many rows, rounded down, as that says.

    Returns:
        A Dataset.

    Raises:
        ValueError: ``n`` is below 0, or a length in the shape is.

    Example:
        >>> skate.data.range_tensor(2, shape=(2, 2)).take_batch()["data"].shape
        (2, 2, 2)
    """
    lengths = tuple(shape)
    if any(isinstance(one, bool) or not isinstance(one, int) or one < 0 for one in lengths):
        raise ValueError(f"range_tensor(shape=) must be a tuple of lengths, got {shape!r}")
    return made(
        "range_tensor",
        RangeDatasource(_rows("range_tensor", n), column="data", tensor_shape=lengths),
        override_num_blocks=_range_blocks("range_tensor", n, parallelism, override_num_blocks),
        concurrency=concurrency,
    )


def from_items(
    items: Sequence[Any], *, parallelism: int = -1, override_num_blocks: int | None = None
) -> MaterializedDataset:
    """Return Python objects as rows.

    Args:
        items: dicts become rows; other objects go into a column ``item``.
        parallelism: the old spelling of ``override_num_blocks``.
        override_num_blocks: number of blocks; None: one for each item, 200 at most.

    Returns:
        A MaterializedDataset.

    Raises:
        TypeError: a text, a dict, or nothing that has items was given.

    Example:
        >>> skate.data.from_items([{"x": 1}, {"x": 2}]).take_all()
        [{'x': 1}, {'x': 2}]
    """
    blocks = options.parallelism("from_items", parallelism, override_num_blocks)
    rows = listed("from_items", "items", items, "rows")
    return held(from_memory.of_items(rows, None if blocks == -1 else blocks))


def from_arrow(tables: Any, *, override_num_blocks: int | None = None) -> MaterializedDataset:
    """Return Arrow tables as a data set, without copying.

    Args:
        tables: a ``pyarrow.Table``, a record batch, bytes of an IPC stream, or a list of these; also a table
            of another library that has Arrow's C stream interface.
        override_num_blocks: number of blocks; None: one for each table.

    Returns:
        A MaterializedDataset.

    Raises:
        TypeError: something else was given.
    """
    return held(from_memory.of_tables(tables, _blocks("from_arrow", override_num_blocks)))


def from_blocks(blocks: Sequence[pa.Table]) -> MaterializedDataset:
    """Return blocks as a data set; see ``from_arrow``, frames of pandas are taken too."""
    tables = [
        one if not hasattr(one, "iloc") else from_memory.of_frames(one, None).slices[0].block
        for one in listed("from_blocks", "blocks", blocks, "tables")
    ]
    return held(from_memory.of_tables(tables, None))


def from_pandas(dfs: Any, override_num_blocks: int | None = None) -> MaterializedDataset:
    """Return pandas frames as a data set; NaN in a column of floats becomes null, the index is left out.

    Args:
        dfs: a ``pandas.DataFrame`` or a list of them.
        override_num_blocks: number of blocks; None: one for each frame.

    Returns:
        A MaterializedDataset.

    Raises:
        TypeError: something else was given.
    """
    return held(from_memory.of_frames(dfs, _blocks("from_pandas", override_num_blocks)))


def from_numpy(ndarrays: Any) -> MaterializedDataset:
    """Return numpy arrays as rows along the first axis, in a column ``data``.

    Args:
        ndarrays: an array, or a list of them, whose rows follow each other.

    Returns:
        A MaterializedDataset.

    Raises:
        TypeError: something else, or an array without axes, was given.
    """
    return held(from_memory.of_arrays(ndarrays))


def from_arrow_refs(tables: Any) -> MaterializedDataset:
    """Return tables in shared memory as a data set: an ``ObjectRef`` or a list of them."""
    return held(from_memory.of_refs(tables, "FromArrow", "arrow"))


def from_pandas_refs(dfs: Any) -> MaterializedDataset:
    """Return pandas frames in shared memory as a data set: an ``ObjectRef`` or a list of them."""
    return held(from_memory.of_refs(dfs, "FromPandas", "pandas"))


def from_numpy_refs(ndarrays: Any) -> MaterializedDataset:
    """Return numpy arrays in shared memory as a data set: an ``ObjectRef`` or a list of them."""
    return held(from_memory.of_refs(ndarrays, "FromNumpy", "numpy"))


def from_huggingface(
    dataset: Any,
    parallelism: int = -1,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
) -> Dataset:
    """Return a data set of the library ``datasets``.

    Args:
        dataset: a ``datasets.Dataset``, whose Arrow table is taken without reading it, or an
            ``IterableDataset``,
            which one task reads.
        parallelism: the old spelling of ``override_num_blocks``.
        concurrency: most read tasks at a time.
        override_num_blocks: number of blocks; None: chosen by the size.

    Returns:
        A Dataset.

    Raises:
        TypeError: something else; of a dictionary of data sets, choose one.
    """
    blocks = options.parallelism("from_huggingface", parallelism, override_num_blocks)
    found = from_memory.of_huggingface(dataset, None if blocks == -1 else blocks)
    if isinstance(found, Datasource):
        return made("from_huggingface", found, concurrency=concurrency)
    return held(found)


def from_torch(dataset: Any, local_read: bool = False) -> Dataset:
    """Return the items of a torch data set, in a column ``item``.

    Args:
        dataset: a ``torch.utils.data.Dataset``, which several tasks read, or an ``IterableDataset``, which
            one does.
        local_read: accepted for Ray's sake: the data set is pickled to the tasks.

    Returns:
        A Dataset.

    Raises:
        TypeError: something else was given.
    """
    return made("from_torch", from_memory.of_torch(dataset))


def from_dask(df: Any) -> MaterializedDataset:
    """Return a dask frame as a data set: its partitions are computed now, each becomes a block."""
    if not hasattr(df, "to_delayed"):
        raise TypeError(f"from_dask() takes a dask.dataframe.DataFrame, got a {type(df).__name__}")
    import dask

    return from_pandas(list(dask.compute(*df.to_delayed())))


def from_spark(df: Any, *, parallelism: int | None = None, override_num_blocks: int | None = None) -> Dataset:
    """Return a Spark frame as a data set: its rows are collected as an Arrow table now.

    Args:
        df: a ``pyspark.sql.DataFrame`` of Spark 4 or later.
        parallelism: the old spelling of ``override_num_blocks``.
        override_num_blocks: number of blocks.

    Returns:
        A MaterializedDataset.

    Raises:
        TypeError: something else, or an older Spark: write parquet there and read it by ``read_parquet``.
    """
    if not hasattr(df, "toArrow"):
        raise TypeError(
            f"from_spark() takes a frame of Spark 4 or later, got a {type(df).__name__}. Of an older one: "
            "df.write.parquet(path), then skate.data.read_parquet(path)"
        )
    blocks = override_num_blocks if override_num_blocks is not None else parallelism
    return from_arrow(df.toArrow(), override_num_blocks=blocks)


def read_datasource(
    datasource: Datasource,
    *,
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    concurrency: int | None = None,
    compute: Any = None,
    override_num_blocks: int | None = None,
    label_selector: Mapping[str, str] | None = None,
    fallback_strategy: Any = None,
    max_calls: int | None = None,
    resources: Mapping[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    ray_remote_args: Mapping[str, Any] | None = None,
    **read_args: Any,
) -> Dataset:
    """Return the rows of a datasource of your own.

    Args:
        datasource: an instance of a subclass of ``skate.data.Datasource``.
        parallelism: the old spelling of ``override_num_blocks``.
        num_cpus: CPUs of a read task.
        num_gpus: GPUs of a read task.
        memory: bytes of heap memory of a read task.
        concurrency: most read tasks at a time.
        compute: a ``TaskPoolStrategy``: its size is ``concurrency``.
        override_num_blocks: number of read tasks to ask the datasource for.
        label_selector, fallback_strategy, max_calls, resources, accelerator_type, runtime_env: of read tasks.
        ray_remote_args: further options of read tasks.
        read_args: refused: give them to the datasource.

    Returns:
        A Dataset.

    Raises:
        TypeError: no datasource, or arguments that it should have got itself.
    """
    if not hasattr(datasource, "get_read_tasks"):
        raise TypeError(
            f"read_datasource() takes a skate.data.Datasource, which has get_read_tasks(); got "
            f"{datasource!r:.80}"
        )
    if read_args:
        raise TypeError(f"read_datasource() got {', '.join(read_args)}: give them to the datasource itself")
    size = getattr(compute, "size", None)
    return made(
        "read_datasource",
        datasource,
        parallelism=parallelism,
        override_num_blocks=override_num_blocks,
        concurrency=concurrency if size is None else size,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        memory=memory,
        label_selector=label_selector,
        fallback_strategy=fallback_strategy,
        max_calls=max_calls,
        resources=resources,
        accelerator_type=accelerator_type,
        runtime_env=runtime_env,
        ray_remote_args=ray_remote_args,
    )


def _rows(verb: str, n: Any) -> int:
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"{verb}(n) must be a number of rows, got {n!r}")
    rows = int(n.__index__())
    if rows < 0:
        raise ValueError(f"{verb}(n) must be at least 0, got {rows}")
    return rows


def _range_blocks(verb: str, n: Any, old: int, override_num_blocks: int | None) -> int:
    """Return the number of read tasks of a range: as many as Ray, so that slow functions run in parallel."""
    wanted = options.parallelism(verb, old, override_num_blocks)
    return wanted if wanted != -1 else max(1, min(int(n), DataContext.get_current().read_op_min_num_blocks))


def _blocks(verb: str, override_num_blocks: int | None) -> int | None:
    blocks = options.parallelism(verb, -1, override_num_blocks)
    return None if blocks == -1 else blocks
