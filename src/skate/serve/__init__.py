"""skate.serve: models behind HTTP and behind handles.

::

    from skate import serve

    @serve.deployment(num_replicas=2)
    class Model:
        def __init__(self, path):
            self.model = load(path)

        async def __call__(self, request):
            return self.model(await request.json())

    handle = serve.run(Model.bind("weights.bin"))       # http://127.0.0.1:8000/

The names are those of ``ray.serve``. They are loaded at first use: importing this package loads no HTTP
library.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skate.serve._asgi import ingress as ingress
    from skate.serve._observing.tracing import get_trace_context as get_trace_context
    from skate.serve.api import RunTarget as RunTarget
    from skate.serve.api import delete as delete
    from skate.serve.api import get_app_handle as get_app_handle
    from skate.serve.api import get_deployment_handle as get_deployment_handle
    from skate.serve.api import promote as promote
    from skate.serve.api import rollback as rollback
    from skate.serve.api import run as run
    from skate.serve.api import run_many as run_many
    from skate.serve.api import shutdown as shutdown
    from skate.serve.api import shutdown_async as shutdown_async
    from skate.serve.api import start as start
    from skate.serve.api import status as status
    from skate.serve.api import why as why
    from skate.serve.batching import BatchError as BatchError
    from skate.serve.batching import BatchItem as BatchItem
    from skate.serve.batching import BatchStep as BatchStep
    from skate.serve.batching import BatchStream as BatchStream
    from skate.serve.batching import batch as batch
    from skate.serve.config import HTTPOptions as HTTPOptions
    from skate.serve.context import get_multiplexed_model_id as get_multiplexed_model_id
    from skate.serve.context import get_replica_context as get_replica_context
    from skate.serve.deployment import Application as Application
    from skate.serve.deployment import Deployment as Deployment
    from skate.serve.deployment import deployment as deployment
    from skate.serve.multiplex import multiplexed as multiplexed

_API = ("RunTarget", "delete", "get_app_handle", "get_deployment_handle", "promote", "rollback", "run",
        "run_many", "shutdown", "shutdown_async", "start", "status", "why")  # fmt: skip
_MODULES = (
    "api",
    "autoscaling_policy",
    "batching",
    "config",
    "context",
    "exceptions",
    "experimental",
    "grpc_util",
    "handle",
    "metrics",
    "multiplex",
    "request_router",
    "schema",
)

#: Public name to (module, name there).
_PLACES: dict[str, tuple[str, str]] = {
    **{name: ("skate.serve.api", name) for name in _API},
    **{name: ("skate.serve.deployment", name) for name in ("Application", "Deployment", "deployment")},
    **{
        name: ("skate.serve.context", name)
        for name in ("ReplicaContext", "get_multiplexed_model_id", "get_replica_context")
    },
    **{
        name: ("skate.serve.batching", name)
        for name in ("BatchError", "BatchItem", "BatchStep", "BatchStream", "batch")
    },
    "get_trace_context": ("skate.serve._observing.tracing", "get_trace_context"),
    "HTTPOptions": ("skate.serve.config", "HTTPOptions"),
    "ingress": ("skate.serve._asgi", "ingress"),
    "multiplexed": ("skate.serve.multiplex", "multiplexed"),
}

__all__ = sorted([*_PLACES, *_MODULES])


class _Package(ModuleType):
    """This package. The import system sets submodules as attributes; the decorator ``deployment`` stays."""

    def __setattr__(self, name: str, value: object) -> None:
        if name != "deployment" or not isinstance(value, ModuleType):
            super().__setattr__(name, value)

    def __reduce__(self) -> tuple[object, ...]:
        return _imported, ()


def _imported() -> ModuleType:
    """Return this package, where a function that uses it is unpickled."""
    return sys.modules[__name__]


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _PLACES:
        module, attribute = _PLACES[name]
        found: object = getattr(import_module(module), attribute)
    elif name in _MODULES:
        found = import_module(f"skate.serve.{name}")
    else:
        from skate.serve._left_out import reason, refuse

        if reason(name) is not None:
            raise refuse(name)
        raise AttributeError(f"module 'skate.serve' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
