"""For programs that use Ray itself beside skate, on the same cluster. See ``docs/engines.md``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skate._on_ray import session


def job_environment(given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the ``runtime_env`` with which the workers of a Ray cluster find skate.

    ``skate.init`` uses it by itself. A program that calls ``ray.init``, and ``skate.init(address="ray")``
    after that, hands it to Ray.

    Args:
        given: fields that the program wants besides, such as ``pip``.

    Returns:
        The environment: ``given``, the variable ``SKATE_ENGINE``, and the packages of skate as ``py_modules``
        unless ``SKATE_RAY_PACKAGES=installed`` says that the workers have them.

    Example:
        >>> ray.init(runtime_env=skate.util.on_ray.job_environment({"pip": ["emoji"]}))
        >>> skate.init(address="ray")
    """
    return session.job_environment(given)
