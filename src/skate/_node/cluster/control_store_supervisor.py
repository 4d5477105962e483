"""Starts the control store anew when its process ended: a task of the head's daemon.

Until then, processes that dial it wait in the queue of the listening socket, of which the daemon has a
duplicate. A control store that dies again and again is given up: the socket is closed, and the dials fail.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections import deque
from collections.abc import Callable

from skate._base import clock, descriptors
from skate._base.process import describe_status
from skate._base.spawning import spawn
from skate._node.settings import KeptControl
from skate._transport.reactor import READABLE, Reactor

#: So often within the window (seconds), a control store is started anew.
LIMIT = 5
WINDOW = 60.0
#: At the end of a session, a control store that has not ended by itself within this time is killed.
_END_TIMEOUT_MS = 5000
#: A start that failed for want of descriptors is tried again after this time.
_RETRY_DELAY_S = 0.25
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


class ControlStoreSupervisor:
    """The control store's process, as the head's daemon sees it. All methods run on the daemon's loop."""

    #: Called with severity, source and text of an event.
    _event: Callable[[str, str, str], None]

    def __init__(self, reactor: Reactor, kept: KeptControl, alive_fd: int) -> None:
        self._reactor = reactor
        self._kept = kept
        #: Holds the session's lock.
        self._alive_fd = alive_fd
        self._restarts = Restarts()
        #: The process, if this daemon started it; 0: it is another's child.
        self._pid = 0
        #: It ends when this does, if the first one ended with its driver.
        self._lifeline: socket.socket | None = None
        self._pidfd = kept.pidfd
        #: It could not be started for want of descriptors, so far.
        self._short = False
        self._closed = False

    def watch(self, event: Callable[[str, str, str], None]) -> None:
        """Begin; ``event`` is called with severity, source and text of what happens."""
        self._event = event
        self._reactor.register(self._pidfd, self, READABLE)

    def handle(self, events: int) -> None:
        """Called by the reactor: its process ended."""
        self._unwatch()
        how = "ended"
        if self._pid:
            how = describe_status(os.waitpid(self._pid, 0)[1])
            self._pid = 0
        if not self._restarts.again(clock.monotonic()):
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
                self._reactor.call_later(_RETRY_DELAY_S, lambda: self._start_anew(how))
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
        """End a control store that is to end with the session."""
        self._closed = True
        if self._lifeline is not None:
            self._lifeline.close()
        if self._pid and self._kept.lifeline:
            poller = select.poll()
            poller.register(self._pidfd, select.POLLIN)
            if not poller.poll(_END_TIMEOUT_MS):
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        self._unwatch()
