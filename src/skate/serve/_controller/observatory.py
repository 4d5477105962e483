"""Asks all processes of serve what they see, and keeps the counters of those that have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from skate import api
from skate.serve._client import watching
from skate.serve._client.client import Client
from skate.serve._controller import store
from skate.serve._grpc.calls import DOOR
from skate.serve._observing import metrics, page
from skate.serve._observing.ledger import Ledger, merged
from skate.serve._observing.metrics import Snapshot
from skate.serve._observing.watcher import Watcher
from skate.serve._targets import NAMESPACE, DeploymentId

#: A process that has not answered by then is left out (seconds).
_PATIENCE_S = 1.0
#: The controller's name among the processes.
_HERE = "controller"


class Observatory:
    """The controller's view of all processes. On its loop.

    Args:
        client: of this process.
        actors: the replicas' actors, by replica; others change it.
        left: replicas that the controller before this one has left.
    """

    def __init__(self, client: Client, actors: Mapping[str, Any], left: set[str]) -> None:
        self._actors = actors
        self._ledger: Ledger = store.load_ledger() or Ledger()
        # The controller before this one, and replicas that ended while there was none, have ended.
        for one in list(self._ledger.living):
            if one not in left and one != DOOR:
                self._ledger.ended(one)
        self._watcher = Watcher(_HERE, partial(watching.facts, client))
        metrics.this.metrics.add_reader(partial(watching.gauges, client, _HERE))

    async def ask(self, what: str, *args: Any) -> tuple[dict[str, Any], list[str]]:
        """Ask all processes; return the answers by process, and the processes that did not answer."""
        actors = {**self._actors, **_door()}
        names = list(actors)
        asked = [one.observe.remote(what, *args).as_future() for one in actors.values()]
        if asked:
            await asyncio.wait(asked, timeout=_PATIENCE_S)
        found, missing = {_HERE: self._watcher.answer(what, *args)}, []
        for name, future in zip(names, asked, strict=True):
            if future.done() and not future.cancelled() and future.exception() is None:
                found[name] = future.result()
            elif name in self._actors or name == DOOR:
                missing.append(name)
            future.cancel()
        return found, missing

    async def snapshots(self) -> dict[str, Snapshot]:
        """Return the series of each living process; the latest known of one that does not answer."""
        await self._refresh()
        return dict(self._ledger.living)

    async def page(self, healthy: Mapping[str, DeploymentId]) -> bytes:
        """Return the text for Prometheus.

        Args:
            healthy: the replicas that run, and their deployments.
        """
        missing = await self._refresh()
        states: Snapshot = {
            ("ray_serve_deployment_replica_healthy", (name.name, name.app_name, replica)): 1
            for replica, name in healthy.items()
        }
        return page.text(merged([self._ledger.total(), states]), missing).encode()

    async def _refresh(self) -> list[str]:
        found, missing = await self.ask("metrics")
        for name, snapshot in found.items():
            if (
                name in (_HERE, DOOR) or name in self._actors
            ):  # else it has ended meanwhile, and is in the sum
                self._ledger.saw(name, snapshot)
        store.save_ledger(self._ledger)
        return missing

    async def last_look(self, replica: str) -> None:
        """Keep what a replica has counted; it has drained, and is about to be ended."""
        snapshot = await asyncio.wait_for(
            self._actors[replica].observe.remote("metrics").as_future(), _PATIENCE_S
        )
        self._ledger.saw(replica, snapshot)

    def ended(self, replica: str) -> None:
        """A replica has ended: its counters stay."""
        if replica in self._ledger.living:
            self._ledger.ended(replica)
            store.save_ledger(self._ledger)


def _door() -> dict[str, Any]:
    """Return the actor that answers gRPC, by its name, if there is one."""
    try:
        return {DOOR: api.get_actor(DOOR, namespace=NAMESPACE)}
    except ValueError:
        return {}
