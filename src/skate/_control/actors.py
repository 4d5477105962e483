"""Keeps the actor directory: decides where each actor lives, and what its death causes. Decisions only.

Owner: the control store's loop. An actor lives through::

             create            started                    ended, restarts left
    (none) ---------> PENDING ---------> ALIVE ---------------------------------> RESTARTING
                         |                 |  ended on purpose, killed, released,     |   |
                         |                 |  owner died, no restarts left            |   | started
                         '-----------------+------------------------------------------'   '--> ALIVE
                                           v
                                         DEAD (its name is free again)

Each incarnation has a number; messages about a past incarnation are dropped on arrival.

The control store records the changes of ``Publish``, ``Record`` and ``Prune`` before it sends any message
about them. A restarted control store begins with those records (``restore``), so only messages that were
under way are lost. A node that reconnects therefore repeats its last reports, and lists the incarnations that
it has (``node_joined``): an incarnation that it lacks is placed again, and one that it should not have is
stopped.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Collection, Iterable
from typing import NamedTuple

import msgspec

from skate._base.transitions import TransitionTable
from skate._scheduling.requirements import group_of
from skate._wire.codec import pack
from skate._wire.control import ActorSpec


class ActorState(enum.Enum):
    """Names the states of an actor. Users see the values."""

    PENDING = "PENDING_CREATION"
    ALIVE = "ALIVE"
    RESTARTING = "RESTARTING"
    DEAD = "DEAD"


class ActorEvent(enum.Enum):
    """Names the events of an actor's life."""

    STARTED = "started"
    RESTART = "ended with restarts left"
    END = "ended for good"


TABLE = TransitionTable(
    {
        (ActorState.PENDING, ActorEvent.STARTED): ActorState.ALIVE,
        (ActorState.PENDING, ActorEvent.RESTART): ActorState.RESTARTING,
        (ActorState.PENDING, ActorEvent.END): ActorState.DEAD,
        (ActorState.ALIVE, ActorEvent.RESTART): ActorState.RESTARTING,
        (ActorState.ALIVE, ActorEvent.END): ActorState.DEAD,
        (ActorState.RESTARTING, ActorEvent.STARTED): ActorState.ALIVE,
        (ActorState.RESTARTING, ActorEvent.RESTART): ActorState.RESTARTING,
        (ActorState.RESTARTING, ActorEvent.END): ActorState.DEAD,
    }
)


class ActorRecord:
    """Describes one actor through all its incarnations."""

    __slots__ = ("id", "spec", "state", "incarnation", "address", "node", "worker", "cause", "error",
                 "begun_owner", "begun_seq", "restarts", "graceful", "spec_bytes", "times",
                 "repr_name")  # fmt: skip

    def __init__(self, actor_id: bytes, spec: ActorSpec, spec_bytes: bytes) -> None:
        self.id = actor_id
        self.spec = spec
        self.spec_bytes = spec_bytes
        self.state = ActorState.PENDING
        self.incarnation = 0
        self.address = ""
        self.node = b""
        self.worker = b""
        self.cause = ""
        #: Pickled exception of the constructor.
        self.error = b""
        self.begun_owner = b""
        self.begun_seq = 0
        self.restarts = 0
        #: Whether the actor was asked to end by itself.
        self.graceful = False
        #: When the actor was created, alive for the first time, and dead (seconds since 1970; 0: not yet),
        #: and its own __repr__. The control server sets them, for people to read.
        self.times = [0.0, 0.0, 0.0]
        self.repr_name = ""


class Place(NamedTuple):
    """Start this incarnation on the node."""

    node: bytes
    actor: ActorRecord


class Stop(NamedTuple):
    """End this incarnation on the node."""

    node: bytes
    actor: bytes
    incarnation: int
    cause: str
    #: It may clean up first.
    graceful: bool = False


class Publish(NamedTuple):
    """Record the state and send it to the watchers."""

    actor: ActorRecord


class Record(NamedTuple):
    """Record where the actor is; watchers get no message."""

    actor: ActorRecord


class Forget(NamedTuple):
    """End the job of a detached actor that is dead for good."""

    actor: ActorRecord


class Prune(NamedTuple):
    """Delete all records of this actor."""

    actor: bytes


Command = Place | Stop | Publish | Record | Forget | Prune


#: The most dead actors that are remembered (count), so that remaining handles get the reason of their end.
MAX_DEAD_ACTORS = 10_000


#: The reason in the order to a node to end an incarnation that it should not have.
_NOT_WANTED = "the control store has recorded it as dead or restarted elsewhere"
_VANISHED = "its process ended while the control store was down; the cause is not known"


