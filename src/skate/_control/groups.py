"""Keeps the directory of placement groups: names, lives, and where their bundles are. Decisions only.

Owner: the control store's loop. A group lives through::

              create           all its nodes have reserved
    (none) ---------> PENDING -----------------------------> CREATED
                         |  ^                                    |  a node is lost
                         |  '--- reserved again ---- RESCHEDULING <
                         |                                |      |
                         '------ removed, its job ended --+------'
                                           v
                                        REMOVED (its name is free again)

The control store decides which node has which bundle; nodes reserve, each all of its bundles or none, and
queue what does not fit yet (``_node.leases.groups``). Each try to place a group has a number: messages about
an earlier one are dropped on arrival, and a node gives up what it holds for an earlier one.

Groups are recorded before any message about them is sent, like actors. A node that connects again lists the
groups that it holds: one that it lacks is ordered again, one that it should not have is returned.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from skate._base.transitions import TransitionTable
from skate._scheduling.bundles import place_bundles
from skate._scheduling.placement import Infeasible, NodeView
from skate._wire.control import GroupSpec

#: The most removed groups that are remembered (count).
MAX_REMOVED = 10_000


class GroupState(enum.Enum):
    """Names the states of a placement group. Users see the values."""

    PENDING = "PENDING"
    CREATED = "CREATED"
    RESCHEDULING = "RESCHEDULING"
    REMOVED = "REMOVED"


class GroupEvent(enum.Enum):
    """Names the events of a group's life."""

    RESERVED = "all its nodes have reserved"
    LOST = "a node of it is lost"
    END = "removed"


TABLE = TransitionTable(
    {
        (GroupState.PENDING, GroupEvent.RESERVED): GroupState.CREATED,
        (GroupState.PENDING, GroupEvent.LOST): GroupState.PENDING,
        (GroupState.PENDING, GroupEvent.END): GroupState.REMOVED,
        (GroupState.CREATED, GroupEvent.LOST): GroupState.RESCHEDULING,
        (GroupState.CREATED, GroupEvent.END): GroupState.REMOVED,
        (GroupState.RESCHEDULING, GroupEvent.RESERVED): GroupState.CREATED,
        (GroupState.RESCHEDULING, GroupEvent.LOST): GroupState.RESCHEDULING,
        (GroupState.RESCHEDULING, GroupEvent.END): GroupState.REMOVED,
    }
)


class GroupRecord:
    """Describes one placement group."""

    __slots__ = ("id", "spec", "state", "attempt", "nodes", "reserved", "reason", "cause", "times")

    def __init__(self, group_id: bytes, spec: GroupSpec) -> None:
        self.id = group_id
        self.spec = spec
        self.state = GroupState.PENDING
        #: The number of the present try to place it; 0: none yet.
        self.attempt = 0
        #: By bundle: the node that has it, or is to have it. Empty: no node can.
        self.nodes: list[bytes] = []
        #: The nodes that have reserved, in this attempt.
        self.reserved: list[bytes] = []
        #: Why no node can have its bundles.
        self.reason = ""
        #: Why it was removed.
        self.cause = ""
        #: When it was created, reserved for the first time, and removed (seconds since 1970; 0: not yet). The
        #: control server sets them, for people to read.
        self.times = [0.0, 0.0, 0.0]

    def bundles_on(self, node: bytes) -> dict[int, dict[str, int]]:
        """Return the bundles that a node has or is to have, by index."""
        return {index: self.spec.bundles[index] for index, where in enumerate(self.nodes) if where == node}


class ReserveGroup(NamedTuple):
    """Have a node reserve its bundles of a group."""

    node: bytes
    group: GroupRecord


class ReturnGroup(NamedTuple):
    """Have a node give up its bundles of a group, and end what runs in them."""

    node: bytes
    group: bytes
    cause: str
    #: It is gone for good; else it was placed elsewhere.
    is_removed: bool = True


class RecordGroup(NamedTuple):
    """Record the state of a group."""

    group: GroupRecord


