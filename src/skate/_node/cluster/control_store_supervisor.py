"""The head's daemon keeps the control store going: it starts it anew when its process ended.

Until then, whoever dials it waits in the queue of the listening socket, of which the daemon has a duplicate.
A control store that dies again and again is given up: the socket is closed; whoever waits there learns it.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections import deque
from collections.abc import Callable

from skate._base import descriptors
from skate._base.clock import monotonic
from skate._base.process import describe_status
from skate._base.spawning import spawn
from skate._node.settings import KeptControl
from skate._transport.reactor import READABLE, Reactor

#: So often within a minute, a control store is started anew.
LIMIT = 5
WINDOW = 60.0
#: At the end of a session, a control store may take so long to end (milliseconds).
_PATIENCE_MS = 5000

#: A start that failed for want of descriptors is tried again after this time (seconds).
_AGAIN = 0.25
_SOURCE = "CONTROL_STORE"


class Restarts:
    """Whether to start something anew once more. Decisions only."""

    def __init__(self, limit: int = LIMIT, window: float = WINDOW) -> None:
        self._times: deque[float] = deque(maxlen=limit)
        self._window = window

    def again(self, now: float) -> bool:
        """It ended at ``now`` (seconds). False: too often."""
        times = self._times
        if len(times) == times.maxlen and now - times[0] < self._window:
            return False
        times.append(now)
        return True


class Keeper:
    """See the module's text. All methods run on the daemon's loop."""

    def __init__(
        self, reactor: Reactor, kept: KeptControl, alive_fd: int, event: Callable[[str, str, str], None]
    ) -> None:
        self._reactor = reactor
        self._kept = kept
        self._alive_fd = alive_fd
        #: Told a severity, a source and a text.
        self._event = event
        self._restarts = Restarts()
        #: The process that we started, or 0: it is another's child.
        self._pid = 0
        #: It ends when this does, if the first one ended with its driver.
        self._lifeline: socket.socket | None = None
        self._pidfd = kept.pidfd
        #: It could not be started for want of descriptors, so far.
        self._short = False
        self._closed = False
        reactor.register(self._pidfd, self, READABLE)

    def handle(self, events: int) -> None:
        """Called by the reactor: its process ended."""
        self._unwatch()
        how = "ended"
        if self._pid:
            how = describe_status(os.waitpid(self._pid, 0)[1])
            self._pid = 0
        if not self._restarts.again(monotonic()):
            self._event("ERROR", _SOURCE, f"the control store {how}, and is not started anew")
            self._give_up()
            return
        self._start_anew(how)

    def _start_anew(self, how: str) -> None:
        if self._closed:
            return
        try:
            self._start()
        except OSError as error:
            if descriptors.is_transient(error):  # those who dial wait in its queue
                if not self._short:
                    why = f"because the node daemon {descriptors.explain(error)}"
                    self._event(
                        "ERROR", _SOURCE, f"the control store {how}, and is not started anew yet, {why}"
                    )
                self._short = True
                self._reactor.call_later(_AGAIN, lambda: self._start_anew(how))
                return
            self._event("ERROR", _SOURCE, f"the control store {how}, and cannot be started anew: {error}")
            self._give_up()
            return
        self._short = False
        self._event("WARNING", _SOURCE, f"the control store {how}; started anew as process {self._pid}")

    def _start(self) -> None:
        given = {3: self._kept.listen_fd, 4: self._alive_fd}
        log = os.open(self._kept.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        theirs = None
        try:
            given |= {1: log, 2: log}
            if self._kept.lifeline:
                self._lifeline, theirs = socket.socketpair()
                given[5] = theirs.fileno()
            self._pid = spawn(self._kept.argv, given)
        finally:
            os.close(log)
            if theirs is not None:
                theirs.close()
        self._pidfd = os.pidfd_open(self._pid)
        self._reactor.register(self._pidfd, self, READABLE)

    def _unwatch(self) -> None:
        if self._pidfd >= 0:
            self._reactor.unregister(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _give_up(self) -> None:
        os.close(self._kept.listen_fd)

    def close(self) -> None:
        """The session ends: so does a control store that is to end with it."""
        self._closed = True
        if self._lifeline is not None:
            self._lifeline.close()
        if self._pid and self._kept.lifeline:
            poller = select.poll()
            poller.register(self._pidfd, select.POLLIN)
            if not poller.poll(_PATIENCE_MS):
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        self._unwatch()
