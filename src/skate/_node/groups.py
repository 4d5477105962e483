"""The placement groups of this node: orders of the control store in, what was reserved out."""

from __future__ import annotations

from skate._node.cluster.membership import Membership
from skate._node.context import NodeContext
from skate._node.leases.groups import Group
from skate._node.leases.service import LeaseService
from skate._node.leases.table import LeaseTable
from skate._transport.connection import Connection, Handler
from skate._wire import control


class GroupService:
    """Stands between the control store, which places groups, and the lease table, which reserves bundles."""

    def __init__(
        self, context: NodeContext, table: LeaseTable, membership: Membership, leases: LeaseService
    ) -> None:
        self._context = context
        self._groups = table.groups
        self._membership = membership
        self._leases = leases

    def control_handlers(self) -> dict[type, Handler]:
        """Return the handlers of messages of the control store."""
        return {control.ReserveBundles: self._reserve, control.ReturnBundles: self._return}

    def held(self) -> list[tuple[bytes, int, bool]]:
        """Return the groups that are here or wait: id, attempt, and whether their bundles are reserved."""
        return [(group.id, group.attempt, bool(group.accounts)) for group in self._groups.rows]

    def joined(self) -> None:
        """Ask a control store again about the groups that demands name, and nobody has announced."""
        for group in self._groups.asked_for:
            self._membership.send(control.AskForGroup(group))

    def settled(self, group: bytes, attempt: int | None) -> None:
        """Report that the bundles of a group are reserved; without an attempt, ask about the group."""
        if attempt is None:
            self._membership.send(control.AskForGroup(group))
        else:
            self._membership.send(control.BundlesReserved(group, attempt))

    def _reserve(self, connection: Connection, message: control.ReserveBundles) -> None:
        self._leases.reserve_group(Group(message.group_id, message.attempt, message.bundles))

    def _return(self, connection: Connection, message: control.ReturnBundles) -> None:
        self._leases.remove_group(message.group_id, message.cause, for_good=message.is_removed)
