"""Keeps pyarrow from importing pandas until somebody else does.

The first ``pa.array([1])`` of a process imports pandas if it is installed, only to find out that a list is no
Series: 0.3 s of CPU in every program and every worker. ``postpone`` lets pyarrow look for pandas while it is
hidden from this thread; when pandas is imported later, by anybody, ``_Watch`` tells pyarrow at once, so that
it takes Series as ever.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from threading import get_ident
from types import ModuleType
from typing import Any

import pyarrow as pa


class _Watch:
    """Hides pandas from one thread while that is set, and tells pyarrow when pandas has been imported."""

    def __init__(self) -> None:
        self.hides_from: int | None = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec that the other finders have for pandas, with a loader that tells pyarrow."""
        if fullname != "pandas":
            return None
        if self.hides_from == get_ident():
            raise ModuleNotFoundError("pandas is hidden for a moment", name="pandas")
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec: ModuleSpec | None = find(fullname, path, target)
            if spec is not None:
                self._wrap(spec)
                return spec
        return None

    def _wrap(self, spec: ModuleSpec) -> None:
        loader: Any = spec.loader
        if loader is None or not hasattr(loader, "exec_module"):
            return
        execute = loader.exec_module

        def execute_and_tell(module: ModuleType) -> None:
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            _tell_pyarrow()

        loader.exec_module = execute_and_tell


def _tell_pyarrow() -> None:
    """Let pyarrow look for pandas again."""
    try:
        pa.lib._pandas_api.pd  # noqa: B018 - the property imports pandas
    except Exception:  # a pandas that pyarrow refuses: it says so itself when it is asked for a frame
        pass


def postpone() -> None:
    """Keep pyarrow from importing pandas, unless that has happened or there is no way to undo it."""
    if "pandas" in sys.modules or not hasattr(type(getattr(pa.lib, "_pandas_api", None)), "pd"):
        return
    watch = _Watch()
    watch.hides_from = get_ident()
    sys.meta_path.insert(0, watch)
    try:
        pa.array([0])
    finally:
        watch.hides_from = None
