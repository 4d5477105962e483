"""Writes the name of the task or actor before its output, so that the daemon can prefix lines with it."""

from __future__ import annotations

import io
import sys
from typing import Any


class _Names:
    #: The task or actor that runs.
    current = ""
    #: Something was written since the last call ended.
    written = False


names = _Names()

#: The daemon takes a line that begins with it for the name of what follows (_node.workers.logs).
MARK = "\x1e"


class NamedStream(io.TextIOWrapper):
    """A text stream that writes the name of the running task or actor before output, if it changed."""

    _announced = ""

    #: Text was written after the last newline.
    _partial = False

    def write(self, text: str) -> int:
        """Write text, after the name if it is a new one."""
        names.written = True
        self._partial = not text.endswith("\n")
        if names.current != self._announced and text:
            self._announced = names.current
            super().write(f"{MARK}{self._announced}\n")
        return super().write(text)

    def end_call(self, of_task: bool) -> None:
        """Flush text without a newline, or end the name of a task: see ``flush``."""
        if self._partial:
            self.flush()
        elif of_task and self._announced:
            self._announced = ""
            super().write(f"{MARK}\n")


_streams: list[NamedStream] = []


def flush(of_task: bool) -> None:
    """Flush text without a newline after a call, and end its name.

    The process may be killed before the next call. Output of a child process or of native code during the
    next task must not appear under the name of this one.

    Args:
        of_task: whether the call was a task; an actor keeps its name.
    """
    if not names.written:
        return
    names.written = False
    for stream in _streams:
        try:
            stream.end_call(of_task)
        except (OSError, ValueError):
            pass  # user code closed it


def install() -> None:
    """Replace this process's standard streams."""
    sys.stdout = _stream(1)
    sys.stderr = _stream(2)


def _stream(fd: int) -> Any:
    raw = open(fd, "wb", buffering=0, closefd=False)
    buffered = io.BufferedWriter(raw)
    stream = NamedStream(buffered, encoding="utf-8", errors="replace", line_buffering=True)
    _streams.append(stream)
    return stream
