"""A request router that takes the replicas in turn."""

from __future__ import annotations

from collections import Counter

from skate.serve.request_router import (
    FIFOMixin,
    MultiplexMixin,
    PendingRequest,
    RequestRouter,
    RunningReplica,
)

__all__ = ["RoundRobinRouter"]

#: The turns of so many models are remembered.
_MOST_MODELS = 1024


class RoundRobinRouter(FIFOMixin, MultiplexMixin, RequestRouter):
    """Takes the replicas in turn. One that is full is passed over. Requests for a model take turns among the
    replicas that have it.

    Example:
        >>> RequestRouterConfig(request_router_class=RoundRobinRouter)
    """

    def initialize_state(self) -> None:
        """See ``RequestRouter``."""
        #: Of requests for no model, and of each model's.
        self._turns: Counter[str] = Counter()

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """See ``RequestRouter``."""
        model = "" if pending_request is None else pending_request.metadata.multiplexed_model_id
        chosen = candidate_replicas
        if model:
            ids = self.apply_multiplex_routing(pending_request)
            chosen = [one for one in candidate_replicas if one.replica_id in ids]
        if not chosen:
            return []
        if len(self._turns) > _MOST_MODELS:
            self._turns.clear()
        first = self._turns[model] % len(chosen)
        self._turns[model] += 1
        return [[one] for one in (*chosen[first:], *chosen[:first])]
