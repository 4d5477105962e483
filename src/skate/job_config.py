"""Defines the settings of a job in one object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from skate.logging_config import LoggingConfig
from skate.runtime_env import RuntimeEnv


class JobConfig:
    """Holds settings for ``init(job_config=...)``. Arguments of ``init`` itself take precedence.

    Args:
        jvm_options, code_search_path: of Java and C++ programs: must be empty.
        runtime_env: as that of ``init``.
        metadata: text of yours by key, shown by ``skate list jobs --json`` and ``list_jobs``.
        ray_namespace: as the ``namespace`` of ``init``.
        default_actor_lifetime: "detached" or "non_detached": of actors that do not say it themselves.

    Raises:
        TypeError, ValueError: something is wrong; the message names it.

    Example:
        >>> config = JobConfig(metadata={"owner": "search team"}, ray_namespace="search")
        >>> skate.init(job_config=config)
    """

    def __init__(
        self,
        jvm_options: list[str] | None = None,
        code_search_path: list[str] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        _client_job: bool = False,
        metadata: dict[str, str] | None = None,
        ray_namespace: str | None = None,
        default_actor_lifetime: str = "non_detached",
        _disable_job_level_lineage_reconstruction: bool = False,
        _py_driver_sys_path: list[str] | None = None,
    ) -> None:
        for name, value in (("jvm_options", jvm_options), ("code_search_path", code_search_path)):
            if value:
                raise ValueError(f"{name} is for programs in other languages, which skate does not run")
        if _disable_job_level_lineage_reconstruction:
            raise ValueError("_disable_job_level_lineage_reconstruction is not supported: use max_retries=0")
        self.jvm_options: list[str] = []
        self.code_search_path: list[str] = []
        self.runtime_env: Mapping[str, Any] = {}
        self.metadata: dict[str, str] = {}
        self.ray_namespace: str | None = None
        self.logging_config: LoggingConfig | None = None
        self.default_actor_lifetime = "non_detached"
        self.set_runtime_env(runtime_env)
        for key, text in (metadata or {}).items():
            self.set_metadata(key, text)
        if ray_namespace is not None:
            self.set_ray_namespace(ray_namespace)
        self.set_default_actor_lifetime(default_actor_lifetime)

    def set_metadata(self, key: str, value: str) -> None:
        """Set one entry of the metadata."""
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"metadata has strings only, got {key!r}: {value!r}")
        self.metadata[key] = value

    def set_ray_namespace(self, ray_namespace: str) -> None:
        """Set the namespace of the job's named actors."""
        if not isinstance(ray_namespace, str):
            raise TypeError(f"ray_namespace takes a string, got {ray_namespace!r}")
        self.ray_namespace = ray_namespace

    def set_runtime_env(self, runtime_env: Mapping[str, Any] | None, validate: bool = False) -> None:
        """Set the environment of the job's workers. ``init`` checks it; ``validate``: check it now, too."""
        self.runtime_env = RuntimeEnv(**runtime_env) if validate and runtime_env else dict(runtime_env or {})

    def set_default_actor_lifetime(self, default_actor_lifetime: str) -> None:
        """Set the lifetime of actors that do not say it themselves."""
        if default_actor_lifetime not in ("detached", "non_detached"):
            raise ValueError(
                f"default_actor_lifetime is 'detached' or 'non_detached', got {default_actor_lifetime!r}"
            )
        self.default_actor_lifetime = default_actor_lifetime

    def set_py_logging_config(self, logging_config: LoggingConfig | None = None) -> None:
        """Set how the job's own logging looks."""
        if logging_config is not None and not isinstance(logging_config, LoggingConfig):
            raise TypeError(f"logging_config takes a skate.LoggingConfig, got {logging_config!r}")
        self.logging_config = logging_config

    def ensure_logging_config(self, logging_config: LoggingConfig | None = None) -> None:
        """Set how the job's own logging looks, unless that is set already."""
        if self.logging_config is None:
            self.set_py_logging_config(logging_config)

    @classmethod
    def from_json(cls, job_config_json: str | Mapping[str, Any]) -> JobConfig:
        """Return the configuration that JSON (or a dict) of the constructor's arguments describes."""
        given = json.loads(job_config_json) if isinstance(job_config_json, str) else job_config_json
        logging_config = given.get("py_logging_config") or given.get("logging_config")
        names = ("runtime_env", "metadata", "ray_namespace", "default_actor_lifetime", "jvm_options",
                 "code_search_path")  # fmt: skip
        config = cls(**{name: given[name] for name in names if given.get(name) is not None})
        if logging_config:
            config.set_py_logging_config(LoggingConfig.from_dict(logging_config))
        return config
