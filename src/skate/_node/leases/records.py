"""The records of the lease table, and its commands. The rules are in ``table``."""

from __future__ import annotations

import enum
from typing import NamedTuple

from skate._base.resources import Resources
from skate._node.leases.accounts import Account, Place
from skate._node.leases.groups import Reserved


class LeaseState(enum.Enum):
    """The states of a lease; ``table`` has the diagram."""

    RESERVED = "reserved"
    GRANTED = "granted"
    BLOCKED = "blocked"


class Lease:
    """A promise of one worker, and the resources it takes."""

    __slots__ = ("id", "owner", "shape", "pool", "resources", "dedicated", "worker", "state", "retiring",
                 "gpus", "account")  # fmt: skip

    def __init__(self, lease_id: int, demand: Demand, account: Account) -> None:
        self.id = lease_id
        #: The lessee (see ``lessee``): whose demand it serves, and which one.
        self.owner = demand.owner
        self.shape = demand.shape
        #: The worker pool key that the worker must have.
        self.pool = demand.pool
        self.resources = demand.resources
        #: From which it took them: the node's, or a bundle's.
        self.account = account
        #: It keeps its worker until the worker's process ends.
        self.dedicated = demand.dedicated
        self.worker = b""
        #: Indices of its devices.
        self.gpus: list[int] = []
        self.state = LeaseState.RESERVED
        #: Asked back already.
        self.retiring = False


class Demand:
    """The number of leases that an owner wants of one shape."""

    __slots__ = ("owner", "shape", "pool", "resources", "dedicated", "count", "depth", "order", "held",
                 "refused", "infeasible", "place")  # fmt: skip

    def __init__(
        self,
        owner: bytes,
        shape: int,
        pool: bytes,
        resources: Resources,
        order: int,
        dedicated: bool,
        place: Place,
    ) -> None:
        self.owner = owner
        self.shape = shape
        self.pool = pool
        self.resources = resources
        #: Each lease is for the life of its worker: it takes a worker that owns nothing.
        self.dedicated = dedicated
        #: The placement group, and the bundle, whose resources it may use.
        self.place = place
        self.count = 0
        self.depth = 0
        self.order = order
        #: Leases of any state.
        self.held = 0
        self.refused = False
        #: Why it cannot be served here, whatever is free (the node's labels); empty: it can.
        self.infeasible = ""


class Grant(NamedTuple):
    """Tell the owner that it has the lease's worker."""

    lease: Lease


class StartWorkers(NamedTuple):
    """Start that many worker processes for the worker pool."""

    pool: bytes
    number: int


class Reclaim(NamedTuple):
    """Ask the owner for its idle leases, and for ``busy`` more when they are through."""

    owner: bytes
    busy: int


class Refuse(NamedTuple):
    """Tell the owner that this shape cannot be served."""

    owner: bytes
    shape: int
    reason: str
    fatal: bool
    #: Its environment is why.
    environment: bool = False
    #: Its placement group was removed.
    removed: bool = False


class OwnerLeft(NamedTuple):
    """Tell this worker that the owner of its lease is gone: it ends, or says that it is idle."""

    worker: bytes
    owner: bytes


class EndWorker(NamedTuple):
    """Kill this worker: the placement group in which it runs was removed."""

    worker: bytes
    reason: str


class AskForGroup(NamedTuple):
    """Ask the control store about a placement group that is named here, and not known."""

    group: bytes


Command = Grant | StartWorkers | Reclaim | Refuse | OwnerLeft | EndWorker | AskForGroup | Reserved
