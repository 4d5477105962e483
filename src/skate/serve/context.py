"""Where code runs: in which replica, for which request."""

from __future__ import annotations

import os
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from skate.serve._targets import DeploymentId
from skate.serve.exceptions import RayServeException

__all__ = ["ReplicaContext", "ReplicaID", "ReplicaRank"]


@dataclass(frozen=True)
class ReplicaRank:
    """A replica's place among those of its deployment.

    Args:
        rank: among all, from 0.
        node_rank: of its node, from 0.
        local_rank: among those of its node, from 0.
    """

    rank: int = 0
    node_rank: int = 0
    local_rank: int = 0

    @classmethod
    def of(cls, rank: int) -> ReplicaRank:
        """Return the rank of a replica in a session of one node."""
        return cls(rank, 0, rank)


@dataclass(frozen=True)
class ReplicaID:
    """Names a replica.

    Args:
        unique_id: among all replicas of all times.
        deployment: its deployment.
        app_name: its application.
    """

    unique_id: str
    deployment: str
    app_name: str

    @property
    def deployment_id(self) -> DeploymentId:
        """Its deployment, with the application."""
        return DeploymentId(self.deployment, self.app_name)

    def to_full_id_str(self) -> str:
        """Return application, deployment and replica in one string."""
        return f"{self.app_name}#{self.deployment}#{self.unique_id}"

    def __str__(self) -> str:
        return f"Replica(id={self.unique_id!r}, deployment={self.deployment!r}, app={self.app_name!r})"

    __repr__ = __str__


@dataclass
class ReplicaContext:
    """The replica that code runs in.

    Args:
        replica_id: its name.
        servable_object: the instance of the user's class, or the function.
        world_size: how many replicas the deployment is to have.
        rank: its place among them. It differs from those of all others that live, and is below
            ``world_size`` except during an update.
    """

    replica_id: ReplicaID
    servable_object: Any
    world_size: int = 1
    rank: ReplicaRank = ReplicaRank()

    @property
    def app_name(self) -> str:
        """The application."""
        return self.replica_id.app_name

    @property
    def deployment(self) -> str:
        """The deployment."""
        return self.replica_id.deployment

    @property
    def replica_tag(self) -> str:
        """The replica."""
        return self.replica_id.unique_id


def new_id() -> str:
    """Return a request id: 128 random bits, written as a UUID of version 4."""
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


class RequestContext:
    """The request that code runs for. Calls that it makes inherit the id, the deadline and the trace."""

    __slots__ = ("request_id", "route", "app_name", "model_id", "deadline", "children", "trace", "began",
                 "method", "task", "thread", "stream", "span", "session_id")  # fmt: skip

    def __init__(
        self,
        request_id: str = "",
        route: str = "",
        app_name: str = "",
        model_id: str = "",
        deadline: float = 0.0,
        trace: str = "",
        session_id: str = "",
    ) -> None:
        self.request_id = request_id
        #: The route prefix that HTTP came by; "" in a call of a handle.
        self.route = route
        self.app_name = app_name
        #: Of a multiplexed model, or "".
        self.model_id = model_id
        #: Whose replica it prefers, or "". Not inherited.
        self.session_id = session_id
        #: On this process's monotonic clock (seconds); 0: none.
        self.deadline = deadline
        #: Calls made for it that have not ended: they are cancelled with it.
        self.children: set[Any] | None = None
        #: The trace that it belongs to, as the header ``traceparent`` has it; "": none.
        self.trace = trace
        #: Of a request that runs here: since when (monotonic clock, seconds), the method, the task; the
        #: thread,
        #: while it runs a plain function; the user's async generator; its span, if spans are made.
        self.began = 0.0
        self.method = ""
        self.task: Any = None
        self.thread = 0
        self.stream: Any = None
        self.span: Any = None


NO_REQUEST = RequestContext()

request: ContextVar[RequestContext] = ContextVar("skate.serve.request", default=NO_REQUEST)
"""The request that this code runs for; ``NO_REQUEST`` outside of one."""


class _Process:
    """The replica of this process."""

    replica: ReplicaContext | None = None


process = _Process()


local_replica: ContextVar[ReplicaContext | None] = ContextVar("skate.serve.local_replica", default=None)
"""Of code in a local application: its replica. Several share this process."""


def this_replica() -> ReplicaContext | None:
    """Return the replica that the caller runs in, or None."""
    return local_replica.get() or process.replica


def get_replica_context() -> ReplicaContext:
    """Return the replica that the caller runs in.

    Raises:
        RayServeException: it runs in none.

    Example:
        >>> serve.get_replica_context().deployment
        'Model'
    """
    found = this_replica()
    if found is None:
        raise RayServeException(
            "`serve.get_replica_context()` may only be called from within a Ray Serve replica."
        )
    return found


#: Programs that Ray's documentation shows get the context by this name: there None is the answer outside of a
#: replica.
_get_internal_replica_context = this_replica


def get_multiplexed_model_id() -> str:
    """Return the model id that the request asks for, or "".

    Example:
        >>> model = await self.load(serve.get_multiplexed_model_id())
    """
    return request.get().model_id
