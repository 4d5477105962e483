"""Builds the command lines of the roles. Roles are named as strings: the start of a process must not import
it."""

from __future__ import annotations

import sys

from skate._base.process import import_paths


def role_argv(module: str, *arguments: str) -> list[str]:
    """Return the command line of a daemon or control store.

    The roles run without ``site`` (10 to 30 ms of .pth files): they need this package and msgspec, and find
    them where this process did. They run without ``typing_extensions``, which msgspec needs for Python 3.10
    only but imports everywhere, in 10 ms.
    """
    paths = import_paths()
    light = "sys.modules['typing_extensions'] = None; " if sys.version_info >= (3, 11) else ""
    code = f"import sys; sys.path[:] = {paths!r}; {light}from {module} import main; main(*sys.argv[1:])"
    return [sys.executable, *_flags(), "-S", "-E", "-c", code, *arguments]


def zygote_argv(session_dir: str) -> list[str]:
    """Return the command line of a zygote, which runs with ``site`` for users' code.

    Descriptor 3 is the daemon's socket, 4 the progress table.
    """
    paths = import_paths()
    code = (
        f"import sys; sys.path[:] = {paths!r}; from skate._launch.zygote import main; main(3, 4, sys.argv[1])"
    )
    return [sys.executable, *_flags(), "-c", code, session_dir]


def _flags() -> list[str]:
    """Return the options of this interpreter that change what code means: ``-O``, ``-b`` and ``-B``.

    Tasks then run as their program would; the roles pass the options on.
    """
    flags = sys.flags
    letters = "O" * flags.optimize + "b" * flags.bytes_warning + "B" * flags.dont_write_bytecode
    return [f"-{letters}"] if letters else []
