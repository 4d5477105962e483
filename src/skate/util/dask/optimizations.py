"""Optimizes the graph of a dataframe of dask before it runs."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any


def dataframe_optimize(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Remove nodes from a dataframe's graph that its results do not need, and fuse others.

    For ``dask.config.set(dataframe_optimize=...)``. Since 2025 dask plans dataframes before it makes a graph
    of them; then this only removes nodes. With earlier versions it calls dask's own function. Ray's version
    also makes each output of a shuffle an object of its own; here the result of every node is one object.

    Args:
        dsk: the graph.
        keys: the key, or nested lists of the keys, whose values are wanted.
        kwargs: arguments of dask's own function.

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
