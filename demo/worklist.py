"""Who holds which picture, and what happens when its holder dies: rules only, no I/O and no waiting.

     waiting ──lend_path──► decoding ──decoded──► ready ──lend_picture──► reading ──finish──► done
        ▲                      │ │                  ▲ │                      │ │                ▲
        └──── give_back ───────┘ └───finish─────────│─│──────────────────────│─│────────────────┘
        ▲          (cannot be decoded)              └─│──── give_back ───────┘ │
        └─────────────────────────────────────────────┴──── lost ──────────────┘

`give_back` puts what a dead worker held first in line again, or finishes it with an error when the picture
seems to kill its workers. `lost` is a decoded picture that went with the process that decoded it.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from demo.readings import Reading

P = TypeVar("P")

#: A picture whose holders die this often is reported as an error instead of killing yet another one.
MAX_DEATHS = 3


@dataclass(frozen=True)
class Lease:
    """One picture lent to one worker. A report under a lease that has been taken back counts for nothing."""

    number: int
    index: int
    path: str
    worker: str


class WorkList(Generic[P]):
    """Every picture of a run. `P` stands for a decoded picture: here a reference to its pixels."""

    def __init__(self, paths: Sequence[str], room: int) -> None:
        self._paths = list(paths)
        self._room = room
        self._numbers = itertools.count()
        self._deaths = [0] * len(self._paths)
        # Every index is in exactly one of these three, or in `_done`.
        self._waiting = deque(range(len(self._paths)))
        self._ready: deque[int] = deque()
        self._leases: dict[int, Lease] = {}
        #: The decoded pictures: all and only the indices that are ready or being read.
        self._pictures: dict[int, P] = {}
        self._done: set[int] = set()
        #: In the order of completion; only ever appended to.
        self.readings: list[Reading] = []

    @property
    def all_done(self) -> bool:
        """Every picture has its reading."""
        return len(self._done) == len(self._paths)

    @property
    def paths_to_lend(self) -> int:
        """How many may be decoded now, so that no more than `room` decoded ones wait for a reader."""
        decoding = len(self._leases) - len(self.being_read())
        return max(0, min(len(self._waiting), self._room - decoding - len(self._ready)))

    @property
    def pictures_to_lend(self) -> int:
        """How many decoded pictures wait for a reader."""
        return len(self._ready)

    def being_read(self) -> list[Lease]:
        """The leases of readers, oldest first."""
        return [lease for lease in self._leases.values() if lease.index in self._pictures]

    def lend_path(self, worker: str) -> Lease | None:
        """Lend a picture for decoding, unless there is none or enough decoded ones wait."""
        return self._lend(self._waiting.popleft(), worker) if self.paths_to_lend else None

    def lend_picture(self, worker: str) -> tuple[Lease, P] | None:
        """Lend a decoded picture for reading, unless there is none."""
        if not self._ready:
            return None
        lease = self._lend(self._ready.popleft(), worker)
        return lease, self._pictures[lease.index]

    def decoded(self, lease: Lease, picture: P) -> None:
        """The holder has decoded the picture."""
        if self._end(lease):
            self._pictures[lease.index] = picture
            self._ready.append(lease.index)

    def finish(self, lease: Lease, reading: Reading) -> None:
        """The holder has the outcome: nothing more is to be done about this picture."""
        if self._end(lease):
            self._complete(lease.index, reading)

    def lost(self, lease: Lease) -> None:
        """The holder could not get the pixels: decode that picture again, first of all."""
        if self._end(lease):
            del self._pictures[lease.index]
            self._waiting.appendleft(lease.index)

    def give_back(self, worker: str) -> int:
        """Take back all that this dead worker held; return how many pictures that were."""
        held = [lease for lease in self._leases.values() if lease.worker == worker]
        for lease in held:
            self._end(lease)
            self._deaths[lease.index] += 1
            if self._deaths[lease.index] == MAX_DEATHS:
                error = f"given up: {MAX_DEATHS} workers died while they held it"
                self._complete(lease.index, Reading(lease.path, error=error))
            elif lease.index in self._pictures:
                self._ready.appendleft(lease.index)
            else:
                self._waiting.appendleft(lease.index)
        return len(held)

    def _lend(self, index: int, worker: str) -> Lease:
        lease = Lease(next(self._numbers), index, self._paths[index], worker)
        self._leases[lease.number] = lease
        return lease

    def _end(self, lease: Lease) -> bool:
        """End the lease; False if it was taken back before, so that a late report changes nothing."""
        return self._leases.pop(lease.number, None) is not None

    def _complete(self, index: int, reading: Reading) -> None:
        self._pictures.pop(index, None)
        self._done.add(index)
        self.readings.append(reading)
