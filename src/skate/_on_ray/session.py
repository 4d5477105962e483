"""Joins a Ray cluster: as a driver, and in Ray's workers."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skate import engine
from skate._on_ray import ARROW, VARIABLE, import_ray
from skate._on_ray.engine import RayEngine

#: Packages that a worker needs besides Python and Ray: they travel with the job.
_PACKAGES = ("skate", "msgspec", "cloudpickle")
#: "installed": the workers have them already, and nothing travels.
PACKAGES_VARIABLE = "SKATE_RAY_PACKAGES"
#: Files that need not travel.
_EXCLUDES = ("**/__pycache__", "**/*.pyc", "**/*.pyi")


def job_environment(given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a ``runtime_env`` with which Ray's workers find skate.

    Args:
        given: what the program wants besides.

    Returns:
        The environment, for ``ray.init(runtime_env=...)``.
    """
    found = dict(given or {})
    found["env_vars"] = {**(found.get("env_vars") or {}), VARIABLE: "ray", **ARROW}
    if os.environ.get(PACKAGES_VARIABLE) != "installed":
        found["py_modules"] = [*(found.get("py_modules") or ()), *map(str, _folders())]
        found["excludes"] = [*(found.get("excludes") or ()), *_EXCLUDES]
    return found


def _folders() -> list[Path]:
    found = []
    for name in _PACKAGES:
        file = importlib.import_module(name).__file__
        assert file is not None
        found.append(Path(file).parent)
    return found


class RayDriver:
    """This process's part in a Ray cluster."""

    def __init__(self, ray: Any, ends: bool) -> None:
        self._ray = ray
        self._ends = ends

    @classmethod
    def start(
        cls, address: str | None, runtime_env: Mapping[str, Any] | None = None, **given: Any
    ) -> RayDriver:
        """Join a cluster, or start one on this machine, as ``ray.init`` does.

        Args:
            address: "ray://HOST:PORT", "auto", ...; None: as ``ray.init`` chooses.
            runtime_env: of the job, as the program wrote it.
            given: other arguments of ``ray.init``; those that are None are left out.
        """
        ray = import_ray()
        if ray.is_initialized():
            # The program has joined it by itself, and will leave it by itself.
            engine.use(RayEngine(ray))
            return cls(ray, ends=False)
        os.environ |= ARROW
        try:
            options = {name: value for name, value in given.items() if value is not None}
            ray.init(address=address, runtime_env=job_environment(runtime_env), **options)
        except ConnectionError as error:
            raise ConnectionError(f"no Ray cluster answers at {address or 'auto'!r}: {error}") from None
        engine.use(RayEngine(ray))
        return cls(ray, ends=True)

    def stop(self) -> None:
        """Leave the cluster; one that ``start`` started ends."""
        if self._ends:
            self._ray.shutdown()


def engine_here() -> RayEngine | None:
    """Return the engine of this process if it is one of Ray's workers; None: it is not.

    The job's environment variable is there also in processes that a worker starts.
    """
    ray = sys.modules.get("ray")
    if ray is None or not getattr(ray, "is_initialized", bool)():
        return None
    made = RayEngine(ray)
    engine.use(made)
    return made
