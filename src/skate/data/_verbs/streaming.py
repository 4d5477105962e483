"""``streaming_split``: an actor runs a plan, and several consumers take its blocks.

::

    SplitIterator 0 ──begin, next──►┌──────────────┐
    SplitIterator 1 ──begin, next──►│ _Coordinator │── runs the plan in the thread of whichever call needs a
    block
    SplitIterator 2 ──begin, next──►└──────────────┘

An epoch begins when all consumers have called ``begin``. Blocks travel by reference: ``next`` answers a
slice.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Generator
from typing import Any

import pyarrow as pa

from skate import api
from skate.data._block.tables import slice_rows
from skate.data._plan.logical import Blocks, Node
from skate.data._task.slices import BlockSlice, cut, total_rows
from skate.data._verbs import running
from skate.data._verbs.iterators import DataIterator
from skate.data._verbs.schema import Schema
from skate.data.context import DataContext

logger = logging.getLogger("skate.data")

#: Slices that a consumer may leave waiting before the others wait for it (``equal=True`` alone).
MOST_WAITING = 16
#: Seconds between two words about a wait.
NOTICE_S = 30.0


def split_streaming(
    plan: Node, context: DataContext, n: int, equal: bool, materialized: Any
) -> list[DataIterator]:
    """Start the actor and return the iterators.

    Args:
        plan: what makes the rows.
        context: the settings.
        n: how many iterators.
        equal: all get as many rows.
        materialized: the class MaterializedDataset.

    Returns:
        The iterators; the actor ends with the last of them.
    """
    actor = api.remote(_Coordinator).options(num_cpus=0, max_concurrency=2 * n + 2)
    coordinator = actor.remote(plan, context, n, equal, materialized)
    return [SplitIterator(coordinator, index, n, context, materialized) for index in range(n)]


class Dealer:
    """Which consumer gets which rows. Holds no thread, no clock, no reference but the slices.

    Args:
        n: number of consumers.
        equal: all get as many rows; what is left at the end is dropped.
    """

    def __init__(self, n: int, equal: bool) -> None:
        self._equal = equal
        self._queues: list[deque[BlockSlice]] = [deque() for _ in range(n)]
        self._left: list[BlockSlice] = []
        self._gone: set[int] = set()

    def add(self, piece: BlockSlice, asks: int) -> None:
        """Deal out a slice that a consumer asked for."""
        if not piece.num_rows:
            return
        if not self._equal:
            self._queues[asks].append(piece)
            return
        self._left.append(piece)
        n = len(self._queues)
        share = total_rows(self._left) // n
        if not share:
            return
        parts = cut(self._left, [share * index for index in range(1, n + 1)])
        self._left = parts[n]
        for index, part in enumerate(parts[:n]):
            if index not in self._gone:
                self._queues[index].extend(part)

    def take(self, index: int) -> BlockSlice | None:
        """Return the next slice of a consumer, or None if another must be added first."""
        return self._queues[index].popleft() if self._queues[index] else None

    def leave(self, index: int) -> None:
        """Drop what a consumer would have got: it takes no more."""
        self._gone.add(index)
        self._queues[index].clear()

    def lagging(self, most: int = MOST_WAITING) -> list[int]:
        """Return the consumers that leave many slices waiting."""
        return [index for index, queue in enumerate(self._queues) if len(queue) >= most]


class _Coordinator:
    """The actor. Its calls run in threads; one lock guards all; the call that needs a block runs the plan."""

    def __init__(self, plan: Node, context: DataContext, n: int, equal: bool, materialized: Any) -> None:
        self._materialized = materialized
        self._plan = plan
        self._context = context
        self._n = n
        self._equal = equal
        self._changed = threading.Condition()
        self._epoch = -1
        self._waiting: set[int] = set()
        self._dealer = Dealer(n, equal)
        self._running: Any = None
        self._execution: Any = None
        self._is_turning = False
        self._error: BaseException | None = None
        self._stats: Any = None

    def begin(self, index: int) -> int:
        """Wait until all consumers are here, and return the number of the epoch that begins."""
        with self._changed:
            epoch = self._epoch + 1
            # A consumer that begins anew has left its epoch, whether it said so or not.
            self._dealer.leave(index)
            self._waiting.add(index)
            self._changed.notify_all()
            if len(self._waiting) == self._n:
                self._stop()
                self._epoch = epoch
                self._waiting.clear()
                self._dealer = Dealer(self._n, self._equal)
                self._error = None
                self._running = running.run(self._plan, self._context, self._watch)
                self._execution = self._running.__enter__()
                self._changed.notify_all()
                return epoch
            while self._epoch < epoch:
                if not self._changed.wait(NOTICE_S):
                    missing = sorted(set(range(self._n)) - self._waiting)
                    logger.warning(
                        "streaming_split: iterator %d waits for iterators %s to begin epoch %d.",
                        index,
                        missing,
                        epoch,
                    )
            return epoch

    def next(self, index: int, epoch: int) -> BlockSlice | None:
        """Return the next slice for a consumer; None: the epoch is over."""
        with self._changed:
            while True:
                if epoch != self._epoch:
                    return None
                piece = self._dealer.take(index)
                if piece is not None:
                    self._changed.notify_all()
                    return piece
                if self._error is not None:
                    raise self._error
                if self._execution is None:
                    return None
                lagging = self._dealer.lagging()
                if self._is_turning or lagging:
                    if not self._changed.wait(NOTICE_S) and lagging:
                        logger.warning(
                            "streaming_split: iterator %d waits because iterators %s lag behind.",
                            index,
                            lagging,
                        )
                    continue
                self._turn(index)

    def _turn(self, index: int) -> None:
        """Get one more slice; the lock is free meanwhile, so that others can take what is there."""
        self._is_turning = True
        execution = self._execution
        self._changed.release()
        try:
            piece = next(execution, None)
            sent = None if piece is None else _sendable(execution, piece)
        except BaseException as error:
            self._changed.acquire()
            self._fail(error)
            raise
        else:
            self._changed.acquire()
            if sent is None:
                self._stop()
            else:
                self._dealer.add(sent, index)
        finally:
            self._is_turning = False
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        self._error = error
        entered, self._running, self._execution = self._running, None, None
        if entered is not None and not entered.__exit__(type(error), error, error.__traceback__):
            return

    def _stop(self) -> None:
        entered, self._running, self._execution = self._running, None, None
        if entered is not None:
            entered.__exit__(None, None, None)

    def leave(self, index: int, epoch: int) -> None:
        """Take note that a consumer ends its loop; the last one stops the execution."""
        with self._changed:
            if epoch == self._epoch:
                self._dealer.leave(index)
                self._changed.notify_all()

    def schema(self) -> pa.Schema | None:
        """Return the schema; it runs up to a first row if it must."""
        found = self._materialized(self._plan, self._context).schema()
        return None if found is None else found.base_schema

    def stats(self) -> str:
        """Return what the last epoch did, or has done so far."""
        return "" if self._stats is None else str(self._stats.as_text())

    def _watch(self, execution: Any) -> None:
        if execution is not None:
            self._stats = execution.stats


def _sendable(execution: Any, piece: BlockSlice) -> BlockSlice:
    """Return a slice that another process can read: references travel; tables and files are copied."""
    if not isinstance(piece.block, pa.Table) and not piece.meta.is_on_disk:
        return piece
    table = execution.fetch(piece)
    return running.moved(piece, table, api.put(table))


class SplitIterator(DataIterator):
    """One consumer of a ``streaming_split``.

    Args:
        coordinator: the actor.
        index: which part.
        n: how many parts.
        context: the settings.
        materialized: the class MaterializedDataset.
    """

    def __init__(self, coordinator: Any, index: int, n: int, context: DataContext, materialized: Any) -> None:
        self._coordinator = coordinator
        self._index = index
        self._n = n
        self._context = context
        self._materialized = materialized

    def _pieces(self) -> Generator[BlockSlice, None, None]:
        epoch = api.get(self._coordinator.begin.remote(self._index))
        try:
            coming = self._coordinator.next.remote(self._index, epoch)
            while True:
                piece = api.get(coming)
                if piece is None:
                    return
                # The next slice comes while this one is used.
                coming = self._coordinator.next.remote(self._index, epoch)
                yield piece
        finally:
            self._coordinator.leave.remote(self._index, epoch)

    def _begin(self) -> Generator[pa.Table, None, None]:
        pieces = self._pieces()
        try:
            for piece in pieces:
                yield slice_rows(api.get(piece.block), piece.start, piece.stop)
        finally:
            pieces.close()

    def schema(self) -> Schema | None:
        """Return names and types of the columns."""
        found = api.get(self._coordinator.schema.remote())
        return None if found is None else Schema(found)

    def stats(self) -> str:
        """Return what the last epoch did, or has done so far, of all iterators together."""
        return str(api.get(self._coordinator.stats.remote()))

    def get_context(self) -> DataContext:
        """Return the settings."""
        return self._context

    def materialize(self) -> Any:
        """Take part in an epoch and return the rows of this iterator as a MaterializedDataset."""
        return self._materialized(Blocks(tuple(self._pieces())), self._context)

    def world_size(self) -> int:
        """Return the number of iterators."""
        return self._n

    def __repr__(self) -> str:
        return f"DataIterator(part {self._index} of {self._n})"
