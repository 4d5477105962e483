"""Keeps which threads stopped at a breakpoint; tells the driver of the job, and the state API."""

from __future__ import annotations

from typing import Any

from skate._node.context import NodeContext
from skate._node.events import WorkerEnded
from skate._node.jobs import Jobs
from skate._node.workers.service import WorkerService
from skate._transport.connection import Connection, Handler
from skate._wire import node


class Breakpoints:
    """The threads of this node that stopped at a breakpoint."""

    def __init__(self, context: NodeContext, jobs: Jobs, workers: WorkerService) -> None:
        self._context = context
        self._jobs = jobs
        self._workers = workers
        #: Address of a stop to its worker and what that told, the first to stop first.
        self._stops: dict[str, tuple[bytes, bytes, node.Stopped]] = {}

    def handlers(self) -> dict[type, Handler]:
        """Return the handlers of this part's messages."""
        return {node.Stopped: self._stopped, node.Resumed: self._resumed}

    def debugged(self) -> set[bytes]:
        """Return the workers that have a stopped thread."""
        return {worker for worker, _, _ in self._stops.values()}

    def rows(self) -> list[dict[str, Any]]:
        """Return a row a stop."""
        return [
            {
                "address": stop.address,
                "name": stop.name,
                "pid": stop.pid,
                "task_id": stop.task_id.hex(),
                "where": stop.where,
                "kind": stop.kind,
            }
            for _, _, stop in self._stops.values()
        ]

    def of(self, worker: bytes) -> list[node.Stopped]:
        """Return what the stopped threads of a worker told."""
        return [stop for one, _, stop in self._stops.values() if one == worker]

    def _stopped(self, connection: Connection, message: node.Stopped) -> None:
        client = connection.peer
        # A thread that lost its terminal reports its stop again.
        self._stops[message.address] = client.id, client.job, message
        self._workers.read_output(client.id)  # what it printed before it stopped is shown before
        self._tell(client.job, message)
        if self._jobs.driver_of(client.job) is None:
            self._context.log(
                f"{message.name} (process {message.pid}) stopped at {message.where}; attach: skate debug"
            )

    def _resumed(self, connection: Connection, message: node.Resumed) -> None:
        self._forget(message.address)

    def worker_ended(self, ended: WorkerEnded) -> None:
        """Forget the stops of a worker that ended."""
        for address in [one for one, stop in self._stops.items() if stop[0] == ended.worker]:
            self._forget(address)

    def _forget(self, address: str) -> None:
        found = self._stops.pop(address, None)
        if found is not None:
            self._tell(found[1], node.Resumed(address))

    def _tell(self, job: bytes, message: node.Stopped | node.Resumed) -> None:
        driver = self._jobs.driver_of(job)
        if driver is not None:
            driver.send(message)
