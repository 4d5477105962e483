"""Sets of stages, by what can happen in them: an event costs what it concerns, not what the plan has. No I/O.

Of the thousand reads of a union a few run; the others have ended, or wait for their turn.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from skate.data._exec.inbox import PassingInbox, SourceInbox
from skate.data._exec.states import StageState

#: So many stages are looked at without a thought.
_FEW = 8


class StageSets:
    """The stages of an execution, and sets of them.

    The scheduler calls ``got`` when a stage gets rows, a task or the end of an input, and ``ended`` when it
    is done.

    Args:
        stages: their states, all of them; they are read and not written.

    Attributes:
        all: all stages, by index.
        pools: stages that are not done and have replicas.
        listing: sources of which more tasks may be made.
        least_cpus: no task of any stage needs less.
    """

    def __init__(self, stages: Sequence[StageState]) -> None:
        self.all = tuple(stages)
        self.pools = {state.spec.index: state for state in stages if state.spec.pool is not None}
        self.listing: dict[int, SourceInbox] = {}
        self.least_cpus = min((state.spec.cpus for state in stages), default=0.0)
        # Those that may hold rows or tasks, or have replicas.
        self._holders = dict(self.pools)
        # Those that may have a bundle, by the stage that takes their output.
        self._fed: dict[int | None, dict[int, StageState]] = {}
        # Those that run no tasks, and may have slices.
        self._waiting: dict[int, StageState] = {}
        self._wanted: set[int] | None = None
        self._busy: list[StageState] | None = None
        for state in stages:
            self.got(state)
            if isinstance(state.inbox, SourceInbox) and not state.inbox.is_closed:
                self.listing[state.spec.index] = state.inbox

    # ------------------------------------------------------------------------------------------ events

    def got(self, state: StageState) -> None:
        """Note that a stage gets rows, a task, or the end of an input."""
        if state.is_done:
            return
        index = state.spec.index
        self._holders[index] = state
        if isinstance(state.inbox, PassingInbox):
            self._waiting[index] = state
        else:
            self._fed.setdefault(state.consumer, {})[index] = state

    def ran(self) -> None:
        """Note that a task began or ended."""
        self._busy = None

    def ended(self, state: StageState) -> None:
        """Note that a stage is done."""
        index = state.spec.index
        self._busy = None
        for found in (self.pools, self.listing, self._holders, self._waiting):
            found.pop(index, None)
        self._fed.get(state.consumer, {}).pop(index, None)
        if state.is_cut or (state.consumer is not None and self.all[state.consumer].inbox.has_turns):
            self._wanted = None

    # ------------------------------------------------------------------------------------------ sets

    def busy(self) -> list[StageState]:
        """Return the stages that have tasks, the one nearest to the consumer first."""
        if self._busy is None:
            self._busy = [state for state in self._holders.values() if state.running]
            if len(self._busy) > 1:
                self._busy.sort(key=_index, reverse=True)
        return self._busy

    def holders(self) -> Collection[StageState]:
        """Return the stages that hold rows or tasks, or have replicas, and perhaps a few that do no more."""
        if len(self._holders) > _FEW:
            for index in [index for index, state in self._holders.items() if _holds_nothing(state)]:
                del self._holders[index]
        return self._holders.values()

    def waiting(self) -> list[StageState]:
        """Return the stages that run no tasks and have rows to pass on, the first of the plan first."""
        if not self._waiting:
            return []
        for index in [index for index, state in self._waiting.items() if not state.inbox.has_bundle()]:
            del self._waiting[index]
        return sorted(self._waiting.values(), key=_index)

    def fed(
        self, is_full_below: Callable[[int | None], bool] | None = None, is_wanted: bool = False
    ) -> Iterator[StageState]:
        """Yield the stages that have a bundle, those nearest to the consumer first, inputs of one in order.

        Args:
            is_full_below: tells of a stage, or of the consumer, whether those that feed it are left out.
            is_wanted: only those whose output could reach the consumer now.
        """
        consumers: Iterable[int | None] = tuple(self._fed)
        if len(self._fed) > 1:
            consumers = sorted(self._fed, key=lambda index: -len(self.all) if index is None else -index)
        for consumer in consumers:
            if is_full_below is None or not is_full_below(consumer):
                yield from self._feeding(consumer, is_wanted)

    def _feeding(self, consumer: int | None, is_wanted: bool) -> Iterator[StageState]:
        feeding = self._fed[consumer]
        states: Iterable[StageState] = feeding.values()
        if is_wanted and consumer is not None:
            below = self.all[consumer]
            if not self.is_wanted(below):
                return
            if below.inbox.has_turns:
                turns = [below.spec.inputs[side] for side in below.inbox.wanted_sides()]
                states = [feeding[index] for index in turns if index in feeding]
        empty = []
        try:
            for state in states:
                if state.retries or state.inbox.has_bundle():
                    yield state
                else:
                    empty.append(state.spec.index)
        finally:
            for index in empty:
                feeding.pop(index, None)
            if not feeding:
                self._fed.pop(consumer, None)

    def is_wanted(self, state: StageState) -> bool:
        """Tell whether a stage's output could reach the consumer now."""
        if self._wanted is None:
            self._wanted = set(self._reaching())
        return state.spec.index in self._wanted

    def _reaching(self) -> Iterator[int]:
        found = [self.all[-1]]
        while found:
            state = found.pop()
            if state.is_cut:
                continue
            yield state.spec.index
            found += [self.all[state.spec.inputs[side]] for side in state.inbox.wanted_sides()]


def _index(state: StageState) -> int:
    return state.spec.index


def _holds_nothing(state: StageState) -> bool:
    return not (
        state.running or state.inbox.bytes or state.waiting_bytes or state.made_bytes or state.spec.pool
    )
