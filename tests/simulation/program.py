"""The program that is simulated, as a user would write it: tasks, an actor, large objects, and a worker that dies."""

from __future__ import annotations

from typing import Any

import skate
from skate.util import get_placement_group, placement_group, remove_placement_group
from skate.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from .executor import Dies, lasts

#: More than a message carries: such values lie in shared memory.
LARGE = 300_000


@skate.remote
@lasts(0.004)
def square(x: int) -> int:
    return x * x


@skate.remote
@lasts(0.0002)
def total(*numbers: int) -> int:
    return sum(numbers)


@skate.remote
@lasts(0.01)
def repeated(data: bytes, times: int) -> bytes:
    return data * times


@skate.remote(max_retries=1)
@lasts(0.02)
def dies() -> None:
    raise Dies


@skate.remote
def fails() -> None:
    raise ValueError("on purpose")


@skate.remote
def begin_square(x: int) -> list[Any]:
    return [square.remote(x)]


@skate.remote
def up_to(count: int) -> Any:
    yield from range(count)


class CounterCode:
    """Pickled by name: cloudpickle marks a class that it pickles by value with a number of its own, at random."""

    def __init__(self, start: int) -> None:
        self.value = start
        self.kept: list[Any] = []

    @lasts(0.003)
    def add(self, amount: int) -> int:
        self.value += amount
        return self.value

    def keep(self, refs: list[Any]) -> None:
        self.kept += refs

    def give(self) -> list[Any]:
        return self.kept

    @lasts(0.002)
    def crash(self) -> None:
        raise Dies


Counter = skate.remote(CounterCode)


@skate.remote
def add_twice(counter: Any, amount: int) -> list[Any]:
    return [counter.add.remote(amount), counter.add.remote(amount)]


def _error(ref: Any) -> str:
    try:
        skate.get(ref)
    except Exception as error:
        return type(error).__name__
    return ""


def program() -> dict[str, Any]:
    """Run everything; return what came out."""
    found: dict[str, Any] = {}
    squares = [square.remote(x) for x in range(6)]
    found["tree"] = skate.get(total.remote(total.remote(*squares[:3]), total.remote(*squares[3:])))
    found["error"] = _error(fails.remote())

    counter = Counter.remote(10)
    found["counter"] = skate.get([counter.add.remote(square.remote(2)) for _ in range(3)])

    stored = skate.put(bytes(LARGE))
    copies = [repeated.remote(stored, times) for times in (1, 2)]
    found["sizes"] = [len(skate.get(ref)) for ref in copies]

    inner = skate.get(begin_square.remote(5))
    found["of a worker"] = skate.get(inner[0])
    del inner
    found["items"] = [skate.get(ref) for ref in up_to.remote(3)]

    found["kept"] = skate.get(counter.keep.remote([stored, square.remote(6)]))
    del stored
    kept = skate.get(counter.give.remote())
    found["borrowed"] = len(skate.get(kept[0])), skate.get(kept[1])
    del kept
    found["by a handle"] = skate.get(skate.get(add_twice.remote(counter, 100)))

    named = Counter.options(name="named", max_restarts=1).remote(1)
    found["before"] = skate.get(named.add.remote(1))
    found["crash"] = _error(named.crash.remote())
    found["after"] = skate.get(skate.get_actor("named").add.remote(1))
    del named

    survivors = [square.remote(x) for x in (7, 8)]
    found["dead"] = _error(dies.remote())
    found["survivors"] = skate.get(survivors)

    group = placement_group([{"CPU": 1}], name="group")
    there = PlacementGroupSchedulingStrategy(group, 0, True)
    inside = begin_square.options(num_cpus=0, scheduling_strategy=there).remote(10)
    found["in a group"] = group.wait(100), skate.get(skate.get(inside)[0])
    del inside
    lost = repeated.options(scheduling_strategy=there).remote(b"x", 1)
    remove_placement_group(get_placement_group("group"))
    found["removed"] = _error(lost)

    skate.kill(counter)
    found["killed"] = _error(counter.add.remote(1))
    ready, waiting = skate.wait([square.remote(9)], timeout=0.001)
    found["waited"] = len(ready), skate.get(waiting)
    return found


RESULTS = {
    "tree": 55,
    "error": "RayTaskError(ValueError)",
    "counter": [14, 18, 22],
    "sizes": [LARGE, 2 * LARGE],
    "of a worker": 25,
    "items": [0, 1, 2],
    "kept": None,
    "borrowed": (LARGE, 36),
    "by a handle": [122, 222],
    "before": 2,
    "crash": "ActorUnavailableError",
    "after": 2,
    "dead": "WorkerCrashedError",
    "survivors": [49, 64],
    "in a group": (True, 100),
    "removed": "TaskPlacementGroupRemoved",
    "killed": "ActorDiedError",
    "waited": (0, [81]),
}
