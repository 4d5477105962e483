"""Targets that the controller is to bring about: plain data, stored, compared and sent to replicas."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from skate.serve._logging_config import LoggingConfig
from skate.serve._names import DeploymentId as DeploymentId
from skate.serve.config import AutoscalingConfig, RequestRouterConfig

#: The controller's name and the namespace of all actors of serve.
CONTROLLER, NAMESPACE = "SERVE_CONTROLLER_ACTOR", "serve"
#: The name of the actor that answers the REST API, if there is one.
ADMIN = "SERVE_ADMIN"
#: Ends the names of canaries' deployments.
CANARY = "#canary"


@dataclass(frozen=True)
class Settings:
    """The options of a deployment that change without a restart of its replicas."""

    num_replicas: int = 1
    max_ongoing_requests: int = 5
    max_queued_requests: int = -1
    user_config: Any = None
    graceful_shutdown_wait_loop_s: float = 2.0
    graceful_shutdown_timeout_s: float = 20.0
    health_check_period_s: float = 10.0
    health_check_timeout_s: float = 30.0
    max_constructor_retry_count: int = 20
    rolling_update_percentage: float = 0.2
    max_surge_percent: float = 0.0
    backpressure_status_code: int = 503
    backpressure_retry_after_s: float | None = None
    idempotent: bool = False
    bake_time_s: float = 10.0
    #: None: any number.
    max_replicas_per_node: int | None = None
    #: With it, ``num_replicas`` is the first number of replicas, and follows the load from then on.
    autoscaling: AutoscalingConfig | None = None
    logging: LoggingConfig | None = None
    #: With the name of the class alone: ``DeploymentTarget.router`` has it, and its arguments.
    routing: RequestRouterConfig | None = None


class Capacity(NamedTuple):
    """The part of all replicas that is to run."""

    percent: float
    #: It was less before.
    is_rising: bool


@dataclass(frozen=True)
class DeploymentTarget:
    """One deployment of an application."""

    name: str
    #: Identifies code, constructor arguments and actor options: another one needs other replicas.
    version: str
    settings: Settings
    #: Of the actors: ``num_cpus``, ``resources``, ...
    actor_options: dict[str, Any] = field(default_factory=dict)
    #: The pickled (class or function, args, kwargs).
    code: bytes = b""
    #: Where the modules that it names are found.
    path: tuple[str, ...] = ()
    #: The pickled autoscaling policy; empty: the load decides.
    policy: bytes = b""
    #: The pickled request router and its arguments; empty: the router's own order.
    router: bytes = b""
    #: The capacity that ``settings.num_replicas`` is adjusted to; None: it is the number of all replicas.
    capacity: Capacity | None = None
    #: Of each replica's placement group, and its strategy; without any there is none.
    bundles: tuple[dict[str, float], ...] = ()
    strategy: str = "PACK"
    #: The number of replicas in code or file, if a program outside has named another one.
    scaled_from: int | None = None

    def scaled(self, number: int, capacity: Capacity | None) -> DeploymentTarget:
        """Return it with a number of replicas that a program outside names."""
        first = self.settings.num_replicas if self.scaled_from is None else self.scaled_from
        settings = replace(self.settings, num_replicas=number)
        return replace(self, settings=settings, capacity=capacity, scaled_from=first)


@dataclass(frozen=True)
class ApplicationTarget:
    """An application: its deployments, and where HTTP reaches it."""

    name: str
    #: None: not by HTTP.
    route_prefix: str | None
    #: The deployment that requests from outside go to.
    ingress: str
    deployments: dict[str, DeploymentTarget]
    #: Numbers the calls of ``serve.run``; seconds of the wall clock.
    number: int = 0
    deployed_at: float = 0.0
    #: Its part of a config file, as plain data; None: a program has run it.
    config: dict[str, Any] | None = None
    #: Programs outside may change the number of replicas.
    external_scaler_enabled: bool = False
    #: The pickled autoscaling policy of all its deployments together; empty: each decides for itself.
    policy: bytes = b""
    #: Where the modules that it names are found.
    path: tuple[str, ...] = ()

    def with_scale_of(self, before: ApplicationTarget) -> ApplicationTarget:
        """Return it with the numbers of replicas that programs outside named before.

        A number that is another one now in code or file counts itself.
        """
        if not self.external_scaler_enabled:
            return self
        deployments = dict(self.deployments)
        for name, new in self.deployments.items():
            old = before.deployments.get(name)
            if old is not None and old.scaled_from == new.settings.num_replicas:
                deployments[name] = new.scaled(old.settings.num_replicas, old.capacity)
        return replace(self, deployments=deployments)


@dataclass(frozen=True)
class ApplicationState:
    """The facts that are stored of an application."""

    target: ApplicationTarget
    #: The latest target that ran and stood its bake time, if any ever did.
    good: ApplicationTarget | None = None
    #: Those that were good before, with other versions; the latest last.
    earlier: tuple[ApplicationTarget, ...] = ()
    #: A second version beside the target, and its share of the requests (percent).
    canary: ApplicationTarget | None = None
    percent: float = 0.0
    #: The target was good before, and ``roll_back`` wanted it again.
    is_back: bool = False
    #: Deployments that the target no longer has, and that run until nothing calls them.
    obsolete: dict[str, DeploymentTarget] = field(default_factory=dict)
    #: Nothing of it is wanted any more; its replicas finish their requests.
    is_deleting: bool = False
    #: The part of its replicas that is to run, in all versions; None: all of them.
    capacity: Capacity | None = None


@dataclass(frozen=True)
class ApiKeys:
    """API keys as salted hashes. Nothing of them is in the ``repr``."""

    salt: bytes = field(repr=False)
    digests: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True)
class TLSFiles:
    """The files of a port that answers HTTPS. Each process that accepts connections reads them."""

    certfile: str
    keyfile: str
    password: str | None = field(default=None, repr=False)
    #: Those that clients' certificates must be signed by; None: clients need none.
    ca_certs: str | None = None


@dataclass(frozen=True)
class Middlewares:
    """Code of the user around everything that the port answers."""

    #: The pickled functions that take an ASGI application and return one, with further arguments.
    code: bytes = field(repr=False)
    #: Where their modules are found.
    path: tuple[str, ...]


@dataclass(frozen=True)
class HTTPTarget:
    """Where the port is and how it behaves."""

    host: str = "127.0.0.1"
    port: int = 8000
    root_path: str = ""
    request_timeout_s: float | None = None
    keep_alive_timeout_s: float = 90.0
    max_body_bytes: int | None = None
    header_timeout_s: float | None = 10.0
    body_timeout_s: float | None = 30.0
    max_queued_body_bytes: int = 256 << 20
    #: None: every request is admitted.
    keys: ApiKeys | None = None
    #: None: plain HTTP.
    tls: TLSFiles | None = None
    #: By which clients reach the port, for messages; empty: by its address.
    root_url: str = ""
    middlewares: Middlewares | None = None


@dataclass(frozen=True)
class GRPCTarget:
    """The port that gRPC is answered at, and its services."""

    port: int = 9000
    #: Import paths of functions that add a service to a server.
    functions: tuple[str, ...] = ()
    request_timeout_s: float | None = None
    enable_reflection: bool = True
    #: Where their modules are found.
    path: tuple[str, ...] = ()


def with_logging(target: ApplicationTarget, config: LoggingConfig | None) -> ApplicationTarget:
    """Return an application whose deployments log in this way, except those that have a configuration."""
    deployments = {
        name: one
        if one.settings.logging is not None
        else replace(one, settings=replace(one.settings, logging=config))
        for name, one in target.deployments.items()
    }
    return replace(target, deployments=deployments)
