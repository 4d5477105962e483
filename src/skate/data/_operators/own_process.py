"""Calls of what users wrote for exchanges, in a process of their own where their task runs isolated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from skate.data._task.operators import NotOfRow, Operator, Replica, TaskContext


class OwnProcess(Operator):
    """An operator whose calls may be made in another process; see ``_operators.isolation``."""

    def open(self, position: int, replica: Replica) -> None:
        """Note where the operator stands in its stage, if the task runs isolated."""
        if replica.isolation is not None:
            replica.instances[position] = self

    def make_for_child(self) -> Callable[[Any], Any]:
        """Return what the calls are made of, in the process."""
        raise NotImplementedError

    @contextmanager
    def calls(self, task: TaskContext, here: Callable[[Any], Any]) -> Iterator[Callable[[Any], Any]]:
        """Give what makes the calls of a task: ``here``, or the same in a process of its own.

        A call there that ends its process raises RowCrashedError.
        """
        isolation = task.replica.isolation
        positions = [number for number, one in task.replica.instances.items() if one is self]
        if isolation is None or not positions:
            yield here
            return
        child = isolation.operator_child(positions[0], self.name)
        try:
            yield child.call
        except NotOfRow as passing:
            raise passing.error from passing.error.__cause__
        finally:
            child.close()
