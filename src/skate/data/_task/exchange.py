"""The interface of an exchange: an operation that needs rows of several tasks together.

::

    input blocks ─► partition (a task for each bundle) ─► plan (in the driver, over facts alone) ─► merge (a
    task                 for each bundle of the plan)

``partition`` clusters the rows of one bundle so that whatever belongs together is one range of rows, and says
in ``Made.extra`` where the ranges are. ``plan`` makes bundles of these ranges. ``merge`` gets one block for
each slice of its bundle. The executor keeps what ``partition`` made in shared memory, or in files when it is
more than a part of the memory budget; neither operator knows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skate.data._task.operators import Operator
from skate.data._task.slices import BlockSlice, Bundle


@dataclass(frozen=True, slots=True)
class ExchangeLimits:
    """Limits that a plan has to keep.

    Attributes:
        target_bytes: bytes of input that one merge should get at most.
        parallelism: tasks that can run at a time.
    """

    target_bytes: int
    parallelism: int


class Exchange(ABC):
    """An exchange: sort, group, join, shuffle, ...; frozen, picklable, holds no state of a run.

    Attributes:
        name: for people: ``"Sort(id)"``.
        is_ordered: the order of the plan's bundles is the order of the output.
    """

    name: str = ""
    is_ordered: bool = False

    @abstractmethod
    def partition(self, side: int) -> Operator | None:
        """Return the operator that runs over each bundle of input number ``side``; None: rows go as they
        are.
        """

    @abstractmethod
    def plan(self, sides: Sequence[Sequence[BlockSlice]], limits: ExchangeLimits) -> list[Bundle]:
        """Return the bundles to merge, from all that was partitioned: pure, over facts alone."""

    @abstractmethod
    def merge(self) -> Operator | None:
        """Return the operator that runs over each bundle of the plan; None: rows go as they are."""

    def key(self) -> Any:
        """Return plain data that is equal for equal exchanges, for the plan's hash."""
        return repr(self)
