"""Leases: who gets which worker, in which order, and that every resource comes back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from skate._base.resources import UNIT, fits
from skate._node.leases.records import (
    Command,
    Grant,
    Lease,
    LeaseState,
    OwnerLeft,
    Reclaim,
    Refuse,
    StartWorkers,
)
from skate._node.leases.table import FAILED_STARTS_LIMIT, ZERO_SHAPE_LIMIT, LeaseTable

from ...effort import effort

JOB = b"job"
CPU = {"CPU": UNIT}
HALF = {"CPU": UNIT // 2}
GPU = {"GPU": UNIT}
ACTORS = b"actors"


class Node:
    """A lease table whose commands are carried out at once, but for starting workers."""

    def __init__(self, cpus: float = 1, max_workers: int = 100, workers: int = 0, **others: int) -> None:
        total = {"CPU": int(cpus * UNIT)} | {name: count * UNIT for name, count in others.items()}
        gpus = [str(index) for index in range(others.get("GPU", 0))]
        self.leases = LeaseTable({name: units for name, units in total.items() if units}, max_workers, gpus)
        self._workers = 0
        self.start(workers)

    def start(self, count: int = 1) -> list[Command]:
        """Workers that were being started say hello."""
        commands: list[Command] = []
        for _ in range(count):
            self.leases.starting(JOB, 1)
            self._workers += 1
            commands += self.leases.worker_ready(b"w%d" % self._workers, JOB)
        return commands

    def want(
        self, owner: bytes, count: int = 1, resources: dict[str, int] = CPU, *, shape: int = 1, depth: int = 0
    ) -> list[Command]:
        return self.leases.demand(owner, shape, JOB, resources, count, depth, dedicated=owner == ACTORS)

    def of(self, owner: bytes) -> list[Lease]:
        return [lease for lease in self.leases.leases.values() if lease.owner == owner]

    def in_use(self, name: str = "CPU") -> float:
        return (self.leases.total[name] - self.leases.free[name]) / UNIT


def granted(commands: Iterable[Command]) -> list[bytes]:
    """Return the owners of granted leases, in order."""
    return [command.lease.owner for command in commands if isinstance(command, Grant)]


def lease_of(commands: Iterable[Command]) -> Lease:
    (lease,) = [command.lease for command in commands if isinstance(command, Grant)]
    return lease


# ---------------------------------------------------------------------- reserved, granted, gone


def test_a_demand_is_reserved_first_and_granted_when_a_worker_is_there() -> None:
    node = Node(cpus=2)
    assert node.want(b"a") == [StartWorkers(JOB, 1)]
    (lease,) = node.of(b"a")
    assert lease.state is LeaseState.RESERVED
    assert node.in_use() == 1
    commands = node.start()
    assert commands == [Grant(lease)]
    assert lease.state is LeaseState.GRANTED
    assert lease.worker == b"w1"
    assert node.in_use() == 1


def test_an_idle_worker_is_granted_at_once() -> None:
    node = Node(workers=1)
    lease = lease_of(node.want(b"a"))
    assert (lease.worker, lease.owner, lease.shape) == (b"w1", b"a", 1)


def test_the_worker_used_last_is_used_first() -> None:
    node = Node(cpus=2, workers=2)
    assert lease_of(node.want(b"a")).worker == b"w2"


def test_only_as_many_workers_are_started_as_are_not_on_their_way() -> None:
    node = Node(cpus=4)
    node.leases.starting(JOB, 2)
    assert node.want(b"a", 3) == [StartWorkers(JOB, 1)]
    node.leases.starting(JOB, 1)
    assert node.want(b"b", 1) == [StartWorkers(JOB, 1)]


def test_no_more_is_granted_than_the_node_has() -> None:
    node = Node(cpus=2, workers=5)
    assert granted(node.want(b"a", 5)) == [b"a", b"a"]
    assert node.in_use() == 2


def test_fractions_share_a_cpu() -> None:
    node = Node(cpus=1, workers=3)
    assert granted(node.want(b"a", 3, HALF)) == [b"a", b"a"]


def test_a_demand_is_absolute() -> None:
    node = Node(cpus=4, workers=4)
    assert granted(node.want(b"a", 2)) == [b"a", b"a"]
    assert node.want(b"a", 2) == []
    assert granted(node.want(b"a", 3)) == [b"a"]


def test_what_was_granted_stays_when_the_demand_falls() -> None:
    node = Node(cpus=2, workers=2)
    node.want(b"a", 2)
    assert node.want(b"a", 1) == []
    assert len(node.of(b"a")) == 2


def test_a_reservation_goes_when_the_demand_falls() -> None:
    node = Node(cpus=4, workers=1)
    node.want(b"a", 3)
    node.want(b"a", 1)
    assert [lease.state for lease in node.of(b"a")] == [LeaseState.GRANTED]
    assert node.in_use() == 1


@pytest.mark.parametrize("repeats", [1, 2])
def test_a_demand_can_be_withdrawn_before_its_worker_is_there(repeats: int) -> None:
    """An actor that is killed before it is placed, a task cancelled while its worker starts."""
    node = Node()
    node.want(b"a")
    for _ in range(repeats):
        node.want(b"a", 0)
    assert node.of(b"a") == []
    assert node.in_use() == 0
    assert granted(node.start()) == []
    assert granted(node.want(b"b")) == [b"b"]


def test_a_demand_for_nothing_is_no_demand() -> None:
    node = Node(workers=1)
    assert node.want(b"a", 0) == []
    assert not node.leases.waiting


def test_a_returned_lease_leaves_its_worker_to_the_next() -> None:
    node = Node(workers=1)
    first = lease_of(node.want(b"a"))
    node.want(b"b")
    node.want(b"a", 0)
    commands = node.leases.returned(first.id)
    second = lease_of(commands)
    assert (second.owner, second.worker) == (b"b", first.worker)
    assert node.in_use() == 1


def test_who_gives_a_lease_up_for_another_does_not_get_it_back_at_once() -> None:
    """Else an owner with much to do keeps the node to itself, however often it is asked to share."""
    node = Node(workers=1)
    first = lease_of(node.want(b"a", 5))
    node.want(b"b")
    assert node.leases.unmet() == [Reclaim(b"a", 1)]
    node.want(b"a", 4)  # its current task is through
    assert granted(node.leases.returned(first.id)) == [b"b"]


def test_a_late_repeat_of_a_return_changes_nothing() -> None:
    node = Node(workers=1)
    lease = lease_of(node.want(b"a"))
    node.want(b"a", 0)
    node.leases.returned(lease.id)
    assert node.leases.returned(lease.id) == []
    assert node.in_use() == 0
    assert granted(node.want(b"b", 2)) == [b"b"]


def test_the_lease_of_a_lost_worker_is_gone_and_its_resources_are_free() -> None:
    node = Node(workers=1)
    lease = lease_of(node.want(b"a"))
    lost, commands = node.leases.worker_lost(lease.worker)
    assert lost is lease
    assert commands == [StartWorkers(JOB, 1)]  # it still wants one
    assert node.leases.worker_count == 0


def test_a_lost_idle_worker_is_granted_to_nobody() -> None:
    node = Node(cpus=2, workers=2)
    assert node.leases.worker_lost(b"w2") == (None, [])
    assert lease_of(node.want(b"a")).worker == b"w1"
    assert node.want(b"b") == [StartWorkers(JOB, 1)]


def test_a_worker_that_did_not_come_to_life_is_replaced() -> None:
    node = Node()
    node.want(b"a")
    node.leases.starting(JOB, 1)
    assert node.leases.worker_not_started(JOB, "it crashed") == [StartWorkers(JOB, 1)]


def test_when_no_worker_comes_to_life_who_waits_for_one_is_refused() -> None:
    node = Node(cpus=2)
    node.want(b"a")
    node.leases.starting(JOB, 1)
    for _ in range(FAILED_STARTS_LIMIT - 1):
        assert node.leases.worker_not_started(JOB, "it crashed") == [StartWorkers(JOB, 1)]
        node.leases.starting(JOB, 1)
    (refusal,) = node.leases.worker_not_started(JOB, "it crashed")
    assert isinstance(refusal, Refuse)
    assert (refusal.owner, refusal.shape, refusal.fatal) == (b"a", 1, True)
    assert refusal.reason == "5 worker processes in a row ended before they were ready; the last: it crashed"
    assert node.in_use() == 0
    # Who asks again is not refused for what was.
    assert node.want(b"b") == [StartWorkers(JOB, 1)]


def test_starts_that_fail_together_count_once() -> None:
    """The zygote died while it forked many: default actors are not held back by CPUs."""
    node = Node(cpus=1)
    node.want(ACTORS, 9, {})
    node.leases.starting(JOB, 9)
    commands = node.leases.worker_not_started(JOB, "its zygote died")
    for _ in range(8):
        commands += node.leases.worker_not_started(JOB, "its zygote died", counts=False)
    assert not [one for one in commands if isinstance(one, Refuse)]
    assert len(node.of(ACTORS)) == 9


def test_a_pool_that_cannot_be_had_is_refused_to_all_who_want_it_and_to_no_others() -> None:
    node = Node(cpus=2)
    node.want(b"a", 5)
    node.want(b"b", 1)
    node.leases.demand(b"c", 1, b"another", CPU, 1, 0)
    commands = node.leases.refuse_pool(JOB, "its hook raised")
    assert [one for one in commands if isinstance(one, Refuse)] == [
        Refuse(owner, 1, "its hook raised", fatal=True, environment=True) for owner in (b"a", b"b")
    ]
    (lease,) = node.leases.leases.values()
    assert lease.owner == b"c"
    assert node.in_use() == 1


def test_what_a_pool_runs_already_goes_on_when_no_more_of_it_can_be_had() -> None:
    node = Node(cpus=3, workers=1)
    node.want(b"a", 3)
    commands = node.leases.refuse_pool(JOB, "its hook raised")
    assert commands == [Refuse(b"a", 1, "its hook raised", fatal=True, environment=True)]
    assert [lease.state for lease in node.of(b"a")] == [LeaseState.GRANTED]
    assert node.leases.refuse_pool(JOB, "again") == []


def test_failed_starts_count_only_in_a_row() -> None:
    node = Node(cpus=2)
    node.want(b"a", 2)
    node.leases.starting(JOB, 10)
    for _ in range(FAILED_STARTS_LIMIT - 1):
        node.leases.worker_not_started(JOB, "it crashed")
    node.leases.worker_ready(b"w", JOB)
    assert node.leases.worker_not_started(JOB, "it crashed") == []


def test_workers_serve_the_job_that_they_were_started_for() -> None:
    node = Node(cpus=2, workers=1)
    assert node.leases.demand(b"x", 1, b"other", CPU, 1, 0) == [StartWorkers(b"other", 1)]


# ---------------------------------------------------------------------- workers that are about to end


def test_an_ending_worker_is_granted_to_nobody() -> None:
    node = Node(cpus=2, workers=1)
    node.leases.worker_ending(b"w1")
    assert node.want(b"a") == [StartWorkers(JOB, 1)]
    assert node.leases.take_idle(0) == []
    assert node.leases.put_back(b"w1") == []


def test_a_lease_returned_while_its_worker_ends_goes_to_another_worker() -> None:
    """An actor was given the worker of a GPU task that was leaving, and waited for ever."""
    node = Node(workers=1)
    lease = lease_of(node.want(b"a"))
    node.want(b"b")
    node.want(b"a", 0)
    node.leases.worker_ending(lease.worker)
    assert node.leases.returned(lease.id) == [StartWorkers(JOB, 1)]
    assert node.leases.worker_lost(lease.worker)[0] is None
    assert granted(node.start()) == [b"b"]


def test_an_ending_worker_keeps_its_devices_until_it_is_gone() -> None:
    node = Node(cpus=2, workers=2, GPU=1)
    lease = lease_of(node.want(b"a", 1, CPU | GPU))
    node.want(b"b", 1, CPU | GPU)
    node.want(b"a", 0, CPU | GPU)
    node.leases.worker_ending(lease.worker)
    assert granted(node.leases.returned(lease.id)) == []
    assert (node.in_use("CPU"), node.in_use("GPU")) == (0, 1)
    assert granted(node.leases.worker_lost(lease.worker)[1]) == [b"b"]


def test_a_worker_that_is_killed_before_its_hello_is_granted_to_nobody() -> None:
    node = Node()
    node.want(b"a")
    node.leases.starting(JOB, 1)
    node.leases.worker_ending(b"w")
    assert granted(node.leases.worker_ready(b"w", JOB)) == []
    node.leases.worker_lost(b"w")
    assert granted(node.start()) == [b"a"]


def test_while_a_worker_ends_room_may_come() -> None:
    node = blocked_node(2, 2)
    node.leases.worker_ending(b"w1")
    assert node.want(b"w2", depth=1) == []
    assert node.leases.worker_lost(b"w1")[1] != []


# ---------------------------------------------------------------------- blocked


def test_a_blocked_worker_lends_its_cpus_and_nothing_else() -> None:
    node = Node(cpus=1, workers=2, GPU=1)
    lease = lease_of(node.want(b"a", 1, CPU | GPU))
    node.want(b"b")
    commands = node.leases.blocked(lease.worker, True)
    assert granted(commands) == [b"b"]
    assert lease.state is LeaseState.BLOCKED
    assert node.in_use("GPU") == 1


def test_a_worker_that_wakes_takes_its_cpus_back_though_they_are_lent() -> None:
    node = Node(cpus=1, workers=3)
    lease = lease_of(node.want(b"a"))
    node.want(b"b", 2)
    other = lease_of(node.leases.blocked(lease.worker, True))
    assert node.leases.blocked(lease.worker, False) == []
    assert node.in_use() == 2
    node.want(b"a", 0)
    # Nobody new begins until both are through.
    assert granted(node.leases.returned(other.id)) == []
    assert granted(node.leases.returned(lease.id)) == [b"b"]
    assert node.in_use() == 1


@pytest.mark.parametrize("blocked", [True, False])
def test_saying_it_twice_counts_once(blocked: bool) -> None:
    node = Node(workers=1)
    lease = lease_of(node.want(b"a"))
    node.leases.blocked(lease.worker, True)
    for _ in range(2):
        assert node.leases.blocked(lease.worker, blocked) == []
    assert node.in_use() == (0 if blocked else 1)


def test_idle_workers_and_strangers_have_nothing_to_lend() -> None:
    node = Node(workers=1)
    assert node.leases.blocked(b"w1", True) == []
    assert node.leases.blocked(b"nobody", True) == []
    assert node.in_use() == 0


@pytest.mark.parametrize("end", ["returned", "lost", "owner gone"])
def test_a_blocked_lease_gives_back_what_it_has_not_lent(end: str) -> None:
    node = Node(cpus=1, workers=1, GPU=1)
    lease = lease_of(node.want(b"a", 1, CPU | GPU))
    node.leases.blocked(lease.worker, True)
    if end == "returned":
        node.leases.returned(lease.id)
    elif end == "lost":
        node.want(b"a", 0)
        node.leases.worker_lost(lease.worker)
    else:
        node.leases.owner_gone(b"a")
    assert node.leases.free == node.leases.total | ({} if end != "returned" else node.leases.free)
    if end != "returned":
        assert node.leases.leases == {}


# ---------------------------------------------------------------------- order


def test_deeper_callers_come_first() -> None:
    node = Node(workers=1)
    first = lease_of(node.want(b"driver", 3))
    node.want(b"outer", depth=1)
    node.want(b"inner", depth=2)
    assert granted(node.leases.returned(first.id)) == [b"inner"]


def test_among_equals_the_one_with_the_fewest_leases_comes_first() -> None:
    node = Node(cpus=3, workers=3)
    (first, *_) = [c.lease for c in node.want(b"rich", 9) if isinstance(c, Grant)]
    node.want(b"poor", 9)
    assert granted(node.leases.returned(first.id)) == [b"poor"]
    assert len(node.of(b"rich")) == 2


def test_owners_that_come_together_share_evenly() -> None:
    node = Node(cpus=4)
    for owner in (b"a", b"b"):
        node.want(owner, 9)
    node.leases.owner_gone(b"a")
    node.want(b"a", 9)
    assert Counter(lease.owner for lease in node.leases.leases.values()) == {b"b": 4}
    shared = Node(cpus=0.5)
    shared.want(b"a", 9)
    shared.want(b"b", 9)
    shared.leases.free["CPU"] += 4 * UNIT
    shared.leases.total["CPU"] += 4 * UNIT
    shared.start(4)
    assert Counter(lease.owner for lease in shared.leases.leases.values()) == {b"a": 2, b"b": 2}


def test_then_who_came_first() -> None:
    node = Node(workers=1)
    first = lease_of(node.want(b"x"))
    node.want(b"b")
    node.want(b"a")
    node.want(b"x", 0)
    assert granted(node.leases.returned(first.id)) == [b"b"]


@effort(60)
@given(
    st.dictionaries(
        st.sampled_from([b"a", b"b", b"c", b"d"]), st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1
    ),
    st.permutations([b"a", b"b", b"c", b"d"]),
)
def test_the_next_one_is_the_deepest_then_the_poorest_then_the_first(
    owners: dict[bytes, tuple[int, int]], arrival: list[bytes]
) -> None:
    """``owners``: how many leases each has, and how deep it is; then one more becomes free."""
    node = Node(cpus=1 + sum(held for held, _ in owners.values()), workers=20)
    stop = lease_of(node.want(b"stop"))
    for owner, (held, depth) in owners.items():
        node.want(owner, held, depth=depth)
    order = [owner for owner in arrival if owner in owners]
    for owner in order:
        node.want(owner, 9, depth=owners[owner][1], shape=2)
    node.want(b"stop", 0)
    expected = min(order, key=lambda owner: (-owners[owner][1], owners[owner][0], order.index(owner)))
    assert granted(node.leases.returned(stop.id)) == [expected]


def test_a_shape_that_does_not_fit_now_does_not_hold_up_the_others() -> None:
    node = Node(cpus=2, workers=3)
    node.want(b"x", 1, HALF)
    assert node.want(b"big", 1, {"CPU": 2 * UNIT}) == []
    assert granted(node.want(b"small")) == [b"small"]


# ---------------------------------------------------------------------- tasks that need nothing


def test_tasks_that_take_no_resources_are_limited_too() -> None:
    node = Node(workers=ZERO_SHAPE_LIMIT + 5, max_workers=500)
    assert len(granted(node.want(b"a", 500, {}))) == ZERO_SHAPE_LIMIT
    node.leases.blocked(node.of(b"a")[0].worker, True)
    assert len(node.of(b"a")) == ZERO_SHAPE_LIMIT + 1


def test_actors_that_take_no_resources_are_not_limited() -> None:
    node = Node(workers=ZERO_SHAPE_LIMIT + 5, max_workers=500)
    assert len(granted(node.want(ACTORS, ZERO_SHAPE_LIMIT + 5, {}))) == ZERO_SHAPE_LIMIT + 5


def test_an_actor_that_takes_the_last_idle_worker_has_a_spare_started() -> None:
    node = Node(workers=2)
    assert node.want(ACTORS, 1, {})[1:] == []
    assert node.want(ACTORS, 2, {})[1:] == [StartWorkers(JOB, 1)]
    assert Node(workers=1, max_workers=1).want(ACTORS, 1, {})[1:] == []


# ---------------------------------------------------------------------- owners that go


def test_an_owner_that_goes_takes_its_demands_and_leases_along() -> None:
    node = Node(cpus=2, workers=1)
    node.want(b"a", 5)
    lease = next(lease for lease in node.of(b"a") if lease.worker)
    node.want(b"b")
    commands = node.leases.owner_gone(b"a")
    # Its worker runs something for nobody: it ends. The reservation moves on.
    assert OwnerLeft(lease.worker, lease.owner) in commands
    assert node.of(b"a") == []
    assert [lease.state for lease in node.of(b"b")] == [LeaseState.RESERVED]
    assert granted(node.start()) == [b"b"]


def test_the_worker_of_an_owner_that_went_is_granted_to_nobody() -> None:
    node = Node(cpus=2, workers=1)
    lease = lease_of(node.want(b"a"))
    node.leases.owner_gone(b"a")
    assert granted(node.want(b"b")) == []
    lost, _ = node.leases.worker_lost(lease.worker)
    assert lost is None


# ---------------------------------------------------------------------- refusals


def test_what_can_never_be_had_is_refused_once() -> None:
    node = Node(cpus=1, workers=1)
    (refusal,) = node.want(b"a", 1, {"CPU": 2 * UNIT, "GPU": UNIT})
    assert isinstance(refusal, Refuse)
    assert (refusal.owner, refusal.shape, refusal.fatal) == (b"a", 1, False)
    assert refusal.reason == "it needs {CPU: 2, GPU: 1}, and this node has {CPU: 1, GPU: 0} in all"
    assert node.want(b"a", 2, {"CPU": 2 * UNIT, "GPU": UNIT}) == []
    assert node.start() == []
    assert not node.leases.waiting  # for the time slices: nobody else can help


def test_the_others_go_on_while_one_cannot_be_served() -> None:
    node = Node(cpus=1, workers=1)
    node.want(b"a", 1, GPU)
    assert granted(node.want(b"b")) == [b"b"]


def blocked_node(workers: int, max_workers: int) -> Node:
    """Every worker waits in get() for tasks that would need more workers."""
    node = Node(cpus=10, workers=workers, max_workers=max_workers)
    node.want(b"driver", workers)
    for lease in node.of(b"driver"):
        node.leases.blocked(lease.worker, True)
    return node


def test_when_every_worker_waits_for_yet_another_one_there_is_a_clear_error() -> None:
    node = blocked_node(2, 2)
    (refusal,) = node.want(b"w1", depth=1)
    assert isinstance(refusal, Refuse)
    assert (refusal.owner, refusal.fatal) == (b"w1", True)
    assert "all 2 worker processes of this node (the limit: SKATE_MAX_WORKERS)" in refusal.reason
    assert "nest tasks less deeply" in refusal.reason
    assert node.of(b"w1") == []
    assert node.in_use() == 0
    # Said once: those tasks have failed.
    assert node.leases.blocked(b"w2", False) == node.leases.blocked(b"w2", True) == []


def test_while_somebody_runs_room_may_come() -> None:
    node = blocked_node(2, 2)
    node.leases.blocked(b"w1", False)
    assert node.want(b"w2", depth=1) == []


def test_while_a_worker_starts_room_may_come() -> None:
    node = blocked_node(2, 3)
    assert node.want(b"w1", depth=1) == [StartWorkers(JOB, 1)]
    node.leases.starting(JOB, 1)
    assert node.want(b"w2", depth=1) == []


def test_as_long_as_one_more_worker_may_be_started_nothing_is_refused() -> None:
    node = blocked_node(2, 4)
    assert node.want(b"w1", 3, depth=1) == [StartWorkers(JOB, 2)]


def test_workers_that_are_about_to_end_make_room() -> None:
    node = Node(cpus=10, workers=2, max_workers=2)
    lease = lease_of(node.want(b"driver"))
    node.leases.blocked(lease.worker, True)
    assert node.leases.take_idle(0) == [b"w1"]  # told to end; it may also refuse
    assert node.want(lease.worker, depth=1) == []
    assert node.leases.worker_lost(b"w1")[1] == [StartWorkers(JOB, 1)]


def test_two_jobs_together_do_not_exceed_the_limit() -> None:
    node = Node(cpus=0.5, max_workers=1)
    for job in (b"one", b"two"):
        node.leases.demand(job, 1, job, CPU, 1, 0)
    node.leases.free["CPU"] = node.leases.total["CPU"] = 4 * UNIT
    commands = node.leases.demand(b"three", 1, b"one", CPU, 1, 0)
    assert sum(command.number for command in commands if isinstance(command, StartWorkers)) <= 1


# ---------------------------------------------------------------------- sharing and retiring


def test_who_waits_gets_a_share_of_who_has_many() -> None:
    node = Node(cpus=3, workers=3)
    node.want(b"rich", 9)
    assert node.leases.unmet() == [Reclaim(b"rich", 0)]  # it waits itself; others' idle ones would help
    node.want(b"poor")
    assert node.leases.unmet() == [Reclaim(b"rich", 1)]


def test_nobody_is_asked_while_nobody_waits() -> None:
    node = Node(cpus=3, workers=3)
    node.want(b"rich", 3)
    assert node.leases.unmet() == []
    node.want(b"dreamer", 1, {"CPU": 100 * UNIT})
    assert node.leases.unmet() == []


def test_equals_are_asked_for_idle_leases_only() -> None:
    node = Node(cpus=2, workers=2)
    node.want(b"a", 1)
    node.want(b"b", 1)
    node.want(b"a", 2)
    assert node.leases.unmet() == [Reclaim(b"a", 0), Reclaim(b"b", 0)]


def test_a_lease_is_asked_back_once() -> None:
    """A time slice is ten milliseconds; what was asked back comes when its task is through."""
    node = Node(cpus=3, workers=3)
    node.want(b"rich", 3)
    node.want(b"poor")
    asked = [command for _ in range(5) for command in node.leases.unmet()]
    assert sum(command.busy for command in asked if isinstance(command, Reclaim)) == 1


def test_any_lease_will_do_for_the_one_that_was_asked_back() -> None:
    node = Node(cpus=3, workers=3)
    node.want(b"rich", 3)
    node.want(b"poor")
    node.leases.unmet()
    (asked,) = [lease for lease in node.of(b"rich") if lease.retiring]
    other = next(lease for lease in node.of(b"rich") if lease is not asked)
    assert granted(node.leases.returned(other.id)) == [b"poor"]
    assert not asked.retiring
    node.want(b"third")
    assert Reclaim(b"rich", 1) in node.leases.unmet(), "it may be asked again"


def test_an_actor_does_not_get_a_worker_that_owns_something() -> None:
    node = Node(cpus=3, workers=2)
    node.leases.refused_dedication(b"w2")
    lease = lease_of(node.want(ACTORS))
    assert lease.worker == b"w1"
    assert granted(node.want(ACTORS, 1, shape=2)) == [], "w2 is left"
    assert lease_of(node.want(b"a")).worker == b"w2"


def test_what_can_never_be_had_here_waits_and_says_so_once() -> None:
    node = Node(cpus=3, workers=2)
    (refusal,) = node.leases.demand(b"a", 1, JOB, CPU, 1, 0, "it needs a node with zone=north")
    assert refusal == Refuse(b"a", 1, "it needs a node with zone=north", fatal=False)
    assert node.leases.demand(b"a", 1, JOB, CPU, 2, 0, "it needs a node with zone=north") == []
    assert node.leases.unmet() == []
    assert granted(node.want(b"a", 1, shape=2)) == [b"a"]


def test_whom_a_worker_serves() -> None:
    node = Node(cpus=3, workers=2)
    lease = lease_of(node.want(b"a"))
    assert node.leases.lease_of(lease.worker) is lease
    assert node.leases.lease_of(b"w1") is None
    node.leases.take_idle(0)
    node.leases.worker_lost(b"w1")
    assert node.leases.put_back(b"w1") == [], "it ended all the same"


def test_idle_workers_beyond_what_is_kept_are_taken_oldest_first() -> None:
    node = Node(cpus=4, workers=4)
    assert node.leases.take_idle(2) == [b"w1", b"w2"]
    assert node.leases.take_idle(2) == []
    assert len(granted(node.want(b"a", 4))) == 2


def test_idle_workers_of_all_jobs_and_environments_count_together() -> None:
    node = Node(cpus=4)
    for number in range(4):
        node.leases.starting(b"pool %d" % number, 1)
        node.leases.worker_ready(b"w%d" % number, b"pool %d" % number)
    assert sorted(node.leases.take_idle(2)) == [b"w0", b"w1"]
    assert granted(node.leases.demand(b"a", 1, b"pool 3", CPU, 1, 0)) == [b"a"]


def test_a_worker_that_refuses_to_end_is_idle_again() -> None:
    node = Node(cpus=4, workers=1)
    node.leases.take_idle(0)
    node.want(b"a")
    assert granted(node.leases.put_back(b"w1")) == [b"a"]
    assert node.leases.put_back(b"nobody") == []


# ---------------------------------------------------------------------- everything at random

TOTAL = {"CPU": 3 * UNIT, "GPU": 2 * UNIT}
MAX_WORKERS = 5
#: One shape has the same resources for ever.
SHAPES: dict[int, dict[str, int]] = {
    1: CPU,
    2: HALF,
    3: CPU | GPU,
    4: {},
    5: {"CPU": 2 * UNIT},
    6: {"CPU": 9 * UNIT},
}
OWNERS = [b"a", b"b", b"c"]


class LeasesMachine(RuleBasedStateMachine):
    """Owners, workers and the daemon's effects do whatever they may, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.leases = LeaseTable(TOTAL, MAX_WORKERS, [str(index) for index in range(TOTAL["GPU"] // UNIT)])
        self.wanted: dict[tuple[bytes, int], int] = {}
        self.refused: set[tuple[bytes, int]] = set()
        self.starting = 0
        self.workers: dict[bytes, Lease | None] = {}
        #: Told to end; not granted any more.
        self.ending: set[bytes] = set()
        #: Certain to end, and what their devices' last leases took of GPUs.
        self.certain: set[bytes] = set()
        self.occupied: dict[bytes, int] = {}
        self.taken: set[bytes] = set()
        self.granted: dict[int, Lease] = {}
        self.count = 0

    # ------------------------------------------------------------------ effects

    def run(self, commands: list[Command], before: dict[str, int], *, woke: bool = False) -> None:
        for command in commands:
            if isinstance(command, Grant):
                lease = command.lease
                assert lease.id not in self.granted, "granted twice"
                assert self.workers[lease.worker] is None, "its worker serves somebody else"
                assert lease.worker not in self.ending | self.taken | self.certain
                self.workers[lease.worker] = self.granted[lease.id] = lease
            elif isinstance(command, StartWorkers):
                assert command.number > 0
                self.starting += command.number
                self.leases.starting(command.pool, command.number)
            elif isinstance(command, OwnerLeft):
                self.ending.add(command.worker)
            elif isinstance(command, Refuse):
                self.check_refusal(command)
        assert len(self.workers) + self.starting <= MAX_WORKERS
        for name in TOTAL:
            free = self.leases.free[name]
            assert free <= TOTAL[name]
            assert (woke and name == "CPU") or free >= min(before[name], 0), f"{name} was overdrawn"

    def check_refusal(self, command: Refuse) -> None:
        key = (command.owner, command.shape)
        if command.fatal:
            # Its owner ends the tasks that waited for it, so it wants no more than it has.
            held = sum((lease.owner, lease.shape) == key for lease in self.leases.leases.values())
            self.wanted[key] = held
        if command.fatal and "in a row" not in command.reason:
            assert not self.certain
            assert all(
                lease is not None and lease.state is LeaseState.BLOCKED for lease in self.workers.values()
            )
            assert self.starting == 0
            assert len(self.workers) == MAX_WORKERS
        elif not command.fatal:
            assert not fits(SHAPES[command.shape], TOTAL)
            assert key not in self.refused, "refused twice"
            self.refused.add(key)

    def left(self, lease: Lease) -> None:
        """A lease is over before its worker is."""
        self.workers[lease.worker] = None
        if lease.worker in self.certain:
            self.occupied[lease.worker] = lease.resources.get("GPU", 0)

    def some_worker(self, data: st.DataObject) -> bytes:
        return data.draw(st.sampled_from(sorted(self.workers)), "worker")

    # ------------------------------------------------------------------ events

    @rule(
        owner=st.sampled_from([*OWNERS, ACTORS]),
        shape=st.sampled_from(sorted(SHAPES)),
        count=st.integers(0, 4),
        depth=st.integers(0, 2),
    )
    def demand(self, owner: bytes, shape: int, count: int, depth: int) -> None:
        before = dict(self.leases.free)
        self.wanted[owner, shape] = count
        commands = self.leases.demand(
            owner, shape, JOB, SHAPES[shape], count, depth, dedicated=owner == ACTORS
        )
        if not count:
            self.refused.discard((owner, shape))
        self.run(commands, before)

    @precondition(lambda self: self.starting)
    @rule(comes_to_life=st.booleans(), to_die=st.booleans())
    def started(self, comes_to_life: bool, to_die: bool) -> None:
        before = dict(self.leases.free)
        self.starting -= 1
        if comes_to_life:
            self.count += 1
            worker = b"w%d" % self.count
            self.workers[worker] = None
            if to_die:
                self.certain.add(worker)
                self.leases.worker_ending(worker)
            self.run(self.leases.worker_ready(worker, JOB), before)
        else:
            self.run(self.leases.worker_not_started(JOB, "it crashed"), before)

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def about_to_end(self, data: st.DataObject) -> None:
        worker = self.some_worker(data)
        self.certain.add(worker)
        self.leases.worker_ending(worker)

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def lost(self, data: st.DataObject) -> None:
        before = dict(self.leases.free)
        worker = self.some_worker(data)
        served = self.workers.pop(worker)
        self.ending.discard(worker)
        self.taken.discard(worker)
        self.certain.discard(worker)
        self.occupied.pop(worker, None)
        lease, commands = self.leases.worker_lost(worker)
        assert lease is served
        if lease is not None:
            del self.granted[lease.id]
        self.run(commands, before)

    @precondition(lambda self: self.granted)
    @rule(data=st.data(), repeat=st.booleans())
    def returned(self, data: st.DataObject, repeat: bool) -> None:
        before = dict(self.leases.free)
        lease = self.granted.pop(data.draw(st.sampled_from(sorted(self.granted)), "lease"))
        self.left(lease)
        commands = self.leases.returned(lease.id)
        if repeat:
            assert self.leases.returned(lease.id) == []
        self.run(commands, before)

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), blocked=st.booleans())
    def blocked(self, data: st.DataObject, blocked: bool) -> None:
        before = dict(self.leases.free)
        self.run(self.leases.blocked(self.some_worker(data), blocked), before, woke=not blocked)

    @rule(owner=st.sampled_from(OWNERS))
    def owner_gone(self, owner: bytes) -> None:
        before = dict(self.leases.free)
        for key in [key for key in self.wanted if key[0] == owner]:
            del self.wanted[key]
            self.refused.discard(key)
        for lease in [lease for lease in self.granted.values() if lease.owner == owner]:
            del self.granted[lease.id]
            self.left(lease)
            self.ending.add(lease.worker)
        commands = self.leases.owner_gone(owner)
        told = {command.worker for command in commands if isinstance(command, OwnerLeft)}
        assert told <= self.ending
        self.run(commands, before)

    @rule(keep=st.integers(0, 2))
    def retire(self, keep: int) -> None:
        for worker in self.leases.take_idle(keep):
            assert self.workers[worker] is None
            assert worker not in self.ending | self.taken
            self.taken.add(worker)

    @precondition(lambda self: self.taken)
    @rule()
    def refuse_to_end(self) -> None:
        before = dict(self.leases.free)
        worker = self.taken.pop()
        self.run(self.leases.put_back(worker), before)

    @precondition(lambda self: self.ending - self.certain)
    @rule(data=st.data())
    def goes_on_without_its_owner(self, data: st.DataObject) -> None:
        before = dict(self.leases.free)
        worker = data.draw(st.sampled_from(sorted(self.ending - self.certain)), "worker")
        self.ending.discard(worker)
        self.run(self.leases.put_back(worker), before)

    @rule()
    def time_slice(self) -> None:
        for command in self.leases.unmet():
            assert isinstance(command, Reclaim)

    # ------------------------------------------------------------------ what holds

    @invariant()
    def every_resource_is_in_one_place(self) -> None:
        used: Counter[str] = Counter()
        for lease in self.leases.leases.values():
            for name, units in lease.resources.items():
                if name != "CPU" or lease.state is not LeaseState.BLOCKED:
                    used[name] += units
        used["GPU"] += sum(self.occupied.values())
        assert {name: self.leases.free[name] + used[name] for name in TOTAL} == TOTAL

    @invariant()
    def every_device_is_in_one_place(self) -> None:
        held = sum(lease.resources.get("GPU", 0) for lease in self.leases.leases.values())
        assert sum(self.leases.node.gpus.free) + held + sum(self.occupied.values()) == TOTAL["GPU"]

    @invariant()
    def who_was_granted_a_lease_has_it(self) -> None:
        assert {
            key: lease for key, lease in self.leases.leases.items() if lease.state is not LeaseState.RESERVED
        } == self.granted

    @invariant()
    def nobody_has_reservations_beyond_its_demand(self) -> None:
        held = Counter((lease.owner, lease.shape) for lease in self.leases.leases.values())
        for lease in self.leases.leases.values():
            if lease.state is LeaseState.RESERVED:
                assert held[lease.owner, lease.shape] <= self.wanted[lease.owner, lease.shape]

    @invariant()
    def nobody_waits_for_what_is_there(self) -> None:
        held = Counter((lease.owner, lease.shape) for lease in self.leases.leases.values())
        full = (
            all(lease is not None and lease.state is LeaseState.BLOCKED for lease in self.workers.values())
            and len(self.workers) == MAX_WORKERS
        )
        for (owner, shape), count in self.wanted.items():
            if held[owner, shape] < count and not full:
                assert not fits(SHAPES[shape], self.leases.free), f"{owner!r} waits for {SHAPES[shape]}"
        reserved = sum(lease.state is LeaseState.RESERVED for lease in self.leases.leases.values())
        gone = self.ending | self.taken | self.certain
        idle = [w for w, lease in self.workers.items() if lease is None and w not in gone]
        assert not (reserved and idle), "a worker idles while a reservation waits for one"
        assert reserved <= self.starting or len(self.workers) + self.starting == MAX_WORKERS

    def teardown(self) -> None:
        for owner in [*OWNERS, ACTORS]:
            self.leases.owner_gone(owner)
        for worker in list(self.workers):
            self.leases.worker_lost(worker)
        assert self.leases.free == TOTAL
        assert self.leases.leases == {}
        assert self.leases.worker_count == 0
        assert not self.leases.waiting


TestLeasesMachine = LeasesMachine.TestCase
TestLeasesMachine.settings = effort(60)
