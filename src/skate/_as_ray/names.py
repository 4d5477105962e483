"""Gives public classes ``ray`` as their ``__module__``, which programs print and compare.

This happens only in processes where ``ray`` means skate. Skate's own pickles still use skate's name of the
class, so that a process without the name ``ray`` (a driver that says ``import skate``, an actor of its job)
can read them: see ``skate._serialize.values.renamed``. Plain ``pickle`` writes Ray's name, as with Ray
itself.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

from skate._as_ray import classes, modules
from skate._base import dual
from skate._serialize.values import renamed

#: Modules whose classes call themselves by the module that users import them from.
_SELF = {
    "skate._base.errors": "skate.exceptions",
    "skate._graph.class_node": "skate.dag.class_node",
    "skate._graph.function_node": "skate.dag.function_node",
    "skate._graph.input_node": "skate.dag.input_node",
    "skate._graph.node": "skate.dag.dag_node",
    "skate._graph.output_node": "skate.dag.output_node",
    "skate.dag._results": "skate.experimental.compiled_dag_ref",
}
#: Modules whose classes Ray has elsewhere.
_PLACES = {
    "skate._base.errors": "ray.exceptions",
    "skate._base.ids": "ray._raylet",
    "skate._worker.objects.object_ref": "ray",
    "skate._worker.calls.generators": "ray",
}
#: Parts of skate that Ray does not have under that name.
_OWN = {
    "skate.api",
    "skate.cli",
    "skate.cluster",
    "skate.compat",
    "skate.engine",
    "skate.options",
    "skate.testing",
}


def place(module: str) -> str | None:
    """Return the module of Ray whose classes those of this module are, or None.

    Example:
        >>> place("skate.util.queue"), place("skate._node.daemon")
        ('ray.util.queue', None)
    """
    parts = module.split(".")
    if module in _SELF and module not in _PLACES:
        return place(_SELF[module])
    if module in _PLACES:
        return _PLACES[module]
    if parts[0] != "skate" or ".".join(parts[:2]) in _OWN or any(part.startswith("_") for part in parts):
        return None
    return ".".join(["ray", *parts[1:]])


class _Loader(SourceFileLoader):
    """Renames the classes of a module as soon as it has run."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        _rename(module)


class _Finder:
    """Has modules of skate loaded by ``_Loader``."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> ModuleSpec | None:
        """See importlib."""
        if not _is_renamed(name):
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


_finder = _Finder()


def use() -> None:
    """Rename the classes of every module of skate that is loaded, and of those that will be."""
    if _finder in sys.meta_path:
        return
    sys.meta_path.insert(0, _finder)
    dual.forget()  # they say where RayTaskError is
    for name, module in list(sys.modules.items()):
        # Under its own name: ``ray.util`` may be there too.
        if _is_renamed(name):
            _rename(module)


def undo() -> None:
    """Take it all back: for tests, whose process goes on without it."""
    if _finder not in sys.meta_path:
        return
    sys.meta_path.remove(_finder)
    for kind, module, _ in renamed.values():
        kind.__module__ = module
    renamed.clear()
    dual.forget()


def _is_renamed(module: str) -> bool:
    return module.startswith("skate.") and (module in classes.PLACES or place(module) is not None)


def _rename(module: ModuleType) -> None:
    name = module.__name__
    if name in classes.PLACES:
        # The modules that users import them from may be in the middle of being imported themselves.
        for title, there in classes.PLACES[name].items():
            kind = getattr(module, title)
            renamed[id(kind)] = (kind, name, kind.__qualname__)
            kind.__module__ = there
        return
    new = place(name)
    assert new is not None
    own = _SELF.get(name, name)
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == own]
    for kind in kinds:
        renamed[id(kind)] = (kind, own, kind.__qualname__)
        kind.__module__ = new
    if not kinds:
        return
    if name in _SELF and name not in _PLACES:
        return  # the module that users import them from may be in the middle of being imported itself
    # Code that looks a class up by its name (cloudpickle, typing) expects the module to exist.
    if name in _PLACES or len(modules.behind(new)) > 1:
        importlib.import_module(new)
    else:
        sys.modules.setdefault(new, module)
