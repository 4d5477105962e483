"""Passes on what workers print: from their pipes into log files, and in whole lines to the driver."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import takewhile

from skate._base.process import LAST_WORDS
from skate._transport.reactor import READABLE, Reactor

#: A worker's runtime announces whose output follows with this character and a name, as a line.
MARK = b"\x1e"
_CHUNK = 64 * 1024
#: A line longer than this is passed on in pieces.
_MAX_LINE = 256 * 1024
#: Of a log, this much is searched for a fatal error, and so many of its lines are shown.
_TAIL = 64 * 1024
_FRAMES = 8


class WorkerLog:
    """The log of one worker: two pipes, one file."""

    def __init__(
        self,
        reactor: Reactor,
        folder: str,
        worker_id: bytes,
        job: bytes,
        forward: Callable[[WorkerLog, bool, str], bool],
    ) -> None:
        self._reactor = reactor
        self._forward = forward
        self.path = os.path.join(folder, f"worker-{worker_id.hex()}.log")
        self.job = job
        self.pid = 0
        #: Whose output is passed on.
        self.name = ""
        self._file: int | None = None
        self._pipes: list[_Pipe] = []

    def open(self) -> tuple[int, int]:
        """Return the write ends for stdout and stderr; the caller sends and closes them.

        Nothing is read before ``start``.

        Raises:
            OSError: this process has no descriptors left; nothing was opened.
        """
        out_read, out = os.pipe2(os.O_CLOEXEC)
        try:
            err_read, err = os.pipe2(os.O_CLOEXEC)
        except OSError:
            os.close(out_read)
            os.close(out)
            raise
        for is_error, read_end in ((False, out_read), (True, err_read)):
            os.set_blocking(read_end, False)
            self._pipes.append(_Pipe(self._reactor, read_end, self, is_error))
        return out, err

    def start(self, pid: int) -> None:
        """Pass on what is printed, now that it is known by whom."""
        self.pid = pid
        for pipe in self._pipes:
            pipe.watch()

    def write(self, pipe: _Pipe, is_error: bool, text: bytes) -> bool:
        """Record whole lines and pass them on. False: the driver is slow, read no more for now."""
        self.name = pipe.name or next((other.name for other in self._pipes if other.name), "")
        try:
            if self._file is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._file = os.open(self.path, flags, 0o600)
            os.write(self._file, text)
        except OSError:
            pass  # no descriptor is left, or the disk or the file is full: the driver still gets the lines
        return self._forward(self, is_error, text.decode("utf-8", "replace"))

    def read(self) -> None:
        """Take what has been printed so far."""
        for pipe in self._pipes:
            pipe.read()

    def drain(self) -> None:
        """Read what is left in the pipes, now that the worker is dead, and close them."""
        for pipe in self._pipes:
            pipe.drain()
        self._pipes.clear()
        if self._file is not None:
            os.close(self._file)
            self._file = None


class _Pipe:
    """One stream of a worker."""

    def __init__(self, reactor: Reactor, fd: int, log: WorkerLog, is_error: bool) -> None:
        self._reactor = reactor
        self._fd = fd
        self._log = log
        self._is_error = is_error
        self._partial = b""
        #: Whose output it is, as announced here.
        self.name = ""
        self._watched = False

    def handle(self, events: int) -> None:
        """Called by the reactor: there is output, or the stream ended."""
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._stop_watching()
            return
        if not self._take(data):
            self._stop_watching()
            self._reactor.call_later(0.02, self.watch)

    def _take(self, data: bytes) -> bool:
        data = self._partial + data
        complete, newline, self._partial = data.rpartition(b"\n")
        if len(self._partial) > _MAX_LINE:
            complete, newline, self._partial = data, b"\n", b""
        if not newline:
            return True
        return self._pass_on(complete + b"\n")

    def _pass_on(self, text: bytes) -> bool:
        if MARK not in text:
            return self._log.write(self, self._is_error, text)
        go_on = True
        lines: list[bytes] = []
        for line in text.splitlines(keepends=True):
            before, mark, name = line.partition(MARK)
            if not mark:
                lines.append(line)
                continue
            if before:
                lines.append(before + b"\n")
            if lines:
                go_on = self._log.write(self, self._is_error, b"".join(lines))
                lines = []
            self.name = name.rstrip(b"\n").decode("utf-8", "replace")
        if lines:
            go_on = self._log.write(self, self._is_error, b"".join(lines))
        return go_on

    def watch(self) -> None:
        """Read what comes, from now on."""
        if self._fd >= 0 and not self._watched:
            self._watched = True
            self._reactor.register(self._fd, self, READABLE)

    def _stop_watching(self) -> None:
        if self._watched:
            self._watched = False
            self._reactor.unregister(self._fd)

    def read(self) -> None:
        """Take what is there, without waiting for more, unless the driver is slow."""
        try:
            while self._watched and (data := os.read(self._fd, _CHUNK)):
                if not self._take(data):
                    return
        except BlockingIOError:
            pass

    def drain(self) -> None:
        """Take what is there, without waiting for more, and close."""
        if self._fd < 0:
            return
        try:
            while data := os.read(self._fd, _CHUNK):
                self._take(data)
        except BlockingIOError:
            pass  # a process that escaped the process group still has the other end
        if self._partial:
            self._pass_on(self._partial + b"\n")
            self._partial = b""
        self._stop_watching()
        os.close(self._fd)
        self._fd = -1


def _tail(path: str) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - _TAIL))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def last_words(path: str) -> str:
    """Return why a process ended itself, if it said so in its log; or ""."""
    _, found, rest = _tail(path).rpartition(LAST_WORDS)
    return rest.partition("\n")[0] if found else ""


def fatal_traceback(path: str) -> str:
    """Return what Python's fault handler wrote last in a log: the error, and the lines that ran; or ""."""
    _, found, rest = _tail(path).rpartition("Fatal Python error: ")
    if not found:
        return ""
    what, _, threads = rest.partition("\n")
    current = threads.partition("Current thread")[2].partition("\n\n")[0].splitlines()[1:]
    lines = [line.rstrip() for line in current if line.startswith("  File")]
    mine = list(takewhile(lambda line: f"{os.sep}skate{os.sep}_" not in line, lines)) or lines
    return "\n".join([f"native code crashed ({what.strip()}) in", *mine[:_FRAMES]])
