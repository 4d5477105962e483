"""Runs graphs of dask on skate: a task for each node, with its result in shared memory.

::

    import dask
    from skate.util.dask import enable_dask_on_ray

    enable_dask_on_ray()
    array.mean().compute()          # on skate; or array.mean().compute(scheduler=ray_dask_get)

The package needs dask. It takes graphs of the current form (``dask._task_spec``) and the tuples of
older versions.
"""

from __future__ import annotations

try:
    import dask as _dask  # noqa: F401
except ImportError as error:
    raise ImportError(
        "skate.util.dask runs dask's graphs and needs dask, which is not installed: pip install dask"
    ) from error

from skate.util.dask.callbacks import (
    ProgressBarCallback,
    RayDaskCallback,
    local_ray_callbacks,
    unpack_ray_callbacks,
)
from skate.util.dask.optimizations import dataframe_optimize
from skate.util.dask.scheduler import (
    disable_dask_on_ray,
    enable_dask_on_ray,
    ray_dask_get,
    ray_dask_get_sync,
    ray_dask_persist,
)

#: The same functions, under names without Ray's.
enable_dask = enable_dask_on_ray
disable_dask = disable_dask_on_ray
dask_get = ray_dask_get

__all__ = [
    "ProgressBarCallback",
    "RayDaskCallback",
    "dask_get",
    "dataframe_optimize",
    "disable_dask",
    "disable_dask_on_ray",
    "enable_dask",
    "enable_dask_on_ray",
    "local_ray_callbacks",
    "ray_dask_get",
    "ray_dask_get_sync",
    "ray_dask_persist",
    "unpack_ray_callbacks",
]
