"""Accounts of resources: what a node has, and what each bundle has of it. Decisions only.

A resource is in one account at a time. A bundle's account is carved out of the node's; leases take from one
account and give back to it. A closed account holds nothing: what its leases still have goes to the node when
they end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from skate._base.resources import UNIT, Resources, add, describe, fits, subtract
from skate._node.leases.instances import Devices

Place = tuple[bytes, int]
"""A placement group and the index of its bundle; -1: any bundle of it."""

#: The place of what runs in no placement group.
NO_GROUP: Place = (b"", -1)


class Account:
    """Resources that leases take.

    Args:
        total: all of it, in fixed point.
        gpus: the devices behind its amount of ``GPU``.
        place: of a bundle's account.
        parent: the account that it was carved out of.
    """

    __slots__ = ("total", "free", "gpus", "place", "_parent", "_closed")

    def __init__(
        self,
        total: Mapping[str, int],
        gpus: Devices,
        place: Place = NO_GROUP,
        parent: Account | None = None,
    ) -> None:
        self.total: Resources = dict(total)
        self.free: Resources = dict(total)
        self.gpus = gpus
        self.place = place
        self._parent = parent
        self._closed = False

    @property
    def open(self) -> Account:
        """This account; once it is closed, the one that it was carved out of."""
        account = self
        while account._closed and account._parent is not None:
            account = account._parent
        return account

    def has_room(self, resources: Mapping[str, int]) -> bool:
        """Tell whether these resources are free, their GPUs in whole devices or in one share."""
        if not fits(resources, self.free):
            return False
        return "GPU" not in resources or self.gpus.choose(resources["GPU"]) is not None

    def lack(self, resources: Mapping[str, int]) -> str:
        """Return why this account could not give these resources if all of it were free; empty: it could."""
        if fits(resources, self.total):
            return ""
        has = describe({name: self.total.get(name, 0) for name in resources})
        return f"it needs {describe(resources)}, and this node has {has} in all"

    def take(self, resources: Mapping[str, int]) -> list[int]:
        """Take resources that are free; return the indices of their devices."""
        subtract(self.free, resources)
        return self.gpus.take(resources.get("GPU", 0)) or []

    def give_back(self, resources: Mapping[str, int], devices: Sequence[int] = ()) -> None:
        """Return what a lease took, or a part of it; ``devices`` are those of its amount of ``GPU``."""
        account = self.open
        add(account.free, resources)
        account.gpus.give_back(devices, resources.get("GPU", 0))

    def take_cpus_back(self, cpus: Mapping[str, int]) -> None:
        """Take CPUs that were lent, even if they are in use elsewhere by now."""
        subtract(self.open.free, cpus)

    def carve(self, place: Place, resources: Mapping[str, int]) -> Account:
        """Move resources that are free into the account of a bundle."""
        part = Devices(self.gpus.ids)
        part.free = [0] * len(part.ids)
        units = resources.get("GPU", 0)
        part.give_back(self.take(resources), units)
        return Account(resources, part, place, self)

    def close(self) -> None:
        """Move what is free back; what leases have follows when they end."""
        assert self._parent is not None
        self._closed = True
        above = self.open
        add(above.free, self.free)
        above.gpus.free = [mine + its for mine, its in zip(above.gpus.free, self.gpus.free, strict=True)]
        self.free = {}


def can_carve(
    bundles: Iterable[Mapping[str, int]],
    account: Account,
    returning: Iterable[tuple[Mapping[str, int], Sequence[int]]] = (),
) -> bool:
    """Tell whether an account has room for all bundles together.

    Args:
        bundles: in the order of ``carving_order``.
        account: is not changed.
        returning: resources, and the devices of these, that count as free.
    """
    trial = Account(account.total, Devices(account.gpus.ids))
    trial.free = dict(account.free)
    trial.gpus.free = list(account.gpus.free)
    for resources, devices in returning:
        trial.give_back(resources, devices)
    for resources in bundles:
        if not trial.has_room(resources):
            return False
        trial.take(resources)
    return True


def carving_order(bundles: Mapping[int, Mapping[str, int]]) -> list[int]:
    """Return the indices of bundles, those that need whole GPUs first: shares go where room is left."""
    return sorted(bundles, key=lambda index: (bundles[index].get("GPU", 0) < UNIT, index))
