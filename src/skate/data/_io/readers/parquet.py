"""Parquet: row groups, the columns and rows that are needed, in batches of about even bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import parquet as pq

from skate.data._block import arrow_compute as pc
from skate.data._block.schemas import NO_COLUMNS
from skate.data._block.tables import cast_to, filter_rows, no_columns, size_bytes
from skate.data._block.tensors import adopt, adopted_schema
from skate.data._io.files.bundles import BundleLimits, Piece
from skate.data._io.files.errors import FileReadError
from skate.data._io.files.file_source import FileBasedDatasource
from skate.data._io.files.filesystem import FileEntry, LocalFileSystem
from skate.data._io.files.output import Rejections, with_constants
from skate.data._io.files.reading import InputFile
from skate.data._io.readers.parquet_pruning import matching_groups
from skate.data._io.readers.row_hash import row_hashes
from skate.data._options import check_positive, check_type
from skate.data._previews import doubled

_BATCH_BYTES = 16 << 20
_MOST_BATCH_ROWS = 1 << 16
_TRIED_ROWS = 1024
_FOOTER_THREADS = 8

_FILE_ARGS = (
    "memory_map", "buffer_size", "pre_buffer", "coerce_int96_timestamp_unit", "decryption_properties",
    "thrift_string_size_limit", "thrift_container_size_limit", "page_checksum_verification",
    "read_dictionary", "binary_type", "list_type", "arrow_extensions_enabled",
)  # fmt: skip


class ParquetDatasource(FileBasedDatasource):
    """Rows of parquet files.

    Args:
        paths: see ``FileBasedDatasource``.
        columns: names of the columns to read; None: all.
        tensor_column_schema: columns of raw bytes that are arrays: name to (dtype, shape).
        include_row_hash: add a column ``row_hash`` (uint64) that depends on file and row number alone.
        arrow_parquet_args: ``filter`` (a ``pyarrow.compute.Expression``), ``schema``, ``batch_size`` (rows),
            ``use_threads``, and arguments of ``pyarrow.parquet.ParquetFile``, the latter also in
            ``dataset_kwargs``.
        **options: of ``FileBasedDatasource``.

    Raises:
        ValueError: a column does not exist in the first file.
    """

    default_extensions = ("parquet",)
    limits = BundleLimits(most_bytes=64 << 20, most_files=1000, least_bytes=4 << 20)
    reads_whole_files = False
    adds_constants = True
    memory_per_byte = 3.0
    supports = frozenset({"columns", "predicate"})

    def __init__(
        self,
        paths: Any,
        *,
        columns: Sequence[str] | None = None,
        tensor_column_schema: Mapping[str, tuple[Any, tuple[int, ...]]] | None = None,
        include_row_hash: bool = False,
        arrow_parquet_args: Mapping[str, Any] | None = None,
        file_extensions: Any = default_extensions,
        **options: Any,
    ) -> None:
        check_type("include_row_hash", include_row_hash, bool, "True or False")
        if tensor_column_schema is not None:
            check_type(
                "tensor_column_schema", tensor_column_schema, Mapping, "a dict of (dtype, shape) by column"
            )
        args = dict(arrow_parquet_args or {})
        self._filter = args.pop("filter", None)
        if self._filter is not None:
            check_type("filter", self._filter, pc.Expression, "an expression of pyarrow.compute")
        given_schema = args.pop("schema", None)
        if given_schema is not None:
            check_type("schema", given_schema, pa.Schema, "a pyarrow.Schema")
        self._batch_rows = args.pop("batch_size", None)
        self._use_threads = bool(args.pop("use_threads", False))
        args.update(args.pop("dataset_kwargs", None) or {})
        for name in args:
            if name not in _FILE_ARGS:
                raise TypeError(
                    f"read_parquet has no option {name!r}: arrow_parquet_args are filter, schema, "
                    f"batch_size, use_threads, dataset_kwargs, and {', '.join(_FILE_ARGS)}"
                )
        check_positive("batch_size", self._batch_rows)
        self._file_args = args
        self._tensors = dict(tensor_column_schema or {})
        self._row_hash = include_row_hash
        super().__init__(paths, file_extensions=file_extensions, schema=given_schema, **options)
        self._first_schema = self._schema if self._schema is not None else self._schema_of_first()
        self._columns = self._checked(columns)

    # ------------------------------------------------------------------ facts

    def _schema_of_first(self) -> pa.Schema | None:
        """Return the schema of the first file that can be read."""
        for number, entry in enumerate(self.listing):
            try:
                with self._opened_path(entry.path) as file:
                    return _bare(adopted_schema(file.schema_arrow))
            except Exception as error:
                if self._on_error == "raise":
                    raise FileReadError(entry.path, f"{type(error).__name__}: {error}").ending() from error
                if number >= 100:
                    break
        return None

    def _checked(self, columns: Any) -> tuple[str, ...] | None:
        if columns is None:
            return None
        check_type("columns", columns, (list, tuple), "a list of names")
        for name in columns:
            check_type("columns", name, str, "a list of names")
        if len(set(columns)) < len(columns):
            raise ValueError(f"columns names a column twice: {list(columns)}")
        if self._first_schema is not None:
            first = next(iter(self.listing)).path
            there = [*self._first_schema.names, *self.constants(first)]
            missing = [name for name in columns if name not in there]
            if missing:
                raise ValueError(f"columns: {missing} are not in {first}; it has {there}")
        return tuple(columns)

    def is_splittable(self) -> bool:
        return True

    def _can_cut(self, entry: FileEntry) -> bool:
        return True

    def file_schema(self) -> pa.Schema | None:
        if self._first_schema is None:
            return None
        fields = []
        for field in self._first_schema:
            tensor = self._tensors.get(field.name)
            fields.append(field if tensor is None else pa.field(field.name, _tensor_type(*tensor)))
        if self._row_hash:
            fields.append(pa.field("row_hash", pa.uint64()))
        return pa.schema(fields)

    def schema(self) -> pa.Schema | None:
        """Return the schema of the first file and of the columns that paths give, as far as asked for."""
        known = super().schema()
        if known is None or self.hints.columns is not None:
            return known
        return pa.schema([known.field(name) for name in self._output(known.names)])

    def _output(self, there: Sequence[str]) -> list[str]:
        """Return the columns to hand out, in order, of those that are there."""
        if self.hints.columns is not None:
            return list(self.hints.columns)
        if self._columns is None:
            return list(there)
        # These were asked for by options of their own.
        extra = [name for name, on in (("row_hash", self._row_hash), ("path", self._include_paths)) if on]
        return [*self._columns, *(name for name in extra if name not in self._columns)]

    def num_rows(self) -> int | None:
        """Return the sum of what the footers say; None if rows are filtered."""
        if self._filter is not None or self.hints.predicate is not None or self._on_error != "raise":
            return None
        entries = self.listing.all()
        if len(entries) == 1:
            return self._rows_in(entries[0])
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(_FOOTER_THREADS, len(entries))) as executor:
            return sum(executor.map(self._rows_in, entries))

    def _rows_in(self, entry: FileEntry) -> int:
        try:
            with self._opened_path(entry.path) as file:
                return int(file.metadata.num_rows)
        except Exception as error:
            raise FileReadError(entry.path, f"{type(error).__name__}: {error}").ending() from error

    # ------------------------------------------------------------------ rows

    def _opened_path(self, path: str) -> Any:
        args = dict(self._file_args)
        if isinstance(self._filesystem, LocalFileSystem):
            return pq.ParquetFile(path, **args)
        args.setdefault("pre_buffer", True)
        return self._retries.call(
            lambda: pq.ParquetFile(self._filesystem.arrow().open_input_file(path), **args)
        )

    def read_file(self, file: InputFile, rejections: Rejections) -> Iterator[pa.Table | Mapping[str, Any]]:
        constants = self.constants(file.path)
        with self._opened_path(file.path) as parquet:
            metadata, schema = parquet.metadata, parquet.schema_arrow
            if twice := doubled(schema.names):
                raise FileReadError(file.path, f"it has more than one column of the name {twice}")
            made = {*constants, "row_hash"} if self._row_hash else {*constants}
            wanted = self._to_read(schema.names, made)
            read = [name for name in wanted if schema.get_field_index(name) >= 0]
            lacking = {name: _type_in(self._first_schema, name) for name in wanted if name not in read}
            groups = list(_row_groups_of(metadata, file.piece))
            if metadata.num_rows == 0 and file.piece.part == 0:
                empty = adopt(schema.empty_table()).select(read)
                yield self._finished(empty, lacking, constants, file.path, 0)
            matching = None
            if self.hints.predicate is not None and groups:
                matching = matching_groups(self.hints.predicate, file.path, self._filesystem.arrow(), schema)
            for group, row in groups:
                if matching is not None and group not in matching:
                    continue
                for table in self._batches(parquet, group, read):
                    yield self._finished(table, lacking, constants, file.path, row)
                    row += table.num_rows

    def _to_read(self, names: Sequence[str], made: set[str]) -> list[str]:
        """Return the columns to read from a file, also those that rows are filtered by."""
        everything = self._schema.names if self._schema is not None else names
        if self._filter is not None:  # an expression of pyarrow does not tell its columns
            wanted = [*names, *self._output(everything)]
        else:
            wanted = self._output(everything)
            if self.hints.predicate is not None:
                wanted = [*wanted, *self.hints.predicate.columns()]
        return [name for name in dict.fromkeys(wanted) if name not in made]

    def _batches(self, parquet: Any, group: int, columns: list[str]) -> Iterator[pa.Table]:
        facts = parquet.metadata.row_group(group)
        if not columns:
            if facts.num_rows:
                yield no_columns(facts.num_rows)
            return
        batch_rows = self._batch_rows or self._rows_for_batch(parquet, group, facts, columns)
        for batch in parquet.iter_batches(
            batch_rows, row_groups=[group], columns=columns, use_threads=self._use_threads
        ):
            yield adopt(pa.Table.from_batches([batch]))

    def _rows_for_batch(self, parquet: Any, group: int, facts: Any, columns: list[str]) -> int:
        """Return the rows of a batch, by the footer, and a trial where values may repeat."""
        rows = max(
            1, min(_MOST_BATCH_ROWS, _BATCH_BYTES * max(1, facts.num_rows) // max(1, facts.total_byte_size))
        )
        if rows > 4 * _TRIED_ROWS and facts.num_rows > 4 * _TRIED_ROWS:
            trial = next(
                parquet.iter_batches(_TRIED_ROWS, row_groups=[group], columns=columns, use_threads=False),
                None,
            )
            if trial is not None and trial.num_rows:
                measured = size_bytes(pa.Table.from_batches([trial])) / trial.num_rows
                rows = max(1, min(rows, int(_BATCH_BYTES / max(measured, 1e-9))))
        return int(rows)

    def _finished(
        self,
        table: pa.Table,
        lacking: Mapping[str, pa.DataType],
        constants: Mapping[str, Any],
        path: str,
        row: int,
    ) -> pa.Table:
        """Add what a file lacks and what its path gives, filter rows, bring columns into their order."""
        rows = table.num_rows
        for name, type_ in lacking.items():
            table = table.append_column(name, pa.nulls(rows, type_))
        for name, (dtype, shape) in self._tensors.items():
            position = table.schema.get_field_index(name)
            if position >= 0 and name not in lacking:
                table = table.set_column(
                    position, name, _tensor_column(table.column(position), name, dtype, shape)
                )
        if self._schema is not None:
            table = cast_to(table, pa.schema([self._schema_field(field) for field in table.schema]))
        if _has_metadata(table.schema):
            table = table.cast(_bare(table.schema))
        if self._row_hash:
            table = table.append_column("row_hash", row_hashes(path, row, rows))
        if constants:
            table = with_constants(table, constants)
        if self._filter is not None:
            table = table.filter(self._filter)
        if self.hints.predicate is not None:
            table = filter_rows(table, self.hints.predicate.evaluate(table))
        names = [name for name in table.column_names if name != NO_COLUMNS]
        output = self._output(names)
        return table.select(output) if output else no_columns(table.num_rows)

    def _schema_field(self, field: pa.Field) -> pa.Field:
        assert self._schema is not None
        position = self._schema.get_field_index(field.name)
        return self._schema.field(position) if position >= 0 else field


def _row_groups_of(metadata: Any, piece: Piece) -> Iterator[tuple[int, int]]:
    """Yield the row groups of a part of a file, each with the number of its first row.

    A row group belongs to the part that has its middle byte, so the parts of a file have each group once.
    """
    row = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        rows = group.num_rows
        if piece.is_whole:
            yield number, row
        elif group.num_columns:
            starts, size = [], 0
            for index in range(group.num_columns):
                column = group.column(index)
                starts.append(column.dictionary_page_offset or column.data_page_offset)
                size += column.total_compressed_size
            middle = min(min(starts) + size // 2, piece.entry.size - 1)
            if piece.start <= middle < piece.stop:
                yield number, row
        elif piece.part == 0:
            yield number, row
        row += rows


def _bare(schema: pa.Schema) -> pa.Schema:
    """Return a schema without metadata: of pandas, of the fields' numbers in a file."""
    return pa.schema([pa.field(field.name, field.type, field.nullable) for field in schema])


