"""Command lines of the roles. Roles are named as strings: starting a process must not import it."""

from __future__ import annotations

import os
import sys


def role_argv(module: str, *arguments: str) -> list[str]:
    """Return the command line of a daemon or control store.

    Without ``site`` (10 to 30 ms of .pth files): they need this package and msgspec, and find them
    where this process did. Without ``typing_extensions``, which msgspec imports for Python 3.10 only
    but takes 10 ms everywhere.
    """
    paths = [os.path.abspath(path) for path in sys.path]
    light = "sys.modules['typing_extensions'] = None; " if sys.version_info >= (3, 11) else ""
    code = f"import sys; sys.path[:] = {paths!r}; {light}from {module} import main; main(*sys.argv[1:])"
    return [sys.executable, "-S", "-E", "-c", code, *arguments]


def zygote_argv(session_dir: str) -> list[str]:
    """Return the command line of a zygote: a whole Python, for users' code.

    Descriptor 3 is the daemon's socket, 4 the board.
    """
    paths = [os.path.abspath(path) for path in sys.path]
    code = (
        f"import sys; sys.path[:] = {paths!r}; from skate._launch.zygote import main; main(3, 4, sys.argv[1])"
    )
    return [sys.executable, "-c", code, session_dir]
