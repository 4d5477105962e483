"""The sink of files: begins a write, stages what tasks write, records what is finished, commits."""

from __future__ import annotations

import errno
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

import pyarrow as pa

from skate.data._block.tables import public_schema
from skate.data._io.commit import SaveMode, save_mode
from skate.data._io.commit_files import JobFiles, WriteFacts
from skate.data._io.commit_letters import Failures
from skate.data._io.commit_staging import StagedTask, Staging, TaskResult
from skate.data._io.commit_start import Begun, Target, begin
from skate.data._io.commit_store import Store, open_store
from skate.data._io.files.filesystem import resolve
from skate.data._io.files.reading import codec_of
from skate.data._io.plain_data import plain
from skate.data._io.sink import Sink
from skate.data._io.writers.formats import BlockFormat, Format
from skate.data._io.writers.names import FilenameProvider, FileNames, is_overridden
from skate.data._io.writers.one_schema import make_uniform
from skate.data._options import check_positive, check_type
from skate.data._task.operators import TaskContext

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FileOptions(TypedDict, total=False):
    """Options of every FileSink; see there."""

    filesystem: Any
    try_create_dir: bool
    arrow_open_stream_args: Mapping[str, Any] | None
    filename_provider: FilenameProvider | None
    min_rows_per_file: int | None
    mode: SaveMode | str
    resume: bool | str


