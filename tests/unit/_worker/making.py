"""Records of functions and calls, with the defaults that a test does not care about."""

from __future__ import annotations

from collections import deque
from typing import Any

from skate._base import ids
from skate._base.kinds import NONE
from skate._worker.calls.records import FunctionRecord, TaskRecord
from skate._worker.objects.refs import ObjectEntry

ME = b"me______"


def function(name: str = "f", *, depth: int = 1) -> FunctionRecord:
    """Return a function of which so many calls may be in flight to one worker."""
    record = FunctionRecord(1, name, b"", 1, (), deque())
    record.depth = depth
    return record


def call(
    seq: int,
    of: FunctionRecord | None = None,
    *,
    method: str = "",
    retries: int = 0,
    returns: list[ObjectEntry] | None = None,
    args: bytes = b"",
) -> TaskRecord:
    """Return the record of one call."""
    return TaskRecord(seq, of, method, NONE, args, returns or [], retries, 0)


def entry(seq: int, owner: bytes = ME, index: int = 0) -> ObjectEntry:
    """Return an entry that is in no table."""
    return ObjectEntry(ids.object_id(owner, seq, index), None if owner == ME else "/s/other")


def seqs(calls: Any) -> list[int]:
    """Return the numbers of some calls."""
    return [one.seq for one in calls]
