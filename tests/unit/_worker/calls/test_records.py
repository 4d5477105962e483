"""What is known of functions and calls: how deep to pipeline, which calls a dead process had begun."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skate._worker.calls.actor_client import ActorClient
from skate._worker.calls.records import FunctionRecord, split_begun
from skate._worker.calls.streams import Stream
from skate._worker.objects.refs import RefTable

from ..making import ME, call, entry, function, seqs

SHORT_US, MOST = 1000, 32

# ---------------------------------------------------------------------- how long a function takes


def measured(*microseconds: int, max_calls: int = 0) -> FunctionRecord:
    record = function()
    record.max_calls = max_calls
    for one in microseconds:
        record.measured(one, SHORT_US, MOST)
    return record


def test_what_is_not_known_is_not_pipelined() -> None:
    assert function().depth == 1


def test_one_short_call_makes_it_short() -> None:
    record = measured(90)
    assert (record.microseconds, record.depth) == (90.0, 20)
    assert measured(0).depth == MOST
    assert measured(990).depth == 2
    assert measured(1000).depth == 1


def test_the_average_moves_by_and_by() -> None:
    assert measured(100, 200).microseconds == pytest.approx(120)
    assert measured(5000, 0).microseconds == pytest.approx(4000)


def test_one_long_call_counts_at_once() -> None:
    record = measured(10, 10, 10, 50_000)
    assert (record.microseconds, record.depth) == (50_000.0, 1)


def test_a_long_function_that_became_short_is_believed_after_a_while() -> None:
    record, count = measured(50_000), 0
    while record.depth == 1:
        record.measured(10, SHORT_US, MOST)
        count += 1
    assert 5 < count < 50


def test_never_more_in_flight_than_the_worker_will_run() -> None:
    assert measured(0, max_calls=3).depth == 3


@given(st.lists(st.integers(0, 10**9), min_size=1))
def test_the_depth_is_always_usable(microseconds: list[int]) -> None:
    record = measured(*microseconds)
    assert 1 <= record.depth <= MOST
    assert min(microseconds) <= record.microseconds <= max(microseconds)
    assert (record.depth == 1) == (
        record.microseconds >= SHORT_US or int(2000 / (record.microseconds + 10)) == 1
    )


def test_a_function_that_is_gone_is_to_be_forgotten_by_workers() -> None:
    dead: deque[int] = deque()
    record = FunctionRecord(7, "f", b"", 1, (), dead)
    assert not dead
    del record
    assert list(dead) == [7]


# ---------------------------------------------------------------------- what a dead process had begun

THREE = [call(seq) for seq in (4, 6, 9)]


@pytest.mark.parametrize(
    ("begun_seq", "begun", "fresh"),
    [
        (None, [4, 6, 9], []),
        (0, [], [4, 6, 9]),
        (4, [4], [6, 9]),
        (6, [4, 6], [9]),
        (9, [4, 6, 9], []),
        (3, [], [4, 6, 9]),
    ],
)
def test_calls_up_to_the_one_begun_last_were_begun(
    begun_seq: int | None, begun: list[int], fresh: list[int]
) -> None:
    """Numbers say nothing about the order: a call that is sent again keeps its own."""
    first, second = split_begun(THREE, begun_seq)
    assert (seqs(first), seqs(second)) == (begun, fresh)


def test_they_are_in_the_order_sent_not_of_their_numbers() -> None:
    first, second = split_begun([call(9), call(4), call(6)], 4)
    assert (seqs(first), seqs(second)) == ([9, 4], [6])


# ---------------------------------------------------------------------- one call


def test_retries_are_counted() -> None:
    one = call(1, retries=2)
    assert [one.spend_retry() for _ in range(4)] == [True, True, False, False]
    assert one.retries_left == 0


def test_below_zero_it_is_retried_for_ever() -> None:
    one = call(1, retries=-1)
    assert all(one.spend_retry() for _ in range(10))
    assert one.retries_left == -1


def test_what_was_cancelled_is_not_run_again() -> None:
    one = call(1, retries=-1)
    one.cancelled = True
    assert not one.spend_retry()


def test_names() -> None:
    assert call(1, function("module.f")).describe() == "module.f"
    named = call(1, function("module.f"))
    named.name = "the name given"
    assert named.describe() == "the name given"
    method = call(1, method="go")
    method.actor = ActorClient(b"a", "Counter", ME, lambda client, sent: None)
    assert method.describe() == "Counter.go"


def test_arguments_given_as_refs() -> None:
    one, argument = call(1), entry(2)
    assert not one.needs(argument)
    one.dependencies = [(0, entry(3)), ("key", argument)]
    assert one.needs(argument)
    assert not one.needs(entry(2)), "another entry of that name"


def test_what_a_worker_must_know_of_a_stream() -> None:
    one, refs = call(1), RefTable()
    assert one.stream_state() is None
    one.stream = Stream(refs, ME, 100, 8)
    assert one.stream_state() == (100, 0, 8)
    one.stream.arrive(0)
    one.stream.arrive(1)
    assert one.stream_state() == (100, 2, 8), "what has arrived is skipped"
    one.is_reconstruction = True
    assert one.stream_state() == (100, 0, 0)
    one.lost_items = {5: entry(5), 3: entry(3)}
    assert one.stream_state() == (100, 3, 0), "from the first that was lost, without waiting for takers"
