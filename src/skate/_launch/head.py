"""Starts the control store and the node daemon of a session, and ends them.

The starter makes their listening sockets and passes them on as descriptors, so that all processes can connect
at once, and none polls for a file to appear. The roles of an ``init()`` also inherit one end of a socket
pair: it is the driver's connection, and when it closes, however the driver ended, the role ends. The roles of
``skate start`` end at a request.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from typing import Any

from skate._base.process import describe_status
from skate._base.spawning import spawn
from skate._launch import commands
from skate._transport.dialing import listen


class Role:
    """Represents a role that this driver started."""

    def __init__(self, name: str, pid: int, connection: socket.socket | None) -> None:
        self.name = name
        self.pid = pid
        #: None: the role does not end with this process.
        self.connection = connection
        self.status: int | None = None

    def poll(self, wait_ms: int = 0) -> str | None:
        """Return how the role ended, or None while it runs (after waiting that long for its end)."""
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
        """Tell whether the role ended within that time, without reaping it."""
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
        """Wait for the role's end; kill it when it takes too long."""
        if self.status is not None:
            return
        if not self._await_exit(seconds * 1000):
            os.kill(self.pid, signal.SIGKILL)
        try:
            _, self.status = os.waitpid(self.pid, 0)
        except ChildProcessError:
            self.status = 0  # a SIGCHLD handler of the program reaped it


class Starter:
    """Starts the roles of one session."""

    def __init__(self, session_dir: str, alive_fd: int, *, lifeline: bool) -> None:
        self._session_dir = session_dir
        self._alive_fd = alive_fd
        self._lifeline = lifeline

    def both(self, node_id: bytes, settings: dict[str, Any]) -> list[Role]:
        """Start the node daemon and the control store, which the daemon then supervises."""
        argv = self._argv("skate._control.main", {})
        with self._listen("control") as listening:
            control = self._start("control store", "control", argv, {3: listening.fileno()})
            pidfd = os.pidfd_open(control.pid)
            try:
                kept = {"argv": argv, "log": self._log("control"), "lifeline": self._lifeline,
                        "listen_fd": 6, "pidfd": 7}  # fmt: skip
                settings = settings | {
                    "node_id": node_id.hex(), "hostname": socket.gethostname(), "control": kept
                }  # fmt: skip
                argv = self._argv("skate._node.boot", settings, *commands.zygote_argv(self._session_dir))
                with self._listen("node") as node_listening:
                    given = {3: node_listening.fileno(), 6: listening.fileno(), 7: pidfd}
                    return [self._start("node daemon", "node", argv, given), control]
            finally:
                os.close(pidfd)

    def _listen(self, short: str) -> socket.socket:
        return listen(os.path.join(self._session_dir, f"{short}.sock"))

    def _log(self, short: str) -> str:
        return os.path.join(self._session_dir, "logs", f"{short}.log")

    def _argv(self, module: str, settings: dict[str, Any], *more: str) -> list[str]:
        settings = settings | {
            "session_dir": self._session_dir, "listen_fd": 3, "driver_fd": 5 if self._lifeline else -1
        }  # fmt: skip
        return commands.role_argv(module, json.dumps(settings), *more)

    def _start(self, name: str, short: str, argv: list[str], descriptors: dict[int, int]) -> Role:
        log = os.open(self._log(short), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        descriptors = descriptors | {0: null, 1: log, 2: log, 4: self._alive_fd}
        ours = theirs = None
        if self._lifeline:
            ours, theirs = socket.socketpair()
            descriptors[5] = theirs.fileno()
        try:
            pid = spawn(argv, descriptors)
        finally:
            if theirs is not None:
                theirs.close()
            os.close(log)
            os.close(null)
        return Role(name, pid, ours)
