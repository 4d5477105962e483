"""Makes ids and takes them apart, and defines the public classes that wrap them.

Inside the runtime an id is ``bytes``. An object id names its owner::

    | 8 bytes: the owning process | 6 bytes: its counter | 2 bytes: return index |
      ^ worker id                   ^ one a task or put
      '--------- task id ---------------------------'

So a process that holds a ref knows which process to ask, and no table maps objects to owners.
"""

from __future__ import annotations

import os
from typing import TypeVar

WORKER_ID_SIZE = 8
TASK_ID_SIZE = 14
OBJECT_ID_SIZE = 16
ACTOR_ID_SIZE = 16
NODE_ID_SIZE = 16
JOB_ID_SIZE = 4

#: The sizes of the same ids in an existing Ray cluster, by class, where they differ.
RAY_SIZES = {"ObjectRef": 28, "TaskID": 24, "NodeID": 28, "WorkerID": 28, "PlacementGroupID": 18}

#: The most returns of a task: the index has two bytes (count).
MAX_RETURNS = 65_535

Self = TypeVar("Self", bound="BaseID")


def random_bytes(size: int) -> bytes:
    """Return bytes that no other process gets. A simulator sets another function in the place of this one.

    It is the only source of randomness in the roles, and is called as ``ids.random_bytes``.
    """
    return os.urandom(size)


def new_worker_id() -> bytes:
    """Return the random prefix that makes a process's ids unique in every cluster."""
    return random_bytes(WORKER_ID_SIZE)


def new_node_id() -> bytes:
    """Return a random id for one start of a node daemon."""
    return random_bytes(NODE_ID_SIZE)


def task_id(worker_id: bytes, counter: int) -> bytes:
    """Return the id of the task that ``worker_id`` submitted under ``counter``."""
    return worker_id + counter.to_bytes(6, "big")


def object_id(worker_id: bytes, counter: int, index: int = 0) -> bytes:
    """Return the id of return ``index`` of that task (a put has index 0)."""
    return worker_id + (counter << 16 | index).to_bytes(8, "big")


def parts_of(object_id_: bytes) -> tuple[int, int]:
    """Return the counter and the index of an object, which ``object_id`` got."""
    number = int.from_bytes(object_id_[WORKER_ID_SIZE:], "big")
    return number >> 16, number & 0xFFFF


#: The counters that one stream of items takes (count); each names 65,536 items.
STREAM_COUNTERS = 1 << 16


def item_id(owner: bytes, base: int, index: int) -> bytes:
    """Return the id of an item of the stream whose counters begin at ``base``."""
    return object_id(owner, base + (index >> 16), index & 0xFFFF)


def index_of(object_id_: bytes, base: int) -> int:
    """Return which item of the stream whose counters begin at ``base`` has this id."""
    counter, index = parts_of(object_id_)
    return counter - base << 16 | index


def task_of(object_id_: bytes) -> bytes:
    """Return the id of the task that made an object, here or in an existing Ray cluster."""
    if len(object_id_) == RAY_SIZES["ObjectRef"]:
        return object_id_[: RAY_SIZES["TaskID"]]
    return object_id_[:TASK_ID_SIZE]


def owner_of(object_id_: bytes) -> bytes:
    """Return the worker id of the process that owns this object."""
    return object_id_[:WORKER_ID_SIZE]


def new_actor_id(job_id: bytes) -> bytes:
    """Return a random id that ends with the job's."""
    return random_bytes(ACTOR_ID_SIZE - JOB_ID_SIZE) + job_id


def _digest(size: int, *parts: bytes) -> bytes:
    """Return a digest of the parts; other parts give other bytes."""
    import hashlib

    return hashlib.blake2b(b"".join(parts), digest_size=size).digest()


