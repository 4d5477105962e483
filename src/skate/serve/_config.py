"""The schema of config files: what Ray's YAML may say, checked before anything is started. Decisions only: no
I/O."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, TypeVar

from skate.serve._logging_config import logging_config as as_logging_config
from skate.serve._options import checked, known
from skate.serve.config import AutoscalingPolicy, HTTPOptions, ProxyLocation, ValidationError, gRPCOptions

__all__ = ["ConfigError", "DeploymentSchema", "ServeApplicationSchema", "ServeDeploySchema"]

#: In files that Ray writes these stand with values that change nothing.
_USUAL_LOGGING: dict[str, Any] = {
    "encoding": "TEXT",
    "log_level": "INFO",
    "logs_dir": None,
    "enable_access_log": True,
    "additional_log_standard_attrs": [],
}


class ConfigError(ValidationError):
    """A config file says something that it cannot say.

    Args:
        text: the mistake.
        path: of the place: ``applications[0].deployments[1]``.
    """

    def __init__(self, text: str, path: str = "") -> None:
        super().__init__(f"{path}: {text}" if path else text)
        self.text = text
        self.path = path


@contextmanager
def inside(place: str) -> Iterator[None]:
    """Put a place before the errors of what lies in it."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(error.text, f"{place}.{error.path}" if error.path else place) from None
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error), place) from None


def _known_keys(data: Any, keys: Collection[str]) -> dict[str, Any]:
    """Return a mapping that has no other keys.

    Raises:
        ConfigError: it is none, or has one; the nearest known key is named.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"expected keys and values, got {data!r:.80}")
    for key in data:
        if key not in keys:
            import difflib

            near = difflib.get_close_matches(str(key), keys, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(keys))}"
            raise ConfigError(f"unknown key {key!r}; {hint}")
    return {str(key): value for key, value in data.items()}


_S = TypeVar("_S", bound="Schema")
_O = TypeVar("_O", HTTPOptions, gRPCOptions)


class Schema:
    """The common half of schemas: from plain data and back. The names are those of pydantic's models."""

    @classmethod
    def model_validate(cls: type[_S], data: Any) -> _S:
        """Return what plain data says, such as a file that was read.

        Args:
            data: dicts, lists, texts and numbers; or an object of this class.

        Raises:
            ConfigError: it has unknown keys, lacks some, or has wrong values. The message names the place.

        Example:
            >>> ServeDeploySchema.model_validate({"applications": [{"import_path": "app:model"}]})
        """
        if isinstance(data, cls):
            return data
        needed = [one.name for one in fields(cls) if one.default is one.default_factory is MISSING]  # type: ignore[arg-type]
        given = _known_keys(data, cls.keys())
        if missing := [name for name in needed if name not in given]:
            raise ConfigError(f"the key {missing[0]!r} is missing")
        return cls(**given)

    @classmethod
    def keys(cls) -> list[str]:
        """Return the keys that may be given."""
        return [one.name for one in fields(cls)]  # type: ignore[arg-type]

    def model_dump(self, *, exclude_unset: bool = False) -> dict[str, Any]:
        """Return plain data, of which ``model_validate`` makes the same again.

        Args:
            exclude_unset: leave out what has its default.
        """
        found: dict[str, Any] = {}
        for one in fields(self):  # type: ignore[arg-type]
            value = getattr(self, one.name)
            default = one.default if one.default_factory is MISSING else one.default_factory()
            if exclude_unset and value == default:
                continue
            found[one.name] = _plain(value, exclude_unset)
        return found


def _plain(value: Any, exclude_unset: bool) -> Any:
    if isinstance(value, Schema):
        return value.model_dump(exclude_unset=exclude_unset)
    if isinstance(value, HTTPOptions | gRPCOptions):
        usual = asdict(type(value)())
        return {k: v for k, v in asdict(value).items() if not exclude_unset or v != usual[k]}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, list):
        return [_plain(one, exclude_unset) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one, exclude_unset) for key, one in value.items()}
    return value


