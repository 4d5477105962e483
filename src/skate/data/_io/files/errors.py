"""Errors of reading: they name the file, and what to do."""

from __future__ import annotations

import importlib
import re
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

#: Errors that are no file's fault: they end a read whatever ``on_error`` says.
NOT_OF_FILES = (ImportError, MemoryError, NotImplementedError)
ON_ERROR = ("raise", "skip", "dead_letter")
_STREAM = re.compile(r" ?<_io\.\w+ object at 0x[0-9a-f]+>")


class FileReadError(ValueError):
    """A file could not be read or decoded; ``__cause__`` is the decoder's own error.

    Attributes:
        path: the file.
        reason: what was wrong with it.
        is_ending: it ends the read: ``on_error`` is "raise", and its text says what else there is.
    """

    def __init__(self, path: str, reason: str) -> None:
        # Decoders name the stream that they were given, which is another one for each file.
        reason = _STREAM.sub("", reason)
        if reason.endswith(".") and not reason.endswith(".."):
            reason = reason[:-1]
        super().__init__(path, reason)
        self.path = path
        self.reason = reason
        self.is_ending = False

    def __str__(self) -> str:
        text = f"cannot read {self.path}: {self.reason}"
        if not self.is_ending:
            return text
        return f"{text}. Pass on_error='skip' or 'dead_letter' to go on without such files."

    def ending(self) -> Self:
        """Return the error as one that ends the read."""
        self.is_ending = True
        return self


class FileTooLargeError(FileReadError):
    """A file is larger than a limit: ``max_file_bytes``, ``max_pixels``, ..."""


def named(error: Exception, path: str, rows_before: int = 0) -> Exception:
    """Return an error that names the file: the error itself if it does already.

    Args:
        error: what went wrong.
        path: the file.
        rows_before: rows of the file that were read before.
    """
    if isinstance(error, FileReadError) or (isinstance(error, (OSError, ImportError)) and path in str(error)):
        return error
    if isinstance(error, NOT_OF_FILES):
        return error
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if rows_before:
        reason += f" (after {rows_before} rows, which are kept)"
    made = FileReadError(path, reason)
    made.__cause__ = error
    return made


def require(module: str, user: str, extra: str) -> Any:
    """Import an optional library.

    Args:
        module: its name, as imported.
        user: who needs it: ``"read_images"``.
        extra: the extra of ``skate-runtime`` that installs it: ``"data-images"``.

    Raises:
        ImportError: it is not installed; the message says which extra installs it.
    """
    try:
        found: ModuleType = importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{user} needs {module.partition('.')[0]}, which cannot be imported ({error}): "
            f"pip install 'skate-runtime[{extra}]'"
        ) from error
    return found