class BaseID:
    """Wraps an id for users: immutable, hashable, comparable, printable as hex."""

    __slots__ = ("_bytes",)
    SIZE = OBJECT_ID_SIZE

    def __init__(self, id_bytes: bytes) -> None:
        if not isinstance(id_bytes, bytes):
            raise TypeError(f"{type(self).__name__} takes bytes, got {type(id_bytes).__name__}")
        if len(id_bytes) != self.SIZE and len(id_bytes) != RAY_SIZES.get(type(self).__name__):
            raise ValueError(f"{type(self).__name__} takes {self.SIZE} bytes, got {len(id_bytes)}")
        self._bytes = id_bytes

    @classmethod
    def from_hex(cls: type[Self], hex_id: str) -> Self:
        """Return the id that ``hex()`` printed."""
        return cls(bytes.fromhex(hex_id))

    @classmethod
    def from_binary(cls: type[Self], id_bytes: bytes) -> Self:
        """Return the id that ``binary()`` gave."""
        return cls(id_bytes)

    @classmethod
    def from_random(cls: type[Self]) -> Self:
        """Return a new random id."""
        return cls(random_bytes(cls.SIZE))

    @classmethod
    def nil(cls: type[Self]) -> Self:
        """Return the id that stands for none: all bits set."""
        return cls(b"\xff" * cls.SIZE)

    @classmethod
    def size(cls) -> int:
        """Return how many bytes an id of this kind has."""
        return cls.SIZE

    def is_nil(self) -> bool:
        """Tell whether this is the nil id."""
        return self._bytes == b"\xff" * self.SIZE

    def binary(self) -> bytes:
        """Return the id as bytes."""
        return self._bytes

    def hex(self) -> str:
        """Return the id as lower-case hexadecimal digits."""
        return self._bytes.hex()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._bytes == self._bytes

    def __lt__(self: Self, value: Self) -> bool:
        return self._bytes < value._bytes if type(value) is type(self) else NotImplemented

    def __le__(self: Self, value: Self) -> bool:
        return self._bytes <= value._bytes if type(value) is type(self) else NotImplemented

    def __gt__(self: Self, value: Self) -> bool:
        return self._bytes > value._bytes if type(value) is type(self) else NotImplemented

    def __ge__(self: Self, value: Self) -> bool:
        return self._bytes >= value._bytes if type(value) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hex()})"

    def __reduce__(self) -> tuple[type, tuple[bytes]]:
        return type(self), (self._bytes,)


class UniqueID(BaseID):
    """Identifies anything by 16 bytes."""

    __slots__ = ()


class WorkerID(BaseID):
    """Identifies a process that runs tasks: a driver or a worker."""

    __slots__ = ()
    SIZE = WORKER_ID_SIZE


class NodeID(BaseID):
    """Identifies a machine of the cluster (one node daemon)."""

    __slots__ = ()
    SIZE = NODE_ID_SIZE


class JobID(BaseID):
    """Identifies one run of a driver, with all tasks and actors that it started, directly or not."""

    __slots__ = ()
    SIZE = JOB_ID_SIZE

    @classmethod
    def from_int(cls, value: int) -> JobID:
        """Return the job with this number."""
        return cls(value.to_bytes(JOB_ID_SIZE, "big"))

    def int(self) -> int:
        """Return the job's number."""
        return int.from_bytes(self._bytes, "big")


class ActorID(BaseID):
    """Identifies an actor through all its incarnations. The last bytes are the job's id."""

    __slots__ = ()
    SIZE = ACTOR_ID_SIZE

    @classmethod
    def of(cls, job_id: JobID, parent_task_id: TaskID, parent_task_counter: int) -> ActorID:
        """Return an id of this job that is computed from its creator: the same arguments give the same id."""
        counter = parent_task_counter.to_bytes(8, "big")
        unique = _digest(ACTOR_ID_SIZE - JOB_ID_SIZE, parent_task_id.binary(), counter)
        return cls(unique + job_id.binary())

    def job_id(self) -> JobID:
        """Return the job of the process that created it."""
        return JobID(self._bytes[-JOB_ID_SIZE:])


class TaskID(BaseID):
    """Identifies one call of a remote function or of an actor's method. The first bytes name the process that
    made it."""

    __slots__ = ()
    SIZE = TASK_ID_SIZE

    @classmethod
    def for_driver_task(cls, job_id: JobID) -> TaskID:
        """Return the id that stands for a driver's own program as the parent of tasks."""
        return cls(b"\0" * (TASK_ID_SIZE - JOB_ID_SIZE) + job_id.binary())

    @classmethod
    def for_actor_creation_task(cls, actor_id: ActorID) -> TaskID:
        """Return the id that stands for an actor's constructor among tasks."""
        return cls(_digest(TASK_ID_SIZE, actor_id.binary()))


class PlacementGroupID(BaseID):
    """Identifies a group of resource bundles placed together. The last bytes are the job's id."""

    __slots__ = ()

    @classmethod
    def of(cls, job_id: JobID) -> PlacementGroupID:
        """Return a new random id of this job."""
        return cls(new_actor_id(job_id.binary()))


class FunctionID(BaseID):
    """Identifies a pickled remote function by its content."""

    __slots__ = ()


class ActorClassID(BaseID):
    """Identifies a pickled actor class by its content."""

    __slots__ = ()


class ClusterID(BaseID):
    """Identifies a cluster, from the start of its control store."""

    __slots__ = ()
