"""What the daemon of this process's session says of its store and its workers."""

from __future__ import annotations

from typing import Any, NamedTuple

from skate.engine import engine


class Stored(NamedTuple):
    """How full the store is: bytes, but for ``objects``."""

    used: int
    objects: int
    capacity: int
    on_disk: int


def _rows(what: str) -> list[dict[str, Any]]:
    found = engine()
    assert found is not None
    parts, _ = found.state(what)
    return next(rows for _, kind, rows in parts if kind == "daemon")


def stored() -> Stored:
    """Return how full the store is."""
    (row,) = _rows("store")
    return Stored(*(row[name] for name in Stored._fields))


def worker_pids() -> list[int]:
    """Return the pids of the live workers."""
    return [row["pid"] for row in _rows("workers") if row["worker_type"] == "WORKER" and row["pid"]]
