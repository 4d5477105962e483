"""Raises the limit of file descriptors, and explains what to do when a process has none left.

Every process of the runtime raises its soft limit at start, up to ``MAX_SOFT_LIMIT`` and never above the hard
limit (as Ray's ``init()`` does). The cap matters where the hard limit is huge (2**30 in some containers):
there, programs that close "every possible" descriptor or allocate a table of that size take minutes or
gigabytes, and programs that user code starts inherit the limit. Code that uses ``select()`` is no worse off
than before: it cannot take numbers above 1023, but a process gets such numbers only when it has that many
files open, and the old limit would have ended it then.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import resource
from typing import Any

#: The soft limit that a process asks for (count). The daemon of a full node fits (8192 workers, four
#: descriptors each).
MAX_SOFT_LIMIT = 65_536
#: With fewer descriptors (count) no session can start: a driver has about 20 besides those of its program,
#: the daemon 4 for each worker.
MIN_DESCRIPTORS = 64
#: With smaller files (RLIMIT_FSIZE, bytes) no session can start: they hold the control store's records and
#: logs.
MIN_FILE_BYTES = 16 << 20

#: The descriptors that an import may need at a time, as modules import others (count).
_RESERVE = 8

#: Error numbers of system calls when the process or the machine has no descriptor left ...
_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
#: ... or lacks memory, buffers or a place in a listener's queue for a short time.
_TRANSIENT = _OUT_OF_DESCRIPTORS | {errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.ETOOMANYREFS}


def raise_limit() -> None:
    """Raise this process's soft limit to what it may have, at most ``MAX_SOFT_LIMIT``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_SOFT_LIMIT if hard == resource.RLIM_INFINITY else min(MAX_SOFT_LIMIT, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        pass  # a sandbox forbids it: the present limit has to do


def too_low() -> str:
    """Return a sentence about the limits of this process that are too low for a session; "" if none is.
    Processes that it starts inherit the limits."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors != resource.RLIM_INFINITY and descriptors < MIN_DESCRIPTORS:
        return (
            f"this process may have {descriptors} file descriptors (RLIMIT_NOFILE), but a session needs at "
            f"least {MIN_DESCRIPTORS}. Raise the limit: `ulimit -n 65536` in the shell that runs the program"
        )
    size, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if size != resource.RLIM_INFINITY and size < MIN_FILE_BYTES:
        return (
            f"this process may write files of {size} bytes (RLIMIT_FSIZE), but a session needs at least "
            f"{MIN_FILE_BYTES}. Raise the limit: `ulimit -f unlimited` in the shell that starts the program"
        )
    return ""


def is_out_of_descriptors(error: OSError) -> bool:
    """Tell whether an error means that the process or the machine has no descriptor left."""
    return error.errno in _OUT_OF_DESCRIPTORS


def is_transient(error: OSError) -> bool:
    """Tell whether the same call may succeed later, without a change anywhere else."""
    return error.errno in _TRANSIENT


def explain(error: OSError) -> str:
    """Explain a failed system call: for shortages, name the limit and how to raise it.

    The text is a predicate, such as "has no file descriptors left: ..."; the caller puts the name of the
    process before it.
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
            "has no file descriptors left, because the machine has none left (sysctl fs.file-max raises "
            "their number)"
        )
    if error.errno == errno.EFBIG:
        soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        return (
            f"cannot write a file, or shared memory, of that size: its limit is {soft} bytes (RLIMIT_FSIZE). "
            "Raise it (`ulimit -f unlimited` in the shell that starts the program or the session)"
        )
    return f"failed: {error.strerror or error}"


def explained(error: OSError) -> OSError:
    """Return an error of the same kind whose text says what to do, if the error is about a limit; else the
    error itself."""
    if error.errno not in (errno.EMFILE, errno.ENFILE, errno.EFBIG):
        return error
    return OSError(error.errno, f"{error.strerror}: this process {explain(error)}")


_reserve: list[int] = []


def keep_reserve() -> None:
    """Reserve descriptors for ``load``: roles import some modules at first need only."""
    while len(_reserve) < _RESERVE:
        _reserve.append(os.eventfd(0, os.EFD_CLOEXEC))


def load(name: str) -> Any:
    """Import a module and return it; use the reserved descriptors if no others are left."""
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
