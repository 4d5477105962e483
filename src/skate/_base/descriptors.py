"""File descriptors: how many a process may have, and what to say when it has none left.

Every process of the runtime raises its soft limit at start, up to ``ENOUGH`` and never above the hard limit
(as
Ray's ``init()`` does). The cap matters where the hard limit is huge (2**30 in some containers): programs that
close "every possible" descriptor, or allocate a table of that size, take minutes or gigabytes there, and
what user code starts inherits the limit. Code that uses ``select()`` is no worse off than before: it cannot
take numbers above 1023, which a process only gets when it has that many open, and then the old limit had
ended it.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import resource
from typing import Any

#: The soft limit that a process asks for: the daemon of a full node (8192 workers, four descriptors each)
#: fits.
ENOUGH = 65_536
#: With fewer no session can be started: a driver has about 20 besides those of its program, the daemon 4 a
#: worker.
LEAST = 64
#: Likewise bytes that a process may write to a file (RLIMIT_FSIZE): the control store's records, logs.
LEAST_FILE = 16 << 20

#: Files that are open at a time while a module is imported: it imports others.
_RESERVE = 8

#: What system calls fail with when the process, or the machine, has none left ...
_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
#: ... or lacks memory, buffers or a place in a listener's queue for a moment.
_TRANSIENT = _OUT_OF_DESCRIPTORS | {errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.ETOOMANYREFS}


def raise_limit() -> None:
    """Raise this process's soft limit to what it may have, at most ``ENOUGH``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(ENOUGH, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        pass  # a sandbox forbids it: what is there has to do


def too_low() -> str:
    """Return which limits of this process, and so of those that it starts, are too low for a session; or
    ""."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors != resource.RLIM_INFINITY and descriptors < LEAST:
        return (
            f"this process may have {descriptors} file descriptors (RLIMIT_NOFILE), a session needs at least "
            f"{LEAST}. Raise the limit: `ulimit -n 65536` in the shell that starts the program"
        )
    size, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if size != resource.RLIM_INFINITY and size < LEAST_FILE:
        return (
            f"this process may write files of {size} bytes (RLIMIT_FSIZE), and a session needs at least "
            f"{LEAST_FILE}. Raise the limit: `ulimit -f unlimited` in the shell that starts the program"
        )
    return ""


def is_out_of_descriptors(error: OSError) -> bool:
    """Tell whether the process or the machine has no descriptor left."""
    return error.errno in _OUT_OF_DESCRIPTORS


def is_transient(error: OSError) -> bool:
    """Tell whether the same call may succeed later, without anybody else having to change."""
    return error.errno in _TRANSIENT


def explain(error: OSError) -> str:
    """Return what a failed system call means: for shortages the limit, and how to raise it.

    The subject is left out: "has no file descriptors left: ..." follows the name of the process.
    """
    if error.errno == errno.EMFILE:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
        return (
            f"has no file descriptors left: its limit is {soft} (RLIMIT_NOFILE, hard limit {most}). Raise it "
            "(`ulimit -n 65536` in the shell that starts the program, `--ulimit nofile=65536` for a "
            f"container), or close files: `ls -l /proc/{os.getpid()}/fd` shows what is open"
        )
    if error.errno == errno.ENFILE:
        return (
            "has no file descriptors left, because the machine has none (sysctl fs.file-max raises their "
            "number)"
        )
    if error.errno == errno.EFBIG:
        soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        return (
            f"may not write files, or shared memory, of that size: its limit is {soft} bytes (RLIMIT_FSIZE). "
            "Raise it (`ulimit -f unlimited` in the shell that starts the program or the session)"
        )
    return f"failed: {error.strerror or error}"


def explained(error: OSError) -> OSError:
    """Return an error of the same kind whose text says what to do, if it is about a limit; else the same
    one."""
    if error.errno not in (errno.EMFILE, errno.ENFILE, errno.EFBIG):
        return error
    return OSError(error.errno, f"{error.strerror}: this process {explain(error)}")


_reserve: list[int] = []


def keep_reserve() -> None:
    """Put some descriptors by for ``load``: in roles, which import some modules at first need only."""
    while len(_reserve) < _RESERVE:
        _reserve.append(os.eventfd(0, os.EFD_CLOEXEC))


def load(name: str) -> Any:
    """Import a module and return it, by the descriptors put by if no others are left to read it."""
    try:
        return importlib.import_module(name)
    except OSError as error:
        if not is_out_of_descriptors(error) or not _reserve:
            raise
        while _reserve:
            os.close(_reserve.pop())
        try:
            return importlib.import_module(name)
        finally:
            with contextlib.suppress(OSError):
                keep_reserve()
