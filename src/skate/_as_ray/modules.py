"""Finds ``ray`` and what is below it: modules of skate, and the aliases in ``skate._ray``.

ray.util.queue         skate.util.queue itself
ray._private.worker    skate._ray._private.worker itself
ray, ray.util          both have something: a module that looks into skate._ray's first, then into skate's
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from skate._as_ray import environment

#: Says where a module lies; the import system sets it.
_PLACE = ("__file__", "__path__", "__cached__")


class Joined(ModuleType):
    """A module of Ray's that is made of several of skate's.

    Args:
        name: its full name, such as ``ray.util``.
        parts: where its names are looked up, first to last. They are kept here once found.
    """

    def __init__(self, name: str, parts: list[ModuleType]) -> None:
        super().__init__(name, parts[-1].__doc__)
        self.__skate_parts__ = parts
        self.__all__ = list(getattr(parts[-1], "__all__", ()))

    def __getattr__(self, name: str) -> Any:
        if name in _PLACE:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        # An exception in a name of this frame would keep the frames of its callers, and their values, alive.
        missing = reason = ""
        below = f"{self.__name__}.{name}"
        for part in self.__skate_parts__:
            try:
                found = getattr(part, name)
            except AttributeError as error:
                if isinstance(error, NotImplementedError) and not _is_from_import():
                    raise  # skate leaves the name out, and says why
                missing = str(error).replace(f"module {part.__name__!r}", f"module {self.__name__!r}")
                reason = missing if isinstance(error, NotImplementedError) else reason
                continue
            if isinstance(found, type(annotations)):
                continue  # of ``from __future__ import annotations``, where Ray has a module
            if isinstance(found, ModuleType) and found.__name__.startswith("skate.") and behind(below):
                found = importlib.import_module(below)  # it may be made of several itself
            setattr(self, name, found)
            return found
        if not name.startswith("__") and behind(below):
            return importlib.import_module(below)
        if _is_from_import():  # ``from ray import tune``: Python would not say why
            raise ModuleNotFoundError(reason, name=below) if reason else lacking(below)
        raise AttributeError(missing, name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and not name.startswith("_"):
            # The import system sets a module that was imported. Where a function has its name, that counts.
            for part in self.__skate_parts__:
                found = vars(part).get(name)
                value = found if callable(found) else value
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*vars(self), *(name for part in self.__skate_parts__ for name in dir(part))})

    def __reduce__(self) -> tuple[Any, ...]:
        return module, (self.__name__,)


def _is_from_import() -> bool:
    """Tell whether ``__getattr__`` of a Joined, which calls this, was called for ``from ray import tune``."""
    return sys._getframe(2).f_code.co_name == "_handle_fromlist"


def module(name: str) -> ModuleType:
    """Return a module of Ray's; where ``ray`` does not mean skate, skate's own instead.

    Args:
        name: "ray", "ray.util", ...
    """
    return importlib.import_module(name if finder in sys.meta_path else f"skate{name[3:]}")


def lacking(name: str) -> ModuleNotFoundError:
    """Return what is raised for a module of Ray's that skate lacks."""
    return ModuleNotFoundError(
        f"skate has no {name[4:]} (yet): this program runs on skate in place of ray, and {name} is a part of "
        "ray that skate lacks",
        name=name,
    )


def behind(name: str) -> list[ModuleSpec]:
    """Return what stands for a module of Ray's: the alias, then skate's own; nothing if skate lacks it."""
    below = name[3:]
    names = [f"skate._ray{below}"]
    if not any(part.startswith("_") for part in below.split(".")):
        names.append(f"skate{below}")
    return [spec for one in names if (spec := _spec(one)) is not None]


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None  # its package is not there either


class _Alias:
    """A loader that gives what is there already. (Without ``importlib.abc``, whose import takes 10 ms.)"""

    def __init__(self, parts: list[ModuleSpec]) -> None:
        self._parts = [part.name for part in parts]
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module that stands behind the name."""
        parts = [importlib.import_module(name) for name in self._parts]
        if len(parts) > 1:
            return Joined(spec.name, parts)
        self._spec = parts[0].__spec__
        return parts[0]

    def exec_module(self, module: ModuleType) -> None:
        """It has run already. The import system wrote the alias's spec into it: put its own back."""
        if self._spec is not None:
            module.__spec__ = self._spec


class Finder:
    """Finds ``ray`` and what is below it."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> ModuleSpec | None:
        """See importlib."""
        if name != "ray" and not name.startswith("ray."):
            return None
        parts = behind(name)
        if not parts:
            if sys._getframe(2).f_globals.get("__name__") == "importlib.util":
                return None  # somebody asks whether it is there, by importlib.util.find_spec
            raise lacking(name)
        is_package = any(part.submodule_search_locations is not None for part in parts)
        spec = ModuleSpec(name, _Alias(parts), is_package=is_package)  # type: ignore[arg-type]
        if name == "ray":
            # As that of the distribution: ``str(ray)`` and ``ray.__file__`` show it.
            folder = os.path.join(environment.FOLDER, "ray")
            spec.origin = os.path.join(folder, "__init__.py")
            spec.has_location = True
            spec.submodule_search_locations = [folder]
        return spec


finder = Finder()
