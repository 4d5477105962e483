"""The life of a runtime, in one sequence: import, init, first task, idle memory, shutdown."""

from __future__ import annotations

import importlib
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks import processes
from benchmarks.measure import Runtime, Sample, expect

IMPORT_REPEATS = 3
IMPORT_SCRIPT = "import time; t = time.perf_counter(); import {0}; print(time.perf_counter() - t)"
INLINE_SCRIPT = """import time
began = time.perf_counter()
import skate
imported = time.perf_counter()
skate.init(mode="inline", num_cpus=2)
assert skate.get(skate.remote(lambda: "done").remote()) == "done"
print(imported - began, time.perf_counter() - began)
"""
SETTLE_TRIES = 12
SETTLE_INTERVAL_S = 0.5
SETTLED_WITHIN = 0.01
WARM_TRIES = 20


def start(runtime: Runtime, **options: Any) -> None:
    """Start a local cluster of two CPUs, without what a comparison of the core should not pay for."""
    runtime.init(num_cpus=2, include_dashboard=False, log_to_driver=False, **options)


def warm_two_workers(runtime: Runtime) -> None:
    """Return once two tasks have run at the same time in two workers."""

    def nap(seconds: float) -> int:
        import os
        import time

        time.sleep(seconds)
        return os.getpid()

    remote_nap = runtime.remote(nap)
    for _ in range(WARM_TRIES):
        if len(set(runtime.get([remote_nap.remote(0.2) for _ in range(2)]))) == 2:
            return
    raise RuntimeError(f"two sleeping tasks never ran in two workers in {WARM_TRIES} tries")


class Startup:
    """One runtime from import to shutdown. Call the methods in the order in which they stand here."""

    def __init__(self, module: str, mark: str) -> None:
        """`mark` is what the environment of every process of this run carries (see `processes.family`)."""
        self._module = module
        self._mark = mark
        self._runtime: Any = None
        self._init_s = 0.0
        self._first_task_s = 0.0

    def import_time(self) -> Sample:
        """`import` in a fresh interpreter which imported only `time` before; median of 3 interpreters; ms."""
        command = [sys.executable, "-c", IMPORT_SCRIPT.format(self._module)]
        runs = [
            1000 * float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            for _ in range(IMPORT_REPEATS)
        ]
        return Sample(statistics.median(runs), {"runs": runs})

    def inline_first_task(self) -> Sample:
        """The in-process mode in a fresh interpreter, from before `import skate` to the first result; median
        of 3 interpreters; ms. `import`: how much of it that was."""
        runs = []
        for _ in range(IMPORT_REPEATS):
            command = [sys.executable, "-c", INLINE_SCRIPT]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            runs.append([1000 * float(part) for part in out.split()])
        return Sample(
            statistics.median(whole for _, whole in runs),
            {"runs": [whole for _, whole in runs], "import": statistics.median(part for part, _ in runs)},
        )

    def init(self) -> Sample:
        """From calling `init(num_cpus=2)` to its return, in a process that has imported the module; ms."""
        self._runtime = importlib.import_module(self._module)
        began = time.perf_counter()
        start(self._runtime)
        self._init_s = time.perf_counter() - began
        return Sample(1000 * self._init_s)

    def first_task(self) -> Sample:
        """Right after `init`: declare a task, call it, get its result; includes starting its worker; ms."""
        began = time.perf_counter()

        def first() -> str:
            return "done"

        result = self._runtime.get(self._runtime.remote(first).remote())
        self._first_task_s = time.perf_counter() - began
        expect(result, "done")
        return Sample(1000 * self._first_task_s)

    def init_first_task(self) -> Sample:
        """The sum of the two: from `init` to the first result in hand; ms."""
        return Sample(1000 * (self._init_s + self._first_task_s))

    def idle_memory(self) -> Sample:
        """What the runtime holds while nothing runs; MB (10^6 bytes) of PSS.

        After two tasks have run at once in two workers, and once the sum has settled. PSS divides a page
        among the processes that map it, so the sum over processes counts shared pages once; pages shared with
        the driver or with strangers count in part. Counted are all processes of the run but the driver (see
        `processes.family`). Pages of shared memory that no process maps are not in it. Private (USS) and
        resident (RSS) sums go into the JSON beside it.
        """
        warm_two_workers(self._runtime)
        before = 0.0
        for _ in range(SETTLE_TRIES):
            time.sleep(SETTLE_INTERVAL_S)
            memory = processes.memory(self._others())
            if memory.pss and abs(memory.pss - before) <= SETTLED_WITHIN * memory.pss:
                break
            before = memory.pss
        if not memory.pss:
            raise RuntimeError(
                "found no process of the runtime beside the driver, or no /proc/PID/smaps_rollup"
            )
        info = {"processes": memory.processes, "uss_mb": memory.uss / 1e6, "rss_mb": memory.rss / 1e6}
        return Sample(memory.pss / 1e6, info)

    def shutdown(self) -> Sample:
        """From calling `shutdown()` to its return; ms. The JSON says how many processes were left then."""
        began = time.perf_counter()
        self._runtime.shutdown()
        elapsed = time.perf_counter() - began
        return Sample(1000 * elapsed, {"processes_left": len(self._others())})

    def _others(self) -> set[int]:
        return processes.family(self._mark, os.getpid(), os.getppid()) - {os.getpid()}
