"""Calls in a child process of the task, for functions that may hang or crash: decoders of foreign bytes.

::

    task ──fork──► child: makes the function (the instance of a class), then serves calls
      │ or fork, exec
      │  length, pickle of the row or batch  ───────────►  │
      │  ◄───────────  length, pickle of ("value", what it returned) | ("item", ...)* ("end",) | ("error",
      ...)

A call that takes too long is ended by SIGKILL; so the next one gets a new child. The child ends when its
parent does, even in the middle of a call that never returns.

A fork is there in milliseconds. It has the memory of its parent, but none of its threads: a library that
computes with threads, or on a GPU, hangs or fails there if the parent has used it. A fresh child is another
Python with the parent's ``sys.path``, environment and folder.
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import pickle
import select
import signal
import struct
import sys
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, NoReturn

from skate.data._task.operators import ChildCalls, NotOfRow
from skate.data.exceptions import (
    RayDataUserCodeException,
    RowCrashedError,
    RowTimeoutError,
    UserTraceback,
    wrap,
)

_LENGTH = struct.Struct("<Q")
#: Bytes of one read.
_CHUNK = 1 << 20


class ChildFunction(ChildCalls):
    """A function that runs in a child process. Calls are made by one thread at a time.

    Args:
        make: makes the function, in the child; it is pickled for a fresh one.
        name: names the function in errors.
        is_fresh: the child is a Python of its own, not a fork.

    Raises:
        Exception: ``make`` raised; the first ``start`` or call raises it.

    Example:
        >>> decode = ChildFunction(lambda: decode_frames, "decode_frames")
        >>> decode.call(row, seconds=2.0)
    """

    def __init__(self, make: Callable[[], Callable[[Any], Any]], name: str, is_fresh: bool = False) -> None:
        self._make = make
        self._name = name
        self._is_fresh = is_fresh
        self._child: _Child | None = None
        self._streaming: _Items | None = None

    def start(self) -> None:
        """Start the child, and wait until it has made the function."""
        if self._child is not None and self._child.is_alive():
            return
        self.close()
        child = _Child(None if self._is_fresh else self._make)
        self._child = child
        try:
            if self._is_fresh:
                self._send(child, self._make, " before its first call")
            self._receive(child, None, 0.0, " before its first call")
        except BaseException:
            self.close()
            raise

    def call(self, data: Any, seconds: float | None = None) -> Any:
        """Call the function.

        Args:
            data: the row or batch.
            seconds: that the call may take, and all items of a generator together; None: any time.

        Returns:
            The value that the function returned; for a generator, a generator.

        Raises:
            RowTimeoutError: it took longer; its process was killed.
            RowCrashedError: it ended its process.
            NotOfRow: the function could not be made.
            Exception: what the function raised.
        """
        if self._streaming is not None:
            self._streaming.gather()  # of another task of the replica, which goes on later
        try:
            self.start()
        except (Exception, SystemExit) as error:
            raise NotOfRow(error) from error
        child = self._child
        assert child is not None
        deadline = None if seconds is None else time.monotonic() + seconds
        self._send(child, data)
        kind, value = self._receive(child, deadline, seconds)
        if kind == "value":
            return value
        self._streaming = _Items(self._items(child, kind, value, deadline, seconds))
        return self._streaming

    def _items(
        self, child: _Child, kind: str, value: Any, deadline: float | None, seconds: float | None
    ) -> Iterator[Any]:
        is_complete = False
        try:
            while kind == "item":
                yield value
                kind, value = self._receive(child, deadline, seconds)
            is_complete = True
        finally:
            self._streaming = None
            if not is_complete and self._child is child:
                self.close()  # the rest of its items is not wanted, or it is dead

    def _send(self, child: _Child, data: Any, when: str = "") -> None:
        pickled = _dumped(data)
        try:
            child.send(pickled)
        except OSError:
            self._crashed(child, when)

    def _receive(
        self, child: _Child, deadline: float | None, seconds: float | None, when: str = ""
    ) -> tuple[str, Any]:
        try:
            message = pickle.loads(child.receive(deadline))
        except TimeoutError:
            self.close()
            raise RowTimeoutError(
                f"{self._name} took longer than {seconds:g} s (timeout_per_row for each row of the call); "
                "its process was killed"
            ) from None
        except EOFError:
            self._crashed(child, when)
        kind, value = message
        if kind in ("error", "not of row"):
            error = value.cause if isinstance(value, RayDataUserCodeException) else value
            raise error if kind == "error" else NotOfRow(error)
        return kind, value

    def _crashed(self, child: _Child, when: str) -> NoReturn:
        trace, how = child.trace(), child.how_it_ended()
        self._child = None
        error = RowCrashedError(f"{self._name} ended its process{when}: {how}")
        raise error from (UserTraceback(trace) if trace else None)

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.end()
            self._child = None


class _Items(Iterator[Any]):
    """The items of a generator in the child; those that are gathered early are kept."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self._kept: deque[Any] = deque()
        self._error: BaseException | None = None

    def __next__(self) -> Any:
        if self._kept:
            return self._kept.popleft()
        if self._error is not None:
            raise self._error
        return next(self._items)

    def gather(self) -> None:
        """Take all items now, and the error at their end: the child is wanted for another call."""
        try:
            self._kept.extend(self._items)
        except (Exception, SystemExit) as error:
            self._error = error

    def __del__(self) -> None:
        self._items.close()  # type: ignore[attr-defined]


