"""Provides Queue: a first-in-first-out queue that tasks, actors and the driver share."""

from __future__ import annotations

import queue
from collections.abc import Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from skate import api
from skate.util._queue_actor import EMPTY, QueueActor
from skate.util._queue_readers import Ticket, this_process

if TYPE_CHECKING:
    from skate.actor import ActorHandle
    from skate.engine.refs import ObjectRef

__all__ = ["Empty", "Full", "Queue"]

#: The most readers and writers that may wait in one queue: more than there ever are.
_MAX_WAITING = 1_000_000


class Empty(queue.Empty):
    """The queue had no item, or not as many as asked for."""


class Full(queue.Full):
    """The queue had no room."""


class Queue:
    """A queue of any picklable items. Pass it to tasks and actors: all copies are the same queue.

    The first in is the first out, and the reader or writer that has waited longest is served first. It ends
    when no process refers to it any more, or with ``shutdown``. An ObjectRef that is put is replaced by its
    value, as any argument of a call; put a list of it to pass on the ref.

    Args:
        maxsize: the most items that it holds; 0 or less: no limit.
        actor_options: options of the actor that holds the items, as of ``@skate.remote``. By default
            it takes no CPU.

    Example:
        >>> queue = skate.util.queue.Queue(maxsize=100)
        >>> queue.put("a")
        >>> queue.get(timeout=1.0)
        'a'
    """

    def __init__(self, maxsize: int = 0, actor_options: dict[str, Any] | None = None) -> None:
        self.maxsize = maxsize
        options = {"num_cpus": 0, "max_concurrency": _MAX_WAITING, **(actor_options or {})}
        self.actor: ActorHandle[Any] | None = api.remote(**options)(QueueActor).remote(maxsize)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.maxsize, self.actor)

    def _actor(self) -> ActorHandle[Any]:
        if self.actor is None:
            raise RuntimeError("this queue was shut down")
        return self.actor

    # ------------------------------------------------------------------ size

    def __len__(self) -> int:
        return self.size()

    def size(self) -> int:
        """Return how many items are in the queue.

        Example:
            >>> queue.size()
            0
        """
        return int(api.get(self._actor().size.remote()))

    def qsize(self) -> int:
        """Return how many items are in the queue.

        Example:
            >>> queue.qsize()
            0
        """
        return self.size()

    def empty(self) -> bool:
        """Tell whether the queue has no item.

        Example:
            >>> queue.empty()
            True
        """
        return self.size() == 0

    def full(self) -> bool:
        """Tell whether the queue has no room; without ``maxsize`` it always has.

        Example:
            >>> queue.full()
            False
        """
        return 0 < self.maxsize <= self.size()

    # ------------------------------------------------------------------ put

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add an item.

        Args:
            item: anything that can be pickled.
            block: wait for room if there is none.
            timeout: seconds to wait at most; None: no limit. Without ``block`` it means nothing.

        Raises:
            Full: there is no room, or there was none in time.
            ValueError: the timeout is negative.
            ActorDiedError: the queue was shut down.

        Example:
            >>> queue.put({"page": 1}, timeout=5.0)
        """
        if not api.get(self._put(item, block, timeout)):
            raise _no_room(block, timeout)

    async def put_async(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add an item, from a coroutine. See ``put``.

        Args:
            item: anything that can be pickled.
            block: wait for room if there is none.
            timeout: seconds to wait at most; None: no limit.

        Raises:
            Full: there is no room, or there was none in time.
            ValueError: the timeout is negative.
            ActorDiedError: the queue was shut down.

        Example:
            >>> await queue.put_async("a")
        """
        if not await self._put(item, block, timeout):
            raise _no_room(block, timeout)

    def _put(self, item: Any, block: bool, timeout: float | None) -> ObjectRef[bool]:
        _check_timeout(block, timeout)
        actor = self._actor()
        ref: ObjectRef[bool] = actor.put.remote(item, timeout) if block else actor.put_nowait.remote(item)
        return ref

    def put_nowait(self, item: Any) -> None:
        """Add an item if there is room.

        Args:
            item: anything that can be pickled.

        Raises:
            Full: there is no room.

        Example:
            >>> queue.put_nowait("a")
        """
        self.put(item, block=False)

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Add all items in one call, or none.

        Args:
            items: anything that can be iterated over.

        Raises:
            Full: there is no room for all of them.
            TypeError: ``items`` cannot be iterated over.

        Example:
            >>> queue.put_nowait_batch(range(10))
        """
        batch = list(items)
        room = api.get(self._actor().put_nowait_batch.remote(batch))
        if room >= 0:
            raise Full(f"the queue has room for {room} of these {len(batch)} items")

    # ------------------------------------------------------------------ get

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the first item.

        If the wait is interrupted (Ctrl-C), no item is lost.

        Args:
            block: wait for an item if there is none.
            timeout: seconds to wait at most; None: no limit. Without ``block`` it means nothing.

        Returns:
            The item.

        Raises:
            Empty: there is no item, or there was none in time.
            ValueError: the timeout is negative.
            ActorDiedError: the queue was shut down.

        Example:
            >>> item = queue.get(timeout=5.0)
        """
        reader, ticket, ref = self._get(block, timeout)
        item = self._receive(reader, ticket, ref)
        if item is EMPTY:
            reader.over(ticket)
            raise _no_item(block, timeout)
        reader.returned(ticket)
        return item

    async def get_async(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the first item, from a coroutine. See ``get``.

        If the coroutine is cancelled, no item is lost.

        Args:
            block: wait for an item if there is none.
            timeout: seconds to wait at most; None: no limit.

        Returns:
            The item.

        Raises:
            Empty: there is no item, or there was none in time.
            ValueError: the timeout is negative.
            ActorDiedError: the queue was shut down.

        Example:
            >>> item = await queue.get_async()
        """
        reader, ticket, ref = self._get(block, timeout)
        try:
            item = await ref
        except Exception:
            reader.returned(ticket)  # as an error: see _receive
            raise
        except BaseException:
            self._abandon(ref, ticket)
            reader.over(ticket)
            raise
        if item is EMPTY:
            reader.over(ticket)
            raise _no_item(block, timeout)
        reader.returned(ticket)
        return item

    def _get(self, block: bool, timeout: float | None) -> tuple[Any, Ticket, ObjectRef[Any]]:
        _check_timeout(block, timeout)
        actor = self._actor()
        reader = this_process()
        ticket = reader.ticket()
        try:
            ref = actor.get.remote(timeout, *ticket) if block else actor.get_nowait.remote(*ticket)
        except BaseException:
            reader.over(ticket)
            raise
        return reader, ticket, ref

    def _receive(self, reader: Any, ticket: Ticket, ref: ObjectRef[Any], batch: bool = False) -> Any:
        """Return the actor's answer."""
        try:
            return api.get(ref)
        except BaseException as error:
            if isinstance(error, Exception) and api.wait([ref], timeout=0)[0]:
                # An item that cannot be unpickled counts as returned, or it would reach every reader.
                reader.returned(ticket)
            else:
                self._abandon(ref, ticket, batch)
                reader.over(ticket)
            raise

    def _abandon(self, ref: ObjectRef[Any], ticket: Ticket, batch: bool = False) -> None:
        """Give up a reply: its item, arrived or not, stays in the queue."""
        actor = self._actor()
        if ticket[0]:
            actor.withdraw.remote(*ticket)
            return

        # After the reply: a call with ``ref`` as its argument would delay all later ones.
        def give_back(done: Future[Any]) -> None:
            answer = EMPTY if done.exception() is not None else done.result()
            if batch:  # a number means that there were fewer items
                actor.give_back.remote(*(answer if isinstance(answer, list) else ()))
            elif answer is not EMPTY:
                actor.give_back.remote(answer)

        ref.future().add_done_callback(give_back)

    def get_nowait(self) -> Any:
        """Take the first item if there is one.

        Returns:
            The item.

        Raises:
            Empty: there is none.

        Example:
            >>> item = queue.get_nowait()
        """
        return self.get(block=False)

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Take the first items in one call.

        Args:
            num_items: how many.

        Returns:
            That many items.

        Raises:
            Empty: there are fewer; none is taken.
            TypeError, ValueError: ``num_items`` is no whole number of at least 0.

        Example:
            >>> items = queue.get_nowait_batch(10)
        """
        if isinstance(num_items, bool) or not isinstance(num_items, int):
            raise TypeError(f"num_items takes a whole number, got {num_items!r}")
        if num_items < 0:
            raise ValueError(f"num_items must be at least 0, got {num_items}")
        reader = this_process()
        ticket = reader.ticket()
        ref = self._actor().get_nowait_batch.remote(num_items, *ticket)
        items = self._receive(reader, ticket, ref, batch=True)
        if isinstance(items, int):
            reader.over(ticket)
            raise Empty(f"the queue has {items} of the {num_items} items asked for")
        reader.returned(ticket)
        return list(items)

    # ------------------------------------------------------------------ end

    def shutdown(self, force: bool = False, grace_period_s: int | float = 5) -> None:
        """End the queue. Its items are lost; waiting and later readers and writers get ActorDiedError.

        Args:
            force: end its process at once, not after the calls that came before this one.
            grace_period_s: seconds to wait for it to end; then it is forced.

        Example:
            >>> queue.shutdown()
        """
        actor, self.actor = self.actor, None
        if actor is None:
            return
        if not force:
            ended, _ = api.wait([actor.__ray_terminate__.remote()], timeout=grace_period_s)
            if ended:
                return
        api.kill(actor, no_restart=True)

    def __repr__(self) -> str:
        return f"Queue(maxsize={self.maxsize})"


def _rebuild(maxsize: int, actor: ActorHandle[Any]) -> Queue:
    made = Queue.__new__(Queue)
    made.maxsize = maxsize
    made.actor = actor
    return made


def _check_timeout(block: bool, timeout: float | None) -> None:
    if block and timeout is not None and timeout < 0:
        raise ValueError(f"timeout must be at least 0 seconds, got {timeout!r}")


def _no_room(block: bool, timeout: float | None) -> Full:
    return Full(f"the queue had no room for {timeout} s" if block else "the queue has no room")


def _no_item(block: bool, timeout: float | None) -> Empty:
    return Empty(f"the queue had no item for {timeout} s" if block else "the queue is empty")
