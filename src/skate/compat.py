"""Programs that say ``import ray``, run on skate without a change.

``skate run script.py`` does it for a whole program; ``skate.compat.install()`` from its first line on::

    import skate.compat
    skate.compat.install()
    import ray                      # is skate

In that process and in every worker that it starts, ``ray`` and ``ray.x.y`` are the very modules
``skate`` and ``skate.x.y``: nothing is imported twice, and nothing is installed under that name. What
skate lacks raises ModuleNotFoundError by its name.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from skate._worker import current

#: The variable that makes workers do the same.
VARIABLE = "SKATE_AS_RAY"


class _Alias(Loader):
    """A loader that gives a module that is there already."""

    def __init__(self) -> None:
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module that stands behind the name."""
        module = importlib.import_module(_ours(spec.name))
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has run already. The import system wrote the alias's spec into it: put its own back."""
        module.__spec__ = self._spec


class _Finder(MetaPathFinder):
    """Finds ``ray`` and what is below it."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> ModuleSpec | None:
        """See importlib."""
        if name != "ray" and not name.startswith("ray."):
            return None
        ours = _ours(name)
        try:
            found = importlib.util.find_spec(ours)
        except ModuleNotFoundError:
            found = None
        if found is None or any(part.startswith("_") for part in name.split(".")[1:]):
            raise ModuleNotFoundError(
                f"skate has no {name[4:]} (yet): this program runs on skate in place of ray, and {name} is a "
                "part of ray that skate lacks",
                name=name,
            )
        is_package = found.submodule_search_locations is not None
        return ModuleSpec(name, _Alias(), is_package=is_package)


def _ours(name: str) -> str:
    return "skate" + name[3:]


_finder = _Finder()


def install() -> None:
    """Make ``import ray`` mean skate, here and in all workers that this process starts.

    Call it before ``init``: workers are started with what was so then.

    Raises:
        RuntimeError: the real ray was imported already, or this process is connected already.

    Example:
        >>> skate.compat.install()
        >>> import ray
        >>> ray.__name__
        'skate'
    """
    loaded = sys.modules.get("ray")
    if loaded is not None and loaded is not sys.modules["skate"]:
        raise RuntimeError("install() comes too late: this program has imported the real ray already")
    if current.process.core is not None and not os.environ.get(VARIABLE):
        raise RuntimeError("install() comes too late: workers know nothing of it. Call it before init()")
    os.environ[VARIABLE] = "1"
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
