"""``@serve.multiplexed``: several models in one replica, loaded as they are asked for."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from skate.serve._observing import models
from skate.serve._observing.batches import ModelMetrics
from skate.serve.context import get_multiplexed_model_id

__all__ = ["get_multiplexed_model_id", "multiplexed"]


class _Models:
    """The loaded models of one loader of one instance.

    Args:
        load: the user's loader.
        most: how many may be loaded; below 0: any number.
    """

    def __init__(self, load: Callable[[str], Any], most: int) -> None:
        self._load = load
        self._most = most
        #: The longest unused first.
        self.loaded: OrderedDict[str, Any] = OrderedDict()
        self._loading: dict[str, asyncio.Task[Any]] = {}
        self._metrics = ModelMetrics(lambda: len(self.loaded))

    async def get(self, model_id: str) -> Any:
        """Return a model; load it if it is not there. Calls for a model that is being loaded wait for it."""
        if not isinstance(model_id, str):
            raise TypeError("The model ID must be a string.")
        if not model_id:
            raise ValueError("The model ID cannot be empty.")
        self._metrics.calls.value += 1
        if model_id in self.loaded:
            self.loaded.move_to_end(model_id)
            return self.loaded[model_id]
        task = self._loading.get(model_id)
        if task is None:
            # As a part of no request: others wait for it, too.
            start = contextvars.Context().run
            task = start(asyncio.get_running_loop().create_task, self._load_one(model_id))
            self._loading[model_id] = task
            task.add_done_callback(lambda _: self._loading.pop(model_id, None))
        return await asyncio.shield(task)

    async def _load_one(self, model_id: str) -> Any:
        began = time.monotonic()
        models.this.begun(model_id)
        is_loaded = False
        try:
            model = await self._load(model_id)
            self._metrics.loaded(time.monotonic() - began)
            while 0 <= self._most <= len(self.loaded):
                begun = time.monotonic()
                old_id, old = self.loaded.popitem(last=False)
                models.this.dropped(old_id)
                await _unload(old)
                self._metrics.unloaded(time.monotonic() - begun)
            self.loaded[model_id] = model
            is_loaded = True
        finally:
            models.this.ended(model_id, is_loaded, time.monotonic() - began)
        return model


async def _unload(model: Any) -> None:
    """Let a model clean up now, rather than when the last reference to it is gone."""
    delete = getattr(type(model), "__del__", None)
    if inspect.iscoroutinefunction(delete):
        await delete(model)


def multiplexed(func: Callable[..., Any] | None = None, max_num_models_per_replica: int = 3) -> Any:
    """Make a loader of models keep the latest ones.

    A call with a model id returns that model, and loads it if it is not there. When there are more than
    ``max_num_models_per_replica``, the one that was not used for the longest time is dropped after the new
    one is loaded; its ``__del__`` runs once its last user has ended, and an ``async def __del__`` is awaited.

    Args:
        func: an ``async def`` with one argument, the model id, or a method with it.
        max_num_models_per_replica: how many stay; -1: all.

    Returns:
        The loader, or a decorator for it.

    Raises:
        TypeError: it is no ``async def``, or has not one argument.
        ValueError: the number is 0 or below -1.

    Example:
        >>> class Models:
        ...     @serve.multiplexed(max_num_models_per_replica=4)
        ...     async def model(self, model_id):
        ...         return load(model_id)
        ...     async def __call__(self, request):
        ...         model = await self.model(serve.get_multiplexed_model_id())
    """
    if isinstance(max_num_models_per_replica, bool) or not isinstance(max_num_models_per_replica, int):
        raise TypeError("max_num_models_per_replica must be an integer.")
    if max_num_models_per_replica != -1 and max_num_models_per_replica <= 0:
        raise ValueError("max_num_models_per_replica must be positive.")

    def decorate(function: Callable[..., Any]) -> Any:
        if not inspect.iscoroutinefunction(function):
            raise TypeError("@serve.multiplexed can only be used to decorate async functions or methods.")
        if len(inspect.signature(function).parameters) not in (1, 2):
            raise TypeError(
                "@serve.multiplexed decorates functions or methods of one argument, the model id."
            )
        return _Multiplexed(function, max_num_models_per_replica)

    return decorate if func is None else decorate(func)


class _Multiplexed:
    """A loader that keeps models."""

    __serve_async__ = True

    def __init__(self, function: Callable[..., Any], most: int) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._most = most
        self._own: _Models | None = None

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        name = f"__serve_models_{self._function.__name__}"
        found = vars(instance).get(name)
        if found is None:
            found = vars(instance)[name] = _Models(functools.partial(self._function, instance), self._most)
        return found.get

    def __call__(self, model_id: str) -> Any:
        if self._own is None:
            self._own = _Models(self._function, self._most)
        return self._own.get(model_id)

    def __reduce__(self) -> Any:
        return _Multiplexed, (self._function, self._most)
