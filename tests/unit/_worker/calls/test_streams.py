"""Items of a generator at their caller: each once, in order, owned by whoever takes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from skate._base import ids
from skate._base.ids import STREAM_COUNTERS, index_of, item_id
from skate._base.kinds import NONE, PICKLE
from skate._worker.calls.streams import Stream
from skate._worker.objects.refs import PENDING, Freed, ObjectEntry, RefTable

from ...effort import effort
from ..making import ME

BASE = 1000


@pytest.fixture
def refs() -> RefTable:
    return RefTable()


@pytest.fixture
def stream(refs: RefTable) -> Stream:
    return Stream(refs, ME, BASE, 0)


@given(st.integers(0, (STREAM_COUNTERS << 16) - 1), st.integers(0, 2**31))
def test_every_item_has_an_id_of_its_own_that_tells_its_index(index: int, base: int) -> None:
    name = item_id(ME, base, index)
    assert len(name) == ids.OBJECT_ID_SIZE
    assert ids.owner_of(name) == ME
    assert index_of(name, base) == index
    assert base <= ids.parts_of(name)[0] < base + STREAM_COUNTERS, "no id of another task or stream"


def test_items_are_taken_in_order(refs: RefTable, stream: Stream) -> None:
    assert not stream.ready
    assert stream.take() is None
    entries = [stream.arrive(index) for index in range(3)]
    assert stream.ready
    assert [stream.take() for _ in range(4)] == [*entries, None]
    assert (stream.received, stream.taken) == (3, 3)
    for index, entry in enumerate(entries):
        assert entry is not None
        assert entry.id == stream.item_id(index) == item_id(ME, BASE, index)
        assert entry.local == 1, "the taker's"
        assert refs.entries[entry.id] is entry


@given(st.integers(1, 100), st.lists(st.booleans(), max_size=300))
def test_the_generator_hears_of_what_was_taken_in_time(limit: int, moves: list[bool]) -> None:
    """It runs on by what it has heard: never further ahead than its limit, and never does it wait for news while
    its taker waits for items."""
    stream = Stream(RefTable(), ME, BASE, limit)
    sent = heard = 0
    for is_sent in moves:
        if is_sent and sent - heard < limit:
            stream.arrive(sent)
            sent += 1
        elif stream.take() is not None and stream.to_report():
            heard = stream.taken
        assert sent - stream.taken <= limit
        if sent == stream.taken:
            assert sent - heard < limit


def test_a_large_limit_costs_few_messages() -> None:
    stream = Stream(RefTable(), ME, BASE, 64)
    for index in range(64):
        stream.arrive(index)
    told = []
    for index in range(64):
        stream.take()
        if stream.to_report():
            told.append(index + 1)
    assert told == [16, 32, 48, 64]


def test_a_stream_without_a_limit_tells_nothing(stream: Stream) -> None:
    stream.arrive(0)
    stream.take()
    assert not stream.to_report()


def test_what_came_already_or_too_early_is_not_wanted(stream: Stream) -> None:
    assert stream.arrive(1) is None
    stream.arrive(0)
    assert stream.arrive(0) is None, "a retry sends it again"
    assert stream.received == 1


def test_who_waits_for_the_next_item_waits_for_its_very_entry(stream: Stream) -> None:
    waited_for = stream.peek()
    assert waited_for.kind == PENDING
    assert stream.peek() is waited_for
    assert stream.arrive(0) is waited_for
    assert stream.peek() is waited_for
    assert stream.take() is waited_for
    assert stream.peek() is not waited_for


def test_the_end_for_who_waits(refs: RefTable, stream: Stream) -> None:
    waited_for = stream.peek()
    assert stream.end() is waited_for
    assert stream.ready
    assert stream.take() is None
    assert stream.peek().kind == NONE
    assert stream.peek() is stream.peek()
    refs.drop_local(waited_for)
    assert refs.entries == {}


def test_the_end_after_the_last_item(stream: Stream) -> None:
    entry = stream.arrive(0)
    assert stream.end() is None
    assert stream.arrive(1) is None
    assert stream.peek() is entry
    assert stream.take() is entry
    assert stream.take() is None
    assert stream.peek().kind == NONE


def test_what_nobody_took_goes_when_the_stream_is_dropped(refs: RefTable, stream: Stream) -> None:
    taken, left = stream.arrive(0), stream.arrive(1)
    assert stream.take() is taken
    waited_for = Stream.peek(stream)
    assert waited_for is left
    stream.close()
    assert refs.commands == [Freed(left)] if left is not None else False
    assert list(refs.entries.values()) == [taken]
    assert stream.arrive(2) is None
    stream.close()
    assert len(refs.commands) == 1


def test_what_was_waited_for_goes_too(refs: RefTable, stream: Stream) -> None:
    stream.peek()
    stream.close()
    assert refs.entries == {}


class StreamMachine(RuleBasedStateMachine):
    """A generator that fails and is run again, a caller that peeks, takes, drops and closes."""

    @initialize()
    def begin(self) -> None:
        self.refs = RefTable()
        self.stream = Stream(self.refs, ME, BASE, 0)
        self.next = 0
        self.arrived: list[ObjectEntry] = []
        self.taken: list[ObjectEntry] = []
        self.kept: list[ObjectEntry] = []

    @rule()
    def yields(self) -> None:
        entry = self.stream.arrive(self.next)
        if self.stream.closed or self.stream.ended or self.next < len(self.arrived):
            assert entry is None
        else:
            assert entry is not None
            self.refs.fulfil(entry, PICKLE, b"%d" % self.next)
            self.arrived.append(entry)
        self.next += 1

    @rule(skip=st.booleans())
    def runs_again(self, skip: bool) -> None:
        self.next = self.stream.received if skip else 0

    @rule()
    def peeks(self) -> None:
        if not self.stream.closed:
            entry = self.stream.peek()
            waiting = len(self.taken) == len(self.arrived) and not self.stream.ended
            assert (entry.kind == PENDING) == waiting
            assert self.stream.ready != waiting

    @rule(keep=st.booleans())
    def takes(self, keep: bool) -> None:
        entry = self.stream.take()
        if entry is None:
            assert self.stream.closed or len(self.taken) == len(self.arrived)
            return
        assert entry.data == b"%d" % len(self.taken)
        self.taken.append(entry)
        if keep:
            self.kept.append(entry)
        else:
            self.refs.drop_local(entry)

    @rule()
    def ends(self) -> None:
        if not self.stream.ended:
            entry = self.stream.end()
            if entry is not None:
                self.refs.fulfil(entry, NONE, b"")
                self.refs.drop_local(entry)

    @rule()
    def closes(self) -> None:
        self.stream.close()

    @invariant()
    def nothing_is_kept_but_what_is_wanted(self) -> None:
        wanted = {entry.id for entry in self.kept}
        if not self.stream.closed:
            wanted |= {entry.id for entry in self.arrived[len(self.taken) :]}
        more = self.refs.entries.keys() - wanted
        assert wanted <= self.refs.entries.keys()
        assert more <= {self.stream.item_id(self.stream.received)}
        assert not (self.stream.ended and more)

    def teardown(self) -> None:
        self.ends()
        self.stream.close()
        for entry in self.kept:
            self.refs.drop_local(entry)
        assert self.refs.entries == {}


TestStreamMachine = StreamMachine.TestCase
TestStreamMachine.settings = effort(50)
