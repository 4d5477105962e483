"""Executor: ``concurrent.futures`` on tasks."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures import Future
from functools import partial
from itertools import islice
from time import monotonic
from typing import Any, TypeVar

from skate import api
from skate._base.user_errors import attributes_of, is_a, set_cause
from skate.exceptions import RayTaskError

T = TypeVar("T")


class _Call:
    """A call that was submitted."""

    __slots__ = ("future", "arguments", "keywords")

    def __init__(self, future: Future[Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        self.future = future
        self.arguments = arguments
        self.keywords = keywords


class Executor(futures.Executor):
    """Runs calls as tasks, wherever there is a free CPU: for code written for ``concurrent.futures``.

    Exceptions have their own type, with the remote traceback as their cause. Arguments that are
    ObjectRefs are replaced by their values. A call whose worker crashes is repeated as any task is
    (``max_retries``).

    Args:
        max_workers: calls at a time at most. None: as many as the session has room for; then nothing
            that was submitted can be cancelled.
        ray_remote_args: options of the tasks, as of ``@skate.remote``: ``{"num_cpus": 2}``.

    Example:
        >>> with skate.util.Executor() as executor:
        ...     print(executor.submit(pow, 2, 10).result())
        1024
    """

    def __init__(
        self, max_workers: int | None = None, *, ray_remote_args: dict[str, Any] | None = None
    ) -> None:
        if max_workers is not None and max_workers < 1:
            raise ValueError(f"max_workers must be at least 1, got {max_workers}")
        self._limit = max_workers
        options = {"num_cpus": 1, **(ray_remote_args or {})}
        self._remote = api.remote(**options)(_call)
        self._changed = threading.Condition()
        # Guarded by it:
        self._waiting: deque[_Call] = deque()
        self._running = 0
        self._closed = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run ``fn(*args, **kwargs)`` as a task.

        Args:
            fn: any function. What it captures is pickled now.
            args, kwargs: its arguments.

        Returns:
            The future of the result. It can be cancelled until it runs, if ``max_workers`` was given.

        Raises:
            RuntimeError: ``shutdown`` was called.

        Example:
            >>> executor.submit(pow, 2, 10).result(timeout=10)
            1024
        """
        future: Future[T] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the executor was shut down: it takes no more calls")
            self._waiting.append(_Call(future, (fn, *args), kwargs))
        self._start_waiting()
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **kwargs: Any,
    ) -> Iterator[T]:
        """Call ``fn`` on the items of the iterables side by side; yield the results in order.

        Args:
            fn: takes as many arguments as there are iterables. It is pickled once.
            iterables: used up at once, as far as the shortest goes.
            timeout: seconds from now until the last result at most; None: no limit.
            chunksize: items that one task works on.
            kwargs: none; for versions of ``concurrent.futures`` that have more options.

        Returns:
            An iterator over the results. Calls that have not begun are cancelled when it is closed.

        Raises:
            TimeoutError: the time is up (from the iterator).
            ValueError: ``chunksize`` is below 1.
            RuntimeError: ``shutdown`` was called.

        Example:
            >>> list(executor.map(pow, [2, 3], [10, 2], chunksize=100))
            [1024, 9]
        """
        if chunksize < 1:
            raise ValueError(f"chunksize must be at least 1, got {chunksize}")
        if kwargs.pop("buffersize", None) is not None or kwargs:
            raise TypeError(f"map() does not support these arguments: {', '.join(kwargs) or 'buffersize'}")
        deadline = None if timeout is None else monotonic() + timeout
        items = zip(*iterables, strict=False)
        function = api.put(fn)
        chunks = [
            self.submit(_map, function, chunk) for chunk in iter(lambda: tuple(islice(items, chunksize)), ())
        ]
        return _results(chunks, deadline)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: return when all calls are done.
            cancel_futures: cancel those that have not begun.

        Example:
            >>> executor.shutdown(cancel_futures=True)
        """
        cancelled: list[_Call] = []
        with self._changed:
            self._closed = True
            if cancel_futures:
                cancelled = list(self._waiting)
                self._waiting.clear()
        for call in cancelled:
            call.future.cancel()
            # Tells those who wait in ``concurrent.futures.wait`` and ``as_completed``.
            call.future.set_running_or_notify_cancel()
        if wait:
            with self._changed:
                self._changed.wait_for(lambda: not self._running and not self._waiting)

    # ------------------------------------------------------------------ calls

    def _start_waiting(self) -> None:
        while True:
            with self._changed:
                if not self._waiting or (self._limit is not None and self._running >= self._limit):
                    return
                call = self._waiting.popleft()
                if not call.future.set_running_or_notify_cancel():
                    self._changed.notify_all()
                    continue
                self._running += 1
            try:
                done = self._remote.remote(*call.arguments, **call.keywords).future()
            except Exception as error:
                self._ended(call.future, None, error)
            else:
                done.add_done_callback(partial(self._returned, call.future))

    def _returned(self, future: Future[Any], done: Future[Any]) -> None:
        error = done.exception()
        self._ended(future, None if error is not None else done.result(), error)
        self._start_waiting()

    def _ended(self, future: Future[Any], value: Any, error: BaseException | None) -> None:
        try:
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(own_error(error))
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()


def own_error(error: BaseException) -> BaseException:
    """Return the user's exception itself, caused by the error that tells where it was raised."""
    if not is_a(error, RayTaskError):
        return error
    cause: BaseException = attributes_of(error)["cause"]
    set_cause(cause, error)
    return cause


def _call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def _map(function: Callable[..., Any], chunk: tuple[tuple[Any, ...], ...]) -> list[Any]:
    return [function(*arguments) for arguments in chunk]


def _results(chunks: list[Future[list[Any]]], deadline: float | None) -> Iterator[Any]:
    chunks.reverse()
    try:
        while chunks:
            yield from chunks[-1].result(None if deadline is None else deadline - monotonic())
            chunks.pop()
    finally:
        for chunk in chunks:
            chunk.cancel()
