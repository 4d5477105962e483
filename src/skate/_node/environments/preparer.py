"""Carries out the preparation of one environment: a child process, its log, its end or its timeout."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from skate._base.process import describe_status, import_paths
from skate._environment.spec import REFUSED
from skate._transport.reactor import READABLE, Reactor, Timer

#: Of a tool's output so much goes into the error.
_TAIL_LINES = 20
_TAIL_BYTES = 4096


class Preparation:
    """One preparation under way. All methods run on the daemon's loop."""

    def __init__(
        self,
        reactor: Reactor,
        request_path: str,
        log_path: str,
        variables: dict[str, str],
        timeout_s: float,
        on_end: Callable[[str], None],
    ) -> None:
        """Start it; ``on_end`` is called once, with the reason of the failure or an empty text."""
        self._reactor = reactor
        self._log_path = log_path
        self._on_end = on_end
        #: Why it was ended by us.
        self._reason = ""
        paths = import_paths()
        code = (
            f"import sys; sys.path[:] = {paths!r}; from skate._environment.prepare import main; "
            "main(sys.argv[1])"
        )
        # Its life hangs on this pipe: the daemon holds the other end as long as it lives.
        theirs, self._lifeline = os.pipe2(os.O_CLOEXEC)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            log = os.open(log_path, flags, 0o600)
        except OSError:
            os.close(theirs)
            os.close(self._lifeline)
            raise
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for fd, number in ((theirs, 0), (log, 1), (log, 2))]
        argv = [sys.executable, "-c", code, request_path]
        try:
            self.pid = os.posix_spawn(argv[0], argv, variables, file_actions=actions, setsid=True)
        finally:
            os.close(theirs)
            os.close(log)
        self._pidfd = os.pidfd_open(self.pid)
        reactor.register(self._pidfd, self, READABLE)
        self._timer: Timer | None = None
        if timeout_s:
            reason = f"it was not ready after {timeout_s:g} s (config: setup_timeout_seconds)"
            self._timer = reactor.call_later(timeout_s, lambda: self.stop(reason))

    def stop(self, reason: str) -> None:
        """End it and every tool that it runs."""
        self._reason = self._reason or reason
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # it has ended: handle() is about to be called

    def close(self) -> None:
        """End it and wait for it; ``on_end`` is not called."""
        self.stop("the session ended")
        self._reap()

    def handle(self, events: int) -> None:
        """Called by the reactor: it ended."""
        status = self._reap()
        if status == 0 and not self._reason:
            self._on_end("")
            return
        how, tail = self._reason, self._tail()
        if not how and os.WIFEXITED(status) and os.WEXITSTATUS(status) == REFUSED and tail:
            how = tail.pop()
        elif not how:
            how = f"the process that prepares it {describe_status(status)}"
        text = f"{how}. The end of the output:\n" + "\n".join(tail) if tail else how
        self._on_end(f"{text}\nThe whole output: {self._log_path}")

    def _reap(self) -> int:
        if self._timer is not None:
            self._timer.cancel()
        self._reactor.unregister(self._pidfd)
        os.close(self._pidfd)
        os.close(self._lifeline)
        # Its tools first, while its pid still names its group.
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        self.stop("")
        _, status = os.waitpid(self.pid, 0)
        return status

    def _tail(self) -> list[str]:
        try:
            with open(self._log_path, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return []
        return [line for line in lines if line.strip()][-_TAIL_LINES:]
