"""Decides when a node reserves the bundles of placement groups, and which bundle a lease may use.

Decisions only. Owner: the lease table, whose accounts these are. A group goes through::

    (none) --wanted--> WAITING --all its bundles fit--> RESERVED --removed--> gone (its id is remembered)
                          '-----------------removed-------------------------'

The bundles that a node is to reserve for a group are reserved together or not at all: a group that waits
holds nothing. Groups are served in the order in which they came. A group that does not fit is overtaken,
unless nothing but leases of tasks is in its way: tasks end. Then it is the *first in line*: groups that came
later wait behind it, and so do tasks of drivers that were demanded later, while leases are asked back for it.
Actors and tasks of tasks overtake it, and nothing waits behind it while a process waits in ``get``: what that
waits for could be among what is held back. Tasks may also wait for each other unseen, through files or
sockets. So a group lets others pass when no lease has come back for a while, until one does; each time, the
while gets twice as long, and in the end longer than any task.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from skate._base.resources import Resources, add, describe, fits
from skate._node.leases.accounts import Account, Place, can_carve, carving_order

T = TypeVar("T")

#: So many time slices without a returned lease, and a group that is first in line lets others pass.
PATIENCE = 100

#: So many removed groups are remembered, for demands that arrive late.
MAX_REMOVED = 10_000


class GroupState(enum.Enum):
    """The states of a group at a node; the module's text has the diagram."""

    WAITING = "waiting"
    RESERVED = "reserved"


class Group:
    """The bundles of one placement group that are to be at this node."""

    __slots__ = ("id", "attempt", "bundles", "total", "order", "state", "accounts", "patience",
                 "stalled", "lets_pass")  # fmt: skip

    def __init__(self, group: bytes, attempt: int, bundles: Mapping[int, Mapping[str, int]]) -> None:
        self.id = group
        #: The control store's number of this try to place it.
        self.attempt = attempt
        #: By index, in the order in which they are carved.
        self.bundles = {index: dict(bundles[index]) for index in carving_order(bundles)}
        #: Their sum.
        self.total: Resources = {}
        for resources in self.bundles.values():
            add(self.total, resources)
        #: Its place among demands and groups: first come, first served.
        self.order = 0
        self.state = GroupState.WAITING
        #: First in line: after so many time slices in a row without a returned lease it lets others pass.
        self.patience = PATIENCE
        self.stalled = 0
        #: It does, until a lease is returned.
        self.lets_pass = False
        #: Of RESERVED: by index.
        self.accounts: dict[int, Account] = {}


class Reserved(NamedTuple):
    """Report that the node holds the group's bundles."""

    group: bytes
    attempt: int


class Unusable(NamedTuple):
    """Says why no lease can be had in a group, ever."""

    reason: str
    #: The group was removed.
    removed: bool


Returning = Sequence[tuple[Mapping[str, int], Sequence[int]]]
"""Resources that come back when tasks end, and the devices of these."""


