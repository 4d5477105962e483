"""An actor: an object that lives in a process of its own and keeps its state between calls.

Run it: ``python examples/actor_counter.py``
"""

from __future__ import annotations

from typing import Any

import skate


@skate.remote
class Counter:
    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, name: str) -> int:
        self.counts[name] = self.counts.get(name, 0) + 1
        return self.counts[name]

    def total(self) -> int:
        return sum(self.counts.values())


@skate.remote
def visit(counter: Any, name: str, times: int) -> int:
    """A handle can be passed anywhere: tasks and other actors call the same counter."""
    return skate.get([counter.add.remote(name) for _ in range(times)])[-1]


def main() -> None:
    skate.init()
    counter = Counter.options(name="visits").remote()
    visits = [visit.remote(counter, name, times) for name, times in (("ada", 3), ("grace", 4), ("ada", 2))]
    skate.get(visits)
    # An actor with a name can be found by it, from every process of the session.
    total = skate.get(skate.get_actor("visits").total.remote())
    print(f"{total} visits")
    assert total == 9
    assert skate.get(counter.add.remote("ada")) == 6
    skate.shutdown()


if __name__ == "__main__":
    main()
