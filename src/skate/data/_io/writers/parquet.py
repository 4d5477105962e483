"""Parquet files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from skate.data._block import arrow_compute as pc
from skate.data._block.objects import restore
from skate.data._block.tables import NO_COLUMNS, take_rows
from skate.data._io.commit import SaveMode
from skate.data._io.commit_staging import StagedTask
from skate.data._io.commit_store import Store
from skate.data._io.writers.file_sink import FileSink, call_args_fn
from skate.data._io.writers.formats import BlockFormat, BlockWriter, FileCutter, pieces
from skate.data._io.writers.names import FilenameProvider, FileNames
from skate.data._options import check_positive, check_type
from skate.data._previews import no_such_columns
from skate.data._task.operators import TaskContext

#: The text for null in the name of a partition's folder.
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
#: Files of partitions that a task keeps open; of more, the one that was not used for longest is closed.
_OPEN_FILES = 128


class ParquetFormat(BlockFormat):
    """Parquet.

    Args:
        partition_cols: columns whose values become folders, ``year=2026/month=11/``, and are not in the
            files.
        max_rows_per_file: rows after which a new file begins.
        arguments: of ``pyarrow.parquet.ParquetWriter``, and ``row_group_size`` in rows.
        arguments_function: makes further arguments, in the task.
    """

    extension = "parquet"
    is_numbered = True
    has_one_schema = True

    def __init__(
        self,
        partition_cols: Sequence[str] = (),
        max_rows_per_file: int | None = None,
        arguments: Mapping[str, Any] | None = None,
        arguments_function: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        self.partition_cols = tuple(partition_cols)
        self.max_rows_per_file = max_rows_per_file
        self.arguments = dict(arguments or {})
        self.arguments_function = arguments_function

    def check(self, schema: pa.Schema | None) -> None:
        check_positive("row_group_size", self.arguments.get("row_group_size"))
        arguments = {key: value for key, value in self.arguments.items() if key != "row_group_size"}
        try:
            pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([("x", pa.int64())]), **arguments).close()
        except (TypeError, ValueError, OSError, pa.ArrowException) as error:
            # Some of pyarrow's errors are no ValueError: an unknown compression.
            kind = type(error) if isinstance(error, (TypeError, ValueError, OSError)) else ValueError
            raise kind(f"arguments of write_parquet for pyarrow's ParquetWriter: {error}") from error
        if schema is not None:
            self._check_columns(schema)

    def _check_columns(self, schema: pa.Schema) -> None:
        missing = [name for name in self.partition_cols if schema.get_field_index(name) < 0]
        if missing:
            raise ValueError(f"partition_cols: {no_such_columns(missing, schema.names)}")
        if self.partition_cols and set(schema.names) <= set(self.partition_cols):
            raise ValueError("partition_cols names all columns: nothing would be left for the files")
        for name in self.partition_cols:
            kind = schema.field(name).type
            if pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType):
                raise ValueError(
                    f"partition_cols: column {name!r} has type {kind}, which makes no folder name"
                )

    def open_writer(self, stream: Any, schema: pa.Schema, where: str) -> BlockWriter:
        arguments = {**self.arguments, **call_args_fn(self.arguments_function, "arrow_parquet_args_fn")}
        return _ParquetWriter(stream, schema, arguments)

    def schema_of(self, store: Store, name: str) -> pa.Schema:
        with _opened(store, name) as file:
            return restore(file.schema_arrow.empty_table()).schema

    def tables_of(self, store: Store, name: str) -> Iterator[pa.Table]:
        with _opened(store, name) as file:
            for number in range(file.num_row_groups):
                yield restore(file.read_row_group(number))

    def write(
        self,
        blocks: Iterator[pa.Table],
        files: StagedTask,
        names: FileNames,
        context: TaskContext,
        schema: pa.Schema | None,
    ) -> None:
        if not self.partition_cols:
            super().write(_with_columns(blocks), files, names, context, schema)
            return
        with ExitStack() as stack:
            partitions = _Partitions(self, files, names, stack, context.on_conflict)
            for piece in pieces(blocks, self, context, schema):
                self._check_columns(piece.schema)
                partitions.add(piece)
            partitions.close()


def _with_columns(blocks: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield blocks; raise for rows without columns, which Parquet cannot hold."""
    for block in blocks:
        if block.num_rows and block.column_names in ([], [NO_COLUMNS]):
            raise ValueError(
                "the rows have no columns; a Parquet file cannot hold such rows. Keep one column."
            )
        yield block


@contextmanager
def _opened(store: Store, name: str) -> Iterator[pq.ParquetFile]:
    with (
        store.filesystem.arrow().open_input_file(store.path(name)) as stream,
        pq.ParquetFile(stream) as file,
    ):
        yield file


