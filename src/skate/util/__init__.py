"""Provides helpers on top of the public API: pools, queues, executors, and the rest of ``ray.util``.

Names are loaded at first use, as in ``skate`` itself.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skate.util import accelerators as accelerators
    from skate.util import actor_pool as actor_pool
    from skate.util import check_serialize as check_serialize
    from skate.util import dask as dask
    from skate.util import debug as debug
    from skate.util import debugpy as debugpy
    from skate.util import joblib as joblib
    from skate.util import metrics as metrics
    from skate.util import multiprocessing as multiprocessing
    from skate.util import on_ray as on_ray
    from skate.util import pdb as pdb
    from skate.util import queue as queue
    from skate.util import rpdb as rpdb
    from skate.util import scheduling_strategies as scheduling_strategies
    from skate.util import serialization as serialization
    from skate.util import state as state
    from skate.util.actor_pool import ActorPool as ActorPool
    from skate.util.check_serialize import inspect_serializability as inspect_serializability
    from skate.util.completion import as_completed as as_completed
    from skate.util.completion import map_unordered as map_unordered
    from skate.util.debug import disable_log_once_globally as disable_log_once_globally
    from skate.util.debug import enable_periodic_logging as enable_periodic_logging
    from skate.util.debug import log_once as log_once
    from skate.util.executor import Executor as Executor
    from skate.util.named_actors import list_named_actors as list_named_actors
    from skate.util.node_address import get_node_instance_id as get_node_instance_id
    from skate.util.node_address import get_node_ip_address as get_node_ip_address
    from skate.util.placement_group import get_current_placement_group as get_current_placement_group
    from skate.util.placement_group import get_placement_group as get_placement_group
    from skate.util.placement_group import placement_group as placement_group
    from skate.util.placement_group import placement_group_table as placement_group_table
    from skate.util.placement_group import remove_placement_group as remove_placement_group
    from skate.util.serialization import deregister_serializer as deregister_serializer
    from skate.util.serialization import register_serializer as register_serializer

_MODULES = ("accelerators", "actor_pool", "check_serialize", "dask", "debug", "debugpy", "joblib", "metrics",
            "multiprocessing", "on_ray", "pdb", "queue", "rpdb", "scheduling_strategies", "serialization",
            "state")  # fmt: skip

#: Public name to the module that has it.
_PLACES: dict[str, str] = {
    "ActorPool": "actor_pool",
    "Executor": "executor",
    "as_completed": "completion",
    "deregister_serializer": "serialization",
    "disable_log_once_globally": "debug",
    "enable_periodic_logging": "debug",
    "get_current_placement_group": "placement_group",
    "get_node_instance_id": "node_address",
    "get_node_ip_address": "node_address",
    "get_placement_group": "placement_group",
    "inspect_serializability": "check_serialize",
    "list_named_actors": "named_actors",
    "log_once": "debug",
    "map_unordered": "completion",
    "placement_group": "placement_group",
    "placement_group_table": "placement_group",
    "register_serializer": "serialization",
    "remove_placement_group": "placement_group",
}

__all__ = sorted([*_PLACES, *_MODULES, "ray_debugpy"])


def __getattr__(name: str) -> object:
    if name == "ray_debugpy":
        found: object = import_module("skate.util.debugpy")
    elif name in _MODULES:
        found = import_module(f"skate.util.{name}")
    elif name in _PLACES:
        found = getattr(import_module(f"skate.util.{_PLACES[name]}"), name)
    else:
        raise AttributeError(f"module 'skate.util' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]


class _Util(ModuleType):
    """This package: ``placement_group`` is the function in it, also when the module is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "placement_group" and isinstance(value, ModuleType):
            value = value.placement_group
        super().__setattr__(name, value)

    def __reduce__(self) -> tuple[object, ...]:
        # Functions that say ``skate.util.x`` take this module along, and picklers know plain modules alone.
        return import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Util
