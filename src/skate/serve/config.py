"""Options in classes of their own."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from skate.serve._checks import ValidationError as ValidationError
from skate.serve._checks import check_number, check_whole
from skate.serve._names import DeploymentId as DeploymentID
from skate.serve._routing_config import RequestRouterConfig

__all__ = [
    "AggregationFunction",
    "AutoscalingConfig",
    "AutoscalingContext",
    "AutoscalingPolicy",
    "BackpressureConfig",
    "DeploymentID",
    "HTTPOptions",
    "ProxyLocation",
    "RequestRouterConfig",
    "gRPCOptions",
]

T = TypeVar("T")

#: The policy of deployments that name none.
_DEFAULT_POLICY = "skate.serve.autoscaling_policy:default_autoscaling_policy"


#: Has API keys, separated by commas.
KEYS_VARIABLE = "SKATE_SERVE_API_KEYS"


class ProxyLocation(str, enum.Enum):
    """Where HTTP is answered. On one machine each but "Disabled" means the same."""

    Disabled = "Disabled"
    HeadOnly = "HeadOnly"
    EveryNode = "EveryNode"


@dataclass
class HTTPOptions:
    """Where HTTP is answered, and how.

    Args:
        host: the address to listen on. Others than loopback are open to the network: give ``api_keys``.
        port: 0 takes any free one; see ``serve.status``.
        location: ``ProxyLocation``, or its name.
        middlewares: starlette's ``Middleware`` objects, or functions that take an ASGI application and return
            one: around everything that the port answers, serve's own refusals too. The last is the outermost.
            Each process that answers HTTP makes its own. A list in code: a file cannot have any.
        root_url: by which clients reach the port, for messages; empty: by its address.
        root_path: of a proxy in front, which removes it from the paths.
        request_timeout_s: the deadline of every request (seconds); None: none.
        keep_alive_timeout_s: how long an idle connection stays open (seconds).
        ssl_keyfile, ssl_certfile: files of a key and a certificate (PEM); given, the port answers HTTPS only.
        ssl_keyfile_password: of the key's file.
        ssl_ca_certs: a file of certificates (PEM); given, clients need a certificate that one of these
            signed.
        max_body_bytes: larger bodies are refused with 413; None: any size. (skate only, as all below.)
        header_timeout_s: a request's head must be complete after this time (seconds), else 408; None: never.
        body_timeout_s: a client that neither sends nor takes a byte of a body for this time is cut off
            (seconds); None: never.
        max_queued_body_bytes: how much memory the bodies of requests that wait may take in one process;
            others are refused with 503.
        api_keys: requests need one of these, as ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``, else
            they get 401. None: those of the environment variable ``SKATE_SERVE_API_KEYS``, separated by
            commas, if it is set.
        api_keys_file: a file with such keys, one a line.

    Example:
        >>> serve.start(http_options=HTTPOptions(port=9000))
    """

    host: str | None = "127.0.0.1"
    port: int = 8000
    middlewares: list[Any] = field(default_factory=list)
    location: ProxyLocation | str | None = None
    num_cpus: int = 0
    root_url: str = ""
    root_path: str = ""
    request_timeout_s: float | None = None
    keep_alive_timeout_s: float = 90
    ssl_keyfile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile_password: str | None = field(default=None, repr=False)
    ssl_ca_certs: str | None = None
    max_body_bytes: int | None = None
    header_timeout_s: float | None = 10.0
    body_timeout_s: float | None = 30.0
    max_queued_body_bytes: int = 256 << 20
    api_keys: Sequence[str] | None = field(default=None, repr=False)
    api_keys_file: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.port, int) or not 0 <= self.port <= 65535:
            raise ValidationError(f"port takes a number from 0 to 65535, got {self.port!r}")
        for name in ("request_timeout_s", "keep_alive_timeout_s", "header_timeout_s", "body_timeout_s"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and 0 <= value < math.inf):
                raise ValidationError(f"{name} takes seconds, got {value!r}")
        for name in ("max_body_bytes", "max_queued_body_bytes"):
            size = getattr(self, name)
            if not (isinstance(size, int) and size >= 0) and (size is not None or name != "max_body_bytes"):
                raise ValidationError(f"{name} takes a number of bytes, got {size!r}")
        if self.api_keys is not None:
            _check_keys("api_keys", self.api_keys)
        if self.location is not None:
            self.location = ProxyLocation(self.location)
        if not isinstance(self.middlewares, list | tuple) or not all(map(_is_middleware, self.middlewares)):
            raise ValidationError(
                "middlewares takes a list of starlette's Middleware objects, or functions that take an ASGI "
                f"application and return one; got {self.middlewares!r}"
            )
        if not isinstance(self.root_url, str):
            raise ValidationError(f"root_url takes a URL, got {self.root_url!r}")
        has_tls = bool(self.ssl_keyfile and self.ssl_certfile)
        if not has_tls and any(
            (self.ssl_keyfile, self.ssl_certfile, self.ssl_keyfile_password, self.ssl_ca_certs)
        ):
            raise ValidationError("TLS needs both ssl_keyfile and ssl_certfile")


def _is_middleware(given: Any) -> bool:
    kind = getattr(given, "cls", None)
    return callable(given if kind is None else kind)


def _check_keys(source: str, keys: Any) -> None:
    """Raise unless these can be API keys. The error shows none of them."""
    if isinstance(keys, str) or not isinstance(keys, Sequence) or not keys:
        raise ValidationError(f"{source} takes a list of strings that is not empty")
    for number, key in enumerate(keys):
        if not (isinstance(key, str) and key.isascii() and key.isprintable() and key.split() == [key]):
            raise ValidationError(f"key {number} of {source} must be visible ASCII characters")


@dataclass
class gRPCOptions:
    """Where gRPC is answered, and which services. The address, TLS, API keys and limits are those of HTTP.

    Args:
        port: 0 takes any free one; see ``serve.status``.
        grpc_servicer_functions: import paths of the generated functions ``add_XServicer_to_server``. The
            methods of deployments have the names of the services' methods. Without any, gRPC is off.
        request_timeout_s: the deadline of requests whose client has set no earlier one (seconds); None: none.
        enable_reflection: describe the services to clients such as grpcurl. It needs the package
            grpcio-reflection.

    Example:
        >>> serve.start(grpc_options=gRPCOptions(
        ...     grpc_servicer_functions=["user_pb2_grpc.add_ModelServicer_to_server"],
        ... ))
    """

    port: int = 9000
    grpc_servicer_functions: list[str] = field(default_factory=list)
    request_timeout_s: float | None = None
    enable_reflection: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.port, bool) or not isinstance(self.port, int) or not 0 <= self.port <= 65535:
            raise ValidationError(f"port takes a number from 0 to 65535, got {self.port!r}")
        functions = self.grpc_servicer_functions
        if not isinstance(functions, list | tuple) or not all(isinstance(one, str) for one in functions):
            raise ValidationError(f"grpc_servicer_functions takes a list of import paths, got {functions!r}")
        self.grpc_servicer_functions = list(functions)
        timeout = self.request_timeout_s
        if timeout is not None and not (isinstance(timeout, int | float) and 0 <= timeout < math.inf):
            raise ValidationError(f"request_timeout_s takes seconds, got {timeout!r}")
        if not isinstance(self.enable_reflection, bool):
            raise ValidationError(f"enable_reflection takes True or False, got {self.enable_reflection!r}")

    @property
    def grpc_servicer_func_callable(self) -> list[Callable[[Any, Any], object]]:
        """The functions that ``grpc_servicer_functions`` names. It imports them."""
        from importlib import import_module

        return [
            getattr(import_module(module), name)
            for module, _, name in (
                one.replace(":", ".").rpartition(".") for one in self.grpc_servicer_functions
            )
        ]


@dataclass(frozen=True)
class BackpressureConfig:
    """How a request is refused when ``max_queued_requests`` wait already.

    Args:
        status_code: for HTTP clients: 503, or 429.
        retry_after_s: what the header Retry-After says, rounded up (seconds); None: about how long a request
            would wait, as soon as that is known.
    """

    status_code: int = 503
    retry_after_s: float | None = None

    def __post_init__(self) -> None:
        if self.status_code not in (429, 503):
            raise ValidationError(f"status_code is 429 or 503, got {self.status_code!r}")
        if self.retry_after_s is not None and not self.retry_after_s >= 0:
            raise ValidationError(f"retry_after_s takes seconds, got {self.retry_after_s!r}")


def http_options(given: HTTPOptions | Mapping[str, Any] | None) -> HTTPOptions:
    """Return the options that were given as an object or as a mapping.

    Raises:
        TypeError: neither was given, or an option is unknown.
    """
    return _options("http_options", "an", HTTPOptions, given)


def grpc_options(given: gRPCOptions | Mapping[str, Any] | None) -> gRPCOptions:
    """Return the options that were given as an object or as a mapping.

    Raises:
        TypeError: neither was given, or an option is unknown.
    """
    return _options("grpc_options", "a", gRPCOptions, given)


def _options(name: str, article: str, kind: type[T], given: T | Mapping[str, Any] | None) -> T:
    if given is None:
        return kind()
    if isinstance(given, kind):
        return given
    if isinstance(given, Mapping):
        return kind(**given)
    raise TypeError(f"{name} takes {article} {kind.__name__} or a dict, got {given!r}")


def api_keys(options: HTTPOptions, environment: Mapping[str, str]) -> list[str]:
    """Return the API keys that options name, or the environment; none: every request is admitted.

    Args:
        options: of the port.
        environment: variables.

    Raises:
        ValidationError: what is named has no keys in it, or some that cannot be.
        OSError: the file cannot be read.
    """
    found = list(options.api_keys or ())
    if options.api_keys_file is not None:
        with open(options.api_keys_file, encoding="utf-8") as file:
            lines = [line.strip() for line in file]
        in_file = [line for line in lines if line and not line.startswith("#")]
        _check_keys(f"the file {options.api_keys_file}", in_file)
        found += in_file
    if not found and KEYS_VARIABLE in environment:
        found = [key.strip() for key in environment[KEYS_VARIABLE].split(",") if key.strip()]
        _check_keys(KEYS_VARIABLE, found)
    return found


class AggregationFunction(str, enum.Enum):
    """How the load over the look-back period becomes one number."""

    MEAN = "mean"
    MAX = "max"
    MIN = "min"


@dataclass(frozen=True)
class AutoscalingPolicy:
    """Decides how many replicas a deployment should have.

    Args:
        policy_function: a function of an ``AutoscalingContext``, a class whose instances are such functions,
            or "module:name". It returns the number, or (number, state); the state is the next call's
            ``policy_state``. Factors, delays and bounds of the ``AutoscalingConfig`` apply to the number.
        policy_kwargs: further arguments of the function, or those of the class.

    Example:
        >>> def by_the_clock(context):
        ...     return 8 if 8 <= time.localtime(context.current_time).tm_hour < 18 else 1
        >>> AutoscalingPolicy(policy_function=by_the_clock)
    """

    policy_function: Callable[..., Any] | str = _DEFAULT_POLICY
    policy_kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = self.policy_function
        if not callable(given) and not (isinstance(given, str) and given.count(":") == 1):
            raise ValidationError(f"policy_function takes a function or 'module:name', got {given!r}")
        if not isinstance(self.policy_kwargs, Mapping):
            raise ValidationError(f"policy_kwargs takes a dict, got {self.policy_kwargs!r}")

    def is_default_policy_function(self) -> bool:
        """Tell whether the load alone decides.

        Example:
            >>> AutoscalingPolicy().is_default_policy_function()
            True
        """
        given = self.policy_function
        if not isinstance(given, str):
            return False
        module, _, name = given.partition(":")
        return module.endswith("serve.autoscaling_policy") and name in (
            "default_autoscaling_policy",
            "replica_queue_length_autoscaling_policy",
        )


@dataclass(frozen=True, kw_only=True)
class AutoscalingConfig:
    """How the number of a deployment's replicas follows its load.

    Args:
        min_replicas: the least number; with 0, a deployment without requests has no replica.
        initial_replicas: the number of a new deployment; None: ``min_replicas``.
        max_replicas: the largest number.
        target_ongoing_requests: requests for each replica, those that wait included.
        metrics_interval_s: processes report the load at most once in this time (seconds).
        look_back_period_s: the load is aggregated over this time, and a change in one direction is not
            reversed within it (seconds).
        smoothing_factor: the default of the two factors.
        upscale_smoothing_factor, downscale_smoothing_factor: older names of the next two.
        upscaling_factor, downscaling_factor: the part of the difference between the number and the one that
            the load asks for by which the number changes at a time.
        downscale_delay_s: how long the load must ask for fewer replicas (seconds).
        downscale_to_zero_delay_s: the same for the last replica (seconds); None: ``downscale_delay_s``.
        upscale_delay_s: how long the load must ask for more replicas (seconds). Without any, the first
            request starts one at once.
        aggregation_function: an ``AggregationFunction``, or its name.
        policy: an ``AutoscalingPolicy``, or a dict of its fields.

    Raises:
        ValueError: a value is out of its range.

    Example:
        >>> @serve.deployment(autoscaling_config=AutoscalingConfig(min_replicas=0, max_replicas=10))
        ... class Model: ...
    """

    min_replicas: int = 1
    initial_replicas: int | None = None
    max_replicas: int = 1
    target_ongoing_requests: float = 2
    metrics_interval_s: float = 10.0
    look_back_period_s: float = 30.0
    smoothing_factor: float = 1.0
    upscale_smoothing_factor: float | None = None
    downscale_smoothing_factor: float | None = None
    upscaling_factor: float | None = None
    downscaling_factor: float | None = None
    downscale_delay_s: float = 600.0
    downscale_to_zero_delay_s: float | None = None
    upscale_delay_s: float = 30.0
    aggregation_function: AggregationFunction | str = AggregationFunction.MEAN
    policy: AutoscalingPolicy = field(default_factory=AutoscalingPolicy)

    def __post_init__(self) -> None:
        for name, least in (("min_replicas", 0), ("initial_replicas", 0), ("max_replicas", 1)):
            check_whole(name, getattr(self, name), least, is_optional=name == "initial_replicas")
        for name in ("target_ongoing_requests", "metrics_interval_s", "look_back_period_s"):
            check_number(name, getattr(self, name), is_positive=True)
        check_number("smoothing_factor", self.smoothing_factor, is_positive=True)
        for way in ("upscal", "downscal"):
            for name in (f"{way}e_smoothing_factor", f"{way}ing_factor"):
                check_number(name, getattr(self, name), is_positive=True, is_optional=True)
        for name in ("downscale_delay_s", "upscale_delay_s"):
            check_number(name, getattr(self, name))
        check_number("downscale_to_zero_delay_s", self.downscale_to_zero_delay_s, is_optional=True)
        if self.min_replicas > self.max_replicas:
            raise ValidationError(
                f"max_replicas ({self.max_replicas}) must not be less than min_replicas ({self.min_replicas})"
            )
        initial = self.initial_replicas
        if initial is not None and not self.min_replicas <= initial <= self.max_replicas:
            raise ValidationError(
                f"initial_replicas ({initial}) must lie between min_replicas ({self.min_replicas}) and "
                f"max_replicas ({self.max_replicas})"
            )
        try:
            function = AggregationFunction(self.aggregation_function)
        except ValueError:
            raise ValidationError(
                f"aggregation_function takes mean, max or min, got {self.aggregation_function!r}"
            ) from None
        object.__setattr__(self, "aggregation_function", function)
        if isinstance(self.policy, Mapping):
            object.__setattr__(self, "policy", AutoscalingPolicy(**self.policy))
        if not isinstance(self.policy, AutoscalingPolicy):
            raise ValidationError(f"policy takes an AutoscalingPolicy or a dict, got {self.policy!r}")

    @classmethod
    def default(cls) -> AutoscalingConfig:
        """Return what ``num_replicas="auto"`` means.

        Example:
            >>> AutoscalingConfig.default().max_replicas
            100
        """
        return cls(max_replicas=100)

    def get_upscaling_factor(self) -> float:
        """Return the factor of changes upwards, by whichever name it was given.

        Example:
            >>> AutoscalingConfig(smoothing_factor=0.5).get_upscaling_factor()
            0.5
        """
        return self.upscaling_factor or self.upscale_smoothing_factor or self.smoothing_factor

    def get_downscaling_factor(self) -> float:
        """Return the factor of changes downwards, by whichever name it was given.

        Example:
            >>> AutoscalingConfig(downscaling_factor=0.2).get_downscaling_factor()
            0.2
        """
        return self.downscaling_factor or self.downscale_smoothing_factor or self.smoothing_factor

    def get_target_ongoing_requests(self) -> float:
        """Return how many requests there should be for each replica.

        Example:
            >>> AutoscalingConfig().get_target_ongoing_requests()
            2
        """
        return self.target_ongoing_requests


@dataclass(frozen=True)
class AutoscalingContext:
    """The knowledge of an autoscaling policy about its deployment.

    Args:
        deployment_id, deployment_name, app_name: names of the deployment.
        current_num_replicas: replicas that run.
        target_num_replicas: replicas that it is to have.
        running_replicas: ids of those that run.
        total_num_requests: requests that run or wait, aggregated over the look-back period.
        total_queued_requests: those of them that wait for a replica.
        aggregated_metrics, raw_metrics: the values that the method ``record_autoscaling_stats`` of the
            deployment's class returned over the look-back period, by name and replica: aggregated; and as
            lists with ``timestamp`` (seconds of the wall clock) and ``value``.
        capacity_adjusted_min_replicas, capacity_adjusted_max_replicas: the bounds.
        policy_state: what the policy returned beside its last number.
        last_scale_up_time, last_scale_down_time: of the number's last changes (seconds of the wall clock), or
            None.
        current_time: seconds of the wall clock.
        config: of the deployment, without its policy.
    """

    deployment_id: Any
    deployment_name: str
    app_name: str | None
    current_num_replicas: int
    target_num_replicas: int
    running_replicas: list[Any]
    total_num_requests: float
    total_queued_requests: float | None
    aggregated_metrics: dict[str, Any]
    raw_metrics: dict[str, Any]
    capacity_adjusted_min_replicas: int
    capacity_adjusted_max_replicas: int
    policy_state: dict[str, Any]
    last_scale_up_time: float | None
    last_scale_down_time: float | None
    current_time: float | None
    config: Any

    @property
    def total_running_requests(self) -> float:
        """Requests that run in replicas."""
        return self.total_num_requests - (self.total_queued_requests or 0.0)
