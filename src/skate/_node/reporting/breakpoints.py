"""Who stopped at a breakpoint: told to the driver of the job, and to whoever asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skate._transport.connection import Connection, Handler
from skate._wire import node

if TYPE_CHECKING:
    from skate._node.daemon import Daemon


class BreakpointHandlers:
    """The daemon's part about breakpoints."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        #: Address of a stop to its worker and what that told, the first to stop first.
        self._stops: dict[str, tuple[bytes, bytes, node.Stopped]] = {}

    def table(self) -> dict[type, Handler]:
        """Return which message goes where."""
        return {node.Stopped: self._stopped, node.Resumed: self._resumed}

    @property
    def workers(self) -> set[bytes]:
        """The workers that have a stopped thread."""
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
        client, daemon = connection.peer, self._daemon
        # One that lost its terminal tells again.
        self._stops[message.address] = client.id, client.job, message
        log = daemon.processes.log_of(client.id)
        if log is not None:
            log.read()  # what it printed before it stopped is shown before
        self._tell(client.job, message)
        if daemon.processes.driver_of(client.job) is None:
            daemon.log(
                f"{message.name} (process {message.pid}) stopped at {message.where}; attach: skate debug"
            )

    def _resumed(self, connection: Connection, message: node.Resumed) -> None:
        self._forget(message.address)

    def ended(self, worker: bytes) -> None:
        """A worker is gone."""
        for address in [one for one, stop in self._stops.items() if stop[0] == worker]:
            self._forget(address)

    def _forget(self, address: str) -> None:
        found = self._stops.pop(address, None)
        if found is not None:
            self._tell(found[1], node.Resumed(address))

    def _tell(self, job: bytes, message: node.Stopped | node.Resumed) -> None:
        driver = self._daemon.processes.driver_of(job)
        if driver is not None:
            driver.send(message)
