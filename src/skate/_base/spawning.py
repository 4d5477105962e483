"""Starts a process with exactly the given descriptors. It uses little of the standard library, as roles call
it before they import anything else."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping

#: Higher than every descriptor number that a process is given.
_SPARE = 16


def spawn(argv: list[str], descriptors: Mapping[int, int], variables: Mapping[str, str] | None = None) -> int:
    """Execute a program in a session of its own; return its pid.

    Args:
        argv: its command line; the first is a path.
        descriptors: the number in the new process to the descriptor in this one. Of the others, only 0 to 2
            are passed on.
        variables: variables that are added to this process's environment.
    """
    # A target number may be a descriptor of this process that is still needed: move the descriptors up first.
    moved: dict[int, int] = {}
    try:
        for number, fd in descriptors.items():
            moved[number] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _SPARE)
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in moved.items()]
        environment = {**os.environ, **(variables or {})}
        return os.posix_spawn(argv[0], argv, environment, file_actions=actions, setsid=True)
    finally:
        for fd in moved.values():
            os.close(fd)
