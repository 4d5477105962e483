"""Custom request routers: a class of yours chooses the replicas that a request may go to.

::

    from skate import serve
    from skate.serve.config import RequestRouterConfig
    from skate.serve.request_router import RequestRouter

    class ByLength(RequestRouter):
        def initialize_state(self, limit):
            self.limit = limit

        async def choose_replicas(self, candidate_replicas, pending_request=None):
            half = len(candidate_replicas) // 2
            is_long = len(pending_request.args[0]) > self.limit
            return [candidate_replicas[half:] if is_long else candidate_replicas[:half]]

    config = RequestRouterConfig(request_router_class=ByLength, request_router_kwargs={"limit": 100})

    @serve.deployment(num_replicas=4, request_router_config=config)
    class Model: ...

Each process that calls the deployment has an instance of its own.
"""

from __future__ import annotations

import abc
import asyncio
import random
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from skate.engine.refs import ObjectRef
from skate.runtime_context import get_runtime_context
from skate.serve._messages import Facts
from skate.serve._targets import DeploymentId
from skate.serve.context import ReplicaID

__all__ = [
    "FIFOMixin",
    "LocalityMixin",
    "MultiplexMixin",
    "PendingRequest",
    "PowerOfTwoChoicesRequestRouter",
    "ReplicaID",
    "RequestMetadata",
    "RequestRouter",
    "RequestRoutingContext",
    "RunningReplica",
]

#: Given to ``on_request_routed``: the ref of a request's result.
ReplicaResult = ObjectRef

#: ``apply_multiplex_routing`` names only the replicas that have a model for this time (seconds).
_MATCHING_S = 1.0


@dataclass(frozen=True)
class RequestMetadata:
    """A request, without its arguments.

    Args:
        request_id: the same in all deployments that the request meets.
        internal_request_id: differs from those of all other requests.
        call_method: of the deployment.
        route: the prefix that HTTP came by; "" in a call of a handle.
        app_name: the application.
        multiplexed_model_id: the model that it is for, or "".
        session_id: the session that it is of, or "".
        is_streaming: its answer is a stream.
    """

    request_id: str
    internal_request_id: str
    call_method: str = "__call__"
    route: str = ""
    app_name: str = ""
    multiplexed_model_id: str = ""
    session_id: str = ""
    is_streaming: bool = False


@dataclass
class RequestRoutingContext:
    """Notes of the mixins: which replicas were tried for a request, and since when.

    Args:
        multiplexed_start_matching_time: when its model was first looked for (seconds of the wall clock).
        tried_fewest_multiplexed_models: the replicas with the fewest models were named.
        tried_first_multiplexed_models: the replicas with its model were named.
        tried_same_node, tried_same_az: replicas near by were named.
        should_backoff: taken for Ray's sake: a pause always follows a choice that cannot be taken.
    """

    multiplexed_start_matching_time: float | None = None
    tried_fewest_multiplexed_models: bool = False
    tried_first_multiplexed_models: bool = False
    tried_same_node: bool = False
    tried_same_az: bool = False
    should_backoff: bool = False


@dataclass(eq=False)
class PendingRequest:
    """A request that waits for a replica.

    Args:
        args, kwargs: its arguments. Those of a request by HTTP are its ASGI scope and its body.
        metadata: who calls what.
        created_at: when the router got it (seconds of the wall clock).
        routing_context: notes of the mixins; yours are kept, too, as long as the request waits.
    """

    args: list[Any]
    kwargs: dict[str, Any]
    metadata: RequestMetadata
    created_at: float = field(default_factory=time.time)
    routing_context: RequestRoutingContext = field(default_factory=RequestRoutingContext)


