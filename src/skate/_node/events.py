"""Events that several parts of the daemon react to. ``daemon.py`` lists the subscribers in their order."""

from __future__ import annotations

from typing import NamedTuple


class WorkerEnded(NamedTuple):
    """A worker process is dead, and everything that it sent has been read."""

    worker: bytes
    #: Its worker pool key: the job and runtime environment that it worked for.
    pool: bytes
    #: The exit report: how it ended, the evidence, where to look.
    cause: str
    #: It had said hello and could be leased.
    was_ready: bool
    #: Owner and number of the task that it began last.
    begun_owner: bytes
    begun_seq: int
    #: The actor that it was asked to become, and the incarnation.
    actor: tuple[bytes, int] | None = None
    #: Why it announced that it would leave; empty: it did not.
    left: str = ""
    #: Its end was asked for.
    intended: bool = False
    out_of_memory: bool = False
    #: It counts among starts in a row that failed: another one that failed for the same cause does not.
    counts_as_failed_start: bool = True
