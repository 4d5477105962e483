"""Lets a process that cannot answer show its stacks: on a signal it writes them to a memfd.

Python's fault handler runs in the signal handler itself, without the interpreter's lock: it works while
native code holds that. The signal is a real-time one from the end of their range, which programs do not use;
one that a program catches already is left to it. The other side is ``_node.reporting.stacks``.
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import signal

#: None: this system has no such signals.
SIGNAL: int | None = signal.SIGRTMAX - 3 if hasattr(signal, "SIGRTMAX") else None
#: The name of the memfd.
NAME = "skate-stacks"


def register() -> int:
    """Have this process write its stacks whenever the signal comes; return the memfd, or -1.

    Called once a session, by any thread.
    """
    if SIGNAL is None or signal.getsignal(SIGNAL) is not signal.SIG_DFL:
        return -1
    try:
        fd = os.memfd_create(NAME, os.MFD_CLOEXEC)
    except OSError:
        return -1  # no descriptors are left: the process shows its stacks only while it can answer
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
    # Not chained: the next handler would be the signal's default, which ends the process.
    faulthandler.register(SIGNAL, file=fd, all_threads=True, chain=False)
    return fd


def unregister(fd: int) -> None:
    """Undo ``register``. A signal that is under way then comes to nothing."""
    if fd < 0:
        return
    assert SIGNAL is not None
    faulthandler.unregister(SIGNAL)
    os.close(fd)
