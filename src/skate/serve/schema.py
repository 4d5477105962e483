"""The parts of a status, which ``serve.status()`` returns; the schema of config files; and the schema of what
``GET /api/serve/applications/`` answers, see ``ServeInstanceDetails``."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from skate.serve._config import (
    DeploymentSchema,
    Schema,
    ServeApplicationSchema,
    ServeDeploySchema,
    inside,
    options_of,
)
from skate.serve._logging_config import LoggingConfig
from skate.serve.config import HTTPOptions as HTTPOptionsSchema
from skate.serve.config import ProxyLocation
from skate.serve.config import gRPCOptions as gRPCOptionsSchema
from skate.serve.context import ReplicaRank

__all__ = [
    "APIType",
    "ApplicationDetails",
    "ApplicationStatus",
    "ApplicationStatusOverview",
    "DeploymentDetails",
    "DeploymentSchema",
    "DeploymentStatus",
    "DeploymentStatusOverview",
    "DeploymentStatusTrigger",
    "HTTPOptionsSchema",
    "LoggingConfig",
    "ProxyStatus",
    "ReplicaDetails",
    "ReplicaRank",
    "ReplicaState",
    "ServeActorDetails",
    "ServeApplicationSchema",
    "ServeDeploySchema",
    "ServeInstanceDetails",
    "ServeStatus",
    "gRPCOptionsSchema",
]


class _Text(str, enum.Enum):
    """A string that is one of a few; prints as that string."""

    def __str__(self) -> str:
        return str(self.value)


class ApplicationStatus(_Text):
    """How an application stands."""

    NOT_STARTED = "NOT_STARTED"
    DEPLOYING = "DEPLOYING"
    DEPLOY_FAILED = "DEPLOY_FAILED"
    RUNNING = "RUNNING"
    UNHEALTHY = "UNHEALTHY"
    DELETING = "DELETING"


class DeploymentStatus(_Text):
    """How a deployment stands."""

    UPDATING = "UPDATING"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    DEPLOY_FAILED = "DEPLOY_FAILED"
    UPSCALING = "UPSCALING"
    DOWNSCALING = "DOWNSCALING"


class DeploymentStatusTrigger(_Text):
    """Why a deployment stands as it does."""

    UNSPECIFIED = "UNSPECIFIED"
    CONFIG_UPDATE_STARTED = "CONFIG_UPDATE_STARTED"
    CONFIG_UPDATE_COMPLETED = "CONFIG_UPDATE_COMPLETED"
    UPSCALE_COMPLETED = "UPSCALE_COMPLETED"
    DOWNSCALE_COMPLETED = "DOWNSCALE_COMPLETED"
    AUTOSCALING = "AUTOSCALING"
    REPLICA_STARTUP_FAILED = "REPLICA_STARTUP_FAILED"
    HEALTH_CHECK_FAILED = "HEALTH_CHECK_FAILED"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    DELETING = "DELETING"


class ReplicaState(_Text):
    """The states of a replica."""

    STARTING = "STARTING"
    UPDATING = "UPDATING"
    RECOVERING = "RECOVERING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    PENDING_MIGRATION = "PENDING_MIGRATION"


class ProxyStatus(_Text):
    """How an entrance for HTTP stands. There are no proxies: replicas answer HTTP themselves."""

    STARTING = "STARTING"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    DRAINING = "DRAINING"
    DRAINED = "DRAINED"


@dataclass
class DeploymentStatusOverview:
    """One deployment."""

    status: DeploymentStatus
    status_trigger: DeploymentStatusTrigger
    #: State to how many replicas are in it.
    replica_states: dict[str, int]
    #: The latest failure, with the user's traceback; or "".
    message: str


@dataclass
class ApplicationStatusOverview:
    """One application."""

    status: ApplicationStatus
    message: str
    last_deployed_time_s: float
    deployments: dict[str, DeploymentStatusOverview] = field(default_factory=dict)


@dataclass
class ServeStatus:
    """All applications of the session."""

    proxies: dict[str, ProxyStatus] = field(default_factory=dict)
    applications: dict[str, ApplicationStatusOverview] = field(default_factory=dict)
    target_capacity: float | None = None


# ---------------------------------------------------------------------- what the REST API answers


class APIType(_Text):
    """How an application was run: by a config file, or by a program."""

    UNKNOWN = "unknown"
    IMPERATIVE = "imperative"
    DECLARATIVE = "declarative"

    @classmethod
    def get_valid_user_values(cls) -> list[str]:
        """Return the values by which applications can be chosen.

        Example:
            >>> APIType.get_valid_user_values()
            ['imperative', 'declarative']
        """
        return [cls.IMPERATIVE.value, cls.DECLARATIVE.value]


def _read(one: Schema, **kinds: Callable[[Any], Any]) -> None:
    """Give fields that came as plain data the objects that they stand for; None stays."""
    for name, kind in kinds.items():
        value = getattr(one, name)
        if value is not None:
            with inside(name):
                object.__setattr__(one, name, kind(value))


def _each_of(kind: type[Schema]) -> Callable[[Any], Any]:
    """Return what reads a list of such objects, or a mapping to them."""

    def read(values: Any) -> Any:
        if isinstance(values, Mapping):
            found = {}
            for key, value in values.items():
                with inside(str(key)):
                    found[key] = kind.model_validate(value)
            return found
        return [kind.model_validate(value) for value in values]

    return read


@dataclass(frozen=True, kw_only=True)
class ServeActorDetails(Schema):
    """One process of serve.

    Args:
        node_id, node_ip: of its machine.
        node_instance_id: always None.
        actor_id, actor_name, worker_id: its names in the session.
        log_file_path: of its output, below the folder of the session's logs.
    """

    node_id: str | None = None
    node_ip: str | None = None
    node_instance_id: str | None = None
    actor_id: str | None = None
    actor_name: str | None = None
    worker_id: str | None = None
    log_file_path: str | None = None


@dataclass(frozen=True, kw_only=True)
class ReplicaDetails(ServeActorDetails):
    """One replica.

    Args:
        replica_id: its name among all replicas.
        state: a ``ReplicaState``.
        pid: of its process; None: that has not started yet.
        start_time_s: when it started (seconds of the wall clock).
    """

    replica_id: str
    state: ReplicaState
    pid: int | None = None
    start_time_s: float

    def __post_init__(self) -> None:
        _read(self, state=ReplicaState)


@dataclass(frozen=True, kw_only=True)
class DeploymentDetails(Schema):
    """One deployment.

    Args:
        name: of the deployment.
        status, status_trigger, message: see ``DeploymentStatusOverview``.
        deployment_config: its options, those of which nobody said anything included.
        target_num_replicas: how many replicas there are to be at the moment.
        required_resources: those that each replica holds.
        replicas: all that have not ended.
        recent_dead_replicas: always empty.
        autoscaling_detail: always None.
    """

    name: str
    status: DeploymentStatus
    status_trigger: DeploymentStatusTrigger
    message: str
    deployment_config: DeploymentSchema
    target_num_replicas: int
    required_resources: dict[str, Any]
    replicas: list[ReplicaDetails]
    recent_dead_replicas: list[ReplicaDetails] = field(default_factory=list)
    autoscaling_detail: Any = None

    def __post_init__(self) -> None:
        _read(
            self,
            status=DeploymentStatus,
            status_trigger=DeploymentStatusTrigger,
            deployment_config=DeploymentSchema.model_validate,
            replicas=_each_of(ReplicaDetails),
            recent_dead_replicas=_each_of(ReplicaDetails),
        )


@dataclass(frozen=True, kw_only=True)
class ApplicationDetails(Schema):
    """One application.

    Args:
        name: of the application.
        route_prefix: paths below it reach the application by HTTP; None: handles only.
        docs_path: always None.
        status, message, last_deployed_time_s: see ``ApplicationStatusOverview``.
        deployed_app_config: its part of a config file; None: a program has run it.
        source: an ``APIType``.
        deployments: by name.
        external_scaler_enabled: programs outside may change the number of replicas.
        deployment_topology: always None.
    """

    name: str
    route_prefix: str | None
    docs_path: str | None
    status: ApplicationStatus
    message: str
    last_deployed_time_s: float
    deployed_app_config: ServeApplicationSchema | None = None
    source: APIType
    deployments: dict[str, DeploymentDetails]
    external_scaler_enabled: bool
    deployment_topology: Any = None

    def __post_init__(self) -> None:
        _read(
            self,
            status=ApplicationStatus,
            deployed_app_config=ServeApplicationSchema.model_validate,
            source=APIType,
            deployments=_each_of(DeploymentDetails),
        )


@dataclass(kw_only=True)
class ServeInstanceDetails(Schema):
    """Serve in a session, as ``GET /api/serve/applications/`` describes it.

    Args:
        controller_info: the controller's process.
        proxy_location: whether HTTP is answered.
        http_options, grpc_options: where; without API keys and files of TLS.
        proxies: always empty: replicas answer HTTP themselves.
        applications: by name.
        target_capacity: of the last config file.
        target_groups: always empty.
        controller_health_metrics: always empty.
        restores_unset_config_options: always True: an option that a config file no longer has is that of the
            code again.

    Example:
        >>> ServeInstanceDetails(**requests.get(url, headers=token).json()).applications["app"].status
        'RUNNING'
    """

    controller_info: ServeActorDetails = field(default_factory=ServeActorDetails)
    proxy_location: ProxyLocation | None = None
    http_options: HTTPOptionsSchema | None = None
    grpc_options: gRPCOptionsSchema | None = None
    proxies: dict[str, Any]
    applications: dict[str, ApplicationDetails]
    target_capacity: float | None = None
    target_groups: list[Any] = field(default_factory=list)
    controller_health_metrics: dict[str, Any] = field(default_factory=dict)
    restores_unset_config_options: bool = False

    def __post_init__(self) -> None:
        _read(
            self,
            controller_info=ServeActorDetails.model_validate,
            proxy_location=ProxyLocation,
            http_options=lambda given: options_of(HTTPOptionsSchema, given, "http_options"),
            grpc_options=lambda given: options_of(gRPCOptionsSchema, given, "grpc_options"),
            applications=_each_of(ApplicationDetails),
        )

    @staticmethod
    def get_empty_schema_dict() -> dict[str, Any]:
        """Return what is answered where serve does not run.

        Example:
            >>> ServeInstanceDetails.get_empty_schema_dict()["applications"]
            {}
        """
        return {"controller_info": {}, "proxies": {}, "applications": {}, "target_capacity": None}
