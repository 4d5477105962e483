"""Placement groups of an in-process session: what is to run in one waits until its bundles are reserved.

The rules are those of a real node (``skate._node.leases.groups``). Tasks and actors take no resources here,
so bundles are reserved beside each other only: a group waits for other groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from skate._base.resources import Resources
from skate._node.leases.accounts import Account, Place
from skate._node.leases.groups import Group, Groups, GroupState
from skate._node.leases.instances import Devices
from skate._transport.connection import Connection, Handler
from skate._wire import control

if TYPE_CHECKING:
    from skate._inline.reactor import LocalConnection


class _Waiting(NamedTuple):
    """Something that is to run in a group."""

    place: Place
    resources: Resources
    go: Callable[[], None]
    #: Called with the reason why it never can, and whether that is that the group was removed.
    fail: Callable[[str, bool], None]


class InlineGroups:
    """The placement groups of an in-process session. All methods run under the lock.

    Args:
        resources: of the session.
        gpus: its ids of devices.
        on_removed: ends what runs in a group that was removed, for a reason.
    """

    def __init__(
        self, resources: Resources, gpus: Sequence[str], on_removed: Callable[[bytes, str], None]
    ) -> None:
        self._node = Account(resources, Devices(gpus))
        self._groups = Groups(self._node)
        self._on_removed = on_removed
        self._waiting: list[_Waiting] = []
        #: The connection to the control store.
        self.control: LocalConnection

    @property
    def free(self) -> Resources:
        """The resources that no group has reserved."""
        return self._node.free

    def handlers(self) -> dict[type, Handler]:
        """Return the handlers of the control store's messages."""
        return {control.ReserveBundles: self._reserve, control.ReturnBundles: self._return}

    def _reserve(self, connection: Connection, message: control.ReserveBundles) -> None:
        known = self._groups.get(message.group_id)
        if known is None or known.attempt < message.attempt:
            self._groups.dropped(message.group_id)
            self._groups.wanted(Group(message.group_id, message.attempt, message.bundles))
        self._serve()

    def _return(self, connection: Connection, message: control.ReturnBundles) -> None:
        if message.is_removed:
            self._groups.removed(message.group_id, message.cause)
            self._on_removed(message.group_id, message.cause)
        self._groups.dropped(message.group_id)
        self._serve()

    def _serve(self) -> None:
        """Reserve what fits, then begin or refuse what waited for it."""
        for group, attempt in self._groups.serve(lambda: ()):
            self.control.send(control.BundlesReserved(group, attempt))
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            self.admit(*one)

    def admit(
        self,
        place: Place,
        resources: Resources,
        go: Callable[[], None],
        fail: Callable[[str, bool], None],
    ) -> None:
        """Call ``go`` when the group is reserved, or ``fail`` if no bundle of it can ever serve this."""
        unusable = self._groups.unusable(place, resources)
        if unusable is not None:
            fail(*unusable)
            return
        group = self._groups.get(place[0])
        if group is not None and group.state is GroupState.RESERVED:
            go()
            return
        self._waiting.append(_Waiting(place, resources, go, fail))
        if self._groups.missing(place[0]):
            self.control.send(control.AskForGroup(place[0]))
