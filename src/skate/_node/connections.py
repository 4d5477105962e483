"""Admits processes by their hello, and releases what they held when they hang up."""

from __future__ import annotations

from collections.abc import Callable

from skate._base import clock, ids
from skate._node.clients import Client
from skate._node.context import NodeContext
from skate._node.environments.service import EnvironmentService
from skate._node.jobs import Jobs
from skate._node.leases.lessee import ProcessLessee
from skate._node.leases.service import LeaseService
from skate._node.objects.service import ObjectService
from skate._node.workers.service import WorkerService
from skate._node.workers.table import WorkerProcess
from skate._transport.connection import Connection, Handler
from skate._wire import node
from skate._wire.codec import pack
from skate._wire.handshake import WRONG_PEER, Refused

#: Workers that are started as soon as a driver says hello, at most.
_MAX_PRESTARTED_WORKERS = 8


class Connections:
    """The connections of drivers, workers and observers.

    Args:
        context: of the daemon.
        jobs, environments, leases, objects, workers: hear of processes that come and go.
        shutdown: ends the session, for this reason.
    """

    def __init__(
        self,
        context: NodeContext,
        jobs: Jobs,
        environments: EnvironmentService,
        leases: LeaseService,
        objects: ObjectService,
        workers: WorkerService,
        *,
        shutdown: Callable[[str], None],
    ) -> None:
        self._context = context
        self._jobs = jobs
        self._environments = environments
        self._leases = leases
        self._objects = objects
        self._workers = workers
        #: Called with each process that hung up, in this order; ``daemon.py`` lists them.
        self.on_disconnected: list[Callable[[bytes], None]] = []
        self._shutdown = shutdown

    def handlers(self) -> dict[type, Handler]:
        """Return the handlers of this part's messages."""
        return {node.Hello: self._hello, node.Shutdown: self._shutdown_asked}

    def _hello(self, connection: Connection, hello: node.Hello) -> None:
        client: Client = connection.peer
        if len(hello.worker_id) != ids.WORKER_ID_SIZE or hello.worker_id in self._context.clients:
            # Ids are made at random; those of another length are names of lessees that are no processes.
            what = f"says that its id is {hello.worker_id.hex()!r}, which is none or another process's"
            connection.refuse(Refused(WRONG_PEER, what))
            return
        worker = self._workers.connected(connection, hello) if hello.kind == "worker" else None
        if worker is None and hello.kind == "worker":
            connection.refuse(Refused(WRONG_PEER, "is not a worker that this daemon started"))
            return
        client.id, client.kind, client.pid = hello.worker_id, hello.kind, hello.pid
        client.address, client.since = hello.address, clock.time()
        if hello.kind == "driver":
            self._driver_came(client, hello)
        elif worker is not None:
            self._worker_came(client, worker, hello)

    def _driver_came(self, client: Client, hello: node.Hello) -> None:
        context = self._context
        client.job = client.id
        self._jobs.add_driver(client, hello.job_config)
        client.connection.send(node.Welcome(context.node_id, pack(context.config._asdict())))
        client.pool = self._environments.pool(client.job, hello.environment)
        self._register(client)
        count = min(max(context.cpu_count, 1), _MAX_PRESTARTED_WORKERS)
        self._environments.start_ahead(client.id, client.pool, count)

    def _worker_came(self, client: Client, worker: WorkerProcess, hello: node.Hello) -> None:
        client.job, client.pool = worker.job, worker.pool
        if hello.error:
            self._environments.hook_failed(worker.pool, hello.error)
            client.connection.close("its setup hook failed")
            return
        self._register(client)
        self._workers.ready(worker)

    def _register(self, client: Client) -> None:
        self._context.clients.add(client)
        self._leases.add_lessee(client.id, ProcessLessee(client.id, self._context.clients))

    def disconnected(self, connection: Connection) -> None:
        """Release what a process held whose stream ended; a worker's is released when it is dead, too."""
        client: Client = connection.peer
        if client.is_lifeline:
            self._shutdown("the driver of this session ended")
            return
        if self._context.clients.remove(client):
            for disconnected in self.on_disconnected:
                disconnected(client.id)
        if client.kind == "driver":
            self._driver_left(client)
        elif client.kind == "worker":
            self._workers.disconnected(client.id)

    def _driver_left(self, client: Client) -> None:
        self._jobs.driver_left(client)
        self._environments.lessee_gone(client.id)
        self._jobs.end(client.job, "the driver of its job ended")
        self._objects.process_ended(client.id)
        self._leases.lessee_gone(client.id)

    def _shutdown_asked(self, connection: Connection, message: node.Shutdown) -> None:
        client: Client = connection.peer
        if client.is_lifeline:
            self._shutdown("the driver asked for it")
        elif client.kind == "driver":
            self._leave(client)
        elif self._context.settings.driver_fd < 0:
            self._shutdown("it was asked to stop")

    def _leave(self, client: Client) -> None:
        """End the job of one driver of several, and send it what its workers printed last."""
        self._jobs.end(client.job, "the driver of its job ended")
        self._workers.drain_output(client.job)
        client.connection.send(node.Shutdown())
