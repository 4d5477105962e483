"""Routers and lenders that send each other messages, on a virtual clock."""

from __future__ import annotations

import heapq
import itertools
import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from skate.serve._router import lender as lending
from skate.serve._router import router as routing


class Simulation(ABC):
    """Carries out what routers and lenders decide, but for what becomes of requests.

    Args:
        seed: of what happens by chance.
        routers, lenders: how many there are.
        slots: of each lender.
        delay: how long a message takes. All take the same time, so that they keep their order.
    """

    def __init__(self, seed: int, routers: int, lenders: int, slots: int, delay: float) -> None:
        self.random = random.Random(seed)
        self.now = self.closes_at = 0.0
        self._delay = delay
        self._moments: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = itertools.count()
        self.routers = {f"r{number}": routing.Router() for number in range(routers)}
        self.lenders = {f"l{number}": lending.Lender(slots) for number in range(lenders)}
        self.polls: dict[tuple[str, str], int] = {}
        for router in self.routers.values():
            router.table_changed(dict.fromkeys(self.lenders, slots))

    @abstractmethod
    def of_router(self, name: str, commands: list[routing.Command]) -> None:
        """Carry out what a router decided."""

    @abstractmethod
    def begin(self, name: str, replica: str, key: Any) -> None:
        """A request of a router begins at a replica."""

    # ------------------------------------------------------------------ time

    def at(self, moment: float, act: Callable[..., None], *args: Any) -> None:
        heapq.heappush(self._moments, (moment, next(self._numbers), act, args))

    def soon(self, act: Callable[..., None], *args: Any) -> None:
        """Deliver a message."""
        self.at(self.now + self._delay, act, *args)

    def run(self, until: float) -> None:
        while self._moments and self._moments[0][0] <= until:
            self.now, _, act, args = heapq.heappop(self._moments)
            act(*args)

    def tick(self, replica: str) -> None:
        self.of_lender(replica, self.lenders[replica].tick(self.now))
        if self.now < self.closes_at:
            self.at(self.now + 1.0, self.tick, replica)

    # ------------------------------------------------------------------ messages

    def report(self, name: str, command: routing.Report) -> None:
        pair = (name, command.replica)
        if pair in self.polls:
            self.soon(self.answered, name, command.replica, self.polls[pair], 0, 0)
        self.polls[pair] = command.number
        lender = self.lenders[command.replica]
        self.of_lender(
            command.replica, lender.report(name, command.wanted, command.held, command.received, self.now)
        )

    def answered(self, name: str, replica: str, number: int, granted: int, recalled: int) -> None:
        self.of_router(name, self.routers[name].answered(replica, number, granted, recalled))

    def arrive(self, name: str, replica: str, key: Any) -> None:
        self.of_lender(replica, self.lenders[replica].arrived(name, (name, key), self.now))

    def of_lender(self, replica: str, commands: list[lending.Command]) -> None:
        for command in commands:
            if isinstance(command, lending.Answer):
                number = self.polls.pop((command.router, replica))
                self.soon(self.answered, command.router, replica, number, command.granted, command.recalled)
            else:
                name, key = command.token  # type: ignore[misc]
                self.begin(name, replica, key)
