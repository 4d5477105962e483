"""Starts the control store and the node daemon of an ``init()``, and ends them.

The driver makes their listening sockets and hands them over as descriptors, so that everybody can
connect at once, and nobody polls for a file to appear. Each also inherits one end of a socket pair:
it is the driver's connection, and when it closes, however the driver ended, the role ends.
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

    def __init__(self, name: str, pid: int, connection: socket.socket) -> None:
        self.name = name
        self.pid = pid
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


def start_control(session_dir: str) -> Role:
    """Start the control store of a session."""
    settings = {"session_dir": session_dir, "driver_fd": 4, "listen_fd": 3}
    return _start("control store", "skate._control.server", session_dir, "control", settings)


def start_node(session_dir: str, node_id: bytes, settings: dict[str, Any]) -> Role:
    """Start the node daemon of a session."""
    settings = settings | {
        "node_id": node_id.hex(),
        "session_dir": session_dir,
        "driver_fd": 4,
        "listen_fd": 3,
        "hostname": socket.gethostname(),
    }
    zygote = commands.zygote_argv(session_dir)
    return _start("node daemon", "skate._node.boot", session_dir, "node", settings, zygote)


def _start(
    name: str, module: str, session_dir: str, short: str, settings: dict[str, Any], more: Sequence[str] = ()
) -> Role:
    listening = listen(os.path.join(session_dir, f"{short}.sock"))
    ours, theirs = socket.socketpair()
    log = os.open(
        os.path.join(session_dir, "logs", f"{short}.log"),
        os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
        0o600,
    )
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Descriptors that are 3 or 4 already would be overwritten by each other: move them up first.
        fds = [_above(fd, 10) for fd in (listening.fileno(), theirs.fileno())]
        actions = [
            (os.POSIX_SPAWN_DUP2, null, 0),
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
            (os.POSIX_SPAWN_DUP2, fds[0], 3),
            (os.POSIX_SPAWN_DUP2, fds[1], 4),
        ]
        argv = commands.role_argv(module, json.dumps(settings), *more)
        pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsid=True)
        for fd in fds:
            os.close(fd)
    finally:
        listening.close()
        theirs.close()
        os.close(log)
        os.close(null)
    return Role(name, pid, ours)


def _above(fd: int, least: int) -> int:
    """Return a duplicate with a number of at least ``least``, closed on exec."""
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)
