"""Lists every setting of the runtime with its default and unit; ``SKATE_<NAME>`` sets it."""

from __future__ import annotations

import os
from typing import Any, NamedTuple


class Config(NamedTuple):
    """Holds the settings of a session; every role gets them as JSON."""

    #: Results and arguments up to this size (bytes) travel inside messages and live in the owner.
    max_inline_bytes: int = 100 * 1024
    #: A function whose measured time is below this is short, and its calls are pipelined (microseconds).
    short_task_us: int = 1000
    #: The most calls in flight to one leased worker (count).
    max_pipeline_depth: int = 128
    #: The owner keeps an idle lease this long before it returns it (milliseconds).
    lease_linger_ms: int = 60
    #: A waiting thread polls for this long before it blocks (microseconds; 0: not at all): see
    #: ``_transport.spin``.
    spin_us: int = 50
    #: A worker that waits in get() releases its CPUs after this time (milliseconds).
    lend_after_ms: int = 1
    #: The most worker processes of a node, blocked ones included (count).
    max_workers: int = 1500
    #: Idle workers beyond the node's CPU count end after this time (milliseconds).
    idle_worker_ms: int = 1000
    #: The free extents that a process keeps for its next objects (bytes).
    extent_cache_bytes: int = 256 * 1024 * 1024
    #: Free shared memory goes back to the system after this time without use (milliseconds).
    store_idle_ms: int = 2000
    #: The lineage that a process keeps, so that lost results can be made again, takes at most this (bytes).
    max_lineage_bytes: int = 256 * 1024 * 1024
    #: The daemon ends workers when more than this share of the machine's or container's memory is in use
    #: (percent).
    memory_usage_percent: int = 95
    #: The same for what this session uses, in bytes (0: it has no limit of its own).
    memory_limit_bytes: int = 0
    #: The daemon checks memory at this interval while tasks run (milliseconds; 0: never).
    memory_monitor_refresh_ms: int = 250
    #: Whether processes remember where in the code each task and object was made, for `skate memory` (0 or
    #: 1).
    record_call_sites: int = 1
    #: init() waits this long for the control store and the daemon (seconds).
    start_timeout_s: int = 30
    #: The temporary folder keeps the logs of this many ended sessions (count).
    sessions_kept: int = 10

    @classmethod
    def load(cls, overrides: dict[str, Any] | None = None) -> Config:
        """Return the defaults, changed by the environment and by ``overrides``.

        Unknown keys of ``overrides`` are ignored: programs written for Ray name Ray's own knobs.
        """
        values: dict[str, int] = {}
        for name in cls._fields:
            text = os.environ.get("SKATE_" + name.upper())
            if text:
                values[name] = int(text)
        for name, value in (overrides or {}).items():
            if name in cls._fields:
                values[name] = int(value)
        return cls(**values)
