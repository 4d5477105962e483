"""The side of a write that runs in tasks: files go to a hidden folder, and count once their task has ended.

Each attempt of a task has a folder of its own, so two attempts never meet; only the attempt whose result
reaches the driver counts. The names of the files inside do not depend on the attempt.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypedDict

from skate.data._io.commit_points import crash_point
from skate.data._io.commit_store import Store

#: The hidden folder in a target. Readers skip names that begin with an underscore.
HIDDEN = "_skate"


class TaskResult(TypedDict):
    """The files of a task, as plain data.

    Attributes:
        dir: the folder of its staged files; "" if it wrote none.
        task: its number, also in the names of its files.
        files: number of files.
        rows: rows in them.
        bytes: their size.
    """

    dir: str
    task: int
    files: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class Staging:
    """Where the tasks of one driver stage their files; picklable.

    Attributes:
        store: the target.
        folder: for the folders of tasks.
        write_uuid: names the write in file names; an interrupted write keeps it when it is resumed.
        first_task: number of this driver's first task; earlier drivers of the write had those below.
        sync: files must survive a power cut before the driver learns of them.
        open_arguments: pyarrow's arguments for opening a file.
    """

    store: Store
    folder: str
    write_uuid: str
    first_task: int = 0
    sync: bool = False
    open_arguments: tuple[tuple[str, Any], ...] = ()

    def begin(self, task_id: str, number: int | None = None) -> StagedTask:
        """Return the files of one attempt of a task, to be used in a ``with`` statement.

        Args:
            task_id: its name.
            number: its number; None: the one in its name.
        """
        return StagedTask(self, self.first_task + (task_number(task_id) if number is None else number))


def task_number(task_id: str) -> int:
    """Return the number in a task's name: 12 of ``"3.12"``."""
    digits = task_id.rpartition(".")[2]
    if not digits.isdecimal():
        raise ValueError(f"the task is named {task_id!r}; names of write tasks end in a number: '3.12'")
    return int(digits)


class StagedTask:
    """The files of one attempt of a task; leaving the ``with`` statement by an error removes them.

    Attributes:
        number: of the task.
        rows: rows written; writers add to it.
    """

    def __init__(self, staging: Staging, number: int) -> None:
        self.staging = staging
        self.number = number
        self.rows = 0
        self._bytes = 0
        self._names: dict[str, None] = {}
        self._folders: dict[str, None] = {}
        self._store = staging.store
        self._final = f"{staging.folder}/{number:06}-{uuid.uuid4().hex[:8]}"
        # Where a rename is a copy, the final name is used at once: the driver does not know it before the
        # end.
        self._folder = f"{self._final}.tmp" if self._store.is_local else self._final

    def __enter__(self) -> StagedTask:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and self._folders:
            with contextlib.suppress(OSError):
                self._store.remove_tree(self._folder)

    def new_file(self, name: str) -> str:
        """Take a name into use: make its folder and return its whole path, for those that open it themselves.

        Raises:
            ValueError: the name leads out of the target, is hidden there, or is in use.
        """
        parts = name.split("/")
        if not name or name.startswith("/") or not all(parts) or {".", ".."} & set(parts):
            raise ValueError(
                f"{name!r} is no file name below the target; return a relative path without '..'"
            )
        if parts[0] == HIDDEN:
            raise ValueError(f"{name!r}: names in {HIDDEN}/ are the runtime's own")
        if name in self._names:
            raise ValueError(
                f"two files of one task are named {name!r}: the second would replace the first. "
                "Let the FilenameProvider use the row, block and task numbers."
            )
        self._make("")
        for above in range(1, len(parts)):
            self._make("/".join(parts[:above]))
        self._names[name] = None
        return self._store.path(f"{self._folder}/{name}")

    def _make(self, folder: str) -> None:
        if folder in self._folders:
            return
        try:
            self._store.make_one_folder(f"{self._folder}/{folder}".rstrip("/"))
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{self._store.path(self.staging.folder)} is gone: the driver of this write has ended"
            ) from error
        self._folders[folder] = None

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[Any]:
        """Open a new file by the name that it will have in the target, for a ``with`` statement."""
        self.new_file(name)
        path = f"{self._folder}/{name}"
        with self._store.open(path, dict(self.staging.open_arguments)) as stream:
            yield stream
            crash_point("inside_staged_write")

    def finish(self) -> TaskResult:
        """Stage what was written, and return what the driver needs to know of it."""
        result: TaskResult = {"dir": "", "task": self.number, "files": 0, "rows": self.rows, "bytes": 0}
        if not self._names:
            if self._folders:
                self._store.remove_tree(self._folder)
            return result
        result["files"] = len(self._names)
        result["bytes"] = sum(file.size for file in self._store.walk(self._folder))
        if self.staging.sync:
            self._store.sync_all(
                [f"{self._folder}/{name}" for name in (*self._names, *self._folders)], self._folder
            )
        crash_point("staged_before_rename")
        if self._folder != self._final:
            # The driver syncs the folder above, for several tasks together.
            self._store.rename(self._folder, self._final)
        crash_point("staged_after_rename")
        result["dir"] = self._final
        return result
