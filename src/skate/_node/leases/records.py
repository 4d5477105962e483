"""What the lease table keeps, and what it has others do. Its rules are in ``leases``."""

from __future__ import annotations

import enum
from typing import NamedTuple

from skate._base.resources import Resources


class LeaseState(enum.Enum):
    """See ``leases``."""

    RESERVED = "reserved"
    GRANTED = "granted"
    BLOCKED = "blocked"


class Lease:
    """A promise of one worker, and the resources it takes."""

    __slots__ = ("id", "owner", "shape", "job", "resources", "worker", "state", "retiring", "gpus")

    def __init__(self, lease_id: int, owner: bytes, shape: int, job: bytes, resources: Resources) -> None:
        self.id = lease_id
        self.owner = owner
        self.shape = shape
        self.job = job
        self.resources = resources
        self.worker = b""
        #: Indices of its devices.
        self.gpus: list[int] = []
        self.state = LeaseState.RESERVED
        #: Asked back already.
        self.retiring = False


class Demand:
    """What an owner wants of one shape."""

    __slots__ = ("owner", "shape", "job", "resources", "count", "depth", "order", "held", "refused", "unfit")

    def __init__(self, owner: bytes, shape: int, job: bytes, resources: Resources, order: int) -> None:
        self.owner = owner
        self.shape = shape
        self.job = job
        self.resources = resources
        self.count = 0
        self.depth = 0
        self.order = order
        #: Leases of any state.
        self.held = 0
        self.refused = False
        #: Why it cannot be served here, whatever is free (the node's labels); empty: it can.
        self.unfit = ""


class Grant(NamedTuple):
    """Tell the owner that the worker is its."""

    lease: Lease


class StartWorkers(NamedTuple):
    """Start that many worker processes for the job."""

    job: bytes
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


class OwnerLeft(NamedTuple):
    """Tell this worker that the owner of its lease is gone: it ends, or says that it is idle."""

    worker: bytes
    owner: bytes


Command = Grant | StartWorkers | Reclaim | Refuse | OwnerLeft
