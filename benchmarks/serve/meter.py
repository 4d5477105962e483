"""CPU time and memory of the servers of a run: all its processes but the driver and the load generators."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from benchmarks import processes

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Mark:
    """A moment, and the CPU seconds until then."""

    at: float
    cpu_s: float


class ServerMeter:
    """Measures from the driver of a run.

    Args:
        run: the mark of the run.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._others = {os.getpid()}
        self._reaper = os.getppid()
        self._idle_share = 0.0

    def leave_out(self, pid: int) -> None:
        """A process that is no server."""
        self._others.add(pid)

    def servers(self) -> set[int]:
        return processes.family(self._run, os.getpid(), self._reaper) - self._others

    def memory_mb(self) -> float:
        """Their proportional set size, in 10^6 bytes."""
        return processes.memory(self.servers()).pss / 1e6

    def mark(self) -> Mark:
        return Mark(time.monotonic(), sum(map(_cpu_s, self.servers())))

    def since(self, mark: Mark) -> float:
        """CPU seconds since a mark, beyond what the servers take while idle."""
        now = self.mark()
        return max(0.0, now.cpu_s - mark.cpu_s - self._idle_share * (now.at - mark.at))

    def learn_idle(self, seconds: float) -> float:
        """Measure what the servers take with nothing to do; returns it in CPUs."""
        self._idle_share = 0.0
        before = self.mark()
        time.sleep(seconds)
        self._idle_share = self.since(before) / (time.monotonic() - before.at)
        return self._idle_share


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process, all threads, with those of children that it has waited for."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return 0.0
    return sum(map(int, stat[stat.rfind(b")") + 2 :].split()[11:15])) / TICKS