class _ParquetWriter(BlockWriter):
    def __init__(self, stream: Any, schema: pa.Schema, arguments: dict[str, Any]) -> None:
        self._row_group_size = arguments.pop("row_group_size", None)
        self._writer = pq.ParquetWriter(stream, schema, **arguments)

    def write(self, block: pa.Table) -> None:
        self._writer.write_table(block, self._row_group_size)

    def close(self) -> None:
        self._writer.close()

    def abandon(self) -> None:
        self._writer.is_open = False


class _Partitions:
    """The open files of one task, by partition."""

    def __init__(
        self, form: ParquetFormat, files: StagedTask, names: FileNames, stack: ExitStack, on_conflict: str
    ) -> None:
        self._on_conflict = on_conflict
        self._form = form
        self._files = files
        self._names = names
        self._stack = stack
        self._cutters: dict[str, FileCutter] = {}
        self._open: dict[str, None] = {}

    def add(self, table: pa.Table) -> None:
        """Write the rows of a table, each to its partition."""
        for folder, rows in split_by_partition(table, self._form.partition_cols):
            cutter = self._cutters.get(folder)
            if cutter is None:
                cutter = FileCutter(self._form, self._files, self._names, folder + "/", self._on_conflict)
                self._cutters[folder] = self._stack.enter_context(cutter)
            self._open.pop(folder, None)
            self._open[folder] = None
            cutter.add(rows)
            while len(self._open) > _OPEN_FILES:
                oldest = next(iter(self._open))
                del self._open[oldest]
                self._cutters[oldest].close()

    def close(self) -> None:
        """End all files."""
        for cutter in self._cutters.values():
            cutter.close()


def split_by_partition(table: pa.Table, columns: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
    """Yield the folder and the rows of each partition of a table; rows keep their order.

    Args:
        table: the rows.
        columns: the partition columns, outermost first; the rows that are yielded lack them.
    """
    codes: pa.Array | None = None
    folders = [""]
    for column in columns:
        # A number for each value, nulls included: NaN is one value, and so is null.
        encoded = _one_chunk(table[column]).dictionary_encode(null_encoding="encode")
        texts = [folder_name(column, value) for value in encoded.dictionary.to_pylist()]
        numbers = encoded.indices.cast(pa.int64())
        if codes is None:
            codes, folders = numbers, texts
        else:
            joined = pc.add(pc.multiply(codes, len(texts)), numbers).dictionary_encode()
            pairs = joined.dictionary.to_pylist()
            folders = [f"{folders[pair // len(texts)]}/{texts[pair % len(texts)]}" for pair in pairs]
            codes = joined.indices.cast(pa.int64())
    assert codes is not None
    rest = table.drop_columns(list(columns))
    if len(folders) == 1:
        yield folders[0], rest
        return
    order = pc.sort_indices(codes)  # stable: rows of a partition keep their order
    counts = {item["values"]: item["counts"] for item in pc.value_counts(codes).to_pylist()}
    clustered = take_rows(rest, order)
    start = 0
    for number in sorted(counts):
        yield folders[number], clustered.slice(start, counts[number])
        start += counts[number]


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def folder_name(column: str, value: Any) -> str:
    """Return the name of a partition's folder as Hive has it; characters that mean something are escaped."""
    if value is None:
        text = NULL_PARTITION
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, bytes):
        text = quote(value, safe="")
    else:
        text = quote(str(value), safe="")
    return f"{quote(column, safe='')}={text}"


class ParquetSink(FileSink):
    """The sink of ``write_parquet``; parameters as there.

    Args:
        path: the folder.
        partition_cols: columns whose values become folders.
        arrow_parquet_args_fn: makes further arguments of pyarrow's ParquetWriter, in each task.
        resume: go on after a crash, see FileSink.
        arrow_parquet_args: of pyarrow's ParquetWriter; ``row_group_size`` in rows.
    """

    def __init__(
        self,
        path: str,
        *,
        partition_cols: Sequence[str] | None = None,
        filesystem: Any = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: Mapping[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        arrow_parquet_args_fn: Callable[[], dict[str, Any]] | None = None,
        min_rows_per_file: int | None = None,
        max_rows_per_file: int | None = None,
        min_bytes_per_file: int | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
        resume: bool | str = False,
        **arrow_parquet_args: Any,
    ) -> None:
        if isinstance(partition_cols, str):
            partition_cols = [partition_cols]
        check_type("partition_cols", partition_cols or (), (list, tuple), "a list of column names")
        for name in partition_cols or ():
            check_type("partition_cols", name, str, "a list of column names")
        super().__init__(
            path,
            ParquetFormat(partition_cols or (), max_rows_per_file, arrow_parquet_args, arrow_parquet_args_fn),
            filesystem=filesystem,
            try_create_dir=try_create_dir,
            arrow_open_stream_args=arrow_open_stream_args,
            filename_provider=filename_provider,
            min_rows_per_file=min_rows_per_file,
            min_bytes_per_file=min_bytes_per_file,
            max_rows_per_file=max_rows_per_file,
            mode=mode,
            resume=resume,
        )
