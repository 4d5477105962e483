"""Which of an actor's calls may begin."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skate._worker.execution.lanes import Key, LaneRow, Lanes


class Call(NamedTuple):
    """A call, as the lanes see it."""

    key: Key
    group: str = ""
    began: float = 0.0


A, B, C, D = (Call((b"owner", number)) for number in range(1, 5))


def lanes(**limits: int) -> Lanes[Call]:
    made: Lanes[Call] = Lanes({"": limits.pop("default", 1), **limits})
    assert made.opened() == []
    return made


def test_one_at_a_time_in_the_order_in_which_they_came() -> None:
    serial = lanes()
    assert serial.arrive(A)
    assert not serial.arrive(B)
    assert not serial.arrive(C)
    assert serial.rows() == [LaneRow(1, (A.key,), (B.key, C.key))]
    assert serial.count("") == 1
    assert serial.ended(A) == B
    assert serial.ended(B) == C
    assert serial.ended(C) is None
    assert serial.all_running() == []


def test_nothing_begins_before_the_constructor_is_through() -> None:
    early: Lanes[Call] = Lanes({"": 2})
    assert not any(early.arrive(call) for call in (A, B, C))
    assert early.opened() == [A, B]
    assert early.ended(B) == C


def test_groups_do_not_hold_each_other_up() -> None:
    grouped = lanes(io=1)
    b, c = B._replace(group="io"), C._replace(group="io")
    assert grouped.arrive(A)
    assert grouped.arrive(b)
    assert not grouped.arrive(c)
    assert grouped.ended(A) is None
    assert grouped.ended(b) == c


def test_an_unknown_group() -> None:
    with pytest.raises(KeyError):
        lanes().arrive(A._replace(group="nobody"))


def test_what_has_not_begun_can_be_withdrawn() -> None:
    serial = lanes()
    for call in (A, B, C):
        serial.arrive(call)
    assert serial.withdraw(B.key) == B
    assert serial.withdraw(B.key) is None
    assert serial.withdraw(A.key) is None  # it runs
    assert serial.running(A.key) == A
    assert serial.ended(A) == C


def test_the_end_of_what_is_not_here_changes_nothing() -> None:
    serial = lanes()
    serial.arrive(A)
    assert serial.ended(D) is None
    assert serial.running(A.key) == A


def test_after_close_nothing_begins() -> None:
    closed = lanes()
    closed.arrive(A)
    closed.arrive(B)
    assert closed.close() == [A]
    assert closed.ended(A) is None
    assert not closed.arrive(C)


def test_reports_show_the_constructor_and_then_the_calls() -> None:
    early: Lanes[Call] = Lanes({"": 1, "io": 2})
    early.arrive(A._replace(began=3.0))
    early.arrive(B)
    (row,) = early.report(b"worker", (b"", 0, 0.5), 10.0, is_async=False)
    assert (row["slots"], row["seconds"], len(row["queued"])) == (1, [0.5], 2)
    early.opened()
    mine, io = early.report(b"worker", (b"", 0, 0.5), 10.0, is_async=False)
    assert (mine["slots"], mine["seconds"], len(mine["queued"])) == (1, [7.0], 1)
    assert (io["slots"], io["running"], io["queued"]) == (2, [], [])
    # A coroutine may wait in many ways, so that no call counts as blocked.
    assert [row["slots"] for row in early.report(b"worker", (b"", 0, 0.5), 10.0, is_async=True)] == [0, 0]


@given(
    limits=st.fixed_dictionaries({"": st.integers(1, 3), "io": st.integers(1, 3)}),
    steps=st.lists(
        st.tuples(st.sampled_from(["", "io", "end", "withdraw"]), st.integers(0, 30)), max_size=60
    ),
)
def test_every_call_begins_once_and_in_order_and_limits_hold(
    limits: dict[str, int], steps: list[tuple[str, int]]
) -> None:
    table: Lanes[Call] = Lanes(limits)
    arrived: dict[str, list[Call]] = {"": [], "io": []}
    begun: dict[str, list[Call]] = {"": [], "io": []}
    running: list[Call] = []
    withdrawn: set[Key] = set()
    number = 0

    def note(call: Call | None) -> None:
        if call is not None:
            begun[call.group].append(call)
            running.append(call)

    assert table.opened() == []
    for what, choice in steps:
        if what == "end":
            if running:
                note(table.ended(running.pop(choice % len(running))))
        elif what == "withdraw":
            if number:
                found = table.withdraw((b"o", choice % number))
                if found is not None:
                    withdrawn.add(found.key)
        else:
            call = Call((b"o", number), what)
            arrived[what].append(call)
            note(call if table.arrive(call) else None)
            number += 1
        for group, limit in limits.items():
            assert table.count(group) == sum(one.group == group for one in running) <= limit
            waiting = [one for one in arrived[group] if one not in begun[group] and one.key not in withdrawn]
            assert not waiting or table.count(group) == limit
    while running:
        note(table.ended(running.pop()))
    for group in limits:
        assert begun[group] == [one for one in arrived[group] if one.key not in withdrawn]
