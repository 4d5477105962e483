"""The protocol for users' own sinks, and the sink that speaks it with the executor."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import pyarrow as pa

from skate.data._block.rows import iter_rows
from skate.data._block.tables import concat, size_bytes
from skate.data._io.block_accessor import BlockAccessor
from skate.data._io.commit import SaveMode
from skate.data._io.commit_files import WriteFacts
from skate.data._io.commit_staging import StagedTask, task_number
from skate.data._io.sink import Sink
from skate.data._io.writers.file_sink import FileSink
from skate.data._io.writers.formats import Format
from skate.data._io.writers.names import FilenameProvider, FileNames
from skate.data._task.operators import TaskContext

W = TypeVar("W")


@dataclass
class WriteResult(Generic[W]):
    """The outcome of a whole write, for ``Datasink.on_write_complete``.

    Attributes:
        num_rows: rows that the tasks got.
        size_bytes: bytes of these rows in memory.
        write_returns: what ``write`` returned, of each task that had rows.
    """

    num_rows: int
    size_bytes: int
    write_returns: list[W]

    @classmethod
    def combine(cls, *wrs: WriteResult[W]) -> WriteResult[W]:
        """Return the sum of several results."""
        return cls(
            num_rows=sum(result.num_rows for result in wrs),
            size_bytes=sum(result.size_bytes for result in wrs),
            write_returns=[value for result in wrs for value in result.write_returns],
        )


@dataclass
class WriteContext:
    """The facts of a task for ``Datasink.write``.

    Attributes:
        task_idx: number of the task, the same when it runs again.
        op_name: name of the write, for people.
        task: the executor's own context.
        kwargs: free for subclasses.
    """

    task_idx: int
    op_name: str
    task: TaskContext
    kwargs: dict[str, Any] = field(default_factory=dict)
    files: StagedTask | None = field(default=None, repr=False)
    names: FileNames | None = field(default=None, repr=False)


class Datasink(Generic[W]):
    """Where rows go. Subclass it and give it to ``Dataset.write_datasink``.

    ``on_write_start`` runs once before the first task, ``write`` in each task, ``on_write_complete`` once at
    the end, or ``on_write_failed``. The object is pickled to the workers after ``on_write_start``. A task may
    run again after its worker died.

    Example:
        >>> class Lengths(Datasink):
        ...     def write(self, blocks, ctx):
        ...         return sum(block.num_rows for block in blocks)
        ...     def on_write_complete(self, write_result):
        ...         print(sum(write_result.write_returns))
    """

    def on_write_start(self, schema: pa.Schema | None = None) -> None:
        """Prepare the target; ``schema`` is that of the rows, if it is known."""

    def write(self, blocks: Iterable[pa.Table], ctx: Any) -> W:
        """Write the blocks of one task.

        Args:
            blocks: the rows.
            ctx: a WriteContext: ``ctx.task_idx`` is the number of the task.

        Returns:
            A value for ``on_write_complete``; it is pickled.
        """
        raise NotImplementedError(f"{type(self).__name__} must define write")

    def on_write_complete(self, write_result: WriteResult[W]) -> None:
        """Make the write visible: all tasks have finished."""

    def on_write_failed(self, error: Exception) -> None:
        """Undo what can be undone: the write failed."""

    def get_name(self) -> str:
        """Return a name for people."""
        return type(self).__name__.removeprefix("_").removesuffix("Datasink")

    @property
    def supports_distributed_writes(self) -> bool:
        """Whether ``write`` may run in several workers; otherwise one task gets all rows."""
        return True

    @property
    def min_rows_per_write(self) -> int | None:
        """Rows that each task should get at least; None: whatever comes."""
        return None

    @property
    def min_bytes_per_write(self) -> int | None:
        """Bytes of rows that each task should get at least; None: whatever comes."""
        return None


class DummyOutputDatasink(Datasink[None]):
    """Counts rows and writes nothing, for tests and measurements.

    Attributes:
        num_ok: completed writes.
        num_failed: failed writes.
        rows_written: rows of the completed writes.
    """

    def __init__(self) -> None:
        self.num_ok = 0
        self.num_failed = 0
        self.rows_written = 0

    def write(self, blocks: Iterable[pa.Table], ctx: Any) -> None:
        for _ in blocks:
            pass

    def on_write_complete(self, write_result: WriteResult[None]) -> None:
        self.num_ok += 1
        self.rows_written += write_result.num_rows

    def on_write_failed(self, error: Exception) -> None:
        self.num_failed += 1


class DatasinkSink(Sink):
    """Speaks the Datasink protocol with the executor.

    Args:
        datasink: the user's object; its methods for the driver run on this very object.

    Attributes:
        one_task: all rows must go to one task.
        min_bytes: bytes of rows that each task should get at least; None: whatever comes.
    """

    def __init__(self, datasink: Datasink[Any]) -> None:
        if not isinstance(datasink, Datasink):
            hint = ": give an instance, not the class" if inspect.isclass(datasink) else ""
            raise TypeError(f"write_datasink takes a Datasink, not {datasink!r}{hint}")
        self.datasink = datasink
        self.name = f"Write{datasink.get_name()}"
        self.min_rows = datasink.min_rows_per_write
        self.min_bytes = datasink.min_bytes_per_write
        self.one_task = not datasink.supports_distributed_writes
        self.facts = WriteFacts()

    def start(self, schema: pa.Schema | None) -> None:
        # Older programs define it without a parameter.
        if inspect.signature(self.datasink.on_write_start).parameters:
            self.datasink.on_write_start(schema)
        else:
            self.datasink.on_write_start()

    def is_needed(self) -> bool:
        needed = getattr(self.datasink, "_is_needed", None)
        return True if needed is None else bool(needed())

    def write(self, blocks: Iterator[pa.Table], task: TaskContext) -> dict[str, Any]:
        counted = _Counted(blocks)
        number = task_number(task.task_id) if task.number is None else task.number
        context = WriteContext(number, self.name, task)
        value = self.datasink.write(counted, context)
        return {"rows": counted.rows, "bytes": counted.bytes, "value": value}

    def commit(self, results: Sequence[Any], schema: pa.Schema | None) -> None:
        done = [result for result in results if result is not None]
        found: WriteResult[Any] = WriteResult(
            num_rows=sum(result["rows"] for result in done),
            size_bytes=sum(result["bytes"] for result in done),
            write_returns=[result["value"] for result in done],
        )
        self.datasink.on_write_complete(found)
        self.facts.rows, self.facts.bytes = found.num_rows, found.size_bytes

    def abort(self, error: BaseException) -> None:
        self.datasink.on_write_failed(error)  # type: ignore[arg-type]


class _Counted:
    """Blocks of a task, counted while the user's function takes them."""

    def __init__(self, blocks: Iterator[pa.Table]) -> None:
        self._blocks = blocks
        self.rows = 0
        self.bytes = 0

    def __iter__(self) -> Iterator[pa.Table]:
        return self

    def __next__(self) -> pa.Table:
        block = next(self._blocks)
        self.rows += block.num_rows
        self.bytes += size_bytes(block)
        return block


