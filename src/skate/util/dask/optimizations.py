"""What dask is told to do with a dataframe's graph before it runs."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any


def dataframe_optimize(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Leave out of a dataframe's graph what its results do not need, and fuse what belongs together.

    For ``dask.config.set(dataframe_optimize=...)``. Since 2025 dask plans dataframes before it makes a graph
    of them, and only leaves something out here; versions before optimize as they do by themselves. Ray's
    version also let each output of a shuffle be an object of its own; here every node's result is one.

    Args:
        dsk: the graph.
        keys: the key, or nested lists of the keys, whose values are wanted.
        kwargs: what dask's own function takes.

    Returns:
        A graph that gives the same values.

    Example:
        >>> with dask.config.set(scheduler=ray_dask_get, dataframe_optimize=dataframe_optimize):
        ...     frame.shuffle("key").compute()
    """
    try:
        own = importlib.import_module("dask.dataframe.optimize").optimize
    except ImportError:
        wanted = list(_flat(keys))
        if hasattr(dsk, "cull"):
            return dsk.cull(set(wanted))
        return importlib.import_module("dask.optimization").cull(dict(dsk), wanted)[0]
    return own(dsk, keys, **kwargs)


def _flat(keys: Any) -> Sequence[Any]:
    return [one for part in keys for one in _flat(part)] if isinstance(keys, list) else [keys]
