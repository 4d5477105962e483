"""The controller's actor: carries out what the tables decide, and reports what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skate.engine import require_engine
from skate.serve._client import client as clients
from skate.serve._controller import capacity, conflicts, details, store
from skate.serve._controller.application import Application
from skate.serve._controller.autoscaling import Load
from skate.serve._controller.deployment import Deployment, State
from skate.serve._controller.facts import AllFacts
from skate.serve._controller.observatory import Observatory
from skate.serve._controller.port import Port
from skate.serve._controller.replicas import Replicas
from skate.serve._controller.scaler import Scaler
from skate.serve._controller.tables import Watches, replica_table
from skate.serve._logging_config import LoggingConfig
from skate.serve._messages import Facts, Routes
from skate.serve._observing.metrics import Snapshot
from skate.serve._observing.watcher import Found
from skate.serve._replica.slots import LATE_S
from skate.serve._targets import (
    ApplicationState,
    ApplicationTarget,
    DeploymentId,
    HTTPTarget,
    with_logging,
)
from skate.serve.exceptions import RayServeException
from skate.serve.schema import ApplicationStatus, ProxyStatus, ServeStatus

logger = logging.getLogger("skate.serve")

#: How often replicas are asked how their requests end, while that decides about a version (seconds).
_COUNT_S = 0.25
#: How long an application's first callers are waited for (seconds).
_KNOWN_S = 1.0
#: How long all processes are waited for when API keys change (seconds).
_KEYS_S = 10.0


class Controller:
    """Brings about what was asked for.

    Args:
        folder: where processes pass sockets to each other.
    """

    async def __init__(self, folder: str) -> None:  # type: ignore[misc]
        self._loop = asyncio.get_running_loop()
        epoch = os.urandom(2).hex()
        #: Makes the ids of replicas: different for all applications of all times.
        self._epochs = (f"{epoch}{number:x}y" for number in itertools.count(1))
        self._applications: dict[str, Application] = {}
        self._watches = Watches()
        # Numbers of tables grow over all lives of the controller.
        self._versions = itertools.count(time.time_ns() // 1_000_000)
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake: asyncio.TimerHandle | None = None
        self._client = clients.Client(self._loop)
        self._port = Port(folder, self._client, self._spawn)
        self._replicas = replicas = Replicas(folder, self._spawn)
        replicas.reconcile, replicas.publish = self._reconcile, self._publish
        replicas.until_known, replicas.expect = self._until_known, self._watches.expect
        self._facts = AllFacts(replicas.actors)
        self._scaler = Scaler(self._spawn, self._scaled)
        self._logging = store.load_logging()
        self._capacity = store.load_capacity()
        self._shutting_down = False
        #: Applications whose replicas are asked how their requests end.
        self._counted: set[Application] = set()
        clients.use(self._client)
        require_engine("control serve").on_process_gone(
            lambda process: self._loop.call_soon_threadsafe(self._process_gone, process.hex())
        )
        await self._recover()

    # ------------------------------------------------------------------ what programs ask for

    async def start(self, http: HTTPTarget, replaces_keys: bool = False) -> HTTPTarget:
        """Answer HTTP; return where. An instance that does already stays as it is, but for its API keys.

        Args:
            http: the port and its options.
            replaces_keys: the keys of an instance that runs are replaced by these.

        Raises:
            RuntimeError: the address is in use.
        """
        if self._port.options is None:
            store.save_http(self._port.open(http))
            self._reconcile()
        elif replaces_keys and http.keys is not None:
            store.save_http(self._port.change_keys(http.keys))
            self._reconcile()
            try:
                await asyncio.wait_for(self._until_acknowledged(("routes",)), _KEYS_S)
            except asyncio.TimeoutError:
                logger.warning("some process has not taken the new API keys yet: its replica is blocked")
        assert self._port.options is not None
        return self._port.options

    async def deploy(
        self,
        targets: Sequence[ApplicationTarget],
        canaries: Mapping[str, float] | None = None,
        is_file: bool = False,
        percent: float | None = None,
    ) -> None:
        """Bring applications about. Returns when that is stored; ``outcome`` says when it is done.

        Args:
            targets: what they are to be.
            canaries: applications that are to run beside their present version, with their share of the
                requests (percent); others replace it.
            is_file: they are all that a config file names: others that came from a file are removed.
            percent: the part of their replicas that the file wants to run; None: all.

        Raises:
            RayServeException: the route prefix is that of another application. Nothing was changed.
        """
        targets = [with_logging(target, self._logging) for target in targets]
        names = {one.name for one in targets}
        others = {
            name: one for name, one in self._applications.items() if name not in names and not one.is_deleting
        }
        dropped = [name for name, one in others.items() if is_file and one.target.config is not None]
        staying = {name: one.target for name, one in others.items() if name not in dropped}
        present = {
            name: one.target
            for name, one in self._applications.items()
            if (canaries or {}).get(name) and not one.is_deleting
        }
        conflicts.check(targets, staying, present)
        if is_file:
            is_first = all(one.target.config is None for one in self._applications.values())
            self._capacity = capacity.changed(self._capacity, percent, is_first)
            store.save_capacity(self._capacity)
        for name in dropped:
            self._delete(others[name])
        for target in targets:
            canary = (canaries or {}).get(target.name, 0)
            known = self._applications.get(target.name)
            if known is None:
                state = ApplicationState(target, capacity=self._capacity if is_file else None)
                known = Application(state, next(self._epochs))
                self._applications[target.name] = known
            elif canary and not known.is_deleting:
                known.try_out(target, canary)
            else:
                known.deploy(target, self._capacity if is_file else None)
            store.save_application(known.state)
            store.save_numbers(target.name, known.numbers)
        self._reconcile()

    async def promote(self, name: str) -> int:
        """See ``Application.promote``; return the number of the target for ``outcome``."""
        return self._change_version(name, Application.promote)

    async def roll_back(self, name: str) -> int:
        """See ``Application.roll_back``; return the number of the target for ``outcome``."""
        return self._change_version(name, Application.roll_back)

    def _change_version(self, name: str, change: Callable[[Application, int, float], None]) -> int:
        one = self._existing(name)
        change(one, number := time.time_ns(), time.time())
        store.save_application(one.state)
        self._reconcile()
        return number

    def _existing(self, name: str) -> Application:
        one = self._applications.get(name)
        if one is None or one.is_deleting:
            raise RayServeException(f"Application {name!r} does not exist.")
        return one

    async def scale(self, name: DeploymentId, num_replicas: int) -> None:
        """Change the number of a deployment's replicas, for a program outside.

        Raises:
            KeyError: there is no such deployment.
            RayServeException: its application is not for that.
            ValueError: the number follows the load.
        """
        if not await self.has_deployment(name):
            raise KeyError(str(name))
        one = self._applications[name.app_name]
        one.scale(name.name, num_replicas)
        store.save_application(one.state)
        self._reconcile()

    async def outcome(self, name: str, number: int) -> str:
        """Wait until an application is as it was asked for, or cannot be; return "" or the reason."""
        while True:
            one = self._applications.get(name)
            if one is None:
                return "it was deleted meanwhile"
            if one.number > number:
                return "" if one.outcome == "" else "it was deployed again meanwhile"
            if one.outcome is not None:
                break
            await self._change()
        failure = one.outcome
        # Callers that knew a deployment as deleted refuse requests until they have its table. One that is
        # blocked is not waited for.
        known = (self._until_known(DeploymentId(deployment, name)) for deployment in one.deployments)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.gather(*known), _KNOWN_S)
        return failure

    async def delete(self, name: str) -> None:
        """Remove an application, and wait until nothing of it is left."""
        one = self._applications.get(name)
        if one is None:
            return
        self._delete(one)
        self._reconcile()
        while self._applications.get(name) is one and one.is_deleting:
            await self._change()

    def _delete(self, one: Application) -> None:
        one.delete()
        store.save_application(one.state)  # a controller that is restarted goes on with it

    async def shutdown(self) -> None:
        """Remove everything."""
        self._shutting_down = True
        names = list(self._applications)
        await asyncio.gather(*(self.delete(name) for name in names))
        self._replicas.close()
        store.forget_all()
        self._scaler.close()
        for task in self._tasks:
            task.cancel()
        self._port.close()
        self._client.close()

    async def status(self) -> ServeStatus:
        """Return how everything stands."""
        http = self._port.options
        proxies = {} if http is None else {f"{http.host}:{http.port}": ProxyStatus.HEALTHY}
        now = self._loop.time()
        found = {name: one.status(now) for name, one in self._applications.items()}
        return ServeStatus(proxies, found, self._capacity and self._capacity.percent)

    async def blocked(self, name: DeploymentId, replica: str, place: str) -> None:
        """User code blocks the loop of a replica, or (place: "") does so no longer."""
        one = self._applications.get(name.app_name)
        found = one.deployments.get(name.name) if one is not None else None
        if found is not None:
            found.blocked(replica, place, self._loop.time())
            if place:
                logger.warning("replica %s of %s is blocked in %s", replica, name, place)
            self._publish()

    async def log(self, config: LoggingConfig) -> None:
        """Set the logging of replicas whose application and deployment say nothing; the first call counts."""
        if self._logging is None:
            self._logging = config
            store.save_logging(config)

    async def metrics(self) -> bytes:
        """Return the metrics of all processes, as text for Prometheus."""
        return await self._observatory.page(
            {
                replica.id: name
                for name, found in self._deployments().items()
                for replica in found.replicas.values()
                if replica.state is State.RUNNING
            }
        )

    async def snapshots(self) -> dict[str, Snapshot]:
        """Return the series of each process."""
        return await self._observatory.snapshots()

    async def find(self, request_id: str) -> tuple[dict[str, Found], list[str]]:
        """Return what each process knows of a request, and the processes that did not answer."""
        return await self._observatory.ask("request", request_id)

    async def details(self) -> dict[str, Any]:
        """Return all that is known of the applications, as plain data."""
        http, actors = self._port.options, self._replicas.actors
        return details.of_instance(self._applications, http, actors, self._capacity, self._loop.time())

    async def http(self) -> HTTPTarget | None:
        """Return where HTTP is answered."""
        return self._port.options

    async def ingress(self, name: str) -> str | None:
        """Return the deployment that is the entrance of an application; None: there is no such
        application."""
        one = self._applications.get(name)
        return None if one is None or one.is_deleting else one.target.ingress

    async def has_deployment(self, name: DeploymentId) -> bool:
        """Tell whether there is such a deployment."""
        one = self._applications.get(name.app_name)
        return one is not None and not one.is_deleting and name.name in one.target.deployments

    async def replicas(self, name: DeploymentId) -> dict[str, Any]:
        """Return the handles of a deployment's running replicas, by id."""
        one = self._applications[name.app_name].deployments[name.name]
        return {
            replica.id: self._replicas.actors[replica.id]
            for replica in one.replicas.values()
            if replica.state is State.RUNNING
        }

    async def watch(self, watcher: str, what: Any, version: int) -> Any:
        """Return a table once its version is another one; see ``tables.py``."""
        future: asyncio.Future[Any] = self._loop.create_future()
        table = self._watches.of(what)
        if table.value is None:
            table.publish(self._table(what))

        def answer(value: Any) -> None:
            if not future.done():
                future.set_result(value)

        table.ask(watcher, version, answer)
        self._notify()
        return await future

    # ------------------------------------------------------------------ tables

    def _table(self, what: Any) -> Any:
        if what[0] == "routes":
            routes = (one.route(self._doors_of(one)) for one in self._applications.values())
            return Routes(
                next(self._versions), tuple(route for route in routes if route is not None), self._port.keys
            )
        name: DeploymentId = what[1]
        if what[0] == "facts":
            return self._facts.table(next(self._versions), name)
        one = self._applications.get(name.app_name)
        return replica_table(next(self._versions), name, one, self._replicas.actors)

    def _doors_of(self, one: Application) -> tuple[str, ...]:
        ingress = one.deployments.get(one.entrance)
        if ingress is None:
            return ()
        return tuple(
            replica.id
            for replica in ingress.replicas.values()
            if replica.state is State.RUNNING and replica.id in self._replicas.doors
        )

    def _publish(self) -> None:
        """Publish the tables that differ from what was published."""
        for what in self._watches.names():
            table = self._watches.of(what)
            new = self._table(what)
            old = table.value
            if old is None or type(old)(**{**old.__dict__, "version": new.version}) != new:
                table.publish(new)
        if not self._shutting_down:
            is_awaited = any(
                one.status(0.0).status is ApplicationStatus.DEPLOYING and one.target.route_prefix is not None
                for one in self._applications.values()
            )
            self._port.answer(self._table(("routes",)), bool(self._replicas.doors), is_awaited)

    # ------------------------------------------------------------------ reconciling

    def _reconcile(self) -> None:
        """Decide, carry out, publish. Called after every event; on the loop."""
        now = self._loop.time()
        wait = float("inf")
        for app_name, one in list(self._applications.items()):
            self._check(one, now)
            for name, found in list(one.deployments.items()):
                found.is_limited, found.can_surge = self._replicas.room_for(found)
                for command in found.decide(now):
                    self._replicas.perform(
                        command, DeploymentId(name, app_name), found, one.target, self._port.options
                    )
                wait = min(wait, found.wait_s(now) or wait)
            self._replicas.open_doors(one, self._port.options)
            if self._check(one, now):
                self._loop.call_soon(self._reconcile)
            if one.is_gone:
                del self._applications[app_name]
                store.forget_application(app_name)
            wait = min(wait, one.wait_s(now) or wait)
        targets = {name: one.target for name, one in self._applications.items()}
        self._scaler.follow(self._deployments(), targets)
        self._publish()
        self._notify()
        if wait < float("inf"):
            if self._wake is not None:
                self._wake.cancel()
            self._wake = self._loop.call_later(wait + 0.001, self._reconcile)

    def _deployments(self) -> dict[DeploymentId, Deployment]:
        return {
            DeploymentId(name, app_name): found
            for app_name, one in self._applications.items()
            for name, found in one.deployments.items()
        }

    def _check(self, one: Application, now: float) -> bool:
        """Have an application draw its conclusions; tell whether it changed."""
        is_changed = one.checked(now)
        if is_changed:
            store.save_application(one.state)
        if one.is_watched and one not in self._counted:
            self._counted.add(one)
            self._spawn(self._count(one))
        return is_changed

    async def _count(self, one: Application) -> None:
        """Ask the replicas of an application how their requests end, as long as it matters."""
        while one.is_watched and self._applications.get(one.target.name) is one:
            await asyncio.gather(*(self._replicas.count(found) for found in one.deployments.values()))
            self._reconcile()
            await asyncio.sleep(_COUNT_S)
        self._counted.discard(one)

    async def report(self, name: DeploymentId, source: str, running: float, queued: float) -> None:
        """Take a process's part of a deployment's load: see ``Reporter``."""
        self._scaler.reported(name, source, Load(running, queued))

    async def record(self, name: DeploymentId, replica: str, values: dict[str, float]) -> None:
        """Take what user code of a replica says of itself to autoscaling policies."""
        self._scaler.recorded(name, replica, values)

    async def note(self, name: DeploymentId, replica: str, facts: Facts) -> None:
        """Take what a replica says of itself."""
        self._facts.noted(name, replica, facts)
        self._publish()

    def _scaled(self, name: DeploymentId) -> None:
        one = self._applications[name.app_name]
        one.scaled(name.name)
        store.save_numbers(name.app_name, one.numbers)
        self._reconcile()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self) -> None:
        await self._changed.wait()

    def _spawn(self, coroutine: Any) -> None:
        # As a part of no call: it would be cancelled with that.
        task = contextvars.Context().run(self._loop.create_task, coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _process_gone(self, process: str) -> None:
        self._forget(process)
        # Its last calls may be tasks that have not begun yet: the news of its end overtakes them.
        self._loop.call_later(LATE_S, self._forget, process)

    def _forget(self, process: str) -> None:
        self._scaler.gone(process)
        if self._watches.gone(process):
            self._notify()

    async def _until_known(self, name: DeploymentId) -> None:
        """Wait until every router and entrance has the tables as they are now."""
        await self._until_acknowledged(("deployment", name), ("routes",))

    async def _until_acknowledged(self, *names: Any) -> None:
        tables = [self._watches.of(name) for name in names]
        versions = [one.version for one in tables]
        while not all(one.is_known_to_all(version) for one, version in zip(tables, versions, strict=True)):
            await self._change()

    # ------------------------------------------------------------------ after a restart

    async def _recover(self) -> None:
        """Find what the controller before has left. Traffic went on meanwhile; no replica is restarted."""
        applications, rows, http = store.load()
        self._observatory = self._replicas.observatory = Observatory(
            self._client, self._replicas.actors, {row.id for row in rows}
        )
        for state in applications:
            self._applications[state.target.name] = Application(state, next(self._epochs))
        await self._replicas.adopt(rows, self._deployments())
        if http is not None:
            await self._port.reopen(http, self._replicas.holders())
        self._reconcile()
