"""Decides which calls of an actor begin: in order of arrival, up to a limit at a time. Decisions only.

Each concurrency group has a limit of its own; calls of no group share ``max_concurrency``, under the name "".
No call begins before the constructor has returned, and none after ``close``. Threaded and async actors use
it, and every actor of in-process mode; the calls of a serial actor with a process wait in its executor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from skate._base import waits
from skate._wire import control
from skate._wire import worker as wire
from skate._worker.process.current import SYSTEM_GROUP

Key = tuple[bytes, int]
"""A call: owner and seq."""


def is_serial(spec: control.ActorSpec) -> bool:
    """Tell whether an actor runs one call after the other, on one thread."""
    return not spec.is_async and spec.max_concurrency == 1 and not spec.concurrency_groups


def limits_of(spec: control.ActorSpec) -> dict[str, int]:
    """Return how many calls each group runs at a time; "" is for the calls of no group."""
    return {"": spec.max_concurrency, SYSTEM_GROUP: 1, **spec.concurrency_groups}


def group_of(spec: control.ActorSpec, call: wire.Call) -> str:
    """Return the group of a call: its own, or its method's, or the default."""
    return call.group or str(spec.methods.get(str(call.fn), {}).get("concurrency_group", ""))


def unknown_group(spec: control.ActorSpec, name: str, group: str) -> ValueError:
    """Return the error of a call of a group that the actor does not have."""
    known = ", ".join(spec.concurrency_groups) or "none"
    return ValueError(
        f"{name} was called in the concurrency group {group!r}, which the actor's option "
        f"concurrency_groups does not define (it has: {known})"
    )


class Laned(Protocol):
    """A call, as ``Lanes`` sees it."""

    @property
    def key(self) -> Key:
        """Owner and seq."""

    @property
    def group(self) -> str:
        """The concurrency group; "": none."""

    @property
    def began(self) -> float:
        """When it began (``perf_counter``); 0: its thread or loop has not come to it."""


T = TypeVar("T", bound=Laned)


class LaneRow(NamedTuple):
    """The calls of one group at this moment."""

    slots: int
    running: tuple[Key, ...]
    queued: tuple[Key, ...]


class _Lane(Generic[T]):
    """The calls of one group."""

    __slots__ = ("limit", "running", "queued")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running: dict[Key, T] = {}
        #: Only while ``limit`` calls run, or no call may begin.
        self.queued: deque[T] = deque()


class Lanes(Generic[T]):
    """The queued and running calls of an actor, by group."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._lanes: dict[str, _Lane[T]] = {group: _Lane(limit) for group, limit in limits.items()}
        self._open = False

    def arrive(self, call: T) -> bool:
        """Add a call that arrived; tell whether it begins now.

        Raises:
            KeyError: there is no such group.
        """
        lane = self._lanes[call.group]
        if self._open and len(lane.running) < lane.limit:
            lane.running[call.key] = call
            return True
        lane.queued.append(call)
        return False

    def opened(self) -> list[T]:
        """Note that the constructor has returned; return the calls that begin now."""
        self._open = True
        begun = []
        for lane in self._lanes.values():
            while lane.queued and len(lane.running) < lane.limit:
                begun.append(self._begin(lane))
        return begun

    def ended(self, call: T) -> T | None:
        """Remove a call that ended; return the call that begins in its place, if one waits."""
        lane = self._lanes[call.group]
        if lane.running.pop(call.key, None) is None or not lane.queued or not self._open:
            return None
        return self._begin(lane)

    def _begin(self, lane: _Lane[T]) -> T:
        call = lane.queued.popleft()
        lane.running[call.key] = call
        return call

    def withdraw(self, key: Key) -> T | None:
        """Remove a call that has not begun, and return it; None if there is none."""
        for lane in self._lanes.values():
            for call in lane.queued:
                if call.key == key:
                    lane.queued.remove(call)
                    return call
        return None

    def close(self) -> list[T]:
        """Let no further call begin: forget the queued calls, and return the running ones."""
        self._open = False
        for lane in self._lanes.values():
            lane.queued.clear()
        return self.all_running()

    def running(self, key: Key) -> T | None:
        """Return a call that has begun and not ended."""
        for lane in self._lanes.values():
            if key in lane.running:
                return lane.running[key]
        return None

    def all_running(self) -> list[T]:
        """Return the calls that have begun and not ended."""
        return [call for lane in self._lanes.values() for call in lane.running.values()]

    def count(self, group: str) -> int:
        """Return how many calls of a group run."""
        return len(self._lanes[group].running)

    def rows(self) -> list[LaneRow]:
        """Return a row for every group."""
        return [
            LaneRow(lane.limit, tuple(lane.running), tuple(call.key for call in lane.queued))
            for lane in self._lanes.values()
        ]

    def report(
        self, process: bytes, constructor: tuple[bytes, int, float], now: float, *, is_async: bool
    ) -> list[dict[str, Any]]:
        """Return the rows for ``_base.waits``. Before ``opened`` the constructor holds up all calls.

        Args:
            process: the worker, or an actor of in-process mode.
            constructor: owner and seq of the constructor, and for how long it has run.
            now: the time (``perf_counter``).
            is_async: a coroutine may wait in many ways, so that no call counts as blocked: no slots.
        """
        rows = self.rows()
        if not self._open:
            return [waits.lane(process, 1, [constructor], [key for row in rows for key in row.queued])]
        began = {call.key: call.began or now for call in self.all_running()}
        return [
            waits.lane(
                process,
                0 if is_async else row.slots,
                [(*key, now - began[key]) for key in row.running],
                row.queued,
            )
            for row in rows
        ]
