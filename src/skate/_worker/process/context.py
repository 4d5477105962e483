"""The ground that every part of a driver or worker stands on: identity, lock, event loop, end of the session.

It knows no part. Core builds it first and hands it to all of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from skate._base import errors, ids
from skate._base.config import Config
from skate._base.hooks import unset
from skate._transport.reactor import Reactor
from skate._worker.process.exhaustion import LockedTables


class ProcessContext:
    """Identity, lock and event loop of this process.

    Args:
        kind: "driver" or "worker".
        worker_id: names the process in its session.
        session_dir: the session's folder.
        config: the session's settings.
        reactor: the event loop, whose lock guards every table of the process.
    """

    __slots__ = ("kind", "worker_id", "session_dir", "config", "reactor", "lock", "locked", "address", "pid",
                 "in_process", "job_id", "job_owner", "node_id", "namespace", "environment", "job_config",
                 "job_facts", "counter", "captures", "dead_reason", "on_exhausted")  # fmt: skip

    def __init__(
        self, kind: str, worker_id: bytes, session_dir: str, config: Config, reactor: Reactor
    ) -> None:
        self.kind = kind
        self.worker_id = worker_id
        self.session_dir = session_dir
        self.config = config
        self.reactor = reactor
        #: Guards every table of this process.
        self.lock = reactor.lock
        #: The same lock, for a user's thread that changes tables: ``with context.locked:``.
        self.locked = LockedTables(self)
        #: Where other processes reach this one.
        self.address = os.path.join(session_dir, "s", worker_id.hex())
        self.pid = os.getpid()
        #: There are no workers: everything runs in this process (see ``_inline``).
        self.in_process = False
        self.job_id = b"\0" * ids.JOB_ID_SIZE
        #: The driver whose job this process works for.
        self.job_owner = worker_id
        self.node_id = b"\0" * ids.NODE_ID_SIZE
        self.namespace = ""
        #: The environment of this process, which its tasks and actors inherit: JSON; empty: none.
        self.environment = b""
        #: How the node starts workers of this process's job: JSON (see ``_launch.zygote``).
        self.job_config: dict[str, Any] = {}
        #: The facts of a driver's job that the control store shows: JSON.
        self.job_facts = b""
        #: The last number that was given to a task or put.
        self.counter = 0
        #: Something ran or runs here whose placement group captures the tasks and actors that it starts.
        self.captures = False
        #: Why the session is lost; empty: it is not.
        self.dead_reason = ""
        #: Ends all waits and connections when memory ran out inside the runtime. Set by Core.
        self.on_exhausted: Callable[[str], None] = unset

    @property
    def is_worker(self) -> bool:
        """Whether this process runs tasks and actors."""
        return self.kind == "worker"

    def check_usable(self) -> None:
        """Raise if the session is lost.

        Raises:
            LocalRayletDiedError: it is.
        """
        if self.dead_reason:
            raise errors.LocalRayletDiedError(self.dead_reason)

    def warn(self, text: str) -> None:
        """Print a warning on stderr."""
        print(f"skate: {text}", file=sys.stderr, flush=True)

    def next_counter(self) -> int:
        """Return a number that names a task or put of this process. Under the lock."""
        self.counter += 1
        return self.counter
