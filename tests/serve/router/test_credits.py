"""Routers and lenders together: random programs of arrivals, delays, cancels, deaths and resizes, by seed.

Messages from one router to one lender keep their order, as the calls of one process to one actor do; answers and
results may overtake each other.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skate.serve._router import lender as lending
from skate.serve._router import router as routing


class World:
    """Some routers and lenders, and the messages between them."""

    def __init__(self, seed: int, routers: int, lenders: int, slots: int, *, hosted: bool = False) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.slots = slots
        self.routers = {f"r{i}": routing.Router() for i in range(routers)}
        if hosted:  # the router in the process of the replica l0
            self.routers[lending.HERE] = routing.Router(own="l0")
        self.lenders = {f"l{i}": lending.Lender(slots) for i in range(lenders)}
        #: This router reads no answers for the time being: its process is blocked.
        self.deaf: str | None = None
        self.polls: dict[tuple[str, str], int] = {}
        #: (router, lender) to what travels there, in order.
        self.forth: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
        self.back: list[tuple[Any, ...]] = []
        self.running: dict[Hashable, str] = {}
        self.began: Counter[Hashable] = Counter()
        self.finished: list[Hashable] = []
        self.submitted: list[Hashable] = []
        self.withdrawn: set[Hashable] = set()
        self.lost: set[Hashable] = set()
        #: Requests that came to l0 itself.
        self.direct = 0
        for router in self.routers.values():
            router.table_changed(dict.fromkeys(self.lenders, slots))

    # ------------------------------------------------------------------ carrying commands out

    def of_router(self, router: str, commands: list[routing.Command]) -> None:
        for command in commands:
            if isinstance(command, routing.Send):
                self.forth.setdefault((router, command.replica), []).append(("request", command.key))
            elif isinstance(command, routing.Report):
                self.forth.setdefault((router, command.replica), []).append(("report", command))
            elif isinstance(command, routing.Lost):
                self.lost.add(command.key)

    def of_lender(self, lender: str, commands: list[lending.Command]) -> None:
        for command in commands:
            if isinstance(command, lending.Begin):
                self.began[command.token] += 1
                self.running[command.token] = lender
            else:
                number = self.polls.pop((command.router, lender))
                self.back.append(
                    ("answer", command.router, lender, number, command.granted, command.recalled)
                )
        one = self.lenders[lender]
        assert one.running <= max(one.slots, self.slots)
        direct = self.direct if lender == "l0" else 0
        assert one.running == direct + sum(where == lender for where in self.running.values())

    # ------------------------------------------------------------------ steps

    def submit(self, router: str) -> None:
        key = f"{router}-{len(self.submitted)}"
        self.submitted.append(key)
        self.of_router(router, self.routers[router].submitted(key))

    def come_to_the_replica(self) -> None:
        if self.lenders["l0"].begin_here():
            self.direct += 1
        else:
            self.submit(lending.HERE)

    def end_direct(self, _: None) -> None:
        self.direct -= 1
        self.of_lender("l0", self.lenders["l0"].ended_here(self.now))

    def cancel_one_that_waits(self, router: str) -> None:
        waiting = [key for key in self.submitted if str(key).startswith(router) and key not in self.withdrawn]
        for key in self.random.sample(waiting, min(3, len(waiting))):
            if self.routers[router].withdrawn(key):
                self.withdrawn.add(key)

    def deliver_forth(self, pair: tuple[str, str]) -> None:
        router, lender = pair
        message = self.forth[pair].pop(0)
        if lender not in self.lenders:
            return
        one = self.lenders[lender]
        if message[0] == "request":
            self.of_lender(lender, one.arrived(router, message[1], self.now))
            return
        report = message[1]
        if pair in self.polls:
            self.back.append(("answer", router, lender, self.polls.pop(pair), 0, 0))
        self.polls[pair] = report.number
        self.of_lender(lender, one.report(router, report.wanted, report.held, report.received, self.now))

    def deliver_back(self, index: int) -> None:
        kind, router, lender, *rest = self.back.pop(index)
        if router not in self.routers:
            return
        if kind == "answer":
            self.of_router(router, self.routers[router].answered(lender, *rest))
        else:
            key, keeps = rest
            self.finished.append(key)
            self.of_router(router, self.routers[router].ended(key, keeps))

    def finish(self, key: Hashable) -> None:
        lender = self.running.pop(key)
        router = str(key).partition("-")[0]
        keeps = self.random.random() < 0.8
        self.back.append(("result", router, lender, key, keeps))
        self.of_lender(lender, self.lenders[lender].ended(router, keeps, self.now))

    def kill_lender(self, name: str) -> None:
        del self.lenders[name]
        for key in [key for key, where in self.running.items() if where == name]:
            del self.running[key]
        self.polls = {pair: number for pair, number in self.polls.items() if pair[1] != name}
        self.back = [message for message in self.back if message[2] != name]
        for router, one in self.routers.items():
            self.of_router(router, one.replica_gone(name))

    def kill_router(self, name: str) -> None:
        del self.routers[name]
        self.forth = {pair: messages for pair, messages in self.forth.items() if pair[0] != name}
        self.polls = {pair: number for pair, number in self.polls.items() if pair[0] != name}
        for lender, one in self.lenders.items():
            self.of_lender(lender, one.gone(name, self.now))

    def moves(self) -> list[tuple[Any, ...]]:
        """Return every message that may arrive now, and every request that may end."""
        found: list[tuple[Any, ...]] = [
            (self.deliver_forth, pair) for pair, waiting in self.forth.items() if waiting
        ]
        found += [
            (self.deliver_back, index) for index, message in enumerate(self.back) if message[1] != self.deaf
        ]
        found += [(self.end_direct, None)] * self.direct
        return found + [(self.finish, key) for key in self.running]

    def run(self, steps: int) -> None:
        """Take random steps that are possible."""
        for _ in range(steps):
            moves = self.moves()
            if not moves:
                return
            act, argument = self.random.choice(moves)
            act(argument)

    def run_until_quiet(self) -> None:
        """Deliver and finish everything; time passes when nothing else can happen."""
        for _ in range(20_000):
            moves = self.moves()
            if moves:
                act, argument = self.random.choice(moves)
                act(argument)
                continue
            self.now += lending.REVOKE_AFTER_S
            for name, one in self.lenders.items():
                self.of_lender(name, one.tick(self.now))
            if not self.moves():
                return
        raise AssertionError("it never comes to rest: messages go round for ever")

    def assert_all_served(self) -> None:
        living = {key for key in self.submitted if str(key).partition("-")[0] in self.routers}
        assert all(count == 1 for count in self.began.values()), "a request ran twice"
        assert not {*self.began} & self.withdrawn, "a request ran that was cancelled before it was sent"
        deaf = {key for key in living if str(key).partition("-")[0] == self.deaf}
        unserved = living - {*self.finished} - self.withdrawn - self.lost - deaf
        assert not unserved, f"requests that never ran: {sorted(map(str, unserved))}"
        for name, router in self.routers.items():
            if name != self.deaf:
                assert router.queued == router.ongoing == 0

    def assert_credits_add_up(self) -> None:
        for name, one in self.lenders.items():
            assert one.ongoing == 0
            assert one.lent <= one.slots
            for router_name, router in self.routers.items():
                if router_name != self.deaf:
                    held = router._replicas[name].held
                    assert one.holds(router_name) == held, f"{router_name} at {name}: a credit leaked"


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    routers=st.integers(1, 4),
    lenders=st.integers(1, 4),
    slots=st.integers(1, 4),
)
def test_every_request_runs_once_and_no_credit_leaks(
    seed: int, routers: int, lenders: int, slots: int
) -> None:
    world = World(seed, routers, lenders, slots)
    for _ in range(world.random.randrange(60)):
        router = world.random.choice([*world.routers])
        if world.random.random() < 0.85:
            world.submit(router)
        else:
            world.cancel_one_that_waits(router)
        world.run(world.random.randrange(8))
    world.run_until_quiet()
    world.assert_all_served()
    world.assert_credits_add_up()


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**9), routers=st.integers(0, 2), lenders=st.integers(1, 2), slots=st.integers(1, 3)
)
def test_requests_that_come_to_a_replica_itself(seed: int, routers: int, lenders: int, slots: int) -> None:
    """They take free slots without a message; else they wait in a router like all others."""
    world = World(seed, routers, lenders, slots, hosted=True)
    for _ in range(world.random.randrange(80)):
        if world.random.random() < 0.6:
            world.come_to_the_replica()
        else:
            world.submit(world.random.choice([*world.routers]))
        world.run(world.random.randrange(6))
    world.run_until_quiet()
    world.assert_all_served()
    world.assert_credits_add_up()


def test_a_router_that_has_nothing_to_give_is_asked_once() -> None:
    """Its request was given up by its caller, and runs on in the replica."""
    one = lending.Lender(1)
    assert one.report("a", 1, 0, 0, 0.0) == [lending.Answer("a", 1, 0)]
    assert one.arrived("a", "call", 0.0) == [lending.Begin("call")]
    one.report("a", 0, 0, 1, 0.0)
    assert one.report("b", 1, 0, 0, 0.0) == [lending.Answer("a", 0, 1)]
    assert one.report("a", 0, 0, 1, 0.0) == []
    assert one.ended("a", False, 0.0) == [lending.Answer("b", 1, 0)]


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**9), slots=st.integers(1, 3))
def test_deaths_of_replicas_and_processes(seed: int, slots: int) -> None:
    world = World(seed, 3, 3, slots)
    for step in range(50):
        world.submit(world.random.choice([*world.routers]))
        world.run(world.random.randrange(6))
        if step == 20:
            world.kill_lender("l0")
        if step == 35:
            world.kill_router("r1")
    world.run_until_quiet()
    world.assert_all_served()
    for one in world.lenders.values():
        assert one.ongoing == 0
        assert one.routers() == [name for name in one.routers() if name in world.routers]


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**9), slots=st.integers(1, 3))
def test_a_blocked_process_starves_nobody(seed: int, slots: int) -> None:
    """It keeps credits and reads no message; the others get theirs all the same. When it goes on, it uses credits that
    were revoked meanwhile, and the replica runs no more than its slots all the same."""
    world = World(seed, 3, 1, slots)
    for _ in range(10):
        world.submit("r0")
        world.run(5)
    world.deaf = "r0"
    for _ in range(20):
        world.submit(world.random.choice(["r1", "r2"]))
        world.run(3)
    world.run_until_quiet()
    world.assert_all_served()
    for _ in range(10):
        world.submit(world.random.choice(["r0", "r1", "r2"]))
    world.deaf = None
    for _ in range(10):
        world.submit(world.random.choice(["r0", "r1", "r2"]))
        world.run(3)
    world.run_until_quiet()
    world.assert_all_served()
    world.assert_credits_add_up()


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_fewer_and_more_slots_at_run_time(seed: int) -> None:
    world = World(seed, 2, 2, 4)
    for _ in range(40):
        world.submit(world.random.choice([*world.routers]))
        world.run(world.random.randrange(5))
        if world.random.random() < 0.2:
            name = world.random.choice([*world.lenders])
            world.of_lender(name, world.lenders[name].resized(world.random.randint(1, 4), world.now))
    world.run_until_quiet()
    world.assert_all_served()


@pytest.mark.parametrize("seed", range(5))
def test_two_busy_routers_share_one_slot(seed: int) -> None:
    """Neither waits for the other's queue to empty: of many turns, each gets a fair part."""
    world = World(seed, 2, 1, 1)
    for _ in range(40):
        world.submit("r0")
        world.submit("r1")
    while len(world.finished) < 40:
        world.run(1)
    share = Counter(str(key)[:2] for key in world.finished)
    assert min(share["r0"], share["r1"]) >= 5


def test_routers_that_always_wait_take_turns() -> None:
    lender = lending.Lender(1)
    for router in ("a", "b", "c"):
        lender.report(router, 1, 0, 0, 0.0)
    received = Counter({"a": 1})
    order = []
    holder = "a"
    for number in range(9):
        order.append(holder)
        lender.arrived(holder, number, float(number))
        # It ends with an error, which brings no credit back: the holder asks again, as the others do.
        commands = lender.ended(holder, False, float(number))
        commands += lender.report(holder, 1, 0, received[holder], float(number))
        (answer,) = [one for one in commands if isinstance(one, lending.Answer) and one.granted]
        holder = answer.router
        received[holder] += 1
    assert order == ["a", "b", "c"] * 3
