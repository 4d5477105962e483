"""Tables that routers and entrances watch, and which of these know the latest. Decisions only.

A watcher's next question acknowledges the table that it has. A replica that was taken out of a table ends
only when all watchers of that table know it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from skate.serve._controller.application import Application
from skate.serve._controller.deployment import State
from skate.serve._messages import Table
from skate.serve._targets import CANARY, DeploymentId


class Watched:
    """One table and its watchers."""

    def __init__(self) -> None:
        self.version = 0
        self.value: Any = None
        #: Watcher to the version that it has.
        self.known: dict[str, int] = {}
        #: Watcher to what answers its question.
        self._waiting: dict[str, Callable[[Any], object]] = {}

    def publish(self, value: Any) -> None:
        """Answer all that wait with another value, which has a field ``version``."""
        self.value = value
        self.version = value.version
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            answer(value)

    def ask(self, watcher: str, version: int, answer: Callable[[Any], object]) -> None:
        """A watcher has a version, and wants the next."""
        self.known[watcher] = version
        before = self._waiting.pop(watcher, None)
        if before is not None:
            before(self.value)
        if self.value is not None and version != self.version:
            answer(self.value)
        else:
            self._waiting[watcher] = answer

    def expect(self, watcher: str) -> None:
        """A watcher has a table of another life of the controller, and will soon ask for the next."""
        self.known.setdefault(watcher, -1)

    def gone(self, process: str) -> bool:
        """A process has ended; tell whether it watched this. Its questions are answered: else the calls that
        asked them would wait for ever."""
        names = [name for name in self.known if name.partition("/")[0] == process]
        for name in names:
            del self.known[name]
            answer = self._waiting.pop(name, None)
            if answer is not None:
                answer(self.value)
        return bool(names)

    def is_known_to_all(self, version: int) -> bool:
        """Tell whether every watcher has this version or a later one."""
        return all(known >= version for known in self.known.values())


class Watches:
    """All tables, by what they are about."""

    def __init__(self) -> None:
        self._tables: dict[Hashable, Watched] = {}

    def of(self, what: Hashable) -> Watched:
        """Return one table."""
        return self._tables.setdefault(what, Watched())

    def expect(self, what: Hashable, watcher: str) -> None:
        """See ``Watched.expect``."""
        self.of(what).expect(watcher)

    def gone(self, process: str) -> list[Hashable]:
        """A process has ended; return the tables that it watched."""
        return [what for what, one in self._tables.items() if one.gone(process)]

    def names(self) -> list[Hashable]:
        """Return what there are tables of."""
        return list(self._tables)


def replica_table(
    version: int, name: DeploymentId, application: Application | None, actors: Mapping[str, Any]
) -> Table:
    """Return the table of a deployment, for its routers.

    Args:
        version: numbers it.
        name: the deployment.
        application: that it belongs to; None: there is none.
        actors: handles of replicas, by id.
    """
    found = application.deployments.get(name.name) if application is not None else None
    if application is None or found is None or found.target is None:
        base = name.name.removesuffix(CANARY)
        if application is not None and not application.is_deleting and base != name.name:
            return Table(version, moved=base)
        return Table(version, unavailable="it does not exist (any more)")
    settings = found.target.settings
    replicas = {
        replica.id: (settings.max_ongoing_requests, actors[replica.id])
        for replica in found.replicas.values()
        if replica.state is State.RUNNING
    }
    return Table(
        version,
        replicas,
        settings.max_queued_requests,
        unavailable="it failed to deploy" if found.has_failed and not replicas else "",
        status_code=settings.backpressure_status_code,
        retry_after_s=settings.backpressure_retry_after_s,
        idempotent=settings.idempotent,
        blocked=frozenset(replica.id for replica in found.replicas.values() if replica.blocked_in),
        canary=application.canary_of(name.name),
        metrics_interval_s=settings.autoscaling.metrics_interval_s if settings.autoscaling else 0.0,
        router=found.target.router,
        routing=settings.routing,
    )