class Groups:
    """The placement groups of one node.

    Args:
        node: the node's own account.
    """

    def __init__(self, node: Account) -> None:
        self._node = node
        self._groups: dict[bytes, Group] = {}
        self._waiting: dict[bytes, Group] = {}
        self._removed: OrderedDict[bytes, str] = OrderedDict()
        #: Groups that demands name and nobody has announced yet.
        self._missing: dict[bytes, None] = {}
        #: The group for which tasks that come later wait; None: there is none.
        self.first_in_line: Group | None = None

    # ------------------------------------------------------------------ events

    def wanted(self, group: Group) -> None:
        """Queue a group, which must not be here. A removed one stays removed."""
        if group.id not in self._removed:
            self._missing.pop(group.id, None)
            self._groups[group.id] = self._waiting[group.id] = group

    def dropped(self, group: bytes) -> list[Account]:
        """Forget a group for now; return its accounts, which are closed."""
        found = self._groups.pop(group, None)
        self._waiting.pop(group, None)
        if found is None:
            return []
        for account in found.accounts.values():
            account.close()
        return list(found.accounts.values())

    def removed(self, group: bytes, reason: str) -> None:
        """Remember that a group is gone for good, and why."""
        self._missing.pop(group, None)
        self._removed[group] = reason
        if len(self._removed) > MAX_REMOVED:
            self._removed.popitem(last=False)

    def missing(self, group: bytes) -> bool:
        """Note that a demand names this group; tell whether it has to be asked for."""
        if group in self._groups or group in self._removed or group in self._missing:
            return False
        self._missing[group] = None
        return True

    def serve(self, returning: Callable[[], Returning]) -> list[Reserved]:
        """Reserve what fits, in order.

        Args:
            returning: returns what leases of tasks have of the node's account; nothing if processes wait in
                ``get``.
        """
        reserved: list[Reserved] = []
        self.first_in_line = None
        for group in list(self._waiting.values()):
            if can_carve(group.bundles.values(), self._node):
                for index, resources in group.bundles.items():
                    group.accounts[index] = self._node.carve((group.id, index), resources)
                group.state = GroupState.RESERVED
                del self._waiting[group.id]
                reserved.append(Reserved(group.id, group.attempt))
            elif can_carve(group.bundles.values(), self._node, returning()):
                self.first_in_line = group
                if not group.lets_pass:
                    break
        return reserved

    def lease_ended(self) -> None:
        """Note that a lease of tasks has ended: the first group in line gets closer."""
        if self.first_in_line is not None:
            self.first_in_line.stalled = 0
            self.first_in_line.lets_pass = False

    def time_passes(self) -> bool:
        """Note that a time slice is over; tell whether the first group in line begins to let others pass."""
        first = self.first_in_line
        if first is None or first.lets_pass:
            return False
        first.stalled += 1
        if first.stalled < first.patience:
            return False
        first.patience *= 2
        first.lets_pass = True
        return True

    # ------------------------------------------------------------------ questions

    def get(self, group: bytes) -> Group | None:
        """Return a group that is wanted here."""
        return self._groups.get(group)

    @property
    def rows(self) -> list[Group]:
        """Every group that is wanted here, the first one first."""
        return list(self._groups.values())

    @property
    def asked_for(self) -> list[bytes]:
        """The groups that demands name and nobody has announced."""
        return list(self._missing)

    @property
    def is_waiting(self) -> bool:
        """Whether any group waits."""
        return bool(self._waiting)

    def holds_back(self, order: int, resources: Mapping[str, int]) -> bool:
        """Tell whether a demand of a driver's tasks waits behind the first group in line."""
        first = self.first_in_line
        if first is None or first.lets_pass:
            return False
        return order > first.order and any(name in first.total for name in resources)

    def unusable(self, place: Place, resources: Mapping[str, int]) -> Unusable | None:
        """Return why a lease can never be had at a place; None: it can, or may be."""
        group, index = place
        gone = self._removed.get(group)
        if gone is not None:
            return Unusable(gone, True)
        found = self._groups.get(group)
        if found is None:
            return None
        if index >= 0 and index not in found.bundles:
            return Unusable(
                f"placement group {group.hex()} has no bundle {index} here: it has bundles "
                f"{', '.join(map(str, sorted(found.bundles)))}",
                False,
            )
        if any(fits(resources, one) for one in _chosen(found.bundles, index)):
            return None
        where = f"bundle {index}" if index >= 0 else "no bundle"
        has = ", ".join(describe(one) for one in _chosen(dict(sorted(found.bundles.items())), index))
        return Unusable(
            f"it needs {describe(resources)}, which {where} of placement group {group.hex()} can "
            f"{'never' if index >= 0 else 'ever'} give: {'it has' if index >= 0 else 'they have'} {has}",
            False,
        )

    def account(self, place: Place, resources: Mapping[str, int]) -> Account | None:
        """Return the account of a bundle that has room; None: none has, or the group waits."""
        found = self._groups.get(place[0])
        if found is None or found.state is not GroupState.RESERVED:
            return None
        accounts = dict(sorted(found.accounts.items()))
        return next((one for one in _chosen(accounts, place[1]) if one.has_room(resources)), None)


def _chosen(found: Mapping[int, T], index: int) -> list[T]:
    if index < 0:
        return list(found.values())
    return [found[index]] if index in found else []
