"""Finds out which calls wait for each other, and which of these waits can never end. Decisions only, on plain
rows.

Every process reports its unfinished calls, the objects that its threads wait for, and the *lanes* on which it
runs calls. A serial actor has one lane with one slot, a threaded actor one lane for each group; lanes of an
async actor never count as blocked. A call can go on when one of these can go on ::

    it runs, and its thread waits for objects without a timeout:   any call that makes one of them
    it is queued on a lane, all of whose slots are taken:           any call that runs there
    it waits at its caller for arguments:                           any call that makes one of them
    anything else (resources, timeouts, coroutines):                it may go on by itself

(One of several suffices even where all values are needed: it may fail, which ends the wait.) A call is
*stuck* if all that could let it go on is stuck itself: the greatest set that is closed under this rule is
deadlocked (Chandy, Misra and Haas, 1983: the OR model). Rows are not taken at one moment: so a finding
counts when a second look finds the very same waits, each of which lasted all the time between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from skate._base import ids

#: Characters at the end of an object id in hex that name the return (count); the rest is the task's id.
_INDEX = 4


class Call(NamedTuple):
    """Describes a call that is not finished, as its caller knows it."""

    task_id: str
    name: str
    #: The process that has the call; "": none yet.
    worker: str
    #: "": a task.
    actor: str
    #: Objects that it waits for before it can be sent.
    needs: tuple[str, ...]


class Lane(NamedTuple):
    """Describes where a process runs calls."""

    process: str
    #: How many calls run at a time; 0: any number, so that the lane never counts as blocked.
    slots: int
    running: tuple[str, ...]
    queued: tuple[str, ...]


class Wait(NamedTuple):
    """Describes a thread that waits for objects."""

    process: str
    #: The number of this wait, which the process never uses again.
    number: int
    #: The call that the thread runs; "": none (a driver, a thread that user code started).
    caller: str
    objects: tuple[str, ...]
    #: Whether the wait has no timeout.
    certain: bool
    #: "file:line in function", and for how long (seconds).
    where: str
    seconds: float


class Situation(NamedTuple):
    """Holds the reports of all processes."""

    calls: Mapping[str, Call]
    lanes: tuple[Lane, ...]
    waits: tuple[Wait, ...]


class Deadlock(NamedTuple):
    """Holds calls of which each waits for the next one, and the last one for the first."""

    #: (process, number) of the waits in the circle; the wait that began last comes first.
    waits: tuple[tuple[str, int], ...]
    #: One line for each call.
    story: tuple[str, ...]

    @property
    def text(self) -> str:
        """Return the text of the DeadlockError."""
        story = "".join(f"\n  {line}" for line in self.story)
        return (
            f"these calls wait for each other, and none of them can ever go on:{story}\nPass refs on "
            "instead of waiting for them in get(), make the methods async, or give the actor more "
            "threads (max_concurrency)."
        )


def maker(object_id: str) -> str:
    """Return the id of the task that makes an object."""
    return object_id[:-_INDEX]


def constructor(process: str) -> str:
    """Return the id that stands for the call of an actor's constructor."""
    return f"constructor:{process}"


class Graph:
    """Indexes a situation by the ids of calls."""

    def __init__(self, situation: Situation) -> None:
        self.calls = situation.calls
        self.running: dict[str, Lane] = {}
        self.queued: dict[str, Lane] = {}
        for lane in situation.lanes:
            self.running.update(dict.fromkeys(lane.running, lane))
            self.queued.update(dict.fromkeys(lane.queued, lane))
        self.waits: dict[str, list[Wait]] = {}
        for wait in situation.waits:
            if wait.caller:
                self.waits.setdefault(wait.caller, []).append(wait)

    def blocker(self, call: str) -> Wait | None:
        """Return the wait that a running call cannot go on without."""
        lane = self.running.get(call)
        waits = self.waits.get(call, ())
        if lane is None or not lane.slots or len(waits) != 1 or not waits[0].certain:
            return None
        return waits[0]

    def name(self, call: str) -> str:
        """Return the name under which users know a call."""
        found = self.calls.get(call)
        if found is not None:
            return found.name
        return "the constructor of an actor" if call.startswith("constructor:") else f"task {call}"

    def depends(self, call: str) -> Sequence[str]:
        """Return the calls any of which could let this call go on; none: it may go on by itself."""
        wait = self.blocker(call)
        if wait is not None:
            return [maker(one) for one in wait.objects]
        lane = self.queued.get(call)
        if lane is not None and lane.slots and len(lane.running) >= lane.slots:
            return lane.running
        found = self.calls.get(call)
        if found is not None and not found.worker:
            return [maker(one) for one in found.needs]
        return ()