class RunningReplica:
    """A replica that a request may go to. Its properties are of the moment.

    Args:
        replica_id: its name.
        actor: its handle.
        load: returns how many requests from here it has, and whether it may have a free slot.
    """

    def __init__(self, replica_id: ReplicaID, actor: Any, load: Callable[[], tuple[int, bool]]) -> None:
        self._replica_id = replica_id
        self._actor = actor
        self._load = load
        self._slots = 0
        self._facts = Facts()

    def update_replica_info(self, slots: int, facts: Facts) -> None:
        """Take what is new of it."""
        self._slots, self._facts = slots, facts

    @property
    def replica_id(self) -> ReplicaID:
        """Its name: that of ``serve.get_replica_context().replica_id`` in it."""
        return self._replica_id

    @property
    def actor_id(self) -> Any:
        """The id of its actor."""
        return self._actor._actor_id

    @property
    def node_id(self) -> str:
        """The node, as hex digits. All replicas are on this one."""
        return get_runtime_context().get_node_id()

    @property
    def availability_zone(self) -> str | None:
        """None: it is not known."""
        return None

    @property
    def is_cross_language(self) -> bool:
        """False."""
        return False

    @property
    def max_ongoing_requests(self) -> int:
        """How many requests it runs at a time."""
        return self._slots

    @property
    def multiplexed_model_ids(self) -> set[str]:
        """The models that it has."""
        return set(self._facts.loaded)

    @property
    def routing_stats(self) -> dict[str, Any]:
        """The latest result of its method ``record_routing_stats``; empty: there is none yet."""
        return dict(self._facts.stats)

    @property
    def num_ongoing_requests(self) -> int:
        """How many requests of this process are there. (skate only.)"""
        return self._load()[0]

    @property
    def is_available(self) -> bool:
        """Whether it would take a request now, as far as this process knows. (skate only.)"""
        return self._load()[1]

    async def get_queue_len(self, *, deadline_s: float = 1.0) -> int:
        """Ask it how many requests of all processes it has.

        Args:
            deadline_s: how long its answer is waited for (seconds).

        Raises:
            asyncio.TimeoutError: it did not answer in time.

        Example:
            >>> lengths = await asyncio.gather(*(one.get_queue_len() for one in candidate_replicas))
        """
        counts = await asyncio.wait_for(self._actor.counts.remote().as_future(), deadline_s)
        return int(counts["ongoing"])

    def __repr__(self) -> str:
        return f"RunningReplica({self.replica_id.unique_id!r})"


class RequestRouter(abc.ABC):
    """Chooses the replicas that each request to a deployment may go to. Subclasses say how.

    Its methods run on the loop that sends the requests, in a replica that of its HTTP: they must not block.

    Args:
        deployment_id: the deployment.
        handle_source: taken for Ray's sake, as all others.
    """

    def __init__(self, deployment_id: DeploymentId, handle_source: Any = None, **_: Any) -> None:
        self._deployment_id = deployment_id
        self._handle_source = handle_source
        self._replicas: dict[ReplicaID, RunningReplica] = {}
        self._replica_id_set: set[ReplicaID] = set()
        self._replicas_list: list[RunningReplica] = []

    def initialize_state(self, *args: Any, **kwargs: Any) -> None:  # noqa: B027
        """Take ``request_router_kwargs``. Called once, before the first choice.

        Args:
            kwargs: those. A subclass may have parameters of its own instead.

        Example:
            >>> def initialize_state(self, limit=100):
            ...     self.limit = limit
        """

    @abc.abstractmethod
    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> Sequence[Sequence[RunningReplica]]:
        """Return the replicas that a request may go to.

        Args:
            candidate_replicas: those that run. Not to be changed.
            pending_request: the request.

        Returns:
            Groups, the best first. The request goes to a replica of the first group in which one has a free
            slot: of several, the one with the fewest requests from here. If none has, it waits for the first
            of all these replicas that gets one, and the choice is made again after a pause.
        """

    def on_request_routed(  # noqa: B027
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any
    ) -> None:
        """A request was sent.

        Args:
            pending_request: the request.
            replica_id: where it went.
            result: the ref of its result, or the generator of refs; None: it runs in this process.
        """

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:  # noqa: B027
        """A request that was sent has ended, however.

        Args:
            replica_id: where it was.
            internal_request_id: see ``RequestMetadata``.
        """

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Take the replicas that run now. Called whenever they, or the facts of one, have changed.

        A subclass that keeps what it computes from them does so here, after ``super()``.

        Args:
            replicas: all that requests may go to.

        Example:
            >>> def update_replicas(self, replicas):
            ...     super().update_replicas(replicas)
            ...     self.order = sorted(replicas, key=lambda one: one.replica_id.unique_id)
        """
        self._replicas = {one.replica_id: one for one in replicas}
        self._replica_id_set = set(self._replicas)
        self._replicas_list = list(replicas)

    @property
    def app_name(self) -> str:
        """The application."""
        return self._deployment_id.app_name

    @property
    def curr_replicas(self) -> dict[ReplicaID, RunningReplica]:
        """The replicas that run, by their ids."""
        return self._replicas

    def select_available_replicas(
        self, candidates: list[RunningReplica] | None = None
    ) -> list[RunningReplica]:
        """Return those of some replicas that would take a request now, as far as this process knows.

        Args:
            candidates: the replicas; None: all.

        Example:
            >>> free = self.select_available_replicas(candidate_replicas) or candidate_replicas
        """
        found = self._replicas_list if candidates is None else candidates
        return [one for one in found if one.is_available]


class FIFOMixin:
    """Taken for Ray's sake: of the requests that a replica may take, the oldest always goes first."""


