"""The actor directory: each arrow of its diagram, names, restarts, late messages, lost nodes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from skate._base.transitions import IllegalTransition
from skate._control.actors import (
    TABLE,
    ActorEvent,
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
    Stop,
)
from skate._control.stored import dump_actor, load_actor
from skate._wire.codec import pack
from skate._wire.control import ActorSpec

from .._wire.samples import sample
from ..effort import effort

NODE, OTHER = b"node", b"other"
OWNER = b"owner"
A, B = b"actor a", b"actor b"


def spec(
    *,
    name: str = "",
    namespace: str = "ns",
    max_restarts: int = 0,
    owner: bytes = OWNER,
    job_config: bytes = b"",
) -> ActorSpec:
    some = sample(ActorSpec)
    assert isinstance(some, ActorSpec)
    return msgspec.structs.replace(
        some,
        name=name,
        namespace=namespace,
        max_restarts=max_restarts,
        owner_id=owner,
        job_config=job_config,
    )


def directory(*nodes: bytes) -> Actors:
    actors = Actors()
    for node in nodes or (NODE,):
        actors.node_joined(node)
    return actors


def created(actors: Actors, actor_id: bytes = A, **options: object) -> ActorRecord:
    actors.create(actor_id, spec(**options), b"bytes")  # type: ignore[arg-type]
    return actors.records[actor_id]


def alive(actors: Actors, actor_id: bytes = A, **options: object) -> ActorRecord:
    record = created(actors, actor_id, **options)
    start(actors, record)
    return record


def start(actors: Actors, record: ActorRecord, error: bytes = b"") -> list[Command]:
    return actors.started(record.id, record.incarnation, b"worker", "/s/worker", error)


def end(
    actors: Actors, record: ActorRecord, *, intended: bool = False, cause: str = "killed"
) -> list[Command]:
    return actors.ended(record.id, record.incarnation, cause, intended, b"", 0)


# ---------------------------------------------------------------------- each arrow


def test_created_pending_placed() -> None:
    actors = directory()
    commands = actors.create(A, spec(), b"bytes")
    record = actors.records[A]
    assert record.state is ActorState.PENDING
    assert record.spec_bytes == b"bytes"
    assert commands == [Publish(record), Place(NODE, record)]


def test_pending_alive() -> None:
    actors = directory()
    record = created(actors)
    assert start(actors, record) == [Publish(record)]
    assert record.state is ActorState.ALIVE
    assert (record.worker, record.address, record.node) == (b"worker", "/s/worker", NODE)


@pytest.mark.parametrize("started", [True, False], ids=["alive", "pending"])
def test_ended_without_restarts_dead(started: bool) -> None:
    actors = directory()
    record = alive(actors) if started else created(actors)
    assert end(actors, record, cause="was killed by signal 9") == [Publish(record)]
    assert record.state is ActorState.DEAD
    assert record.cause == "was killed by signal 9"
    assert record.address == ""


@pytest.mark.parametrize("started", [True, False], ids=["alive", "pending"])
def test_ended_with_restarts_left_restarting_alive(started: bool) -> None:
    actors = directory()
    record = alive(actors, max_restarts=1) if started else created(actors, max_restarts=1)
    assert actors.ended(A, 0, "crashed", False, b"caller", 7) == [Publish(record), Place(NODE, record)]
    assert record.state is ActorState.RESTARTING
    assert (record.incarnation, record.restarts, record.address) == (1, 1, "")
    assert (record.cause, record.begun_owner, record.begun_seq) == ("crashed", b"caller", 7)
    assert start(actors, record) == [Publish(record)]
    assert record.state is ActorState.ALIVE


def test_restarting_ended_again() -> None:
    actors = directory()
    record = alive(actors, max_restarts=2)
    end(actors, record)
    end(actors, record)
    assert (record.state, record.incarnation) == (ActorState.RESTARTING, 2)
    assert end(actors, record) == [Publish(record)]
    assert record.state is ActorState.DEAD
    assert "it was restarted 2 times, the limit of max_restarts" in record.cause


def test_restarts_without_limit() -> None:
    actors = directory()
    record = alive(actors, max_restarts=-1)
    for _ in range(20):
        end(actors, record)
        start(actors, record)
    assert (record.state, record.incarnation) == (ActorState.ALIVE, 20)


@pytest.mark.parametrize("max_restarts", [0, 5, -1])
def test_an_end_on_purpose_is_the_end(max_restarts: int) -> None:
    actors = directory()
    record = alive(actors, max_restarts=max_restarts)
    assert end(actors, record, intended=True, cause="exit_actor() was called") == [Publish(record)]
    assert (record.state, record.cause) == (ActorState.DEAD, "exit_actor() was called")


@pytest.mark.parametrize("max_restarts", [0, 5, -1])
def test_a_constructor_that_raises_is_the_end(max_restarts: int) -> None:
    actors = directory()
    record = created(actors, max_restarts=max_restarts)
    assert start(actors, record, b"pickled") == [
        Publish(record),
        Stop(NODE, record.id, 0, "its constructor raised"),
    ]
    assert (record.state, record.error) == (ActorState.DEAD, b"pickled")
    assert end(actors, record) == []


# ---------------------------------------------------------------------- kill


@pytest.mark.parametrize("max_restarts", [0, -1])
@pytest.mark.parametrize("started", [True, False], ids=["alive", "pending"])
def test_killed_for_good_is_dead_at_once(max_restarts: int, started: bool) -> None:
    actors = directory()
    record = (alive if started else created)(actors, max_restarts=max_restarts)
    assert actors.kill(A, True, "kill() was called") == [
        Publish(record),
        Stop(NODE, record.id, 0, "kill() was called"),
    ]
    assert (record.state, record.cause) == (ActorState.DEAD, "kill() was called")
    # Nothing of that process is heard again.
    assert start(actors, record) == end(actors, record) == []
    assert actors.kill(A, True, "again") == []
    assert record.cause == "kill() was called"


def test_killed_with_a_restart_is_stopped_and_then_restarted() -> None:
    actors = directory()
    record = alive(actors, max_restarts=1)
    assert actors.kill(A, False, "kill() was called") == [Stop(NODE, record.id, 0, "kill() was called")]
    assert record.state is ActorState.ALIVE
    assert end(actors, record) == [Publish(record), Place(NODE, record)]


def test_killed_with_a_restart_where_none_is_left() -> None:
    actors = directory()
    record = alive(actors)
    actors.kill(A, False, "kill() was called")
    assert end(actors, record) == [Publish(record)]
    assert record.state is ActorState.DEAD


def test_killed_for_good_before_there_was_a_node() -> None:
    actors = Actors()
    record = created(actors)
    assert actors.kill(A, True, "kill() was called") == [Publish(record)]
    assert record.state is ActorState.DEAD
    assert actors.node_joined(NODE) == []


def test_killed_for_a_restart_before_there_was_a_node() -> None:
    actors = Actors()
    record = created(actors)
    assert actors.kill(A, False, "kill() was called") == []
    assert actors.node_joined(NODE) == [Record(record), Place(NODE, record)]


def test_killing_nobody() -> None:
    assert directory().kill(A, True, "x") == []


def test_the_death_of_its_creator_ends_an_actor() -> None:
    actors = directory()
    mine, other = alive(actors, A, max_restarts=-1), alive(actors, B, owner=b"another")
    cause = "the process that created it ended"
    assert actors.owner_died(OWNER) == [Publish(mine), Stop(NODE, mine.id, 0, cause)]
    assert (mine.state, other.state) == (ActorState.DEAD, ActorState.ALIVE)
    assert actors.owner_died(OWNER) == []


def test_the_death_of_its_creator_does_not_end_a_detached_actor() -> None:
    actors = directory()
    record = alive(actors, name="n", job_config=b"{}")
    assert actors.owner_died(OWNER) == []
    assert (record.state, actors.named("ns", "n")) == (ActorState.ALIVE, record)


@pytest.mark.parametrize("how", ["killed", "ended", "constructor"])
def test_what_a_detached_actor_started_ends_with_it_for_good(how: str) -> None:
    actors = directory()
    record = created(actors, max_restarts=1, job_config=b"{}")
    if how == "constructor":
        commands = start(actors, record, error=b"raised")
    else:
        start(actors, record)
        assert not any(isinstance(one, Forget) for one in end(actors, record)), "it is restarted"
        start(actors, record)
        commands = actors.kill(A, True, "x") if how == "killed" else end(actors, record)
    assert [type(one) for one in commands[:2]] == [Publish, Forget]


# ---------------------------------------------------------------------- late and repeated messages


def test_what_past_incarnations_say_is_dropped() -> None:
    actors = directory()
    record = alive(actors, max_restarts=5)
    end(actors, record)
    assert actors.started(A, 0, b"old", "/old", b"") == []
    assert actors.started(A, 0, b"old", "/old", b"error") == []
    assert actors.ended(A, 0, "again", True, b"", 0) == []
    assert (record.state, record.incarnation, record.restarts) == (ActorState.RESTARTING, 1, 1)


def test_what_unknown_actors_say_is_dropped() -> None:
    actors = directory()
    assert actors.started(A, 0, b"w", "/w", b"") == []
    assert actors.ended(A, 0, "x", False, b"", 0) == []


def test_repeats_change_nothing() -> None:
    actors = directory()
    assert len(actors.create(A, spec(name="n"), b"bytes")) == 2
    assert actors.create(A, spec(name="n"), b"bytes") == []
    record = actors.records[A]
    assert start(actors, record) == [Publish(record)]
    assert start(actors, record) == []
    end(actors, record)
    assert end(actors, record) == []
    assert actors.create(A, spec(name="n"), b"bytes") == []
    assert record.state is ActorState.DEAD


@pytest.mark.parametrize("state", ActorState)
@pytest.mark.parametrize("event", ActorEvent)
def test_the_table_is_the_diagram(state: ActorState, event: ActorEvent) -> None:
    expected = {ActorEvent.RESTART: ActorState.RESTARTING, ActorEvent.END: ActorState.DEAD}
    if state is ActorState.DEAD or (state is ActorState.ALIVE and event is ActorEvent.STARTED):
        with pytest.raises(IllegalTransition):
            TABLE.next("actor", state, event)
    else:
        assert TABLE.next("actor", state, event) is expected.get(event, ActorState.ALIVE)


# ---------------------------------------------------------------------- names


def test_an_actor_is_found_by_its_name() -> None:
    actors = directory()
    record = created(actors, name="n")
    assert actors.named("ns", "n") is record
    assert actors.named("another", "n") is actors.named("ns", "m") is None
    assert list(actors.names()) == [("ns", "n")]


def test_a_name_is_taken_while_its_actor_lives() -> None:
    actors = directory()
    created(actors, A, name="n")
    with pytest.raises(NameTaken) as raised:
        created(actors, B, name="n")
    assert raised.value.actor_id == A
    assert B not in actors.records
    created(actors, B, name="n", namespace="another")


def test_a_name_is_taken_through_a_restart() -> None:
    actors = directory()
    end(actors, alive(actors, A, name="n", max_restarts=1))
    with pytest.raises(NameTaken):
        created(actors, B, name="n")


@pytest.mark.parametrize("how", ["ended", "killed", "constructor", "owner"])
def test_a_name_is_free_when_its_actor_is_dead(how: str) -> None:
    actors = directory()
    record = created(actors, A, name="n")
    if how == "ended":
        end(actors, record)
    elif how == "killed":
        actors.kill(A, True, "x")
    elif how == "constructor":
        start(actors, record, b"error")
    else:
        actors.owner_died(OWNER)
    assert actors.named("ns", "n") is None
    successor = created(actors, B, name="n")
    # Late words about the dead one do not cost its successor the name.
    end(actors, record)
    actors.kill(A, True, "x")
    assert actors.named("ns", "n") is successor


def test_actors_without_a_name_do_not_meet() -> None:
    actors = directory()
    created(actors, A)
    created(actors, B)
    assert list(actors.names()) == []


# ---------------------------------------------------------------------- nodes


def test_without_a_node_actors_wait_for_one() -> None:
    actors = Actors()
    actors.create(A, spec(), b"bytes")
    actors.create(B, spec(), b"bytes")
    first, second = actors.records[A], actors.records[B]
    assert actors.node_joined(NODE) == [
        Record(first), Place(NODE, first), Record(second), Place(NODE, second)
    ]  # fmt: skip
    assert actors.node_joined(OTHER) == []


def test_the_actors_of_a_lost_node_go_elsewhere_or_end() -> None:
    actors = directory(NODE, OTHER)
    stays, goes = alive(actors, A), alive(actors, B, max_restarts=1)
    assert actors.node_lost(NODE) == [Publish(stays), Publish(goes), Place(OTHER, goes)]
    assert (stays.state, goes.state) == (ActorState.DEAD, ActorState.RESTARTING)
    assert "its node was lost" in stays.cause


def test_an_actor_of_the_only_node_waits_for_the_next() -> None:
    actors = directory()
    record = alive(actors, max_restarts=1)
    assert actors.node_lost(NODE) == [Publish(record)]
    assert actors.node_joined(OTHER) == [Record(record), Place(OTHER, record)]
    assert record.node == OTHER


def test_news_that_a_node_is_lost_may_be_repeated() -> None:
    actors = directory()
    record = alive(actors, max_restarts=5)
    actors.node_lost(NODE)
    assert actors.node_lost(NODE) == []
    assert record.restarts == 1
    assert actors.node_joined(OTHER) == [Record(record), Place(OTHER, record)]


def test_the_loss_of_another_node_is_no_news() -> None:
    actors = directory(NODE, OTHER)
    record = alive(actors)
    assert actors.node_lost(OTHER) == []
    assert record.state is ActorState.ALIVE


# ---------------------------------------------------------------------- after a restart of the store


def test_a_restored_actor_has_its_name_unless_it_is_dead() -> None:
    actors = directory()
    for actor_id, state, name in ((A, ActorState.ALIVE, "living"), (B, ActorState.DEAD, "dead")):
        record = ActorRecord(actor_id, spec(name=name), b"bytes")
        record.state = state
        actors.restore(record)
    assert list(actors.names()) == [("ns", "living")]
    with pytest.raises(NameTaken):
        created(actors, b"new", name="living")


def test_a_restored_actor_goes_on_with_its_incarnation() -> None:
    actors = Actors()
    record = ActorRecord(A, spec(max_restarts=3), b"bytes")
    record.state, record.incarnation, record.restarts = ActorState.RESTARTING, 2, 2
    actors.restore(record)
    assert actors.started(A, 1, b"old", "/old", b"") == []
    assert actors.started(A, 2, b"worker", "/s/worker", b"") == [Publish(record)]


# ---------------------------------------------------------------------- everything at random

NODES = (NODE, OTHER)
NAMES = ("", "x", "y")


class ActorsMachine(RuleBasedStateMachine):
    """The daemons do what they are told, some time; processes end; messages come late and twice; the control
    store dies at any moment and is started anew from what it had recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.actors = Actors()
        self.nodes: set[bytes] = set()
        #: (node, actor, incarnation) that a node was told to run; True: it said that it started.
        self.running: dict[tuple[bytes, bytes, int], bool] = {}
        self.past: list[tuple[bytes, bytes, int]] = []
        self.told: dict[bytes, tuple[ActorState, int]] = {}
        self.count = 0
        #: What was recorded, as it is on disk.
        self.disk: dict[bytes, bytes] = {}
        #: What nodes said, as they will repeat it.
        self.said: dict[bytes, list[tuple[object, ...]]] = {node: [] for node in NODES}
        #: Messages to nodes that still get out before the control store dies; None: it does not.
        self.last_words: int | None = None

    def run(self, commands: list[Command]) -> None:
        # Everything of a turn is recorded before anything is sent.
        for command in commands:
            if isinstance(command, Publish | Record):
                self.disk[command.actor.id] = dump_actor(command.actor)
            elif isinstance(command, Prune):
                del self.disk[command.actor]
        for command in commands:
            if isinstance(command, Place | Stop) and self.last_words is not None:
                if not self.last_words:
                    continue
                self.last_words -= 1
            if isinstance(command, Place):
                record = command.actor
                assert command.node in self.nodes
                assert record.state in (ActorState.PENDING, ActorState.RESTARTING)
                key = (command.node, record.id, record.incarnation)
                assert all((a, i) != key[1:] for _, a, i in [*self.running, *self.past]), "placed twice"
                self.running[key] = False
            elif isinstance(command, Stop):
                key = (command.node, command.actor, command.incarnation)
                if key in self.running:
                    self.said[command.node].append(("ended", *key[1:], "killed", False, b"", 0))
                self.stop(key)
            elif isinstance(command, Publish):
                self.publish(command.actor)
        if self.last_words is not None:
            self.last_words = None
            self.start_anew()

    def start_anew(self) -> None:
        """The control store died, and is there again; then the nodes."""
        self.actors = Actors()
        for actor_id, data in self.disk.items():
            assert self.actors.restore(load_actor(actor_id, data)) == []
        for node in sorted(self.nodes):
            for what, *words in self.said[node]:
                self.run(self.tell(what, *words))
            hosted = [(key[1], key[2]) for key in self.running if key[0] == node]
            self.run(self.actors.node_joined(node, hosted))
        for gone in sorted({*self.actors.expected()} - self.nodes - {OWNER}):
            self.run(self.actors.node_lost(gone))

    def tell(self, what: object, *words: Any) -> list[Command]:
        return self.actors.started(*words) if what == "started" else self.actors.ended(*words)

    def say(self, node: bytes, lost: bool, what: str, *words: Any) -> None:
        """A node says something; ``lost``: to a control store that dies before it has heard it."""
        self.said[node].append((what, *words))
        if lost:
            self.start_anew()
        else:
            self.run(self.tell(what, *words))

    @rule(last_words=st.integers(0, 3))
    def die_soon(self, last_words: int) -> None:
        self.last_words = last_words

    def stop(self, key: tuple[bytes, bytes, int]) -> None:
        if key in self.running:
            del self.running[key]
            self.past.append(key)

    def publish(self, record: ActorRecord) -> None:
        before = self.told.get(record.id)
        now = (record.state, record.incarnation)
        if before is None:
            assert now == (ActorState.PENDING, 0)
        else:
            assert before[0] is not ActorState.DEAD, "news about the dead"
            assert now != before, "no news"
            assert record.incarnation == before[1] + (record.state is ActorState.RESTARTING)
        self.told[record.id] = now

    @rule(name=st.sampled_from(NAMES), max_restarts=st.sampled_from([0, 1, 3, -1]))
    def create(self, name: str, max_restarts: int) -> None:
        self.count += 1
        actor_id = b"%d" % self.count
        holder = self.actors.named("ns", name) if name else None
        try:
            made = spec(name=name, max_restarts=max_restarts, owner=OWNER)
            commands = self.actors.create(actor_id, made, pack(made))
        except NameTaken as taken:
            assert holder is not None
            assert taken.actor_id == holder.id
        else:
            assert holder is None
            self.run(commands)

    @rule(node=st.sampled_from(NODES))
    def node_comes_or_goes(self, node: bytes) -> None:
        if node in self.nodes:
            self.nodes.remove(node)
            for key in [key for key in self.running if key[0] == node]:
                self.stop(key)
            self.run(self.actors.node_lost(node))
        else:
            self.nodes.add(node)
            self.said[node] = []
            self.run(self.actors.node_joined(node))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), error=st.booleans(), repeat=st.booleans(), lost=st.booleans())
    def started(self, data: st.DataObject, error: bool, repeat: bool, lost: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        if self.running[key]:
            return
        self.running[key] = True
        words = (key[1], key[2], b"w", "/w", b"error" if error else b"")
        self.say(key[0], lost, "started", *words)
        if repeat:
            self.run(self.actors.started(*words))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), intended=st.booleans(), repeat=st.booleans(), lost=st.booleans())
    def ended(self, data: st.DataObject, intended: bool, repeat: bool, lost: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.stop(key)
        words = (key[1], key[2], "it crashed", intended, b"", 0)
        self.say(key[0], lost, "ended", *words)
        if repeat:
            self.run(self.actors.ended(*words))

    @precondition(lambda self: self.past)
    @rule(data=st.data(), started=st.booleans())
    def late(self, data: st.DataObject, started: bool) -> None:
        """A process that was told to stop, or whose node is lost, says something nevertheless."""
        node, actor_id, incarnation = data.draw(st.sampled_from(self.past))
        record = self.actors.records[actor_id]
        if record.state is not ActorState.DEAD and record.incarnation == incarnation:
            return  # told to stop for a restart: it is not late
        if started:
            assert self.actors.started(actor_id, incarnation, b"w", "/w", b"") == []
        else:
            assert self.actors.ended(actor_id, incarnation, "late", False, b"", 0) == []

    @precondition(lambda self: self.actors.records)
    @rule(data=st.data(), no_restart=st.booleans())
    def kill(self, data: st.DataObject, no_restart: bool) -> None:
        record = self.actors.records[data.draw(st.sampled_from(sorted(self.actors.records)))]
        running = [key for key in self.running if key[1] == record.id]
        commands = self.actors.kill(record.id, no_restart, "killed")
        if no_restart:
            assert record.state is ActorState.DEAD
        self.run(commands)
        if not no_restart:
            for key in running:  # the daemon reports the end of what it was told to stop
                if key not in self.running:
                    self.run(self.actors.ended(key[1], key[2], "killed", False, b"", 0))

    @rule()
    def owner_dies(self) -> None:
        self.run(self.actors.owner_died(OWNER))
        assert not self.running

    @invariant()
    def a_name_belongs_to_one_living_actor(self) -> None:
        living = {
            (record.spec.namespace, record.spec.name): record.id
            for record in self.actors.records.values()
            if record.spec.name and record.state is not ActorState.DEAD
        }
        assert set(self.actors.names()) == set(living)

    @invariant()
    def what_was_told_is_true(self) -> None:
        for record in self.actors.records.values():
            assert self.told[record.id] == (record.state, record.incarnation)

    @invariant()
    def every_living_actor_runs_somewhere_or_waits_for_a_node(self) -> None:
        placed = {(actor_id, incarnation) for _, actor_id, incarnation in self.running}
        for record in self.actors.records.values():
            key = (record.id, record.incarnation)
            if record.state is ActorState.DEAD:
                assert not any(actor_id == record.id for actor_id, _ in placed)
            elif record.state is ActorState.ALIVE or self.nodes:
                assert key in placed
            limit = record.spec.max_restarts
            assert limit < 0 or record.restarts <= limit


TestActorsMachine = ActorsMachine.TestCase
TestActorsMachine.settings = effort(100)
