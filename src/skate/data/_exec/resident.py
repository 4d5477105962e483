"""Measures the memory that a task adds to its process, and decides what of it the process keeps.

Allocators give freed memory back to the system, and take it again for the next row: a page fault for every
4 KiB, a fifth of the time of a process that decodes pictures. So a process keeps some between its tasks. It
gives it back once it has had no task for IDLE_S.
"""

from __future__ import annotations

import ctypes
import re
import threading
import time

import pyarrow as pa

#: Seconds without a task after which a process keeps nothing.
IDLE_S = 0.5
#: Memory above its base that a process without tasks may have: less is not worth a walk through the heap.
IDLE_BYTES = 32 << 20

#: Parameters of glibc's ``mallopt``.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_FACTS = re.compile(
    rb"VmHWM:\s+(\d+) kB.*?RssAnon:\s+(\d+) kB\s+RssFile:\s+(\d+) kB\s+RssShmem:\s+(\d+) kB", re.DOTALL
)


class Resident:
    """Measures the memory of this process that is its own: without shared memory and mapped files.

    The kernel keeps the largest resident set of a process and can be asked to forget it, so a peak between
    two looks is seen, however short it was.

    Args:
        heap: the allocators.
        idle_s: seconds without a task after which the process keeps nothing.
    """

    def __init__(self, heap: Heap, idle_s: float = IDLE_S) -> None:
        self._heap = heap
        self._idle_s = idle_s
        self._base: int | None = None
        self._kept_bytes = 0
        self._running = 0
        self._begun = 0
        self._has_work = threading.Event()
        self._watch: threading.Thread | None = None

    def rebase(self) -> int:
        """Note the memory that the process has without tasks, and return it in bytes."""
        self._base = self._facts()[1]
        return self._base

    def begin(self, kept_bytes: int) -> None:
        """Begin to measure a task. The process may keep so much memory for the next one."""
        if self._base is None:
            self.rebase()
        if kept_bytes != self._kept_bytes:
            self._kept_bytes = kept_bytes
            self._heap.keep(kept_bytes)
        self._running += 1
        self._begun += 1
        self._forget()

    def end(self) -> None:
        """End a task: give memory back that is more than the process may keep."""
        self._running -= 1
        self._trim(self._kept_bytes)
        if self._watch is None:
            self._watch = threading.Thread(target=self._trim_when_idle, name="skate-idle-memory", daemon=True)
            self._watch.start()
        self._has_work.set()

    def peak(self) -> int:
        """Return the most bytes above the base since ``begin`` or the last call."""
        most, own, files, shared = self._facts()
        self._forget()
        # Pages of files and shared memory are those of now: they hardly go away within a look.
        return max(0, max(own, most - files - shared) - (self._base or 0))

    def _trim_when_idle(self) -> None:
        while True:
            self._has_work.wait()
            begun = self._begun
            time.sleep(self._idle_s)
            if begun == self._begun and not self._running:
                self._has_work.clear()
                self._trim(IDLE_BYTES)

    def _trim(self, kept_bytes: int) -> None:
        if self._facts()[1] - (self._base or 0) > kept_bytes:
            self._heap.trim()

    def _forget(self) -> None:
        try:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        except OSError:
            pass  # not permitted here: peaks are those of the whole life of the process

    def _facts(self) -> tuple[int, int, int, int]:
        with open("/proc/self/status", "rb") as file:
            found = _FACTS.search(file.read())
        if found is None:
            return 0, 0, 0, 0
        most, own, files, shared = (int(one) << 10 for one in found.groups())
        return most, own, files, shared


class Heap:
    """The allocators of this process: the C library's, if it is glibc, and Arrow's."""

    def __init__(self) -> None:
        self._libc: ctypes.CDLL | None = None

    def keep(self, kept_bytes: int) -> None:
        """Have memory kept that is freed, up to an amount; larger pieces than half of it are mapped."""
        mallopt = getattr(self._loaded(), "mallopt", None)
        if mallopt is not None and kept_bytes:
            mallopt(_M_TRIM_THRESHOLD, kept_bytes)
            mallopt(_M_MMAP_THRESHOLD, kept_bytes // 2)

    def trim(self) -> None:
        """Return what was freed to the system."""
        pa.default_memory_pool().release_unused()
        trim = getattr(self._loaded(), "malloc_trim", None)
        if trim is not None:
            trim(0)

    def _loaded(self) -> ctypes.CDLL:
        if self._libc is None:
            self._libc = ctypes.CDLL(None)
        return self._libc


#: Of this process: a worker.
resident = Resident(Heap())