@dataclass
class DeploymentSchema(Schema):
    """The options of one deployment, which replace those in the code.

    Args:
        name: of the deployment.
        options: those of ``@serve.deployment``, as plain data. In a file they stand beside the name.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def __init__(self, name: str, **options: Any) -> None:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"name takes the name of a deployment, got {name!r}")
        self.name = name
        self.options = {key: value for key, value in options.items() if value is not None}
        checked(self.options)

    def __getattr__(self, option: str) -> Any:
        """Return an option; None: it was not given."""
        if option not in known():
            raise AttributeError(f"DeploymentSchema has no attribute {option!r}")
        return self.options.get(option)

    @classmethod
    def keys(cls) -> list[str]:
        """Return the keys that may be given."""
        return ["name", *known()]

    def model_dump(self, *, exclude_unset: bool = False) -> dict[str, Any]:
        """Return plain data; options that were not given are those of the code, and left out."""
        return {"name": self.name, **self.options}


@dataclass
class ServeApplicationSchema(Schema):
    """One application of a config file.

    Args:
        import_path: ``module:application``, or ``module:function`` of a function that returns one.
        name: of the application.
        route_prefix: paths below it reach the application by HTTP; None: handles only.
        runtime_env: what its processes find: see ``skate.runtime_env``.
        args: of that function.
        deployments: options that replace those in the code.
        external_scaler_enabled: replicas may be scaled by the REST API.
        logging_config: how its replicas log: fields of a ``LoggingConfig``.
        autoscaling_policy: fields of an ``AutoscalingPolicy`` whose function, ``module:name``, decides on all
            deployments together that have an ``autoscaling_config``. It gets a dict from deployment to
            ``AutoscalingContext``, and returns one from deployment to number of replicas; or that, and a dict
            from deployment to the next call's ``policy_state``. Deployments that it leaves out stay as they
            are.

    Example:
        >>> ServeApplicationSchema("app:model", deployments=[{"name": "Model", "num_replicas": 2}])
    """

    import_path: str
    name: str = "default"
    route_prefix: str | None = "/"
    runtime_env: dict[str, Any] = field(default_factory=dict)
    args: dict[str, Any] = field(default_factory=dict)
    deployments: list[DeploymentSchema] = field(default_factory=list)
    external_scaler_enabled: bool = False
    logging_config: Any = None
    autoscaling_policy: Any = None

    def __post_init__(self) -> None:
        if isinstance(self.autoscaling_policy, AutoscalingPolicy):
            self.autoscaling_policy = asdict(self.autoscaling_policy)
        with inside("autoscaling_policy"):
            if self.policy is not None and not isinstance(self.policy.policy_function, str):
                raise ConfigError(f"policy_function takes module:name, got {self.policy.policy_function!r}")
        with inside("logging_config"):
            as_logging_config(self.logging_config)
        for key in ("import_path", "name"):
            if not isinstance(getattr(self, key), str) or not getattr(self, key):
                raise ConfigError(f"{key} takes a text that is not empty, got {getattr(self, key)!r}")
        if not all(split_import_path(self.import_path)):
            raise ConfigError(f"import_path has the form module:application, got {self.import_path!r}")
        if self.route_prefix is not None and not isinstance(self.route_prefix, str):
            raise ConfigError(f"route_prefix takes a path such as /model, or null, got {self.route_prefix!r}")
        for key in ("runtime_env", "args"):
            if getattr(self, key) is None:
                setattr(self, key, {})
            if not isinstance(getattr(self, key), Mapping):
                raise ConfigError(f"{key} takes keys and values, got {getattr(self, key)!r:.80}")
        if not isinstance(self.external_scaler_enabled, bool):
            raise ConfigError("external_scaler_enabled takes true or false")
        self.deployments = _each(DeploymentSchema, self.deployments, "deployments")
        _no_twins([one.name for one in self.deployments], "deployments", "name")

    @property
    def policy(self) -> AutoscalingPolicy | None:
        """The autoscaling policy; None: each deployment decides for itself."""
        given = self.autoscaling_policy
        if given is None:
            return None
        return AutoscalingPolicy(**_known_keys(given, [one.name for one in fields(AutoscalingPolicy)]))

    @property
    def deployment_names(self) -> list[str]:
        """The deployments that have options here."""
        return [one.name for one in self.deployments]


@dataclass
class ServeDeploySchema(Schema):
    """A whole config file.

    Args:
        applications: all that is to run. Applications of the file before that are not here are removed.
        proxy_location: "Disabled": no HTTP; every other place is this machine.
        http_options: where HTTP is answered.
        grpc_options: where gRPC is answered, and which services.
        logging_config, tracing_config, controller_options: as ``serve.start`` takes them.
        target_capacity: the part of the replicas of all its deployments that is to run (percent); None: all.
            Numbers are rounded, at least to 1; with 0, nothing runs. Of deployments that scale automatically,
            the bounds count.

    Example:
        >>> ServeDeploySchema([{"import_path": "app:model"}]).applications[0].name
        'default'
    """

    applications: list[ServeApplicationSchema]
    proxy_location: ProxyLocation = ProxyLocation.EveryNode
    http_options: HTTPOptions = field(default_factory=HTTPOptions)
    grpc_options: gRPCOptions = field(default_factory=gRPCOptions)
    logging_config: Any = None
    tracing_config: Any = None
    controller_options: Any = None
    target_capacity: float | None = None

    def __post_init__(self) -> None:
        self.applications = _each(ServeApplicationSchema, self.applications, "applications")
        _no_twins([one.name for one in self.applications], "applications", "name")
        prefixes = [one.route_prefix for one in self.applications if one.route_prefix is not None]
        _no_twins(prefixes, "applications", "route_prefix")
        try:
            self.proxy_location = ProxyLocation(self.proxy_location)
        except ValueError:
            places = ", ".join(one.value for one in ProxyLocation)
            raise ConfigError(f"proxy_location is one of {places}, got {self.proxy_location!r}") from None
        self.http_options = options_of(HTTPOptions, self.http_options, "http_options")
        self.grpc_options = options_of(gRPCOptions, self.grpc_options, "grpc_options")
        if self.logging_config is not None and all(
            key in _USUAL_LOGGING and value == _USUAL_LOGGING[key]
            for key, value in dict(self.logging_config).items()
        ):
            self.logging_config = None
        percent = self.target_capacity
        is_number = isinstance(percent, int | float) and not isinstance(percent, bool)
        if percent is not None and not (is_number and 0 <= percent <= 100):
            raise ConfigError(f"target_capacity takes 0 to 100 (percent), got {percent!r}")


def split_import_path(path: str) -> tuple[str, str]:
    """Return the module and the name in it that an import path names; one of them is "" if it is none.

    Example:
        >>> split_import_path("package.app:model"), split_import_path("package.app.model")
        (('package.app', 'model'), ('package.app', 'model'))
    """
    module, _, name = path.partition(":") if ":" in path else path.rpartition(".")
    return module, name


def options_of(kind: type[_O], given: Any, place: str) -> _O:
    """Return options that were given as an object or as plain data."""
    if isinstance(given, kind):
        return given
    with inside(place):
        return kind(**_known_keys(given or {}, [one.name for one in fields(kind)]))


def _each(schema: type[_S], values: Any, place: str) -> list[_S]:
    if not isinstance(values, list | tuple):
        raise ConfigError(f"expected a list, got {values!r:.80}", place)
    found = []
    for number, one in enumerate(values):
        with inside(f"{place}[{number}]"):
            found.append(schema.model_validate(one))
    return found


def _no_twins(values: list[str], place: str, key: str) -> None:
    for number, one in enumerate(values):
        if one in values[:number]:
            raise ConfigError(f"two of them have the {key} {one!r}", place)
