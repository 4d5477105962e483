"""Reads how much memory the machine and a process use from the kernel."""

from __future__ import annotations

import os
from typing import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Memory(NamedTuple):
    """Holds the bytes in use and the total bytes of this machine or container."""

    used: int
    total: int


def of_machine() -> Memory:
    """Return the memory in use that the kernel cannot reclaim, under the tightest limit that holds for this
    process."""
    machine = _of_system()
    container = _of_container()
    if container is None or machine.total - machine.used < container.total - container.used:
        return machine
    return container


def _of_system() -> Memory:
    fields = dict.fromkeys(("MemTotal", "MemAvailable"), 0)
    with open("/proc/meminfo", "rb") as file:
        for line in file:
            name = line[: line.index(b":")].decode()
            if name in fields:
                fields[name] = int(line.split()[1]) * 1024
    return Memory(fields["MemTotal"] - fields["MemAvailable"], fields["MemTotal"])


def _of_container() -> Memory | None:
    for limit, current, stat, inactive in (
        ("memory.max", "memory.current", "memory.stat", b"inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat",
         b"total_inactive_file"),
    ):  # fmt: skip
        total, used = _number(limit), _number(current)
        if total is None or used is None or total > 1 << 60:
            continue
        return Memory(max(0, used - _field(stat, inactive)), total)
    return None


def _number(name: str) -> int | None:
    try:
        with open(f"/sys/fs/cgroup/{name}", "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _field(name: str, field: bytes) -> int:
    try:
        with open(f"/sys/fs/cgroup/{name}", "rb") as file:
            for line in file:
                if line.startswith(field + b" "):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def killed_by_kernel() -> int:
    """Return how many processes the kernel has ended for lack of memory since the machine started."""
    try:
        with open("/proc/vmstat", "rb") as file:
            for line in file:
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def of_process(pid: int, *, with_children: bool = True) -> int:
    """Return the private memory of a process and all its children in bytes; 0 if the process ended."""
    size = 0
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            fields = file.read().split()
        size = (int(fields[1]) - int(fields[2])) * _PAGE
        if not with_children:
            return size
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            children = file.read().split()
    except (OSError, ValueError, IndexError):
        return size
    return size + sum(of_process(int(child)) for child in children)
