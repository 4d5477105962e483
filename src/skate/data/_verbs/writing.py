"""Writing a data set to files, to databases and to sinks of users' own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from skate.data._io.commit import SaveMode
from skate.data._notices import deprecated
from skate.data._verbs.core import Core
from skate.data._verbs.write_runs import write

if TYPE_CHECKING:
    from skate.data._io.writers.datasinks import Datasink
    from skate.data._io.writers.names import FilenameProvider

# Sinks are imported by the verb that needs them: a program writes one format, or none.


class Writing(Core):
    """``write_*``: nothing is visible before all is written, and a write that fails leaves nothing."""

    def write_parquet(
        self,
        path: str,
        *,
        partition_cols: Sequence[str] | None = None,
        filesystem: Any = None,
        catalog: Any = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: Mapping[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        arrow_parquet_args_fn: Callable[[], dict[str, Any]] | None = None,
        min_rows_per_file: int | None = None,
        max_rows_per_file: int | None = None,
        min_bytes_per_file: int | None = None,
        ray_remote_args: Mapping[str, Any] | None = None,
        concurrency: int | None = None,
        num_rows_per_file: int | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
        resume: bool | str = False,
        dead_letter: str | None = None,
        **arrow_parquet_args: Any,
    ) -> None:
        """Write parquet files, now.

        Files appear all together at the end. An empty result is an empty file with the schema.

        All files have the same columns and types, as readers take those of one file for all. A column that
        some blocks lack is null there, and numbers have the widest type: files that were written without it
        are written again, before anything is visible. Columns without a common type end the write as soon as
        two blocks have them, unless ``DataContext.on_schema`` is ``"object"``; with ``"error"`` any
        difference does.

        Args:
            path: the folder.
            partition_cols: columns whose values become folders: ``year=2020/``.
            catalog: left out, must be None.
            arrow_parquet_args_fn: makes further arguments of pyarrow's ``ParquetWriter``, in each task.
            max_rows_per_file: rows after which a new file begins.
            min_bytes_per_file: bytes in memory that a file's rows should have at least.
            arrow_parquet_args: of pyarrow's ``ParquetWriter``; ``row_group_size`` in rows.
            filesystem: of pyarrow or fsspec; None: found by the path.
            try_create_dir: make the folder if it does not exist.
            arrow_open_stream_args: for pyarrow's ``open_output_stream``: ``compression``, ``buffer_size``,
                ...
            filename_provider: names the files.
            min_rows_per_file: rows that a file should have at least.
            ray_remote_args: options of the tasks that write.
            concurrency: most tasks that write at a time.
            num_rows_per_file: the old spelling of ``min_rows_per_file``.
            mode: what to do if the folder exists: ``SaveMode.APPEND``, ``OVERWRITE``, ``IGNORE``, ``ERROR``,
                ``CREATE``.
            resume: go on where an earlier run of the same write was killed; ``"force"``: although code or
                input
                changed.
            dead_letter: a folder that gets the rows that failed, as parquet, together with the output.

        Raises:
            ValueError, TypeError: an option out of range or of a wrong type; the message names it.
            FileExistsError, ValueError: the folder exists and ``mode`` forbids it.
            SchemaMismatchError: rows have columns of types that no type holds; it names the column, the types
                and where the rows came from.

        Example:
            >>> ds.write_parquet("embeddings/", mode="overwrite")
        """
        from skate.data._io.writers.parquet import ParquetSink

        if catalog is not None:
            raise NotImplementedError(
                "write_parquet(catalog=) is left out: catalogues are services. Give a path"
            )
        sink = ParquetSink(
            path,
            partition_cols=partition_cols,
            filesystem=filesystem,
            try_create_dir=try_create_dir,
            arrow_open_stream_args=arrow_open_stream_args,
            filename_provider=filename_provider,
            arrow_parquet_args_fn=arrow_parquet_args_fn,
            min_rows_per_file=_rows_per_file("write_parquet", min_rows_per_file, num_rows_per_file),
            max_rows_per_file=max_rows_per_file,
            min_bytes_per_file=min_bytes_per_file,
            mode=mode,
            resume=resume,
            **arrow_parquet_args,
        )
        write(self, "write_parquet", sink, ray_remote_args, concurrency, dead_letter)

    def write_csv(
        self,
        path: str,
        *,
        filesystem: Any = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: Mapping[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        arrow_csv_args_fn: Callable[[], dict[str, Any]] | None = None,
        min_rows_per_file: int | None = None,
        ray_remote_args: Mapping[str, Any] | None = None,
        concurrency: int | None = None,
        num_rows_per_file: int | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
        resume: bool | str = False,
        dead_letter: str | None = None,
        **arrow_csv_args: Any,
    ) -> None:
        """Write CSV files, now.

        Columns of lists, structs or arrays are refused.

        Args:
            path: the folder.
            arrow_csv_args_fn: makes further arguments of pyarrow's ``CSVWriter``, in each task.
            arrow_csv_args: of pyarrow's ``CSVWriter``: ``write_options``.

            The others are those of ``write_parquet``.

        Example:
            >>> ds.write_csv("prices/")
        """
        from skate.data._io.writers.csv_files import CSVSink

        sink = CSVSink(
            path,
            filesystem=filesystem,
            try_create_dir=try_create_dir,
            arrow_open_stream_args=arrow_open_stream_args,
            filename_provider=filename_provider,
            arrow_csv_args_fn=arrow_csv_args_fn,
            min_rows_per_file=_rows_per_file("write_csv", min_rows_per_file, num_rows_per_file),
            mode=mode,
            resume=resume,
            **arrow_csv_args,
        )
        write(self, "write_csv", sink, ray_remote_args, concurrency, dead_letter)

    def write_json(
        self,
        path: str,
        *,
        filesystem: Any = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: Mapping[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        pandas_json_args_fn: Callable[[], dict[str, Any]] | None = None,
        min_rows_per_file: int | None = None,
        ray_remote_args: Mapping[str, Any] | None = None,
        concurrency: int | None = None,
        num_rows_per_file: int | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
        resume: bool | str = False,
        dead_letter: str | None = None,
        **pandas_json_args: Any,
    ) -> None:
        """Write JSON files, an object a line, now.

        Times become texts.

        Args:
            path: the folder.
            pandas_json_args_fn: makes further arguments of pandas' ``to_json``, in each task.
            pandas_json_args: of pandas' ``to_json``; without any, pandas is not needed.

            The others are those of ``write_parquet``.

        Example:
            >>> ds.write_json("events/")
        """
        from skate.data._io.writers.json_lines import JSONSink

        sink = JSONSink(
            path,
            filesystem=filesystem,
            try_create_dir=try_create_dir,
            arrow_open_stream_args=arrow_open_stream_args,
            filename_provider=filename_provider,
            pandas_json_args_fn=pandas_json_args_fn,
            min_rows_per_file=_rows_per_file("write_json", min_rows_per_file, num_rows_per_file),
            mode=mode,
            resume=resume,
            **pandas_json_args,
        )
        write(self, "write_json", sink, ray_remote_args, concurrency, dead_letter)

    def write_numpy(
        self,
        path: str,
        *,
        column: str,
        filesystem: Any = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: Mapping[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        min_rows_per_file: int | None = None,
        ray_remote_args: Mapping[str, Any] | None = None,
        concurrency: int | None = None,
        num_rows_per_file: int | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
        resume: bool | str = False,
        dead_letter: str | None = None,
    ) -> None:
        """Write a column as ``.npy`` files, now.

        All arrays of a file have one shape.

        Args:
            path: the folder.
            column: the column that is written.

            The others are those of ``write_parquet``.

        Example:
            >>> ds.write_numpy("vectors/", column="embedding")
        """
        from skate.data._io.writers.numpy_files import NumpySink

        sink = NumpySink(
            path,
            column=column,
            filesystem=filesystem,
            try_create_dir=try_create_dir,
            arrow_open_stream_args=arrow_open_stream_args,
            filename_provider=filename_provider,
            min_rows_per_file=_rows_per_file("write_numpy", min_rows_per_file, num_rows_per_file),
            mode=mode,
            resume=resume,
        )
        write(self, "write_numpy", sink, ray_remote_args, concurrency, dead_letter)

    def write_images(
        self,
        path: str,
        column: str,
        file_format: str = "png",
        *,
        filesystem: Any = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: Mapping[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        ray_remote_args: Mapping[str, Any] | None = None,
        concurrency: int | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
        resume: bool | str = False,
        dead_letter: str | None = None,
    ) -> None:
        """Write a column of pictures, a file for each row, now.

        Arrays are (height, width) or (height, width, channels) of bytes.

        Args:
            path: the folder.
            column: the column with the pictures.
            file_format: a format that Pillow writes.

            The others are those of ``write_parquet``.

        Example:
            >>> ds.write_images("thumbnails/", column="image", file_format="jpeg")
        """
        from skate.data._io.writers.images import ImageSink

        sink = ImageSink(
            path,
            column,
            file_format,
            filesystem=filesystem,
            try_create_dir=try_create_dir,
            arrow_open_stream_args=arrow_open_stream_args,
            filename_provider=filename_provider,
            mode=mode,
            resume=resume,
        )
        write(self, "write_images", sink, ray_remote_args, concurrency, dead_letter)

    def write_tfrecords(
        self,
        path: str,
        *,
        tf_schema: Any = None,
        filesystem: Any = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: Mapping[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        min_rows_per_file: int | None = None,
        ray_remote_args: Mapping[str, Any] | None = None,
        concurrency: int | None = None,
        num_rows_per_file: int | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
        resume: bool | str = False,
        dead_letter: str | None = None,
    ) -> None:
        """Write TFRecord files of ``tf.train.Example``, now.

        tensorflow is not needed.

        Args:
            path: the folder.
            tf_schema: must be None: the types of the columns say everything.

            The others are those of ``write_parquet``.

        Example:
            >>> ds.write_tfrecords("records/")
        """
        from skate.data._io.writers.tfrecords import TFRecordSink

        sink = TFRecordSink(
            path,
            tf_schema=tf_schema,
            filesystem=filesystem,
            try_create_dir=try_create_dir,
            arrow_open_stream_args=arrow_open_stream_args,
            filename_provider=filename_provider,
            min_rows_per_file=_rows_per_file("write_tfrecords", min_rows_per_file, num_rows_per_file),
            mode=mode,
            resume=resume,
        )
        write(self, "write_tfrecords", sink, ray_remote_args, concurrency, dead_letter)

    def write_webdataset(
        self,
        path: str,
        *,
        filesystem: Any = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: Mapping[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        min_rows_per_file: int | None = None,
        encoder: Any = True,
        ray_remote_args: Mapping[str, Any] | None = None,
        concurrency: int | None = None,
        num_rows_per_file: int | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
        resume: bool | str = False,
        dead_letter: str | None = None,
    ) -> None:
        """Write tar files in the WebDataset format, now.

        The column ``__key__`` names the members of a row; others are ``<key>.<column>``.

        Args:
            path: the folder.
            encoder: how values become bytes: True: by the columns' names; a function, or a list of them.

            The others are those of ``write_parquet``.

        Example:
            >>> ds.write_webdataset("shards/")
        """
        from skate.data._io.writers.webdataset import WebDatasetSink

        sink = WebDatasetSink(
            path,
            filesystem=filesystem,
            try_create_dir=try_create_dir,
            arrow_open_stream_args=arrow_open_stream_args,
            filename_provider=filename_provider,
            min_rows_per_file=_rows_per_file("write_webdataset", min_rows_per_file, num_rows_per_file),
            encoder=encoder,
            mode=mode,
            resume=resume,
        )
        write(self, "write_webdataset", sink, ray_remote_args, concurrency, dead_letter)

    def write_sql(
        self,
        sql: str,
        connection_factory: Callable[[], Any],
        ray_remote_args: Mapping[str, Any] | None = None,
        concurrency: int | None = None,
    ) -> None:
        """Insert the rows into a table of a database, now.

        Each task inserts its rows in one transaction. A write that fails leaves the rows of finished tasks.

        Args:
            sql: an ``INSERT`` statement with a placeholder for each column, in the order of the columns.
            connection_factory: returns a new connection by Python's DB API; called once in each task.
            ray_remote_args: options of the tasks that write.
            concurrency: most tasks that write at a time.

        Example:
            >>> ds.write_sql("INSERT INTO words VALUES (?, ?)", lambda: sqlite3.connect("words.db"))
        """
        from skate.data._io.writers.sql import SQLSink

        write(self, "write_sql", SQLSink(sql, connection_factory), ray_remote_args, concurrency)

    def write_datasink(
        self,
        datasink: Datasink[Any],
        *,
        ray_remote_args: Mapping[str, Any] | None = None,
        concurrency: int | None = None,
    ) -> None:
        """Write to a sink of your own, now.

        Args:
            datasink: an instance of a subclass of ``skate.data.Datasink``.
            ray_remote_args: options of the tasks that write.
            concurrency: most tasks that write at a time.

        Raises:
            TypeError: no Datasink.
        """
        from skate.data._io.writers.datasinks import Datasink, DatasinkSink

        if not isinstance(datasink, Datasink):
            raise TypeError(f"write_datasink() takes a skate.data.Datasink, got {datasink!r:.80}")
        write(self, "write_datasink", DatasinkSink(datasink), ray_remote_args, concurrency)


def _rows_per_file(verb: str, rows: int | None, old: int | None) -> int | None:
    """Return the rows that a file should have at least, in either spelling."""
    if old is None:
        return rows
    deprecated(f"{verb}(num_rows_per_file=)", "write min_rows_per_file=", stacklevel=4)
    if rows is not None and rows != old:
        raise ValueError(
            f"{verb}() got min_rows_per_file={rows} and num_rows_per_file={old}: give the first alone"
        )
    return old
