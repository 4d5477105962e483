"""The actors of a node: when they wait, start, run and are over, whatever their workers do."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from skate._base.errors import ActorUnschedulableError, RuntimeEnvSetupError
from skate._node.actors.placements import (
    MAX_LOST_WORKERS,
    AskToEnd,
    Command,
    Demand,
    Kill,
    NotAnActor,
    Placements,
    PlacementState,
    Release,
    ReportEnded,
    ReportFailed,
    Start,
    TellOwner,
    Withdraw,
)
from skate._wire import control

from ..._wire.samples import sample
from ...effort import effort

JOB = b"job"
ACTOR = b"actor", 3
NOTHING_BEGUN = b"", 0


def spec(job_config: bytes = b"") -> control.ActorSpec:
    found = sample(control.ActorSpec)
    assert isinstance(found, control.ActorSpec)
    return msgspec.structs.replace(
        found, class_name="Counter", job_config=job_config, owner_job=JOB, owner_id=b"owner"
    )


class Node:
    def __init__(self) -> None:
        self.jobs = {JOB}
        self.placements = Placements(self.jobs.__contains__)

    def place(self, actor: tuple[bytes, int] = ACTOR) -> int:
        """Return the shape of its demand."""
        (command,) = self.placements.place(actor, spec(), b"encoded")
        assert isinstance(command, Demand) and command.placement.actor == actor
        return command.shape

    def start(self, worker: bytes = b"w") -> None:
        start, withdraw = self.placements.granted(self.place(), worker, [])
        assert isinstance(start, Start) and isinstance(withdraw, Withdraw)

    def run(self, worker: bytes = b"w") -> None:
        self.start(worker)
        assert self.placements.accepted(worker) == []

    def end(self, cause: str = "it crashed", *, left: bool = False, intended: bool = False) -> list[Command]:
        return self.placements.worker_ended(b"w", cause, left=left, intended=intended, begun=(b"caller", 7))


@pytest.fixture
def node() -> Node:
    return Node()


# ---------------------------------------------------------------------- waiting


def test_it_is_started_in_the_worker_that_is_granted(node: Node) -> None:
    shape = node.place()
    assert node.placements.actor_of(shape) == b"actor"
    start, withdraw = node.placements.granted(shape, b"w", ["2"])
    assert isinstance(start, Start)
    assert (start.worker, start.gpus, start.placement.encoded_spec) == (b"w", ["2"], b"encoded")
    assert withdraw == Withdraw(shape), "one worker is all that it wants"
    assert node.placements.actor_of(shape) is None
    assert node.placements.hosted() == [ACTOR]


def test_each_demand_has_a_shape_of_its_own(node: Node) -> None:
    assert len({node.place((b"a%d" % number, 0)) for number in range(5)}) == 5


def test_one_that_is_stopped_while_it_waits_is_over_at_once(node: Node) -> None:
    shape = node.place()
    assert node.placements.stop(ACTOR, "ray.kill", False) == [Withdraw(shape), ReportEnded(ACTOR, "ray.kill")]
    assert node.placements.hosted() == []
    assert node.placements.granted(shape, b"w", []) == [Release(b"w")], "the grant was on its way"


def test_another_incarnation_is_another_actor(node: Node) -> None:
    node.place()
    assert node.placements.stop((b"actor", 2), "late", True) == []
    assert node.placements.hosted() == [ACTOR]


def test_its_owner_learns_why_it_waits(node: Node) -> None:
    shape = node.place()
    commands = node.placements.refused(shape, "it needs 9 CPUs", fatal=False, environment=False)
    assert commands == [TellOwner(b"owner", "actor Counter: it needs 9 CPUs")]
    assert node.placements.hosted() == [ACTOR]


def test_it_is_over_if_no_worker_can_be_had(node: Node) -> None:
    shape = node.place()
    _, ended = node.placements.refused(shape, "5 workers ended", fatal=True, environment=False)
    assert ended == ReportEnded(ACTOR, "it could not be placed: 5 workers ended")
    assert node.placements.hosted() == []
    assert node.placements.refused(shape, "again", fatal=True, environment=False) == []


def test_callers_get_the_error_itself_if_its_environment_cannot_be_had(node: Node) -> None:
    (failed,) = node.placements.refused(node.place(), "pip failed", fatal=True, environment=True)
    assert isinstance(failed, ReportFailed) and isinstance(failed.error, RuntimeEnvSetupError)
    assert "actor Counter: pip failed" in str(failed.error)
    assert node.placements.hosted() == []


def test_callers_get_the_error_itself_if_it_may_not_run_here(node: Node) -> None:
    (failed,) = node.placements.unschedulable(node.place(), "no node has zone=north")
    assert isinstance(failed, ReportFailed) and isinstance(failed.error, ActorUnschedulableError)
    assert node.placements.hosted() == []


def test_a_detached_actor_is_the_root_of_a_job_of_its_own(node: Node) -> None:
    (one,) = node.placements.place(ACTOR, spec(), b"")
    (other,) = node.placements.place((b"detached", 0), spec(job_config=b"{}"), b"")
    assert isinstance(one, Demand) and isinstance(other, Demand)
    assert (one.placement.job, other.placement.job) == (JOB, b"detached")


# ---------------------------------------------------------------------- starting


def test_another_worker_is_asked_if_one_refuses(node: Node) -> None:
    node.start()
    refused, demand, release = node.placements.worker_refused(b"w")
    assert refused == NotAnActor(b"w") and release == Release(b"w")
    assert isinstance(demand, Demand) and demand.placement.actor == ACTOR
    assert node.end() == [], "it has nothing to do with the actor any more"
    assert node.placements.hosted() == [ACTOR]


def test_another_worker_is_asked_if_one_was_about_to_leave(node: Node) -> None:
    """That costs the actor nothing, however often."""
    node.start()
    for _ in range(2 * MAX_LOST_WORKERS):
        (demand,) = node.end("it left", left=True)
        assert isinstance(demand, Demand)
        node.placements.granted(demand.shape, b"w", [])


def test_it_is_over_if_too_many_workers_end_before_they_accept(node: Node) -> None:
    node.start()
    for _ in range(MAX_LOST_WORKERS - 1):
        (demand,) = node.end()
        assert isinstance(demand, Demand)
        node.placements.granted(demand.shape, b"w", [])
    assert node.end() == [ReportEnded(ACTOR, "it crashed", False, (b"caller", 7))]
    assert node.placements.hosted() == []


def test_it_is_over_with_its_worker_if_its_job_is(node: Node) -> None:
    node.start()
    node.jobs.clear()
    assert node.end("its driver left") == [ReportEnded(ACTOR, "its driver left", False, (b"caller", 7))]


@pytest.mark.parametrize("graceful", [False, True])
def test_a_worker_that_has_not_accepted_is_not_killed(node: Node, graceful: bool) -> None:
    """It may own objects that others need."""
    node.start()
    assert node.placements.stop(ACTOR, "ray.kill", graceful) == []
    assert node.placements.accepted(b"w") == [Kill(b"w", "ray.kill")]
    assert node.end("killed", intended=True) == [ReportEnded(ACTOR, "killed", False, (b"caller", 7))]


def test_a_stopped_one_is_over_if_its_worker_refuses(node: Node) -> None:
    node.start()
    node.placements.stop(ACTOR, "ray.kill", False)
    ended = ReportEnded(ACTOR, "ray.kill")
    assert node.placements.worker_refused(b"w") == [NotAnActor(b"w"), ended, Release(b"w")]


def test_a_stopped_one_is_over_if_its_worker_ends(node: Node) -> None:
    node.start()
    node.placements.stop(ACTOR, "ray.kill", False)
    assert node.end() == [ReportEnded(ACTOR, "it crashed", False, (b"caller", 7))]


# ---------------------------------------------------------------------- running


def test_it_is_asked_to_end_or_killed(node: Node) -> None:
    node.run()
    assert node.placements.stop(ACTOR, "out of scope", True) == [AskToEnd(b"w", "out of scope")]
    assert node.placements.stop(ACTOR, "ray.kill", False) == [Kill(b"w", "ray.kill")]
    assert node.placements.hosted() == [ACTOR], "it is over when its worker is"


@pytest.mark.parametrize(
    ("left", "intended", "for_good"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
)
def test_only_one_that_left_for_good_is_not_restarted(
    node: Node, left: bool, intended: bool, for_good: bool
) -> None:
    """A worker that was killed on purpose did not leave: the control store knows why it had it killed."""
    node.run()
    assert node.end("x", left=left, intended=intended) == [ReportEnded(ACTOR, "x", for_good, (b"caller", 7))]
    assert node.placements.hosted() == []


def test_a_worker_that_is_no_actor_is_none_of_it(node: Node) -> None:
    for events in (node.placements.accepted, node.placements.worker_refused):
        assert events(b"other") == []
    assert node.end() == []
    node.run()
    assert node.placements.worker_refused(b"w") == [], "it had accepted"


# ---------------------------------------------------------------------- everything at random


class Anything(RuleBasedStateMachine):
    """The control store places and stops actors; workers do whatever they may."""

    def __init__(self) -> None:
        super().__init__()
        self.placements = Placements(lambda job: self.job_goes_on)
        self.job_goes_on = True
        self.placed: dict[tuple[bytes, int], bool] = {}  # and whether its end was reported
        self.demands: dict[int, tuple[bytes, int]] = {}
        self.workers: dict[bytes, tuple[bytes, int]] = {}
        self.accepted: set[bytes] = set()
        self.last = 0

    def carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Demand):
                actor = command.placement.actor
                assert command.placement.state is PlacementState.WAITING
                assert actor not in self.demands.values() and actor not in self.workers.values()
                self.demands[command.shape] = actor
            elif isinstance(command, Withdraw):
                self.demands.pop(command.shape, None)
            elif isinstance(command, Start):
                self.workers[command.worker] = command.placement.actor
            elif isinstance(command, NotAnActor):
                del self.workers[command.worker]
            elif isinstance(command, Kill | AskToEnd):
                assert command.worker in self.accepted, "killed, though it may own objects"
            elif isinstance(command, ReportEnded | ReportFailed):
                assert not self.placed[command.actor], "its end is reported twice"
                self.placed[command.actor] = True

    @rule()
    def place(self) -> None:
        actor = b"a%d" % len(self.placed), 0
        self.placed[actor] = False
        self.carry_out(self.placements.place(actor, spec(), b""))

    @precondition(lambda self: self.demands)
    @rule(data=st.data())
    def grant(self, data: st.DataObject) -> None:
        shape = data.draw(st.sampled_from(sorted(self.demands)))
        self.last += 1
        self.carry_out(self.placements.granted(shape, b"w%d" % self.last, []))

    @precondition(lambda self: self.demands)
    @rule(data=st.data(), fatal=st.booleans(), environment=st.booleans())
    def refuse(self, data: st.DataObject, fatal: bool, environment: bool) -> None:
        shape = data.draw(st.sampled_from(sorted(self.demands)))
        if fatal or environment:
            del self.demands[shape]
        self.carry_out(self.placements.refused(shape, "x", fatal=fatal, environment=environment))

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), what=st.sampled_from(["accepts", "refuses", "leaves", "crashes"]))
    def worker(self, data: st.DataObject, what: str) -> None:
        worker = data.draw(st.sampled_from(sorted(self.workers)))
        if what in ("accepts", "refuses") and worker not in self.accepted:
            if what == "accepts":
                self.accepted.add(worker)
                self.carry_out(self.placements.accepted(worker))
            else:
                self.carry_out(self.placements.worker_refused(worker))
        elif what in ("leaves", "crashes"):
            del self.workers[worker]
            self.carry_out(
                self.placements.worker_ended(
                    worker, "x", left=what == "leaves", intended=True, begun=NOTHING_BEGUN
                )
            )

    @precondition(lambda self: self.placed)
    @rule(data=st.data(), graceful=st.booleans())
    def stop(self, data: st.DataObject, graceful: bool) -> None:
        actor = data.draw(st.sampled_from(sorted(self.placed)))
        self.carry_out(self.placements.stop(actor, "x", graceful))

    @rule()
    def job_ends(self) -> None:
        self.job_goes_on = False

    @invariant()
    def all_that_are_not_over_are_somewhere(self) -> None:
        hosted: list[Any] = self.placements.hosted()
        assert sorted(hosted) == sorted(actor for actor, over in self.placed.items() if not over)
        assert sorted(hosted) == sorted([*self.demands.values(), *self.workers.values()])


TestAnything = Anything.TestCase
TestAnything.settings = effort(60)
