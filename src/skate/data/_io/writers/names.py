"""Names of written files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class FilenameProvider:
    """Names the files of a write; subclass it and pass it as ``filename_provider=``.

    Define ``get_filename_for_task``; where a file holds one row, the numbers of block and row are added to
    its name, and where a task writes several files, the number of the file. Names must depend on nothing but
    the arguments, so that a task that runs again gives its files the same names. They may contain folders.

    Args:
        dataset_uuid: a first part of all names.
        file_format: the extension, without a dot.

    Example:
        >>> class Daily(FilenameProvider):
        ...     def get_filename_for_task(self, write_uuid, task_index):
        ...         return f"2026-11-29/{write_uuid}_{task_index:06}.parquet"
        >>> ds.write_parquet("out", filename_provider=Daily())
    """

    def __init__(self, dataset_uuid: str | None = None, file_format: str | None = None) -> None:
        self._dataset_uuid = dataset_uuid
        self._file_format = file_format

    def get_filename_for_task(self, write_uuid: str, task_index: int) -> str:
        """Return the name for a task's file.

        Args:
            write_uuid: the same for all files of a write, another for each write.
            task_index: number of the task, from 0.
        """
        # A subclass need not have called __init__.
        first = getattr(self, "_dataset_uuid", None)
        extension = getattr(self, "_file_format", None)
        name = "_".join([*([first] if first else []), write_uuid, f"{task_index:06}"])
        return f"{name}.{extension}" if extension else name

    def get_filename_for_block(self, block: Any, write_uuid: str, task_index: int, block_index: int) -> str:
        """Return the name for a file of a task; by default the task's. Kept for programs that define it.

        Args:
            block: the first rows of the file.
            write_uuid: as above.
            task_index: as above.
            block_index: number of the file among the task's, from 0.
        """
        return self.get_filename_for_task(write_uuid, task_index)

    def get_filename_for_row(
        self, row: dict[str, Any], write_uuid: str, task_index: int, block_index: int, row_index: int
    ) -> str:
        """Return the name for the file of one row; by default made from the task's. May use the row's values.

        Args:
            row: the row.
            write_uuid: as above.
            task_index: as above.
            block_index: number of the block among the task's, from 0.
            row_index: number of the row in its block, from 0.
        """
        base, dot, extension = _split(self.get_filename_for_task(write_uuid, task_index))
        return f"{base}_{block_index:06}_{row_index:06}{dot}{extension}"


def _split(name: str) -> tuple[str, str, str]:
    """Return a name's base, its dot and its extension; a dot in a folder's name is none."""
    folder, slash, last = name.rpartition("/")
    base, dot, extension = last.rpartition(".")
    return (folder + slash + (base if dot else last), dot, extension if dot else "")


def is_overridden(provider: FilenameProvider, method: str) -> bool:
    """Tell whether a provider defines a method itself."""
    return getattr(type(provider), method) is not getattr(FilenameProvider, method)


@dataclass(frozen=True)
class FileNames:
    """The names of one task's files.

    Attributes:
        provider: makes them.
        write_uuid: of the write.
        task: number of the task.
        extension: of the format, without a dot.
        is_numbered: the first file of a task has a number too, as Parquet files have.
    """

    provider: FilenameProvider
    write_uuid: str
    task: int
    extension: str
    is_numbered: bool = False

    def of_file(self, number: int, block: Any) -> str:
        """Return the name of a task's n-th file; ``block`` are its first rows."""
        name = _text(
            self.provider, self.provider.get_filename_for_block(block, self.write_uuid, self.task, number)
        )
        if "{i}" in name:
            name = name.replace("{i}", str(number))
            return name if _split(name)[1] or not self.is_numbered else f"{name}.{self.extension}"
        if not self.is_numbered and (number == 0 or is_overridden(self.provider, "get_filename_for_block")):
            return name
        base, dot, extension = _split(name)
        if self.is_numbered and extension != self.extension:  # Parquet files are found by their extension
            base, dot, extension = name, ".", self.extension
        return f"{base}-{number}{dot}{extension}"

    def of_row(self, row: dict[str, Any], block: int, number: int) -> str:
        """Return the name of the file for a row of a block."""
        return _text(
            self.provider,
            self.provider.get_filename_for_row(row, self.write_uuid, self.task, block, number),
        )


def _text(provider: FilenameProvider, name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{type(provider).__name__} returned {name!r} for a file name; return a str")
    return name
