"""The memory of this process and of all that it started (Linux)."""

from __future__ import annotations

import os
from pathlib import Path


def of_session() -> tuple[int, int]:
    """Return how many processes there are, this one among them, and the sum of their memory.

    The sum is of PSS, in bytes: a page that several processes share counts once. It is 0 where there is no
    ``/proc``.
    """
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has just ended
    family = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return len(family), sum(map(_pss, family))


def _pss(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
