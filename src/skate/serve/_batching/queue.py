"""Which calls run together in a batch, and when. Decisions only: no I/O, no clock.

Batches close *late*: only when one may run. While the function is busy with as many batches as it may, calls
gather however long the window is; when it is free, a batch runs as soon as it is full or its oldest call has
waited for the window. So batches grow with the load, and a short window costs nothing under load. The window
is a fixed time, or learned: see ``windows``.

Calls run in the order of their deadlines, those without one last, and of their arrival where that is equal.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from skate.serve._batching.windows import LearnedWindow


@dataclass
class Waiting:
    """A call that waits for its batch.

    Args:
        item: of the call.
        group: calls of one group can be in one batch.
        since: when it came (seconds).
        deadline: when it is of no use any more (seconds of the same clock); 0: never.
    """

    item: Any
    group: Hashable
    since: float
    deadline: float = 0.0


class BatchQueue:
    """The calls of one batched function.

    Args:
        max_size: of a batch.
        window: how long a call waits for others when the function is free (seconds), or what learns that.
        max_running: how many batches may run at a time.
        size_of: the size of some items together; None: their number.
    """

    def __init__(
        self,
        max_size: int,
        window: float | LearnedWindow,
        max_running: int = 1,
        size_of: Callable[[list[Any]], int] | None = None,
    ) -> None:
        self.max_size = max_size
        self.window = window
        self.max_running = max_running
        self._size_of = size_of
        #: In the order of their arrival.
        self._waiting: list[Waiting] = []
        self.running = 0
        #: Whether the batch that was taken last was full; else its window was over.
        self.was_full = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, call: Waiting) -> None:
        """A call came."""
        self._waiting.append(call)
        if isinstance(self.window, LearnedWindow):
            self.window.came(call.since)
            self._look(self.window, call.since)

    def remove(self, call: Waiting) -> bool:
        """A call was cancelled; tell whether it waited here."""
        for index, one in enumerate(self._waiting):
            if one is call:
                del self._waiting[index]
                return True
        return False

    def ended(self, now: float, batch: Sequence[Waiting] = (), seconds: float = 0.0) -> None:
        """A batch has ended.

        Args:
            now: the present time.
            batch: its calls; none: it failed, and nothing is learned from it.
            seconds: that it took.
        """
        self.running -= 1
        if isinstance(self.window, LearnedWindow):
            if batch:
                self.window.ran(self._size(batch), seconds)
            self._look(self.window, now)

    def take(self, now: float) -> list[Waiting]:
        """Return the batch that is to run now, which counts as running; empty: none."""
        if not self._waiting or self.running >= self.max_running:
            return []
        batch = self._fitting(self._first().group)
        is_full = len(batch) < sum(one.group == batch[0].group for one in self._waiting) or (
            self._size(batch) >= self.max_size
        )
        if not is_full and now < self._closes():
            return []
        self._leave(batch)
        self.running += 1
        self.was_full = is_full
        return batch

    def join(self, running: Sequence[Waiting], group: Hashable) -> list[Waiting]:
        """Return the calls that join those of a group that run already.

        None joins while the first in line is of another group, so that its turn comes.
        """
        if not self._waiting or self._first().group != group:
            return []
        joining = self._fitting(group, running)
        self._leave(joining)
        return joining

    def due(self) -> float | None:
        """Return when the calls that wait become a batch; None: nothing waits, or no batch may run."""
        if not self._waiting or self.running >= self.max_running:
            return None
        return self._closes()

    def _closes(self) -> float:
        """Return when the window ends."""
        if isinstance(self.window, LearnedWindow):
            return self.window.until(len(self._waiting), self._size(self._waiting))
        return self._waiting[0].since + self.window

    def _look(self, window: LearnedWindow, now: float) -> None:
        """Have the window notice that a batch may begin. It is of use for the last free place only: with two,
        a call that comes later has a place of its own."""
        if self._waiting and self.running == self.max_running - 1:
            window.may_begin(len(self._waiting), now)

    def _leave(self, batch: Sequence[Waiting]) -> None:
        taken = {id(one) for one in batch}
        self._waiting = [one for one in self._waiting if id(one) not in taken]

    def _first(self) -> Waiting:
        return min(self._waiting, key=_place)

    def _fitting(self, group: Hashable, running: Sequence[Waiting] = ()) -> list[Waiting]:
        """Return the first calls of a group that fit into one batch with those that run; one that does not
        fit stays first in line."""
        batch: list[Waiting] = []
        for one in sorted(self._waiting, key=_place):
            if one.group != group:
                continue
            if (running or batch) and self._size([*running, *batch, one]) > self.max_size:
                break
            batch.append(one)
        return batch

    def _size(self, batch: Sequence[Waiting]) -> int:
        return len(batch) if self._size_of is None else self._size_of([one.item for one in batch])


def _place(call: Waiting) -> float:
    """Return what calls are sorted by; those that are equal stay in the order of their arrival."""
    return call.deadline or inf
