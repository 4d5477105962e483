"""Loops over blocks: batches of exact sizes, a shuffle buffer, and a thread that works ahead.

::

    blocks ─► shuffled (buffer) ─► rebatch (exact sizes) ─► to_batch (format) ─► collate ─► prefetched
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Generic, TypeVar

import pyarrow as pa

from skate.data._block.batches import rebatch, to_batch
from skate.data._block.tables import concat, slice_rows
from skate.data._operators.functions import check_batch_format
from skate.data._verbs.checks import flag, whole_number

T = TypeVar("T")

#: A batch that takes at least this long to make is worth a thread, if its consumer takes as long.
EXPENSIVE_S = 0.001


class Again(Generic[T]):
    """An iterable that starts a new loop each time it is iterated over.

    Args:
        begin: returns the iterator of one loop.
    """

    def __init__(self, begin: Callable[[], Iterator[T]]) -> None:
        self._begin = begin

    def __iter__(self) -> Iterator[T]:
        return self._begin()


def check_batches(
    verb: str,
    batch_size: int | None,
    batch_format: str | None,
    prefetch_batches: int,
    drop_last: bool,
    buffer_size: int | None,
    seed: int | None,
) -> None:
    """Refuse options of a loop over batches that make no sense.

    Raises:
        ValueError: a value out of range, or options that exclude each other.
        TypeError: a value of a wrong type.
    """
    if batch_size is not None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int):
            raise TypeError(f"{verb}(batch_size=) must be a number of rows or None, got {batch_size!r}")
        if batch_size < 1:
            raise ValueError(f"{verb}(batch_size=) must be at least 1 or None, got {batch_size}")
    check_batch_format(batch_format, verb)
    flag(verb, "drop_last", drop_last)
    if isinstance(prefetch_batches, bool) or not isinstance(prefetch_batches, int) or prefetch_batches < 0:
        raise ValueError(f"{verb}(prefetch_batches=) must be at least 0, got {prefetch_batches!r}")
    if buffer_size is not None:
        if isinstance(buffer_size, bool) or not isinstance(buffer_size, int) or buffer_size < 1:
            raise ValueError(
                f"{verb}(local_shuffle_buffer_size=) must be at least 1 or None, got {buffer_size!r}"
            )
        if batch_size is None:
            raise ValueError(f"{verb}(local_shuffle_buffer_size=) needs a batch_size")
    if seed is not None:
        whole_number(verb, "local_shuffle_seed", seed, 0)
        if buffer_size is None:
            raise ValueError(f"{verb}(local_shuffle_seed=) needs a local_shuffle_buffer_size")


def batches(
    blocks: Iterator[pa.Table],
    batch_size: int | None,
    batch_format: str | None,
    drop_last: bool = False,
    buffer_size: int | None = None,
    seed: int | None = None,
    on_conflict: str = "error",
) -> Generator[Any, None, None]:
    """Yield batches of exact sizes in a format, across blocks.

    Args:
        blocks: the rows; closed at the end.
        batch_size: rows of a batch; None: blocks as they come.
        batch_format: see ``Dataset.iter_batches``.
        drop_last: leave out the last batch if it has fewer rows.
        buffer_size: rows among which the order is drawn; None: in the order of the blocks.
        seed: of the order.
        on_conflict: what happens where the types of blocks differ, as for ``concat``.

    Yields:
        Batches; none is empty.
    """
    try:
        source = (
            blocks
            if buffer_size is None
            else shuffled(blocks, buffer_size, batch_size or 1, seed, on_conflict)
        )
        for table in rebatch(source, batch_size, drop_last, on_conflict):
            if table.num_rows:
                yield to_batch(table, batch_format)
    finally:
        close(blocks)


def shuffled(
    blocks: Iterator[pa.Table],
    buffer_size: int,
    batch_size: int,
    seed: int | None,
    on_conflict: str = "error",
) -> Iterator[pa.Table]:
    """Yield the rows in a random order drawn among ``buffer_size`` rows at a time, or more.

    The buffer is filled to half more than it must hold, permuted once, and handed out until ``buffer_size``
    rows are
    left: each row is copied three times at most on average, whatever the sizes of blocks and batches are.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    keep = max(buffer_size, batch_size)
    fill = keep + max(keep // 2, batch_size)
    waiting: list[pa.Table] = []
    rows = 0

    def permuted() -> pa.Table:
        whole = concat(waiting, on_conflict)
        return whole.take(pa.array(generator.permutation(whole.num_rows)))

    for block in blocks:
        if not block.num_rows:
            continue
        waiting.append(block)
        rows += block.num_rows
        if rows >= fill:
            mixed = permuted()
            yield slice_rows(mixed, 0, rows - keep)
            waiting = [slice_rows(mixed, rows - keep, rows)]
            rows = keep
    if waiting:
        yield permuted()


class _Failed:
    """An error that the thread raised."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


_END = object()


def prefetched(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    """Yield the items of an iterator, and work ahead of the consumer once that pays.

    The first items are made in the consumer's thread. As soon as both making an item and using one took
    longer than
    ``EXPENSIVE_S``, a thread goes on and keeps ``depth`` items ready.

    Args:
        items: makes the items; used by one thread at a time, and closed at the end.
        depth: most items that are ready; 0: never a thread.

    Yields:
        The items, in order.
    """
    try:
        if not depth:
            yield from items
            return
        while True:
            begun = time.perf_counter()
            try:
                item = next(items)
            except StopIteration:
                return
            made = time.perf_counter()
            yield item
            if made - begun > EXPENSIVE_S and time.perf_counter() - made > EXPENSIVE_S:
                break
        yield from _ahead(items, depth)
    finally:
        close(items)


def _ahead(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    ready: queue.Queue[Any] = queue.Queue(depth)
    stopped = threading.Event()

    def work() -> None:
        last: Any = _END
        try:
            for item in items:
                if not _put(ready, item, stopped):
                    break
        except BaseException as error:
            last = _Failed(error)
        _put(ready, last, stopped)

    thread = threading.Thread(target=work, name="skate-data-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if item is _END:
                return
            if isinstance(item, _Failed):
                raise item.error
            yield item
    finally:
        stopped.set()
        # A thread that waits for room in the queue finds some and sees that it should stop.
        with ready.mutex:
            ready.queue.clear()
            ready.not_full.notify_all()
        thread.join()


def _put(ready: queue.Queue[Any], item: Any, stopped: threading.Event) -> bool:
    """Put an item when there is room; False if nobody wants it any more."""
    if stopped.is_set():
        return False
    ready.put(item)
    return not stopped.is_set()


def close(items: Iterable[Any]) -> None:
    """Close a generator, so that what it runs stops now; other iterators need nothing."""
    closing = getattr(items, "close", None)
    if closing is not None:
        closing()
