"""Provides Executor: the interface of ``concurrent.futures``, on tasks."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from time import monotonic
from typing import Any, TypeVar

from skate import api
from skate._base.user_errors import attributes_of, is_a
from skate._serialize.exceptions import own_cause
from skate.engine.refs import ObjectRef
from skate.exceptions import RayTaskError, WorkerCrashedError
from skate.util._copies import Packed, all_plain
from skate.util._executor_worker import InitializerFailed, run_chunk, run_task
from skate.util._namespaces import Sender, is_named

T = TypeVar("T")


class _Call:
    """A submitted call."""

    __slots__ = ("future", "arguments", "keywords")

    def __init__(self, future: Future[Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        self.future = future
        self.arguments = arguments
        self.keywords = keywords


class Executor(futures.Executor):
    """Runs calls as tasks, wherever there is a free CPU: for code written for ``concurrent.futures``.

    Exceptions have their own type, with the remote traceback as their cause. Arguments that are
    ObjectRefs are replaced by their values, which are read in place; other arguments, and results,
    are copies, to which the receiver may write. A call whose worker crashes is repeated as any task is
    (``max_retries``). Calls that run in one worker share the globals of ``__main__`` there, as those of
    a process pool do.

    Args:
        max_workers: the most calls at a time. None: as many as the session has room for; then a
            submitted call cannot be cancelled.
        mp_context: accepted as in ``ProcessPoolExecutor``; it is not used.
        initializer: called in each worker process before the first call that runs there, with
            ``initargs``. If it raises, the executor is broken.
        initargs: its arguments.
        max_tasks_per_child: calls after which a worker process is replaced; default: never.
        ray_remote_args: options of the tasks, as of ``@skate.remote``: ``{"num_cpus": 2}``.

    Raises:
        ValueError, TypeError: an argument is wrong.

    Example:
        >>> with skate.util.Executor() as executor:
        ...     print(executor.submit(pow, 2, 10).result())
        1024
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
        ray_remote_args: dict[str, Any] | None = None,
    ) -> None:
        if max_workers is not None and max_workers < 1:
            raise ValueError(f"max_workers must be at least 1, got {max_workers}")
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer takes a function, got {initializer!r}")
        if max_tasks_per_child is not None and max_tasks_per_child < 1:
            raise ValueError(f"max_tasks_per_child must be at least 1, got {max_tasks_per_child}")
        self._limit = max_workers
        options = {"num_cpus": 1, **(ray_remote_args or {})}
        if max_tasks_per_child is not None:
            options["max_calls"] = max_tasks_per_child
        self._remote = api.remote(**options)(run_task)
        self._sender = Sender()
        #: Identifies the executor to the workers.
        self._id = os.urandom(16)
        setup = None if initializer is None else (initializer, tuple(initargs))
        #: The initializer and its arguments; None: there is none. Stored at the first call.
        self._setup: Any = None if setup is None else self._sender.pack(setup, "(initializer, initargs)")
        self._changed = threading.Condition()
        # Guarded by it:
        self._waiting: deque[_Call] = deque()
        self._running = 0
        self._closed = False
        #: The exception of the initializer.
        self._broken: BaseException | None = None

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run ``fn(*args, **kwargs)`` as a task.

        Args:
            fn: any function. It is pickled now, with the values that it captures.
            args, kwargs: its arguments.

        Returns:
            The future of the result. It can be cancelled until it runs, if ``max_workers`` was given.

        Raises:
            RuntimeError: ``shutdown`` was called.
            concurrent.futures.process.BrokenProcessPool: the initializer raised in a worker.

        Example:
            >>> executor.submit(pow, 2, 10).result(timeout=10)
            1024
        """
        future: Future[T] = Future()
        with self._changed:
            if self._broken is not None:
                raise _broken(self._broken)
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
        function = api.put(self._sender.pack(fn, "fn"))
        chunks = [
            self.submit(run_chunk, function, chunk)
            for chunk in iter(lambda: tuple(islice(items, chunksize)), ())
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
            # Ends waits in ``concurrent.futures.wait`` and ``as_completed``.
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
                done = self._send(call).future()
            except Exception as error:
                self._ended(call.future, None, error)
            else:
                done.add_done_callback(partial(self._returned, call.future))

    def _send(self, call: _Call) -> ObjectRef[Any]:
        refs: dict[int | str, Any] = {}
        args, kwargs = call.arguments, call.keywords
        places: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
        for where, value in places:
            if isinstance(value, ObjectRef):
                refs[where] = value
        if refs:
            args = tuple([None if where in refs else value for where, value in enumerate(args)])
            kwargs = {name: None if name in refs else value for name, value in kwargs.items()}
        if isinstance(self._setup, Packed):
            self._setup = api.put(self._setup)
        task: Any = (args, kwargs)
        if not (is_named(args[0]) and all_plain(args[1:]) and all_plain(kwargs.values())):
            task = self._sender.pack(task, "call")
        ref: ObjectRef[Any] = self._remote.remote(self._id, self._setup, task, tuple(refs), *refs.values())
        return ref

    def _returned(self, future: Future[Any], done: Future[Any]) -> None:
        error = done.exception()
        if error is not None and is_a(error, RayTaskError):
            cause = attributes_of(error)["cause"]
            if is_a(cause, InitializerFailed):
                self._break(cause)
                error = _broken(cause)
        self._ended(future, None if error is not None else done.result(), error)
        self._start_waiting()

    def _break(self, error: BaseException) -> None:
        """Fail the waiting calls, which may need the initializer that raised in a worker."""
        with self._changed:
            self._broken = self._broken or error
            waiting = list(self._waiting)
            self._waiting.clear()
        for call in waiting:
            if call.future.set_running_or_notify_cancel():
                call.future.set_exception(_broken(error))

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


class _WorkerCrashed(WorkerCrashedError, BrokenProcessPool):
    """WorkerCrashedError as programs of ``concurrent.futures`` catch it; the executor takes further calls."""


def own_error(error: BaseException) -> BaseException:
    """Return the user's exception itself, with the error that names its place as the cause."""
    if type(error) is WorkerCrashedError:
        return _WorkerCrashed(*error.args)
    if not is_a(error, RayTaskError):
        return error
    return own_cause(error)


def _broken(error: BaseException) -> BrokenProcessPool:
    broken = BrokenProcessPool(f"the initializer of the executor failed in a worker process: {error}")
    broken.__cause__ = error
    return broken


def _results(chunks: list[Future[list[Any]]], deadline: float | None) -> Iterator[Any]:
    chunks.reverse()
    try:
        while chunks:
            yield from chunks[-1].result(None if deadline is None else deadline - monotonic())
            chunks.pop()
    finally:
        for chunk in chunks:
            chunk.cancel()
