"""``@serve.batch``: calls of one item each that run as calls of lists, or as items of a running loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
import time
import types
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any, Literal

from skate.serve._batching.calls import END, Call, One, Stream
from skate.serve._batching.queue import BatchQueue
from skate.serve._batching.streams import BatchItem, BatchStep, BatchStream, Steps, takes_stream
from skate.serve._batching.windows import LearnedWindow
from skate.serve._observing.batches import BatchMetrics
from skate.serve.context import RequestContext, request
from skate.serve.exceptions import RayServeException

__all__ = ["BatchError", "BatchItem", "BatchStep", "BatchStream", "batch"]

logger = logging.getLogger("skate.serve")

#: A function that holds the loop for longer before it first waits computes there (seconds).
_BRIEF_S = 0.001


class BatchError(Exception):
    """Stands in a batch's results for the failure of one item: its caller gets the error, the others their
    results.

    Args:
        error: what the caller of that item gets.

    Example:
        >>> return [BatchError(ValueError("empty")) if not text else embed(text) for text in texts]
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class _Batcher:
    """Runs the batches of one function, of one instance if it is a method."""

    def __init__(self, function: Callable[..., Any], owner: Any, queue: BatchQueue) -> None:
        self._function = function
        #: A weak reference to the instance; None: it is a plain function.
        self._owner = owner
        self.queue = queue
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        #: Of a function that takes a stream: its runs.
        self._streams: set[Steps] = set()
        self._takes_stream = takes_stream(function)
        #: How long the function held the loop before it first waited for something (seconds).
        self._held_s = 0.0
        self._metrics = BatchMetrics(function.__name__, lambda: len(queue))

    def set_wait_s(self, seconds: float | Literal["auto"]) -> None:
        """Wait for another time, from the next batch on."""
        if not self._takes_stream:
            self.queue.window = _window(seconds)

    def add(self, call: Call) -> None:
        self.queue.add(call)
        self.run()
        for stream in self._streams:
            stream.wake()

    def run(self) -> None:
        """Begin the batches that are to begin now."""
        loop = asyncio.get_running_loop()
        run = self._run_stream if self._takes_stream else self._run
        while calls := self._take():
            # As a part of none of the requests in it: it would be cancelled with that one.
            task = contextvars.Context().run(loop.create_task, run(calls))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        due = self.queue.due()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = loop.call_at(due, self.run)

    def _take(self) -> list[Any]:
        """Return the calls of the batch that is to begin now; empty: none is."""
        now = asyncio.get_running_loop().time()
        calls = self.queue.take(now)
        if calls and not self._takes_stream:  # whose steps count
            reason = "full" if self.queue.was_full else "window"
            waited_s = now - min(call.since for call in calls)
            self._metrics.begun(len(calls), waited_s, self.queue.max_size, reason)
        return calls

    async def _run(self, calls: list[Call]) -> None:
        """Run a batch, and others after it as long as there are some.

        A task for each would begin after all that the loop has to do by then, such as the answers of the
        batch before.
        """
        try:
            while calls:
                await self._run_one(calls)
                if self._held_s >= _BRIEF_S:
                    await asyncio.sleep(0)  # the function would hold those answers up
                calls = self._take()
        finally:
            self.run()

    async def _run_one(self, calls: list[Call]) -> None:
        loop = asyncio.get_running_loop()
        request.set(RequestContext(model_id=str(calls[0].group)))
        begun = loop.time()
        results: list[Any] | None = None
        has_failed = False
        try:
            results = await self._results(calls)
        except BaseException as error:
            has_failed = True
            results = [BatchError(error)] * len(calls)
            if not isinstance(error, Exception):
                raise
        finally:
            seconds = loop.time() - begun
            self._metrics.ended(seconds)
            self.queue.ended(loop.time(), () if has_failed else calls, seconds)
            if results is not None:
                _hand_out(calls, results)

    async def _results(self, calls: list[Call]) -> list[Any] | None:
        """Run the function; return a result for each call, or None if they have got all they get."""
        args, kwargs = _lists(calls)
        if self._owner is not None:
            args = (self._owner(), *args)
        if inspect.isasyncgenfunction(self._function):
            async for results in self._function(*args, **kwargs):
                _hand_out(calls, self._checked(results, calls))
            for call in calls:
                call.put(END)
            return None
        if inspect.iscoroutinefunction(self._function):
            results = await _watched(self._function(*args, **kwargs), self._note_held)
        else:
            results = await asyncio.to_thread(self._function, *args, **kwargs)
        return self._checked(results, calls)

    def _note_held(self, seconds: float) -> None:
        self._held_s = seconds

    async def _run_stream(self, calls: list[Stream]) -> None:
        group, queue, metrics = calls[0].group, self.queue, self._metrics
        request.set(RequestContext(model_id=str(group)))
        steps = Steps(
            calls,
            lambda running: queue.join(running, group),  # type: ignore[arg-type, return-value]
            lambda size, waited: metrics.begun(size, waited, queue.max_size, None),
            metrics.ended,
        )
        self._streams.add(steps)
        name = self._function.__qualname__
        error: BaseException = RayServeException(
            f"Batched function {name} returned before its stream had ended: this call was neither finished "
            "nor failed. Go on with the steps, or finish() the items of a step before you leave the loop"
        )
        try:
            args: tuple[Any, ...] = (BatchStream(steps),)
            if self._owner is not None:
                args = (self._owner(), *args)
            if inspect.iscoroutinefunction(self._function):
                await self._function(*args)
            else:
                await asyncio.to_thread(self._function, *args)
        except BaseException as raised:
            error = raised
            if not isinstance(raised, Exception):
                raise
            if not steps.count:  # else callers get it
                logger.exception("batched function %s failed without any call", name)
        finally:
            steps.close(error)
            self._streams.discard(steps)
            self.queue.ended(asyncio.get_running_loop().time())
            self.run()

    def _checked(self, results: Any, calls: list[Call]) -> list[Any]:
        try:
            found = list(results)
        except TypeError:
            found = []
        if len(found) != len(calls):
            raise RayServeException(
                f"Batched function {self._function.__qualname__} doesn't preserve batch size: it got "
                f"{len(calls)} "
                f"items and returned {len(found) if found else repr(results)[:100]}"
            )
        return found


