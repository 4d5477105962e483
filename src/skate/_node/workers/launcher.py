"""Starts and ends worker processes: forks them through the zygote, which it starts and replaces."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from skate._base import clock, descriptors
from skate._base.backoff import Backoff
from skate._base.process import describe_status
from skate._node.workers.zygote_start import start_zygote
from skate._transport.reactor import READABLE, Reactor
from skate._wire import zygote as wire

#: The interval at which a process without a pidfd is looked for.
_POLL_INTERVAL_S = 0.25
_ENTRY = struct.Struct("<8sQ")
#: The bits of an entry that are the task's number; the highest one says that the task may be repeated.
_SEQ = (1 << 63) - 1


class ProgressTable:
    """Shared memory in which each worker notes the task that it begins (owner, seq): one slot a worker."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        size = os.fstat(fd).st_size
        self._memory = mmap.mmap(fd, size)
        self._free = list(range(size // _ENTRY.size - 1, -1, -1))

    def take_slot(self) -> int:
        """Return an unused slot, cleared."""
        slot = self._free.pop()
        _ENTRY.pack_into(self._memory, slot * _ENTRY.size, b"", 0)
        return slot

    def last_begun(self, slot: int) -> tuple[bytes, int]:
        """Return owner and number of the task that the worker of this slot began last."""
        owner, entry = _ENTRY.unpack_from(self._memory, slot * _ENTRY.size)
        return owner, entry & _SEQ

    def is_repeatable(self, slot: int) -> bool:
        """Tell whether that task is run again if its process ends."""
        return bool(_ENTRY.unpack_from(self._memory, slot * _ENTRY.size)[1] & ~_SEQ)

    def release_slot(self, slot: int) -> None:
        """Take back the slot of a worker that ended."""
        self._free.append(slot)


class Listener(Protocol):
    """The part of the daemon to which forks and ends of processes are reported."""

    def spawned(self, message: wire.Spawned) -> None:
        """A worker was forked, or could not be."""

    def exited(self, message: wire.Exited) -> None:
        """A worker's process ended, and the zygote reaped it."""

    def zygote_died(self, how: str) -> None:
        """The zygote ended: no process is forked or reaped until ``start``."""


class Launcher:
    """The processes of workers: forks them through the zygote, holds, watches and ends them.

    All methods run on the daemon's loop.
    """

    _listener: Listener

    def __init__(self, reactor: Reactor, argv: list[str], progress: ProgressTable, log_fd: int) -> None:
        self._reactor = reactor
        self._argv = argv
        self._progress = progress
        self._log_fd = log_fd
        self._sock: socket.socket | None = None
        self.pid = 0
        #: While there is no zygote and no descriptor for one: what is to be forked later, and the attempts.
        self._pending: list[tuple[wire.Spawn, int, int]] = []
        self._attempts: Backoff | None = None
        self._closed = False
        #: Modules that each zygote imports for its workers, by request.
        self._preloaded: list[str] = []

    def report_to(self, listener: Listener) -> None:
        """Set the listener, before anything is started."""
        self._listener = listener

    def adopt(self, pid: int, sock: socket.socket) -> None:
        """Serve a zygote that was executed already."""
        self.pid = pid
        self._sock = sock
        self._reactor.register(sock.fileno(), self)
        self._send_preload(self._preloaded)

    def start(self) -> None:
        """Execute a zygote: now, or as soon as there are descriptors for it."""
        if self._attempts is None:
            self._attempts = Backoff(clock.monotonic())
            self._start()

    def _start(self) -> None:
        attempts = self._attempts
        if attempts is None or self._closed:
            return
        try:
            self.adopt(*start_zygote(self._argv, self._progress.fd, self._log_fd))
        except OSError as error:
            pause = attempts.again(clock.monotonic())
            if pause is not None:
                self._reactor.call_later(pause, self._start)
                return
            self._attempts = None
            for spawn, *ends in self._take_pending():
                for fd in ends:
                    os.close(fd)
                why = f"there is no zygote, because the node daemon {descriptors.explain(error)}"
                self._listener.spawned(wire.Spawned(spawn.worker_id, 0, why))
            return
        self._attempts = None
        for spawn, stdout, stderr in self._take_pending():
            self._send(spawn, stdout, stderr)

    def _take_pending(self) -> list[tuple[wire.Spawn, int, int]]:
        pending, self._pending = self._pending, []
        return pending

    def preload(self, modules: list[str]) -> None:
        """Have modules imported by this zygote and the ones to come, for the workers that they fork."""
        new = [name for name in modules if name not in self._preloaded]
        self._preloaded += new
        self._send_preload(new)

    def _send_preload(self, modules: list[str]) -> None:
        if self._sock is not None and modules:
            # If it is dying, or has much to do, its workers import for themselves.
            with contextlib.suppress(OSError):
                self._sock.send(wire.encode(wire.Preload(modules)))

    def spawn(self, worker_id: bytes, slot: int, job_config: bytes, stdout: int, stderr: int) -> None:
        """Fork a worker; its pid is reported to the listener. The descriptors are closed here."""
        spawn = wire.Spawn(worker_id, slot, job_config)
        if self._sock is None:
            self._pending.append((spawn, stdout, stderr))
            self.start()
        else:
            self._send(spawn, stdout, stderr)

    def _send(self, spawn: wire.Spawn, stdout: int, stderr: int) -> None:
        assert self._sock is not None
        try:
            self._sock.setblocking(True)
            socket.send_fds(self._sock, [wire.encode(spawn)], [stdout, stderr])
            self._sock.setblocking(False)
        except OSError:
            pass  # the zygote is dying: handle() will see it, and the worker counts as not started
        finally:
            os.close(stdout)
            os.close(stderr)

    def handle(self, events: int) -> None:
        """Called by the reactor: the zygote said something, or died."""
        assert self._sock is not None
        while self._sock is not None:
            try:
                data = self._sock.recv(wire.MAX_MESSAGE)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._lost()
                return
            message = wire.decode_report(data)
            if isinstance(message, wire.Spawned):
                self._listener.spawned(message)
            else:
                self._listener.exited(message)

    def _lost(self) -> None:
        assert self._sock is not None
        self._reactor.unregister(self._sock.fileno())
        self._sock.close()
        self._sock = None
        _, status = os.waitpid(self.pid, 0)
        self._listener.zygote_died(describe_status(status))

    def close(self) -> None:
        """End the zygote, and with it every worker that it forked."""
        self._closed = True
        for _, *ends in self._take_pending():
            for fd in ends:
                os.close(fd)
        if self._sock is not None:
            self._reactor.unregister(self._sock.fileno())
            self._sock.close()
            self._sock = None
            try:
                os.waitpid(self.pid, 0)
            except ChildProcessError:
                pass

    def watch(self, pid: int, on_exit: Callable[[], None]) -> None:
        """Have ``on_exit`` called when a worker ends whose zygote died.

        Raises:
            ProcessLookupError: it ended already.
        """
        _Orphan(self._reactor, pid, on_exit)

    def hold(self, pid: int) -> AbstractContextManager[None]:
        """Hold a process still: it runs no instruction inside of the ``with`` block."""
        return _stopped(pid)

    def kill_group(self, pid: int) -> None:
        """Kill a worker and all the processes that it started."""
        _kill_group(pid)


class _Orphan:
    """Watches a worker whose zygote died: its pidfd shows when it ends, and nothing shows how."""

    def __init__(self, reactor: Reactor, pid: int, on_exit: Callable[[], None]) -> None:
        self._reactor = reactor
        self._on_exit = on_exit
        self._pid = pid
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError:
            raise
        except OSError:  # no descriptor is left: poll
            reactor.call_later(_POLL_INTERVAL_S, self._look)
        else:
            reactor.register(self._fd, self, READABLE)

    def _look(self) -> None:
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            self._on_exit()
        else:
            self._reactor.call_later(_POLL_INTERVAL_S, self._look)

    def handle(self, events: int) -> None:
        """Called by the reactor: the process ended."""
        self._reactor.unregister(self._fd)
        os.close(self._fd)
        self._on_exit()


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    try:
        os.kill(pid, signal.SIGSTOP)
        for _ in range(200):
            with open(f"/proc/{pid}/stat", "rb") as file:
                if file.read().rpartition(b")")[2].split()[0] in b"TtZ":
                    break
            clock.sleep(0.0001)
    except OSError:
        pass  # it ended
    try:
        yield
    finally:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
