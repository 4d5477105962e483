"""Placement groups at a node: reserved together or not at all, in order, and nothing is in two places."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from skate._base.resources import UNIT, add
from skate._node.leases.accounts import NO_GROUP, Account, Place, can_carve, carving_order
from skate._node.leases.groups import MAX_REMOVED, PATIENCE, Group, Groups, GroupState, Reserved
from skate._node.leases.instances import Devices
from skate._node.leases.records import (
    AskForGroup,
    Command,
    EndWorker,
    Grant,
    Lease,
    LeaseState,
    OwnerLeft,
    Reclaim,
    Refuse,
    StartWorkers,
)
from skate._node.leases.table import LeaseTable

from ...effort import effort

JOB = b"job"
CPU = {"CPU": UNIT}
GPU = {"GPU": UNIT}
HALF_GPU = {"GPU": UNIT // 2}
ACTORS = b"actors"


class Node:
    """A lease table with idle workers; what it wants done is in the answers of its methods."""

    def __init__(self, cpus: int = 4, workers: int = 8, gpus: int = 0) -> None:
        total = {"CPU": cpus * UNIT} | ({"GPU": gpus * UNIT} if gpus else {})
        self.leases = LeaseTable(total, 100, [str(index) for index in range(gpus)])
        for number in range(workers):
            self.leases.starting(JOB, 1)
            self.leases.worker_ready(b"w%d" % number, JOB)

    def reserve(self, group: bytes, *bundles: dict[str, int], attempt: int = 1) -> list[Command]:
        return self.leases.reserve_group(Group(group, attempt, dict(enumerate(bundles))))

    def want(
        self,
        owner: bytes,
        count: int = 1,
        resources: dict[str, int] = CPU,
        *,
        shape: int = 1,
        depth: int = 0,
        place: Place = NO_GROUP,
    ) -> list[Command]:
        return self.leases.demand(
            owner, shape, JOB, resources, count, depth, dedicated=owner == ACTORS, place=place
        )

    def remove(self, group: bytes) -> list[Command]:
        return self.leases.remove_group(group, "it was removed", for_good=True)

    def free(self, name: str = "CPU") -> float:
        return self.leases.free[name] / UNIT


def grants(commands: list[Command]) -> list[Lease]:
    return [command.lease for command in commands if isinstance(command, Grant)]


def reserved(commands: list[Command]) -> list[bytes]:
    return [command.group for command in commands if isinstance(command, Reserved)]


# ---------------------------------------------------------------------- reserving


def test_a_group_that_fits_is_reserved_at_once() -> None:
    node = Node(cpus=4)
    assert node.reserve(b"g", CPU, CPU) == [Reserved(b"g", 1)]
    assert node.free() == 2
    assert node.reserve(b"g", CPU, CPU) == [Reserved(b"g", 1)], "a repeat is answered again"
    assert node.free() == 2


def test_all_bundles_are_reserved_or_none() -> None:
    node = Node(cpus=2)
    assert node.reserve(b"g", CPU, CPU, CPU) == []
    assert node.free() == 2 and node.reserve(b"g", CPU, CPU, CPU) == []
    node = Node(cpus=2)
    (lease,) = grants(node.want(b"a"))
    assert node.reserve(b"g", CPU, CPU) == []
    assert reserved(node.leases.returned(lease.id)) == [b"g"]


def test_a_group_that_is_removed_while_it_waits_leaves_nothing() -> None:
    node = Node(cpus=1)
    node.reserve(b"g", CPU, CPU)
    assert node.remove(b"g") == []
    assert node.reserve(b"g", CPU) == [], "a late order changes nothing"
    assert node.free() == 1 and not node.leases.groups.is_waiting


def test_a_higher_attempt_replaces_what_an_earlier_one_holds() -> None:
    node = Node(cpus=4)
    node.reserve(b"g", CPU, CPU)
    (lease,) = grants(node.want(b"a", place=(b"g", 0)))
    commands = node.reserve(b"g", CPU, attempt=2)
    assert commands == [EndWorker(lease.worker, "its bundles were placed anew"), Reserved(b"g", 2)]
    node.leases.worker_lost(lease.worker)
    assert node.free() == 3
    assert node.reserve(b"g", CPU, CPU, attempt=1) == [Reserved(b"g", 2)], "an old order is late"


def test_gpus_of_a_bundle_are_certain_devices() -> None:
    node = Node(gpus=4)
    node.reserve(b"g", GPU | CPU, {"GPU": 2 * UNIT}, HALF_GPU)
    whole = grants(node.want(b"a", 1, GPU, place=(b"g", 0)))[0]
    two = grants(node.want(b"a", 1, {"GPU": 2 * UNIT}, shape=2, place=(b"g", 1)))[0]
    half = grants(node.want(b"a", 1, HALF_GPU, shape=3, place=(b"g", 2)))[0]
    assert len({*whole.gpus, *two.gpus, *half.gpus}) == 4
    outside = grants(node.want(b"b", 2, HALF_GPU))
    assert [lease.gpus for lease in outside] == [half.gpus], (
        "the other half of that device is all that is left"
    )


def test_whole_devices_are_reserved_before_shares_of_others() -> None:
    assert carving_order({0: HALF_GPU, 1: GPU, 2: HALF_GPU}) == [1, 0, 2]
    node = Node(gpus=2)
    assert reserved(node.reserve(b"g", HALF_GPU, GPU, HALF_GPU)) == [b"g"]


# ---------------------------------------------------------------------- leases in groups


def test_a_lease_takes_what_its_bundle_has() -> None:
    node = Node(cpus=4)
    node.reserve(b"g", CPU, CPU)
    assert len(grants(node.want(b"a", 5, place=(b"g", 0)))) == 1
    assert len(grants(node.want(b"b", 5, place=(b"g", -1)))) == 1
    assert node.free() == 2, "nothing of the node's"


def test_a_demand_waits_for_its_group() -> None:
    node = Node(cpus=1)
    assert node.want(b"a", place=(b"g", 0)) == [AskForGroup(b"g")]
    assert node.want(b"a", 2, place=(b"g", 0)) == [], "it is asked for once"
    commands = node.reserve(b"g", CPU)
    assert reserved(commands) == [b"g"] and len(grants(commands)) == 1
    assert node.leases.groups.asked_for == []


def test_what_no_bundle_can_ever_give_is_refused() -> None:
    node = Node(cpus=4)
    node.reserve(b"g", CPU, {"CPU": 2 * UNIT})
    (refused,) = node.want(b"a", 1, {"CPU": 2 * UNIT}, place=(b"g", 0))
    assert isinstance(refused, Refuse) and refused.fatal and not refused.removed
    assert (
        "it needs {CPU: 2}, which bundle 0 of placement group 67 can never give: it has {CPU: 1}"
        in refused.reason
    )
    (refused,) = node.want(b"a", 1, {"CPU": 3 * UNIT}, shape=2, place=(b"g", -1))
    assert isinstance(refused, Refuse) and "{CPU: 1}, {CPU: 2}" in refused.reason
    (refused,) = node.want(b"a", 1, CPU, shape=3, place=(b"g", 7))
    assert isinstance(refused, Refuse) and "has no bundle 7 here: it has bundles 0, 1" in refused.reason
    assert not node.leases.waiting


def test_a_task_that_waits_lends_the_cpu_of_its_bundle_to_its_group() -> None:
    node = Node(cpus=2)
    node.reserve(b"g", CPU)
    (parent,) = grants(node.want(b"a", place=(b"g", 0)))
    assert grants(node.want(b"b", 1, depth=1, place=(b"g", -1))) == []
    (child,) = grants(node.leases.blocked(parent.worker, True))
    assert child.account.place == (b"g", 0) and node.free() == 1
    node.leases.blocked(parent.worker, False)
    node.want(b"a", 0, place=(b"g", 0))
    node.want(b"b", 0, place=(b"g", -1))
    node.leases.returned(child.id)
    node.leases.returned(parent.id)
    node.remove(b"g")
    assert node.free() == 2


def test_the_shares_of_a_group_are_its_own() -> None:
    """An owner that waits in a group is no reason to ask for leases outside of it, and the other way round."""
    node = Node(cpus=4)
    node.reserve(b"g", CPU, CPU)
    grants(node.want(b"rich", 2))
    grants(node.want(b"other", 2, place=(b"g", -1)))
    node.want(b"poor", 1, place=(b"g", -1))
    assert node.leases.unmet() == [Reclaim(b"other", 1)]


def test_who_waits_for_itself_is_not_asked() -> None:
    node = Node(cpus=4)
    node.reserve(b"g", CPU, CPU)
    grants(node.want(b"outside", 3))
    grants(node.want(b"inside", 3, place=(b"g", -1)))
    assert set(node.leases.unmet()) == {Reclaim(b"outside", 0), Reclaim(b"inside", 0)}


# ---------------------------------------------------------------------- removing


def test_removing_a_group_ends_what_runs_in_it_and_refuses_what_would() -> None:
    node = Node(cpus=2)
    node.reserve(b"g", CPU, CPU)
    (lease,) = grants(node.want(b"a", place=(b"g", 0)))
    (actor,) = grants(node.want(ACTORS, place=(b"g", 1)))
    node.want(b"b", 3, place=(b"g", -1))
    commands = node.remove(b"g")
    assert set(commands) == {
        Refuse(b"a", 1, "it was removed", fatal=True, removed=True),
        Refuse(b"b", 1, "it was removed", fatal=True, removed=True),
        Refuse(ACTORS, 1, "it was removed", fatal=True, removed=True),
        EndWorker(lease.worker, "it was removed"),
        EndWorker(actor.worker, "it was removed"),
    }
    assert node.free() == 0, "they are not gone yet"
    node.leases.worker_ending(lease.worker)
    node.leases.worker_lost(lease.worker)
    node.leases.worker_lost(actor.worker)
    assert node.free() == 2
    (refused,) = node.want(b"a", 1, place=(b"g", 0))
    assert refused == Refuse(b"a", 1, "it was removed", fatal=True, removed=True)


def test_a_task_that_wakes_up_after_its_group_is_gone_takes_its_cpu_from_the_node() -> None:
    node = Node(cpus=1)
    node.reserve(b"g", CPU)
    (lease,) = grants(node.want(b"a", place=(b"g", 0)))
    node.leases.blocked(lease.worker, True)
    node.remove(b"g")
    assert node.free() == 1
    node.leases.blocked(lease.worker, False)
    assert node.free() == 0
    node.leases.worker_lost(lease.worker)
    assert node.free() == 1


def test_devices_of_a_killed_worker_are_free_when_it_is_gone() -> None:
    node = Node(gpus=1)
    node.reserve(b"g", GPU)
    (lease,) = grants(node.want(b"a", 1, GPU, place=(b"g", 0)))
    node.remove(b"g")
    node.leases.worker_ending(lease.worker)
    node.leases.owner_gone(b"a")
    assert node.free("GPU") == 0
    node.leases.worker_lost(lease.worker)
    assert node.free("GPU") == 1 and node.leases.node.gpus.free == [UNIT]


def test_a_limited_number_of_removed_groups_is_remembered() -> None:
    groups = Groups(Account(CPU, Devices([])))
    for number in range(MAX_REMOVED + 1):
        groups.removed(b"%d" % number, "removed")
    assert groups.unusable((b"0", 0), CPU) is None
    assert groups.unusable((b"1", 0), CPU) is not None


# ---------------------------------------------------------------------- waiting in order


def test_groups_are_served_in_order_if_tasks_are_all_that_keeps_them() -> None:
    node = Node(cpus=2)
    first, second = grants(node.want(b"a", 2))
    node.reserve(b"large", CPU, CPU)
    assert node.reserve(b"small", CPU) == []
    assert node.leases.returned(first.id) == [], "it would never be the large one's turn"
    node.want(b"a", 0)
    assert reserved(node.leases.returned(second.id)) == [b"large"]
    assert reserved(node.remove(b"large")) == [b"small"]


def test_a_group_that_an_actor_keeps_waiting_is_overtaken() -> None:
    node = Node(cpus=2)
    grants(node.want(ACTORS))
    assert node.reserve(b"large", CPU, CPU) == []
    assert len(grants(node.want(b"a"))) == 1
    node.want(b"a", 0)
    node.leases.owner_gone(b"a")
    assert reserved(node.reserve(b"small", CPU)) == [b"small"]


def test_tasks_of_drivers_that_come_later_wait_behind_a_group() -> None:
    node = Node(cpus=2)
    (lease,) = grants(node.want(b"a"))
    node.reserve(b"g", CPU, CPU)
    assert grants(node.want(b"late")) == []
    assert len(grants(node.want(b"free", 1, {}))) == 1, "it takes nothing of what the group needs"
    assert Reclaim(b"a", 1) in node.leases.unmet()
    commands = node.leases.returned(lease.id)
    assert reserved(commands) == [b"g"] and grants(commands) == []
    assert [lease.owner for lease in grants(node.remove(b"g"))] == [b"late", b"a"]


def test_tasks_of_tasks_and_actors_do_not_wait_behind_a_group() -> None:
    node = Node(cpus=3)
    grants(node.want(b"a"))
    node.reserve(b"g", CPU, CPU, CPU)
    assert len(grants(node.want(b"nested", depth=1))) == 1
    assert len(grants(node.want(ACTORS))) == 1


def test_nothing_waits_behind_a_group_while_a_task_waits_in_get() -> None:
    """The task that waits may hold a GPU that the group needs, and wait for the very task that came later."""
    node = Node(cpus=2, gpus=1)
    (lease,) = grants(node.want(b"a", 1, CPU | GPU))
    node.reserve(b"g", CPU | GPU)
    assert grants(node.want(b"late")) == []
    assert [one.owner for one in grants(node.leases.blocked(lease.worker, True))] == [b"late"]


def test_a_group_gets_its_turn_against_owners_that_never_stop() -> None:
    node = Node(cpus=4)
    for owner in (b"a", b"b"):
        grants(node.want(owner, 50))
    served = reserved(node.reserve(b"g", *[CPU] * 4))
    slices = 0
    while not served:
        slices += 1
        assert slices < 20, "it starves"
        for command in node.leases.unmet():
            assert isinstance(command, Reclaim)
            for lease in [one for one in node.leases.leases.values() if one.owner == command.owner][
                : command.busy
            ]:
                served += reserved(node.leases.returned(lease.id))
    assert node.free() == 0


def slices_until_granted(node: Node, limit: int) -> int:
    """Let time pass, and no lease end, until somebody is granted one."""
    for count in range(1, limit + 1):
        if grants(node.leases.unmet()):
            return count
    raise AssertionError("they wait for ever")


def test_a_group_lets_others_pass_when_nothing_comes_back_and_ever_later() -> None:
    """The tasks that run may wait for those that are held back, unseen: one looks for a file of the other."""
    node = Node(cpus=3)
    grants(node.want(b"a"))
    node.reserve(b"g", {"CPU": 3 * UNIT})
    assert grants(node.want(b"late")) == []
    assert slices_until_granted(node, 10 * PATIENCE) == PATIENCE
    assert len(grants(node.want(b"later"))) == 1, "until a lease comes back"
    (lease,) = [one for one in node.leases.leases.values() if one.owner == b"late"]
    node.leases.returned(lease.id)
    assert [one.owner for one in node.leases.leases.values()] == [b"a", b"later"]
    assert slices_until_granted(node, 10 * PATIENCE) == 2 * PATIENCE


def test_other_groups_pass_as_well() -> None:
    node = Node(cpus=2)
    grants(node.want(b"a"))
    node.reserve(b"large", CPU, CPU)
    assert node.reserve(b"small", CPU) == []
    served: list[bytes] = []
    while not served:
        served = reserved(node.leases.unmet())
    assert served == [b"small"]


def test_a_group_gets_its_turn_among_tasks_that_last_long() -> None:
    node = Node(cpus=2)
    for owner in (b"a", b"b"):
        grants(node.want(owner, 50))
    served = reserved(node.reserve(b"g", CPU, CPU))
    ends = 0
    while not served:
        ends += 1
        assert ends < 40, "it starves"
        for _ in range(5 * PATIENCE):
            node.leases.unmet()
        lease = next(iter(node.leases.leases.values()))  # the one that has run longest
        served = reserved(node.leases.returned(lease.id))


def test_no_time_passes_for_a_group_that_no_task_keeps_waiting() -> None:
    node = Node(cpus=2)
    grants(node.want(ACTORS))
    node.reserve(b"g", CPU, CPU)
    assert not node.leases.waiting and node.leases.unmet() == []


# ---------------------------------------------------------------------- accounts


@given(st.lists(st.sampled_from([UNIT // 4, UNIT // 2, UNIT, 2 * UNIT]), max_size=6))
def test_what_can_be_carved_can_be_carved(units: list[int]) -> None:
    bundles = {index: {"GPU": one} for index, one in enumerate(units)}
    ordered = [bundles[index] for index in carving_order(bundles)]
    node = Account({"GPU": 4 * UNIT}, Devices("0123"))
    possible = can_carve(ordered, node)
    assert node.free == {"GPU": 4 * UNIT} and node.gpus.free == [UNIT] * 4, "it was a question"
    if possible:
        parts = [node.carve((b"g", index), one) for index, one in enumerate(ordered)]
        assert all(part.has_room(one) for part, one in zip(parts, ordered, strict=True))
        for part in parts:
            part.close()
    else:
        assert sum(-(-one // UNIT) for one in units) > 4, "whole devices first is the best order"
    assert node.free == {"GPU": 4 * UNIT} and node.gpus.free == [UNIT] * 4


# ---------------------------------------------------------------------- everything at random

TOTAL = {"CPU": 4 * UNIT, "GPU": 2 * UNIT}
OWNERS = [b"a", b"b", ACTORS]
GROUPS = [b"g", b"h", b"i"]
RESOURCES = st.sampled_from([CPU, {"CPU": 2 * UNIT}, CPU | GPU, HALF_GPU, {}])
BUNDLES = st.lists(st.sampled_from([CPU, {"CPU": 2 * UNIT}, CPU | GPU, HALF_GPU]), min_size=1, max_size=3)


class GroupsMachine(RuleBasedStateMachine):
    """Groups come and go; owners, workers and the control store do whatever they may, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.leases = LeaseTable(TOTAL, 12, ["0", "1"])
        self.workers: dict[bytes, Lease | None] = {}
        self.starting = 0
        self.reserved: dict[bytes, int] = {}
        self.attempts: dict[bytes, int] = {}
        self.shapes: dict[int, tuple[bytes, dict[str, int], Place]] = {}
        self.certain: set[bytes] = set()
        self.removed: set[bytes] = set()
        self.occupied: dict[bytes, int] = {}
        self.count = 0

    def run(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Grant):
                lease = command.lease
                assert self.workers[lease.worker] is None and lease.worker not in self.certain
                self.workers[lease.worker] = lease
            elif isinstance(command, Reserved):
                assert command.attempt == self.attempts[command.group]
                self.reserved[command.group] = command.attempt
            elif isinstance(command, StartWorkers):
                self.starting += command.number
                self.leases.starting(command.pool, command.number)
            elif isinstance(command, EndWorker):
                self.dies(command.worker)
            elif isinstance(command, OwnerLeft):
                self.workers[command.worker] = None
                self.run(self.leases.put_back(command.worker))

    def dies(self, worker: bytes) -> None:
        """The daemon kills it: its process is there for a while."""
        self.leases.worker_ending(worker)
        self.certain.add(worker)

    # ------------------------------------------------------------------ events

    @rule(group=st.sampled_from(GROUPS), bundles=BUNDLES, more=st.booleans())
    def is_wanted(self, group: bytes, bundles: list[dict[str, int]], more: bool) -> None:
        if group in self.removed:
            return
        known = self.leases.groups.get(group)
        if known is not None and not more:  # a repeat
            attempt, bundles_by_index = known.attempt, dict(known.bundles)
        else:
            attempt = self.attempts[group] = self.attempts.get(group, 0) + 1
            bundles_by_index = dict(enumerate(bundles))
            self.reserved.pop(group, None)
        self.run(self.leases.reserve_group(Group(group, attempt, bundles_by_index)))

    @rule(group=st.sampled_from(GROUPS), for_good=st.booleans())
    def is_returned(self, group: bytes, for_good: bool) -> None:
        self.reserved.pop(group, None)
        if for_good:
            self.removed.add(group)
        self.run(self.leases.remove_group(group, "removed", for_good=for_good))

    @rule(owner=st.sampled_from(OWNERS), resources=RESOURCES, count=st.integers(0, 3), depth=st.integers(0, 1),
          place=st.sampled_from([NO_GROUP, *[(group, index) for group in GROUPS for index in (-1, 0, 1)]]))  # fmt: skip
    def demands(self, owner: bytes, resources: dict[str, int], count: int, depth: int, place: Place) -> None:
        known = [shape for shape, what in self.shapes.items() if what == (owner, resources, place)]
        shape = known[0] if known else len(self.shapes) + 1
        self.shapes[shape] = owner, resources, place
        self.run(
            self.leases.demand(
                owner, shape, JOB, resources, count, depth, dedicated=owner == ACTORS, place=place
            )
        )

    @precondition(lambda self: self.starting)
    @rule()
    def is_ready(self) -> None:
        self.count += 1
        self.starting -= 1
        worker = b"w%d" % self.count
        self.workers[worker] = None
        self.run(self.leases.worker_ready(worker, JOB))

    @precondition(lambda self: any(self.workers.values()))
    @rule(data=st.data())
    def something_happens_to_a_lease(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from([lease for lease in self.workers.values() if lease is not None]))
        what = data.draw(st.sampled_from(["returned", "blocked", "awake", "killed", "dead"]))
        if what == "returned" and lease.owner != ACTORS:
            self.workers[lease.worker] = None
            if lease.worker in self.certain and lease.resources.get("GPU"):
                self.occupied[lease.worker] = lease.resources["GPU"]
            self.run(self.leases.returned(lease.id))
        elif what in ("blocked", "awake"):
            self.run(self.leases.blocked(lease.worker, what == "blocked"))
        elif what == "killed":
            self.dies(lease.worker)
        elif what == "dead":
            self.is_gone(lease.worker)

    @precondition(lambda self: self.certain)
    @rule(data=st.data())
    def a_killed_one_is_gone(self, data: st.DataObject) -> None:
        self.is_gone(data.draw(st.sampled_from(sorted(self.certain))))

    def is_gone(self, worker: bytes) -> None:
        self.certain.discard(worker)
        self.occupied.pop(worker, None)
        del self.workers[worker]
        self.run(self.leases.worker_lost(worker)[1])

    @rule(owner=st.sampled_from(OWNERS[:2]))
    def owner_ends(self, owner: bytes) -> None:
        for worker in self.certain:
            lease = self.workers[worker]
            if lease is not None and lease.owner == owner:
                self.workers[worker] = None
                if lease.resources.get("GPU"):
                    self.occupied[worker] = lease.resources["GPU"]
        for shape in [shape for shape, what in self.shapes.items() if what[0] == owner]:
            del self.shapes[shape]
            self.shapes[-1000 - len(self.shapes) - shape] = (b"", {}, NO_GROUP)
        self.run([c for c in self.leases.owner_gone(owner)
                  if not (isinstance(c, OwnerLeft) and c.worker in self.certain)])  # fmt: skip

    @rule()
    def time_slice(self) -> None:
        self.run(self.leases.unmet())

    @rule()
    def much_time_passes(self) -> None:
        for _ in range(PATIENCE):
            self.run(self.leases.unmet())

    # ------------------------------------------------------------------ what holds

    @invariant()
    def every_resource_is_in_one_place(self) -> None:
        found: Counter[str] = Counter(self.leases.free)
        devices = list(self.leases.node.gpus.free)
        for group in self.leases.groups.rows:
            for account in group.accounts.values():
                found.update(account.free)
                devices = [a + b for a, b in zip(devices, account.gpus.free, strict=True)]
        for lease in self.leases.leases.values():
            for name, units in lease.resources.items():
                if name != "CPU" or lease.state is not LeaseState.BLOCKED:
                    found[name] += units
            for index in lease.gpus:
                devices[index] += min(lease.resources["GPU"], UNIT)
        found["GPU"] += sum(self.occupied.values())
        assert {name: found[name] for name in TOTAL} == TOTAL
        assert sum(devices) + sum(self.occupied.values()) == TOTAL["GPU"]
        assert all(0 <= units <= UNIT for units in devices)

    @invariant()
    def a_bundle_holds_what_it_was_given(self) -> None:
        for group in self.leases.groups.rows:
            for index, account in group.accounts.items():
                held = dict(account.free)
                for lease in self.leases.leases.values():
                    if lease.account is account:
                        resources = dict(lease.resources)
                        if lease.state is LeaseState.BLOCKED:
                            resources.pop("CPU", None)
                        add(held, resources)
                assert held.get("CPU", 0) == group.bundles[index].get("CPU", 0)
                assert held.get("GPU", 0) <= group.bundles[index].get("GPU", 0)

    @invariant()
    def reserved_is_all_or_nothing(self) -> None:
        for group in self.leases.groups.rows:
            if group.state is GroupState.RESERVED:
                assert group.accounts.keys() == group.bundles.keys()
                assert self.reserved[group.id] == group.attempt
            else:
                assert not group.accounts and group.id not in self.reserved

    @invariant()
    def no_group_waits_for_what_is_there(self) -> None:
        first = self.leases.groups.first_in_line
        for group in self.leases.groups.rows:
            if group.state is GroupState.WAITING:
                assert not can_carve(group.bundles.values(), self.leases.node) or (
                    first is not None and not first.lets_pass and group.order > first.order
                )

    @invariant()
    def nothing_is_leased_in_a_group_that_is_gone(self) -> None:
        for lease in self.leases.leases.values():
            place = lease.account.place
            if place != NO_GROUP and lease.account.open is self.leases.node:
                assert lease.worker in self.certain, "its worker is about to end"
            elif place != NO_GROUP:
                assert self.leases.groups.get(place[0]) is not None

    def teardown(self) -> None:
        for group in GROUPS:
            self.run(self.leases.remove_group(group, "the end", for_good=True))
        for worker in list(self.workers):
            self.leases.worker_lost(worker)
        for owner in OWNERS:
            self.leases.owner_gone(owner)
        assert self.leases.free == TOTAL and self.leases.node.gpus.free == [UNIT, UNIT]
        assert self.leases.leases == {} and not self.leases.waiting and not self.leases.groups.is_waiting


TestGroupsMachine = GroupsMachine.TestCase
TestGroupsMachine.settings = effort(60)