@types.coroutine
def _watched(running: Coroutine[Any, Any, Any], note: Callable[[float], object]) -> Generator[Any, Any, Any]:
    """Await a coroutine; ``note`` gets the seconds until it first waits for something, or ends."""
    begun = time.monotonic()
    try:
        waits_for = running.send(None)
    except StopIteration as end:
        return end.value
    finally:
        note(time.monotonic() - begun)
    while True:
        try:
            try:
                value = yield waits_for
            except BaseException as error:
                waits_for = running.throw(error)
            else:
                waits_for = running.send(value)
        except StopIteration as end:
            return end.value


def _lists(calls: list[Call]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of all calls as one list for each parameter."""
    args = tuple(list(values) for values in zip(*(call.args for call in calls), strict=True))
    return args, {name: [call.kwargs[name] for call in calls] for name in calls[0].kwargs}


def _hand_out(calls: list[Call], results: list[Any]) -> None:
    for call, result in zip(calls, results, strict=True):
        if call.is_dropped:
            continue
        if isinstance(result, BatchError):
            call.put(None, result.error)
        elif result is StopIteration and isinstance(call, Stream):
            call.is_dropped = True
            call.put(END)
        else:
            call.put(result)


def batch(
    _func: Callable[..., Any] | None = None,
    /,
    max_batch_size: int = 10,
    batch_wait_timeout_s: float | Literal["auto"] = 0.01,
    max_concurrent_batches: int = 1,
    batch_size_fn: Callable[[list[Any]], int] | None = None,
) -> Any:
    """Have calls of one item each run together: the function gets lists, and returns a list of the same
    length.

    A batch begins when the function is free and the batch is full, or its first call has waited for
    ``batch_wait_timeout_s``. While the function is busy, calls gather. Those of requests with deadlines come
    first, the earliest deadline before others.

    A function with a parameter annotated as ``serve.BatchStream`` gets no lists: it is a loop whose items
    join and leave between its steps, and its callers get streams.

    Args:
        max_batch_size: of a batch.
        batch_wait_timeout_s: how long the first call waits for others if the function is free (seconds).
            ``"auto"``: as long as that is likely to pay, by what batches have cost and when calls came. A
            loop with a ``BatchStream`` waits for none.
        max_concurrent_batches: how many run at a time.
        batch_size_fn: the size of a list of items, where it is not their number: of tokens, of pixels.

    Returns:
        A decorator for an ``async def``, an async generator (whose lists are one step of all callers'
        streams), or a plain function, which runs in a thread. ``set_max_batch_size`` and
        ``set_batch_wait_timeout_s`` on the result change the two at run time.

    Raises:
        ValueError: a size below 1, or a time below 0.
        TypeError: what is decorated is no function, or a generator that takes a ``BatchStream``.

    Example:
        >>> class Embedder:
        ...     @serve.batch(max_batch_size=32, batch_wait_timeout_s="auto")
        ...     async def embed(self, texts):
        ...         return self.model(texts)
        ...     async def __call__(self, request):
        ...         return await self.embed(await request.text())
    """
    for name, value in (
        ("max_batch_size", max_batch_size),
        ("max_concurrent_batches", max_concurrent_batches),
    ):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an integer >= 1, got {value!r}")
        if value < 1:
            raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
    _window(batch_wait_timeout_s)

    def decorate(function: Callable[..., Any]) -> Any:
        if not inspect.isfunction(function):
            raise TypeError(f"@serve.batch can only decorate functions, got {function!r}")
        if takes_stream(function) and (
            inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
        ):
            raise TypeError(
                f"{function.__qualname__} takes a BatchStream and yields: give each item its results by "
                "item.send() instead"
            )
        return _Batched(function, max_batch_size, batch_wait_timeout_s, max_concurrent_batches, batch_size_fn)

    return decorate if _func is None else decorate(_func)


def _window(wait_s: Any) -> float | LearnedWindow:
    """Return what ``batch_wait_timeout_s`` says."""
    if wait_s == "auto":
        return LearnedWindow()
    if isinstance(wait_s, bool) or not isinstance(wait_s, int | float):
        raise TypeError(f"batch_wait_timeout_s must be a float >= 0, or 'auto', got {wait_s!r}")
    if wait_s < 0:
        raise ValueError(f"batch_wait_timeout_s must be a float >= 0, or 'auto', got {wait_s!r}")
    return wait_s


class _Batched:
    """A batched function or method."""

    #: Handles run it on the replica's loop.
    __serve_async__ = True

    def __init__(
        self,
        function: Callable[..., Any],
        max_size: int,
        wait_s: float | Literal["auto"],
        max_running: int,
        size_of: Callable[[list[Any]], int] | None,
    ) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._options = (max_size, wait_s, max_running, size_of)
        #: Of a plain function; those of methods are at their instances.
        self._own: _Batcher | None = None

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        name = f"__serve_batch_{self._function.__name__}"
        found = vars(instance).get(name)
        if found is None:
            found = _bound(self._function, self._batcher(weakref.ref(instance)))
            vars(instance)[name] = found
        return found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._own is None:
            self._own = self._batcher(None)
        return _bound(self._function, self._own)(*args, **kwargs)

    def _batcher(self, owner: Any) -> _Batcher:
        max_size, wait_s, max_running, size_of = self._options
        window = 0.0 if takes_stream(self._function) else _window(wait_s)
        return _Batcher(self._function, owner, BatchQueue(max_size, window, max_running, size_of))

    def set_max_batch_size(self, size: int) -> None:
        """Have other batches, from the next on."""
        self._options = (size, *self._options[1:])
        if self._own is not None:
            self._own.queue.max_size = size

    def set_batch_wait_timeout_s(self, seconds: float | Literal["auto"]) -> None:
        """Wait for another time, from the next batch on."""
        self._options = (self._options[0], seconds, *self._options[2:])
        if self._own is not None:
            self._own.set_wait_s(seconds)

    def __reduce__(self) -> Any:
        return _Batched, (self._function, *self._options)


def is_batched(function: Any) -> bool:
    """Tell whether a function of a class is one that ``batch`` decorated."""
    return isinstance(function, _Batched)


def is_continuous(function: Any) -> bool:
    """Tell whether it is one whose items join and leave a ``BatchStream``: its callers get streams."""
    return is_batched(function) and takes_stream(function._function)


def _bound(function: Callable[..., Any], batcher: _Batcher) -> Any:
    """Return what users call: a coroutine function, or a function that returns an async iterator."""

    def queue(kind: type[Call], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # The order of keywords is that of the parameters, whatever the caller's.
        context = request.get()
        call = kind(
            args,
            dict(sorted(kwargs.items())),
            context.model_id,
            asyncio.get_running_loop().time(),
            context.deadline,
        )
        batcher.add(call)
        return call

    async def one(*args: Any, **kwargs: Any) -> Any:
        call = queue(One, args, kwargs)
        try:
            return await call.future
        except asyncio.CancelledError:
            batcher.queue.remove(call)
            raise

    async def stream(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        call = queue(Stream, args, kwargs)
        try:
            while (value := await call.get()) is not END:
                yield value
        finally:
            call.drop()
            batcher.queue.remove(call)

    found: Any = stream if inspect.isasyncgenfunction(function) or takes_stream(function) else one

    def set_max_batch_size(size: int) -> None:
        batcher.queue.max_size = size

    functools.update_wrapper(found, function)
    found.set_max_batch_size = set_max_batch_size
    found.set_batch_wait_timeout_s = batcher.set_wait_s
    return found
