"""Yields results in the order in which they become ready."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from skate import api
from skate.exceptions import GetTimeoutError

if TYPE_CHECKING:
    from skate.engine.refs import ObjectRef

#: The options of ``wait``, besides the refs and their number.
_WAIT_OPTIONS = frozenset({"timeout", "fetch_local"})


def as_completed(
    refs: Sequence[ObjectRef[Any]], *, chunk_size: int = 10, yield_obj_refs: bool = False, **kwargs: Any
) -> Iterator[Any]:
    """Return an iterator over the values of refs, the first that is ready first.

    Args:
        refs: different refs. They are given up as their values are yielded.
        chunk_size: how many values that are ready are fetched at a time. Nothing waits for a chunk
            to fill up: one value that is ready is yielded at once.
        yield_obj_refs: yield the refs instead of their values.
        kwargs: options of ``skate.wait``: ``timeout``, seconds until the next value at most, and
            ``fetch_local``.

    Returns:
        An iterator. An error of a task is raised where its value would have been, and ends it.

    Raises:
        GetTimeoutError: no further value was ready in time (from the iterator).
        TypeError, ValueError: an argument is wrong.

    Example:
        >>> for value in skate.util.as_completed([work.remote(i) for i in range(100)]):
        ...     print(value)
    """
    _check("as_completed", chunk_size, kwargs)
    pending = list(refs)
    for ref in pending:
        ref._ask()
    return _Completion(pending, chunk_size, yield_obj_refs, kwargs).run(iter(()), None, len(pending))


def map_unordered(
    fn: Any,
    items: Iterable[Any],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    **kwargs: Any,
) -> Iterator[Any]:
    """Call a remote function (or an actor's method) on each item; yield results as they become ready.

    Items are taken from the iterable as results are consumed, so it may be endless.

    Args:
        fn: a remote function or a method of an actor: an object with ``.remote(item)``.
        items: the arguments, one a call.
        backpressure_size: the most calls that run or are done and not yet yielded; None: no limit.
        chunk_size: see ``as_completed``.
        yield_obj_refs: yield the refs instead of their values.
        kwargs: options of ``skate.wait``, see ``as_completed``.

    Returns:
        An iterator. Nothing runs before its first ``next``.

    Raises:
        GetTimeoutError: no further value was ready in time (from the iterator).
        TypeError, ValueError: an argument is wrong.

    Example:
        >>> for value in skate.util.map_unordered(work, range(1_000_000)):
        ...     print(value)
    """
    _check("map_unordered", chunk_size, kwargs)
    if not hasattr(fn, "remote"):
        raise TypeError(
            f"map_unordered() takes a remote function or an actor's method, got {fn!r}; "
            "make a function remote with @skate.remote"
        )
    if backpressure_size is not None and backpressure_size < chunk_size:
        raise ValueError(
            f"backpressure_size ({backpressure_size}) must be at least chunk_size ({chunk_size})"
        )
    return _Completion([], chunk_size, yield_obj_refs, kwargs).run(iter(items), fn, backpressure_size)


def _check(function: str, chunk_size: int, kwargs: dict[str, Any]) -> None:
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    unknown = sorted(set(kwargs) - _WAIT_OPTIONS)
    if unknown:
        raise TypeError(f"{function}() got unknown arguments: {', '.join(unknown)}")


class _Completion:
    """Refs of running calls, and refs that are ready and not yet yielded."""

    def __init__(
        self,
        pending: list[ObjectRef[Any]],
        chunk_size: int,
        yield_obj_refs: bool,
        wait_options: dict[str, Any],
    ) -> None:
        self._pending = pending
        self._ready: deque[ObjectRef[Any]] = deque()
        self._chunk_size = chunk_size
        self._yield_obj_refs = yield_obj_refs
        self._wait_options = wait_options

    def run(self, items: Iterator[Any], fn: Any, limit: int | None) -> Iterator[Any]:
        """Yield results until items and refs are used up."""
        while True:
            room = None if limit is None else max(0, limit - len(self._pending) - len(self._ready))
            started = [fn.remote(item) for item in islice(items, room)]
            for ref in started:
                # The first error ends the iteration: do not report those of the others.
                ref._ask()
            self._pending += started
            if not self._ready:
                if not self._pending:
                    return
                self._wait()
            chunk = [self._ready.popleft() for _ in range(min(self._chunk_size, len(self._ready)))]
            yield from chunk if self._yield_obj_refs else _values(chunk)

    def _wait(self) -> None:
        ready, rest = api.wait(self._pending, num_returns=1, **self._wait_options)
        if not ready:
            raise GetTimeoutError(
                f"none of {len(rest)} results was ready within {self._wait_options.get('timeout')} s"
            )
        self._ready.extend(ready)
        if rest:
            # A check of all refs costs as much as one of a single ref: take all that are ready.
            ready, rest = api.wait(rest, num_returns=len(rest), timeout=0)
            self._ready.extend(ready)
        self._pending = rest


def _values(chunk: list[ObjectRef[Any]]) -> Iterator[Any]:
    try:
        values = api.get(chunk)
    except Exception:
        # One of them is an error: yield the values before it.
        for ref in chunk:
            yield api.get(ref)
    else:
        yield from values
