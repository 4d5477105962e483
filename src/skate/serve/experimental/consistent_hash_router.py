"""A request router that has each session go to one replica."""

from __future__ import annotations

from skate.serve._router.sessions import ranked
from skate.serve.request_router import PendingRequest, RequestRouter, RunningReplica

__all__ = ["ConsistentHashRouter"]


class ConsistentHashRouter(RequestRouter):
    """Requests of one session go to the same replica in all processes; while that is full, to one of a few
    others, which are the same ones for the session, too. Requests without a session spread.

    Unlike the option ``session_id`` alone it limits where a session's requests go: with
    ``num_fallback_replicas`` of 0 they wait for their replica, however long that takes.

    Example:
        >>> RequestRouterConfig(
        ...     request_router_class=ConsistentHashRouter,
        ...     request_router_kwargs={"num_fallback_replicas": 0},
        ... )
    """

    def initialize_state(self, num_virtual_nodes: int = 100, num_fallback_replicas: int = 2) -> None:
        """See ``RequestRouter``.

        Args:
            num_virtual_nodes: taken for Ray's sake: rendezvous hashing has none.
            num_fallback_replicas: how many others a session's requests may go to.

        Raises:
            ValueError: that is no number of replicas.
        """
        if not isinstance(num_fallback_replicas, int) or num_fallback_replicas < 0:
            raise ValueError(
                f"num_fallback_replicas takes a whole number from 0, got {num_fallback_replicas!r}"
            )
        self._fallbacks = num_fallback_replicas

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """See ``RequestRouter``."""
        if pending_request is None:
            return [candidate_replicas]
        said = pending_request.metadata
        by_name = {one.replica_id.unique_id: one for one in candidate_replicas}
        order = ranked(said.session_id or said.internal_request_id, by_name)
        return [[by_name[name]] for name in order[: 1 + self._fallbacks]]
