"""CPU seconds of a whole process tree between two moments, and its greatest memory. Linux (`/proc`).

Machines are shared, so wall time says little by itself; the CPU time of all processes of an engine (drivers,
daemons, workers, and those that have ended) hardly depends on the neighbours.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks import processes

TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE_S = 0.25
"""Between two looks at the memory. Reading it takes the kernel a millisecond for each 100 MB."""


@dataclass
class Section:
    """What a measured part of a program took."""

    began: float = 0.0
    """By `time.monotonic`, which all processes of a machine share."""
    ended: float = 0.0
    cpu_s: float = 0.0
    """Of the whole tree, in steps of a hundredth."""
    driver_cpu_s: float = 0.0
    """Of the driver alone, with all its threads."""

    @property
    def wall_s(self) -> float:
        return self.ended - self.began


class Meter:
    """Measures sections of the process that makes it, with all processes that belong to the same run."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._driver = os.getpid()
        self._reaper = os.getppid()

    @contextmanager
    def section(self) -> Iterator[Section]:
        found = Section()
        cpu = self.tree_cpu_s()
        driver = time.process_time()
        found.began = time.monotonic()
        yield found
        found.ended = time.monotonic()
        found.driver_cpu_s = time.process_time() - driver
        found.cpu_s = self.tree_cpu_s() - cpu

    def tree_cpu_s(self) -> float:
        """CPU seconds of the run so far, in processes that live and in those that were waited for."""
        members = processes.family(self._mark, self._driver, self._reaper)
        ticks = 0
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            fields = _stat(entry.name)
            if len(fields) < 15:
                continue
            pid, parent = int(entry.name), int(fields[1])
            is_orphan = fields[0] == b"Z" and parent == self._reaper
            if pid in members or is_orphan or (fields[0] == b"Z" and parent in members):
                ticks += sum(int(it) for it in fields[11:15])
            elif pid == self._reaper:
                ticks += int(fields[13]) + int(fields[14])
        return ticks / TICKS


def _ignores_children(pid: str) -> bool:
    """Whether a process ignores SIGCHLD."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            found = re.search(rb"SigIgn:\s+([0-9a-f]+)", file.read())
    except OSError:
        return False
    return found is not None and bool(int(found[1], 16) >> (signal.SIGCHLD - 1) & 1)


def _stat(pid: str) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return []
    return stat[stat.rfind(b")") + 2 :].split()


@dataclass
class Watch:
    """Looks at the memory of a run from outside, in a thread of the process that started it.

    It also notes the CPU time of processes whose parent ignores the end of its children, as a raylet does:
    the kernel adds it to nobody's when they end.

    It counts the proportional set size: pages shared by n processes count 1/n in each, so the sum over the
    tree is what the machine gives to it, shared memory included.
    """

    mark: str
    driver: int
    reaper: int
    samples: list[tuple[float, int]] = field(default_factory=list)
    lost: list[tuple[float, int]] = field(default_factory=list)
    """When a process that nobody waits for was last seen, and its ticks of CPU time."""
    _unwaited: dict[int, tuple[float, int]] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> Watch:
        self._thread = threading.Thread(target=self._run, name="memory watch", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def peak_bytes(self, began: float, ended: float) -> int:
        """The greatest sum between two moments; of the nearest look if there was none between them."""
        inside = [size for moment, size in self.samples if began <= moment <= ended]
        if inside:
            return max(inside)
        nearest = min(self.samples, key=lambda it: abs(it[0] - began), default=(0.0, 0))
        return nearest[1]

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            members = processes.family(self.mark, self.driver, self.reaper)
            self._note(members)
            self.samples.append((time.monotonic(), processes.memory(members).pss))

    def _note(self, members: set[int]) -> None:
        for pid in [one for one in self._unwaited if not os.path.exists(f"/proc/{one}")]:
            self.lost.append(self._unwaited.pop(pid))
        for pid in members:
            fields = _stat(str(pid))
            if len(fields) >= 15 and _ignores_children(fields[1].decode()):
                self._unwaited[pid] = (time.monotonic(), sum(int(it) for it in fields[11:15]))

    def lost_cpu_s(self, began: float, ended: float) -> float:
        """CPU seconds of processes that ended between two moments and that no parent's sum contains."""
        return sum(ticks for moment, ticks in self.lost if began <= moment <= ended) / TICKS
