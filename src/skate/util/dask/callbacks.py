"""Provides callbacks that programs get while a graph of dask runs on skate."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from dask.callbacks import Callback

from skate import api

#: The events, in the order in which they happen.
EVENTS = ("presubmit", "postsubmit", "pretask", "posttask", "postsubmit_all", "finish")

_Hooks = tuple[Any, ...]


class RayDaskCallback(Callback):  # type: ignore[misc]
    """Functions that are called while graphs run; active inside ``with``, or from ``register`` on.

    Give them by keyword, or define methods ``_ray_presubmit``, ... in a subclass:

    * ``ray_presubmit(task, key, deps)``: before a task is submitted. If it returns something else than
      None, the task is not submitted, and that is its result.
    * ``ray_postsubmit(task, key, deps, object_ref)``: after it was.
    * ``ray_pretask(key, object_refs)``: in the worker, before it runs; its value is the ``pre_state``.
    * ``ray_posttask(key, result, pre_state)``: in the worker, after it ran.
    * ``ray_postsubmit_all(object_refs, dsk)``: after all tasks were submitted.
    * ``ray_finish(result)``: when all results are ready.

    Functions that run in workers must be picklable.

    Example:
        >>> with RayDaskCallback(ray_finish=print):
        ...     total.compute(scheduler=ray_dask_get)
    """

    ray_active: ClassVar[set[_Hooks]] = set()

    def __init__(self, **kwargs: Any) -> None:
        for event in EVENTS:
            function = kwargs.pop(f"ray_{event}", None)
            if function is not None:
                setattr(self, f"_ray_{event}", function)
        super().__init__(**kwargs)

    @property
    def _ray_callback(self) -> _Hooks:
        return tuple(getattr(self, f"_ray_{event}", None) for event in EVENTS)

    def __enter__(self) -> RayDaskCallback:
        self._hooks = self._ray_callback
        RayDaskCallback.ray_active.add(self._hooks)
        super().__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)
        RayDaskCallback.ray_active.discard(self._hooks)

    def register(self) -> None:
        """Activate the callbacks."""
        RayDaskCallback.ray_active.add(self._ray_callback)
        super().register()

    def unregister(self) -> None:
        """Deactivate the callbacks."""
        RayDaskCallback.ray_active.discard(self._ray_callback)
        super().unregister()


def unpack_ray_callbacks(cbs: Iterable[Any] | None) -> dict[str, list[Any]]:
    """Return the functions of callbacks by event ("presubmit", ...)."""
    found: dict[str, list[Any]] = {event: [] for event in EVENTS}
    for callback in cbs or ():
        hooks = callback._ray_callback if isinstance(callback, RayDaskCallback) else callback
        for event, function in zip(EVENTS, hooks, strict=True):
            if function is not None:
                found[event].append(function)
    return found


@contextlib.contextmanager
def local_ray_callbacks(callbacks: Iterable[Any] | None = None) -> Iterator[Iterable[Any]]:
    """Yield these callbacks; if None, yield the active ones and deactivate them inside ``with``.

    Args:
        callbacks: RayDaskCallbacks.

    Yields:
        The callbacks to use.
    """
    if callbacks is not None:
        yield callbacks
        return
    taken = set(RayDaskCallback.ray_active)
    RayDaskCallback.ray_active.clear()
    try:
        yield taken
    finally:
        RayDaskCallback.ray_active.update(taken)


class ProgressBarCallback(RayDaskCallback):
    """Shows a progress bar while the tasks of a graph run. Needs tqdm.

    Example:
        >>> with ProgressBarCallback():
        ...     total.compute(scheduler=ray_dask_get)
    """

    def _ray_postsubmit_all(self, object_refs: list[Any], dsk: Any) -> None:
        from tqdm import tqdm

        left = list(dict.fromkeys(object_refs))
        with tqdm(total=len(left), desc="dask on skate", unit="task") as bar:
            while left:
                done, left = api.wait(left, num_returns=1)
                more, left = api.wait(left, num_returns=len(left), timeout=0) if left else ([], left)
                bar.update(len(done) + len(more))