class _Child:
    """The process, seen from its parent."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]] | None) -> None:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()  # or the child has the same text in its buffer
            except (OSError, ValueError, AttributeError):
                pass
        requests, self._requests = os.pipe()
        self._answers, answers = os.pipe()
        life, self._life = os.pipe()
        self._trace = os.memfd_create("skate-trace")
        with warnings.catch_warnings():
            # Other threads do not exist in the child, which needs none of them.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            files = (requests, answers, life, self._trace)
            if make is None:
                _become_fresh(files)
            _serve(make, *files, (self._requests, self._answers, self._life))
        for file in (requests, answers, life):
            os.close(file)
        self._pid = pid
        self._owner = os.getpid()
        self._files = (self._requests, self._answers, self._life, self._trace)
        self._finalizer = weakref.finalize(self, _end, pid, self._owner, *self._files)
        self._poll = select.poll()
        self._poll.register(self._answers, select.POLLIN)
        self._buffer = bytearray()

    def is_alive(self) -> bool:
        """Tell whether it can take a call, and is a child of this process."""
        return self._owner == os.getpid() and self._finalizer.alive and not self._poll.poll(0)

    def send(self, data: bytes) -> None:
        """Write a message.

        Raises:
            OSError: the child is dead.
        """
        for part in (_LENGTH.pack(len(data)), data):
            view = memoryview(part)
            while view:
                view = view[os.write(self._requests, view) :]

    def receive(self, deadline: float | None) -> bytes:
        """Read a message.

        Raises:
            TimeoutError: there is none at the deadline.
            EOFError: the child is dead.
        """
        self._fill(_LENGTH.size, deadline)
        (size,) = _LENGTH.unpack_from(self._buffer)
        self._fill(_LENGTH.size + size, deadline)
        data = bytes(memoryview(self._buffer)[_LENGTH.size : _LENGTH.size + size])
        del self._buffer[: _LENGTH.size + size]
        return data

    def _fill(self, size: int, deadline: float | None) -> None:
        while len(self._buffer) < size:
            wait_ms = None if deadline is None else max(0.0, (deadline - time.monotonic()) * 1000)
            if not self._poll.poll(wait_ms):
                raise TimeoutError
            data = os.read(self._answers, max(_CHUNK, size - len(self._buffer)))
            if not data:
                raise EOFError
            self._buffer += data

    def end(self) -> None:
        """Kill it, unless it is dead."""
        self._finalizer()

    def how_it_ended(self) -> str:
        """Wait for its end, which its closed pipe announces, and describe it."""
        if not self._finalizer.alive:
            return "it had been ended before"
        status = _wait(self._pid, 1.0)
        if status is None:
            self.end()
            return "it closed its files, and was killed"
        if self._finalizer.detach() is not None:
            for file in self._files:
                os.close(file)
        if status < 0:
            return "nobody knows how: another part of the program waited for it"
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
            return f"killed by {name}" + (" (too little memory?)" if number == signal.SIGKILL else "")
        return f"it exited with code {os.WEXITSTATUS(status)}"

    def trace(self) -> str:
        """Return where it was when native code ended it: its Python frames; "" for other ends."""
        if not self._finalizer.alive:
            return ""
        text = os.pread(self._trace, _CHUNK, 0).decode(errors="replace")
        return text.partition(f'  File "{__file__}"')[0]


def _end(pid: int, owner: int, *files: int) -> None:
    for file in files:
        os.close(file)
    if os.getpid() != owner:
        return  # a fork of the owner: the child is not its own
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ChildProcessError, ProcessLookupError):
        pass  # another part of the program waited for it


def _wait(pid: int, seconds: float) -> int | None:
    """Return the status of a process that ends within so many seconds; -1: nobody knows; None: it goes on."""
    until = time.monotonic() + seconds
    while True:
        try:
            ended, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return -1
        if ended:
            return status
        if time.monotonic() > until:
            return None
        select.select([], [], [], 0.001)


# ---------------------------------------------------------------------- in the child


def _become_fresh(files: Sequence[int]) -> NoReturn:
    """Become another Python, which serves with the function that it is sent."""
    try:
        for file in files:
            os.set_inheritable(file, True)
        program = (
            f"import sys; sys.path[:] = {[os.fspath(path) for path in sys.path]!r}; "
            f"from {__name__} import _serve; _serve(None, *{tuple(files)!r}, ())"
        )
        os.execv(sys.executable, [sys.executable, "-c", program])
    finally:
        os._exit(1)


def _serve(
    make: Callable[[], Callable[[Any], Any]] | None,
    requests: int,
    answers: int,
    life: int,
    trace: int,
    parents: Sequence[int],
) -> NoReturn:
    code = 1
    try:
        faulthandler.enable(trace, all_threads=False)
        for file in parents:
            os.close(file)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _die_with_writer(life)
        _loop(make, requests, answers)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        _flush()
        os._exit(code)


def _die_with_writer(file: int) -> None:
    """Have the kernel end this process, whatever it does, when the last writer of a pipe is gone."""
    set_signal = getattr(fcntl, "F_SETSIG", None)
    if set_signal is None:
        return  # not Linux: the child ends when it next asks for a message
    fcntl.fcntl(file, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(file, set_signal, signal.SIGKILL)
    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_ASYNC)


def _loop(make: Callable[[], Callable[[Any], Any]] | None, requests: int, answers: int) -> None:
    with os.fdopen(requests, "rb") as source:
        try:
            function = make() if make is not None else pickle.loads(_message(source))()
        except (Exception, SystemExit, NotOfRow) as error:
            _answer_error(answers, error)
            return
        _answer(answers, "value", None)
        while data := _message(source):
            try:
                result = function(pickle.loads(data))
                if hasattr(result, "__next__"):
                    for item in result:
                        _answer(answers, "item", item)
                    _answer(answers, "end", None)
                else:
                    _answer(answers, "value", result)
                del result
            except (Exception, SystemExit, NotOfRow) as error:
                _answer_error(answers, error)
            _flush()


def _message(source: IO[bytes]) -> bytes:
    """Return the next message; b"" at the end."""
    head = source.read(_LENGTH.size)
    return source.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""


def _answer_error(file: int, error: BaseException) -> None:
    if isinstance(error, NotOfRow):
        _answer(file, "not of row", wrap(error.error, ""))
    else:
        _answer(file, "error", wrap(error, ""))


def _answer(file: int, kind: str, value: Any) -> None:
    data = _dumped((kind, value))
    for part in (_LENGTH.pack(len(data)), data):
        view = memoryview(part)
        while view:
            view = view[os.write(file, view) :]


def _dumped(value: Any) -> bytes:
    try:
        return pickle.dumps(value, 5)
    except Exception:
        from skate import cloudpickle

        return cloudpickle.dumps(value)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
