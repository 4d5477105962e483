"""Describes the variables, files and packages of the processes of a job, task or actor.

::

    skate.init(runtime_env={"working_dir": ".", "env_vars": {"MODE": "test"}})

    @skate.remote(runtime_env=RuntimeEnv(pip=["shapely==2.0.6"]))
    def area(points): ...

A plain dict is enough; ``RuntimeEnv`` checks its fields where it is written. A task or actor inherits the
environment of the process that starts it: variables are merged, and every other field that it names replaces
the inherited one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from skate._environment import fields

__all__ = ["RuntimeEnv", "RuntimeEnvConfig"]


class RuntimeEnvConfig(dict[str, Any]):
    """How an environment is prepared.

    Args:
        setup_timeout_seconds: how long that may take; -1: without limit.
        eager_install: prepare the environment of a job at ``init``, not before its first task.
        log_files: taken for Ray's sake; the log is in the session's folder.

    Raises:
        TypeError, ValueError: a value is none of these.

    Example:
        >>> RuntimeEnvConfig(setup_timeout_seconds=60)["setup_timeout_seconds"]
        60
    """

    known_fields = frozenset({"setup_timeout_seconds", "eager_install", "log_files"})

    def __init__(
        self,
        setup_timeout_seconds: float = fields.DEFAULT_TIMEOUT_S,
        eager_install: bool = True,
        log_files: list[str] | None = None,
    ) -> None:
        super().__init__(
            setup_timeout_seconds=setup_timeout_seconds,
            eager_install=eager_install,
            log_files=list(log_files or ()),
        )
        fields.check({fields.CONFIG: self})

    @staticmethod
    def parse_and_validate_runtime_env_config(config: Mapping[str, Any]) -> RuntimeEnvConfig:
        """Return a plain dict as a RuntimeEnvConfig.

        Raises:
            TypeError, ValueError: it is none.
        """
        if isinstance(config, RuntimeEnvConfig):
            return config
        fields.check({fields.CONFIG: config})
        known = {name: value for name, value in config.items() if name in RuntimeEnvConfig.known_fields}
        return RuntimeEnvConfig(**known)

    @classmethod
    def default_config(cls) -> RuntimeEnvConfig:
        """Return the defaults: ten minutes, at once."""
        return cls()

    def to_dict(self) -> dict[str, Any]:
        """Return it as a plain dict."""
        return dict(self)


class RuntimeEnv(dict[str, Any]):
    """A checked ``runtime_env``.

    Args:
        env_vars: variables; ``${NAME}`` stands for what the job's environment has there.
        working_dir: a folder or .zip file: its copy is the working folder, and importable.
        py_modules: packages and modules to import: folders, .py, .zip and .whl files, or modules.
        excludes: patterns as in .gitignore of what is not copied.
        pip, uv: requirements to install: a list, the path of a requirements file, or a dict with
            ``packages`` and ``pip_check``, ``pip_version``, ``pip_install_options`` (``uv_check``,
            ``uv_version``, ``uv_pip_install_options``).
        worker_process_setup_hook: a function, or "module.function", that each process runs first.
        config: a RuntimeEnvConfig or a dict with its fields.
        conda, container, image_uri, py_executable, nsight, rocprof_sys: not supported.
        _validate: False: do not check.

    Raises:
        TypeError, ValueError: a field is unknown, wrong, or not supported.

    Example:
        >>> RuntimeEnv(env_vars={"MODE": "test"})["env_vars"]
        {'MODE': 'test'}
    """

    known_fields = fields.KNOWN
    #: Of Ray's: where its packages are recorded.
    extensions_fields = frozenset({"_ray_release", "_ray_commit", "_inject_current_ray"})

    def __init__(
        self,
        *,
        py_modules: Sequence[str | ModuleType] | None = None,
        py_executable: str | None = None,
        working_dir: str | None = None,
        pip: Any = None,
        conda: Any = None,
        container: Any = None,
        env_vars: Mapping[str, str] | None = None,
        worker_process_setup_hook: Callable[[], Any] | str | None = None,
        nsight: Any = None,
        rocprof_sys: Any = None,
        config: Mapping[str, Any] | None = None,
        _validate: bool = True,
        image_uri: str | None = None,
        uv: Any = None,
        **kwargs: Any,
    ) -> None:
        given = {
            "py_modules": py_modules, "py_executable": py_executable, "working_dir": working_dir, "pip": pip,
            "conda": conda, "container": container, "env_vars": env_vars, "nsight": nsight,
            "rocprof_sys": rocprof_sys, "image_uri": image_uri, "uv": uv, fields.CONFIG: config,
            fields.HOOK: worker_process_setup_hook, **kwargs,
        }  # fmt: skip
        super().__init__({name: value for name, value in given.items() if value is not None})
        if _validate:
            fields.check(self)

    def set(self, name: str, value: Any) -> None:
        """Set a field; None removes it.

        Raises:
            TypeError, ValueError: it is no field, or the value is wrong; nothing is changed.
        """
        changed = {key: old for key, old in self.items() if key != name}
        if value is not None:
            changed[name] = value
        fields.check(changed)
        self.clear()
        self.update(changed)

    def get(self, name: str, default: Any = None, data_class: Any = None) -> Any:
        """Return a field, or ``default``; with ``data_class`` made from it as keywords."""
        if name not in self:
            return default
        value = self[name]
        return value if data_class is None or isinstance(value, data_class) else data_class(**value)

    def to_dict(self) -> dict[str, Any]:
        """Return it as a plain dict."""
        return dict(self)

    def serialize(self) -> str:
        """Return it as JSON, its fields in order.

        Raises:
            TypeError: it holds a function or a module.
        """
        return json.dumps(self, sort_keys=True)

    @classmethod
    def deserialize(cls, serialized_runtime_env: str) -> RuntimeEnv:
        """Return what ``serialize`` wrote.

        Raises:
            ValueError: it is no JSON, or no runtime_env.
        """
        return cls(**json.loads(serialized_runtime_env))

    # ------------------------------------------------------------------ questions

    def env_vars(self) -> dict[str, str]:
        """Return the variables."""
        return dict(self.get("env_vars", {}))

    def working_dir(self) -> str:
        """Return the folder or file; "" if there is none."""
        return str(self.get("working_dir", ""))

    def has_working_dir(self) -> bool:
        """Tell whether it has one."""
        return bool(self.get("working_dir"))

    def py_modules(self) -> list[Any]:
        """Return the modules."""
        return list(self.get("py_modules", ()))

    def has_pip(self) -> bool:
        """Tell whether pip installs packages."""
        return bool(self.get("pip"))

    def pip_config(self) -> dict[str, Any]:
        """Return the field ``pip`` as a dict; an empty one if there is none."""
        return self._packages("pip")

    def has_uv(self) -> bool:
        """Tell whether uv installs packages."""
        return bool(self.get("uv"))

    def uv_config(self) -> dict[str, Any]:
        """Return the field ``uv`` as a dict; an empty one if there is none."""
        return self._packages("uv")

    def _packages(self, tool: str) -> dict[str, Any]:
        given = self.get(tool)
        if not given:
            return {}
        packages = dict(given) if isinstance(given, Mapping) else {"packages": given}
        if isinstance(packages["packages"], str):
            with open(packages["packages"], encoding="utf-8") as file:
                packages["packages"] = file.read().splitlines()
        return {f"{tool}_check": False, **packages}

    # ------------------------------------------------------------------ what only Ray's can have

    # Fields that skate refuses are there only after ``_validate=False``. There are no addresses of
    # packed files (URIs) either: files are copied on their machine, named by their content.

    def conda_config(self) -> Any:
        """Return the field ``conda`` if it describes an environment."""
        return None if isinstance(self.get("conda"), str) else self.get("conda")

    def conda_env_name(self) -> Any:
        """Return the field ``conda`` if it names an environment."""
        return self.get("conda") if isinstance(self.get("conda"), str) else None

    def has_conda(self) -> bool:
        """Tell whether it has the field ``conda``."""
        return bool(self.get("conda"))

    def has_py_container(self) -> bool:
        """Tell whether it has the field ``container``."""
        return bool(self.get("container"))

    def py_container_image(self) -> str | None:
        """Return the image of the field ``container``."""
        return self.get("container", {}).get("image")  # type: ignore[no-any-return]

    def py_container_run_options(self) -> list[str] | None:
        """Return the options of the field ``container``."""
        return self.get("container", {}).get("run_options")  # type: ignore[no-any-return]

    def py_container_worker_path(self) -> str | None:
        """Return the path of the field ``container``."""
        return self.get("container", {}).get("worker_path")  # type: ignore[no-any-return]

    def image_uri(self) -> Any:
        """Return the field ``image_uri``."""
        return self.get("image_uri")

    def java_jars(self) -> list[str]:
        """Return the field ``java_jars``."""
        return list(self.get("java_jars", ()))

    def nsight(self) -> Any:
        """Return the field ``nsight``."""
        return self.get("nsight")

    def rocprof_sys(self) -> Any:
        """Return the field ``rocprof_sys``."""
        return self.get("rocprof_sys")

    def py_executable(self) -> Any:
        """Return the field ``py_executable``."""
        return self.get("py_executable")

    def plugins(self) -> list[tuple[str, Any]]:
        """Return the fields that are none of skate's and none of Ray's, with their values."""
        own = self.known_fields | fields.ABSENT | self.extensions_fields
        return [(name, value) for name, value in self.items() if name not in own]

    def get_extension(self, key: str) -> Any:
        """Return one of ``extensions_fields``.

        Raises:
            ValueError: there is no such one.
        """
        if key not in self.extensions_fields:
            raise ValueError(
                f"there are the extensions {', '.join(sorted(self.extensions_fields))}, no {key!r}"
            )
        return self.get(key)

    def working_dir_uri(self) -> str | None:
        """Return None: see above."""
        return None

    def py_modules_uris(self) -> list[str]:
        """Return nothing: see above."""
        return []

    def conda_uri(self) -> str | None:
        """Return None: see above."""
        return None

    def pip_uri(self) -> str | None:
        """Return None: see above."""
        return None

    def uv_uri(self) -> str | None:
        """Return None: see above."""
        return None

    def plugin_uris(self) -> list[str]:
        """Return nothing: see above."""
        return []

    def virtualenv_name(self) -> str | None:
        """Return None: a virtual environment is made for each set of packages, and has no name."""
        return None
