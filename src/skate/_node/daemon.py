"""The node daemon: builds its parts and connects them, starts and stops them. It decides nothing.

One thread, one loop. The daemon is on the path of leases, of large objects and of deaths, never on the path
of a call. It ends when the connection of the driver that started it does.

Each part is given the context and the parts below it, by name::

    connections | reporting     processes that come and go; questions about all of it
    actors | memory | groups    lessee of the actors' workers; kills when memory runs short; placement groups
    environments | workers      demands with what they need; processes from fork to exit report
    leases | objects | cluster  tables of the node, and its link to the control store
    jobs                        drivers, configurations, output
    context                     settings, reactor, clients, log, events
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from skate._base import clock, descriptors
from skate._node.actors.service import ActorService
from skate._node.clients import Client
from skate._node.cluster.control_store_supervisor import ControlStoreSupervisor
from skate._node.cluster.membership import Membership
from skate._node.connections import Connections
from skate._node.context import NodeContext
from skate._node.environments.preparer import Preparation
from skate._node.environments.service import EnvironmentService
from skate._node.groups import GroupService
from skate._node.jobs import Jobs
from skate._node.leases.service import LeaseService
from skate._node.leases.table import LeaseTable
from skate._node.memory.monitor import MemoryMonitor, MemoryProbe
from skate._node.objects.copier import DiskCopier
from skate._node.objects.service import ObjectService
from skate._node.objects.spilling import SpillService
from skate._node.reporting.breakpoints import Breakpoints
from skate._node.reporting.deadlocks import DeadlockDetector
from skate._node.reporting.state import StateService
from skate._node.settings import NodeSettings
from skate._node.workers.launcher import Launcher, ProgressTable
from skate._node.workers.logs import WorkerLog
from skate._node.workers.service import WorkerService
from skate._node.workers.table import WorkerTable
from skate._store.segment import Segments
from skate._store.table import StoreTable
from skate._transport.acceptor import Acceptor
from skate._transport.connection import Handler, Listener
from skate._transport.reactor import Reactor
from skate._transport.streams import ListeningStream, Stream
from skate._wire import services

#: Time that drivers have to read what their workers printed last.
_LAST_OUTPUT_TIMEOUT_S = 5.0


class Effects(NamedTuple):
    """The parts through which a daemon acts on its machine: ``main`` makes them, a simulator makes others."""

    reactor: Reactor
    #: Starts and ends processes of workers, which note their progress.
    launcher: Launcher
    progress: ProgressTable
    #: Makes the log of a worker.
    open_log: Callable[..., WorkerLog]
    #: Starts the preparation of a runtime environment.
    prepare: Callable[..., Preparation]
    #: Memory and files of objects.
    segments: Segments
    copier: DiskCopier
    memory: MemoryProbe
    #: Of the head: starts the control store anew.
    supervisor: ControlStoreSupervisor | None


class Daemon:
    """One node of one session."""

    def __init__(self, settings: NodeSettings, effects: Effects) -> None:
        self._effects = effects
        self.context = context = NodeContext(settings, effects.reactor)
        self.lease_table = LeaseTable(settings.resources, context.config.max_workers, settings.gpus)
        self.worker_table = WorkerTable()
        self.store = StoreTable(settings.store_capacity)
        progress, segments = effects.progress, effects.segments

        # Calls upward, against the order in which the parts are made, go through the lambdas and lists here.
        self.jobs = Jobs(context)
        self.membership = Membership(
            context,
            self.jobs,
            handlers=lambda: self.actors.control_handlers() | self.groups.control_handlers(),
            hosted=lambda: self.actors.hosted(),
            free=lambda: self.lease_table.free,
            groups=lambda: self.groups.held(),
            joined=lambda: self.groups.joined(),
        )
        self.spilling = SpillService(
            context, self.store, segments, effects.copier, on_freed=lambda: self.objects.room()
        )
        self.objects = ObjectService(context, self.store, segments, self.spilling)
        self.leases = LeaseService(
            context,
            self.lease_table,
            start_workers=lambda pool, count: self.workers.start(pool, count),
            end_worker=lambda worker, reason: self.workers.end(worker, reason),
            on_group=lambda group, attempt: self.groups.settled(group, attempt),
            on_leases=lambda: self.memory.watch(),
            report_free=self.membership.report_free,
        )
        self.environments = EnvironmentService(context, self.jobs, self.leases, prepare=effects.prepare)
        self.workers = WorkerService(
            context,
            self.worker_table,
            progress,
            effects.launcher,
            self.jobs,
            self.leases,
            worker_config=self.environments.worker_config,
            open_log=effects.open_log,
            count_kernel_kills=effects.memory.killed_by_kernel,
        )
        self.actors = ActorService(
            context,
            self.worker_table,
            self.jobs,
            self.membership,
            self.leases,
            self.environments,
            self.workers,
        )
        self.groups = GroupService(context, self.lease_table, self.membership, self.leases)
        self.memory = MemoryMonitor(
            context,
            self.lease_table,
            self.worker_table,
            progress,
            self.store,
            self.workers,
            probe=effects.memory,
            debugged=lambda: self.breakpoints.debugged(),
        )
        self.breakpoints = Breakpoints(context, self.jobs, self.workers)
        self.state = StateService(
            context,
            self.lease_table,
            self.worker_table,
            progress,
            self.store,
            self.environments,
            self.actors,
            self.breakpoints,
        )
        self.deadlocks = DeadlockDetector(context, self.state)
        self.connections = Connections(
            context,
            self.jobs,
            self.environments,
            self.leases,
            self.objects,
            self.workers,
            shutdown=self.shutdown,
        )
        self.connections.on_disconnected = [self.objects.disconnected, self.state.disconnected]
        self.jobs.on_ended = [self.environments.job_ended, self.workers.job_ended]
        self.workers.on_ended = [
            self.breakpoints.worker_ended,
            self.objects.worker_ended,
            self.environments.worker_ended,
            self.leases.worker_ended,  # it tells the lessee: a process, or the actors
        ]
        self.handlers: dict[type, Handler] = {
            **self.connections.handlers(),
            **self.workers.handlers(),
            **self.leases.handlers(),
            **self.environments.handlers(),
            **self.objects.handlers(),
            **self.spilling.handlers(),
            **self.actors.handlers(),
            **self.state.handlers(),
            **self.deadlocks.handlers(),
            **self.breakpoints.handlers(),
        }
        context.reactor.on_turn = self.spilling.collect
        self._acceptor = Acceptor(
            context.reactor, services.NODE, self.handlers, self.connections.disconnected
        )

    def start(self, listening: ListeningStream, lifeline: Stream | None) -> None:
        """Begin to serve.

        Args:
            listening: where processes of this node connect.
            lifeline: the driver's connection with which the daemon ends; None: the daemon stays.
        """
        Listener(self.context.reactor, listening, self.accept, self._out_of_descriptors)
        if lifeline is not None:
            self.accept(lifeline, is_lifeline=True)
        if self._effects.supervisor is not None:
            self._effects.supervisor.watch(self.context.event)
        self.membership.join()

    def accept(self, sock: Stream, is_lifeline: bool = False) -> None:
        """Serve a process that connected."""
        client = Client(is_lifeline)
        client.connection = self._acceptor.accept(sock, client, patient=is_lifeline)

    def _out_of_descriptors(self, error: OSError) -> None:
        text = f"the node daemon {descriptors.explain(error)}. Processes that dial it wait for some"
        self.context.event("ERROR", "NODES", text)

    def shutdown(self, reason: str) -> None:
        """End every worker, pass on what they printed last, and stop."""
        context = self.context
        if context.closing:
            return
        context.closing = True
        context.log(f"shutting down: {reason}")
        self.environments.close()
        self._effects.launcher.close()  # the zygote kills its workers, and is reaped here
        if self._effects.supervisor is not None:
            self._effects.supervisor.close()
        self.workers.close("the session ended")
        deadline = clock.monotonic() + _LAST_OUTPUT_TIMEOUT_S
        for driver in context.clients.drivers():
            driver.connection.flush_all(deadline)
        context.reactor.stop()
