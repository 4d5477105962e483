"""Calls of async functions: several at a time on an event loop, their results in the order of the input.

::

    inputs ──► window: head │ call │ call │ ...      at most ``limit`` of them run, on the loop's thread
                        │
                        └──► events: item, item, done | failed      on the thread of the task

A call of an async generator whose turn has not come is paused when it has made ``_MAX_WAITING`` items.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from skate.data.exceptions import RowTimeoutError

#: Errors of user code; everything else (KeyboardInterrupt, GeneratorExit) is not the code's own.
CAUGHT = (Exception, SystemExit, asyncio.CancelledError)
#: Items that a call may have made before its turn (count).
_MAX_WAITING = 64
#: Calls that are finished and wait for an earlier one, for each call that may run.
_FINISHED_PER_RUNNING = 4


class LoopThread:
    """An event loop on a thread of its own. It ends with ``close``, or when the object goes."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_run_loop, args=(self.loop,), name=name, daemon=True)
        self._thread.start()
        self._finalizer = weakref.finalize(self, _stop_loop, self.loop)

    def close(self) -> None:
        """Cancel what runs, and end the loop and its thread."""
        self._finalizer()
        if self._thread is not threading.current_thread():
            self._thread.join()


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _stop_loop(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.call_soon_threadsafe(loop.stop)
    except RuntimeError:
        pass  # it is closed already


class AsyncCall:
    """One call.

    Args:
        token: whatever the caller recognises it by.
        make_data: returns the row or batch; each attempt gets one of its own.

    Attributes:
        attempts: calls so far.
        error: what the last attempt raised; None: none did.
    """

    __slots__ = ("token", "make_data", "items", "attempts", "error", "is_done", "room", "task")

    def __init__(self, token: Any, make_data: Callable[[], Any]) -> None:
        self.token = token
        self.make_data = make_data
        self.items: deque[Any] = deque()
        self.attempts = 0
        self.error: BaseException | None = None
        self.is_done = False
        self.room: asyncio.Event | None = None
        self.task: asyncio.Task[None] | None = None


class AsyncCalls:
    """Runs calls of one function.

    Args:
        thread: the event loop.
        function: returns a coroutine or an async generator.
        limit: calls that run at a time.
        may_retry: is given an error and the number of attempts so far; returns seconds to wait, or None to
            give up.
        timeout_s: seconds for a call with its token; None: no limit.
        waited: is given the seconds of each wait for a call.
    """

    def __init__(
        self,
        thread: LoopThread,
        function: Callable[[Any], Any],
        limit: int,
        may_retry: Callable[[BaseException, int], float | None] = lambda error, attempts: None,
        timeout_s: Callable[[Any], float | None] = lambda token: None,
        waited: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._loop = thread.loop
        self._function = function
        self._limit = max(1, limit)
        self._may_retry = may_retry
        self._timeout_s = timeout_s
        self._waited = waited

    def run(self, calls: Iterable[AsyncCall]) -> Iterator[tuple[AsyncCall, str, Any]]:
        """Run calls, and yield (call, event, value) in their order.

        Events are "item" with what it made, then one of "done" (None) and "failed" (the error).
        """
        source = iter(calls)
        window: deque[AsyncCall] = deque()
        wake = threading.Event()
        is_exhausted = False
        try:
            while True:
                wake.clear()  # before the look at the calls, so that no news is missed
                while not is_exhausted and self._has_room(window):
                    call = next(source, None)
                    if call is None:
                        is_exhausted = True
                        break
                    window.append(call)
                    self._loop.call_soon_threadsafe(self._start, call, wake)
                    if window[0].items or window[0].is_done:
                        break  # what is ready goes first
                if not window:
                    return
                head = window[0]
                while head.items:
                    item = head.items.popleft()
                    if head.room is not None and len(head.items) == _MAX_WAITING // 2:
                        self._loop.call_soon_threadsafe(head.room.set)
                    yield head, "item", item
                if head.is_done and not head.items:
                    window.popleft()
                    if head.error is None:
                        yield head, "done", None
                    else:
                        yield head, "failed", head.error
                elif not head.items:
                    begun = time.perf_counter()
                    wake.wait()
                    self._waited(time.perf_counter() - begun)
        finally:
            for call in window:
                if not call.is_done:
                    self._loop.call_soon_threadsafe(_cancel, call)

    def _has_room(self, window: deque[AsyncCall]) -> bool:
        if len(window) >= self._limit * _FINISHED_PER_RUNNING:
            return False
        return len(window) < self._limit or sum(not call.is_done for call in window) < self._limit

    def _start(self, call: AsyncCall, wake: threading.Event) -> None:
        call.task = self._loop.create_task(self._run(call, wake))

    async def _run(self, call: AsyncCall, wake: threading.Event) -> None:
        try:
            while True:
                call.attempts += 1
                call.error = None
                has_made = False
                limit = self._timeout_s(call.token)
                begun = self._loop.time()
                try:
                    result = self._function(call.make_data())
                    if inspect.isasyncgen(result) or hasattr(result, "__aiter__"):
                        call.room = asyncio.Event()
                        async for item in _limited(result, limit):
                            call.items.append(item)
                            has_made = True
                            wake.set()
                            while len(call.items) >= _MAX_WAITING:
                                call.room.clear()
                                if len(call.items) >= _MAX_WAITING:
                                    await call.room.wait()
                    elif inspect.isawaitable(result):
                        call.items.append(
                            await (result if limit is None else asyncio.wait_for(result, limit))
                        )
                    else:
                        call.items.append(result)
                    return
                except CAUGHT as raised:
                    error: BaseException = raised
                    took = self._loop.time() - begun
                    if isinstance(raised, asyncio.TimeoutError) and limit is not None and took >= limit:
                        error = RowTimeoutError(f"the call took longer than {limit:g} s and was cancelled")
                    call.error = error
                    delay = None if has_made else self._may_retry(error, call.attempts)
                    if delay is None:
                        return
                    await asyncio.sleep(delay)
        except BaseException as unusual:  # or it was cancelled while it waited for the next attempt
            call.error = unusual
        finally:
            call.is_done = True
            wake.set()


async def _limited(items: Any, seconds: float | None) -> Any:
    """Yield the items of an async generator; all together may take so many seconds."""
    if seconds is None:
        async for item in items:
            yield item
        return
    loop = asyncio.get_running_loop()
    iterator = items.__aiter__()
    left = seconds
    while True:
        begun = loop.time()
        try:
            item = await asyncio.wait_for(iterator.__anext__(), max(0.0, left))
        except StopAsyncIteration:
            return
        left -= loop.time() - begun
        yield item


def one_by_one(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a plain function that runs an async one to its end, on a loop of its own."""
    loop = asyncio.new_event_loop()

    def items(made: AsyncIterator[Any]) -> Iterator[Any]:
        while True:
            try:
                item = loop.run_until_complete(_next(made))
            except StopAsyncIteration:
                return
            yield item

    def call(data: Any) -> Any:
        result = function(data)
        if hasattr(result, "__aiter__"):
            return items(result.__aiter__())
        return loop.run_until_complete(result) if inspect.isawaitable(result) else result

    return call


async def _next(items: AsyncIterator[Any]) -> Any:
    return await items.__anext__()


def _cancel(call: AsyncCall) -> None:
    if call.task is not None:
        call.task.cancel()
