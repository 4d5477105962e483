"""Reading tables and text: parquet, CSV, JSON, lines, numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skate.data._io.files.partitioning import Partitioning, PartitionStyle
from skate.data._io.readers.csv import CSVDatasource
from skate.data._io.readers.json import JSONDatasource
from skate.data._io.readers.numpy import NumpyDatasource
from skate.data._io.readers.parquet import ParquetDatasource
from skate.data._io.readers.text import TextDatasource
from skate.data.dataset import Dataset
from skate.data.read_api._made import error_policy, made
from skate.data.seeds import FileShuffleConfig

#: Folders such as ``year=2020`` become columns.
HIVE = Partitioning(PartitionStyle.HIVE)


def read_parquet(
    paths: str | Sequence[str],
    *,
    catalog: Any = None,
    columns: Sequence[str] | None = None,
    tensor_column_schema: Mapping[str, tuple[Any, tuple[int, ...]]] | None = None,
    include_row_hash: bool = False,
    skip_paths: Sequence[str] | None = None,
    filesystem: Any = None,
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    partition_filter: Any = None,
    partitioning: Partitioning | None = HIVE,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: FileShuffleConfig | str | None = None,
    file_extensions: Sequence[str] | None = ParquetDatasource.default_extensions,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
    label_selector: Mapping[str, str] | None = None,
    fallback_strategy: Any = None,
    max_calls: int | None = None,
    resources: Mapping[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    ray_remote_args: Mapping[str, Any] | None = None,
    on_error: str = "raise",
    max_file_bytes: int | None = None,
    **arrow_parquet_args: Any,
) -> Dataset:
    """Return the rows of parquet files.

    Only the columns and row groups that the following verbs need are read.

    Args:
        paths: a file, folder or glob (``*``, ``**``), or a list of them; local paths, or URLs of one scheme.
        catalog: left out, must be None.
        columns: names of the columns to read; None: all.
        tensor_column_schema: columns of raw bytes that are arrays: name to (dtype, shape).
        include_row_hash: add a column ``row_hash`` (uint64) that depends on file and row number alone.
        skip_paths: files that are left out.
        arrow_parquet_args: ``filter``, ``schema``, ``batch_size``, and those of
            ``pyarrow.parquet.ParquetFile``.
        filesystem: of pyarrow or fsspec; None: found by the paths.
        parallelism: the old spelling of ``override_num_blocks``.
        num_cpus: CPUs of a read task.
        num_gpus: GPUs of a read task.
        memory: bytes of heap memory of a read task.
        partition_filter: a ``PathPartitionFilter``, or a function from a list of paths to those to read.
        partitioning: a ``Partitioning``: columns made of folders' names; by default ``year=2020/``.
        include_paths: add a column ``path``.
        ignore_missing_paths: leave out paths that do not exist.
        shuffle: ``"files"`` or a ``FileShuffleConfig``: read files in a random order.
        file_extensions: read only files whose names end so; None: all.
        concurrency: most read tasks at a time.
        override_num_blocks: number of read tasks; None: chosen by the sizes of files.
        on_error: what a file that cannot be read does: ``"raise"`` ends the run, ``"skip"`` leaves it out,
            ``"dead_letter"`` leaves it out and keeps a note for ``dead_letters()``.
        max_file_bytes: larger files, compressed or not, count as unreadable; None: no limit.
        label_selector, fallback_strategy, max_calls, resources, accelerator_type, runtime_env: of read
            tasks, as in ``skate.remote``.
        ray_remote_args: further options of read tasks.

    Returns:
        A Dataset; files are listed now, and read when it runs.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError, TypeError: there is no file, or an option is out of range or of a wrong type.

    Example:
        >>> skate.data.read_parquet("prices/", columns=["city", "price"])
    """
    _no_catalog("read_parquet", catalog)
    source = ParquetDatasource(
        paths,
        columns=columns,
        tensor_column_schema=tensor_column_schema,
        include_row_hash=include_row_hash,
        skip_paths=skip_paths,
        arrow_parquet_args=arrow_parquet_args,
        filesystem=filesystem,
        partition_filter=partition_filter,
        partitioning=partitioning,
        include_paths=include_paths,
        ignore_missing_paths=ignore_missing_paths,
        shuffle=shuffle,
        file_extensions=file_extensions,
        max_file_bytes=max_file_bytes,
        on_error=error_policy(on_error),
    )
    return made(
        "read_parquet",
        source,
        parallelism=parallelism,
        override_num_blocks=override_num_blocks,
        concurrency=concurrency,
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


def read_csv(
    paths: str | Sequence[str],
    *,
    filesystem: Any = None,
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    arrow_open_stream_args: Mapping[str, Any] | None = None,
    partition_filter: Any = None,
    partitioning: Partitioning | None = HIVE,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: FileShuffleConfig | str | None = None,
    file_extensions: Sequence[str] | None = None,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
    label_selector: Mapping[str, str] | None = None,
    fallback_strategy: Any = None,
    max_calls: int | None = None,
    resources: Mapping[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    ray_remote_args: Mapping[str, Any] | None = None,
    on_error: str = "raise",
    max_file_bytes: int | None = None,
    **arrow_csv_args: Any,
) -> Dataset:
    """Return the rows of CSV files.

    Types are guessed from the first block of each file.

    Args:
        paths: a file, folder or glob (``*``, ``**``), or a list of them; local paths, or URLs of one scheme.
        arrow_csv_args: ``read_options``, ``parse_options`` and ``convert_options`` of ``pyarrow.csv``.
        arrow_open_stream_args: ``{"compression": ...}``: how files are compressed; by default as their names
            say.

        The others are those of ``read_parquet``.

    Returns:
        A Dataset; files are listed now, and read when it runs.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError, TypeError: there is no file, or an option is out of range or of a wrong type.

    Example:
        >>> skate.data.read_csv("prices.csv")
    """
    source = CSVDatasource(
        paths,
        arrow_csv_args=arrow_csv_args,
        filesystem=filesystem,
        open_stream_args=arrow_open_stream_args,
        partition_filter=partition_filter,
        partitioning=partitioning,
        include_paths=include_paths,
        ignore_missing_paths=ignore_missing_paths,
        shuffle=shuffle,
        file_extensions=file_extensions,
        max_file_bytes=max_file_bytes,
        on_error=error_policy(on_error),
    )
    return made(
        "read_csv",
        source,
        parallelism=parallelism,
        override_num_blocks=override_num_blocks,
        concurrency=concurrency,
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


def read_json(
    paths: str | Sequence[str],
    *,
    lines: bool = False,
    filesystem: Any = None,
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    arrow_open_stream_args: Mapping[str, Any] | None = None,
    partition_filter: Any = None,
    partitioning: Partitioning | None = HIVE,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: FileShuffleConfig | str | None = None,
    file_extensions: Sequence[str] | None = JSONDatasource.default_extensions,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
    label_selector: Mapping[str, str] | None = None,
    fallback_strategy: Any = None,
    max_calls: int | None = None,
    resources: Mapping[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    ray_remote_args: Mapping[str, Any] | None = None,
    on_error: str = "raise",
    max_file_bytes: int | None = None,
    **arrow_json_args: Any,
) -> Dataset:
    """Return the rows of JSON files: an object a line, or an array of objects.

    Each file is looked at, unless ``lines`` says what it is.

    Args:
        paths: a file, folder or glob (``*``, ``**``), or a list of them; local paths, or URLs of one scheme.
        lines: files have an object a line, whatever they look like.
        arrow_json_args: ``read_options`` and ``parse_options`` of ``pyarrow.json``.
        arrow_open_stream_args: ``{"compression": ...}``: how files are compressed; by default as their names
            say.

        The others are those of ``read_parquet``.

    Returns:
        A Dataset; files are listed now, and read when it runs.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError, TypeError: there is no file, or an option is out of range or of a wrong type.

    Example:
        >>> skate.data.read_json("events.jsonl")
    """
    source = JSONDatasource(
        paths,
        lines=lines,
        arrow_json_args=arrow_json_args,
        filesystem=filesystem,
        open_stream_args=arrow_open_stream_args,
        partition_filter=partition_filter,
        partitioning=partitioning,
        include_paths=include_paths,
        ignore_missing_paths=ignore_missing_paths,
        shuffle=shuffle,
        file_extensions=file_extensions,
        max_file_bytes=max_file_bytes,
        on_error=error_policy(on_error),
    )
    return made(
        "read_json",
        source,
        parallelism=parallelism,
        override_num_blocks=override_num_blocks,
        concurrency=concurrency,
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


def read_text(
    paths: str | Sequence[str],
    *,
    encoding: str = "utf-8",
    drop_empty_lines: bool = True,
    filesystem: Any = None,
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    arrow_open_stream_args: Mapping[str, Any] | None = None,
    partition_filter: Any = None,
    partitioning: Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: FileShuffleConfig | str | None = None,
    file_extensions: Sequence[str] | None = None,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
    label_selector: Mapping[str, str] | None = None,
    fallback_strategy: Any = None,
    max_calls: int | None = None,
    resources: Mapping[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    ray_remote_args: Mapping[str, Any] | None = None,
    on_error: str = "raise",
    max_file_bytes: int | None = None,
) -> Dataset:
    """Return the lines of text files, in a column ``text``.

    Large files are read by several tasks.

    Args:
        paths: a file, folder or glob (``*``, ``**``), or a list of them; local paths, or URLs of one scheme.
        encoding: name of the encoding.
        drop_empty_lines: leave out lines that have nothing but white space.
        arrow_open_stream_args: ``{"compression": ...}``: how files are compressed; by default as their names
            say.

        The others are those of ``read_parquet``.

    Returns:
        A Dataset; files are listed now, and read when it runs.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError, TypeError: there is no file, or an option is out of range or of a wrong type.

    Example:
        >>> skate.data.read_text("poems/", file_extensions=["txt"])
    """
    source = TextDatasource(
        paths,
        encoding=encoding,
        drop_empty_lines=drop_empty_lines,
        filesystem=filesystem,
        open_stream_args=arrow_open_stream_args,
        partition_filter=partition_filter,
        partitioning=partitioning,
        include_paths=include_paths,
        ignore_missing_paths=ignore_missing_paths,
        shuffle=shuffle,
        file_extensions=file_extensions,
        max_file_bytes=max_file_bytes,
        on_error=error_policy(on_error),
    )
    return made(
        "read_text",
        source,
        parallelism=parallelism,
        override_num_blocks=override_num_blocks,
        concurrency=concurrency,
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


def read_numpy(
    paths: str | Sequence[str],
    *,
    allow_pickle: bool = False,
    filesystem: Any = None,
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    arrow_open_stream_args: Mapping[str, Any] | None = None,
    partition_filter: Any = None,
    partitioning: Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: FileShuffleConfig | str | None = None,
    file_extensions: Sequence[str] | None = NumpyDatasource.default_extensions,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
    label_selector: Mapping[str, str] | None = None,
    fallback_strategy: Any = None,
    max_calls: int | None = None,
    resources: Mapping[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    ray_remote_args: Mapping[str, Any] | None = None,
    on_error: str = "raise",
    max_file_bytes: int | None = None,
    **numpy_load_args: Any,
) -> Dataset:
    """Return arrays of ``.npy`` files, in a column ``data``: a row for each item of the first axis.

    Of ``.npz`` files each array is a column.

    Args:
        paths: a file, folder or glob (``*``, ``**``), or a list of them; local paths, or URLs of one scheme.
        allow_pickle: load arrays of objects too; unpickling runs what the file says, so only for files of
            yours.
        numpy_load_args: further arguments of ``numpy.load``.
        arrow_open_stream_args: ``{"compression": ...}``: how files are compressed; by default as their names
            say.

        The others are those of ``read_parquet``.

    Returns:
        A Dataset; files are listed now, and read when it runs.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError, TypeError: there is no file, or an option is out of range or of a wrong type.

    Example:
        >>> skate.data.read_numpy("embeddings/")
    """
    source = NumpyDatasource(
        paths,
        allow_pickle=allow_pickle,
        numpy_load_args=numpy_load_args,
        filesystem=filesystem,
        open_stream_args=arrow_open_stream_args,
        partition_filter=partition_filter,
        partitioning=partitioning,
        include_paths=include_paths,
        ignore_missing_paths=ignore_missing_paths,
        shuffle=shuffle,
        file_extensions=file_extensions,
        max_file_bytes=max_file_bytes,
        on_error=error_policy(on_error),
    )
    return made(
        "read_numpy",
        source,
        parallelism=parallelism,
        override_num_blocks=override_num_blocks,
        concurrency=concurrency,
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


def _no_catalog(verb: str, catalog: Any) -> None:
    if catalog is not None:
        raise NotImplementedError(
            f"{verb}(catalog=) is left out: catalogues are services. Give the paths of the files"
        )
