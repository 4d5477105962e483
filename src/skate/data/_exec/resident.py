"""Measures the memory that a task adds to its process."""

from __future__ import annotations

import ctypes
import re

import pyarrow as pa

#: Memory that a process may keep from a task for the next one.
KEPT_BYTES = 32 << 20

_FACTS = re.compile(
    rb"VmHWM:\s+(\d+) kB.*?RssAnon:\s+(\d+) kB\s+RssFile:\s+(\d+) kB\s+RssShmem:\s+(\d+) kB", re.DOTALL
)


class Resident:
    """Measures the memory of this process that is its own: without shared memory and mapped files.

    The kernel keeps the largest resident set of a process and can be asked to forget it, so a peak between
    two looks is seen, however short it was.
    """

    def __init__(self) -> None:
        self._base: int | None = None
        self._libc: ctypes.CDLL | None = None

    def rebase(self) -> int:
        """Note the memory that the process has without tasks, and return it in bytes."""
        self._base = self._facts()[1]
        return self._base

    def begin(self) -> None:
        """Begin to measure a task."""
        if self._base is None:
            self.rebase()
        self._forget()

    def _forget(self) -> None:
        try:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        except OSError:
            pass  # not permitted here: peaks are those of the whole life of the process

    def peak(self) -> int:
        """Return the most bytes above the base since ``begin`` or the last call."""
        most, own, files, shared = self._facts()
        self._forget()
        # Pages of files and shared memory are those of now: they hardly go away within a look.
        return max(0, max(own, most - files - shared) - (self._base or 0))

    def trim(self) -> None:
        """Return memory that tasks have freed, and that allocators keep, to the system if it is much."""
        if self._facts()[1] - (self._base or 0) <= KEPT_BYTES:
            return
        pa.default_memory_pool().release_unused()
        if self._libc is None:
            self._libc = ctypes.CDLL(None)
        trim = getattr(self._libc, "malloc_trim", None)  # of glibc
        if trim is not None:
            trim(0)

    def _facts(self) -> tuple[int, int, int, int]:
        with open("/proc/self/status", "rb") as file:
            found = _FACTS.search(file.read())
        if found is None:
            return 0, 0, 0, 0
        most, own, files, shared = (int(one) << 10 for one in found.groups())
        return most, own, files, shared


#: Of this process: a worker.
resident = Resident()
