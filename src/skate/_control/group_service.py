"""Carries out what the directory of placement groups decides: records, orders at nodes, answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from skate._base import clock
from skate._control.groups import (
    Command,
    EndActors,
    GroupNameTaken,
    GroupRecord,
    Groups,
    GroupState,
    PruneGroup,
    RecordGroup,
    ReserveGroup,
)
from skate._control.records import Records
from skate._control.rows import group_row
from skate._control.stored import dump_group, load_group
from skate._scheduling.placement import NodeView
from skate._transport.connection import Connection, Handler
from skate._wire import control
from skate._wire.codec import pack, unpack


class GroupService:
    """The placement groups of the cluster. On the control store's loop.

    Args:
        storage: keeps the records.
        nodes: the connections of the nodes, by their ids.
        end_actors: ends the actors of a group, for a reason.
        when_there_is_a_node: calls a function when the first node has joined.
    """

    def __init__(
        self,
        storage: Records,
        nodes: Mapping[bytes, Connection],
        end_actors: Callable[[bytes, str], None],
        when_there_is_a_node: Callable[[Callable[[], None]], None],
    ) -> None:
        self._storage = storage
        self._nodes = nodes
        self._end_actors = end_actors
        self._when_there_is_a_node = when_there_is_a_node
        self._groups = Groups()

    def handlers(self) -> dict[type, Handler]:
        """Return the handlers of messages about placement groups."""
        return {
            control.CreateGroup: self._create,
            control.RemoveGroup: self._remove,
            control.FindGroup: self._find,
            control.ListGroups: self._list,
            control.BundlesReserved: lambda connection, message: self._run(
                self._groups.reserved(message.group_id, message.attempt, connection.peer.id)
            ),
            control.AskForGroup: lambda connection, message: self._run(
                self._groups.asked_for(message.group_id, connection.peer.id)
            ),
        }

    # ------------------------------------------------------------------ events

    def node_joined(self, node: control.NodeInfo, held: Sequence[tuple[bytes, int, bool]]) -> None:
        """Place groups on a node, too."""
        view = NodeView(node.node_id.hex(), node.labels, node.resources, node.available)
        self._run(self._groups.node_joined(node.node_id, view, held))

    def node_changed(self, node_id: bytes, free: Mapping[str, int]) -> None:
        """Note what is free on a node."""
        self._groups.node_changed(node_id, free)

    def node_lost(self, node_id: bytes) -> None:
        """Place the groups anew that were on a node."""
        self._run(self._groups.node_lost(node_id))

    def job_ended(self, job: bytes) -> None:
        """Remove the groups of a job that is over."""
        self._run(self._groups.job_ended(job))

    def restore(self) -> None:
        """Read the records of an earlier control store."""
        found = [load_group(group_id, value) for group_id, value in self._storage.all("group")]
        self._groups.restore(sorted(found, key=lambda group: group.times))

    def expected(self) -> list[bytes]:
        """Return the nodes of living groups."""
        return self._groups.expected()

    # ------------------------------------------------------------------ requests

    def _create(self, connection: Connection, message: control.CreateGroup) -> None:
        spec = unpack(message.spec, type=control.GroupSpec)

        def create() -> None:
            try:
                self._run(self._groups.create(message.group_id, spec))
            except GroupNameTaken:
                text = (
                    f"the name {spec.name!r} is already taken by a living placement group of namespace "
                    f"{spec.namespace!r}: use another one, get the group with get_placement_group(), or "
                    "remove it first"
                )
                connection.send(control.Answer(message.request, b"", "RaySystemError", text))
                return
            group = self._groups.records[message.group_id]
            connection.send(control.Answer(message.request, pack(group.reason)))

        self._when_there_is_a_node(create)

    def _remove(self, connection: Connection, message: control.RemoveGroup) -> None:
        self._run(self._groups.remove(message.group_id, message.reason))
        connection.send(control.Answer(message.request, b""))

    def _find(self, connection: Connection, message: control.FindGroup) -> None:
        if message.group_id:
            group = self._groups.records.get(message.group_id)
        else:
            group = self._groups.named(message.namespace, message.name)
        if group is not None or message.group_id:
            row = group_row(group) if group is not None else None
            connection.send(control.Answer(message.request, pack(row)))
            return
        text = (
            f"Failed to look up placement group with name: {message.name}: no living one has it in namespace "
            f"{message.namespace!r}"
        )
        connection.send(control.Answer(message.request, b"", "ValueError", text))

    def _list(self, connection: Connection, message: control.ListGroups) -> None:
        rows = [group_row(group) for group in self._groups.records.values()]
        connection.send(control.Answer(message.request, pack(rows)))

    # ------------------------------------------------------------------ effects

    def _run(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, RecordGroup):
                self._record(command.group)
            elif isinstance(command, PruneGroup):
                self._storage.delete("group", command.group)
            elif isinstance(command, EndActors):
                self._end_actors(command.group.id, command.group.cause)
            elif (connection := self._nodes.get(command.node)) is None:
                continue  # it will connect again, and list what it has
            elif isinstance(command, ReserveGroup):
                group = command.group
                bundles = group.bundles_on(command.node)
                connection.send(control.ReserveBundles(group.id, group.attempt, bundles))
            else:
                connection.send(control.ReturnBundles(command.group, command.cause, command.is_removed))

    def _record(self, group: GroupRecord) -> None:
        index = {GroupState.PENDING: 0, GroupState.CREATED: 1, GroupState.REMOVED: 2}.get(group.state)
        if index is not None and not group.times[index]:
            group.times[index] = clock.time()
        self._storage.put("group", group.id, dump_group(group))
