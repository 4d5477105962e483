"""Leases: demands in, grants out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from skate._base.resources import describe, fits
from skate._node.leases.records import Command, Grant, OwnerLeft, Reclaim, Refuse, StartWorkers
from skate._scheduling import requirements
from skate._scheduling.placement import Infeasible, NodeView, place
from skate._transport.connection import Connection, Handler
from skate._transport.reactor import Timer
from skate._wire import node

if TYPE_CHECKING:
    from skate._node.daemon import Daemon

#: The owner of actors' leases: the control store asked for them.
CONTROL = b""
#: A demand that waits this long asks others for their share (seconds).
_TIME_SLICE = 0.01
#: The control store hears what is free at most this often (seconds).
_REPORT_EVERY = 0.005


class LeaseHandlers:
    """The daemon's part about leases; carries out what the lease table decides."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._slice: Timer | None = None
        self._report: Timer | None = None
        self._retire: Timer | None = None
        self._reported: dict[str, int] = {}

    def table(self) -> dict[type, Handler]:
        """Return which message goes where."""
        return {node.LeaseDemand: self._demand, node.LeaseReturned: self._returned,
                node.Blocked: self._blocked}  # fmt: skip

    def _demand(self, connection: Connection, message: node.LeaseDemand) -> None:
        client = connection.peer
        environments = self._daemon.environments
        crew = environments.crew(client.job, message.environment) if message.environment else client.crew
        unfit = self.unfit(message.requirement, message.resources) if message.requirement else None
        if unfit is not None and unfit.fatal and message.count > 0:
            self.run([Refuse(client.id, message.shape, unfit.reason, fatal=True)])
            return
        environments.demand(
            client.id, message.shape, crew, message.resources, message.count, message.depth,
            unfit.reason if unfit is not None else "",
        )  # fmt: skip

    def too_large(self, resources: Mapping[str, int]) -> str:
        """Return why this node could not hold these resources if all of it were free; empty: it could."""
        total = self._daemon.leases.total
        if fits(resources, total):
            return ""
        return (
            f"it needs {describe(resources)}, and this node has "
            f"{describe({name: total.get(name, 0) for name in resources})} in all"
        )

    def unfit(self, requirement: bytes, resources: Mapping[str, int]) -> Infeasible | None:
        """Return why this node, the only one, may not serve what has this requirement; None: it may."""
        daemon = self._daemon
        leases = daemon.leases
        here = NodeView(daemon.settings.node_id, daemon.labels, leases.total, leases.free)
        found = place(requirements.decode(requirement), resources, [here])
        return found if isinstance(found, Infeasible) else None

    def _returned(self, connection: Connection, message: node.LeaseReturned) -> None:
        lease = self._daemon.leases.leases.get(message.lease)
        if lease is not None and lease.owner == connection.peer.id:
            self.run(self._daemon.leases.returned(message.lease))

    def _blocked(self, connection: Connection, message: node.Blocked) -> None:
        self.run(self._daemon.leases.blocked(connection.peer.id, message.blocked))

    # ------------------------------------------------------------------ effects

    def run(self, commands: Sequence[Command]) -> None:
        """Carry out what the lease table decided."""
        daemon = self._daemon
        for command in commands:
            if isinstance(command, Grant):
                self._grant(command)
            elif isinstance(command, StartWorkers):
                daemon.processes.start_workers(command.job, command.number)
            elif isinstance(command, Reclaim):
                owner = daemon.clients.get(command.owner)
                if owner is not None:
                    owner.connection.send(node.LeaseReclaim(command.busy))
            elif isinstance(command, Refuse):
                self._refuse(command)
            elif isinstance(command, OwnerLeft):
                worker = daemon.workers.get(command.worker)
                if worker is not None and worker.connection is not None:
                    worker.connection.send(node.OwnerLeft(command.owner))
        if daemon.closing:
            return
        if daemon.leases.leases:
            daemon.memory.watch()
        if self._slice is None and daemon.leases.waiting:
            # At once for idle leases, again each time slice while somebody waits.
            self._time_slice()
        if self._report is None and daemon.leases.free != self._reported:
            self._report = daemon.reactor.call_later(_REPORT_EVERY, self._send_report)
        if (
            self._retire is None
            and daemon.leases.worker_count > daemon.settings.resources.get("CPU", 0) // 10_000
        ):
            delay = daemon.config.idle_worker_ms / 1000
            self._retire = daemon.reactor.call_later(delay, self._retire_idle)

    def _grant(self, command: Grant) -> None:
        daemon, lease = self._daemon, command.lease
        worker = daemon.workers.get(lease.worker)
        if worker is None or daemon.leases.lease_of(lease.worker) is not lease:
            return  # an earlier command of this list ended the lease: whoever wants one still is served again
        if lease.owner == CONTROL:
            daemon.actors.granted(lease, worker)
            return
        owner = daemon.clients.get(lease.owner)
        if owner is not None:
            owner.connection.send(
                node.LeaseGranted(
                    lease.shape, lease.id, worker.id, worker.address, daemon.leases.gpus.names(lease.gpus)
                )
            )

    def _refuse(self, command: Refuse) -> None:
        daemon = self._daemon
        if command.owner == CONTROL:
            daemon.actors.refused(command.shape, command.reason, command.fatal, command.environment)
            return
        owner = daemon.clients.get(command.owner)
        if owner is not None:
            owner.connection.send(
                node.DemandRefused(command.shape, command.reason, command.fatal, command.environment)
            )

    def _time_slice(self) -> None:
        daemon = self._daemon
        self._slice = None
        commands = daemon.leases.unmet()
        if daemon.leases.waiting and not daemon.closing:
            self._slice = daemon.reactor.call_later(_TIME_SLICE, self._time_slice)
        if commands:
            for command in commands:
                assert isinstance(command, Reclaim)
                owner = daemon.clients.get(command.owner)
                if owner is not None:
                    owner.connection.send(node.LeaseReclaim(command.busy))

    def _send_report(self) -> None:
        self._report = None
        daemon = self._daemon
        self._reported = dict(daemon.leases.free)
        daemon.membership.free(self._reported)

    def _retire_idle(self) -> None:
        self._retire = None
        self._daemon.processes.retire_idle()
