"""The replicas' actors: starts, follows, drains and ends them, and reports what came of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from skate import api
from skate.exceptions import RayError, RayTaskError
from skate.serve._controller import adoption, store
from skate.serve._controller import deployment as decisions
from skate.serve._controller.application import Application
from skate.serve._controller.deployment import Deployment, State
from skate.serve._controller.groups import PREFIX, Groups, room_for
from skate.serve._controller.observatory import Observatory
from skate.serve._http.sharing import CONTROLLER_DOOR
from skate.serve._observing import metrics
from skate.serve._observing.watcher import OBSERVING
from skate.serve._placement import resources_of
from skate.serve._replica.replica import Replica
from skate.serve._targets import (
    NAMESPACE,
    ApplicationTarget,
    DeploymentId,
    DeploymentTarget,
    HTTPTarget,
    Settings,
)

logger = logging.getLogger("skate.serve")

#: A replica is unhealthy after so many failed checks.
_STRIKES = 3
#: Beyond its own time limit, a replica's drain is waited for no longer than this (seconds).
_MARGIN_S = 5.0
#: How long routers may take to acknowledge that a replica left their table (seconds), until the deployment
#: goes on without it; and how long the replica waits then, for one that stands still and sends requests yet.
_ACKNOWLEDGE_S, _LINGER_S = 10.0, 60.0
#: How long a replica may take to say how its requests ended, or how it stands (seconds).
_COUNT_TIMEOUT_S = 1.0
#: How often the resources of a replica that does not start are looked at (seconds).
_LOOK_S = 1.0
#: A replica that has not started after this time is reported (seconds).
_SLOW_START_S = 30.0


class Replicas:
    """The actors of all replicas. It reports what happened to the deployments' tables.

    Args:
        folder: where processes pass sockets to each other.
        spawn: starts a coroutine that nobody waits for.
    """

    #: Hooks of the controller: decide again; publish the tables; wait until all that watch a deployment's
    #: table have it.
    reconcile: Callable[[], None]
    publish: Callable[[], None]
    until_known: Callable[[DeploymentId], Awaitable[None]]
    #: Hook of the controller: a watcher has a table of the controller before.
    expect: Callable[[Any, str], None]
    #: Sees what the replicas have counted, before and after their ends.
    observatory: Observatory

    def __init__(self, folder: str, spawn: Callable[[Any], None]) -> None:
        self._folder = folder
        self._spawn = spawn
        self._loop = asyncio.get_running_loop()
        #: By replica.
        self.actors: dict[str, Any] = {}
        #: Running replicas that take connections, and replicas that may take some already.
        self.doors: set[str] = set()
        self._opening: set[str] = set()
        self._groups = Groups()

    def perform(
        self,
        command: decisions.Command,
        name: DeploymentId,
        found: Deployment,
        application: ApplicationTarget,
        http: HTTPTarget | None,
    ) -> None:
        """Carry out what a deployment decided.

        Args:
            command: the decision.
            name, found: the deployment.
            application: to which it belongs.
            http: the port; None: there is none.
        """
        if isinstance(command, decisions.End):
            if command.replica in self._opening:  # it may have accepted connections
                self._spawn(self.retire(name, found, command.replica))
            else:
                self.end(found, command.replica)
            return
        if isinstance(command, decisions.Start):
            is_door = application.ingress == name.name and application.route_prefix is not None
            self._spawn(self._start(name, found, command.replica, http if is_door else None))
        elif isinstance(command, decisions.Change):
            assert found.target is not None
            rank = found.replicas[command.replica].rank
            self._spawn(self._change(command.replica, found.target.settings, rank))
        else:
            self._spawn(self.retire(name, found, command.replica))

    def open_doors(self, application: Application, http: HTTPTarget | None) -> None:
        """Have running replicas of the entrance take connections that did not until now: HTTP did not reach
        the application when they started."""
        if http is None or not application.has_http:
            return
        name = DeploymentId(application.entrance, application.target.name)
        found = application.deployments[name.name]
        for replica in [one.id for one in found.replicas.values() if one.state is State.RUNNING]:
            if replica not in self.doors and replica not in self._opening:
                self._opening.add(replica)
                self._spawn(self._open_door(name, found, replica, http))

    async def _open_door(self, name: DeploymentId, found: Deployment, replica: str, http: HTTPTarget) -> None:
        try:
            await self.actors[replica].open.remote(http, [CONTROLLER_DOOR, *self.doors])
        except Exception:
            # It serves requests that others accept; the next decision tries again.
            logger.exception("replica %s of %s does not take connections", replica, name)
            return
        finally:
            self._opening.discard(replica)
        if _is_running(found, replica):
            target = found.replicas[replica]
            store.save_replica(
                store.ReplicaRow(replica, name.app_name, name.name, target.version, True, True)
            )
            self.doors.add(replica)
            self.publish()

    def room_for(self, found: Deployment) -> tuple[bool, bool]:
        """Tell whether a deployment's replicas hold resources, and whether there is room for one more."""
        target = found.target
        return (False, True) if target is None or found.is_settled else room_for(target)

    # ------------------------------------------------------------------ life of one

    async def _start(
        self, name: DeploymentId, found: Deployment, replica: str, http: HTTPTarget | None
    ) -> None:
        target = found.target
        if target is None or replica not in found.replicas:
            return
        slow: asyncio.TimerHandle | None = None
        row = store.ReplicaRow(replica, name.app_name, name.name, target.version, http is not None)
        store.save_replica(row)
        try:
            options = {key: value for key, value in target.actor_options.items() if value is not None}
            options |= self._groups.reserve(replica, _actor_name(row), target)
            if target.bundles or resources_of(target.actor_options):
                self._spawn(self._follow_start(found, replica, target))
            actor = api.remote(
                name=_actor_name(row),
                namespace=NAMESPACE,
                lifetime="detached",
                max_concurrency=1_000_000,
                concurrency_groups={OBSERVING: 16},
                **options,
            )(Replica).remote(replica, name, target, self._folder, found.replicas[replica].rank)
            self.actors[replica] = actor
            slow = self._loop.call_later(_SLOW_START_S, report_slow_start, replica, name)
            await actor.start.remote()
            if http is not None:
                self._opening.add(replica)
                await actor.open.remote(http, [CONTROLLER_DOOR, *self.doors])
            store.save_replica(replace(row, is_ready=True))
            await actor.ready.remote()
        except Exception as error:
            if _state_of(found, replica) is State.RETIRING:
                return  # it was ended while it opened its door
            if replica in found.replicas:
                found.start_failed(replica, str(error), self._loop.time())
                logger.warning(
                    "replica %s of %s (application %s) did not start", replica, name.name, name.app_name
                )
            self._kill(replica)
            self.reconcile()
            return
        finally:
            self._opening.discard(replica)
            if slow is not None:
                slow.cancel()
        if _state_of(found, replica) is not State.STARTING:
            return  # it was ended while it started
        if http is not None:
            self.doors.add(replica)
        found.ready(replica)
        self.reconcile()
        self.follow(name, found, replica)

    async def _follow_start(self, found: Deployment, replica: str, target: DeploymentTarget) -> None:
        """Have the status say what resources a replica waits for that starts."""
        while (one := found.replicas.get(replica)) is not None and one.state is State.STARTING:
            found.waits(replica, self._groups.waits_for(replica, target))
            await asyncio.sleep(_LOOK_S)

    def follow(self, name: DeploymentId, found: Deployment, replica: str) -> None:
        """Watch a running replica: its end, and its health."""
        self._spawn(self._until_ended(name, found, replica))
        self._spawn(self._check_health(name, found, replica))

    async def _until_ended(self, name: DeploymentId, found: Deployment, replica: str) -> None:
        actor = self.actors.get(replica)
        if actor is None:
            return
        try:
            await actor.until_ended.remote()
        except RayError as error:
            known = found.replicas.get(replica)
            if known is not None and known.state is not State.RETIRING:
                logger.warning("replica %s of %s ended: %s", replica, name, error)
                found.died(replica, str(error), self._loop.time())
                self._forget(replica)
                self.reconcile()

    async def _check_health(self, name: DeploymentId, found: Deployment, replica: str) -> None:
        strikes = 0
        while True:
            target, actor = found.target, self.actors.get(replica)
            if target is None or actor is None or not _is_running(found, replica):
                return
            await asyncio.sleep(target.settings.health_check_period_s)
            timeout = target.settings.health_check_timeout_s
            try:
                await asyncio.wait_for(actor.health.remote().as_future(), timeout)
                strikes = 0
            except Exception as error:
                strikes += 1
                metrics.this.metrics.counter(
                    "ray_serve_health_check_failures", name.name, name.app_name
                ).value += 1
                reason = str(error) or f"no answer within {timeout:g} s"
            if strikes >= _STRIKES and _is_running(found, replica):
                text = f"replica {replica} failed {strikes} health checks in a row: {reason}"
                logger.warning("%s", text)
                if found.unhealthy(replica, text, self._loop.time()):
                    self._spawn(self.retire(name, found, replica))
                self.reconcile()
                return

    async def _change(self, replica: str, settings: Settings, rank: int) -> None:
        try:
            await self.actors[replica].change.remote(settings, rank)
        except Exception:
            logger.exception("replica %s did not take its new settings", replica)

    async def count(self, found: Deployment) -> None:
        """Ask the running replicas of a deployment how their requests ended."""
        for replica in [one.id for one in found.replicas.values() if one.state is State.RUNNING]:
            actor = self.actors.get(replica)
            if actor is not None:
                await self._count(actor, found, replica)

    async def _count(self, actor: Any, found: Deployment, replica: str) -> None:
        try:
            counted = await asyncio.wait_for(actor.answers.remote().as_future(), _COUNT_TIMEOUT_S)
        except (asyncio.TimeoutError, RayError):
            return  # it is blocked or gone, which others notice
        found.counted(replica, counted)

    async def retire(self, name: DeploymentId, found: Deployment, replica: str) -> None:
        """Take a replica out of the tables; when all know it, have it finish; end it."""
        self.doors.discard(replica)
        self.publish()
        target = found.target or found.good
        timeout = (target.settings if target is not None else Settings()).graceful_shutdown_timeout_s
        try:
            await asyncio.wait_for(self.until_known(name), _ACKNOWLEDGE_S)
        except asyncio.TimeoutError:
            logger.warning("not all routers acknowledged that replica %s of %s left", replica, name)
            await self._linger(name, found, replica)
        try:
            draining = self.actors[replica].drain.remote(timeout).as_future()
            finished = await asyncio.wait_for(draining, timeout + _MARGIN_S)
            if not finished:
                logger.warning("replica %s of %s ended with requests under way", replica, name)
            await self._count(self.actors[replica], found, replica)
            await self.observatory.last_look(replica)
        except Exception as error:
            logger.warning("replica %s of %s did not drain: %s", replica, name, error)
        self.end(found, replica)
        self.reconcile()

    async def _linger(self, name: DeploymentId, found: Deployment, replica: str) -> None:
        """Keep a replica beside its deployment, which goes on as if it had ended: a process that stands
        still, as its user code blocks the loop, say, may send it requests yet. One whose place others need
        ends.
        """
        target = found.target or found.good
        if target is None or target.bundles or resources_of(target.actor_options):
            return
        if target.settings.max_replicas_per_node is not None:
            return
        found.retired(replica)
        self.reconcile()
        try:
            await asyncio.wait_for(self.until_known(name), _LINGER_S)
        except asyncio.TimeoutError:
            logger.warning("replica %s of %s ends though some process may call it yet", replica, name)

    def close(self) -> None:
        """End those that linger: no others are left."""
        for replica in list(self.actors):
            self._kill(replica)

    def end(self, found: Deployment, replica: str) -> None:
        """End a replica that serves nobody."""
        found.retired(replica)
        self._kill(replica)

    def _kill(self, replica: str) -> None:
        actor = self.actors.get(replica)
        self._forget(replica)
        if actor is not None:
            api.kill(actor)

    def _forget(self, replica: str) -> None:
        self.actors.pop(replica, None)
        self.doors.discard(replica)
        self.observatory.ended(replica)
        self._groups.remove(replica)
        store.forget_replica(replica)

    # ------------------------------------------------------------------ after a restart

    def holders(self) -> list[str]:
        """Return the replicas that may have the listening socket: those that take connections first. One that
        drains has it, too, and may be the last that does."""
        return [*self.doors, *(self.actors.keys() - self.doors)]

    async def adopt(
        self, rows: Iterable[store.ReplicaRow], wanted: Mapping[DeploymentId, Deployment]
    ) -> None:
        """Find the replicas of the controller before, which went on meanwhile; those that are not wanted
        drain.

        Args:
            rows: all replicas that were started.
            wanted: the deployments that there are to be.
        """
        rows = list(rows)
        self._groups.recover({row.id: _actor_name(row) for row in rows})
        answers = await asyncio.gather(*(self._find(row) for row in rows))
        found = [(row, counts) for row, counts in zip(rows, answers, strict=True) if row.id in self.actors]
        for row, counts in found:
            name = DeploymentId(row.deployment, row.app_name)
            for table, watcher in adoption.watchers(name, [counts] if counts is not None else []):
                self.expect(table, watcher)
        for row, counts in found:
            self._adopt(row, counts, wanted.get(DeploymentId(row.deployment, row.app_name)))

    async def _find(self, row: store.ReplicaRow) -> dict[str, Any] | None:
        """Return what a replica says of itself; None: it does not, or is no more."""
        try:
            actor = api.get_actor(_actor_name(row), namespace=NAMESPACE)
            self.actors[row.id] = actor
            return await asyncio.wait_for(actor.counts.remote().as_future(), _COUNT_TIMEOUT_S)
        except (asyncio.TimeoutError, RayTaskError):
            return None
        except (ValueError, RayError):
            self._forget(row.id)
            return None

    def _adopt(
        self, row: store.ReplicaRow, counts: Mapping[str, Any] | None, found: Deployment | None
    ) -> None:
        name = DeploymentId(row.deployment, row.app_name)
        fate = adoption.fate_of(found is not None, row.is_ready, counts)
        rank = counts["rank"] if counts is not None else 0
        if fate is adoption.Fate.END:
            self._kill(row.id)
        elif fate is adoption.Fate.DRAIN:
            found = found or Deployment()
            found.adopted(row.id, row.version, State.RETIRING, rank)
            self._spawn(self.retire(name, found, row.id))
        else:
            assert found is not None
            found.adopted(row.id, row.version, State.RUNNING, rank)
            # The controller before may have died between opening a door and noting it.
            if row.is_door or (counts is not None and counts["accepts"]):
                self.doors.add(row.id)
            self.follow(name, found, row.id)


def report_slow_start(replica: str, name: DeploymentId) -> None:
    """Write that a replica takes long to start, and what to do."""
    logger.warning(
        "replica %s of %s (application %s) has not started after %g s: its constructor, reconfigure or "
        "check_health has not returned, or it waits for resources. `skate stack` shows the line where it is",
        replica, name.name, name.app_name, _SLOW_START_S,
    )  # fmt: skip


def _state_of(found: Deployment, replica: str) -> State | None:
    known = found.replicas.get(replica)
    return None if known is None else known.state


def _is_running(found: Deployment, replica: str) -> bool:
    return _state_of(found, replica) is State.RUNNING


def _actor_name(row: store.ReplicaRow) -> str:
    return f"{PREFIX}{row.app_name}#{row.deployment}#{row.id}"
