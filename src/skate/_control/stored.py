"""Encodes the records of actors and placement groups, for a control store that restarts. Decisions only."""

from __future__ import annotations

from msgspec import Struct

from skate._control.actors import ActorRecord, ActorState
from skate._control.groups import GroupRecord, GroupState
from skate._wire.codec import pack, unpack
from skate._wire.control import ActorSpec, GroupSpec


class _Actor(Struct, array_like=True, frozen=True):
    """Describes an ``ActorRecord`` in storage; its fields have the same names."""

    state: str
    incarnation: int
    restarts: int
    cause: str
    error: bytes
    node: bytes
    worker: bytes
    address: str
    begun_owner: bytes
    begun_seq: int
    graceful: bool
    times: list[float]
    repr_name: str
    spec: bytes


def dump_actor(actor: ActorRecord) -> bytes:
    """Return a record as bytes."""
    return pack(
        _Actor(
            actor.state.value, actor.incarnation, actor.restarts, actor.cause, actor.error, actor.node,
            actor.worker, actor.address, actor.begun_owner, actor.begun_seq, actor.graceful, actor.times,
            actor.repr_name, actor.spec_bytes,
        )
    )  # fmt: skip


def load_actor(actor_id: bytes, data: bytes) -> ActorRecord:
    """Return the record that ``dump_actor`` encoded."""
    stored = unpack(data, type=_Actor)
    actor = ActorRecord(actor_id, unpack(stored.spec, type=ActorSpec), stored.spec)
    actor.state = ActorState(stored.state)
    for field in _Actor.__struct_fields__[1:-1]:
        setattr(actor, field, getattr(stored, field))
    return actor


class _Group(Struct, array_like=True, frozen=True):
    """Describes a ``GroupRecord`` in storage; its fields have the same names."""

    state: str
    attempt: int
    nodes: list[bytes]
    reserved: list[bytes]
    reason: str
    cause: str
    times: list[float]
    spec: GroupSpec


def dump_group(group: GroupRecord) -> bytes:
    """Return a record as bytes."""
    return pack(
        _Group(
            group.state.value, group.attempt, group.nodes, group.reserved, group.reason, group.cause,
            group.times, group.spec,
        )
    )  # fmt: skip


def load_group(group_id: bytes, data: bytes) -> GroupRecord:
    """Return the record that ``dump_group`` encoded."""
    stored = unpack(data, type=_Group)
    group = GroupRecord(group_id, stored.spec)
    group.state = GroupState(stored.state)
    for field in _Group.__struct_fields__[1:-1]:
        setattr(group, field, getattr(stored, field))
    return group