class _NoFormat(Format):
    """The place of a format where a user's class writes the files."""

    def __init__(self, extension: str) -> None:
        self.extension = extension

    def write(self, *_: Any) -> None:
        raise NotImplementedError


class _FileDatasink(Datasink[Any]):
    """Files of a user's own format; nothing is visible in the folder before all tasks have finished.

    Args:
        path: the folder: a local path or a URL.
        filesystem: of pyarrow or fsspec; None: found by the path.
        try_create_dir: make the folder if it does not exist.
        open_stream_args: for pyarrow's ``open_output_stream``.
        filename_provider: names the files.
        dataset_uuid: a first part of all names.
        file_format: the extension, without a dot.
        mode: what to do if the folder exists.
    """

    def __init__(
        self,
        path: str,
        *,
        filesystem: Any = None,
        try_create_dir: bool = True,
        open_stream_args: dict[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        dataset_uuid: str | None = None,
        file_format: str | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
    ) -> None:
        self.path = path
        self.open_stream_args = open_stream_args or {}
        self.filename_provider = filename_provider or FilenameProvider(dataset_uuid, file_format)
        self.dataset_uuid = dataset_uuid
        self.file_format = file_format
        self.mode = mode
        self._sink = FileSink(
            path,
            _NoFormat(file_format or ""),
            filesystem=filesystem,
            try_create_dir=try_create_dir,
            filename_provider=self.filename_provider,
            mode=mode,
        )
        self.filesystem = self._sink.arrow_filesystem

    def _is_needed(self) -> bool:
        return self._sink.is_needed()

    def on_write_start(self, schema: pa.Schema | None = None) -> None:
        self._sink.start(schema)

    def write(self, blocks: Iterable[pa.Table], ctx: Any) -> Any:
        with self._sink.stage(ctx.task) as files:
            ctx.files, ctx.names = files, self._sink.names_of(files)
            self._write_blocks(blocks, ctx)
            return files.finish()

    def _write_blocks(self, blocks: Iterable[pa.Table], ctx: Any) -> None:
        raise NotImplementedError

    def on_write_complete(self, write_result: WriteResult[Any]) -> None:
        self._sink.commit(write_result.write_returns, None)

    def on_write_failed(self, error: Exception) -> None:
        self._sink.abort(error)

    def open_output_stream(self, path: str) -> AbstractContextManager[Any]:
        """Open a file to write; override it to open files in another way.

        Args:
            path: the whole path, in the staging folder.
        """
        stream: AbstractContextManager[Any] = self.filesystem.open_output_stream(
            path, **self.open_stream_args
        )
        return stream


class RowBasedFileDatasink(_FileDatasink):
    """Writes one file a row. Define ``write_row_to_file``; parameters as in ``_FileDatasink``.

    Example:
        >>> class Texts(RowBasedFileDatasink):
        ...     def write_row_to_file(self, row, file):
        ...         file.write(row["text"].encode())
        >>> ds.write_datasink(Texts("out", file_format="txt"))
    """

    def write_row_to_file(self, row: dict[str, Any], file: Any) -> None:
        """Write a row to an open file."""
        raise NotImplementedError(f"{type(self).__name__} must define write_row_to_file")

    def write_block(self, block: pa.Table, block_index: int, ctx: Any) -> None:
        """Write the rows of a block."""
        for number, row in enumerate(iter_rows(block)):
            path = ctx.files.new_file(ctx.names.of_row(row, block_index, number))
            with self.open_output_stream(path) as file:
                self.write_row_to_file(row, file)
            ctx.files.rows += 1

    def _write_blocks(self, blocks: Iterable[pa.Table], ctx: Any) -> None:
        for number, block in enumerate(blocks):
            self.write_block(block, number, ctx)


class BlockBasedFileDatasink(_FileDatasink):
    """Writes one file a task. Define ``write_block_to_file``; further parameters as in ``_FileDatasink``.

    Args:
        path: the folder.
        min_rows_per_file: rows that a file should have at least.

    Example:
        >>> class Feather(BlockBasedFileDatasink):
        ...     def write_block_to_file(self, block, file):
        ...         pyarrow.feather.write_feather(block.to_arrow(), file)
        >>> ds.write_datasink(Feather("out", file_format="feather"))
    """

    def __init__(
        self, path: str, *, min_rows_per_file: int | None = None, **file_datasink_kwargs: Any
    ) -> None:
        super().__init__(path, **file_datasink_kwargs)
        self._min_rows_per_file = min_rows_per_file

    @property
    def min_rows_per_write(self) -> int | None:
        """Rows that each task should get at least."""
        return self._min_rows_per_file

    def write_block_to_file(self, block: BlockAccessor, file: Any) -> None:
        """Write a block to an open file: ``block.to_arrow()`` is its table."""
        raise NotImplementedError(f"{type(self).__name__} must define write_block_to_file")

    def write_block(self, block: BlockAccessor, block_index: int, ctx: Any) -> None:
        """Write a block."""
        path = ctx.files.new_file(ctx.names.of_file(block_index, block.to_block()))
        with self.open_output_stream(path) as file:
            self.write_block_to_file(block, file)
        ctx.files.rows += block.num_rows()

    def _write_blocks(self, blocks: Iterable[pa.Table], ctx: Any) -> None:
        rows = concat([block for block in blocks if block.num_rows])
        if rows.num_rows:
            self.write_block(BlockAccessor.for_block(rows), 0, ctx)
