"""Credits that a router sets aside for requests that threads send by themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from skate.serve._router import lender as lending
from skate.serve._router import router as routing

from .test_credits import World


def with_credits(**held: int) -> routing.Router:
    """Return a router that has credits of replicas."""
    one = routing.Router()
    one.table_changed(held)
    one.submitted("first")  # it asks for credits
    for name, count in held.items():
        one.answered(name, 1, count, 0)
    one.ended("first", True)
    return one


def test_a_credit_that_is_set_aside_is_nobody_else_s() -> None:
    one = with_credits(a=1)
    assert one.is_at_ease
    assert one.lend("ticket") == "a"
    assert one.lend("another") is None
    assert not any(isinstance(command, routing.Send) for command in one.submitted("waits"))
    assert not one.is_at_ease
    assert routing.Send("waits", "a") in one.repaid(["ticket"])
    assert one.is_at_ease


def test_each_result_has_brought_the_credit_again() -> None:
    one = with_credits(a=2)
    one.lend("ticket")
    one.used("ticket", 5)
    one.repaid(["ticket"])
    (report,) = one.relaxed(is_resting=True)
    assert isinstance(report, routing.Report)
    assert (report.held, report.received) == (1, 2 + 1 + 5)  # granted, of the first request, of the others


def test_replicas_to_be_avoided_lend_nothing() -> None:
    one = with_credits(a=1, b=1)
    one.avoided = frozenset("a")
    assert one.lend("ticket") == "b"
    assert one.lend("another") is None


def test_the_replica_of_a_credit_that_is_set_aside_may_go() -> None:
    one = with_credits(a=1, b=1)
    tickets = {one.lend("x"): "x", one.lend("y"): "y"}
    assert one.replica_gone("a") == [routing.Lost(tickets["a"], "a")]
    assert one.repaid([tickets["a"]]) == []
    one.table_changed({})
    assert one.knows("b")  # a request may use the credit
    one.repaid([tickets["b"]])
    assert not one.knows("b")


class Threads(World):
    """Processes whose threads send requests themselves, while their routers decide about others."""

    def __init__(self, seed: int, routers: int, lenders: int, slots: int, is_late: bool) -> None:
        #: A router may report between the moment when a thread takes a ticket and that when it sends.
        self.is_late = is_late
        #: Of each router: its tickets that are free, and how many requests have used each since it was asked.
        self.free: dict[str, list[str]] = {}
        self.uses: dict[str, Counter[str]] = {}
        #: Requests that threads are about to send: (router, ticket, replica).
        self.late: list[tuple[str, str, str]] = []
        self.ticket_of: dict[Hashable, str] = {}
        self.where: dict[str, str] = {}
        super().__init__(seed, routers, lenders, slots)
        for name in self.routers:
            self.free[name], self.uses[name] = [], Counter()

    def collect(self, router: str) -> None:
        """Do what the loop does before its router decides something."""
        one, free, uses = self.routers[router], self.free[router], self.uses[router]
        for ticket, count in uses.items():
            one.used(ticket, count)
        uses.clear()
        back = free.copy()
        free.clear()
        super().of_router(router, one.repaid(back))

    def of_router(self, router: str, commands: list[routing.Command]) -> None:
        super().of_router(router, commands)
        one = self.routers[router]
        if not one.is_at_ease:
            self.collect(router)
            return
        for _ in range(self.random.randrange(3)):
            ticket = f"ticket-{len(self.where)}"
            name = one.lend(ticket)
            if name is not None:
                self.where[ticket] = name
                self.free[router].append(ticket)

    def submit(self, router: str) -> None:
        self.collect(router)
        super().submit(router)

    def take(self, router: str) -> None:
        """Have a thread take a ticket; it sends its request later."""
        if self.free[router]:
            ticket = self.free[router].pop(0)
            self.late.append((router, ticket, self.where[ticket]))
            if not self.is_late:
                self.send(len(self.late) - 1)

    def send(self, index: int) -> None:
        router, ticket, lender = self.late.pop(index)
        key = f"{router}-{len(self.submitted)}"
        self.submitted.append(key)
        self.ticket_of[key] = ticket
        self.forth.setdefault((router, lender), []).append(("request", key))

    def finish(self, key: Hashable) -> None:
        if key not in self.ticket_of:
            super().finish(key)
            return
        lender, router = self.running.pop(key), str(key).partition("-")[0]
        self.back.append(("by ticket", router, lender, key))
        self.of_lender(lender, self.lenders[lender].ended(router, True, self.now))

    def deliver_back(self, index: int) -> None:
        kind, router, _, *rest = self.back[index]
        if kind == "by ticket":
            del self.back[index]
            key = rest[0]
            self.finished.append(key)
            ticket = self.ticket_of[key]
            self.uses[router][ticket] += 1
            self.free[router].append(ticket)
            if not self.routers[router].is_at_ease:
                self.collect(router)
            return
        if kind == "answer":
            self.collect(router)
        super().deliver_back(index)

    def moves(self) -> list[tuple[Any, ...]]:
        return super().moves() + [(self.send, index) for index in range(len(self.late))]


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    routers=st.integers(1, 3),
    lenders=st.integers(1, 3),
    slots=st.integers(1, 4),
    is_late=st.booleans(),
)
def test_requests_of_threads_run_once_and_no_credit_leaks(
    seed: int, routers: int, lenders: int, slots: int, is_late: bool
) -> None:
    world = Threads(seed, routers, lenders, slots, is_late)
    for _ in range(world.random.randrange(80)):
        router = world.random.choice([*world.routers])
        if world.random.random() < 0.6:
            world.take(router)
        else:
            world.submit(router)
        world.run(world.random.randrange(8))
    world.run_until_quiet()
    for router in world.routers:
        world.collect(router)
    world.run_until_quiet()
    for router in world.routers:
        world.collect(router)
    world.assert_all_served()
    if not is_late:
        world.assert_credits_add_up()
    for name, lender in world.lenders.items():
        for router, one in world.routers.items():
            # A report that came in between leaves out a credit, until the next one: none is ever lost.
            assert lender.holds(router) <= one._replicas[name].held
    assert len(world.finished) == len(world.submitted)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**9), slots=st.integers(1, 4))
def test_an_arrival_with_a_credit_changes_nothing_else(seed: int, slots: int) -> None:
    """A replica takes a shorter way for it, and a shorter one for its end; both lead to the same."""
    short, long = lending.Lender(slots), lending.Lender(slots)
    world = World(seed, 2, 1, slots)
    world.lenders["l0"] = short
    now = 0.0
    for number in range(world.random.randrange(1, 12)):
        router = world.random.choice(["a", "b"])
        wanted = world.random.randrange(3)
        held = short.holds(router)
        received = short._accounts[router].issued if router in short._accounts else 0
        assert short.report(router, wanted, held, received, now) == long.report(
            router, wanted, held, received, now
        )
        taken = [lending.Begin(number)] if short.begins(router) else short.arrived(router, number, now)
        assert taken == long.arrived(router, number, now)
        assert (short.running, short.lent, short.ongoing) == (long.running, long.lent, long.ongoing)
        assert short._accounts == long._accounts
        if world.random.random() < 0.5 and short.running:
            running = [name for name, one in short._accounts.items() if one.running]
            name = world.random.choice(running)
            assert short.ended(name, True, now) == long.ended(name, True, now)
