"""``ray.data._internal.util``: what authors of datasources use."""

from __future__ import annotations

import importlib

from skate._ray._missing import missing
from skate._ray.data.datasource.path_util import _is_local_scheme

__all__ = ["_check_import", "_check_pyarrow_version", "_is_local_scheme"]


def _check_import(obj: object, *, module: str, package: str) -> None:
    """Import a library that a datasource needs.

    Args:
        obj: the datasource.
        module: the library's name in ``import``.
        package: its name for pip.

    Raises:
        ImportError: it is not installed.
    """
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{type(obj).__name__} needs {module!r}: install it by 'pip install {package}'"
        ) from error


def _check_pyarrow_version() -> None:
    """Do nothing: the extra ``data`` asks for a version that works."""


def __getattr__(name: str) -> object:
    return missing(__name__, name)
