"""``ray._private.internal_api``: free objects, and show who holds which."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

from skate._ray._missing import missing
from skate.cli import memory
from skate.engine import require_engine
from skate.engine.refs import ObjectRef

__all__ = ["free", "global_gc", "memory_summary"]


def free(object_refs: ObjectRef[Any] | Sequence[ObjectRef[Any]], local_only: bool = False) -> None:
    """Give back the memory of values though refs to them are left: ``get`` then raises ObjectFreedError.

    Values without a ref are freed by themselves: this is for a ref that cannot be dropped.

    Args:
        object_refs: a ref or a list of refs. Values of other owners, of which this process holds a view, or
            that are not there yet, are left alone.
        local_only: taken for Ray's sake; there is one node.

    Raises:
        TypeError: something else than refs was passed.

    Example:
        >>> ray._private.internal_api.free([ref])
    """
    refs = [object_refs] if isinstance(object_refs, ObjectRef) else list(object_refs)
    for ref in refs:
        if not isinstance(ref, ObjectRef):
            raise TypeError(f"free() takes ObjectRefs, got {ref!r}")
    require_engine("free objects").free(refs)


def memory_summary(
    address: str | None = None,
    group_by: str = "NODE_ADDRESS",
    sort_by: str = "OBJECT_SIZE",
    units: str = "B",
    line_wrap: bool = True,
    stats_only: bool = False,
    num_entries: int | None = None,
) -> str:
    """Return what ``skate memory`` prints: objects by the line of code that made them, and who holds them.

    Args:
        address: the session's folder; None: this process's session, or the one that runs.
        group_by, sort_by, units, line_wrap, stats_only: taken for Ray's sake.
        num_entries: objects shown for each line of code; None: 20.

    Example:
        >>> print(ray._private.internal_api.memory_summary())
    """
    return "\n".join(memory.lines(memory.look(address), 20 if num_entries is None else num_entries))


def global_gc() -> None:
    """Collect garbage in this process."""
    gc.collect()


def __getattr__(name: str) -> object:
    return missing(__name__, name)
