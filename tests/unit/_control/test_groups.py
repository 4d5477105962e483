"""The directory of placement groups: names, lives, nodes; and what a restart of the control store keeps."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from skate._base.resources import UNIT
from skate._control.groups import (
    MAX_REMOVED,
    Command,
    EndActors,
    GroupNameTaken,
    Groups,
    GroupState,
    PruneGroup,
    RecordGroup,
    ReserveGroup,
    ReturnGroup,
)
from skate._control.stored import dump_group, load_group
from skate._scheduling.placement import NodeView
from skate._wire.control import GroupSpec

from ..effort import effort

CPU = {"CPU": UNIT}
NODE, OTHER = b"n" * 16, b"o" * 16
JOB = b"driver"


def view(node: bytes = NODE, cpus: int = 4, **labels: str) -> NodeView:
    total = {"CPU": cpus * UNIT}
    return NodeView(node.hex(), labels, total, total)


def spec(*bundles: dict[str, int], **fields: object) -> GroupSpec:
    given = bundles or (CPU,)
    values = {
        "name": "", "namespace": "space", "strategy": "PACK", "bundles": list(given),
        "selectors": [[] for _ in given], "owner_job": JOB, "job_id": b"\0\0\0\1", "detached": False,
    } | fields  # fmt: skip
    return GroupSpec(**values)  # type: ignore[arg-type]


def with_node(cpus: int = 4) -> Groups:
    groups = Groups()
    assert groups.node_joined(NODE, view(cpus=cpus)) == []
    return groups


def state(groups: Groups, group: bytes = b"g") -> GroupState:
    return groups.records[group].state


def again(groups: Groups) -> Groups:
    """Return the directory of a control store that was restarted."""
    new = Groups()
    new.restore([load_group(group, dump_group(record)) for group, record in groups.records.items()])
    return new


def test_a_group_is_recorded_before_it_is_ordered() -> None:
    groups = with_node()
    record, order = groups.create(b"g", spec(CPU, CPU))
    assert isinstance(record, RecordGroup) and isinstance(order, ReserveGroup)
    assert order.group.bundles_on(NODE) == {0: CPU, 1: CPU} and order.group.attempt == 1
    assert state(groups) is GroupState.PENDING
    assert groups.create(b"g", spec()) == [], "a repeat"
    assert groups.reserved(b"g", 1, NODE) == [record]
    assert state(groups) is GroupState.CREATED
    assert groups.reserved(b"g", 1, NODE) == [], "a repeat"


def test_one_that_no_node_can_have_waits_for_a_node() -> None:
    groups = with_node(cpus=1)
    assert groups.create(b"g", spec(CPU, CPU)) == [RecordGroup(groups.records[b"g"])]
    assert "its bundles need {CPU: 2} together" in groups.records[b"g"].reason
    commands = groups.node_joined(OTHER, view(OTHER))
    assert ReserveGroup(OTHER, groups.records[b"g"]) in commands and groups.records[b"g"].reason == ""


def test_names() -> None:
    groups = with_node()
    groups.create(b"g", spec(name="it"))
    with pytest.raises(GroupNameTaken):
        groups.create(b"h", spec(name="it"))
    groups.create(b"i", spec(name="it", namespace="other"))
    found = groups.named("space", "it")
    assert found is not None and found.id == b"g"
    groups.remove(b"g", "because")
    assert groups.named("space", "it") is None
    groups.create(b"h", spec(name="it"))


def test_removing() -> None:
    groups = with_node()
    groups.create(b"g", spec())
    group = groups.records[b"g"]
    assert groups.remove(b"g", "because") == [
        RecordGroup(group), EndActors(group), ReturnGroup(NODE, b"g", "because")
    ]  # fmt: skip
    assert groups.remove(b"g", "again") == [] and group.cause == "because"
    assert groups.reserved(b"g", 1, NODE) == [] and state(groups) is GroupState.REMOVED, "a late report"
    assert groups.remove(b"unknown", "because") == []


def test_groups_end_with_their_job_unless_they_are_detached() -> None:
    groups = with_node()
    groups.create(b"g", spec())
    groups.create(b"d", spec(detached=True))
    groups.create(b"o", spec(owner_job=b"another"))
    groups.job_ended(JOB)
    assert [one.id for one in groups.records.values() if one.state is GroupState.REMOVED] == [b"g"]
    assert "its job ended" in groups.records[b"g"].cause


def test_a_node_asks_about_a_group_that_a_demand_names() -> None:
    groups = with_node()
    (unknown,) = groups.asked_for(b"x", NODE)
    assert isinstance(unknown, ReturnGroup) and unknown.is_removed and "earlier session" in unknown.cause
    groups.create(b"g", spec())
    assert groups.asked_for(b"g", NODE) == [ReserveGroup(NODE, groups.records[b"g"])]
    assert groups.asked_for(b"g", OTHER) == [], "no business of that node"
    groups.remove(b"g", "because")
    assert groups.asked_for(b"g", NODE) == [ReturnGroup(NODE, b"g", "because")]


def test_a_lost_node() -> None:
    groups = with_node()
    groups.create(b"g", spec())
    groups.reserved(b"g", 1, NODE)
    groups.node_lost(NODE)
    assert state(groups) is GroupState.RESCHEDULING and groups.records[b"g"].reason
    groups.node_joined(OTHER, view(OTHER))
    assert groups.reserved(b"g", 1, OTHER) == [], "an earlier attempt"
    groups.reserved(b"g", 2, OTHER)
    assert state(groups) is GroupState.CREATED


def test_bundles_on_several_nodes_are_reserved_when_all_are() -> None:
    groups = with_node()
    groups.node_joined(OTHER, view(OTHER))
    groups.create(b"g", spec(CPU, CPU, strategy="STRICT_SPREAD"))
    groups.reserved(b"g", 1, NODE)
    assert state(groups) is GroupState.PENDING
    groups.reserved(b"g", 1, OTHER)
    assert state(groups) is GroupState.CREATED
    commands = groups.node_lost(OTHER)
    assert ReturnGroup(NODE, b"g", "another node of its placement group was lost", False) in commands


def test_a_restarted_control_store_and_a_node_agree_again() -> None:
    groups = with_node()
    for name in (b"held", b"reserved meanwhile", b"never arrived", b"removed"):
        groups.create(name, spec(name=name.decode()))
    groups.reserved(b"held", 1, NODE)
    groups.remove(b"removed", "because")
    new = again(groups)
    assert new.expected() == [NODE] and new.named("space", "held") is not None
    assert new.named("space", "removed") is None
    held = [
        (b"held", 1, True),
        (b"reserved meanwhile", 1, True),
        (b"removed", 1, True),
        (b"unheard of", 3, False),
    ]
    commands = new.node_joined(NODE, view(), held)
    assert [c.group for c in commands if isinstance(c, ReturnGroup)] == [b"removed", b"unheard of"]
    assert [c.group.id for c in commands if isinstance(c, ReserveGroup)] == [b"never arrived"]
    assert state(new, b"held") is state(new, b"reserved meanwhile") is GroupState.CREATED
    assert state(new, b"never arrived") is GroupState.PENDING


def test_a_limited_number_of_removed_groups_is_remembered() -> None:
    groups = with_node()
    commands: list[Command] = []
    for number in range(MAX_REMOVED + 1):
        groups.create(b"%d" % number, spec())
        commands = groups.remove(b"%d" % number, "because")
    assert commands[-1] == PruneGroup(b"0") and b"0" not in groups.records


# ---------------------------------------------------------------------- everything at random

IDS = [b"a", b"b", b"c"]
BUNDLES = st.lists(st.sampled_from([CPU, {"CPU": 3 * UNIT}]), min_size=1, max_size=3)


class DirectoryMachine(RuleBasedStateMachine):
    """Programs, nodes and restarts, with reports that come late or twice, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.groups = Groups()
        self.nodes: dict[bytes, dict[bytes, tuple[int, bool]]] = {}
        self.late: list[tuple[bytes, int, bytes]] = []

    def run(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, ReserveGroup):
                assert command.node in self.nodes, "an order to a node that is gone"
                assert command.group.bundles_on(command.node)
                self.nodes[command.node][command.group.id] = command.group.attempt, False
            elif isinstance(command, ReturnGroup) and command.node in self.nodes:
                self.nodes[command.node].pop(command.group, None)

    @rule(group=st.sampled_from(IDS), bundles=BUNDLES, name=st.sampled_from(["", "one", "two"]),
          strategy=st.sampled_from(["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"]), detached=st.booleans())  # fmt: skip
    def create(
        self, group: bytes, bundles: list[dict[str, int]], name: str, strategy: str, detached: bool
    ) -> None:
        taken = self.groups.named("space", name) if name else None
        try:
            self.run(
                self.groups.create(group, spec(*bundles, name=name, strategy=strategy, detached=detached))
            )
        except GroupNameTaken:
            assert taken is not None

    @rule(group=st.sampled_from(IDS))
    def remove(self, group: bytes) -> None:
        self.run(self.groups.remove(group, "because"))

    @rule()
    def job_ends(self) -> None:
        self.run(self.groups.job_ended(JOB))

    @rule(node=st.sampled_from([NODE, OTHER]), cpus=st.integers(1, 4))
    def joins(self, node: bytes, cpus: int) -> None:
        held = [(group, *what) for group, what in self.nodes.setdefault(node, {}).items()]
        self.run(self.groups.node_joined(node, view(node, cpus), held))

    @rule(node=st.sampled_from([NODE, OTHER]))
    def is_lost(self, node: bytes) -> None:
        if self.nodes.pop(node, None) is not None:
            self.run(self.groups.node_lost(node))

    @rule(node=st.sampled_from([NODE, OTHER]), group=st.sampled_from(IDS), arrives=st.booleans())
    def node_reserves(self, node: bytes, group: bytes, arrives: bool) -> None:
        if group in self.nodes.get(node, {}):
            attempt, _ = self.nodes[node][group]
            self.nodes[node][group] = attempt, True
            if arrives:
                self.run(self.groups.reserved(group, attempt, node))
            else:
                self.late.append((group, attempt, node))

    @rule()
    def late_reports_arrive(self) -> None:
        late, self.late = self.late, []
        for report in late:
            self.run(self.groups.reserved(*report))

    @rule()
    def is_restarted(self) -> None:
        """Its nodes come back, or are lost after a while."""
        self.groups = again(self.groups)
        for node in list(self.nodes):
            self.joins(node, 4)
        for node in self.groups.expected():
            if node not in self.nodes:
                self.run(self.groups.node_lost(node))

    @invariant()
    def created_means_reserved_by_all(self) -> None:
        for group in self.groups.records.values():
            if group.state is GroupState.CREATED:
                assert set(group.reserved) == set(group.nodes) and group.nodes

    @invariant()
    def what_nodes_hold_is_what_they_should(self) -> None:
        for node, held in self.nodes.items():
            for group_id, (attempt, _) in held.items():
                group = self.groups.records[group_id]
                assert group.state is not GroupState.REMOVED and node in group.nodes
                assert attempt == group.attempt

    @invariant()
    def one_living_group_has_a_name(self) -> None:
        living = [
            one.spec.name for one in self.groups.records.values() if one.state is not GroupState.REMOVED
        ]
        named = [name for name in living if name]
        assert len(named) == len(set(named))
        assert all(self.groups.named("space", name) is not None for name in named)


TestDirectoryMachine = DirectoryMachine.TestCase
TestDirectoryMachine.settings = effort(60)
