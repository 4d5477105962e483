"""A pool's worker: runs chunks of calls. And what the pool and its workers say to each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import starmap
from time import perf_counter
from typing import Any

from skate._serialize.exceptions import Travelling

#: How a chunk's items become calls: ``f(item)`` or ``f(*item)`` until one fails, ``f(item)`` for each
#: whatever happens, or one call, the items being its args and kwargs.
MAP, STAR, EACH, CALL = range(4)


class PoolTaskError(Exception):
    """Stands for the result of a call that raised.

    Args:
        underlying: what it raised.
    """

    def __init__(self, underlying: BaseException) -> None:
        super().__init__(underlying)
        self.underlying = underlying


#: What a chunk came to: how many seconds it took, where in the results there are PoolTaskErrors, and
#: the results.
Report = tuple[float, tuple[int, ...], list[Any]]


class PoolWorker:
    """The actor. It keeps one function, that of the chunk before."""

    def __init__(self, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]) -> None:
        self._token = -1
        self._function: Any = None
        if initializer is not None:
            initializer(*initargs)

    def run(self, token: int, function: Any, form: int, chunks: list[Sequence[Any]]) -> list[Report] | None:
        """Run chunks of calls of one function.

        Args:
            token: names the function.
            function: the function itself; None: the one that came under this token last.
            form: one of the forms above.
            chunks: the items of each.

        Returns:
            None: the function is not here (the actor was restarted); send it again.
        """
        if function is not None:
            self._token, self._function = token, function
        elif token != self._token:
            return None
        return [_run_chunk(self._function, form, items) for items in chunks]


def _run_chunk(function: Any, form: int, items: Sequence[Any]) -> Report:
    started = perf_counter()
    if form == CALL:
        function, items = _apply, ((function, *items),)
    results: list[Any] = []
    failed: list[int] = []
    rest = iter(items)
    while len(results) < len(items):
        try:
            # Whatever comes before an exception stays in the list.
            results.extend((starmap if form in (STAR, CALL) else map)(function, rest))
            if len(results) < len(items):
                # map() took it for the end of the items.
                raise RuntimeError("the function raised StopIteration")
        except Exception as error:
            failed.append(len(results))
            results.append(PoolTaskError(_travelling(error)))
            if form != EACH:
                break
    return perf_counter() - started, tuple(failed), results


def _apply(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function(*args, **kwargs)


def _travelling(error: Exception) -> Any:
    """Return what is pickled for an exception: it arrives with the traceback from here as its cause."""
    return Travelling(error)
