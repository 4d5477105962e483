"""Runs the control store: builds the tables, decodes requests, carries out commands. No rules here.

One thread runs one loop. The control store is never on the path of a call: a process asks once where an actor
is, and gets a message when that changes.

It may die at any moment: the head's daemon starts a new one on the same socket, which reads the records of
the old one. All connected processes reconnect and repeat their unanswered requests. Nodes and processes that
do not reconnect within ``RECONNECT_TIMEOUT_S`` seconds count as dead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from skate._base import clock, descriptors, errors
from skate._control.actors import (
    ActorRecord,
    Actors,
    ActorState,
    Command,
    Forget,
    NameTaken,
    Place,
    Prune,
    Publish,
    Record,
)
from skate._control.group_service import GroupService
from skate._control.kv import KeyValues
from skate._control.records import Records
from skate._control.rows import actor_row
from skate._control.stored import dump_actor, load_actor
from skate._control.watchers import Watchers
from skate._transport.acceptor import Acceptor
from skate._transport.connection import Connection, Handler, Listener
from skate._transport.reactor import Reactor
from skate._transport.streams import ListeningStream, Stream
from skate._wire import control, node, services
from skate._wire.codec import pack, unpack

#: The most jobs that are remembered for the state API (count).
_MAX_JOBS = 10_000
#: The most events that are remembered for the state API (count).
_MAX_EVENTS = 1000
#: A handle may arrive before its creator's CreateActor, on another connection: so long the control store
#: waits for that (seconds).
_CREATE_TIMEOUT_S = 1.0
#: So long a restarted control store waits for the nodes and processes of its records (seconds).
RECONNECT_TIMEOUT_S = 30.0
_UNKNOWN = "this cluster does not know the actor: the handle belongs to an earlier session"


class Peer:
    """Describes a connected process."""

    def __init__(self, is_lifeline: bool) -> None:
        self.is_lifeline = is_lifeline
        self.id = b""
        self.node: control.NodeInfo | None = None

    def __repr__(self) -> str:
        return f"{'node' if self.node else 'process'} {self.id.hex()}"


class ControlStore:
    """Serves one cluster."""

    def __init__(self, reactor: Reactor, storage: Records) -> None:
        self.reactor = reactor
        self._storage = storage
        self._actors = Actors()
        self._nodes: dict[bytes, Connection] = {}
        self._had_node = False
        #: Questions that wait for the first node.
        self._early: list[Callable[[], None]] = []
        self._watchers: Watchers[Connection] = Watchers()
        #: Jobs by their drivers, as plain rows.
        self._jobs: dict[bytes, dict[str, Any]] = {}
        self._last_job = 0
        #: After a restart: the nodes and processes that have not reconnected yet, and the time limit for them
        #: (monotonic seconds).
        self._absent: dict[bytes, None] = {}
        self._lease_ends = 0.0
        self._values = KeyValues()
        self._groups = GroupService(storage, self._nodes, self._group_removed, self._when_there_is_a_node)
        self._events: deque[dict[str, Any]] = deque(maxlen=_MAX_EVENTS)
        self._handlers: dict[type, Handler] = {
            control.RegisterNode: self._register_node,
            control.NodeUpdate: self._node_update,
            control.RegisterJob: self._register_job,
            control.RegisterObserver: lambda connection, message: None,
            control.CreateActor: self._create_actor,
            control.WatchActor: self._watch_actor,
            control.KillActor: self._kill_actor,
            control.FindActor: self._find_actor,
            control.ReleaseActor: self._release_actor,
            control.ListNodes: self._list_nodes,
            control.ListNames: self._list_names,
            control.ListActors: self._list_actors,
            control.ListJobs: self._list_jobs,
            control.ListEvents: lambda c, m: c.send(control.Answer(m.request, pack(list(self._events)))),
            control.KeyValue: self._key_value,
            control.ActorStarted: self._actor_started,
            control.ActorEnded: self._actor_ended,
            node.Shutdown: self._shutdown,
            **self._groups.handlers(),
        }
        self._has_lifeline = False
        self._acceptor = Acceptor(reactor, services.CONTROL, self._handlers, self._disconnected)
        self._restore()

    def serve(self, listening: ListeningStream, lifeline: Stream | None) -> None:
        """Accept connections from now on.

        Args:
            listening: where nodes and processes connect.
            lifeline: the driver's connection with which the control store ends; None: it belongs to no
                driver.
        """
        self.reactor.on_turn = self._storage.commit
        Listener(self.reactor, listening, self._accept, self._out_of_descriptors)
        self._has_lifeline = lifeline is not None
        if lifeline is not None:
            self._accept(lifeline, is_lifeline=True)

    @property
    def handlers(self) -> Mapping[type, Handler]:
        """Return the handler of each message type."""
        return self._handlers

    def _accept(self, sock: Stream, is_lifeline: bool = False) -> None:
        self._acceptor.accept(sock, Peer(is_lifeline), patient=is_lifeline)

    def _out_of_descriptors(self, error: OSError) -> None:
        text = (
            f"the control store {descriptors.explain(error)}. "
            "Processes that dial it wait until it has some again"
        )
        self._event("ERROR", "CONTROL_STORE", text)

    def _disconnected(self, connection: Connection) -> None:
        peer: Peer = connection.peer
        self._watchers.watcher_left(connection)
        if peer.is_lifeline:
            self.stop()
        elif peer.node is not None and self._nodes.get(peer.id) is connection:
            del self._nodes[peer.id]
            self._event("ERROR", "NODES", f"node {peer.id.hex()} is lost")
            self._node_lost(peer.id)
        elif peer.id:
            self._process_ended(peer.id)

    def _node_lost(self, node_id: bytes) -> None:
        self._run(self._actors.node_lost(node_id))
        self._groups.node_lost(node_id)

    def _process_ended(self, process: bytes) -> None:
        job = self._jobs.get(process)
        if job is not None:
            job["status"], job["end_time"] = "SUCCEEDED", clock.time()  # no process reports how it ended
            self._event("INFO", "JOBS", f"job {job['job_id']} ended")
            self._record_job(job)
        self._groups.job_ended(process)
        self.owner_ended(process)

    def owner_ended(self, owner: bytes) -> None:
        """End the actors of a process that ended, except detached ones."""
        self._run(self._actors.owner_died(owner))

    def stop(self) -> None:
        """End the loop."""
        self._storage.close()
        self.reactor.on_turn = None
        self.reactor.stop()

    def _shutdown(self, connection: Connection, message: node.Shutdown) -> None:
        if connection.peer.is_lifeline or not self._has_lifeline:
            self.stop()

    # ------------------------------------------------------------------ nodes and jobs

    def _register_node(self, connection: Connection, message: control.RegisterNode) -> None:
        peer: Peer = connection.peer
        peer.id = message.node_id
        self._had_node = True
        peer.node = control.NodeInfo(
            message.node_id, True, message.address, message.hostname, message.pid,
            message.resources, message.resources, message.labels, clock.time(),
        )  # fmt: skip
        self._nodes[peer.id] = connection
        self._absent.pop(peer.id, None)
        self._event("INFO", "NODES", f"node {peer.id.hex()} joined ({message.hostname})")
        for news in message.reports:
            self._handlers[type(news)](connection, news)
        self._groups.node_joined(peer.node, message.groups)  # before its actors, which may run in groups
        self._run(self._actors.node_joined(peer.id, message.hosted))
        for root in message.roots:
            if not self._actors.is_alive(root):
                connection.send(control.ForgetJob(root))
        for process in message.gone:
            if process in self._absent:
                del self._absent[process]
                self._process_ended(process)
        early, self._early = self._early, []
        for ask in early:
            ask()

    def _when_there_is_a_node(self, ask: Callable[[], None]) -> None:
        """Answer a question at once, or when the first node has joined, which is about to."""
        if self._nodes or self._had_node:
            ask()
        else:
            self._early.append(ask)

    def _node_update(self, connection: Connection, message: control.NodeUpdate) -> None:
        peer: Peer = connection.peer
        if peer.node is not None:
            peer.node = msgspec.structs.replace(peer.node, available=message.available)
            self._groups.node_changed(peer.id, message.available)

    def _list_nodes(self, connection: Connection, message: control.ListNodes) -> None:
        def answer() -> None:
            nodes = [other.peer.node for other in self._nodes.values()]
            connection.send(control.Answer(message.request, pack(nodes)))

        self._when_there_is_a_node(answer)

    def _register_job(self, connection: Connection, message: control.RegisterJob) -> None:
        connection.peer.id = message.worker_id
        self._absent.pop(message.worker_id, None)
        job = self._jobs.get(message.worker_id)
        if job is None and not message.job_id:
            self._last_job += 1
            job = self._jobs[message.worker_id] = {
                "job_id": self._last_job.to_bytes(4, "big").hex(), "driver": message.worker_id.hex(),
                "status": "RUNNING", "entrypoint": message.entrypoint, "start_time": clock.time(),
                "end_time": None, **msgspec.json.decode(message.facts or b"{}"),
            }  # fmt: skip
            self._record_job(job)
            self._event("INFO", "JOBS", f"job {job['job_id']} began: {message.entrypoint}")
            if len(self._jobs) > _MAX_JOBS:
                oldest = self._jobs.pop(next(iter(self._jobs)))
                self._storage.delete("job", bytes.fromhex(oldest["job_id"]))
        job_id = bytes.fromhex(job["job_id"]) if job is not None else message.job_id
        connection.send(control.Answer(message.request, job_id))

    def _record_job(self, job: dict[str, Any]) -> None:
        self._storage.put("job", bytes.fromhex(job["job_id"]), pack(job))

    # ------------------------------------------------------------------ actors

    def _create_actor(self, connection: Connection, message: control.CreateActor) -> None:
        spec = unpack(message.spec, type=control.ActorSpec)
        actor_id = message.actor_id
        try:
            self._run(self._actors.create(actor_id, spec, message.spec))
        except NameTaken as taken:
            if not message.get_if_exists:
                text = (
                    f"The name {spec.name} (namespace={spec.namespace}) is already taken by a living actor. "
                    "Please use a different name, get the existing actor with get_actor() or "
                    "get_if_exists=True, or kill it first"
                )
                connection.send(control.Answer(message.request, b"", "ActorAlreadyExistsError", text))
                return
            actor_id = taken.actor_id
        found = control.FoundActor(actor_id, self._actors.records[actor_id].spec)
        connection.send(control.Answer(message.request, pack(found)))

    def _find_actor(self, connection: Connection, message: control.FindActor) -> None:
        actor = self._actors.named(message.namespace, message.name)
        if actor is None:
            text = (
                f"Failed to look up actor with name {message.name!r}: no living actor has it in namespace "
                f"{message.namespace!r}. It may have ended, have another namespace (get_actor(name, "
                "namespace=...)), or not be created yet"
            )
            connection.send(control.Answer(message.request, b"", "ValueError", text))
            return
        connection.send(control.Answer(message.request, pack(control.FoundActor(actor.id, actor.spec))))

    def _list_names(self, connection: Connection, message: control.ListNames) -> None:
        wanted = message.namespace
        names = [pair for pair in self._actors.names() if wanted is None or pair[0] == wanted]
        connection.send(control.Answer(message.request, pack(names)))

    def _list_actors(self, connection: Connection, message: control.ListActors) -> None:
        rows = [actor_row(actor) for actor in self._actors.records.values()]
        connection.send(control.Answer(message.request, pack(rows)))

    def _list_jobs(self, connection: Connection, message: control.ListJobs) -> None:
        connection.send(control.Answer(message.request, pack(list(self._jobs.values()))))

    def _watch_actor(self, connection: Connection, message: control.WatchActor) -> None:
        actor = self._actors.records.get(message.actor_id)
        if actor is None or actor.state is not ActorState.DEAD:
            self._watchers.watch(message.actor_id, connection)
        if actor is not None:
            connection.send(_update(actor))
            return

        def unknown() -> None:
            if message.actor_id not in self._actors.records:
                update = control.ActorUpdate(
                    message.actor_id, ActorState.DEAD.value, 0, "", _UNKNOWN, b"", b"", 0
                )
                connection.send(update)

        self.reactor.call_later(self._create_timeout_s, unknown)

    def _kill_actor(self, connection: Connection, message: control.KillActor) -> None:
        def kill() -> None:
            if message.actor_id not in self._actors.records:
                answer = control.Answer(message.request, b"", "ActorHandleNotFoundError", _UNKNOWN)
                connection.send(answer)
                return
            self._run(self._actors.kill(message.actor_id, message.no_restart, message.reason))
            connection.send(control.Answer(message.request, b""))

        if message.actor_id in self._actors.records:
            kill()
        else:
            self.reactor.call_later(self._create_timeout_s, kill)

    @property
    def _create_timeout_s(self) -> float:
        """Return how long to wait for the CreateActor of an unknown actor (seconds)."""
        return max(_CREATE_TIMEOUT_S, self._lease_ends - clock.monotonic())

    def _release_actor(self, connection: Connection, message: control.ReleaseActor) -> None:
        self._run(
            self._actors.kill(
                message.actor_id,
                True,
                "all references to the actor were removed (its handles went out of scope)",
                graceful=True,
            )
        )
        connection.send(control.Answer(message.request, b""))

    def _actor_started(self, connection: Connection, message: control.ActorStarted) -> None:
        actor = self._actors.records.get(message.actor_id)
        if actor is not None and message.repr_name:
            actor.repr_name = message.repr_name
        self._run(
            self._actors.started(
                message.actor_id, message.incarnation, message.worker_id, message.address, message.error
            )
        )

    def _actor_ended(self, connection: Connection, message: control.ActorEnded) -> None:
        self._run(
            self._actors.ended(
                message.actor_id,
                message.incarnation,
                message.cause,
                message.intended,
                message.begun_owner,
                message.begun_seq,
            )
        )

    def _group_removed(self, group: bytes, cause: str) -> None:
        """End the actors of a placement group that was removed."""
        exceptions = descriptors.load("skate._serialize.exceptions")  # rare, and 10 ms
        error: bytes = exceptions.dump_error(errors.ActorPlacementGroupRemoved(f"The actor is dead: {cause}"))
        self._run(self._actors.group_removed(group, cause, error))

    def _run(self, commands: Sequence[Command]) -> None:
        """Carry out the commands of the directory."""
        for command in commands:
            if isinstance(command, Publish):
                self._publish(command.actor)
            elif isinstance(command, Record):
                self._storage.put("actor", command.actor.id, dump_actor(command.actor))
            elif isinstance(command, Prune):
                self._storage.delete("actor", command.actor)
            elif isinstance(command, Place):
                actor = command.actor
                place = control.PlaceActor(actor.id, actor.incarnation, actor.spec_bytes)
                self._nodes[command.node].send(place)
            elif isinstance(command, Forget):
                for node_connection in self._nodes.values():
                    node_connection.send(control.ForgetJob(command.actor.id))
                self._groups.job_ended(command.actor.id)
            else:
                connection = self._nodes.get(command.node)
                if connection is not None:
                    connection.send(
                        control.StopActor(command.actor, command.incarnation, command.cause, command.graceful)
                    )

    def _event(self, severity: str, source: str, text: str) -> None:
        """Remember an event for the state API."""
        self._events.append(
            {"severity": severity, "time": clock.time(), "source_type": source, "message": text}
        )

    def _key_value(self, connection: Connection, message: control.KeyValue) -> None:
        answer, writes = self._values.handle(
            message.operation, message.namespace, message.key, message.value, message.overwrite
        )
        for key, value in writes:
            if value is None:
                self._storage.delete("value", key)
            else:
                self._storage.put("value", key, value)
        connection.send(control.Answer(message.request, pack(answer)))

    def _stamp(self, actor: ActorRecord) -> None:
        """Record when the actor got into its state."""
        index = {ActorState.PENDING: 0, ActorState.ALIVE: 1, ActorState.DEAD: 2}.get(actor.state)
        if index is not None and not actor.times[index]:
            actor.times[index] = clock.time()
        if actor.state in (ActorState.DEAD, ActorState.RESTARTING):
            what = "is dead" if actor.state is ActorState.DEAD else "is being restarted"
            text = f"actor {actor.spec.class_name} ({actor.id.hex()}) {what}: {actor.cause}"
            self._event(
                "WARNING" if actor.state is ActorState.RESTARTING or actor.error else "INFO", "ACTORS", text
            )

    def _publish(self, actor: ActorRecord) -> None:
        self._stamp(actor)
        self._storage.put("actor", actor.id, dump_actor(actor))
        update = _update(actor)
        for watcher in self._watchers.of(actor.id):
            watcher.send(update)
        if actor.state is ActorState.DEAD:
            self._watchers.actor_ended(actor.id)

    # ------------------------------------------------------------------ after a restart

    def _restore(self) -> None:
        """Read the records of an earlier control store of this cluster, if there was one."""
        for key, value in self._storage.all("value"):
            self._values.restore(key, value)
        for job_id, value in self._storage.all("job"):
            job = unpack(value, type=dict[str, Any])
            self._jobs[bytes.fromhex(job["driver"])] = job
            self._last_job = int.from_bytes(job_id, "big")
        found = [load_actor(actor_id, value) for actor_id, value in self._storage.all("actor")]
        for actor in sorted(
            found, key=lambda actor: actor.times[-1]
        ):  # actors that died first are forgotten first
            self._run(self._actors.restore(actor))
        drivers = [driver for driver, job in self._jobs.items() if job["status"] == "RUNNING"]
        self._groups.restore()
        self._absent = dict.fromkeys(self._actors.expected() + self._groups.expected() + drivers)
        if self._jobs:
            self._event("WARNING", "CONTROL_STORE", "the control store ended and was restarted")
            self._lease_ends = clock.monotonic() + RECONNECT_TIMEOUT_S
            self.reactor.call_later(RECONNECT_TIMEOUT_S, self._lease_over)

    def _lease_over(self) -> None:
        """Declare the nodes and processes dead that have not reconnected."""
        absent, self._absent = self._absent, {}
        for one in absent:
            self._event(
                "ERROR", "CONTROL_STORE", f"{one.hex()} did not reconnect within {RECONNECT_TIMEOUT_S:g} s"
            )
            self._node_lost(one)
            self._process_ended(one)


def _update(actor: ActorRecord) -> control.ActorUpdate:
    return control.ActorUpdate(
        actor.id,
        actor.state.value,
        actor.incarnation,
        actor.address,
        actor.cause,
        actor.error,
        actor.begun_owner,
        actor.begun_seq,
    )
