"""Submission, results, cancellation, recovery and borrowing of a real runtime, message by message.

Valid messages in the wrong state change nothing; the right ones in any order end every call once.
"""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.strategies import booleans, data, integers, sampled_from

from skate._base import ids
from skate._base.kinds import ERROR, PICKLE, SHARED
from skate._serialize.exceptions import dump_error
from skate._wire import node
from skate._wire import worker as wire
from skate._worker.objects.refs import PENDING
from skate.exceptions import ObjectLostError, OwnerDiedError, TaskCancelledError, WorkerCrashedError

from ..effort import effort
from .lonely import ME, Lonely

FIRST, SECOND = b"first___", b"second__"


def address(worker_id: bytes) -> str:
    return f"/s/{worker_id.hex()}"


def reply(seq: int, value: Any = "done", **more: Any) -> wire.Reply:
    return wire.Reply(seq, PICKLE, pickle.dumps(value), 10, **more)


def grant(process: Lonely, lease: int, worker_id: bytes) -> Any:
    """Give the process a worker; return the connection to it."""
    process.core.task_submitter.granted(
        process.daemon, node.LeaseGranted(1, lease, worker_id, address(worker_id))
    )
    return process.line(worker_id)


def calls(line: Any) -> list[int]:
    """Return the numbers of the calls that were sent since the last look."""
    return [one.seq for one in line.taken() if isinstance(one, wire.Call)]


@pytest.fixture
def process() -> Lonely:
    return Lonely()


def test_a_call_waits_for_a_worker_is_sent_and_ends(process: Lonely) -> None:
    ref = process.call()
    assert [one.count for one in process.daemon.taken()] == [1]
    worker = grant(process, 1, FIRST)
    assert [type(one) for one in worker.taken()] == [wire.DefineFunction, wire.Call]
    process.hears(worker, reply(1))
    assert process.value(ref) == "done"
    assert process.core.tasks.unfinished == {}


def test_a_second_reply_changes_nothing(process: Lonely) -> None:
    ref = process.call()
    worker = grant(process, 1, FIRST)
    process.hears(worker, reply(1, "first"))
    process.hears(worker, reply(1, "second"))
    assert process.value(ref) == "first"
    assert len(process.core.history.finished) == 1


def test_a_late_reply_of_a_worker_that_was_given_up_does_not_count(process: Lonely) -> None:
    """The call was sent again since: only the process that has it can end it."""
    ref = process.call()
    first = grant(process, 1, FIRST)
    process.core.task_submitter.worker_died(process.daemon, node.WorkerDied(1, FIRST, "it was killed", ME, 1))
    second = grant(process, 2, SECOND)
    assert calls(second) == [1]
    process.hears(first, reply(1, "late"))
    assert ref._entry.kind == PENDING
    process.hears(second, reply(1, "again"))
    assert process.value(ref) == "again"


def test_what_another_process_returns_stays_where_it_is(process: Lonely) -> None:
    ref = process.call()
    worker = grant(process, 1, FIRST)
    stranger = process.peers.reach(address(SECOND), lambda line: None, None, SECOND)
    stranger = process.line(SECOND)
    for message in (wire.Returned([1]), wire.StreamItem(1, 0, PICKLE, b"", None), wire.Returned([7])):
        process.hears(stranger, message)
    process.hears(worker, reply(1))
    assert process.value(ref) == "done"


@pytest.mark.parametrize("message", [
    reply(5), wire.Reply(5, ERROR, dump_error(ValueError())), wire.Returned([5, 6]),
    wire.StreamItem(5, 0, PICKLE, b"", None), wire.CancelTask(ids.object_id(ME, 5), False, True),
    wire.BorrowAck(ids.object_id(FIRST, 5), 1, True), wire.BorrowAck(ids.object_id(FIRST, 5), 1, False),
    wire.RemoveBorrower(ids.object_id(ME, 5), 3), wire.ObjectValue(ids.object_id(FIRST, 5), PICKLE, b""),
], ids=lambda message: type(message).__name__)  # fmt: skip
def test_news_of_what_is_not_known_changes_nothing(process: Lonely, message: Any) -> None:
    kept = process.core.values.put("kept")
    process.peers.reach(address(FIRST), lambda line: None, None, FIRST)
    process.hears(process.line(FIRST), message)
    assert process.core.tasks.unfinished == {}
    assert list(process.core.refs.entries) == [kept.binary()]
    assert process.line(FIRST).sent == []


def test_news_of_a_lease_that_is_not_known_changes_nothing(process: Lonely) -> None:
    submitter = process.core.task_submitter
    ref = process.call()
    process.daemon.taken()
    submitter.worker_died(process.daemon, node.WorkerDied(9, FIRST, "it was killed", ME, 1))
    submitter.refused(process.daemon, node.DemandRefused(7, "too much", False))
    submitter.refused(process.daemon, node.DemandRefused(7, "never", True))
    submitter.reclaim(process.daemon, node.LeaseReclaim(3))
    submitter.granted(process.daemon, node.LeaseGranted(7, 3, FIRST, address(FIRST)))
    assert process.daemon.taken() == [node.LeaseReturned(3)]
    assert ref._entry.kind == PENDING
    grant(process, 1, FIRST)
    process.hears(process.line(FIRST), reply(1))
    assert process.value(ref) == "done"