class EndActors(NamedTuple):
    """End the actors that run in a group, or are to."""

    group: GroupRecord


class PruneGroup(NamedTuple):
    """Delete all records of this group."""

    group: bytes


Command = ReserveGroup | ReturnGroup | RecordGroup | EndActors | PruneGroup

#: Holds one message of a node about itself: a group, the attempt, and whether its bundles are reserved.
Held = tuple[bytes, int, bool]

_UNKNOWN = "this cluster does not know the placement group: it belongs to an earlier session"


class GroupNameTaken(ValueError):
    """A placement group with this name lives already."""


class Groups:
    """Decides about all placement groups of the cluster."""

    def __init__(self) -> None:
        self.records: dict[bytes, GroupRecord] = {}
        self._names: dict[tuple[str, str], bytes] = {}
        self._removed: deque[bytes] = deque()
        #: The nodes of the cluster as placement sees them, by id.
        self._nodes: dict[bytes, NodeView] = {}

    # ------------------------------------------------------------------ nodes

    def node_joined(self, node: bytes, view: NodeView, held: Collection[Held] = ()) -> list[Command]:
        """Take a node into account. ``held``: the groups that it has or queues, if it was here before."""
        self._nodes[node] = view
        commands: list[Command] = []
        has: dict[bytes, int] = {}
        for group_id, attempt, is_reserved in held:
            group = self.records.get(group_id)
            if group is None or node not in group.nodes or not self._is_current(group, attempt):
                commands.append(self._return(node, group_id))
                continue
            has[group_id] = attempt
            if is_reserved:
                commands += self.reserved(group_id, attempt, node)
        for group in self.records.values():
            if group.state is GroupState.REMOVED:
                continue
            if not group.nodes:
                commands += self._place(group)
            elif node in group.nodes and group.id not in has:
                commands.append(ReserveGroup(node, group))  # it never got the order
        return commands

    def node_changed(self, node: bytes, free: Mapping[str, int]) -> None:
        """Note what is free on a node."""
        if node in self._nodes:
            self._nodes[node] = self._nodes[node]._replace(free=free)

    def node_lost(self, node: bytes) -> list[Command]:
        """Place the groups anew that had bundles on a node that is lost."""
        self._nodes.pop(node, None)
        commands: list[Command] = []
        for group in self.records.values():
            if group.state is GroupState.REMOVED or node not in group.nodes:
                continue
            group.state = TABLE.next(f"placement group {group.id.hex()}", group.state, GroupEvent.LOST)
            others = dict.fromkeys(other for other in group.nodes if other != node)
            cause = "another node of its placement group was lost"
            commands += [ReturnGroup(other, group.id, cause, False) for other in others]
            commands += self._place(group)
        return commands

    def _return(self, node: bytes, group_id: bytes) -> ReturnGroup:
        """Return the order to give up what a node should not have of a group."""
        group = self.records.get(group_id)
        if group is None:
            return ReturnGroup(node, group_id, _UNKNOWN)
        is_removed = group.state is GroupState.REMOVED
        return ReturnGroup(node, group_id, group.cause or "it was placed elsewhere", is_removed)

    def _place(self, group: GroupRecord) -> list[Command]:
        """Choose the nodes of a group's bundles, and order them there."""
        spec = group.spec
        found = place_bundles(
            spec.bundles, spec.strategy, spec.selectors, list(self._nodes.values()), spec.target
        )
        group.reserved = []
        if isinstance(found, Infeasible):
            group.nodes, group.reason = [], found.reason
            return [RecordGroup(group)]
        group.attempt += 1
        group.nodes, group.reason = [bytes.fromhex(node) for node in found], ""
        orders = [ReserveGroup(node, group) for node in dict.fromkeys(group.nodes)]
        return [RecordGroup(group), *orders]

    # ------------------------------------------------------------------ life

    def create(self, group_id: bytes, spec: GroupSpec) -> list[Command]:
        """Record and place a new group. A repeat of the same id changes nothing.

        Raises:
            GroupNameTaken: another one has the name.
        """
        if group_id in self.records:
            return []
        if spec.name:
            key = spec.namespace, spec.name
            if key in self._names:
                raise GroupNameTaken(spec.name)
            self._names[key] = group_id
        group = self.records[group_id] = GroupRecord(group_id, spec)
        return self._place(group)

    def reserved(self, group_id: bytes, attempt: int, node: bytes) -> list[Command]:
        """Note that a node holds its bundles of a group."""
        group = self.records.get(group_id)
        if group is None or not self._is_current(group, attempt) or node in group.reserved:
            return []
        group.reserved.append(node)
        if len(group.reserved) == len(set(group.nodes)):
            group.state = TABLE.next(f"placement group {group_id.hex()}", group.state, GroupEvent.RESERVED)
        return [RecordGroup(group)]

    def asked_for(self, group_id: bytes, node: bytes) -> list[Command]:
        """Answer a node at which a demand names a group that it does not know."""
        group = self.records.get(group_id)
        if group is None or group.state is GroupState.REMOVED:
            return [self._return(node, group_id)]
        return [ReserveGroup(node, group)] if node in group.nodes else []

    def remove(self, group_id: bytes, cause: str) -> list[Command]:
        """Give a group up: what runs in it ends. Unknown and removed ones are late repeats."""
        group = self.records.get(group_id)
        if group is None or group.state is GroupState.REMOVED:
            return []
        group.state = TABLE.next(f"placement group {group_id.hex()}", group.state, GroupEvent.END)
        group.cause = cause
        key = group.spec.namespace, group.spec.name
        if self._names.get(key) == group_id:
            del self._names[key]
        nodes = dict.fromkeys(group.nodes)
        returns = [ReturnGroup(node, group_id, cause) for node in nodes or self._nodes]
        return [RecordGroup(group), EndActors(group), *returns, *self._remember(group)]

    def job_ended(self, job: bytes) -> list[Command]:
        """Remove the groups of a job that is over, except detached ones."""
        commands: list[Command] = []
        for group in list(self.records.values()):
            if group.spec.owner_job == job and not group.spec.detached:
                commands += self.remove(group.id, f"placement group {group.id.hex()}: its job ended")
        return commands

    def _remember(self, group: GroupRecord) -> list[Command]:
        """Remember a removed group, and forget those that were removed longest ago."""
        self._removed.append(group.id)
        if len(self._removed) <= MAX_REMOVED:
            return []
        oldest = self._removed.popleft()
        del self.records[oldest]
        return [PruneGroup(oldest)]

    @staticmethod
    def _is_current(group: GroupRecord, attempt: int) -> bool:
        return group.state is not GroupState.REMOVED and attempt == group.attempt

    # ------------------------------------------------------------------ questions

    @property
    def has_nodes(self) -> bool:
        """Whether any node has joined."""
        return bool(self._nodes)

    def named(self, namespace: str, name: str) -> GroupRecord | None:
        """Return the living group of this name."""
        group_id = self._names.get((namespace, name))
        return self.records[group_id] if group_id is not None else None

    def removal_of(self, group_id: bytes) -> str:
        """Return why a group is gone; empty: it is not, or is not known."""
        group = self.records.get(group_id)
        return group.cause if group is not None and group.state is GroupState.REMOVED else ""

    # ------------------------------------------------------------------ after a restart of the control store

    def restore(self, groups: Iterable[GroupRecord]) -> None:
        """Add the records that were read from storage."""
        for group in groups:
            self.records[group.id] = group
            if group.state is GroupState.REMOVED:
                self._remember(group)
            elif group.spec.name:
                self._names[group.spec.namespace, group.spec.name] = group.id

    def expected(self) -> list[bytes]:
        """Return the nodes of living groups."""
        living = [group for group in self.records.values() if group.state is not GroupState.REMOVED]
        return list(dict.fromkeys(node for group in living for node in group.nodes))
