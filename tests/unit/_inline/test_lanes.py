"""Which of an actor's calls may begin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skate._inline.lanes import LaneRow, Lanes

A, B, C, D = ((b"owner", number) for number in range(1, 5))


def lanes(**limits: int) -> Lanes[str]:
    made: Lanes[str] = Lanes({"": limits.pop("default", 1), **limits})
    assert made.opened() == []
    return made


def test_one_at_a_time_in_the_order_in_which_they_came() -> None:
    serial = lanes()
    assert serial.arrive(A, "", "a") == ["a"]
    assert serial.arrive(B, "", "b") == []
    assert serial.arrive(C, "", "c") == []
    assert serial.rows() == [LaneRow(1, (A,), (B, C))]
    assert serial.ended(A) == ["b"]
    assert serial.ended(B) == ["c"]
    assert serial.ended(C) == []


def test_nothing_begins_before_the_constructor_is_through() -> None:
    early: Lanes[str] = Lanes({"": 2})
    assert [early.arrive(key, "", name) for key, name in ((A, "a"), (B, "b"), (C, "c"))] == [[], [], []]
    assert early.opened() == ["a", "b"]
    assert early.ended(B) == ["c"]


def test_groups_do_not_hold_each_other_up() -> None:
    grouped = lanes(io=1)
    assert grouped.arrive(A, "", "a") == ["a"]
    assert grouped.arrive(B, "io", "b") == ["b"]
    assert grouped.arrive(C, "io", "c") == []
    assert grouped.ended(A) == []
    assert grouped.ended(B) == ["c"]


def test_an_unknown_group() -> None:
    with pytest.raises(KeyError):
        lanes().arrive(A, "nobody", "a")


def test_what_has_not_begun_can_be_withdrawn() -> None:
    serial = lanes()
    serial.arrive(A, "", "a")
    serial.arrive(B, "", "b")
    serial.arrive(C, "", "c")
    assert serial.withdraw(B) == "b"
    assert serial.withdraw(B) is None
    assert serial.withdraw(A) is None  # it runs
    assert serial.running(A) == "a"
    assert serial.ended(A) == ["c"]


def test_the_end_of_what_is_not_here_changes_nothing() -> None:
    serial = lanes()
    serial.arrive(A, "", "a")
    assert serial.ended(D) == []
    assert serial.running(A) == "a"


def test_after_close_nothing_begins() -> None:
    closed = lanes()
    closed.arrive(A, "", "a")
    closed.arrive(B, "", "b")
    assert closed.close() == ["a"]
    assert closed.ended(A) == []
    assert closed.arrive(C, "", "c") == []


@given(
    limits=st.fixed_dictionaries({"": st.integers(1, 3), "io": st.integers(1, 3)}),
    steps=st.lists(
        st.tuples(st.sampled_from(["", "io", "end", "withdraw"]), st.integers(0, 30)), max_size=60
    ),
)
def test_every_call_begins_once_and_in_order_and_limits_hold(
    limits: dict[str, int], steps: list[tuple[str, int]]
) -> None:
    table: Lanes[tuple[str, int]] = Lanes(limits)
    arrived: dict[str, list[int]] = {"": [], "io": []}
    begun: dict[str, list[int]] = {"": [], "io": []}
    running: list[tuple[str, int]] = []
    withdrawn: set[int] = set()
    number = 0

    def note(calls: list[tuple[str, int]]) -> None:
        for group, which in calls:
            begun[group].append(which)
            running.append((group, which))

    note(table.opened())
    for what, choice in steps:
        if what == "end":
            if running:
                _, which = running.pop(choice % len(running))
                note(table.ended((b"o", which)))
        elif what == "withdraw":
            if number:
                which = choice % number
                if table.withdraw((b"o", which)) is not None:
                    withdrawn.add(which)
        else:
            arrived[what].append(number)
            note(table.arrive((b"o", number), what, (what, number)))
            number += 1
        for group, limit in limits.items():
            assert sum(one == group for one, _ in running) <= limit
            waiting = [one for one in arrived[group] if one not in begun[group] and one not in withdrawn]
            assert not waiting or sum(one == group for one, _ in running) == limit
    while running:
        _, which = running.pop()
        note(table.ended((b"o", which)))
    for group in limits:
        assert begun[group] == [one for one in arrived[group] if one not in withdrawn]
