"""A program whose signals and finalizers interrupt the runtime wherever they can, for ``test_reentrance``.

    python storm.py WHERE MODE SEED ALARMS [call] [raise]

``call``: handlers and ``__del__`` methods call the runtime. ``raise``: handlers raise.
"""

from __future__ import annotations

import gc
import random
import signal
import sys
import time
from typing import Any

import skate

#: Seconds that nothing takes.
AGES = 3600

PAUSES = (2e-5, 1e-4, 3e-4, 1e-3)


class Boom(Exception):
    """What handlers raise."""


@skate.remote
def same(value: Any) -> Any:
    return value


@skate.remote
class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count


class Cycle:
    """Ends in the collector, wherever that runs, and calls the runtime there."""

    calls = True

    def __init__(self, rng: random.Random) -> None:
        self.me = self
        self.what = rng.randrange(6)

    def __del__(self) -> None:
        if not Cycle.calls:
            return
        ref = same.remote(1)
        if self.what == 1:
            assert skate.get(ref) == 1
        elif self.what == 2:
            skate.put(b"x" * 10)
        elif self.what == 3:
            skate.wait([ref], timeout=AGES)


class Storm:
    def __init__(self, seed: int, alarms: int, calling: bool, raising: bool) -> None:
        self.rng = random.Random(seed)
        self.alarms, self.calling, self.raising = alarms, calling, raising
        self.fired = self.raised = self.rounds = 0
        #: The handler may raise: there is somebody to catch it.
        self.armed = False

    def arm(self) -> None:
        # Once, not again and again: a handler slower than its signals recurses in any program.
        signal.setitimer(signal.ITIMER_REAL, self.rng.choice(PAUSES))

    def handler(self, *_: object) -> None:
        self.fired += 1
        if self.calling and self.rng.random() < 0.2:
            armed, self.armed = self.armed, False
            assert skate.get(same.remote(5)) == 5
            assert skate.get(skate.put([7])) == [7]
            skate.wait([same.remote(1)], timeout=AGES)
            self.armed = armed
        if self.fired < self.alarms:
            self.arm()
        if self.raising and self.armed and self.rng.random() < 0.5:
            self.armed = False
            self.raised += 1
            raise Boom

    def one_round(self, counter: Any) -> None:
        rng = self.rng
        self.arm()
        ref = same.remote(self.rounds)
        assert skate.get(ref) == self.rounds
        skate.get(counter.add.remote())
        large = skate.put(bytes(300_000) if rng.random() < 0.05 else [1, 2])
        skate.get(large)
        refs = [same.remote(number) for number in range(5)]
        ready, rest = skate.wait(refs, num_returns=3, timeout=AGES)
        assert len(ready) == 3
        assert skate.get(refs) == [0, 1, 2, 3, 4]
        if self.calling and rng.random() < 0.3:
            for _ in range(10):
                Cycle(rng)

    def run(self) -> tuple[int, int, int]:
        gc.set_threshold(50)
        before = signal.signal(signal.SIGALRM, self.handler)
        counter = Counter.remote()
        while self.fired < self.alarms:
            try:
                self.armed = True
                self.one_round(counter)
                self.armed = False
            except Boom:
                pass
            self.rounds += 1
        self.armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        # The reminder of a signal that was put off may still be on its way.
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        assert skate.get(same.remote("after")) == "after"
        gc.set_threshold(700)
        gc.collect()
        del before
        return self.fired, self.raised, self.rounds


@skate.remote
def in_task(*args: Any) -> Any:
    return Storm(*args).run()


@skate.remote
class Serial:
    def run(self, *args: Any) -> Any:
        return Storm(*args).run()


@skate.remote
class Async:
    async def run(self, *args: Any) -> Any:
        return Storm(*args).run()


@skate.remote(max_concurrency=2)
class Threaded:
    """Signals meet its main thread, which serves the others."""

    def __init__(self) -> None:
        self.fired = 0
        signal.signal(signal.SIGALRM, self.handler)

    def handler(self, *_: object) -> None:
        self.fired += 1
        assert skate.get(same.remote(5)) == 5
        signal.setitimer(signal.ITIMER_REAL, 1e-3)

    def run(self, seed: int, alarms: int, calling: bool, raising: bool) -> Any:
        rng = random.Random(seed)
        rounds = 0
        signal.setitimer(signal.ITIMER_REAL, 1e-3)
        while self.fired < alarms:
            assert skate.get([same.remote(number) for number in range(5)]) == [0, 1, 2, 3, 4]
            rounds += 1
            if rng.random() < 0.1:
                time.sleep(1e-4)
        signal.setitimer(signal.ITIMER_REAL, 0)
        return self.fired, 0, rounds


def main() -> None:
    where, mode, seed, alarms, *flags = sys.argv[1:]
    skate.init(num_cpus=2, **({"mode": "inline"} if mode == "inline" else {}))
    args = int(seed), int(alarms), "call" in flags, "raise" in flags
    if where == "driver":
        found = Storm(*args).run()
    elif where == "task":
        found = skate.get(in_task.remote(*args))
    else:
        kinds: dict[str, Any] = {"serial": Serial, "async": Async, "threaded": Threaded}
        found = skate.get(kinds[where].remote().run.remote(*args))
    Cycle.calls = False
    print("alarms, raised, rounds:", *found)


if __name__ == "__main__":
    main()
