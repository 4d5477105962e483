"""The input of a stage: slices in, bundles out. Decisions only.

Each kind of stage has an inbox of its own. An inbox knows nothing of tasks, memory or time: the scheduler
puts in what the stages above made, in order, and takes bundles out when it can run them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from skate.data._exec.stages import Kind, Stage
from skate.data._task.exchange import ExchangeLimits
from skate.data._task.slices import BLOCK_OVERHEAD_BYTES, BlockSlice, Bundle, cut

#: Blocks below this many bytes are put together to one bundle, as far as more of them are there.
SMALL_BYTES = 1 << 20


class Inbox:
    """Bundles the input of a CHAIN.

    Attributes:
        bytes: bytes of memory of all slices in it.
        is_closed: no more input comes.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._slices: deque[tuple[str, BlockSlice]] = deque()
        self._rows = 0
        self._open = set(range(len(stage.inputs)))
        self.bytes = 0
        self.is_closed = not stage.inputs

    def put(self, side: int, origin: str, piece: BlockSlice) -> None:
        """Add a slice.

        Args:
            side: which of the stage's inputs it comes from.
            origin: the part of the source that its rows come from; "" if that is not followed.
            piece: the rows.
        """
        self._slices.append((origin, piece))
        self._rows += piece.num_rows
        self.bytes += piece.memory_bytes

    def close(self, side: int) -> None:
        """Note that an input has ended."""
        self._open.discard(side)
        self.is_closed = not self._open

    def wants(self, side: int) -> bool:
        """Tell whether slices of an input could go on now: those of a union's later inputs could not."""
        return True

    @property
    def has_turns(self) -> bool:
        """The slices of an input follow those of the inputs before it."""
        return False

    def wanted_sides(self) -> Iterable[int]:
        """Return the inputs that have not ended and whose slices could go on now."""
        return self._open

    def has_bundle(self) -> bool:
        """Tell whether ``take`` would return a bundle."""
        if not self._slices:
            return False
        if self.is_closed:
            return True
        wanted = max(self._stage.batch_rows or 0, self._stage.min_bundle_rows)
        size = self.bytes - len(self._slices) * BLOCK_OVERHEAD_BYTES
        return (self._rows >= wanted and size >= self._stage.min_bundle_bytes) or self._spans_origins()

    def _spans_origins(self) -> bool:
        return self._stage.is_repeatable and self._slices[0][0] != self._slices[-1][0]

    @property
    def rows(self) -> int:
        """Rows of all slices in it."""
        return self._rows

    def take(self, most_rows: int | None = None) -> tuple[str, Bundle]:
        """Remove the next bundle and return it with its origin.

        A bundle is one block, or small blocks up to SMALL_BYTES, or as many as the stage asks for. Its rows
        are a multiple of ``batch_rows`` unless too few are left. The bundles of a repeatable stage do not
        depend on how much has arrived.

        Args:
            most_rows: rows after which a bundle ends, a multiple of ``batch_rows``; None: it ends with a
                block.
        """
        batch_rows, least, least_bytes = (
            self._stage.batch_rows,
            self._stage.min_bundle_rows,
            self._stage.min_bundle_bytes,
        )
        origin = self._slices[0][0]
        taken: list[BlockSlice] = []
        rows = size = 0
        while self._slices:
            next_origin, piece = self._slices[0]
            if self._stage.is_repeatable and next_origin != origin:
                break
            enough = rows >= least and size >= least_bytes and (not batch_rows or rows >= batch_rows)
            if taken and enough and (self._stage.is_repeatable or size + piece.size_bytes > SMALL_BYTES):
                break
            if most_rows is not None and rows >= most_rows:
                break
            self._pop()
            taken.append(piece)
            rows += piece.num_rows
            size += piece.size_bytes
        kept = rows if most_rows is None else min(rows, most_rows)
        if batch_rows and kept > batch_rows:
            kept -= kept % batch_rows
        if kept < rows:
            taken, left = cut(taken, [kept])
            for piece in reversed(left):
                self._slices.appendleft((origin, piece))
                self._rows += piece.num_rows
                self.bytes += piece.memory_bytes
        return origin, Bundle(tuple(taken))

    def _pop(self) -> None:
        _, piece = self._slices.popleft()
        self._rows -= piece.num_rows
        self.bytes -= piece.memory_bytes

    def slices(self) -> list[BlockSlice]:
        """Return what is in it, for people who look."""
        return [piece for _, piece in list(self._slices)]

    def clear(self) -> None:
        """Drop everything: the stage's output is not wanted any more."""
        self._slices.clear()
        self._rows = self.bytes = 0