class NameTaken(ValueError):
    """An actor with this name lives already."""

    def __init__(self, actor_id: bytes) -> None:
        super().__init__(actor_id)
        self.actor_id = actor_id


class Actors:
    """Decides about all actors of the cluster."""

    def __init__(self) -> None:
        self.records: dict[bytes, ActorRecord] = {}
        self._names: dict[tuple[str, str], bytes] = {}
        self._unplaced: list[ActorRecord] = []
        self._dead: deque[bytes] = deque()
        self._nodes: list[bytes] = []

    # ------------------------------------------------------------------ nodes

    def node_joined(self, node: bytes, hosted: Collection[tuple[bytes, int]] = ()) -> list[Command]:
        """Take a node into account that can run actors. ``hosted``: the incarnations that it has or will
        have, if it was here before; it has repeated its last reports (``started``, ``ended``) then."""
        if node not in self._nodes:
            self._nodes.append(node)
        commands: list[Command] = []
        for actor_id, incarnation in hosted:
            actor = self._current(actor_id, incarnation)
            if actor is None or actor.node != node:
                known = self.records.get(actor_id)
                graceful = known is not None and known.graceful
                commands.append(Stop(node, actor_id, incarnation, _NOT_WANTED, graceful))
        has = set(hosted)
        for actor in list(self.records.values()):
            if actor.node == node and (actor.id, actor.incarnation) not in has:
                if actor.state is ActorState.ALIVE:
                    commands += self.ended(actor.id, actor.incarnation, _VANISHED, False, b"", 0)
                elif actor.state is not ActorState.DEAD:
                    commands.append(Place(node, actor))  # the node never got the order
        waiting, self._unplaced = self._unplaced, []
        for actor in waiting:
            commands += [Record(actor), *self._place(actor)]
        return commands

    def node_lost(self, node: bytes) -> list[Command]:
        """Handle the loss of a node and its actors."""
        if node in self._nodes:
            self._nodes.remove(node)
        commands: list[Command] = []
        for actor in list(self.records.values()):
            if actor.node == node and actor.state is not ActorState.DEAD:
                cause = "its node was lost: the node daemon ended or cannot be reached"
                commands += self.ended(actor.id, actor.incarnation, cause, False, b"", 0)
        return commands

    def _place(self, actor: ActorRecord) -> list[Command]:
        if not self._nodes:
            self._unplaced.append(actor)
            return []
        actor.node = self._nodes[0]
        return [Place(actor.node, actor)]

    # ------------------------------------------------------------------ life

    def create(self, actor_id: bytes, spec: ActorSpec, spec_bytes: bytes) -> list[Command]:
        """Record a new actor. A repeat of the same id changes nothing.

        Raises:
            NameTaken: with the id of the actor that has the name.
        """
        if actor_id in self.records:
            return []
        if spec.name:
            key = (spec.namespace, spec.name)
            if key in self._names:
                raise NameTaken(self._names[key])
            self._names[key] = actor_id
        actor = self.records[actor_id] = ActorRecord(actor_id, spec, spec_bytes)
        return [Publish(actor), *self._place(actor)]

    def started(
        self, actor_id: bytes, incarnation: int, worker: bytes, address: str, error: bytes
    ) -> list[Command]:
        """Record that the constructor returned, or raised ``error``: then the actor is dead, whatever its
        restarts."""
        actor = self._current(actor_id, incarnation)
        if actor is None or actor.state is ActorState.ALIVE:
            return []
        actor.worker, actor.address = worker, address
        if error:
            actor.error = error
            stop = Stop(actor.node, actor.id, incarnation, "its constructor raised")
            return [*self._end(actor, "its constructor raised"), stop]
        actor.state = TABLE.next(f"actor {actor_id.hex()}", actor.state, ActorEvent.STARTED)
        return [Publish(actor)]

    def ended(
        self,
        actor_id: bytes,
        incarnation: int,
        cause: str,
        intended: bool,
        begun_owner: bytes,
        begun_seq: int,
    ) -> list[Command]:
        """Handle the end of an incarnation's process: restart the actor or declare it dead."""
        actor = self._current(actor_id, incarnation)
        if actor is None:
            return []
        actor.begun_owner, actor.begun_seq = begun_owner, begun_seq
        limit = actor.spec.max_restarts
        if intended or (limit >= 0 and actor.restarts >= limit):
            if limit > 0 and not intended:
                cause = f"{cause} (it was restarted {actor.restarts} times, the limit of max_restarts)"
            return self._end(actor, cause)
        actor.state = TABLE.next(f"actor {actor_id.hex()}", actor.state, ActorEvent.RESTART)
        actor.cause = cause
        actor.restarts += 1
        actor.incarnation += 1
        actor.address, actor.node = "", b""
        return [Publish(actor), *self._place(actor)]

    def kill(
        self, actor_id: bytes, no_restart: bool, reason: str, *, graceful: bool = False
    ) -> list[Command]:
        """End the actor's process; for good, or for a restart if any are left."""
        actor = self.records.get(actor_id)
        if actor is None or actor.state is ActorState.DEAD:
            return []
        stop = Stop(actor.node, actor.id, actor.incarnation, reason, graceful)
        where = [stop] if actor.node else []
        if not no_restart:
            return [*where]
        if actor in self._unplaced:
            self._unplaced.remove(actor)
        actor.graceful = graceful
        # Callers need not wait for the end of the process: its messages do not count any more.
        return [*self._end(actor, reason), *where]

    def owner_died(self, owner: bytes) -> list[Command]:
        """End the actors that an ended process created, except detached ones."""
        commands: list[Command] = []
        for actor in list(self.records.values()):
            if actor.spec.owner_id == owner and not actor.spec.job_config:
                commands += self.kill(actor.id, True, "the process that created it ended")
        return commands

    def group_removed(self, group: bytes, cause: str, error: bytes) -> list[Command]:
        """End the actors that run in a placement group that was removed, or are to; callers get ``error``."""
        commands: list[Command] = []
        for actor in list(self.records.values()):
            if actor.state is not ActorState.DEAD and group_of(actor.spec.requirement)[0] == group:
                actor.error = error
                commands += self.kill(actor.id, True, cause)
        return commands

    def _end(self, actor: ActorRecord, cause: str) -> list[Command]:
        if actor.state is not ActorState.DEAD:
            actor.state = TABLE.next(f"actor {actor.id.hex()}", actor.state, ActorEvent.END)
        actor.cause = cause
        actor.address = ""
        # Reports about a dead actor need neither its code nor its arguments.
        rooted = b"{}" if actor.spec.job_config else b""
        actor.spec = msgspec.structs.replace(
            actor.spec, class_blob=b"", args=b"", dependencies=[], job_config=rooted
        )
        actor.spec_bytes = pack(actor.spec)
        key = (actor.spec.namespace, actor.spec.name)
        if self._names.get(key) == actor.id:
            del self._names[key]
        commands: list[Command] = [Publish(actor)]
        if rooted:
            commands.append(Forget(actor))
        return commands + self._remember(actor)

    def _remember(self, actor: ActorRecord) -> list[Command]:
        """Remember a dead actor, and forget those that died longest ago."""
        self._dead.append(actor.id)
        if len(self._dead) <= MAX_DEAD_ACTORS:
            return []
        oldest = self._dead.popleft()
        del self.records[oldest]
        return [Prune(oldest)]

    def _current(self, actor_id: bytes, incarnation: int) -> ActorRecord | None:
        """Return the actor if this is its living incarnation; None drops a late message."""
        actor = self.records.get(actor_id)
        if actor is None or actor.state is ActorState.DEAD or actor.incarnation != incarnation:
            return None
        return actor

    # ------------------------------------------------------------------ questions

    def named(self, namespace: str, name: str) -> ActorRecord | None:
        """Return the living actor of this name."""
        actor_id = self._names.get((namespace, name))
        return self.records[actor_id] if actor_id is not None else None

    def is_alive(self, actor_id: bytes) -> bool:
        """Tell whether the actor exists and is not dead."""
        actor = self.records.get(actor_id)
        return actor is not None and actor.state is not ActorState.DEAD

    def names(self) -> Iterable[tuple[str, str]]:
        """Return (namespace, name) of every living named actor."""
        return self._names.keys()

    # ------------------------------------------------------------------ after a restart of the control store

    def restore(self, actor: ActorRecord) -> list[Command]:
        """Add a record that was read from storage."""
        self.records[actor.id] = actor
        if actor.state is ActorState.DEAD:
            return self._remember(actor)
        if actor.spec.name:
            self._names[actor.spec.namespace, actor.spec.name] = actor.id
        if not actor.node:
            self._unplaced.append(actor)
        return []

    def expected(self) -> list[bytes]:
        """Return the nodes of living actors, and the processes whose end would end these actors too."""
        living = [actor for actor in self.records.values() if actor.state is not ActorState.DEAD]
        nodes = [actor.node for actor in living if actor.node]
        owners = [actor.spec.owner_id for actor in living if not actor.spec.job_config]
        return list(dict.fromkeys(nodes + owners))
