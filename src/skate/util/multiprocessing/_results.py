"""Defines the results that a pool returns for calls in progress."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from multiprocessing import TimeoutError
from typing import Any

from skate import api
from skate.util._namespaces import is_named
from skate.util.multiprocessing._chunks import Chunk
from skate.util.multiprocessing._worker import EACH
from skate.util.multiprocessing._worker_group import WorkerGroup

_log = logging.getLogger(__name__)

#: The most chunks of an ``imap`` for each worker that are in progress, or done and not yet taken.
_WINDOW_CHUNKS = 8


class _Job:
    """Chunks that call one function. Its state is guarded by the group's lock."""

    def __init__(self, workers: WorkerGroup, function: Any, form: int, many: bool) -> None:
        self._workers = workers
        self.function = function
        self.form = form
        self.token = workers.new_token()
        self._many = many
        #: A ref to the function, pickled once, if several workers may need it.
        self._shared: Any = None

    def argument(self) -> Any:
        """See Job."""
        if is_named(self.function):
            return self.function
        if not self._many:
            return self._workers.sender.pack(self.function, "func")
        if self._shared is None:
            self._shared = api.put(self._workers.sender.pack(self.function, "func"))
        return self._shared

    def call_back(self) -> None:
        """See Job."""


class AsyncResult(_Job):
    """The result of calls in progress. Pools make it: see ``Pool.apply_async``."""

    def __init__(
        self,
        workers: WorkerGroup,
        function: Any,
        form: int,
        chunks: list[Sequence[Any]],
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
        single_result: bool = False,
    ) -> None:
        super().__init__(workers, function, form, many=len(chunks) > 1)
        self._callback = callback
        self._error_callback = error_callback
        self._single_result = single_result
        self._parts: list[list[Any]] = [[]] * len(chunks)
        self._left = len(chunks)
        #: The first chunk that has failed, and its error.
        self._failed_at = len(chunks)
        self._error: BaseException | None = None
        self._value: Any = []
        self._done = not chunks
        workers.submit([Chunk(self, index, items) for index, items in enumerate(chunks)])

    def deliver(self, index: int, results: list[Any], failed: tuple[int, ...]) -> None:
        """See Job."""
        if failed and index < self._failed_at:
            self._failed_at = index
            self._error = results[failed[0]].underlying
        self._parts[index] = results
        self._left -= 1
        if not self._left:
            self._finish()

    def _finish(self) -> None:
        if self._error is None and self._single_result:
            self._value = self._parts[0][0]
        elif self._error is None:
            self._value = self._parts[0]
            for part in self._parts[1:]:
                self._value += part
        self._parts = []
        self._shared = None
        if (self._callback if self._error is None else self._error_callback) is None:
            self._done = True
        else:
            self._workers.have_called_back(self)

    def call_back(self) -> None:
        """See Job."""
        try:
            if self._error is None:
                assert self._callback is not None
                self._callback(self._value)
            else:
                assert self._error_callback is not None
                self._error_callback(self._error)
        except Exception:
            # Log it before the job counts as done.
            _log.exception("a callback of a pool raised")
        finally:
            with self._workers.changed:
                self._done = True

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all calls are done and the callback has run.

        Args:
            timeout: seconds at most; None: no limit.

        Example:
            >>> result.wait(10)
        """
        self._workers.drive(lambda: self._done, timeout)

    def get(self, timeout: float | None = None) -> Any:
        """Return the values of the calls.

        Args:
            timeout: seconds to wait at most; None: no limit.

        Returns:
            The value of ``apply_async``; the list of values, in order, of ``map_async``.

        Raises:
            multiprocessing.TimeoutError: the time is up.
            Exception: the exception of a call; its cause has the worker's traceback. With several
                failures, the one of the first chunk. It is raised when all chunks are done.
            ActorDiedError: a worker's process ended, or the pool was terminated.

        Example:
            >>> pool.map_async(square, range(3)).get(timeout=10)
            [0, 1, 4]
        """
        if not self._workers.drive(lambda: self._done, timeout):
            raise TimeoutError(f"no result within {timeout} s")
        if self._error is not None:
            raise self._error
        return self._value

    def ready(self) -> bool:
        """Tell whether all calls are done and the callback has run.

        Example:
            >>> result.ready()
            False
        """
        return self._done

    def successful(self) -> bool:
        """Tell whether no call raised.

        Raises:
            ValueError: not all calls are done.

        Example:
            >>> result.successful()
            True
        """
        if not self._done:
            raise ValueError(f"{self!r} is not ready: call wait() before successful()")
        return self._error is None


class IMapIterator(_Job):
    """Yields results while a pool works on the rest. Pools make it: see ``Pool.imap``.

    The thread that calls ``next`` iterates over the iterable, as results are taken; ``Pool.join`` iterates
    over the rest.

    Args:
        pool: the pool.
        func: takes one item.
        iterable: the items; it may be endless.
        chunksize: items that are sent to a worker at a time.
    """

    def __init__(
        self,
        pool: Any,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
    ) -> None:
        super().__init__(pool._workers, func, EACH, many=True)
        self._chunksize = 1 if chunksize is None else chunksize
        if self._chunksize < 1:
            raise ValueError(f"chunksize must be at least 1, got {chunksize}")
        self._items = iter(iterable)
        #: One thread at a time uses the iterable and the fields below.
        self._turn = threading.RLock()
        self._sent = 0
        self._taken = 0
        self.exhausted = False
        #: The remaining results of the chunk taken last, in reverse order; and the positions of failures,
        #: counted from the end.
        self._current: tuple[list[Any], frozenset[int]] = ([], frozenset())
        self._feed()

    def feed_all(self) -> None:
        """Send all remaining items, as the pool is about to end."""
        with self._turn:
            while not self.exhausted:
                self._send_one()

    def _feed(self) -> None:
        window = self._workers.size * max(_WINDOW_CHUNKS, 2 * self._workers.paces.depth(self.function))
        while not self.exhausted and self._sent - self._taken < window:
            self._send_one()

    def _send_one(self) -> None:
        index = self._sent
        try:
            items = tuple(islice(self._items, self._chunksize))
        except Exception as error:
            # It is raised in its turn, as the last result.
            self.exhausted = True
            self._sent += 1
            with self._workers.changed:
                self.deliver(index, [_Raised(error)], (0,))
            return
        if not items:
            self.exhausted = True
            return
        self._sent += 1
        self._workers.submit([Chunk(self, index, items)])

    def deliver(self, index: int, results: list[Any], failed: tuple[int, ...]) -> None:
        """See Job."""
        raise NotImplementedError

    def _available(self) -> bool:
        """Tell whether the next chunk can be taken. Under the group's lock."""
        raise NotImplementedError

    def _take(self) -> tuple[list[Any], tuple[int, ...]]:
        """Take the next chunk. Under the group's lock."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result.

        Args:
            timeout: seconds to wait at most; None: no limit.

        Raises:
            StopIteration: there are no more.
            multiprocessing.TimeoutError: the time is up; the result is still to come.
            Exception: the exception of the call; the iterator goes on after it.

        Example:
            >>> pool.imap(square, [2]).next(timeout=10)
            4
        """
        results, failed = self._current
        if results and not failed:
            try:
                return results.pop()
            except IndexError:
                pass  # another thread was faster
        with self._turn:
            if not self._current[0]:
                self._next_chunk(timeout)
            results, failed = self._current
            position = len(results)
            result = results.pop()
        if position in failed:
            raise result.underlying
        return result

    def _next_chunk(self, timeout: float | None) -> None:
        self._feed()
        if self._taken == self._sent:
            raise StopIteration
        if not self._workers.drive(self._available, timeout):
            raise TimeoutError(f"no result within {timeout} s")
        with self._workers.changed:
            results, failed = self._take()
        count = len(results)
        results.reverse()
        self._current = (results, frozenset([count - where for where in failed]))
        self._taken += 1
        # The workers go on while the caller uses this result.
        self._feed()