def test_the_value_of_a_freed_object_is_an_error(process: Lonely) -> None:
    process.peers.reach(address(FIRST), lambda line: None, None, FIRST)
    process.hears(process.line(FIRST), wire.GetObject(ids.object_id(ME, 5)))
    (answer,) = process.line(FIRST).taken()
    assert answer.kind == ERROR


def test_who_asks_before_there_is_a_value_is_answered_then(process: Lonely) -> None:
    ref = process.call()
    worker = grant(process, 1, FIRST)
    process.peers.reach(address(SECOND), lambda line: None, None, SECOND)
    asking = process.line(SECOND)
    process.hears(asking, wire.GetObject(ref.binary()))
    assert asking.taken() == []
    process.hears(worker, reply(1, 3))
    assert asking.taken() == [wire.ObjectValue(ref.binary(), PICKLE, pickle.dumps(3))]


def test_a_borrowed_ref_whose_owner_is_gone_says_so(process: Lonely) -> None:
    process.peers.dead.add(address(FIRST))
    ref = process.core.values.adopt(ids.object_id(FIRST, 1), address(FIRST))
    process.loop.pass_time(0)
    with process.core.context.lock:
        process.core.borrowing.fetch(ref._entry)
    with pytest.raises(OwnerDiedError):
        process.value(ref)


def test_a_borrower_is_registered_and_released(process: Lonely) -> None:
    ref = process.core.values.adopt(ids.object_id(FIRST, 1), address(FIRST))
    process.loop.pass_time(0)
    owner = process.line(FIRST)
    (added,) = owner.taken()
    assert isinstance(added, wire.AddBorrower)
    process.peers._by_address[address(FIRST)] = owner
    process.hears(owner, wire.BorrowAck(ref.binary(), added.epoch, True))
    del ref
    process.loop.pass_time(0)
    assert owner.taken() == [wire.RemoveBorrower(added.object_id, added.epoch)]


def test_an_argument_that_is_an_error_ends_the_call_without_a_worker(process: Lonely) -> None:
    first = process.call()
    worker = grant(process, 1, FIRST)
    second = process.call(None, 3, first)
    process.hears(worker, wire.Reply(1, ERROR, dump_error(ValueError("no"))))
    with pytest.raises(ValueError, match="no"):
        process.value(second)
    assert process.core.tasks.unfinished == {}
    assert 2 not in calls(worker)


def test_a_lost_argument_is_made_again_before_the_call_runs(process: Lonely) -> None:
    made = process.call()
    worker = grant(process, 1, FIRST)
    place = b"where it lies"
    process.hears(worker, wire.Reply(1, SHARED, place, 10))
    user = process.call(None, 3, made)
    assert calls(worker)[-1] == 2
    process.hears(worker, wire.Reply(2, wire.LOST, made.binary() + place))
    assert calls(worker) == [1], "the call that made it runs again, the other one waits"
    process.hears(worker, wire.Reply(1, SHARED, b"elsewhere", 10))
    assert calls(worker) == [2]
    process.hears(worker, reply(2))
    assert process.value(user) == "done"


def test_a_lost_value_of_put_cannot_be_made_again(process: Lonely) -> None:
    ref = process.core.values.put("small")
    with process.core.context.lock:
        ref._entry.kind, ref._entry.data = SHARED, b"place"
        process.core.recovery.missing(ref._entry, b"another place")
        assert ref._entry.kind == SHARED, "a late report of a place that it left"
        process.core.recovery.missing(ref._entry, b"place")
    with pytest.raises(ObjectLostError, match="made by put"):
        process.value(ref)


def test_a_cancelled_call_whose_worker_says_nothing_ends_for_its_callers(process: Lonely) -> None:
    ref = process.call()
    worker = grant(process, 1, FIRST)
    worker.taken()
    with process.core.context.lock:
        process.core.canceller.cancel(ref._entry, False, True)
    assert worker.taken() == [wire.CancelCall(1, False, True)]
    process.loop.pass_time(1)
    with pytest.raises(TaskCancelledError):
        process.value(ref)
    process.hears(worker, reply(1, "too late"))
    assert process.core.tasks.unfinished == {}
    with pytest.raises(TaskCancelledError):
        process.value(ref)