def stuck(graph: Graph) -> set[str]:
    """Return every call that can never go on."""
    calls = dict.fromkeys([*graph.calls, *graph.running, *graph.queued])
    left = set(calls)
    frees: dict[str, list[str]] = {}
    free = []
    for call in calls:
        others = graph.depends(call)
        if others and left.issuperset(others):
            for other in others:
                frees.setdefault(other, []).append(call)
        else:
            free.append(call)
    left.difference_update(free)
    while free:
        for call in frees.get(free.pop(), ()):
            if call in left:
                left.remove(call)
                free.append(call)
    return left


def deadlocks(situation: Situation) -> list[Deadlock]:
    """Return the cycles among the calls that can never go on, each once."""
    graph = Graph(situation)
    left = stuck(graph)
    found: list[Deadlock] = []
    seen: set[str] = set()
    for start in sorted(left):
        path: list[str] = []
        call = start
        while call not in seen:
            seen.add(call)
            path.append(call)
            call = graph.depends(call)[0]
        if call in path:
            found.append(_describe(graph, path[path.index(call) :]))
    return found


def _describe(graph: Graph, cycle: list[str]) -> Deadlock:
    waits: list[Wait] = []
    story: list[str] = []
    for call, following in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
        wait = graph.blocker(call)
        name, other = graph.name(call), graph.name(following)
        if wait is not None:
            waits.append(wait)
            story.append(f"{name} waits at {wait.where} for {other}")
        elif call in graph.queued:
            running = graph.queued[call].slots
            why = "it runs one call at a time" if running == 1 else f"all its {running} threads are taken"
            story.append(f"{name} is queued behind {other} at the same actor ({why})")
        else:
            story.append(f"{name} waits for its argument, the result of {other}")
    waits.sort(key=lambda wait: wait.seconds)
    return Deadlock(tuple((wait.process, wait.number) for wait in waits), tuple(story))


def confirmed(before: Iterable[Deadlock], now: Iterable[Deadlock]) -> list[Deadlock]:
    """Return the deadlocks that a second look found again, with the very same waits."""
    known = {frozenset(one.waits) for one in before}
    return [one for one in now if one.waits and frozenset(one.waits) in known]


def situation(rows: Iterable[Mapping[str, Any]]) -> Situation:
    """Return the situation that processes reported in rows (see ``_worker.reporting.waits``)."""
    calls: dict[str, Call] = {}
    lanes: list[Lane] = []
    waits: list[Wait] = []
    for row in rows:
        if "process" not in row:
            continue  # it could not report
        process = row["process"]
        for one in row["calls"]:
            calls[one["task_id"]] = Call(
                one["task_id"], one["name"], one["worker"], one["actor"], tuple(one["needs"])
            )
        for one in row["lanes"]:
            lanes.append(Lane(process, one["slots"], tuple(one["running"]), tuple(one["queued"])))
        for one in row["waits"]:
            waits.append(
                Wait(process, one["number"], one["caller"], tuple(one["objects"]), one["certain"],
                     one["where"], one["seconds"])
            )  # fmt: skip
    return Situation(calls, tuple(lanes), tuple(waits))


def lane(
    process: bytes,
    slots: int,
    running: Iterable[tuple[bytes, int, float]],
    queued: Iterable[tuple[bytes, int]],
) -> dict[str, Any]:
    """Return the row of one lane; ``running``: owner, seq and since when (seconds)."""
    return {
        "slots": slots,
        "running": [_id(process, owner, seq) for owner, seq, _ in running],
        "seconds": [seconds for _, _, seconds in running],
        "queued": [_id(process, owner, seq) for owner, seq in queued],
    }


def _id(process: bytes, owner: bytes, seq: int) -> str:
    return ids.task_id(owner, seq).hex() if owner else constructor(process.hex())
