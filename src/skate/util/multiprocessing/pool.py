"""Provides Pool: the interface of ``multiprocessing.Pool``, with actors as workers."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NoReturn

from skate import api, cluster
from skate.util._namespaces import Sender
from skate.util.multiprocessing._results import (
    AsyncResult,
    IMapIterator,
    OrderedIMapIterator,
    UnorderedIMapIterator,
)
from skate.util.multiprocessing._worker import CALL, MAP, STAR, PoolTaskError, PoolWorker
from skate.util.multiprocessing._worker_group import WorkerGroup

__all__ = ["AsyncResult", "IMapIterator", "OrderedIMapIterator", "Pool", "PoolTaskError",
           "UnorderedIMapIterator"]  # fmt: skip

_log = logging.getLogger(__name__)

#: The number of chunks that ``map`` makes for each worker without a chunksize.
_CHUNKS_PER_WORKER = 4


class Pool:
    """A pool of worker processes: a drop-in for ``multiprocessing.Pool``.

    Functions, arguments and results may be anything that tasks take, also closures and lambdas. Large
    arrays in them are shared, not copied. A method of the pool pickles its function
    once. Calls whose worker dies raise ActorDiedError, and another worker takes its place.

    Args:
        processes: workers; default: as many as the session has CPUs.
        initializer: called in each worker when it starts, with ``initargs``.
        initargs: its arguments.
        maxtasksperchild: chunks of calls after which a worker is replaced; default: never.
        context: accepted as in ``multiprocessing``; it is not used.
        ray_address: the session to join, if this process is in none; default: one of its own.
        ray_remote_args: options of the workers, as of ``@skate.remote``. By default they take no CPU
            from tasks.

    Raises:
        ValueError, TypeError: an argument is wrong.

    Example:
        >>> with skate.util.multiprocessing.Pool(4) as pool:
        ...     pool.map(square, range(5))
        [0, 1, 4, 9, 16]
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] | None = None,
        maxtasksperchild: int | None = None,
        context: Any = None,
        ray_address: str | None = None,
        ray_remote_args: dict[str, Any] | None = None,
    ) -> None:
        if processes is not None and processes < 1:
            raise ValueError(f"processes must be at least 1, got {processes}")
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer takes a function, got {initializer!r}")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild < 1):
            raise ValueError(f"maxtasksperchild takes a whole number of at least 1, got {maxtasksperchild!r}")
        if context is not None:
            _log.warning("Pool(context=...) is not used: workers are actors")
        if not api.is_initialized():
            api.init(ray_address, num_cpus=processes if ray_address is None else None)
        if processes is None:
            processes = max(1, int(cluster.cluster_resources().get("CPU", 1)))
        worker = api.remote(**{"num_cpus": 0, **(ray_remote_args or {})})(PoolWorker)
        sender = Sender()
        # Pickled once: a worker that replaces another starts with the same arguments.
        setup = None
        if initializer is not None:
            setup = api.put(sender.pack((initializer, tuple(initargs or ())), "(initializer, initargs)"))
        self._workers = WorkerGroup(processes, lambda: worker.remote(setup), maxtasksperchild, sender)
        self._open = True
        #: Iterators of ``imap``, whose iterables may have items that were not sent yet.
        self._iterators: list[IMapIterator] = []
        weakref.finalize(self, self._workers.abandon)

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError("a Pool cannot be pickled: make one where it is needed")

    def _check_open(self) -> None:
        if not self._open:
            raise ValueError("the pool is closed: it takes no more calls")

    # ------------------------------------------------------------------ single calls

    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        *,
        kwds: dict[str, Any] | None = None,
    ) -> Any:
        """Call ``func(*args, **kwargs)`` in a worker and return its value.

        Args:
            func: the function.
            args, kwargs: its arguments.
            kwds: what ``multiprocessing`` calls ``kwargs``.

        Raises:
            Exception: the exception of the call, see ``AsyncResult.get``.
            ValueError: the pool is closed.

        Example:
            >>> pool.apply(pow, (2, 10))
            1024
        """
        return self._apply(func, args, kwargs or kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
        *,
        kwds: dict[str, Any] | None = None,
    ) -> AsyncResult:
        """Call ``func(*args, **kwargs)`` in a worker, and return before it has ended.

        Args:
            func: the function.
            args, kwargs: its arguments.
            callback: called with the value, on a thread of the pool; the result is ready after it.
            error_callback: called with the exception instead, if it raised one.
            kwds: what ``multiprocessing`` calls ``kwargs``.

        Returns:
            The result to come.

        Raises:
            ValueError: the pool is closed.

        Example:
            >>> pool.apply_async(pow, (2, 10)).get(timeout=10)
            1024
        """
        result = self._apply(func, args, kwargs or kwds, callback, error_callback)
        self._workers.look()
        self._workers.need_background()
        return result

    def _apply(
        self, func: Any, args: Any, kwargs: Any, callback: Any = None, error: Any = None
    ) -> AsyncResult:
        self._check_open()
        items = (tuple(args or ()), dict(kwargs or {}))
        return AsyncResult(self._workers, func, CALL, [items], callback, error, single_result=True)

    # ------------------------------------------------------------------ many calls

    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """Call ``func`` on each item; return the list of the results, in order.

        Args:
            func: takes one item.
            iterable: the items, used up at once.
            chunksize: items that are sent to a worker at a time; default: a quarter of a worker's share.

        Raises:
            Exception: the exception of a call, see ``AsyncResult.get``.
            ValueError: the pool is closed.

        Example:
            >>> pool.map(square, range(3))
            [0, 1, 4]
        """
        result: list[Any] = self._map(func, iterable, chunksize, MAP).get()
        return result

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> AsyncResult:
        """Call ``func`` on each item, and return before the calls have ended.

        Args:
            func: takes one item.
            iterable: the items, used up at once.
            chunksize: items that are sent to a worker at a time; default: a quarter of a worker's share.
            callback: called with the list of results, on a thread of the pool; not for no items.
            error_callback: called with the exception instead, if there is one.

        Returns:
            The result to come: a list, in order.

        Raises:
            ValueError: the pool is closed.

        Example:
            >>> pool.map_async(square, range(3)).get()
            [0, 1, 4]
        """
        result = self._map(func, iterable, chunksize, MAP, callback, error_callback)
        self._workers.need_background()
        return result

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """Call ``func(*item)`` for each item; return the list of the results, in order.

        Args:
            func: takes as many arguments as an item has parts.
            iterable: the items, used up at once.
            chunksize: items that are sent to a worker at a time; default: a quarter of a worker's share.

        Raises:
            Exception: the exception of a call, see ``AsyncResult.get``.
            ValueError: the pool is closed.

        Example:
            >>> pool.starmap(pow, [(2, 10), (3, 2)])
            [1024, 9]
        """
        result: list[Any] = self._map(func, iterable, chunksize, STAR).get()
        return result

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        callback: Callable[[list[Any]], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
        chunksize: int | None = None,
    ) -> AsyncResult:
        """Call ``func(*item)`` for each item, and return before the calls have ended.

        Args:
            func: takes as many arguments as an item has parts.
            iterable: the items, used up at once.
            callback: called with the list of results, on a thread of the pool; not for no items. A
                number in its place, where ``multiprocessing`` has it, is taken for the chunksize.
            error_callback: called with the exception instead, if there is one.
            chunksize: items that are sent to a worker at a time; default: a quarter of a worker's share.

        Returns:
            The result to come: a list, in order.

        Raises:
            ValueError: the pool is closed.

        Example:
            >>> pool.starmap_async(pow, [(2, 10)]).get()
            [1024]
        """
        if isinstance(callback, int):
            callback, chunksize = None, callback
        result = self._map(func, iterable, chunksize, STAR, callback, error_callback)
        self._workers.need_background()
        return result

    def _map(
        self, func: Any, iterable: Any, size: int | None, form: int, callback: Any = None, error: Any = None
    ) -> AsyncResult:
        self._check_open()
        if not hasattr(iterable, "__len__"):
            iterable = list(iterable)
        if size is None:
            size = max(1, -(-len(iterable) // (self._workers.size * _CHUNKS_PER_WORKER)))
        elif size < 1:
            raise ValueError(f"chunksize must be at least 1, got {size}")
        if type(iterable) in (list, tuple, range):
            chunks = [iterable[start : start + size] for start in range(0, len(iterable), size)]
        else:
            items = iter(iterable)
            chunks = list(iter(lambda: tuple(islice(items, size)), ()))
        return AsyncResult(self._workers, func, form, chunks, callback, error)

    # ------------------------------------------------------------------ results one by one

    def imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = 1
    ) -> Iterator[Any]:
        """Call ``func`` on each item; return an iterator over the results, in order.

        Args:
            func: takes one item.
            iterable: the items; used as results are taken, some chunks ahead.
            chunksize: items that are sent to a worker at a time.

        Returns:
            An iterator whose ``next`` has a timeout. It raises the exception of a call in its turn, and
            goes on.

        Raises:
            ValueError: the pool is closed, or ``chunksize`` below 1.

        Example:
            >>> for value in pool.imap(square, range(1_000_000), chunksize=1000):
            ...     print(value)
        """
        return self._imap(OrderedIMapIterator, func, iterable, chunksize)

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = 1
    ) -> Iterator[Any]:
        """Call ``func`` on each item; return an iterator over the results as they become ready.

        Args:
            func: takes one item.
            iterable: the items; used as results are taken, some chunks ahead.
            chunksize: items that are sent to a worker at a time.

        Returns:
            An iterator whose ``next`` has a timeout. It raises the exception of a call in its turn, and
            goes on.

        Raises:
            ValueError: the pool is closed, or ``chunksize`` below 1.

        Example:
            >>> sorted(pool.imap_unordered(square, range(3)))
            [0, 1, 4]
        """
        return self._imap(UnorderedIMapIterator, func, iterable, chunksize)

    def _imap(
        self, kind: type[IMapIterator], func: Any, iterable: Any, chunksize: int | None
    ) -> IMapIterator:
        self._check_open()
        made = kind(self, func, iterable, chunksize)
        self._iterators = [one for one in self._iterators if not one.exhausted]
        self._iterators.append(made)
        self._workers.need_background()
        return made

    # ------------------------------------------------------------------ end

    def close(self) -> None:
        """Accept no more calls. Calls in progress go on.

        Example:
            >>> pool.close()
        """
        self._open = False
        self._workers.end()

    def terminate(self) -> None:
        """End the workers at once; unfinished results raise ActorDiedError.

        Example:
            >>> pool.terminate()
        """
        self._open = False
        self._iterators.clear()
        self._workers.terminate("the pool was terminated")

    def join(self) -> None:
        """Wait until all calls are done and the workers have ended. First ``close`` or ``terminate``.

        Raises:
            ValueError: the pool takes calls still.

        Example:
            >>> pool.close()
            >>> pool.join()
        """
        if self._open:
            raise ValueError("the pool is running: close() or terminate() it before join()")
        for iterator in self._iterators:
            iterator.feed_all()
        self._workers.drive(lambda: self._workers.is_idle)
        self._workers.dismiss()

    def __enter__(self) -> Pool:
        self._check_open()
        return self

    def __exit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        self.terminate()
