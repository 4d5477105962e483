"""Which processes belong to one run, what memory they hold, and how to end them. Linux (`/proc`).

A runtime may daemonise its processes, so ancestry alone does not find them. Every run has a *mark*, a path
that no other run has: it is the scratch folder of the run and the value of `MARK_VARIABLE` in the environment
of its driver.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MARK_VARIABLE = "BENCHMARK_RUN"
PROC = Path("/proc")
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class _Process:
    parent: int
    session: int
    started: int
    """In clock ticks since boot."""


@dataclass(frozen=True)
class Memory:
    """Sums over processes, in bytes."""

    processes: int
    pss: int
    uss: int
    rss: int


def _read(pid: int, name: str) -> bytes:
    """The file, or nothing if the process is gone or another user's."""
    try:
        return (PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""


def _alive() -> dict[int, _Process]:
    found = {}
    for entry in os.scandir(PROC) if PROC.is_dir() else ():
        if not entry.name.isdigit():
            continue
        stat = _read(int(entry.name), "stat")
        fields = stat[stat.rfind(b")") + 2 :].split()
        if len(fields) > 19 and fields[0] not in (b"Z", b"X"):
            found[int(entry.name)] = _Process(int(fields[1]), int(fields[3]), int(fields[19]))
    return found


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that daemons are recognised (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def family(mark: str, driver: int | None, reaper: int) -> set[int]:
    """The processes of the run `mark`, its driver included.

    `reaper` is the process that started the driver: it has called `adopt_orphans` and has no other children.
    A process belongs if its environment or command line carries the mark, if its parent belongs or is the
    reaper, or if it is in the session of one that belongs; none that is older than the driver (when that is
    named and alive). So neither a daemon, nor a worker that wrote its title over its environment, nor a child
    that was started with an empty one escapes.
    """
    alive = _alive()
    token = mark.encode()
    oldest = alive[driver].started if driver in alive else 0
    candidates = {pid: process for pid, process in alive.items() if process.started >= oldest}
    members = {
        pid
        for pid, process in candidates.items()
        if process.parent == reaper or token in _read(pid, "environ") or token in _read(pid, "cmdline")
    }
    strangers = set() if os.getpid() in members else {os.getsid(0)}
    while True:
        sessions = {candidates[pid].session for pid in members} - strangers
        relatives = {
            pid
            for pid, process in candidates.items()
            if pid not in members and (process.parent in members or process.session in sessions)
        }
        if not relatives:
            return members
        members |= relatives


def memory(pids: Iterable[int]) -> Memory:
    """Proportional, private and resident memory of the processes, from `/proc/PID/smaps_rollup`."""
    count = pss = uss = rss = 0
    for pid in pids:
        sizes = {}
        for line in _read(pid, "smaps_rollup").splitlines()[1:]:
            name, size, *_ = line.split()
            sizes[name] = 1024 * int(size)
        if sizes:
            count += 1
            pss += sizes[b"Pss:"]
            uss += sizes[b"Private_Clean:"] + sizes[b"Private_Dirty:"]
            rss += sizes[b"Rss:"]
    return Memory(count, pss, uss, rss)


def end(mark: str, driver: int | None, grace_s: float = 0.0, limit_s: float = 10.0) -> int:
    """End what is left of a run: wait `grace_s` for it to end by itself, then kill until nothing is left.

    Returns how many had to be killed. Called by the process that started the driver; never ends that process.
    Name the driver only while it has not been waited for: afterwards its number may be a stranger's.
    """
    deadline = time.monotonic() + grace_s
    left = family(mark, driver, os.getpid())
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = family(mark, driver, os.getpid())
    killed: set[int] = set()
    deadline = time.monotonic() + limit_s
    while left and time.monotonic() < deadline:
        for pid in left - {os.getpid()}:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        time.sleep(0.05)
        left = family(mark, driver, os.getpid()) - {os.getpid()}
    return len(killed)


def reap() -> None:
    """Bury the adopted orphans that have ended. Call only when no child is left to be waited for."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
