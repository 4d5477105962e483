"""Which GPUs a lease has: whole devices, or a share of one. Decisions only.

Amounts alone would let two tasks of half a GPU block a third that needs a whole one without anybody
seeing why; so each device is counted by itself. A share goes to the device that is used most and still
has room: whole ones stay whole as long as possible.
"""

from __future__ import annotations

from collections.abc import Sequence

from skate._base.resources import UNIT


class Devices:
    """The devices of one kind of one node, in fixed-point units."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = list(ids)
        #: The free units of each.
        self.free = [UNIT] * len(self.ids)

    def choose(self, units: int) -> list[int] | None:
        """Return the indices of devices that could give that much, or None. Nothing is taken yet."""
        if units <= 0:
            return []
        if units < UNIT:
            room = [index for index, free in enumerate(self.free) if free >= units]
            return [min(room, key=lambda index: (self.free[index], index))] if room else None
        whole = [index for index, free in enumerate(self.free) if free == UNIT]
        count = units // UNIT
        return whole[:count] if len(whole) >= count else None

    def take(self, units: int) -> list[int] | None:
        """Take devices, or a share of one; None: there are none."""
        chosen = self.choose(units)
        if chosen is not None:
            self._change(chosen, units, -1)
        return chosen

    def give_back(self, taken: Sequence[int], units: int) -> None:
        """Return what ``take`` gave for so many units."""
        self._change(taken, units, 1)

    def _change(self, chosen: Sequence[int], units: int, sign: int) -> None:
        for index in chosen:
            self.free[index] += sign * min(units, UNIT)

    def names(self, taken: Sequence[int]) -> list[str]:
        """Return the ids of devices, as CUDA_VISIBLE_DEVICES takes them."""
        return [self.ids[index] for index in taken]