class LocalityMixin:
    """Ranks replicas by their distance. All are on one machine: all are equally near."""

    _replica_id_set: set[ReplicaID]

    def apply_locality_routing(self, pending_request: PendingRequest | None = None) -> set[ReplicaID]:
        """Return the ids of the nearest replicas.

        Args:
            pending_request: the request.

        Example:
            >>> near = self.apply_locality_routing(pending_request)
        """
        return set(self._replica_id_set)

    def rank_replicas_via_locality(self, replicas: list[RunningReplica]) -> list[list[RunningReplica]]:
        """Return replicas in groups: on the same node, in the same zone, elsewhere.

        Args:
            replicas: to be ranked.

        Example:
            >>> return self.rank_replicas_via_locality(candidate_replicas)
        """
        return [list(replicas), [], []]


class MultiplexMixin:
    """Ranks replicas by the models that they have."""

    _replicas: dict[ReplicaID, RunningReplica]

    def apply_multiplex_routing(self, pending_request: PendingRequest | None = None) -> set[ReplicaID]:
        """Return the ids of the replicas that suit the model of a request best: first those that have it; if
        there are none, or if they have been too busy for a second, those with the fewest models; then all.

        Args:
            pending_request: the request; None: any.

        Example:
            >>> ids = self.apply_multiplex_routing(pending_request)
        """
        if pending_request is None:
            return set(self._replicas)
        notes = pending_request.routing_context
        now = time.time()
        if notes.multiplexed_start_matching_time is None:
            notes.multiplexed_start_matching_time = now
        model = pending_request.metadata.multiplexed_model_id
        have, fewest, _ = self.rank_replicas_via_multiplex(list(self._replicas.values()), model)
        notes.tried_first_multiplexed_models = True
        if have and now - notes.multiplexed_start_matching_time < _MATCHING_S:
            return _ids(have)
        if notes.tried_fewest_multiplexed_models:
            return set(self._replicas)
        notes.tried_fewest_multiplexed_models = True
        return _ids(fewest) or set(self._replicas)

    def rank_replicas_via_multiplex(
        self, replicas: list[RunningReplica], multiplexed_model_id: str
    ) -> list[list[RunningReplica]]:
        """Return replicas in groups: those that have a model, those with the fewest models, all others.

        Args:
            replicas: to be ranked.
            multiplexed_model_id: the model.

        Example:
            >>> model = pending_request.metadata.multiplexed_model_id
            >>> return self.rank_replicas_via_multiplex(candidate_replicas, model)
        """
        held = {one.replica_id: one.multiplexed_model_ids for one in replicas}
        fewest = min(map(len, held.values()), default=0)
        ranks: list[list[RunningReplica]] = [[], [], []]
        for one in replicas:
            models = held[one.replica_id]
            ranks[0 if multiplexed_model_id in models else 1 if len(models) == fewest else 2].append(one)
        return ranks


class PowerOfTwoChoicesRequestRouter(FIFOMixin, LocalityMixin, MultiplexMixin, RequestRouter):
    """Chooses two replicas by chance: the one with fewer requests from here gets the request.

    It is here for comparison: without any router a request goes to the best of all replicas.

    Example:
        >>> RequestRouterConfig(request_router_class=PowerOfTwoChoicesRequestRouter)
    """

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """See ``RequestRouter``."""
        chosen = candidate_replicas
        if pending_request is not None and pending_request.metadata.multiplexed_model_id:
            ids = self.apply_multiplex_routing(pending_request)
            chosen = [one for one in candidate_replicas if one.replica_id in ids]
        return [random.sample(chosen, min(2, len(chosen)))]


def _ids(replicas: Collection[RunningReplica]) -> set[ReplicaID]:
    return {one.replica_id for one in replicas}
