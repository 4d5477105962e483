"""The imports of the zygote for its workers, made while it has nothing else to do."""

from __future__ import annotations

import gc
import importlib
import sys
from collections import deque
from importlib.machinery import PathFinder

#: Modules for all workers.
_ALWAYS = ("skate.api", "skate._environment.enter", "traceback", "concurrent.futures")
#: The zygote is idle if nothing came for so long (milliseconds).
_IDLE_MS = 20
_RETRY_MS = 1000
#: Packages that are the same for every worker of the session, except this part, which stands on others.
_OWN, _ON_OTHERS = "skate", "skate.serve"


class Preloading:
    """Modules that are to be imported, and those of other packages that were, as some process asked for them.

    A worker whose paths lead to another version of such a package forgets them.
    """

    def __init__(self) -> None:
        self._waiting = deque((name, False) for name in _ALWAYS)
        #: When the next step is due, if nothing else is to be done (milliseconds); None: there is none. At
        #: first, the first workers are to be forked.
        self.wait_ms: int | None = _IDLE_MS
        self._path = list(sys.path)
        #: Names of modules that were imported because a process asked.
        self._asked: set[str] = set()

    def ask(self, modules: list[str]) -> None:
        """Import modules soon. They must start no threads."""
        self._waiting.extend((name, True) for name in modules)
        self.wait_ms = 0

    def step(self) -> None:
        """Import the next module."""
        self.wait_ms = self._step()

    def _step(self) -> int | None:
        if self._waiting:
            name, was_asked = self._waiting[0]
            before = set(sys.modules) if was_asked else set()
            try:
                importlib.import_module(name)
            except OSError:  # a file cannot be opened: there are no descriptors at the moment
                return _RETRY_MS
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                print(f"the zygote leaves {name} to the workers that need it: {why}", file=sys.stderr)
            self._waiting.popleft()
            if was_asked:
                self._asked.update(one for one in set(sys.modules) - before if _is_of_others(one))
        if self._waiting:
            return 0
        gc.collect()
        gc.freeze()
        return None

    def forget_other_versions(self, environment: bool) -> None:
        """In a worker, whose paths are set up: forget modules that it would import from elsewhere.

        Args:
            environment: it has a runtime environment.
        """
        if not self._asked or (not environment and sys.path == self._path):
            return
        packages = {name.partition(".")[0] for name in self._asked} - {_OWN}
        if all(_is_found(package) for package in packages):
            return
        for name in self._asked:
            sys.modules.pop(name, None)
            parent, _, child = name.rpartition(".")
            if parent == _OWN:
                vars(sys.modules[parent]).pop(child, None)


def _is_of_others(name: str) -> bool:
    top = name.partition(".")[0]
    if top == _OWN:
        return name == _ON_OTHERS or name.startswith(f"{_ON_OTHERS}.")
    return top not in sys.stdlib_module_names


def _is_found(package: str) -> bool:
    """Tell whether this process's paths lead to a package that was imported."""
    spec = PathFinder.find_spec(package)
    return spec is not None and spec.origin == getattr(sys.modules.get(package), "__file__", None)
