"""Records the executions of a compiled graph in its driver. Decisions only.

::

    submit --> RUNNING --every output arrived--> COMPLETE
                   |                                 |
                   |  an execution is *settled* when each of its outputs was taken or dropped,
                   |  *covered* when it or a later one was requested
                   v                                 v
              counts as in flight,            in flight until it is covered or settled;
              in any case                     covered, not settled: *buffered*

Whether there is room depends on the program's acts, never on the speed of the actors: executions whose
results were not requested count, even if they ended long ago. Only dropped and covered ones make room when
they end, so a wait for room makes sense only then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

Wake = Callable[[], None]


class Room(Enum):
    """The answers to the question whether another execution may begin."""

    FREE = "free"
    #: As soon as a dropped or covered execution ends.
    LATER = "later"
    #: Not before the program takes or drops results.
    FULL = "full"


class Mark(Enum):
    """An output without a value to give."""

    PENDING = "pending"
    TAKEN = "taken"
    DROPPED = "dropped"


class _Execution:
    __slots__ = ("outputs", "missing", "open", "covered", "counts", "waiting")

    def __init__(self, outputs: int, missing: set[int]) -> None:
        #: The value of each output, or a Mark.
        self.outputs: list[Any] = [Mark.PENDING] * outputs
        #: Numbers of values that have not arrived.
        self.missing = missing
        #: Outputs neither taken nor dropped.
        self.open = outputs
        self.covered = False
        #: It is in flight: a value is missing, or its results were not requested.
        self.counts = True
        self.waiting: list[Wake] | None = None


class Executions:
    """The executions of a graph that are not over.

    Args:
        outputs: the number of each output's value.
        max_inflight: how many executions may be in flight.
        max_buffered: how many may be buffered.
    """

    def __init__(self, outputs: Sequence[int], max_inflight: int, max_buffered: int) -> None:
        self.max_inflight = max_inflight
        self.max_buffered = max_buffered
        #: How many executions count as in flight.
        self.in_flight = 0
        #: The error after which no value can arrive any more.
        self.error: BaseException | None = None
        self._places: dict[int, list[int]] = {}
        for place, number in enumerate(outputs):
            self._places.setdefault(number, []).append(place)
        self._outputs = len(outputs)
        #: Executions that are not over.
        self._executions: dict[int, _Execution] = {}
        self._submitted = 0
        #: Executions up to this one are covered.
        self.covered = -1
        self._waiting_for_room: list[Wake] = []
        #: Functions that wake waiting threads: to be called, and cleared, after every event.
        self.wake: list[Wake] = []

    # ------------------------------------------------------------------ state

    @property
    def buffered(self) -> int:
        """The number of executions with results that were passed over."""
        return sum(one.covered and one.open > 0 and not one.missing for one in self._executions.values())

    @property
    def known(self) -> int:
        """The number of executions that are not over."""
        return len(self._executions)

    @property
    def missing(self) -> list[tuple[int, list[int]]]:
        """The executions with missing values, the oldest first, and the numbers of those values."""
        return [(index, sorted(one.missing)) for index, one in self._executions.items() if one.missing]

    @property
    def begun(self) -> int:
        """The number of executions begun so far."""
        return self._submitted

    def room(self) -> Room:
        """Tell whether another execution may begin."""
        if self.in_flight < self.max_inflight:
            return Room.FREE
        if any(one.counts and (one.covered or not one.open) for one in self._executions.values()):
            return Room.LATER
        return Room.FULL

    # ------------------------------------------------------------------ events

    def submit(self) -> int:
        """Begin an execution; return its number.

        Raises:
            ValueError: there is no room.
        """
        if self.in_flight >= self.max_inflight:
            raise ValueError("there is no room for another execution")
        execution = self._submitted
        self._submitted += 1
        self._executions[execution] = _Execution(self._outputs, set(self._places))
        self.in_flight += 1
        return execution

    def arrived(self, execution: int, number: int, value: Any) -> None:
        """Record a value that arrived.

        Raises:
            ValueError: it is no output, or came before.
        """
        one = self._executions.get(execution)
        if one is None or number not in one.missing:
            raise ValueError(f"value {number} of execution {execution} is not expected")
        one.missing.discard(number)
        outputs = one.outputs
        for place in self._places[number]:
            if outputs[place] is Mark.PENDING:
                outputs[place] = value
        if one.waiting is not None:
            self.wake += one.waiting
            one.waiting = None
        if not one.missing and (one.covered or not one.open):
            self._ends(execution, one)

    def ask(self, execution: int) -> None:
        """Cover this execution and all before it, as its result was requested.

        Raises:
            OverflowError: too many results would be passed over. Nothing was changed.
        """
        if execution <= self.covered:
            return
        if len(self._executions) > self.max_buffered:
            left = sum(1 for index, one in self._executions.items() if index < execution and one.open)
            if left > self.max_buffered:
                raise OverflowError("too many executions would have results that were not taken")
        passed = range(self.covered + 1, execution)
        self.covered = execution
        for index in (*passed, execution):
            one = self._executions.get(index)
            if one is not None:
                one.covered = True
                if not one.missing:
                    self._ends(index, one)

    def is_there(self, execution: int, place: int) -> bool:
        """Tell whether there is no need to wait for an output. Changes nothing: no lock is needed."""
        one = self._executions.get(execution)
        return one is None or one.outputs[place] is not Mark.PENDING

    def take(self, execution: int, place: int) -> Any:
        """Return an output's value and forget it, or return the Mark that says why there is none."""
        one = self._executions.get(execution)
        if one is None:
            return Mark.TAKEN
        value = one.outputs[place]
        if type(value) is not Mark:
            self._close(execution, one, place, Mark.TAKEN)
        return value

    def drop(self, execution: int, place: int) -> None:
        """Drop an output that will not be taken."""
        one = self._executions.get(execution)
        if (
            one is not None
            and one.outputs[place] is not Mark.TAKEN
            and one.outputs[place] is not Mark.DROPPED
        ):
            self._close(execution, one, place, Mark.DROPPED)

    def watch(self, execution: int, wake: Wake) -> None:
        """Call ``wake`` after the next value of this execution, or when no value can arrive any more."""
        one = self._executions[execution]
        if one.waiting is None:
            one.waiting = [wake]
        else:
            one.waiting.append(wake)

    def watch_room(self, wake: Wake) -> None:
        """Call ``wake`` when there is room, or never will be."""
        self._waiting_for_room.append(wake)

    def fail(self, error: BaseException) -> None:
        """End all waits with an error; values that have arrived can still be taken."""
        if self.error is not None:
            return
        self.error = error
        self.wake += self._waiting_for_room
        self._waiting_for_room.clear()
        for one in self._executions.values():
            self.wake += one.waiting or ()
            one.waiting = None

    # ------------------------------------------------------------------ rules

    def _close(self, execution: int, one: _Execution, place: int, mark: Mark) -> None:
        one.outputs[place] = mark
        one.open -= 1
        if not one.open and not one.missing:
            self._ends(execution, one)

    def _ends(self, execution: int, one: _Execution) -> None:
        """End an execution without missing values that is covered or settled."""
        if not one.open:
            del self._executions[execution]
        if one.counts:
            one.counts = False
            self.in_flight -= 1
            if self._waiting_for_room:
                self.wake.append(self._waiting_for_room.pop(0))
