"""Options of skate in the words of Ray, whose classes are handed in."""

from __future__ import annotations

import functools
import importlib
import inspect
import pickle
from collections.abc import Callable, Mapping
from typing import Any

from skate._on_ray.groups import native_group
from skate._scheduling import group_options
from skate._scheduling.strategies import (
    DoesNotExist,
    Exists,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
    PlacementGroupSchedulingStrategy,
)
from skate._wire.worker import ALL

#: Options that say in older words what a scheduling strategy says.
_OLDER = frozenset({"placement_group", "placement_group_bundle_index", "placement_group_capture_child_tasks"})
#: Options of calls of actors' methods that Ray takes.
_METHOD = (
    "num_returns", "name", "max_task_retries", "concurrency_group", "_generator_backpressure_num_objects",
)  # fmt: skip


def task_options(given: Mapping[str, Any], ray: Any) -> dict[str, Any]:
    """Return the options of a remote function for ``ray.remote``.

    Args:
        given: as the program wrote them, checked.
        ray: the module.
    """
    return _common(given, ray)


def actor_options(given: Mapping[str, Any], ray: Any) -> dict[str, Any]:
    """Return the options of an actor class for ``ray.remote``. See ``task_options``."""
    found = _common(given, ray)
    found.pop("concurrency_groups", None)  # an option of the class, to Ray
    if found.get("lifetime") == "non_detached":
        del found["lifetime"]
    return found


def _common(given: Mapping[str, Any], ray: Any) -> dict[str, Any]:
    found = {name: value for name, value in given.items() if value is not None and name not in _OLDER}
    chosen = group_options.strategy_of(given)
    if chosen is not None:
        found["scheduling_strategy"] = strategy(chosen, ray)
    if "runtime_env" in found:
        found["runtime_env"] = dict(found["runtime_env"])
    return found


def strategy(given: Any, ray: Any) -> Any:
    """Return Ray's scheduling strategy for one of skate's."""
    if isinstance(given, str):
        return given
    strategies = importlib.import_module("ray.util.scheduling_strategies")
    if isinstance(given, PlacementGroupSchedulingStrategy):
        group = given.placement_group
        return strategies.PlacementGroupSchedulingStrategy(
            native_group(ray, group.id.binary(), group.bundle_specs),
            given.placement_group_bundle_index,
            given.placement_group_capture_child_tasks,
        )
    if isinstance(given, NodeAffinitySchedulingStrategy):
        return strategies.NodeAffinitySchedulingStrategy(given.node_id, soft=given.soft)
    if isinstance(given, NodeLabelSchedulingStrategy):
        return strategies.NodeLabelSchedulingStrategy(
            hard=_conditions(given.hard, strategies), soft=_conditions(given.soft, strategies)
        )
    return given


def _conditions(given: Mapping[str, Any] | None, strategies: Any) -> dict[str, Any]:
    return {key: _condition(value, strategies) for key, value in (given or {}).items()}


def _condition(given: Any, strategies: Any) -> Any:
    if isinstance(given, In):
        return strategies.In(*given.values)
    if isinstance(given, NotIn):
        return strategies.NotIn(*given.values)
    if isinstance(given, Exists):
        return strategies.Exists()
    return strategies.DoesNotExist() if isinstance(given, DoesNotExist) else given


def method_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a method's call for Ray.

    Args:
        given: what a handle knows of the method: see ``skate.actor``.
    """
    found = {name: given[name] for name in _METHOD if given.get(name) is not None}
    retry = given.get("retry_exceptions")
    if isinstance(retry, str):
        # As handles carry it: see ``skate.options.retry_blob``.
        blob = retry.encode("latin-1")
        retry = True if blob == ALL else list(pickle.loads(blob))
    if retry is not None:
        found["retry_exceptions"] = retry
    if given.get("enable_task_events") == 0:
        found["enable_task_events"] = False
    return found


def plain_function(function: Callable[..., Any], streams: bool) -> Callable[..., Any]:
    """Return a function that Ray takes: of another callable, one that calls it.

    Args:
        function: the user's.
        streams: its items are to come one by one; Ray wants a function with ``yield`` in it.
    """
    if inspect.isfunction(function) and not (streams and not inspect.isgeneratorfunction(function)):
        return function

    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    if streams:

        def call(*args: Any, **kwargs: Any) -> Any:
            yield from function(*args, **kwargs)

    try:
        functools.update_wrapper(call, function)
    except Exception:
        call.__name__ = type(function).__name__
    call.__dict__.pop("__wrapped__", None)
    return call
