"""Runs chunks of calls in a pool's worker, and defines the reports that the worker returns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import starmap
from time import perf_counter
from typing import Any

from skate._serialize import culprit
from skate._serialize.exceptions import Travelling
from skate.util._copies import SHARED_BYTES, Packed, all_plain, pack
from skate.util._namespaces import Receiver

#: How a chunk's items become calls: ``f(item)`` or ``f(*item)`` until one fails, ``f(item)`` for each
#: also after a failure, or one call, the items being its args and kwargs.
MAP, STAR, EACH, CALL = range(4)


class PoolTaskError(Exception):
    """Takes the place of the result of a call that raised.

    Args:
        underlying: the raised exception; while it is sent, a wrapper that arrives as the exception.
    """

    def __init__(self, underlying: BaseException | Travelling) -> None:
        super().__init__(underlying)
        self.underlying = underlying


#: The report of a chunk: its seconds, the positions of PoolTaskErrors in the results, and the results;
#: packed, if the receiver could write to any.
Report = tuple[float, tuple[int, ...], "list[Any] | Packed"]


def is_plain(form: int, items: Sequence[Any]) -> bool:
    """Tell whether a chunk has nothing that its receiver could write to, nor any user's class."""
    if type(items) is range:
        return True
    if form == CALL:
        args, kwargs = items
        return all_plain(args) and all_plain(kwargs.values())
    if form == STAR:
        return all(type(item) is tuple and all_plain(item) for item in items)
    return all_plain(items)


class PoolWorker:
    """The actor. It keeps one function, that of the chunk before, and the globals of all.

    Args:
        setup: the initializer and its arguments.
    """

    def __init__(self, setup: Packed | None) -> None:
        self._receiver = Receiver()
        self._token = -1
        self._function: Any = None
        if setup is not None:
            initializer, arguments = self._receiver.load(setup)
            initializer(*arguments)

    def run(
        self, token: int, function: Any, form: int, chunks: list[Sequence[Any]] | Packed
    ) -> list[Report] | None:
        """Run chunks of calls of one function.

        Args:
            token: identifies the function.
            function: the function itself, packed if it is not found by its name; None: the last function
                with this token.
            form: one of the forms above.
            chunks: the items of each.

        Returns:
            None if the function is missing (the actor was restarted): send it again.
        """
        if function is not None:
            if isinstance(function, Packed):
                function = self._receiver.load(function, share_from=SHARED_BYTES)
            self._function, self._token = function, token
        elif token != self._token:
            return None
        received = self._receiver.load(chunks) if isinstance(chunks, Packed) else chunks
        return [_run_chunk(self._function, form, items) for items in received]


def _run_chunk(function: Any, form: int, items: Sequence[Any]) -> Report:
    started = perf_counter()
    if form == CALL:
        function, items = _apply, ((function, *items),)
    results: list[Any] = []
    failed: list[int] = []
    rest = iter(items)
    while len(results) < len(items):
        try:
            # The results before an exception stay in the list.
            results.extend((starmap if form in (STAR, CALL) else map)(function, rest))
            if len(results) < len(items):
                # map() ended at it as at the end of the items.
                raise RuntimeError("the function raised StopIteration")
        except Exception as error:
            failed.append(len(results))
            results.append(PoolTaskError(Travelling(error)))
            if form != EACH:
                break
    return perf_counter() - started, *_sent(tuple(failed), results)


def _sent(failed: tuple[int, ...], results: list[Any]) -> tuple[tuple[int, ...], list[Any] | Packed]:
    """Return results in the form in which they are sent; if they cannot be pickled, only this chunk fails."""
    if all_plain(results):
        return failed, results
    try:
        return failed, pack(results)
    except Exception as problem:
        whole = len(results)
        text = f"cannot return it: {culprit.explain(results, 'the list of results', problem)}"
        from multiprocessing import pool

        library: Any = pool  # its stubs lack MaybeEncodingError
        error = Travelling(library.MaybeEncodingError(text, results))
        return tuple(range(whole)), pack([PoolTaskError(error)] * whole)


def _apply(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function(*args, **kwargs)
