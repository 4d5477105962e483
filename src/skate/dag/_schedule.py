"""Decides the order in which an actor runs its part of a compiled graph. Decisions only.

The order is static: execution after execution, and in each the same steps in the same order, every one as
soon as all its values have arrived. Values of later executions are kept until their turn::

    arrived --> [kept, by execution] --all that the next step needs--> ready --> done
                                                                         ^         |
                                                                         '---------'  next step, or
                                                                                      next execution

In the order of the steps each node comes after those that it needs. All actors share this order, so that no
two can wait for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Turn(NamedTuple):
    """The step that may run now."""

    execution: int
    step: int
    #: The values of this execution, by number; the step may replace pickled ones by unpickled ones.
    values: dict[int, Any]


class Schedule:
    """The steps of one actor in one graph, and the values that have arrived for them.

    Args:
        needs: for each step, the numbers of the values that it takes.
        keeps: for each step, the numbers of the values that it makes and later steps here take.
    """

    def __init__(self, needs: Sequence[frozenset[int]], keeps: Sequence[frozenset[int]]) -> None:
        if not needs:
            raise ValueError("an actor of a graph has at least one step")
        self._needs = needs
        made = frozenset[int]().union(*keeps)
        #: The numbers of the values from other members.
        self._expected = frozenset[int]().union(*needs) - made
        self._values: dict[int, dict[int, Any]] = {}
        self._execution = 0
        self._step = 0

    @property
    def execution(self) -> int:
        """The execution whose turn it is."""
        return self._execution

    @property
    def waiting(self) -> int:
        """The number of executions with values here."""
        return len(self._values)

    def arrived(self, execution: int, number: int, value: Any) -> None:
        """Record a value from another process.

        Raises:
            ValueError: the value is not expected, or has arrived before.
        """
        values = self._values.get(execution)
        if execution < self._execution or number not in self._expected or (values and number in values):
            raise ValueError(
                f"value {number} of execution {execution} is not expected in execution {self._execution}"
            )
        if values is None:
            values = self._values[execution] = {}
        values[number] = value

    @property
    def missing(self) -> list[int]:
        """The numbers of the values that the next step needs and that have not arrived."""
        return sorted(self._needs[self._step] - self._values.get(self._execution, {}).keys())

    @property
    def step(self) -> int:
        """The step whose turn it is."""
        return self._step

    def turn(self) -> Turn | None:
        """Return the next step if it has all that it needs."""
        values = self._values.get(self._execution)
        if values is None or not self._needs[self._step] <= values.keys():
            return None
        return Turn(self._execution, self._step, values)

    def done(self, turn: Turn, made: dict[int, Any]) -> None:
        """Record that the step has run, and go on to the next one.

        Args:
            turn: the last value of ``turn()``.
            made: the values of ``keeps``.

        Raises:
            ValueError: it is not that step's turn.
        """
        if (turn.execution, turn.step) != (self._execution, self._step):
            raise ValueError(f"step {turn.step} of execution {turn.execution} is done out of turn")
        self._step += 1
        if self._step == len(self._needs):
            del self._values[self._execution]
            self._step = 0
            self._execution += 1
        else:
            turn.values.update(made)

    def forget(self) -> None:
        """Drop all values, as no further step will run."""
        self._values.clear()
