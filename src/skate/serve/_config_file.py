"""Config files as text: YAML to schema and back."""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from skate.serve._build import Builder
from skate.serve._config import ConfigError, ServeDeploySchema
from skate.serve._loading import application_of
from skate.serve._targets import DeploymentTarget
from skate.serve.deployment import Deployment

_HEAD = "# Made by `skate serve build`. Run it by `skate serve run FILE` or `skate serve deploy FILE`.\n\n"


def _yaml() -> Any:
    try:
        import yaml
    except ImportError:
        raise RuntimeError(
            "config files are read and written with the package pyyaml, which is not installed: pip install "
            "'skate-runtime[serve]'"
        ) from None
    return yaml


def read(path: str) -> ServeDeploySchema:
    """Return what a config file says.

    Args:
        path: of the file, in YAML or JSON.

    Raises:
        ConfigError: it cannot be read, or says something that it cannot say; the message names the file and
            the place.
        RuntimeError: PyYAML is not installed.
    """
    yaml = _yaml()
    try:
        with open(path) as file:
            data = yaml.safe_load(file)
    except OSError as error:
        raise ConfigError(f"the file cannot be read: {error.strerror}", path) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"no YAML: {error}", path) from None
    try:
        return ServeDeploySchema.model_validate(data)
    except ConfigError as error:
        raise ConfigError(str(error), path) from None


def dumped(data: Any) -> str:
    """Return plain data as YAML."""
    return str(_yaml().safe_dump(data, sort_keys=False, allow_unicode=True))


def written(
    import_paths: Sequence[str], folder: str, functions: Sequence[str] = (), enable_reflection: bool = True
) -> str:
    """Return a config file for applications, with the options that the code gives their deployments.

    Args:
        import_paths: of the applications; functions get no arguments.
        folder: where modules are looked for first.
        functions, enable_reflection: of ``grpc_options``; without functions there are none.

    Raises:
        ValueError: one names no application.
    """
    applications = []
    for number, path in enumerate(import_paths, 1):
        found = _Options(f"app{number}")
        found.handle_of(application_of(path, {}, [os.path.abspath(folder)]))
        applications.append(
            {
                "name": f"app{number}",
                "route_prefix": "/" if len(import_paths) == 1 else f"/app{number}",
                "import_path": path,
                "runtime_env": {},
                "deployments": [{"name": name, **options} for name, options in found.options.items()],
            }
        )
    grpc = {"port": 9000, "grpc_servicer_functions": [*functions], "enable_reflection": enable_reflection}
    data = {
        "proxy_location": "EveryNode",
        "http_options": {"host": "127.0.0.1", "port": 8000},
        **({"grpc_options": grpc} if functions else {}),
        "applications": applications,
    }
    ServeDeploySchema.model_validate(data)
    return _HEAD + dumped(data)


class _Options(Builder):
    """Collects the options in the code of an application's deployments, as plain data."""

    def __init__(self, app_name: str) -> None:
        super().__init__(app_name)
        self.options: dict[str, dict[str, Any]] = {}

    def _target(self, deployment: Deployment, name: str, *_: Any) -> DeploymentTarget:
        usual = {} if "autoscaling_config" in deployment._options else {"num_replicas": 1}
        self.options[name] = usual | {
            key: _plain(value) for key, value in deployment._options.items() if key != "name"
        }
        return DeploymentTarget(name, "", deployment.settings)


def _plain(value: Any) -> Any:
    """Return an option as a file has it: of an object, the fields that differ from their defaults."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, enum.Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        found = {}
        for one in fields(value):
            usual = one.default if one.default_factory is MISSING else one.default_factory()
            if (given := getattr(value, one.name)) != usual:
                found[one.name] = _plain(given)
        return found
    if callable(value):
        return f"{value.__module__}:{value.__qualname__}"
    return value
