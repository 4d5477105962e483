"""Starts the control store and the node daemon of a session, and ends them.

The starter makes their listening sockets and hands them over as descriptors, so that everybody can
connect at once, and nobody polls for a file to appear. Those of an ``init()`` also inherit one end of
a socket pair: it is the driver's connection, and when it closes, however the driver ended, the role
ends. Those of ``skate start`` end when they are told to.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from collections.abc import Sequence
from typing import Any

from skate._base.process import describe_status
from skate._launch import commands
from skate._transport.connection import listen


class Role:
    """A process that this driver started."""

    def __init__(self, name: str, pid: int, connection: socket.socket | None) -> None:
        self.name = name
        self.pid = pid
        #: None: it is not to end with this process.
        self.connection = connection
        self.status: int | None = None

    def poll(self, wait_ms: int = 0) -> str | None:
        """Return how it ended, or None while it runs (after waiting that long for its end)."""
        if self.status is None:
            if wait_ms:
                self._await_exit(wait_ms)
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                return f"the {self.name} (pid {self.pid}) ended, and this program reaped it itself"
            if pid == 0:
                return None
            self.status = status
        return f"the {self.name} (pid {self.pid}) {describe_status(self.status)}"

    def _await_exit(self, milliseconds: float) -> bool:
        """Tell whether it ended within that time. It is not reaped here."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            poller = select.poll()
            poller.register(fd, select.POLLIN)
            return bool(poller.poll(milliseconds))
        finally:
            os.close(fd)

    def finish(self, seconds: float) -> None:
        """Wait until it ended; kill it when it takes too long."""
        if self.status is not None:
            return
        if not self._await_exit(seconds * 1000):
            os.kill(self.pid, signal.SIGKILL)
        try:
            _, self.status = os.waitpid(self.pid, 0)
        except ChildProcessError:
            self.status = 0  # somebody else reaped it (a SIGCHLD handler of the program)


class Starter:
    """Starts the roles of one session."""

    def __init__(self, session_dir: str, alive_fd: int, *, lifeline: bool) -> None:
        self._session_dir = session_dir
        self._alive_fd = alive_fd
        self._lifeline = lifeline

    def control(self) -> Role:
        """Start the control store."""
        return self._start("control store", "skate._control.server", "control", {})

    def node(self, node_id: bytes, settings: dict[str, Any]) -> Role:
        """Start the node daemon."""
        settings = settings | {"node_id": node_id.hex(), "hostname": socket.gethostname()}
        zygote = commands.zygote_argv(self._session_dir)
        return self._start("node daemon", "skate._node.boot", "node", settings, zygote)

    def _start(
        self, name: str, module: str, short: str, settings: dict[str, Any], more: Sequence[str] = ()
    ) -> Role:
        listening = listen(os.path.join(self._session_dir, f"{short}.sock"))
        log = os.open(
            os.path.join(self._session_dir, "logs", f"{short}.log"),
            os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
            0o600,
        )
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        ours = theirs = None
        given = [listening.fileno(), self._alive_fd]
        if self._lifeline:
            ours, theirs = socket.socketpair()
            given.append(theirs.fileno())
        settings = settings | {
            "session_dir": self._session_dir, "listen_fd": 3, "driver_fd": 5 if self._lifeline else -1
        }  # fmt: skip
        try:
            # Descriptors that are 3 to 5 already would be overwritten by each other: move them up first.
            fds = [_above(fd, 10) for fd in given]
            actions = [(os.POSIX_SPAWN_DUP2, fd, number) for fd, number in ((null, 0), (log, 1), (log, 2))]
            actions += [(os.POSIX_SPAWN_DUP2, fd, 3 + index) for index, fd in enumerate(fds)]
            argv = commands.role_argv(module, json.dumps(settings), *more)
            pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsid=True)
            for fd in fds:
                os.close(fd)
        finally:
            listening.close()
            if theirs is not None:
                theirs.close()
            os.close(log)
            os.close(null)
        return Role(name, pid, ours)


def _above(fd: int, least: int) -> int:
    """Return a duplicate with a number of at least ``least``, closed on exec."""
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)
