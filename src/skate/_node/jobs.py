"""Jobs: their drivers, the configuration of their workers, and the output that their drivers show.

A driver is the root of a job, and so is a detached actor: its job has a parent, whose driver, or whose
parent's, shows its output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from skate._base import clock
from skate._node.clients import Client
from skate._node.context import NodeContext
from skate._transport.connection import Connection
from skate._wire import node

#: A driver with this many bytes of output that it has not read is slow: workers wait with theirs.
_MAX_QUEUED_OUTPUT_BYTES = 1 << 20


class Jobs:
    """The jobs that this node works for. All methods run on the daemon's loop."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        #: Called with a job and the reason for its end, in this order; ``daemon.py`` lists them.
        self.on_ended: list[Callable[[bytes, str], None]] = []
        self._configs: dict[bytes, bytes] = {}
        self._drivers: dict[bytes, Connection] = {}
        #: Job of a detached actor to the job that created it.
        self._parents: dict[bytes, bytes] = {}

    # ------------------------------------------------------------------ beginning and end

    def add_driver(self, client: Client, job_config: bytes) -> None:
        """Begin the job of a driver that said hello."""
        self._configs[client.job] = self._with_node_id(job_config)
        self._drivers[client.job] = client.connection

    def add_detached_actor(self, actor_id: bytes, job_config: bytes, parent: bytes) -> None:
        """Begin the job of a detached actor that is to run here."""
        self._configs[actor_id] = self._with_node_id(job_config)
        self._parents[actor_id] = parent

    def _with_node_id(self, job_config: bytes) -> bytes:
        node_id = self._context.settings.node_id
        return msgspec.json.encode(msgspec.json.decode(job_config) | {"node_id": node_id})

    def driver_left(self, client: Client) -> None:
        """Remember a driver that hung up; ``end`` ends its job."""
        self._drivers.pop(client.job, None)
        self._context.remember_ended(
            {
                "worker_id": client.id.hex(),
                "worker_type": "DRIVER",
                "pid": client.pid,
                "job": client.job.hex(),
                "state": "DEAD",
                "times": [0.0, 0.0, client.since, clock.time()],
                "exit_type": "INTENDED_USER_EXIT",
                "exit_detail": "its program ended, or left the session",
            }
        )

    def end(self, job: bytes, reason: str) -> None:
        """Have everything end that works for the job."""
        self._configs.pop(job, None)
        self._parents.pop(job, None)
        for ended in self.on_ended:
            ended(job, reason)

    # ------------------------------------------------------------------ questions

    def has(self, job: bytes) -> bool:
        """Tell whether the job's driver (or the detached actor that is its root) is still there."""
        return job in self._configs

    def config(self, job: bytes) -> bytes | None:
        """Return the configuration of the job's workers, encoded; None: the job is over."""
        return self._configs.get(job)

    def decoded_config(self, job: bytes) -> dict[str, Any]:
        """Return the configuration of a running job: variables, paths, folder."""
        found: dict[str, Any] = msgspec.json.decode(self._configs[job])
        return found

    def detached_actors(self) -> list[bytes]:
        """Return the detached actors that are the roots of jobs here."""
        return list(self._parents)

    def driver_of(self, job: bytes) -> Connection | None:
        """Return the driver that shows what happens in a job, if it is (still) there.

        Of a detached actor it is that of the actor's creator, which may be a detached actor itself.
        """
        while job in self._parents:
            job = self._parents[job]
        return self._drivers.get(job)

    # ------------------------------------------------------------------ output

    def forward(self, job: bytes, name: str, pid: int, is_error: bool, text: str) -> bool:
        """Have the job's driver show whole lines that a process printed. False: the driver is slow."""
        driver = self.driver_of(job)
        if driver is None:
            return True
        driver.send(node.LogLines(name, pid, is_error, text))
        return driver.queued_bytes < _MAX_QUEUED_OUTPUT_BYTES