class BarrierInbox(Inbox):
    """Collects the input of a BARRIER; makes the exchange's plan when all of it is there."""

    def __init__(self, stage: Stage, limits: ExchangeLimits) -> None:
        super().__init__(stage)
        self._limits = limits
        self._sides: list[list[BlockSlice]] = [[] for _ in stage.inputs]
        self._planned: deque[Bundle] | None = None

    def put(self, side: int, origin: str, piece: BlockSlice) -> None:
        self._sides[side].append(piece)
        self.bytes += piece.memory_bytes

    def has_bundle(self) -> bool:
        if not self.is_closed:
            return False
        if self._planned is None:
            exchange = self._stage.exchange
            assert exchange is not None
            self._planned = deque(exchange.plan(self._sides, self._limits))
            self._sides = [[] for _ in self._stage.inputs]
            self.bytes = sum(bundle.memory_bytes for bundle in self._planned)
        return bool(self._planned)

    def take(self, most_rows: int | None = None) -> tuple[str, Bundle]:
        assert self._planned is not None
        bundle = self._planned.popleft()
        self.bytes = max(0, self.bytes - bundle.memory_bytes)
        return "", bundle

    def slices(self) -> list[BlockSlice]:
        planned = [piece for bundle in list(self._planned or ()) for piece in bundle.slices]
        return [piece for side in self._sides for piece in list(side)] + planned

    def clear(self) -> None:
        self._sides = [[] for _ in self._stage.inputs]
        self._planned = deque()
        self.bytes = 0


class SourceInbox(Inbox):
    """Hands out the numbers of the read tasks of a SOURCE.

    A bundle has no slices and its number as params.
    """

    def __init__(self, stage: Stage, skip: Sequence[str] = ()) -> None:
        super().__init__(stage)
        self._skipped = set(skip)
        self._numbers: deque[int] = deque()
        self._seen = 0
        self._is_cut = False
        self.listed()

    def listed(self) -> None:
        """Take tasks in that were made since the last call."""
        tasks = self._stage.read_tasks
        self.is_closed = tasks.is_complete or self._is_cut
        if self._is_cut:
            return
        for number in range(self._seen, len(tasks)):
            if part_name(self._stage, number) not in self._skipped:
                self._numbers.append(number)
        self._seen = len(tasks)

    def waiting(self) -> int:
        """Return the number of tasks that wait."""
        return len(self._numbers)

    def has_bundle(self) -> bool:
        return bool(self._numbers)

    def take(self, most_rows: int | None = None) -> tuple[str, Bundle]:
        number = self._numbers.popleft()
        return part_name(self._stage, number), Bundle((), number)

    def clear(self) -> None:
        self._numbers.clear()
        self._is_cut = self.is_closed = True


class PassingInbox(Inbox):
    """The slices of a BLOCKS, LIMIT or UNION, which go on as they are, without a task."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._left = stage.rows
        self._queues: list[deque[tuple[str, BlockSlice]]] = [deque() for _ in stage.inputs]
        self._closed = [False] * len(stage.inputs)
        self._front = 0  # the first input that has not ended
        self.is_full = stage.kind is Kind.LIMIT and stage.rows <= 0
        for piece in stage.slices:
            self._slices.append(("", piece))
            self.bytes += piece.memory_bytes

    def put(self, side: int, origin: str, piece: BlockSlice) -> None:
        if self._stage.kind is Kind.LIMIT:
            if self.is_full:
                return
            piece = piece.rows(0, self._left)
            self._left -= piece.num_rows
            self.is_full = self._left <= 0
        (self._slices if self.wants(side) else self._queues[side]).append((origin, piece))
        self.bytes += piece.memory_bytes

    def close(self, side: int) -> None:
        self._closed[side] = True
        super().close(side)
        while self._front < len(self._closed) and self._closed[self._front]:
            self._go_on(self._front)
            self._front += 1
        if self._front < len(self._closed):
            self._go_on(self._front)

    @property
    def has_turns(self) -> bool:
        return self._stage.is_ordered and len(self._queues) > 1

    def wants(self, side: int) -> bool:
        return not self.has_turns or side <= self._front

    def wanted_sides(self) -> Iterable[int]:
        return [self._front] if self.has_turns and self._open else self._open

    def _go_on(self, side: int) -> None:
        """Move the slices of an input to the front queue, behind those of the inputs before it."""
        self._slices.extend(self._queues[side])
        self._queues[side].clear()

    def has_bundle(self) -> bool:
        return bool(self._slices)

    def take_slice(self) -> tuple[str, BlockSlice]:
        """Remove the next slice."""
        origin, piece = self._slices.popleft()
        self.bytes -= piece.memory_bytes
        return origin, piece

    def clear(self) -> None:
        self._slices.clear()
        for queue in self._queues:
            queue.clear()
        self.bytes = 0


def part_name(stage: Stage, number: int) -> str:
    """Return the name of a read task, the same in every run of a plan."""
    return stage.read_tasks[number].name or str(number)


def make_inbox(stage: Stage, limits: ExchangeLimits, skip: Sequence[str] = ()) -> Inbox:
    """Return the inbox for a stage.

    Args:
        stage: the stage.
        limits: for a barrier's plan.
        skip: parts of the source that an earlier run finished.
    """
    if stage.kind is Kind.SOURCE:
        return SourceInbox(stage, skip)
    if stage.kind is Kind.BARRIER:
        return BarrierInbox(stage, limits)
    if stage.kind is Kind.CHAIN:
        return Inbox(stage)
    return PassingInbox(stage)
