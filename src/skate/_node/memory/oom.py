"""Decides which worker is to end when memory runs short, before the kernel chooses. Decisions only.

The newest goes first, for it has done the least; what can be run again goes before what cannot; tasks
go before actors, which have state. A process that uses little is spared: its end would not help. One ends
at a time: the next is chosen when this one's memory is back. The driver is never ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

#: Processes below this share of the largest one's memory are spared.
SMALL = 0.1


class Process(NamedTuple):
    """A process of the session and the memory that is its own."""

    worker: bytes
    pid: int
    #: The name of the task or actor that it runs, for people.
    name: str
    #: Bytes of it and of what it started, without shared memory.
    size: int
    #: "idle", "task", "actor", or "driver".
    kind: str
    #: The runtime would run or restart it.
    repeatable: bool
    #: Grows with each beginning: the larger, the newer.
    began: int


def victim(processes: Sequence[Process]) -> Process | None:
    """Return the process to end; None: there is none that would help."""
    workers = [one for one in processes if one.kind != "driver"]
    least = max((one.size for one in workers), default=0) * SMALL
    large = [one for one in workers if one.size >= least and one.size > 0]
    return min(large, key=_rank, default=None)


def _rank(one: Process) -> tuple[bool, bool, bool, int]:
    return one.kind != "idle", not one.repeatable, one.kind == "actor", -one.began


def story(chosen: Process, processes: Sequence[Process], store: int, used: int, limit: int, of: str) -> str:
    """Return why it was ended: how much was used by whom, and what to do."""
    largest = sorted(processes, key=lambda one: -one.size)[:5]
    shares = [f"{one.name} (process {one.pid}): {_size(one.size)}" for one in largest if one.size]
    shares.append(f"objects in shared memory: {_size(store)}")
    again = "it is run again, if its retries allow" if chosen.repeatable else "it is not run again"
    return (
        f"memory ran short: {_size(used)} of {of} are in use, and the limit is {_size(limit)}. Used by "
        f"{'; '.join(shares)}. This process was the newest that could go ({again}). Let fewer run at a time "
        "(num_cpus, or memory= in bytes for each), or give them less to hold"
    )


def _size(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"
