"""Iterators over the refs of a remote generator's items, which its call returns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Generic, NoReturn, Protocol, TypeVar

from skate._base import ids
from skate._base.clock import monotonic
from skate._worker.objects.object_ref import ObjectRef

if TYPE_CHECKING:
    from skate._worker.calls.records import TaskRecord
    from skate._worker.calls.streams import Stream
    from skate._worker.objects.refs import ObjectEntry

T = TypeVar("T")

_ONE_WAY = (
    "items of a remote generator come one way: nothing can be sent or raised into it. Stop it with close() "
    "or cancel(), or give an actor's method what it is to know"
)


class StreamSource(Protocol):
    """The process of an ObjectRefGenerator: ``stream_calls.StreamCalls``. Not under the lock."""

    def drop(self, task: TaskRecord) -> None:
        """Have the stream closed: its generator object is gone. Safe in ``__del__``."""

    def next_entry(self, task: TaskRecord) -> ObjectEntry:
        """Return an entry that has a value when the next item is there."""

    def take(self, task: TaskRecord) -> ObjectRef[object] | None:
        """Return the next item, if it is there."""

    def wait(self, entry: ObjectEntry, timeout: float | None) -> None:
        """Wait until an entry has a value, or the timeout (seconds) is over."""

    def when_ready(self, entry: ObjectEntry, call: Callable[[], None]) -> bool:
        """Have ``call`` called under the lock when the value is there. Return False if it is there now."""

    def stop(self, task: TaskRecord) -> None:
        """Take no more items."""


class ObjectRefGenerator(Generic[T]):
    """The items of a remote generator, each as an ObjectRef as soon as it is there.

    Iterate over it, or ``async for``; ``skate.wait`` takes it among refs and finds it ready when the
    next item is. When it is dropped, the generator is stopped at its next ``yield``. An exception in
    the generator is raised by ``get`` of the last ref.

    Example:
        >>> @skate.remote
        ... def count(n):
        ...     yield from range(n)
        >>> [skate.get(ref) for ref in count.remote(3)]
        [0, 1, 2]
    """

    __slots__ = ("_source", "_task", "_completed", "_closed", "__weakref__")

    def __init__(self, source: StreamSource, task: TaskRecord, completed: ObjectRef[None]) -> None:
        self._source = source
        self._task = task
        self._completed = completed
        self._closed = False

    def __del__(self) -> None:
        # May run on any thread, at any bytecode: only append.
        try:
            source = self._source
        except AttributeError:
            return
        source.drop(self._task)

    @property
    def _stream(self) -> Stream:
        assert self._task.stream is not None
        return self._task.stream

    @property
    def _entry(self) -> ObjectEntry:
        """The entry of the next item, for ``wait``."""
        return self._completed._entry if self._closed else self._source.next_entry(self._task)

    def _take(self) -> ObjectRef[T] | None:
        return self._source.take(self._task)  # type: ignore[return-value]

    def _take_or_end(self) -> tuple[ObjectRef[T] | None, bool]:
        """Return the next ref, if it is there, and whether there are no more without one."""
        # Asked first: after a look for an item, another thread may bring the last items and the end.
        ended = self._stream.ended
        return self._take(), ended

    def __iter__(self) -> Iterator[ObjectRef[T]]:
        return self

    def __next__(self) -> ObjectRef[T]:
        ref = self._next_sync(None)
        assert ref is not None
        return ref

    def _next_sync(self, timeout_s: float | None = None) -> ObjectRef[T] | None:
        """Return the next ref, or None when it is not there in time.

        Raises:
            StopIteration: there are no more.
        """
        deadline = None if timeout_s is None else monotonic() + timeout_s
        if self._closed:
            raise StopIteration
        while True:
            ref, is_over = self._take_or_end()
            if ref is not None:
                return ref
            if is_over:
                raise StopIteration
            left = None if deadline is None else max(0.0, deadline - monotonic())
            self._source.wait(self._entry, left)
            if left == 0 and not self._stream.ready:
                return None

    def __aiter__(self) -> AsyncIterator[ObjectRef[T]]:
        return self

    async def __anext__(self) -> ObjectRef[T]:
        import asyncio

        if self._closed:
            raise StopAsyncIteration
        while True:
            ref, is_over = self._take_or_end()
            if ref is not None:
                return ref
            if is_over:
                raise StopAsyncIteration
            loop = asyncio.get_running_loop()
            there = asyncio.Event()

            def ready(loop: asyncio.AbstractEventLoop = loop, there: asyncio.Event = there) -> None:
                try:
                    loop.call_soon_threadsafe(there.set)
                except RuntimeError:
                    pass  # the loop was closed: no coroutine waits any more

            if self._source.when_ready(self._entry, ready):
                await there.wait()

    def close(self) -> None:
        """Take no more items: the remote generator is stopped at its next ``yield``."""
        if not self._closed:
            self._closed = True
            self._source.stop(self._task)

    async def aclose(self) -> None:
        """Do the same as ``close``, for ``contextlib.aclosing``."""
        self.close()

    def send(self, value: object) -> NoReturn:
        """Refuse: nothing can be sent into a generator that runs elsewhere."""
        raise NotImplementedError(_ONE_WAY)

    def throw(self, value: object) -> NoReturn:
        """Refuse: nothing can be raised in a generator that runs elsewhere."""
        raise NotImplementedError(_ONE_WAY)

    async def asend(self, value: object) -> NoReturn:
        """Refuse: nothing can be sent into a generator that runs elsewhere."""
        raise NotImplementedError(_ONE_WAY)

    async def athrow(self, value: object) -> NoReturn:
        """Refuse: nothing can be raised in a generator that runs elsewhere."""
        raise NotImplementedError(_ONE_WAY)

    def completed(self) -> ObjectRef[None]:
        """Return a ref that is ready when the generator has ended: None, or its exception."""
        return self._completed

    def next_ready(self) -> bool:
        """Tell whether ``next`` returns (or raises) without waiting."""
        return self._closed or self._stream.ready

    def is_finished(self) -> bool:
        """Tell whether every item was taken, and no more will come."""
        stream = self._stream
        return self._closed or (stream.ended and stream.taken == stream.received)

    def task_id(self) -> ids.TaskID:
        """Return the id of the task that the generator runs in."""
        return self._completed.task_id()

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self._completed.task_id().hex()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an ObjectRefGenerator cannot be pickled: it belongs to the process that made the call. Pass "
            "the refs that it gives, one by one or as a list"
        )


class DynamicObjectRefGenerator(Generic[T]):
    """The refs of all items of a generator that ran with ``num_returns="dynamic"``.

    Example:
        >>> ref = count.options(num_returns="dynamic").remote(3)
        >>> [skate.get(item) for item in skate.get(ref)]
        [0, 1, 2]
    """

    def __init__(self, refs: list[ObjectRef[T]]) -> None:
        self._refs = refs

    def __iter__(self) -> Iterator[ObjectRef[T]]:
        return iter(self._refs)

    def __len__(self) -> int:
        return len(self._refs)

    def __repr__(self) -> str:
        return f"DynamicObjectRefGenerator of {len(self._refs)} refs"
