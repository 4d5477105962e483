"""Reading samples and examples of training data, and databases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skate.data._io.readers.sql import SQLDatasource
from skate.data._io.readers.tfrecords import TFRecordDatasource
from skate.data._io.readers.webdataset import WebDatasetDatasource
from skate.data.dataset import Dataset
from skate.data.read_api._made import error_policy, made
from skate.data.seeds import FileShuffleConfig


def read_webdataset(
    paths: str | Sequence[str],
    *,
    decoder: Any = True,
    fileselect: Any = None,
    filerename: Any = None,
    suffixes: Any = None,
    verbose_open: bool = False,
    expand_json: bool = False,
    allow_pickle: bool = False,
    filesystem: Any = None,
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    arrow_open_stream_args: Mapping[str, Any] | None = None,
    partition_filter: Any = None,
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
    """Return the samples of tar files: a row for each, a column for each extension, and ``__key__``.

    Members are decoded by their extension.

    Args:
        paths: a file, folder or glob (``*``, ``**``), or a list of them; local paths, or URLs of one scheme.
        decoder: True: by extension; False or None: bytes; ``"PIL"``; or functions from a sample to a sample.
        fileselect: which members are read: patterns, or a function from a name to a bool.
        filerename: another name of a member: a function, or pairs (regular expression, replacement).
        suffixes: extensions that are kept.
        verbose_open: print the name of each tar file when it is opened.
        expand_json: fields of ``json`` members become columns.
        allow_pickle: unpickle members: that runs what they say, so only for files of yours.
        arrow_open_stream_args: ``{"compression": ...}``: how files are compressed; by default as their names
            say.

        The others are those of ``read_parquet``.

    Returns:
        A Dataset; files are listed now, and read when it runs.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError, TypeError: there is no file, or an option is out of range or of a wrong type.

    Example:
        >>> skate.data.read_webdataset("shards/")
    """
    source = WebDatasetDatasource(
        paths,
        decoder=decoder,
        fileselect=fileselect,
        filerename=filerename,
        suffixes=suffixes,
        verbose_open=verbose_open,
        expand_json=expand_json,
        allow_pickle=allow_pickle,
        filesystem=filesystem,
        open_stream_args=arrow_open_stream_args,
        partition_filter=partition_filter,
        include_paths=include_paths,
        ignore_missing_paths=ignore_missing_paths,
        shuffle=shuffle,
        file_extensions=file_extensions,
        max_file_bytes=max_file_bytes,
        on_error=error_policy(on_error),
    )
    return made(
        "read_webdataset",
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


def read_tfrecords(
    paths: str | Sequence[str],
    *,
    tf_schema: Any = None,
    check_data: bool = False,
    filesystem: Any = None,
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    arrow_open_stream_args: Mapping[str, Any] | None = None,
    partition_filter: Any = None,
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
    """Return the examples of TFRecord files: a row for each, a column for each feature.

    tensorflow is not needed.

    Args:
        paths: a file, folder or glob (``*``, ``**``), or a list of them; local paths, or URLs of one scheme.
        tf_schema: a ``tensorflow_metadata`` schema: columns that are there in every row, and lists.
        check_data: check the checksum of data too, which takes a second for 5 MB.
        arrow_open_stream_args: ``{"compression": ...}``: how files are compressed; by default as their names
            say.

        The others are those of ``read_parquet``.

    Returns:
        A Dataset; files are listed now, and read when it runs.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError, TypeError: there is no file, or an option is out of range or of a wrong type.

    Example:
        >>> skate.data.read_tfrecords("records/")
    """
    source = TFRecordDatasource(
        paths,
        tf_schema=tf_schema,
        check_data=check_data,
        filesystem=filesystem,
        open_stream_args=arrow_open_stream_args,
        partition_filter=partition_filter,
        include_paths=include_paths,
        ignore_missing_paths=ignore_missing_paths,
        shuffle=shuffle,
        file_extensions=file_extensions,
        max_file_bytes=max_file_bytes,
        on_error=error_policy(on_error),
    )
    return made(
        "read_tfrecords",
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


def read_sql(
    sql: str,
    connection_factory: Callable[[], Any],
    *,
    sql_params: Any = None,
    shard_keys: Sequence[str] | None = None,
    shard_hash_fn: str = "MD5",
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
    label_selector: Mapping[str, str] | None = None,
    fallback_strategy: Any = None,
    max_calls: int | None = None,
    resources: Mapping[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    ray_remote_args: Mapping[str, Any] | None = None,
) -> Dataset:
    """Return the rows of a query.

    Args:
        sql: the query.
        connection_factory: opens a connection by Python's DB API; it runs in the tasks.
        sql_params: parameters of the query, as the driver's ``execute`` takes them.
        shard_keys: columns by whose hash the query is cut into parts, one for each task; None: one task.
        shard_hash_fn: the database's function that hashes text.

        The others are those of ``read_parquet``.

    Returns:
        A Dataset; the query runs when it does.

    Raises:
        TypeError: an option of a wrong type; the message names it.

    Example:
        >>> skate.data.read_sql("SELECT * FROM movie", lambda: sqlite3.connect("movies.db"))
    """
    source = SQLDatasource(
        sql,
        connection_factory,
        sql_params=sql_params,
        shard_keys=shard_keys,
        shard_hash_fn=shard_hash_fn,
    )
    return made(
        "read_sql",
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
