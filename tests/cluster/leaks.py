"""Nothing outlives a test: no object, reference, process, descriptor, thread or mapping."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path
from typing import NamedTuple

import skate
from skate._worker.process import current

from . import processes
from .stored import stored
from .waiting import wait_until_none


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the one that listed them
    return found


def _mappings() -> list[str]:
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line for line in lines if "/memfd:skate-" in line]


def kept() -> str:
    """Return what the session still holds: objects in the store, references of the driver."""
    gc.collect()
    core = current.process.core
    assert core is not None
    report = stored()
    entries = list(core.refs.entries.values())
    if report.objects or report.used or report.on_disk or entries:
        return (
            f"{report.objects} objects of {report.used} bytes in the store and {report.on_disk} on disk; "
            f"references: {entries[:5]}"
        )
    return ""


def wait_until_empty() -> None:
    """Wait until nothing refers to anything any more, in the whole session."""
    wait_until_none(kept, "something in the store or in the driver's table")


def end_session(*, expect_empty: bool) -> None:
    """End the session that runs, if any; it holds nothing by now."""
    core = current.process.core
    if core is None:
        return
    try:
        # A test that killed the daemon has no store to look at; one that failed has refs in its report.
        if expect_empty and not core.context.dead_reason:
            wait_until_empty()
    finally:
        skate.shutdown()


class Before(NamedTuple):
    """What this process had before a test."""

    descriptors: dict[int, str]
    threads: set[threading.Thread]

    @classmethod
    def now(cls) -> Before:
        """Look."""
        assert not skate.is_initialized(), "a session runs already"
        return cls(_descriptors(), set(threading.enumerate()))

    def _left(self) -> list[str]:
        gc.collect()
        left = [f"process {pid}: {argv[-1]:.200}" for pid, argv in processes.of_driver(os.getpid()).items()]
        for fd, target in _descriptors().items():
            if self.descriptors.get(fd) != target:
                left.append(f"descriptor {fd}: {target}")
        left += [f"thread {one.name}" for one in threading.enumerate() if one not in self.threads]
        return left + _mappings()

    def assert_nothing_left(self) -> None:
        """Wait until all that the test brought is gone."""
        assert not skate.is_initialized(), "a session still runs"
        wait_until_none(self._left, "what the test started")