class _Raised(Exception):
    """Carries the exception of the iterable."""

    def __init__(self, underlying: BaseException) -> None:
        super().__init__()
        self.underlying = underlying


class OrderedIMapIterator(IMapIterator):
    """Yields results in the order of the items."""

    def __init__(
        self, pool: Any, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> None:
        self._arrived: dict[int, tuple[list[Any], tuple[int, ...]]] = {}
        super().__init__(pool, func, iterable, chunksize)

    def deliver(self, index: int, results: list[Any], failed: tuple[int, ...]) -> None:
        """See Job."""
        self._arrived[index] = (results, failed)

    def _available(self) -> bool:
        return self._taken in self._arrived

    def _take(self) -> tuple[list[Any], tuple[int, ...]]:
        return self._arrived.pop(self._taken)


class UnorderedIMapIterator(IMapIterator):
    """Yields results as they become ready."""

    def __init__(
        self, pool: Any, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> None:
        self._arrived: deque[tuple[list[Any], tuple[int, ...]]] = deque()
        super().__init__(pool, func, iterable, chunksize)

    def deliver(self, index: int, results: list[Any], failed: tuple[int, ...]) -> None:
        """See Job."""
        self._arrived.append((results, failed))

    def _available(self) -> bool:
        return bool(self._arrived)

    def _take(self) -> tuple[list[Any], tuple[int, ...]]:
        return self._arrived.popleft()
