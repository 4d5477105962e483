"""``ray.data.datasource.path_util``: paths as authors of datasources resolve them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skate._ray._missing import missing
from skate.data._io.files.filesystem import resolve

__all__ = ["_is_local_scheme", "_resolve_paths_and_filesystem"]


def _resolve_paths_and_filesystem(
    paths: str | Sequence[str], filesystem: Any = None
) -> tuple[list[str], Any]:
    """Return paths without scheme, and the filesystem of pyarrow that they are on.

    Args:
        paths: a path, or several of one filesystem.
        filesystem: of pyarrow or fsspec; None: found by the scheme.
    """
    found, plain = resolve([paths] if isinstance(paths, str) else list(paths), filesystem)
    return plain, found.arrow()


def _is_local_scheme(paths: str | Sequence[str]) -> bool:
    """Tell whether all paths begin with ``local://``: they lie on the driver's machine alone."""
    given = [paths] if isinstance(paths, str) else list(paths)
    return bool(given) and all(path.startswith("local://") for path in given)


def __getattr__(name: str) -> object:
    return missing(__name__, name)
