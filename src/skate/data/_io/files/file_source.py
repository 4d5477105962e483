"""Datasources of files: listing, bundles, read ahead, blocks. A format adds how one file becomes rows.

::

    paths ─► Listing ─► pack ─► ReadTask(FileRead) ─► (worker) read_ahead ─► read_file ─► Output ─► blocks
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any

import pyarrow as pa

from skate.data._io.datasource import BlockMetadata, Datasource, ReadTask
from skate.data._io.files.bundles import BundleLimits, Piece, name_of, pack
from skate.data._io.files.errors import ON_ERROR
from skate.data._io.files.filesystem import FileEntry, pack_entries, resolve, unpack_entries
from skate.data._io.files.listing import Listing, check_extensions, check_paths
from skate.data._io.files.output import Output, Rejections
from skate.data._io.files.partitioning import Partitioning, PathPartitionParser, arrow_type_of
from skate.data._io.files.reading import InputFile, check_size, codec_of, read_ahead
from skate.data._io.files.retrying import Retries
from skate.data._io.files.shuffling import check_shuffle, shuffled
from skate.data._io.plain_data import plain
from skate.data._options import check_choice, check_positive, check_type
from skate.data._task.operators import ChildCalls, Letter, NotOfRow, TaskContext

# Files of which an estimate of the size is made; a longer listing counts as at least that much.
_ESTIMATED_FILES = 10_000


class FileBasedDatasource(Datasource):
    """Rows of files. Subclass it and define ``_read_stream``, as for Ray's class of this name.

    Args:
        paths: a file, folder or glob (``*``, ``**``), or a list of them; local paths, or URLs of one scheme.
        filesystem: of pyarrow or fsspec; None: found by the paths.
        schema: schema of the rows, if known.
        open_stream_args: ``{"compression": ...}``: how files are compressed; by default as their extension
            says.
        meta_provider: accepted, without effect: sizes come with the listing.
        partition_filter: a ``PathPartitionFilter``, or a function from a list of paths to those that are
            read.
        partitioning: a ``Partitioning``: columns made of folders' names.
        ignore_missing_paths: leave out paths that do not exist.
        shuffle: ``"files"`` or a ``FileShuffleConfig``: read files in a random order.
        include_paths: add a column ``path``.
        file_extensions: read only files whose names end so, such as ``["csv", "csv.gz"]``; None: all.
        on_error: what a file that cannot be read does: ``"raise"`` ends the job, ``"skip"`` leaves the file
            out, ``"dead_letter"`` leaves it out and keeps a note of it.
        max_file_bytes: files above this many bytes, compressed or not, count as unreadable; None: no limit.
        skip_paths: files that are left out.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: there is no file, or an option has a wrong value; its name is in the message.
        TypeError: an option is of the wrong type.

    Example:
        >>> class Hex(FileBasedDatasource):
        ...     def _read_stream(self, f, path):
        ...         yield pa.table({"hex": [f.readall().hex()]})
    """

    #: Endings that names must have by default; files that are named themselves are read in any case.
    default_extensions: tuple[str, ...] | None = None
    #: How much one task reads.
    limits: BundleLimits = BundleLimits()
    #: ``read_file`` decodes from memory: files are read whole, ahead.
    reads_whole_files: bool = True
    #: ``read_file`` adds the columns that paths give itself.
    adds_constants: bool = False
    #: Rows of each file, if that is certain.
    rows_per_file: int | None = None
    #: Bytes in memory for a byte of a file, about.
    memory_per_byte: float = 1.0

    def __init__(
        self,
        paths: Any,
        *,
        filesystem: Any = None,
        schema: pa.Schema | None = None,
        open_stream_args: Mapping[str, Any] | None = None,
        meta_provider: Any = None,
        partition_filter: Any = None,
        partitioning: Partitioning | None = None,
        ignore_missing_paths: bool = False,
        shuffle: Any = None,
        include_paths: bool = False,
        file_extensions: Any = None,
        on_error: str = "raise",
        max_file_bytes: int | None = None,
        skip_paths: Iterable[str] | None = None,
    ) -> None:
        check_type("ignore_missing_paths", ignore_missing_paths, bool, "True or False")
        check_type("include_paths", include_paths, bool, "True or False")
        check_choice("on_error", on_error, ON_ERROR)
        check_positive("max_file_bytes", max_file_bytes)
        check_shuffle(shuffle)
        if partitioning is not None:
            check_type("partitioning", partitioning, Partitioning, "a skate.data.datasource.Partitioning")
        if open_stream_args is not None:
            check_type("open_stream_args", open_stream_args, Mapping, "a dict")
        self._schema = schema
        self._stream_args = dict(open_stream_args or {})
        self._partitioning = partitioning
        self._parser = PathPartitionParser(partitioning) if partitioning is not None else None
        self._shuffle = shuffle
        self._include_paths = include_paths
        self._on_error = on_error
        self._max_file_bytes = max_file_bytes
        self._retries = Retries()
        extensions = check_extensions(file_extensions)
        by_default = check_extensions(self.default_extensions)
        self._listing: Listing | None = Listing(
            check_paths(paths),
            filesystem,
            extensions=extensions,
            extensions_of_files_too=extensions != by_default,
            keep=_path_filter(partition_filter, skip_paths, filesystem),
            ignore_missing_paths=ignore_missing_paths,
        )
        self._filesystem = self._listing.filesystem

    # ------------------------------------------------------------------ what a format defines

    def _read_stream(self, f: Any, path: str) -> Iterator[Any]:
        """Yield tables, data frames or dicts of columns of a file; ``f`` is a ``pyarrow.NativeFile``."""
        raise NotImplementedError(f"{type(self).__name__} must define _read_stream(f, path)")

    def read_file(self, file: InputFile, rejections: Rejections) -> Iterator[pa.Table | Mapping[str, Any]]:
        """Yield the rows of a file, as tables or as dicts.

        Args:
            file: the file, or a part of it.
            rejections: where rows go that are bad while the rest of the file is good.
        """
        from skate.data._block.batches import from_batch

        with file.open_stream() as stream:
            for made in self._read_stream(stream, file.path):
                yield (
                    made
                    if isinstance(made, pa.Table)
                    else from_batch(made, f"{type(self).__name__}._read_stream")
                )

    def input_file(self, piece: Piece, loaded: bytes | None) -> InputFile:
        """Return a file for ``read_file``; ``loaded``: its bytes, if they have been read."""
        codec = codec_of(piece.entry.path, self._stream_args)
        return InputFile(self._filesystem, piece, loaded, codec, self._max_file_bytes, self._retries)

    def file_schema(self) -> pa.Schema | None:
        """Return the schema of the rows of files if it is known without reading, without columns of paths."""
        return self._schema

    def is_splittable(self) -> bool:
        """Tell whether a large file that is not compressed may be cut into ranges of bytes."""
        return False

    def _can_cut(self, entry: FileEntry) -> bool:
        return self.is_splittable() and codec_of(entry.path, self._stream_args) is None

    # ------------------------------------------------------------------ the datasource

    @property
    def listing(self) -> Listing:
        """The files; in the driver alone."""
        if self._listing is None:
            raise RuntimeError("a datasource lists its files in the driver; this copy is in a worker")
        return self._listing

    def _for_workers(self) -> FileBasedDatasource:
        """Return a copy without the listing: a task carries it, and its own files beside it."""
        made = copy(self)
        made._listing = None
        return made

    @staticmethod
    def resolve_compression(path: str, open_args: Mapping[str, Any]) -> str | None:
        """Return the name of the compression of a file, by the arguments or by its extension."""
        return codec_of(path, dict(open_args))

    def get_read_tasks(
        self, parallelism: int = -1, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Return the parts, in order; reads the whole listing."""
        return list(self.iter_read_tasks(parallelism, per_task_row_limit, data_context))

    def iter_read_tasks(
        self, parallelism: int = -1, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> Iterator[ReadTask]:
        """Yield the parts, in order, while the listing is read.

        Args:
            parallelism: number of parts wanted; -1: by the sizes of files.
            per_task_row_limit: rows after which each part may stop.
            data_context: its ``_execution_idx`` counts executions, for ``shuffle``; errors that contain one
                of its ``retried_io_errors`` are tried again.
        """
        listing = self.listing
        entries: Iterable[FileEntry] = listing
        if self._shuffle is not None:
            entries = shuffled(listing.all(), self._shuffle, getattr(data_context, "_execution_idx", 0))
        if self.hints.predicate is not None and self._parser is not None:
            entries = self._matching(entries)
        source = self._for_workers()
        source._retries = Retries(getattr(data_context, "retried_io_errors", None) or ())
        seen: set[str] = set()
        rows = 0
        bundles = pack(
            entries,
            self.limits,
            may_cut=self._can_cut,
            parallelism=parallelism,
            is_recorded=self.hints.is_recorded,
        )
        for bundle in bundles:
            name = name_of(bundle, listing.relative(bundle[0].entry.path))
            unique, number = name, 2
            while unique in seen:  # a file that is named twice is read twice
                unique, number = f"{name}#{number}", number + 1
            seen.add(unique)
            read = FileRead(source, bundle, per_task_row_limit)
            yield FileReadTask(read, per_task_row_limit, unique)
            rows += source.rows_of(len(bundle)) or 0
            if self.hints.limit is not None and rows >= self.hints.limit:
                return  # the files that follow are not needed

    def _matching(self, entries: Iterable[FileEntry]) -> Iterator[FileEntry]:
        parser, predicate = self._parser, self.hints.predicate
        assert parser is not None
        known: dict[str, bool] = {}
        for entry in entries:
            folder = entry.path.rpartition("/")[0]
            if folder not in known:
                known[folder] = parser.evaluate_predicate_on_partition(entry.path, predicate)
            if known[folder]:
                yield entry

    def rows_of(self, files: int) -> int | None:
        """Return the rows of a number of files, if that is certain."""
        if self.rows_per_file is None or self._on_error != "raise" or self.hints.predicate is not None:
            return None
        return files * self.rows_per_file

    def num_rows(self) -> int | None:
        """Return the number of rows if every file has a certain number."""
        return self.rows_of(len(self.listing.all())) if self.rows_per_file is not None else None

    def estimate_inmemory_data_size(self) -> int | None:
        """Return the expected bytes of all rows; of a very long listing, at least as many."""
        total = 0
        for number, entry in enumerate(self.listing):
            if number >= _ESTIMATED_FILES:
                break
            total += entry.size
        return int(total * self.memory_per_byte)

    def schema(self) -> pa.Schema | None:
        """Return the schema if it is known without reading rows."""
        known = self.file_schema()
        if known is None:
            return None
        for name, (_, type_) in self.constants(next(iter(self.listing)).path).items():
            position = known.get_field_index(name)
            known = (
                known.set(position, pa.field(name, type_))
                if position >= 0
                else known.append(pa.field(name, type_))
            )
        columns = self.hints.columns
        return known if columns is None else pa.schema([known.field(name) for name in columns])

    def input_files(self) -> list[str]:
        """Return the paths of all files; reads the whole listing."""
        return [entry.path for entry in self.listing.all()]

    def fingerprint(self) -> dict[str, Any]:
        """Return a digest of paths, sizes and times of change, and the options."""
        digest = hashlib.blake2b(digest_size=16)
        count = size = 0
        for entry in self.listing.all():
            digest.update(
                f"{self.listing.relative(entry.path)}\0{entry.size}\0{entry.mtime_ns}\n".encode(
                    "utf-8", "surrogatepass"
                )
            )
            count += 1
            size += entry.size
        hidden = {"_listing", "_filesystem", "_parser", "_retries", "hints"}
        return {
            "source": self.get_name(),
            "filesystem": self._filesystem.describe(),
            "root": self.listing.root,
            "files": count,
            "bytes": size,
            "digest": digest.hexdigest(),
            "options": {
                name.lstrip("_"): plain(value)
                for name, value in sorted(self.__dict__.items())
                if name not in hidden
            },
        }

    def constants(self, path: str) -> dict[str, tuple[Any, pa.DataType]]:
        """Return the columns that a path gives: value and type by name."""
        found: dict[str, tuple[Any, pa.DataType]] = {}
        if self._parser is not None:
            for name, value in self._parser(path).items():
                found[name] = (value, arrow_type_of(self._partitioning, name))
        if self._include_paths:
            found["path"] = (as_text(path), pa.string())
        return found


class FileReadTask(ReadTask):
    """A bundle of files; its metadata is made when it is asked for, and does not travel.

    Args:
        read: the read function.
        row_limit: rows after which reading may stop.
        name: see ``ReadTask``.
    """

    def __init__(self, read: FileRead, row_limit: int | None, name: str) -> None:
        self._read_fn = read
        self.schema = None
        self.per_task_row_limit = row_limit
        self.name = name

    @property
    def metadata(self) -> BlockMetadata:  # type: ignore[override]
        """Rows and bytes that are expected."""
        read: Any = self._read_fn
        return BlockMetadata(
            num_rows=read.source.rows_of(len(read.pieces)),
            size_bytes=int(sum(piece.size for piece in read.pieces) * read.source.memory_per_byte),
            input_files=[piece.entry.path for piece in read.pieces],
        )


class FileRead:
    """The read function of a bundle of files; picklable.

    Args:
        source: knows the format.
        pieces: the files.
        row_limit: rows after which reading may stop.
    """

    def __init__(
        self, source: FileBasedDatasource, pieces: Sequence[Piece], row_limit: int | None = None
    ) -> None:
        self.source = source
        self.pieces = list(pieces)
        limits = [limit for limit in (row_limit, source.hints.limit) if limit is not None]
        self._limit = min(limits) if limits else None

    def __getstate__(self) -> dict[str, Any]:
        parts = [(piece.part, piece.parts) for piece in self.pieces]
        whole = all(part == (0, 1) for part in parts)
        entries = pack_entries([piece.entry for piece in self.pieces])
        return {
            "source": self.source,
            "limit": self._limit,
            "entries": entries,
            "parts": None if whole else parts,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.source = state["source"]
        self._limit = state["limit"]
        entries = unpack_entries(state["entries"])
        parts = state["parts"] or [(0, 1)] * len(entries)
        self.pieces = [Piece(entry, *part) for entry, part in zip(entries, parts, strict=True)]

    def __call__(self) -> Iterator[pa.Table]:
        """Return the blocks. Letters are lost: ``read`` keeps them."""
        return self.read(TaskContext("read"))

    def read(self, task: TaskContext) -> Iterator[pa.Table]:
        """Return the blocks of a task, and put failures into its letters."""
        source = self.source
        stage = f"Read{source.get_name()}"
        rejections = Rejections(source._on_error, task, stage)
        isolation = task.replica.isolation
        child = None if isolation is None else isolation.child(partial(_ChildReader, source, stage), stage)
        constants = None if source.adds_constants else source.constants
        output = Output(task.target_max_block_bytes, self._limit, constants, task.on_conflict)
        loaded_pieces = (
            read_ahead(source._filesystem, self.pieces, source._max_file_bytes, source._retries)
            if source.reads_whole_files
            else ((piece, None) for piece in self.pieces)
        )
        try:
            while not output.is_full:
                following = next(loaded_pieces, None)
                if following is None:
                    break
                yield from self._read_one(*following, output, rejections, child)
        except NotOfRow as passing:
            raise passing.error from passing.error.__cause__
        finally:
            if child is not None:
                child.close()
            close = getattr(loaded_pieces, "close", None)
            if close is not None:
                close()
        yield from output.finish()

    def _read_one(
        self,
        piece: Piece,
        loaded: Any,
        output: Output,
        rejections: Rejections,
        child: ChildCalls | None,
    ) -> Iterator[pa.Table]:
        source, path = self.source, piece.entry.path
        try:
            output.begin(path)
            if isinstance(loaded, Exception):
                raise loaded
            check_size(piece, source._max_file_bytes)
            rows = (
                source.read_file(source.input_file(piece, loaded), rejections)
                if child is None
                else _rows_of_child(child, (piece, loaded), rejections)
            )
            for made in rows:
                yield from output.add(made)
                if output.is_full:
                    break
        except Exception as error:
            rejections.reject(error, path, rows_before=output.rows_of_file)


class _ChildReader:
    """Reads files in a child process, where a decoder may end it. Rows come with the letters before them."""

    def __init__(self, source: FileBasedDatasource, stage: str) -> None:
        self._source = source
        self._stage = stage

    def __call__(self, data: tuple[Piece, bytes | None]) -> Iterator[tuple[Any, list[Letter]]]:
        task = TaskContext("")
        rejections = Rejections(self._source._on_error, task, self._stage)
        for made in self._source.read_file(self._source.input_file(*data), rejections):
            letters, task.letters = task.letters, []
            yield made, letters
        yield None, task.letters


def _rows_of_child(
    child: ChildCalls, data: tuple[Piece, bytes | None], rejections: Rejections
) -> Iterator[pa.Table | Mapping[str, Any]]:
    for made, letters in child.call(data):
        rejections.add(letters)
        if made is not None:
            yield made


def as_text(path: str) -> str:
    """Return a path as text: bytes of names that are no UTF-8 become U+FFFD."""
    return path if path.isascii() else path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _path_filter(
    partition_filter: Any, skip_paths: Iterable[str] | None, filesystem: Any
) -> Callable[[str], bool] | None:
    """Return a function that tells by its path whether a file is read; None: all are."""
    if skip_paths is not None:
        check_type("skip_paths", skip_paths, (list, tuple, set, frozenset), "a list of paths")
        skipped = set(resolve([str(path) for path in skip_paths], filesystem)[1])
        after = _path_filter(partition_filter, None, filesystem)
        return lambda path: path not in skipped and (after is None or after(path))
    if partition_filter is None:
        return None
    if not callable(partition_filter):
        raise TypeError(f"partition_filter must be a PathPartitionFilter, not {partition_filter!r}")
    apply = getattr(partition_filter, "apply", None)
    if callable(apply):
        return lambda path: bool(apply(path))
    return lambda path: bool(partition_filter([path]))
