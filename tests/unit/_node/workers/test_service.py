"""Every way in which a worker can end, at every moment between demand and return, in any order of what
processes say: no lease is left with it, and nobody waits for what is free."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from skate._base.resources import UNIT
from skate._wire import node

from ...effort import effort
from ..machines import DRIVER, SHAPES, Node, Worker, playing

CPU = {"CPU": UNIT}


# ---------------------------------------------------------------------- one end, all orders


def orders(*sequences: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Return every way to merge the sequences."""
    left = [one for one in sequences if one]
    if not left:
        yield ()
    for one in left:
        rest = [other if other is not one else one[1:] for other in left]
        for following in orders(*rest):
            yield one[0], *following


#: What a process that ends does, and what is heard of it: its stream and the zygote are read in any order.
ENDS = {
    "leaves": (("leave", "hear", "end", "hear"), ("reap",)),
    "crashes": (("end", "hear"), ("reap",)),
    "is killed": (("kill", "end", "hear"), ("reap",)),
}
#: What it does when that begins.
SITUATIONS = ("idle", "asked to end", "granted", "leased", "to be an actor", "is an actor")


@pytest.mark.usefixtures("played")
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("end", ENDS)
def test_a_worker_ends_in_every_order(situation: str, end: str) -> None:
    """The others: a driver that returns its lease, then wants another one, and an actor that is created."""
    for order in orders(*ENDS[end], ("return",), ("create",)):
        if order.index("reap") > order.index("end"):
            _run(situation, order)


def _run(situation: str, order: tuple[str, ...]) -> None:
    here = Node(2 if "actor" in situation else 1, 1, 20)
    here.settle()
    driver = here.driver
    leases: list[int] = []

    def read() -> None:
        while driver.heard:
            message = driver.heard.popleft()
            if isinstance(message, node.LeaseGranted):
                leases.append(message.lease)
            elif isinstance(message, node.WorkerDied):
                leases.remove(message.lease)

    def give_back() -> None:
        read()
        driver.said.extend(node.LeaseDemand(shape, SHAPES[shape], 0, 0) for shape in (1, 2))
        driver.said.extend(map(node.LeaseReturned, leases))
        leases.clear()
        driver.drain()

    if "actor" in situation:
        here.place(b"first", CPU, CPU)
    elif situation != "idle":
        driver.said.append(node.LeaseDemand(2, SHAPES[2], 1, 0))
        driver.drain()
        if situation == "leased":
            read()
    leased = list(here.leases.leases.values())
    worker = here.played[leased[0].worker] if leased else next(iter(here.played.values()))
    if situation == "asked to end":
        give_back()
        here.daemon.context.settings.resources["CPU"] = 0
        worker.socket.heard.append(node.Exit())
        assert worker.id in here.leases.take_idle(0)
    elif situation == "is an actor":
        while here.read(worker):
            worker.socket.drain()
    for step in order:
        if step == "leave":
            worker.leave("max_calls")
        elif step == "hear":
            worker.socket.deliver()
        elif step == "end":
            here.crash(worker)
        elif step == "kill":
            process = here.workers.get(worker.id)
            assert process is not None
            here.daemon.workers.kill(process, "memory was short")
        elif step == "reap":
            while here.zygote:
                here.hear()
        elif step == "return":
            give_back()
            driver.said.append(node.LeaseDemand(1, CPU, 1, 0))
            driver.drain()
        elif step == "create":
            here.place(b"actor", SHAPES[2], SHAPES[2])
        here.check()
    for _ in range(3):  # it gives back what is granted to it, too late, meanwhile
        here.settle()
        give_back()
    here.check_at_rest({})
    assert "actor" not in situation or b"first" in here.alive or b"first" in here.over
    if b"first" in here.alive:
        here.stop(b"first", False)
        here.settle()
    assert b"actor" in here.alive, "an actor waits for ever"
    here.stop(b"actor", False)
    here.settle()
    assert here.leases.free == here.leases.total


# ---------------------------------------------------------------------- ends that do not come


@pytest.mark.usefixtures("played")
def test_a_worker_that_leaves_and_does_not_end_is_killed() -> None:
    """It runs ``atexit`` functions for ever; what was sent to it waits."""
    here = Node(1, 0, 20)
    here.settle()
    worker = next(iter(here.played.values()))
    worker.leave("max_calls")
    worker.socket.drain()
    process = here.workers.get(worker.id)
    assert process is not None and not process.reason
    here.time_passes()
    assert process.reason == "it left (max_calls), and did not end within 10 s"
    assert process.intended


