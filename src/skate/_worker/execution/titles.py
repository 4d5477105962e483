"""Sets the title of a worker in ``ps``, ``top`` and ``htop``: the task that runs, the actor, or IDLE.

Both names are written without compiled code: the thread's to ``/proc/self/comm``, the command line over that
of the zygote, which every worker inherits. It has enough room, as the zygote's command line holds
``sys.path``. A task is shown once it waits, or once the background thread finds the main thread busy, after
one or two milliseconds: shorter calls cost nothing.
"""

from __future__ import annotations

import os

from skate._worker.execution import output

#: A title has at most this many bytes.
_MAX_TITLE_BYTES = 256


def _command_line() -> tuple[int, int]:
    """Return where in memory the command line of this process is: first byte, size; (0, 0): not known."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        start, end = int(fields[45]), int(fields[46])
        with open("/proc/self/cmdline", "rb") as file:
            shown = file.read()
        memory = os.open("/proc/self/mem", os.O_RDONLY)
        try:
            if shown and os.pread(memory, len(shown), start) == shown:
                return start, end - start
        finally:
            os.close(memory)
    except (OSError, ValueError, IndexError):
        pass  # no such system
    return 0, 0


#: Looked up in the zygote, once for all workers.
_area = _command_line()


class Title:
    """The title of this process."""

    def __init__(self) -> None:
        #: A task is shown, not an idle worker or an actor.
        self.busy = False
        self._prefix = "ray" if os.environ.get("SKATE_AS_RAY") else "skate"
        self._idle = "IDLE"
        self._shown = ""

    def show_task(self) -> None:
        """Show the task that runs. Under the lock, on any thread."""
        self.busy = True
        self._show(output.names.current)

    def idle(self) -> None:
        """Show that no task runs. Under the lock, or before other threads can know of the title."""
        self.busy = False
        self._show(self._idle)

    def become(self, class_name: str) -> None:
        """Show the actor that this process becomes."""
        self._idle = class_name
        self.idle()

    def _show(self, name: str) -> None:
        if name == self._shown:
            return
        self._shown = name
        text = f"{self._prefix}::{name}".encode("utf-8", "replace").replace(b"\0", b" ")
        try:
            _write("/proc/self/comm", text[:15], None)
            start, size = _area
            if size:
                # Where the last byte is no zero, Linux shows the text up to the first zero, and nothing else.
                text = text[: min(size - 2, _MAX_TITLE_BYTES)]
                _write("/proc/self/mem", text + bytes(size - len(text) - 1) + b"\1", start)
        except OSError:
            pass  # the system does not allow it


def _write(path: str, data: bytes, offset: int | None) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        if offset is None:
            os.write(fd, data)
        else:
            os.pwrite(fd, data, offset)
    finally:
        os.close(fd)
