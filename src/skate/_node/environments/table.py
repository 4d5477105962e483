"""Decides which environments are prepared, and when the demands that wait for them go on. Decisions only.

Owner: the daemon's loop. An environment (a key by content) goes through::

    NEW --wanted--> PREPARING --prepared--> READY
     ^                |     ^
     | abandoned      |     | wanted again, when every waiting demand was refused
     '----------------+     |
                      '--failed--> FAILED

Only demands for workers of an environment wait for it. When it is ready they go on to the lease table;
when it fails they are refused, and no others are. If no demand waits, the first one that comes is refused;
after that the next demand has the preparation tried again (the network may be back).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

from skate._base.transitions import TransitionTable


class EnvironmentState(enum.Enum):
    """The states of an environment; the module's text has the diagram."""

    NEW = "new"
    PREPARING = "preparing"
    READY = "ready"
    FAILED = "failed"


class EnvironmentEvent(enum.Enum):
    """The events of an environment."""

    WANTED = "wanted"
    ABANDONED = "no demand waits any more"
    PREPARED = "prepared"
    FAILED = "failed"


TABLE = TransitionTable(
    {
        (EnvironmentState.NEW, EnvironmentEvent.WANTED): EnvironmentState.PREPARING,
        (EnvironmentState.PREPARING, EnvironmentEvent.ABANDONED): EnvironmentState.NEW,
        (EnvironmentState.PREPARING, EnvironmentEvent.PREPARED): EnvironmentState.READY,
        (EnvironmentState.PREPARING, EnvironmentEvent.FAILED): EnvironmentState.FAILED,
        (EnvironmentState.FAILED, EnvironmentEvent.WANTED): EnvironmentState.PREPARING,
    }
)


class Wanted(NamedTuple):
    """A demand as the lease table takes it: absolute, the newest of an owner and shape counts.

    A shape of -1 stands for workers ahead of any demand: the job that starts wants them soon.
    """

    owner: bytes
    shape: int
    #: The worker pool key: the job and environment that the workers are for.
    pool: bytes
    resources: Mapping[str, int]
    leases: int
    depth: int
    #: Why this node cannot serve it, whatever is free; empty: it can.
    infeasible: str = ""
    #: Each lease keeps its worker until that ends.
    dedicated: bool = False
    #: The placement group, and the bundle, whose resources they take.
    place: tuple[bytes, int] = (b"", -1)


class Prepare(NamedTuple):
    """Have the environment prepared; ``prepared`` or ``failed`` follows."""

    key: bytes


class Stop(NamedTuple):
    """End the preparation; what it still says is dropped."""

    key: bytes


class Admit(NamedTuple):
    """Pass the demand on to the lease table."""

    wanted: Wanted


class Reject(NamedTuple):
    """Tell the owner that its environment cannot be had."""

    wanted: Wanted
    reason: str


Command = Prepare | Stop | Admit | Reject

AHEAD = -1


class _Entry:
    """One environment."""

    __slots__ = ("state", "waiting", "unreported_failure")

    def __init__(self) -> None:
        self.state = EnvironmentState.NEW
        self.waiting: dict[tuple[bytes, int], Wanted] = {}
        #: Of FAILED: why, until a demand was refused.
        self.unreported_failure = ""


class EnvironmentTable:
    """All environments of one node that were ever wanted."""

    def __init__(self) -> None:
        self._entries: dict[bytes, _Entry] = {}

    def state(self, key: bytes) -> EnvironmentState:
        """Return how far an environment is."""
        entry = self._entries.get(key)
        return entry.state if entry is not None else EnvironmentState.NEW

    def waiting(self, key: bytes) -> list[Wanted]:
        """Return the demands that wait for an environment."""
        entry = self._entries.get(key)
        return list(entry.waiting.values()) if entry is not None else []

    def wanted(self, key: bytes, wanted: Wanted) -> list[Command]:
        """Take a demand for workers of the environment; one for no leases ends it."""
        entry = self._entries.setdefault(key, _Entry())
        if entry.state is EnvironmentState.READY:
            return [Admit(wanted)]
        who = (wanted.owner, wanted.shape)
        if wanted.leases <= 0:
            # It may hold leases of an earlier time: the lease table must know.
            return [Admit(wanted), *self._withdraw(key, entry, who)]
        reason, entry.unreported_failure = entry.unreported_failure, ""
        if reason and wanted.shape != AHEAD:
            return [Reject(wanted, reason)]
        entry.waiting[who] = wanted
        if entry.state is EnvironmentState.PREPARING:
            return []
        self._step(key, entry, EnvironmentEvent.WANTED)
        return [Prepare(key)]

    def owner_gone(self, owner: bytes) -> list[Command]:
        """Drop the demands of a process that ended."""
        commands: list[Command] = []
        for key, entry in self._entries.items():
            for who in [who for who in entry.waiting if who[0] == owner]:
                commands += self._withdraw(key, entry, who)
        return commands

    def withdrawn(self, owner: bytes, shape: int) -> list[Command]:
        """Drop one demand."""
        commands: list[Command] = []
        for key, entry in self._entries.items():
            commands += self._withdraw(key, entry, (owner, shape))
        return commands

    def prepared(self, key: bytes) -> list[Command]:
        """Let the demands go on whose environment was prepared."""
        entry = self._entries[key]
        self._step(key, entry, EnvironmentEvent.PREPARED)
        waiting, entry.waiting = entry.waiting, {}
        return [Admit(one) for one in waiting.values()]

    def failed(self, key: bytes, reason: str) -> list[Command]:
        """Refuse the demands whose environment could not be prepared."""
        entry = self._entries[key]
        self._step(key, entry, EnvironmentEvent.FAILED)
        waiting, entry.waiting = entry.waiting, {}
        if all(one.shape == AHEAD for one in waiting.values()):
            entry.unreported_failure = reason
        return [Reject(one, reason) for one in waiting.values()]

    def _withdraw(self, key: bytes, entry: _Entry, who: tuple[bytes, int]) -> list[Command]:
        if entry.waiting.pop(who, None) is None or entry.waiting:
            return []
        self._step(key, entry, EnvironmentEvent.ABANDONED)
        return [Stop(key)]

    @staticmethod
    def _step(key: bytes, entry: _Entry, event: EnvironmentEvent) -> None:
        entry.state = TABLE.next(f"environment {key.hex()}", entry.state, event)
