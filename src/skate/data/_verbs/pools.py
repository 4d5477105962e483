"""Warm pools: replicas of classes that stay after an execution for the next one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def pools() -> dict[str, int]:
    """Return the replicas that stay for another execution of this process: their number by stage.

    They stay for ``DataContext.pool_linger_s`` seconds. An execution with the same class, arguments and
    resources takes them over, with their models loaded.

    Example:
        >>> embedded = ds.map_batches(Embed, batch_size=32).materialize()
        >>> skate.data.pools()
        {'MapBatches(Embed)': 2}
    """
    from skate import api
    from skate.data._exec.warm import session, warm

    return warm.counts(session()) if api.is_initialized() else {}


def free_pools(name: str | None = None) -> int:
    """End replicas that stay for another execution, so that their memory is free.

    Args:
        name: of their stage, as ``pools`` gives it; None: all.

    Returns:
        How many were ended.

    Raises:
        ValueError: no warm pool has the name; the text names those that there are.
    """
    from skate.data._exec.warm import warm

    if name is not None and name not in warm.counts():
        raise ValueError(
            f"free_pools({name!r}): there is no such warm pool; there are {sorted(warm.counts())}"
        )
    return warm.clear(name)


@contextmanager
def keep_warm() -> Iterator[None]:
    """Keep the replicas of all executions inside a ``with`` block until its end, however long it takes.

    They stay even if ``DataContext.pool_linger_s`` is 0. At the end of the block they stay for as long as the
    settings of their executions say.

    Example:
        >>> with skate.data.keep_warm():
        ...     for folder in folders:
        ...         skate.data.read_images(folder).map_batches(Embed).write_parquet(folder + "-out")
    """
    from skate.data._exec.warm import warm

    warm.hold()
    try:
        yield
    finally:
        warm.release()