def _has_metadata(schema: pa.Schema) -> bool:
    return bool(schema.metadata) or any(field.metadata for field in schema)


def _type_in(schema: pa.Schema | None, name: str) -> pa.DataType:
    if schema is None:
        return pa.null()
    position = schema.get_field_index(name)
    return schema.field(position).type if position >= 0 else pa.null()


def _tensor_type(dtype: Any, shape: tuple[int, ...]) -> pa.DataType:
    import numpy as np

    return pa.fixed_shape_tensor(pa.from_numpy_dtype(np.dtype(dtype)), list(shape))


def _tensor_column(column: pa.ChunkedArray, name: str, dtype: Any, shape: tuple[int, ...]) -> pa.Array:
    """Return arrays made of raw bytes."""
    import numpy as np

    type_ = _tensor_type(dtype, shape)
    width = int(np.dtype(dtype).itemsize * np.prod(shape, dtype=np.int64))
    cells = column.to_pylist()
    for number, cell in enumerate(cells):
        if cell is None or len(cell) != width:
            have = "no bytes" if cell is None else f"{len(cell)} bytes"
            raise ValueError(
                f"tensor_column_schema: row {number} of column {name!r} has {have}, "
                f"{dtype} of shape {shape} has {width}"
            )
    values = pa.array(np.frombuffer(b"".join(cells), dtype))
    size = width // np.dtype(dtype).itemsize
    return pa.ExtensionArray.from_storage(type_, pa.FixedSizeListArray.from_arrays(values, size))