class FileSink(Sink):
    """Writes files of any format to a folder; nothing is visible before the commit.

    Args:
        path: the folder: a local path or a URL.
        form: the format.
        filesystem: of pyarrow or fsspec; None: found by the path.
        try_create_dir: make the folder if it does not exist.
        arrow_open_stream_args: for pyarrow's ``open_output_stream``: ``compression``, ``buffer_size``, ...
        filename_provider: names the files.
        min_rows_per_file: rows that a file should have at least.
        min_bytes_per_file: bytes in memory that a file's rows should have at least.
        max_rows_per_file: rows after which a new file begins.
        mode: what to do if the folder exists, see SaveMode.
        resume: record what is finished, so that the same write goes on after a crash; ``"force"``: also if
            code or source changed.

    Raises:
        ValueError: an option has a value that makes no sense.
        TypeError: an option is of a wrong type.

    Attributes:
        min_bytes: bytes of rows that each task should get at least; None: whatever comes.
        is_resumable: the executor should call ``record``, and should not mix rows of several parts of the
            source in a task without need: parts that share a task are recorded together.
        facts: what the write did; after ``commit``.
    """

    def __init__(
        self,
        path: str,
        form: Format,
        *,
        filesystem: Any = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: Mapping[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        min_rows_per_file: int | None = None,
        min_bytes_per_file: int | None = None,
        max_rows_per_file: int | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
        resume: bool | str = False,
    ) -> None:
        path = _path_text(path)
        check_positive("min_rows_per_file", min_rows_per_file)
        check_positive("min_bytes_per_file", min_bytes_per_file)
        check_positive("max_rows_per_file", max_rows_per_file)
        if min_rows_per_file and max_rows_per_file and min_rows_per_file > max_rows_per_file:
            raise ValueError(
                f"min_rows_per_file={min_rows_per_file} is above max_rows_per_file={max_rows_per_file}: "
                "no file could "
                "have such a number of rows"
            )
        if resume not in (True, False, "force"):
            raise ValueError(f"resume must be True, False or 'force', not {resume!r}")
        if filename_provider is not None:
            check_type("filename_provider", filename_provider, FilenameProvider, "a FilenameProvider")
        if arrow_open_stream_args is not None:
            check_type("arrow_open_stream_args", arrow_open_stream_args, Mapping, "a dict")
        self._mode = save_mode(mode)
        self._resume = resume
        self._form = form
        self._names = filename_provider or FilenameProvider(file_format=form.extension)
        self._arguments = dict(arrow_open_stream_args or {})
        self._try_create_dir = try_create_dir
        found, (root,) = resolve([path], filesystem)
        self._store: Store = open_store(found, root)
        self._identity: Any = None
        self._plan: dict[str, Any] | None = None
        self._schema: pa.Schema | None = None
        self._staging: Staging | None = None
        self._begun: Begun | None = None
        self.name = f"Write{type(self).__name__.removesuffix('Sink') or 'Files'}"
        self.min_rows = min_rows_per_file
        self.min_bytes = min_bytes_per_file
        self.is_resumable = bool(resume)
        self.has_one_schema = isinstance(form, BlockFormat) and form.has_one_schema
        self.facts = WriteFacts()

    def __getstate__(self) -> dict[str, Any]:
        # The lock and the manifest belong to the driver.
        return {**self.__dict__, "_begun": None, "_plan": None, "_identity": None}

    @property
    def path(self) -> str:
        """The folder."""
        return self._store.root

    @property
    def arrow_filesystem(self) -> Any:
        """The filesystem of the folder: one of pyarrow."""
        return self._store.filesystem.arrow()

    def identify(self, plan: Any) -> None:
        """Say what is written: data that changes when the rows would change. Call it before ``start``.

        Args:
            plan: plain data, such as ``{"operators": [...], "source": fingerprint}``; the keys name what
                changed in the error of a write that cannot be resumed.
        """
        self._identity = plain(plan)

    def start(self, schema: pa.Schema | None) -> None:
        self._schema = schema = None if schema is None else public_schema(schema)
        self._form.check(schema)
        self._check_names()
        plan: dict[str, Any] | None = None
        if self.is_resumable:
            if self._identity is None:
                raise ValueError("resume=True needs to know what is written; call identify() before start()")
            plan = {"plan": self._identity, "options": {**self._form.describe(), "mode": self._mode.value}}
            plan["options"]["filename_provider"] = type(self._names).__qualname__
        self._plan = plan
        target = Target(self._store, self._mode, self._try_create_dir)
        self._begun = begin(target, plan, force=self._resume == "force")
        if self._begun.files is None:
            self.facts = self._begun.facts
            return
        self._staging = Staging(
            store=self._store,
            folder=self._begun.files.staged,
            write_uuid=self._begun.write_uuid,
            first_task=self._begun.recorded.next_task,
            sync=self.is_resumable,
            open_arguments=tuple(self._arguments.items()),
        )

    def _check_names(self) -> None:
        """Raise ValueError if a user's names for numbered files would be the same in the next run."""
        if self._mode is not SaveMode.APPEND or not self._form.is_numbered:
            return
        if is_overridden(self._names, "get_filename_for_task"):
            example = self._names.get_filename_for_task("0f3e", 0)
            if isinstance(example, str) and "0f3e" not in example:
                raise ValueError(
                    f"{type(self._names).__name__} names a file {example!r}, without write_uuid: the "
                    "next run with "
                    "mode='append' would replace the files of this one. Put write_uuid into the name, or "
                    "pass "
                    "mode='overwrite'."
                )

    def is_needed(self) -> bool:
        return self._begun is not None and self._begun.files is not None

    def write(self, blocks: Iterator[pa.Table], task: TaskContext) -> TaskResult:
        try:
            with self.stage(task) as files:
                self._form.write(blocks, files, self.names_of(files), task, self._schema)
                result = files.finish()
        except OSError as error:
            raise self._explained(error) from error
        task.counts["files_written"] = task.counts.get("files_written", 0) + result["files"]
        task.counts["bytes_written"] = task.counts.get("bytes_written", 0) + result["bytes"]
        return result

    def _explained(self, error: OSError) -> OSError:
        """Return an error that says where there is no room; others stay as they are."""
        # An error of a user's function is of a type of its own.
        if type(error) is not OSError or error.errno not in _NO_ROOM:
            return error
        then = "goes on where it was" if self.is_resumable else "writes everything"
        return OSError(
            error.errno,
            f"{os.strerror(error.errno)} while {self.name} wrote to {self.path}. Nothing of this write is "
            f"visible; make room, and run it again: it {then}",
        )

    def stage(self, task: TaskContext) -> StagedTask:
        """Return the files of one attempt of a task, for a ``with`` statement."""
        if self._staging is None:
            raise RuntimeError(f"{self.name} was not started: call start() before write()")
        return self._staging.begin(task.task_id, task.number)

    def names_of(self, files: StagedTask) -> FileNames:
        """Return the names for a task's files."""
        assert self._staging is not None
        return FileNames(
            self._names, self._staging.write_uuid, files.number, self._form.extension, self._form.is_numbered
        )

    def record(
        self, part: str | Sequence[str], results: Sequence[Any], failures: Failures | None = None
    ) -> None:
        """Note that parts of the source are written.

        Args:
            part: the name of a part, or names of several that share tasks.
            results: of all tasks that wrote rows of these parts; they wrote rows of no other parts.
            failures: rows of these parts that failed.
        """
        if self.is_resumable:
            parts = [part] if isinstance(part, str) else part
            self._files().record(parts, results, failures or Failures())

    def finished(self) -> Sequence[str]:
        return self._begun.recorded.parts if self._begun is not None else ()

    def failures(self) -> Failures:
        return self._begun.recorded.failures if self._begun is not None else Failures()

    @property
    def write_uuid(self) -> str:
        """The name of the write, which an interrupted one keeps when it is resumed. After ``start``."""
        return self._begun.write_uuid if self._begun is not None else ""

    def commit(self, results: Sequence[Any], schema: pa.Schema | None) -> None:
        files = self._files()
        assert self._begun is not None
        recorded = self._begun.recorded.results
        unique: dict[str, TaskResult] = dict(recorded)
        for result in results:
            if result is not None:
                unique[result["dir"] or f"task {result['task']}"] = result
        if not any(result["files"] for result in unique.values()):
            unique.update(self._write_empty(schema))
        if not self.is_uniform or recorded:
            self._make_uniform(list(unique.values()))
        files.finish(list(unique.values()), self._mode is SaveMode.OVERWRITE, self._plan)
        self.facts = files.facts

    def _make_uniform(self, results: Sequence[TaskResult]) -> None:
        """Give all staged files one schema, where the format has one."""
        form = self._form
        if not isinstance(form, BlockFormat) or not form.has_one_schema:
            return
        names = [
            file.path
            for result in sorted(results, key=lambda one: one["task"])
            if result["dir"]
            for file in self._store.walk(result["dir"])
        ]
        # Files that are compressed as a whole, by their opener, cannot be read in parts.
        if len(names) < 2 or any(codec_of(name, self._arguments) for name in names):
            return
        folder = f"{self._files().staged}/uniform"
        sync = self.is_resumable
        self._files().facts.made_uniform = make_uniform(
            self.name, self._store, names, form, folder, self.on_schema, sync
        )

    def _write_empty(self, schema: pa.Schema | None) -> dict[str, TaskResult]:
        """Write one file without rows, unless the target has files to which none are added."""
        assert self._staging is not None
        if self._mode is not SaveMode.OVERWRITE and any(
            name[:1] not in "_." for name in self._store.names("")
        ):
            return {}
        # No task has a file, so the first one's name is free.
        with StagedTask(self._staging, 0) as files:
            known = public_schema(schema) if schema is not None else self._schema
            self._form.write_empty(known, files, self.names_of(files))
            result = files.finish()
        return {result["dir"]: result} if result["dir"] else {}

    def abort(self, error: BaseException) -> None:
        if self._begun is not None and self._begun.files is not None:
            self._begun.files.fail()

    def _files(self) -> JobFiles:
        if self._begun is None or self._begun.files is None:
            raise RuntimeError(f"{self.name} was not started in this process, or has nothing to write")
        return self._begun.files


def _path_text(path: Any) -> str:
    if isinstance(path, (str, os.PathLike)):
        text = str(os.fspath(path))
        if text:
            return text
        raise ValueError("path must name a folder; it is empty. Write '.' for the current folder")
    raise TypeError(f"path must be a str or a path, not {path!r} of type {type(path).__name__}")


def call_args_fn(function: Any, name: str) -> dict[str, Any]:
    """Return the arguments that a function of a user makes in a task; none if there is no function."""
    if function is None:
        return {}
    if not callable(function) or inspect.isclass(function):
        raise TypeError(f"{name} must be a function without parameters that returns a dict, not {function!r}")
    found = function()
    if not isinstance(found, Mapping):
        raise TypeError(f"{name} must return a dict, it returned {found!r}")
    return dict(found)