@pytest.mark.usefixtures("played")
def test_one_that_leaves_and_ends_is_not() -> None:
    here = Node(1, 0, 20)
    here.settle()
    worker = next(iter(here.played.values()))
    worker.leave("max_calls")
    here.settle()
    here.time_passes()
    assert here.workers.get(worker.id) is None


# ---------------------------------------------------------------------- everything at random


@pytest.fixture
def played() -> Iterator[None]:
    """Play the processes of the daemons that a test makes."""
    with playing():
        yield


class WorkerEnds(RuleBasedStateMachine):
    """A driver with tasks and actors; workers that end however they may."""

    def __init__(self) -> None:
        super().__init__()
        self.playing = playing()
        self.playing.__enter__()
        self.here = Node(2, 1, 60)
        #: What the driver wants and has, by shape.
        self.wanted = dict.fromkeys(SHAPES, 0)
        self.held: dict[int, tuple[int, bytes]] = {}
        self.actors: list[bytes] = []
        self.stopped: set[bytes] = set()

    def teardown(self) -> None:
        try:
            self.rest()
            for shape in SHAPES:
                self.want(shape, 0)
            self.rest()
            for lease in list(self.held):
                self.give_back(lease)
            for actor in self.actors:
                if actor not in self.here.over and actor not in self.stopped:
                    self.here.stop(actor, False)
            self.rest()
            assert self.here.leases.free == self.here.leases.total, "something is held by nobody"
            assert set(self.here.over) == set(self.actors), "an actor's end was not told"
        finally:
            self.playing.__exit__(None, None, None)

    # ------------------------------------------------------------------ the driver

    def want(self, shape: int, count: int) -> None:
        self.wanted[shape] = count
        self.here.driver.said.append(node.LeaseDemand(shape, SHAPES[shape], count, 0))

    def give_back(self, lease: int) -> None:
        del self.held[lease]
        self.here.driver.said.append(node.LeaseReturned(lease))

    @initialize()
    def workers_are_ready(self) -> None:
        """Those that are started ahead: else most of a run would be spent on that."""
        self.here.settle()

    @rule(shape=st.sampled_from(sorted(SHAPES)), count=st.integers(0, 3), at_once=st.booleans())
    def demands(self, shape: int, count: int, at_once: bool) -> None:
        self.want(shape, count)
        if at_once:
            self.here.driver.drain()
            self.driver_reads()

    @precondition(lambda self: self.here.driver.heard)
    @rule()
    def driver_reads(self) -> None:
        while self.here.driver.heard:
            self.read()

    def read(self) -> None:
        message = self.here.driver.heard.popleft()
        if isinstance(message, node.LeaseGranted):
            worker = self.here.played[message.worker_id]
            if worker.alive and not worker.leaving:
                self.held[message.lease] = (message.shape, message.worker_id)
            else:  # it cannot be dialled
                self.here.driver.said.append(node.LeaseReturned(message.lease))
        elif isinstance(message, node.WorkerDied) and message.lease in self.held:
            shape, _ = self.held.pop(message.lease)
            self.want(shape, self.wanted[shape])
        elif isinstance(message, node.DemandRefused) and message.fatal:
            self.wanted[message.shape] = 0  # its tasks have failed

    @precondition(lambda self: self.held)
    @rule(data=st.data(), at_once=st.booleans())
    def driver_returns(self, data: st.DataObject, at_once: bool) -> None:
        lease = data.draw(st.sampled_from(sorted(self.held)), "lease")
        self.want(self.held[lease][0], 0)
        self.give_back(lease)
        if at_once:
            self.here.driver.drain()

    @precondition(lambda self: self.here.driver.said)
    @rule()
    def driver_is_heard(self) -> None:
        self.here.driver.deliver()

    # ------------------------------------------------------------------ the zygote

    @precondition(lambda self: self.here.machine.spawning)
    @rule(works=st.sampled_from([True, True, True, False]), at_once=st.booleans())
    def forks(self, works: bool, at_once: bool) -> None:
        self.here.fork(works)
        if at_once:
            self.zygote_is_heard()

    @precondition(lambda self: self.here.zygote)
    @rule()
    def zygote_is_heard(self) -> None:
        while self.here.zygote:
            self.here.hear()

    # ------------------------------------------------------------------ workers

    def some(self, data: st.DataObject) -> Worker:
        """Choose a process, those that serve somebody first."""
        leases = self.here.leases
        played = sorted(self.here.played.values(), key=lambda one: (leases.lease_of(one.id) is None, one.id))
        return played[data.draw(st.integers(0, len(played) - 1), "worker")]

    @precondition(lambda self: self.here.played)
    @rule(data=st.data(), refuses=st.booleans(), heard=st.booleans())
    def worker_reads(self, data: st.DataObject, refuses: bool, heard: bool) -> None:
        worker = self.some(data)
        self.here.read(worker, refuses)
        if heard:
            worker.socket.drain()

    @precondition(lambda self: self.here.played)
    @rule(data=st.data())
    def worker_is_heard(self, data: st.DataObject) -> None:
        self.some(data).socket.deliver()

    @precondition(lambda self: self.here.played)
    @rule(data=st.data(), heard=st.booleans())
    def worker_leaves(self, data: st.DataObject, heard: bool) -> None:
        """Its function was called often enough, or a method called exit_actor."""
        worker = self.some(data)
        if worker.alive and not worker.leaving:
            worker.leave("max_calls")
            if heard:
                worker.socket.drain()

    @precondition(lambda self: self.here.played)
    @rule(data=st.data(), heard=st.booleans())
    def worker_ends(self, data: st.DataObject, heard: bool) -> None:
        """It crashes, or is through with leaving: its stream ends, and the zygote will reap it."""
        worker = self.some(data)
        self.here.crash(worker)
        if heard:
            worker.socket.drain()

    @precondition(lambda self: self.here.played)
    @rule(data=st.data())
    def daemon_kills(self, data: st.DataObject) -> None:
        """Memory is short, or a call was cancelled with force."""
        process = self.here.workers.get(self.some(data).id)
        if process is not None:
            self.here.daemon.workers.kill(process, "memory was short")

    @rule()
    def idle_ones_are_asked_to_end(self) -> None:
        self.here.daemon.leases.retire_idle()

    # ------------------------------------------------------------------ actors

    @rule(running=st.sampled_from([{}, CPU, CPU | {"GPU": UNIT}]))
    def creates_an_actor(self, running: dict[str, int]) -> None:
        actor = b"actor %03d" % len(self.actors)
        self.actors.append(actor)
        self.here.place(actor, running, running or CPU)

    @precondition(lambda self: self.actors)
    @rule(data=st.data(), graceful=st.booleans())
    def stops_an_actor(self, data: st.DataObject, graceful: bool) -> None:
        actor = data.draw(st.sampled_from(self.actors), "actor")
        if actor not in self.here.over and actor not in self.stopped:
            self.stopped.add(actor)
            self.here.stop(actor, graceful)

    # ------------------------------------------------------------------ what holds

    @rule()
    def rest(self) -> None:
        """Everything arrives; the driver uses what it has as long as it likes."""
        for _ in range(100):
            self.here.settle()
            if not self.here.driver.heard:
                break
            while self.here.driver.heard:
                self.read()
        else:
            raise AssertionError("it does not come to rest")
        self.here.check_at_rest(self.wanted)
        assert not self.stopped - set(self.here.over), "an actor that was stopped goes on"
        has = {lease.id for lease in self.here.leases.leases.values() if lease.owner == DRIVER}
        assert has == set(self.held), "the driver and the daemon disagree on who has what"

    @invariant()
    def nothing_is_left_behind(self) -> None:
        self.here.check()


TestWorkerEnds = WorkerEnds.TestCase
TestWorkerEnds.settings = effort(80)


@pytest.mark.usefixtures("played")
def test_a_worker_whose_hook_failed_is_no_failed_start() -> None:
    """Those who waited for it were refused with the hook's error. Others ask before the process is gone: they wait
    for the next worker, however many have ended so.
    """
    here = Node(1, 1, 20)
    here.settle()
    counted: list[bool] = []
    here.daemon.workers.on_ended.append(lambda ended: counted.append(ended.counts_as_failed_start))
    for worker in list(here.played.values()):
        here.crash(worker)
        worker.socket.deliver()
    counted.clear()
    here.place(b"first", CPU, CPU)
    while here.zygote:
        here.hear()
    here.fork(True)
    here.hear()
    worker = list(here.played.values())[-1]
    worker.socket.said[-1] = msgspec.structs.replace(worker.socket.said[-1], error="the hook raised")
    worker.socket.deliver()
    here.crash(worker)
    while worker.socket.deliver():
        pass
    while here.zygote:
        here.hear()
    assert counted[-1] is False
