"""Every knob of the runtime: its name, default, unit; each can be set as ``SKATE_<NAME>``."""

from __future__ import annotations

import os
from typing import Any, NamedTuple


class Config(NamedTuple):
    """Settings that a session is started with; handed to every role as JSON."""

    #: Results and arguments up to this many bytes travel inside messages and live in the owner.
    max_inline_bytes: int = 100 * 1024
    #: A function whose measured time is below this is short: its calls are pipelined.
    short_task_us: int = 1000
    #: The most calls in flight to one leased worker.
    max_pipeline_depth: int = 128
    #: An idle lease is kept this long before it is given back.
    lease_linger_ms: int = 60
    #: Who waits looks for so long before it sleeps (microseconds; 0: never): see ``_transport.spin``.
    spin_us: int = 50
    #: How long a worker waits in get() before it lends its CPUs.
    lend_after_ms: int = 1
    #: The most worker processes of a node, blocked ones included.
    max_workers: int = 1500
    #: Idle workers kept beyond the node's CPU count end after this time.
    idle_worker_ms: int = 1000
    #: Free extents a process keeps for its next objects.
    extent_cache_bytes: int = 256 * 1024 * 1024
    #: After this time without use, free shared memory goes back to the system.
    store_idle_ms: int = 2000
    #: What a process remembers of calls, so that lost results can be made again, takes at most this.
    max_lineage_bytes: int = 256 * 1024 * 1024
    #: Workers end before the machine's (or container's) memory is used beyond this share (percent).
    memory_usage_percent: int = 95
    #: The same for what this session uses, in bytes (0: it has no limit of its own).
    memory_limit_bytes: int = 0
    #: How often memory is looked at while anything runs (0: never).
    memory_monitor_refresh_ms: int = 250
    #: Remember where in the code each task and object was made, for `skate memory` (0: do not).
    record_call_sites: int = 1
    #: How long init() waits for the control store and the daemon.
    start_timeout_s: int = 30
    #: Sessions whose logs are kept in the temporary folder.
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
