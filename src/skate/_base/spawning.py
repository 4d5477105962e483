"""Starts a process with exactly the descriptors that it is to have. Standard library only, and little of it:
roles use it before they import anything else."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping

#: Above every number that a process is given.
_SPARE = 16


def spawn(argv: list[str], descriptors: Mapping[int, int], variables: Mapping[str, str] | None = None) -> int:
    """Execute a program in a session of its own; return its pid.

    Args:
        argv: its command line; the first is a path.
        descriptors: number there to descriptor here; no other is passed on but 0 to 2, if they are not named.
        variables: what its environment has beside ours.
    """
    # Numbers that are descriptors of ours as well would be overwritten by each other: move them up first.
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
