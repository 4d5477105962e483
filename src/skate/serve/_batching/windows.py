"""How long a batch waits for more calls: learned from what batches cost and when calls come.

Decisions only: no I/O, no clock. A batch of size n is taken to cost ``each * n + fixed`` seconds. If k calls
of total size n wait, and the next one comes after x seconds, then waiting for it delays k + 1 calls by x, and
k of them by its share of the batch. It saves the next call the fixed cost of a batch of its own. In sum,
waiting pays while

    x < (fixed - each * n) / (k + 1)

This bound is the *worth* of waiting. A batch waits if the next call is expected within it, and never for
longer: a wrong forecast loses at most as much as a right one wins.

When the next call comes depends on how many wait: after its call a lone client sends nothing before it has an
answer, while the tenth of sixteen clients is followed by the eleventh. So each number has an estimate.
"""

from __future__ import annotations

#: The part of an estimate of a gap that the newest one makes up.
_NEWEST = 0.25
#: The weight of a measured batch is multiplied by this with each further one.
_DECAY = 0.95
#: Stands for the spread of sizes where they hardly differ, as a part of their mean square: then all of the
#: cost counts as fixed.
_SPREAD = 0.01
#: A batch that took so many times the expected counts as one that took just that.
_MOST = 2.0


class LearnedWindow:
    """Learns the costs of one batched function, and when its calls come. Times are of one clock (seconds)."""

    def __init__(self) -> None:
        #: Of a batch: seconds for each unit of its size, and for itself.
        self.each = self.fixed = 0.0
        #: Number of calls that wait to the expected time until the next one.
        self._gaps: dict[int, float] = {}
        #: How many calls waited when a batch could begin or one more came, and since when.
        self._waiting: tuple[int, float] | None = None
        self._batches = 0
        #: Sums over batches: 1, size, seconds, size * size, size * seconds.
        self._sums = [0.0] * 5

    def ran(self, size: float, seconds: float) -> None:
        """A batch of this size took so long. The first one is left out: it may have loaded and compiled."""
        self._batches += 1
        if self._batches == 1:
            return
        if self._batches > 2:
            seconds = min(seconds, _MOST * (self.each * size + self.fixed))
        new = (1.0, size, seconds, size * size, size * seconds)
        self._sums = [_DECAY * old + one for old, one in zip(self._sums, new, strict=True)]
        _, mean_size, mean_s, square, product = (one / self._sums[0] for one in self._sums)
        spread = square - mean_size * mean_size + _SPREAD * square
        self.each = max(0.0, (product - mean_size * mean_s) / spread)
        self.fixed = max(0.0, mean_s - self.each * mean_size)

    def may_begin(self, count: int, now: float) -> None:
        """A batch may begin now, with the calls that wait."""
        self._waiting = (count, now)

    def came(self, now: float) -> None:
        """A call came."""
        if self._waiting is None:
            return
        count, since = self._waiting
        self._waiting = None
        # A gap that is too long to wait for is as good as any longer one, and is forgotten as soon.
        gap = min(now - since, _MOST * self.fixed)
        before = self._gaps.get(count)
        self._gaps[count] = gap if before is None else before + _NEWEST * (gap - before)

    def until(self, count: int, size: float) -> float:
        """Return when a batch of the calls that wait is to begin, if no other comes.

        Args:
            count: of calls that wait.
            size: theirs.
        """
        if self._waiting is None:
            return 0.0
        _, since = self._waiting
        worth = (self.fixed - self.each * size) / (count + 1)
        gap = self._gaps.get(count)
        return since + worth if gap is not None and gap < worth else since
