"""An actor as its callers see it: calls in order, each at most as often as its retries allow, all ended."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from skate._wire.control import ActorUpdate
from skate._worker.calls.actor_client import ActorClient, Command, Connect, Fail
from skate._worker.calls.records import TaskRecord

from ...effort import effort
from ..making import ME, call, seqs

ACTOR = b"actor"


def update(
    state: str,
    incarnation: int,
    *,
    begun: int = 0,
    owner: bytes = ME,
    cause: str = "killed",
    error: bytes = b"",
) -> ActorUpdate:
    return ActorUpdate(ACTOR, state, incarnation, f"/s/{incarnation}", cause, error, owner, begun)


class Caller:
    """A client whose commands are carried out at once: it connects to whoever lives."""

    def __init__(self, *, out_of_order: bool = False) -> None:
        self.sent: list[int] = []
        self.failed: list[tuple[list[int], bool]] = []
        self.client = ActorClient(ACTOR, "Counter", ME, self._send)
        self.client.out_of_order = out_of_order

    def _send(self, client: ActorClient, one: TaskRecord) -> None:
        assert client.connection is not None
        self.sent.append(one.seq)

    def run(self, commands: list[Command]) -> None:
        for command in commands:
            assert command.client is self.client
            if isinstance(command, Connect):
                self.client.connected(_connection(command.address))
            else:
                self.failed.append((seqs(command.calls), command.unavailable))

    def news(self, *args: Any, **more: Any) -> None:
        self.run(self.client.updated(update(*args, **more)))

    def submit(self, *calls: TaskRecord) -> None:
        for one in calls:
            self.run(self.client.submit(one))

    def take_sent(self) -> list[int]:
        sent, self.sent = self.sent, []
        return sent


def _connection(address: str) -> Any:
    return f"connection to {address}"


def not_ready(seq: int) -> TaskRecord:
    one = call(seq)
    one.unresolved = 1
    return one


@pytest.fixture
def caller() -> Caller:
    return Caller()


@pytest.fixture
def living() -> Caller:
    caller = Caller()
    caller.news("ALIVE", 0)
    return caller


# ---------------------------------------------------------------------- connections


class Dialler(Caller):
    """One that is told when to connect, and to what end."""

    def __init__(self) -> None:
        self.dialled: list[str] = []
        super().__init__()

    def run(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Connect):
                self.dialled.append(command.address)
            else:
                self.failed.append((seqs(command.calls), command.unavailable))


@pytest.fixture
def dialler() -> Dialler:
    made = Dialler()
    made.news("ALIVE", 0)
    return made


def test_one_that_cannot_be_dialled_fails_its_calls_and_the_next_one_tries_again(dialler: Dialler) -> None:
    dialler.submit(call(1), call(2))
    assert dialler.dialled == ["/s/0"]
    dialler.run(dialler.client.unreachable("no descriptors"))
    assert dialler.failed == [([1, 2], True)]
    dialler.submit(call(3), call(4))
    assert dialler.dialled == ["/s/0", "/s/0"]
    dialler.client.connected(_connection("/s/0"))
    assert dialler.sent == [3, 4]


def test_calls_that_were_not_sent_are_told_apart(dialler: Dialler) -> None:
    dialler.client.connected(_connection("/s/0"))
    dialler.submit(call(1))
    dialler.client.disconnected()
    dialler.submit(call(2))
    first, second = dialler.client.unreachable("no descriptors")
    assert isinstance(first, Fail)
    assert isinstance(second, Fail)
    assert (seqs(first.calls), first.unsent) == ([1], "")
    assert (seqs(second.calls), second.unsent) == ([2], "no descriptors")


def test_a_lost_connection_alone_dials_nobody_before_it_is_clear_what_it_means(dialler: Dialler) -> None:
    dialler.client.connected(_connection("/s/0"))
    dialler.submit(call(1))
    dialler.client.disconnected()
    dialler.submit(call(2))
    dialler.news("ALIVE", 0)
    assert dialler.dialled == ["/s/0"]
    assert dialler.failed == []


def test_with_the_connection_only_what_was_in_flight_is_lost(dialler: Dialler) -> None:
    dialler.client.connected(_connection("/s/0"))
    dialler.submit(call(1), call(2, retries=1), call(3))
    dialler.client.disconnected()
    dialler.submit(call(4))
    dialler.run(dialler.client.broken("lost"))
    assert dialler.failed == [([1, 3], True)]
    dialler.take_sent()
    dialler.client.connected(_connection("/s/0"))
    assert dialler.sent == [2, 4]


def test_what_a_peer_refused_unread_is_not_lost(dialler: Dialler) -> None:
    dialler.client.connected(_connection("/s/0"))
    dialler.submit(call(1), call(2))
    dialler.client.disconnected(begun=False)
    dialler.run(dialler.client.broken("busy"))
    assert dialler.failed == []
    dialler.take_sent()
    dialler.client.connected(_connection("/s/0"))
    assert dialler.sent == [1, 2]


def test_news_end_the_waiting_for_a_connection(dialler: Dialler) -> None:
    dialler.submit(call(1))
    dialler.news("RESTARTING", 1)
    assert dialler.client.unreachable("no descriptors") == []
    dialler.news("ALIVE", 1)
    assert dialler.dialled == ["/s/0", "/s/1"]
    dialler.client.connected(_connection("/s/1"))
    assert dialler.sent == [1]


# ---------------------------------------------------------------------- order


def test_calls_wait_for_the_actor_and_leave_in_order(caller: Caller) -> None:
    caller.submit(call(1), call(2))
    caller.news("PENDING_CREATION", 0)
    assert caller.sent == []
    caller.news("ALIVE", 0)
    caller.submit(call(3))
    assert caller.sent == [1, 2, 3]
    assert list(caller.client.inflight) == [1, 2, 3]
    assert not caller.client.queue


def test_a_call_whose_arguments_are_not_there_holds_up_those_behind_it(living: Caller) -> None:
    late = not_ready(2)
    living.submit(call(1), late, call(3))
    assert living.sent == [1]
    late.unresolved = 0
    living.client.ready(late)
    assert living.sent == [1, 2, 3]


def test_one_that_fails_before_it_leaves_holds_up_nobody_any_more(living: Caller) -> None:
    late = not_ready(1)
    living.submit(late, call(2))
    living.client.withdraw(late)
    assert living.sent == [2]
    living.client.withdraw(late)
    assert living.sent == [2]


@pytest.mark.parametrize("backwards", [False, True])
def test_a_long_queue_is_withdrawn_one_by_one(living: Caller, backwards: bool) -> None:
    calls = [not_ready(number) for number in range(20_000)]
    living.submit(*calls)
    for one in reversed(calls) if backwards else calls:
        living.client.withdraw(one)
    assert not living.client.queue
    assert living.sent == []


def test_out_of_order_the_others_overtake_it() -> None:
    caller = Caller(out_of_order=True)
    first, second = not_ready(1), not_ready(2)
    caller.submit(first, call(3))
    assert caller.sent == []
    caller.news("ALIVE", 0)
    assert caller.sent == [3]
    caller.submit(second, call(4))
    assert caller.sent == [3, 4]
    second.unresolved = 0
    caller.client.ready(second)
    assert caller.sent == [3, 4, 2]
    first.unresolved = 0
    caller.client.ready(first)
    assert caller.take_sent() == [3, 4, 2, 1]
    assert not caller.client.queue


def test_out_of_order_what_became_ready_while_nobody_was_there_leaves_later() -> None:
    caller = Caller(out_of_order=True)
    late = not_ready(1)
    caller.submit(late)
    late.unresolved = 0
    caller.client.ready(late)
    assert caller.sent == []
    caller.news("ALIVE", 0)
    assert caller.sent == [1]


# ---------------------------------------------------------------------- restarts


def test_calls_not_begun_are_sent_again_first_and_in_order(living: Caller) -> None:
    living.submit(call(1), call(2), call(3))
    living.client.inflight.pop(1)  # it was replied to
    living.client.disconnected()
    living.submit(call(4))
    living.take_sent()
    living.news("RESTARTING", 1, begun=1)
    assert living.failed == []
    assert living.sent == []
    living.news("ALIVE", 1)
    assert living.sent == [2, 3, 4]


def test_what_was_begun_may_have_been_done(living: Caller) -> None:
    living.submit(call(1), call(2), call(3))
    living.news("RESTARTING", 1, begun=2, cause="signal 9")
    assert living.failed == [([1, 2], True)]
    assert living.client.cause == "signal 9"
    living.take_sent()
    living.news("ALIVE", 1)
    assert living.sent == [3]


def test_what_was_begun_is_repeated_as_often_as_it_may_be(living: Caller) -> None:
    living.submit(call(1, retries=1), call(2), call(3))
    for incarnation in (1, 2):
        living.news("RESTARTING", incarnation, begun=1)
        living.news("ALIVE", incarnation)
    assert living.take_sent() == [1, 2, 3, 1, 2, 3, 2, 3]
    assert living.failed == [([1], True)]


@pytest.mark.parametrize("owner", [b"other___", b""])
def test_if_it_began_somebody_elses_call_nothing_is_known_of_ours(living: Caller, owner: bytes) -> None:
    living.submit(call(1), call(2, retries=-1), call(3))
    living.news("RESTARTING", 1, begun=1, owner=owner)
    assert living.failed == [([1, 3], True)]
    assert seqs(living.client.queue) == [2]


def test_what_was_cancelled_is_not_sent_again(living: Caller) -> None:
    begun, fresh = call(1, retries=-1), call(2)
    living.submit(begun, fresh, call(3))
    begun.cancelled = fresh.cancelled = True
    living.news("RESTARTING", 1, begun=1)
    assert living.failed == [([1, 2], True)]
    assert seqs(living.client.queue) == [3]


def test_a_closed_connection_alone_only_stops_sending(living: Caller) -> None:
    living.submit(call(1))
    living.client.disconnected()
    living.submit(call(2))
    assert living.sent == [1]
    assert living.failed == []
    assert list(living.client.inflight) == [1]


def test_late_and_repeated_news_change_nothing(living: Caller) -> None:
    living.news("RESTARTING", 1)
    living.news("ALIVE", 1)
    living.submit(call(1))
    for _ in range(2):
        living.news("ALIVE", 1)
        living.news("ALIVE", 0)
        living.news("RESTARTING", 1, begun=1)
    assert living.sent == [1]
    assert living.failed == []
    assert living.client.incarnation == 1
    assert living.client.connection is not None


def test_the_first_that_a_caller_hears_may_be_of_a_later_incarnation(caller: Caller) -> None:
    caller.submit(call(1))
    caller.news("RESTARTING", 3, begun=7)
    assert caller.failed == []
    caller.news("ALIVE", 3)
    assert caller.sent == [1]


# ---------------------------------------------------------------------- the end


def test_death_ends_everything(living: Caller) -> None:
    living.submit(call(1), call(2, retries=-1), not_ready(3))
    living.news("DEAD", 0, cause="it was killed", error=b"pickled")
    assert living.failed == [([1, 2, 3], False)]
    assert (living.client.cause, living.client.error) == ("it was killed", b"pickled")
    assert living.client.connection is None
    living.submit(call(4))
    assert living.failed[1:] == [([4], False)]
    living.news("ALIVE", 1)
    assert living.client.state == "DEAD"


def test_death_with_nothing_under_way_is_quiet(living: Caller) -> None:
    living.news("DEAD", 0)
    assert living.failed == []


def test_without_news_whoever_is_not_connected_ends(living: Caller) -> None:
    living.submit(call(1))
    assert living.client.cut_off("the control store is gone") == [], "it can be reached"
    living.client.disconnected()
    living.submit(call(2))
    living.run(living.client.cut_off("the control store is gone"))
    assert living.failed == [([1, 2], True)]
    assert living.client.cause == "the control store is gone"
    assert living.client.cut_off("again") == []
    living.news("DEAD", 0)
    assert living.client.cut_off("again") == []


# ---------------------------------------------------------------------- everything at random


class Host:
    """One incarnation: it runs what it is sent, in order."""

    def __init__(self, incarnation: int) -> None:
        self.incarnation = incarnation
        self.inbox: list[int] = []
        self.begun: list[int] = []
        #: Ended, and their replies still in the process; on their way.
        self.unsent: list[int] = []
        self.replies: list[int] = []
        self.alive = True


class ActorMachine(RuleBasedStateMachine):
    """Calls, restarts, replies that get out and replies that do not, news late and repeated."""

    out_of_order = False

    @initialize()
    def begin(self) -> None:
        self.client = ActorClient(ACTOR, "Counter", ME, self._send)
        self.client.out_of_order = self.out_of_order
        self.hosts: list[Host] = []
        self.news: deque[ActorUpdate] = deque()
        self.calls: dict[int, TaskRecord] = {}
        self.retries: dict[int, int] = {}
        self.ended: dict[int, str] = {}
        self.dead = False
        self.start()

    # ------------------------------------------------------------------ effects

    def _send(self, client: ActorClient, one: TaskRecord) -> None:
        host: Any = client.connection
        assert not one.unresolved
        host.inbox.append(one.seq)

    def run(self, commands: list[Command], news: ActorUpdate | None = None) -> None:
        for command in commands:
            if isinstance(command, Connect):
                host = self.hosts[int(command.address.removeprefix("/s/"))]
                if host.alive:
                    connection: Any = host
                    self.client.connected(connection)
                continue
            assert isinstance(command, Fail)
            for one in command.calls:
                assert one.seq not in self.ended, "ended twice"
                self.ended[one.seq] = "unavailable" if command.unavailable else "dead"
                if command.unavailable:
                    assert news is not None
                    known = news.begun_owner == ME
                    began = any(one.seq in host.begun for host in self.hosts)
                    assert began or not known, "it was not begun, and that is known"
                    assert one.retries_left == 0

    def deliver(self, host: Host) -> None:
        while host.replies:
            seq = host.replies.pop(0)
            if seq in self.client.inflight and self.client.connection is host:
                del self.client.inflight[seq]
                assert seq not in self.ended
                self.ended[seq] = "replied"

    def start(self) -> None:
        self.hosts.append(Host(len(self.hosts)))
        self.news.append(update("ALIVE", len(self.hosts) - 1, owner=b""))

    # ------------------------------------------------------------------ the caller

    @rule(is_ready=st.booleans(), retries=st.sampled_from([0, 0, 1, -1]))
    def submit(self, is_ready: bool, retries: int) -> None:
        seq = len(self.calls) + 1
        one = self.calls[seq] = call(seq, retries=retries)
        self.retries[seq] = retries
        one.unresolved = int(not is_ready)
        self.run(self.client.submit(one))

    @rule(data=st.data(), fails=st.booleans())
    def argument_comes(self, data: st.DataObject, fails: bool) -> None:
        waiting = [one for one in self.client.queue if one.unresolved]
        if not waiting:
            return
        one = data.draw(st.sampled_from(waiting), "call")
        if fails:
            self.ended[one.seq] = "failed"
            one.unresolved = -1
            self.client.withdraw(one)
        else:
            one.unresolved = 0
            self.client.ready(one)

    # ------------------------------------------------------------------ the actor

    @precondition(lambda self: self.hosts[-1].alive)
    @rule(flush=st.booleans())
    def works(self, flush: bool) -> None:
        host = self.hosts[-1]
        if flush:
            host.replies += host.unsent
            host.unsent = []
        elif host.inbox:
            host.begun.append(host.inbox.pop(0))
            host.unsent.append(host.begun[-1])

    @rule()
    def replies_arrive(self) -> None:
        self.deliver(self.hosts[-1])

    @precondition(lambda self: self.hosts[-1].alive)
    @rule(ends=st.integers(0, 4), other=st.none() | st.integers(0, 5), seen=st.booleans())
    def dies(self, ends: int, other: int | None, seen: bool) -> None:
        """``other``: it has begun a call of somebody else since, of this number."""
        host = self.hosts[-1]
        host.alive = False
        word = host.begun[-1] if host.begun else 0
        owner = ME if host.begun else b""
        if other is not None:
            word, owner = other, b"other___"
        if seen and self.client.connection is host:
            self.deliver(host)
            self.client.disconnected()
        if ends == 0:
            self.dead = True
            self.news.append(update("DEAD", host.incarnation, begun=word, owner=owner))
        else:
            self.news.append(update("RESTARTING", host.incarnation + 1, begun=word, owner=owner))
            self.start()

    # ------------------------------------------------------------------ the control store

    @precondition(lambda self: self.news)
    @rule(repeat=st.booleans())
    def told(self, repeat: bool) -> None:
        one = self.news[0] if repeat else self.news.popleft()
        host: Any = self.client.connection
        if host is not None and one.state != "ALIVE":
            self.deliver(host)  # what it got out before it ended is read first
        self.run(self.client.updated(one), one)

    # ------------------------------------------------------------------ what holds

    @invariant()
    def every_call_is_in_one_place(self) -> None:
        here = [*seqs(self.client.queue), *self.client.inflight, *self.ended]
        assert sorted(here) == sorted(self.calls)

    @invariant()
    def none_begins_more_often_than_it_may(self) -> None:
        for seq, retries in self.retries.items():
            times = sum(host.begun.count(seq) for host in self.hosts)
            assert times <= 1 + retries or retries < 0

    @invariant()
    def they_begin_in_the_order_of_the_calls(self) -> None:
        for host in self.hosts:
            assert self.out_of_order or host.begun == sorted(host.begun)

    @invariant()
    def nothing_waits_that_could_leave(self) -> None:
        queue = self.client.queue
        if self.client.connection is not None:
            assert all(one.unresolved for one in (queue if self.out_of_order else list(queue)[:1]))

    def teardown(self) -> None:
        while self.news:
            self.told(False)
        for one in list(self.client.queue):
            if one.unresolved:
                one.unresolved = 0
                self.client.ready(one)
        host = self.hosts[-1]
        if host.alive:
            host.replies += host.unsent + host.inbox
            host.begun += host.inbox
        self.deliver(host)
        assert not self.client.queue
        assert not self.client.inflight
        assert len(self.ended) == len(self.calls)
        assert (self.client.state == "DEAD") == self.dead
        self.none_begins_more_often_than_it_may()
        self.they_begin_in_the_order_of_the_calls()


class OutOfOrderActorMachine(ActorMachine):
    """The same for an actor that runs several calls at a time."""

    out_of_order = True


TestActorMachine = ActorMachine.TestCase
TestActorMachine.settings = effort(80)
TestOutOfOrderActorMachine = OutOfOrderActorMachine.TestCase
TestOutOfOrderActorMachine.settings = effort(50)
