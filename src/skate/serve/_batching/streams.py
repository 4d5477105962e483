"""Continuous batching: a loop of the user's whose calls join and leave between its steps."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from skate.serve._batching.calls import END, Stream

#: A call whose caller has left so many results untaken takes no part in further steps until it takes some.
_MOST_UNTAKEN = 16


class BatchItem:
    """A call that takes part in the steps of a ``BatchStream``.

    Attributes:
        args: the positional arguments of the call.
        kwargs: its keyword arguments.
        slot: a number from 0 that no other item has while this one takes part: its row in a cache. Below
            ``max_batch_size``, unless ``batch_size_fn`` says what a size is.
        state: what the function keeps for it; None at first.

    Example:
        >>> item.send("word")
        >>> item.finish()
    """

    def __init__(self, call: Stream, slot: int) -> None:
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.args = call.args
        self.kwargs = call.kwargs
        self.slot = slot
        self.state: Any = None
        self._is_over = False

    @property
    def value(self) -> Any:
        """The first argument of the call."""
        return self._call.item

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody waits for its results any more. It leaves before the next step."""
        return self._call.is_dropped

    def send(self, result: Any) -> None:
        """Give the caller a result. The caller gets it at once, also while the step goes on.

        Args:
            result: the next item of the caller's stream.

        Raises:
            RuntimeError: the item was finished or failed before.
        """
        if self._is_over:
            raise RuntimeError("send() to an item after its finish() or fail(): its stream has ended")
        self._put(result)

    def finish(self) -> None:
        """End the caller's stream after what was sent. The item leaves before the next step."""
        self._end(END, None)

    def fail(self, error: BaseException) -> None:
        """Have an error raised at the caller after what was sent. The item leaves before the next step.

        Args:
            error: what the caller gets.
        """
        self._end(None, error)

    def _end(self, value: Any, error: BaseException | None) -> None:
        if not self._is_over:
            self._is_over = True
            self._put(value, error)

    def _put(self, value: Any, error: BaseException | None = None) -> None:
        if threading.get_ident() == self._thread:
            self._call.put(value, error)
        else:
            self._loop.call_soon_threadsafe(self._call.put, value, error)

    @property
    def _has_left(self) -> bool:
        return self._is_over or self._call.is_dropped

    @property
    def _is_paused(self) -> bool:
        return self._call.untaken >= _MOST_UNTAKEN


@dataclass(frozen=True)
class BatchStep:
    """One step of a ``BatchStream``.

    Attributes:
        items: take part in this step; at least one. Those whose callers are slow to take results are left out
            for now.
        joined: those of them that are new.
        left: took part before, and do no more: finished, failed or cancelled.
    """

    items: list[BatchItem]
    joined: list[BatchItem] = field(default_factory=list)
    left: list[BatchItem] = field(default_factory=list)


class BatchStream:
    """The calls of a batched function that join and leave while it runs.

    It is iterated over: each ``BatchStep`` has the items that run now. Between steps, calls that waited join
    as long as there is room, and those that were finished, failed or cancelled leave. The iteration ends when
    no item is left, and the function is called anew for the next call. If the function raises, the items that
    it has get the error, and it is called anew for those that wait.

    An ``async def`` iterates with ``async for``; a ``def``, which runs in a thread, with ``for``.

    Example:
        >>> class Generator:
        ...     @serve.batch(max_batch_size=8)
        ...     def generate(self, stream: serve.BatchStream):
        ...         for step in stream:
        ...             for item in step.joined:
        ...                 item.state = self.model.start(item.value)
        ...             tokens = self.model.next_tokens([item.state for item in step.items])
        ...             for item, token in zip(step.items, tokens):
        ...                 item.send(token) if token is not None else item.finish()
        ...     async def __call__(self, request):
        ...         return self.generate(await request.text())  # a stream of tokens
    """

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def __aiter__(self) -> AsyncIterator[BatchStep]:
        return self

    async def __anext__(self) -> BatchStep:
        step = await self._steps.next()
        if step is None:
            raise StopAsyncIteration
        return step

    def __iter__(self) -> Iterator[BatchStep]:
        steps = self._steps
        if threading.get_ident() == steps.thread:
            raise TypeError(
                "an async def goes through its BatchStream with `async for`: `for` would block its loop"
            )
        while (step := asyncio.run_coroutine_threadsafe(steps.next(), steps.loop).result()) is not None:
            yield step


class Steps:
    """Which calls take part in the steps of one run of the user's loop. On the event loop.

    Args:
        first: calls that join at the first step. All are of one group.
        join: takes those that join from the ones that wait, given those that take part, and returns them.
        began: called when a step begins, with the number of its items, and how long the oldest of those
            waited that have joined (seconds; None: none has).
        ended: called when it has ended, with the seconds that it took.
    """

    def __init__(
        self,
        first: list[Stream],
        join: Callable[[list[Stream]], list[Stream]],
        began: Callable[[int, float | None], object],
        ended: Callable[[float], object],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self._joining = first
        self._join = join
        self._began = began
        self._ended = ended
        #: When the present step began.
        self._since: float | None = None
        self._items: list[BatchItem] = []
        #: They have left since the last step.
        self._left: list[BatchItem] = []
        self._changed = asyncio.Event()
        self._is_closed = False

    @property
    def count(self) -> int:
        """How many calls are here that have not ended."""
        return len(self._joining) + sum(not item._has_left for item in self._items)

    def wake(self) -> None:
        """Look again: a call waits, a result was taken, or a caller has gone."""
        self._changed.set()

    def close(self, error: BaseException) -> None:
        """Have no further step: calls that are here get an error."""
        self._is_closed = True
        for item in self._items:
            item.fail(error)
        for call in self._joining:
            call.put(None, error)
        self._items, self._joining = [], []
        self.wake()

    async def next(self) -> BatchStep | None:
        """Return the next step; None: no call is left."""
        if self._since is not None:
            self._ended(self.loop.time() - self._since)
            self._since = None
        # The function may never wait for anything: callers and connections have their turn here.
        await asyncio.sleep(0)
        while not self._is_closed:
            self._changed.clear()
            self._leave()
            joined = self._admit()
            if not self._items:
                break
            items = [item for item in self._items if not item._is_paused]
            if items:
                return self._begin(items, joined)
            await self._changed.wait()
        return None

    def _begin(self, items: list[BatchItem], joined: list[BatchItem]) -> BatchStep:
        self._since = now = self.loop.time()
        self._began(len(items), max((now - item._call.since for item in joined), default=None))
        left, self._left = self._left, []
        return BatchStep(items, joined, left)

    def _leave(self) -> None:
        gone = [item for item in self._items if item._has_left]
        self._left += gone
        self._items = [item for item in self._items if item not in gone]

    def _admit(self) -> list[BatchItem]:
        """Have calls join; return their items."""
        calls, self._joining = self._joining, []
        calls += self._join([*(item._call for item in self._items), *calls])
        used = {item.slot for item in self._items}
        free = (slot for slot in range(len(self._items) + len(calls)) if slot not in used)
        joined = []
        for call in calls:
            if not call.is_dropped:
                call.changed = self.wake
                joined.append(BatchItem(call, next(free)))
        self._items += joined
        return joined


def takes_stream(function: Callable[..., Any]) -> bool:
    """Tell whether a function has a parameter that is annotated as a ``BatchStream``."""
    kinds = getattr(function, "__annotations__", {})
    return any(
        kind is BatchStream or (isinstance(kind, str) and kind.rpartition(".")[2] == "BatchStream")
        for name, kind in kinds.items()
        if name != "return"
    )
