"""The holders of leases, as the lease service sees them: connected processes, and the actors of this node.

A lessee states its demands under an id of its own; the lease service tells it what became of them.
"""

from __future__ import annotations

from typing import Protocol

from skate._node.clients import Clients
from skate._node.events import WorkerEnded
from skate._node.leases.records import Lease, Refuse
from skate._wire import node


class Lessee(Protocol):
    """A holder of leases."""

    def granted(self, lease: Lease, gpus: list[str]) -> None:
        """Use the lease's worker, and these GPUs with it."""

    def refused(self, refusal: Refuse) -> None:
        """Learn that a demand is not served: not now, or (``fatal``) not at all."""

    def reclaim(self, busy: int) -> None:
        """Return the leases that are idle, and ``busy`` more as soon as their work is done."""

    def worker_died(self, lease: Lease, ended: WorkerEnded) -> None:
        """Learn that a lease is over, because the process of its worker ended."""


class ProcessLessee:
    """A driver or worker that leases workers for its tasks: learns everything over its connection."""

    def __init__(self, process: bytes, clients: Clients) -> None:
        self._process = process
        self._clients = clients

    def granted(self, lease: Lease, gpus: list[str]) -> None:
        """Send the worker's address."""
        worker = self._clients.get(lease.worker)
        if worker is not None:  # else its end is about to be read, and the demand is served again
            granted = node.LeaseGranted(lease.shape, lease.id, worker.id, worker.address, gpus)
            self._clients.send(self._process, granted)

    def refused(self, refusal: Refuse) -> None:
        """Send the reason."""
        _, shape, reason, fatal, environment, removed = refusal
        refused = node.DemandRefused(shape, reason, fatal, environment, removed)
        self._clients.send(self._process, refused)

    def reclaim(self, busy: int) -> None:
        """Ask for leases back."""
        self._clients.send(self._process, node.LeaseReclaim(busy))

    def worker_died(self, lease: Lease, ended: WorkerEnded) -> None:
        """Send the exit report, and which task the worker began last."""
        begun = ended.begun_owner, ended.begun_seq
        died = node.WorkerDied(lease.id, ended.worker, ended.cause, *begun, ended.out_of_memory)
        self._clients.send(self._process, died)
