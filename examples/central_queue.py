"""A central queue: producers fill an actor, consumers drain it, and nothing is lost or done twice.

The queue holds no more than a few items: producers that are ahead are told to wait.

Run it: ``python examples/central_queue.py``
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import skate

PRODUCERS, CONSUMERS, ITEMS = 2, 3, 50


@skate.remote
class Queue:
    def __init__(self, room: int, producers: int) -> None:
        self.items: deque[int] = deque()
        self.room = room
        self.producers = producers

    def offer(self, items: list[int]) -> int:
        """Take as many of the items as there is room for; return how many."""
        taken = items[: self.room - len(self.items)]
        self.items.extend(taken)
        return len(taken)

    def leave(self) -> None:
        """A producer is through."""
        self.producers -= 1

    def take(self, most: int) -> list[int] | None:
        """Return some items, or None when there will be no more."""
        if not self.items and not self.producers:
            return None
        return [self.items.popleft() for _ in range(min(most, len(self.items)))]


@skate.remote(num_cpus=0)
def produce(queue: Any, numbers: list[int]) -> None:
    while numbers:
        taken = skate.get(queue.offer.remote(numbers))
        numbers = numbers[taken:]
        if not taken:
            time.sleep(0.001)
    skate.get(queue.leave.remote())


@skate.remote
class Consumer:
    """Holds what is costly to set up, such as a model, and works on one batch after the other."""

    def drain(self, queue: Any) -> list[int]:
        done: list[int] = []
        while (batch := skate.get(queue.take.remote(4))) is not None:
            done += [number * number for number in batch]
            if not batch:
                time.sleep(0.001)
        return done


def main() -> None:
    skate.init()
    queue = Queue.remote(room=10, producers=PRODUCERS)
    consumers = [Consumer.remote() for _ in range(CONSUMERS)]
    draining = [consumer.drain.remote(queue) for consumer in consumers]
    for i in range(PRODUCERS):
        produce.remote(queue, list(range(i * ITEMS, (i + 1) * ITEMS)))
    results = [number for done in skate.get(draining) for number in done]
    print(f"{len(results)} items went through the queue")
    assert sorted(results) == [number * number for number in range(PRODUCERS * ITEMS)]
    skate.shutdown()


if __name__ == "__main__":
    main()
