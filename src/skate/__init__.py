"""skate: tasks, actors and objects for Python, light and fast, behind Ray's API.

::

    import skate

    @skate.remote
    def square(x):
        return x * x

    print(skate.get([square.remote(i) for i in range(4)]))

Names are loaded at first use: the runtime's own processes import parts of this package and need not
pay for the rest.

PYTEST_DONT_REWRITE: the plugin of this distribution makes pytest rewrite its asserts, and warn where, as
under ``skate run -m pytest``, this module was imported before.
"""

from __future__ import annotations

from os import environ
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skate import actor as actor
    from skate import cloudpickle as cloudpickle
    from skate import compat as compat
    from skate import dag as dag
    from skate import data as data
    from skate import exceptions as exceptions
    from skate import experimental as experimental
    from skate import job_config as job_config
    from skate import runtime_context as runtime_context
    from skate import runtime_env as runtime_env
    from skate import serve as serve
    from skate import util as util
    from skate._base.ids import ActorClassID as ActorClassID
    from skate._base.ids import ActorID as ActorID
    from skate._base.ids import ClusterID as ClusterID
    from skate._base.ids import FunctionID as FunctionID
    from skate._base.ids import JobID as JobID
    from skate._base.ids import NodeID as NodeID
    from skate._base.ids import PlacementGroupID as PlacementGroupID
    from skate._base.ids import TaskID as TaskID
    from skate._base.ids import UniqueID as UniqueID
    from skate._base.ids import WorkerID as WorkerID
    from skate._base.process import SCRIPT_MODE as SCRIPT_MODE
    from skate._base.process import WORKER_MODE as WORKER_MODE
    from skate.actor import method as method
    from skate.api import cancel as cancel
    from skate.api import get as get
    from skate.api import get_actor as get_actor
    from skate.api import init as init
    from skate.api import is_initialized as is_initialized
    from skate.api import kill as kill
    from skate.api import put as put
    from skate.api import remote as remote
    from skate.api import shutdown as shutdown
    from skate.api import wait as wait
    from skate.cluster import available_resources as available_resources
    from skate.cluster import cluster_resources as cluster_resources
    from skate.cluster import nodes as nodes
    from skate.engine.refs import DynamicObjectRefGenerator as DynamicObjectRefGenerator
    from skate.engine.refs import ObjectRef as ObjectRef
    from skate.engine.refs import ObjectRefGenerator as ObjectRefGenerator
    from skate.logging_config import LoggingConfig as LoggingConfig
    from skate.runtime_context import get_gpu_ids as get_gpu_ids
    from skate.runtime_context import get_runtime_context as get_runtime_context
    from skate.util.state.timeline import timeline as timeline

    __version__: str
    ObjectID = ObjectRef

_IDS = ("ActorClassID", "ActorID", "ClusterID", "FunctionID", "JobID", "NodeID", "PlacementGroupID",
        "TaskID", "UniqueID", "WorkerID")  # fmt: skip
_CLUSTER = ("available_resources", "cluster_resources", "nodes")
_API = ("get", "get_actor", "init", "is_initialized", "kill",
        "cancel", "put", "remote", "shutdown", "wait")  # fmt: skip
_MODULES = ("actor", "cloudpickle", "compat", "dag", "data", "exceptions", "experimental", "job_config",
            "runtime_context", "runtime_env", "serve", "types", "util")  # fmt: skip

#: Public name to (module, name there).
_PLACES: dict[str, tuple[str, str]] = {
    **{name: ("skate._base.ids", name) for name in _IDS},
    **{name: ("skate.api", name) for name in _API},
    **{name: ("skate.cluster", name) for name in _CLUSTER},
    **{name: ("skate._base.process", name) for name in ("SCRIPT_MODE", "WORKER_MODE")},
    "__version__": ("skate._base.version", "VERSION"),
    "LoggingConfig": ("skate.logging_config", "LoggingConfig"),
    "timeline": ("skate.util.state.timeline", "timeline"),
    "ObjectRef": ("skate.engine.refs", "ObjectRef"),
    "ObjectRefGenerator": ("skate.engine.refs", "ObjectRefGenerator"),
    "DynamicObjectRefGenerator": ("skate.engine.refs", "DynamicObjectRefGenerator"),
    # Ray's other name for it.
    "ObjectID": ("skate.engine.refs", "ObjectRef"),
    "method": ("skate.actor", "method"),
    "get_gpu_ids": ("skate.runtime_context", "get_gpu_ids"),
    "get_runtime_context": ("skate.runtime_context", "get_runtime_context"),
}

#: Parts of Ray that are not there, and say so.
_LATER = ("air", "autoscaler", "client", "job_submission", "rllib", "train", "tune")

__all__ = sorted(["__commit__", *_PLACES, *_MODULES])


def __getattr__(name: str) -> object:
    if name in _MODULES:
        found: object = _import(f"skate.{name}")
    elif name in _PLACES:
        module, attribute = _PLACES[name]
        found = getattr(_import(module), attribute)
    elif name == "__commit__":
        found = _import("skate._base.commit").commit()
    elif name in _LATER:
        raise AttributeError(f"skate has no {name} (yet): ray.{name} is a part of Ray that skate lacks")
    else:
        raise AttributeError(f"module 'skate' has no attribute {name!r}")
    globals()[name] = found
    return found


def _import(module: str) -> Any:
    """Import a module of ours, without garbage collections: they take long and find nothing."""
    import gc
    from importlib import import_module

    collecting = gc.isenabled()
    gc.disable()
    try:
        return import_module(module)
    finally:
        if collecting:
            gc.enable()


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]


if environ.get("SKATE_ENGINE") == "ray":
    # Perhaps one of Ray's workers: code there may ask for its engine before it imports anything else.
    _import("skate._starting")