class Calls(RuleBasedStateMachine):
    """Calls, workers that come, answer, give calls back and die, cancels: in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.process = Lonely()
        self.refs: dict[int, Any] = {}
        self.cancelled: set[int] = set()
        self.workers: dict[int, tuple[bytes, Any]] = {}
        #: Number of a call to the lease that has it.
        self.sent: dict[int, int] = {}
        self.ended: dict[int, str] = {}
        self.last_lease = 0

    @initialize()
    def begin(self) -> None:
        self.function = self.process.function()
        self.function.depth = 4

    def look(self) -> None:
        """Note which calls were sent where."""
        for lease, (_, line) in self.workers.items():
            for message in line.taken():
                if isinstance(message, wire.Call):
                    assert message.seq not in self.sent, "it is at a worker already"
                    assert message.seq not in self.ended
                    self.sent[message.seq] = lease

    @rule(retries=integers(0, 2))
    def call(self, retries: int) -> None:
        ref = self.process.call(self.function, retries)
        self.refs[self.process.core.context.counter] = ref
        self.look()

    @precondition(lambda self: self.refs and len(self.workers) < 4)
    @rule()
    def grant(self) -> None:
        self.last_lease += 1
        worker_id = b"worker%02d" % self.last_lease
        self.workers[self.last_lease] = (worker_id, grant(self.process, self.last_lease, worker_id))
        self.look()
        if self.process.core.task_submitter._leases.get(self.last_lease) is None:
            del self.workers[self.last_lease]  # nothing waited, and it went back at once

    @precondition(lambda self: self.sent)
    @rule(choice=data(), raises=booleans())
    def answer(self, choice: Any, raises: bool) -> None:
        seq = choice.draw(sampled_from(sorted(self.sent)))
        line = self.workers[self.sent.pop(seq)][1]
        message = wire.Reply(seq, ERROR, dump_error(ValueError("raised"))) if raises else reply(seq, seq)
        self.ended.setdefault(seq, "raised" if raises else "value")
        self.process.hears(line, message)
        self.look()

    @precondition(lambda self: self.sent)
    @rule(choice=data())
    def give_back(self, choice: Any) -> None:
        seq = choice.draw(sampled_from(sorted(self.sent)))
        lease = self.sent.pop(seq)
        if seq in self.cancelled:
            self.ended.setdefault(seq, "cancelled")
        self.process.hears(self.workers[lease][1], wire.Returned([seq]))
        self.look()

    @precondition(lambda self: self.workers)
    @rule(choice=data(), begun=booleans())
    def die(self, choice: Any, begun: bool) -> None:
        lease = choice.draw(sampled_from(sorted(self.workers)))
        worker_id, _ = self.workers.pop(lease)
        mine = [seq for seq, where in self.sent.items() if where == lease]
        last = choice.draw(sampled_from(mine)) if mine and begun else 0
        for seq in mine:
            del self.sent[seq]
        message = node.WorkerDied(lease, worker_id, "it was killed", ME, last)
        self.process.core.task_submitter.worker_died(self.process.daemon, message)
        self.process.loop.pass_time(0)
        self.look()
        for seq in mine:  # it runs again, or it has ended
            entry = self.refs[seq]._entry
            if entry.kind == ERROR and seq not in self.ended:
                self.ended[seq] = "cancelled" if seq in self.cancelled else "crashed"

    @precondition(lambda self: set(self.refs) - set(self.ended))
    @rule(choice=data())
    def cancel(self, choice: Any) -> None:
        seq = choice.draw(sampled_from(sorted(set(self.refs) - set(self.ended))))
        with self.process.core.context.lock:
            self.process.core.canceller.cancel(self.refs[seq]._entry, False, True)
        self.cancelled.add(seq)
        if seq not in self.sent:
            self.ended[seq] = "cancelled"
        self.look()

    @rule()
    def wait(self) -> None:
        self.process.loop.pass_time(1)
        for seq in self.cancelled:
            self.ended.setdefault(seq, "cancelled")
        self.look()

    @invariant()
    def each_call_has_ended_once_and_as_it_should(self) -> None:
        for seq, ref in self.refs.items():
            end = self.ended.get(seq)
            if end is None:
                assert ref._entry.kind == PENDING
                assert seq in self.process.core.tasks.unfinished
            elif end == "value":
                assert self.process.value(ref) == seq
            else:
                kinds = {"raised": ValueError, "crashed": WorkerCrashedError, "cancelled": TaskCancelledError}
                with pytest.raises(kinds[end]):
                    self.process.value(ref)
        left = set(self.process.core.tasks.unfinished)
        assert left == (set(self.refs) - set(self.ended)) | (set(self.sent) & left)

    def teardown(self) -> None:
        """Everything ends when workers answer."""
        for _ in range(50):
            self.look()
            if not set(self.refs) - set(self.ended):
                break
            if not self.sent:
                self.grant()
            for seq in sorted(self.sent):
                line = self.workers[self.sent.pop(seq)][1]
                self.ended.setdefault(seq, "value")
                self.process.hears(line, reply(seq, seq))
                self.look()
        self.each_call_has_ended_once_and_as_it_should()
        assert set(self.refs) == set(self.ended)
        with self.process.core.context.lock:
            self.process.core.fail_everything("the test is over")


TestCalls = Calls.TestCase
TestCalls.settings = effort(200, steps=40)
