"""Messages between the processes of serve, besides requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from skate.serve._targets import ApiKeys
from skate.serve.config import RequestRouterConfig

Meta = tuple[str, str, str, str, float, str]
"""Of a request: router, request id, method, model id, seconds that are left until its deadline (0: none),
trace."""
#: Ends the router's id in the calls of a broadcast: they need no credit, and keep none.
BROADCAST = "/broadcast"


@dataclass(frozen=True)
class Table:
    """The replicas of a deployment, for its routers.

    Args:
        version: numbers the tables of one deployment.
        replicas: id to (slots, actor handle).
        max_queued: how many requests may wait in a router; below 0: any number.
        unavailable: why there will be no replicas; "" as long as there may be.
        status_code, retry_after_s: how requests are refused.
        idempotent: a request whose replica dies may go to another.
        canary: a deployment that gets a share of the requests instead, and the share (percent).
        moved: this deployment was a canary and is no more: its requests go to that one.
        blocked: ids of replicas whose loop is blocked by user code: requests go to others if there are any.
        metrics_interval_s: routers report at most once in this time how many requests wait (seconds); 0: they
            do not report.
        router: the pickled request router and its arguments; empty: the router's own order.
        routing: its options.
    """

    version: int
    replicas: dict[str, tuple[int, Any]] = field(default_factory=dict)
    max_queued: int = -1
    unavailable: str = ""
    status_code: int = 503
    retry_after_s: float | None = None
    idempotent: bool = False
    blocked: frozenset[str] = frozenset()
    canary: tuple[str, float] | None = None
    moved: str = ""
    metrics_interval_s: float = 0.0
    router: bytes = b""
    routing: RequestRouterConfig | None = None


@dataclass(frozen=True)
class Facts:
    """The facts that a replica states of itself, for those that choose among replicas.

    Args:
        loaded, loading: its models.
        stats: what the user's ``record_routing_stats`` returned last.
        load_s: how long the longest of its latest loads took (seconds).
    """

    loaded: frozenset[str] = frozenset()
    loading: frozenset[str] = frozenset()
    stats: dict[str, Any] = field(default_factory=dict)
    load_s: float = 0.0


@dataclass(frozen=True)
class FactsTable:
    """The facts of a deployment's replicas, by their ids. Those that have said nothing are left out."""

    version: int
    replicas: dict[str, Facts] = field(default_factory=dict)


@dataclass(frozen=True)
class Route:
    """Where HTTP requests of an application go.

    Args:
        prefix: of their paths.
        app_name, ingress: the application and its entrance.
        doors: ids of the ingress replicas that take connections.
        unavailable: why it has none; "" as long as it may have some.
        canary: a deployment that gets a share of the requests instead of the ingress, and the share
            (percent).
    """

    prefix: str
    app_name: str
    ingress: str
    doors: tuple[str, ...] = ()
    unavailable: str = ""
    canary: tuple[str, float] | None = None


@dataclass(frozen=True)
class Routes:
    """All applications that HTTP reaches, for all processes that accept connections."""

    version: int
    routes: tuple[Route, ...] = ()
    #: The API keys as they are now; None: there are none.
    keys: ApiKeys | None = None
