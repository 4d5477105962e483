"""The rules of the commit, without files."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skate.data._io.commit import (
    TABLE,
    Command,
    Commit,
    CommitError,
    Event,
    Found,
    PartLedger,
    PlanChanged,
    Start,
    State,
    how_to_start,
    resumed_command,
    state_of,
)
from skate.data._io.commit_plan import differences, frame, records
from skate.data._io.commit_staging import task_number
from skate.data._io.plain_data import plain

HAPPY = [
    (Event.TASKS_FINISHED, Command.LIST),
    (Event.LISTED, Command.PLACE),
    (Event.PLACED, Command.MARK),
    (Event.MARKED, Command.DELETE),
    (Event.DELETED, Command.CLEAN),
    (Event.CLEANED, None),
]


def test_the_way_of_a_write() -> None:
    commit = Commit(is_resumable=False)
    assert [commit.handle(event) for event, _ in HAPPY] == [command for _, command in HAPPY]
    assert commit.state is State.DONE


@pytest.mark.parametrize("is_resumable", [False, True])
@pytest.mark.parametrize("steps", range(7))
def test_failing_after_some_steps(steps: int, is_resumable: bool) -> None:
    commit = Commit(is_resumable)
    for event, _ in HAPPY[:steps]:
        commit.handle(event)
    command = commit.handle(Event.FAILED)
    if steps < 2 and not is_resumable:
        assert command is Command.DISCARD
        assert commit.handle(Event.DISCARDED) is None
        assert commit.state is State.DISCARDED
    elif steps < 6:
        assert command is None, "what is staged stays: for the resumed run, or because the write has happened"
        assert commit.state is State.KEPT
    else:
        assert commit.state is State.DONE
    state = commit.state
    assert commit.handle(Event.FAILED) is None
    assert commit.state is state


def test_an_event_without_a_rule_changes_nothing() -> None:
    for state, event in itertools.product(State, Event):
        if (state, event) not in TABLE:
            commit = Commit(False, state)
            with pytest.raises(CommitError, match="no rule"):
                commit.handle(event)
            assert commit.state is state


def test_how_to_start() -> None:
    for has_plan, has_list, has_marker, intact, differs, force in itertools.product([False, True], repeat=6):
        found = Found(has_plan, has_list, has_marker, intact, ("source: other",) if differs else ())
        if has_list:
            assert how_to_start(found, force, "p") is Start.FINISH
            state = state_of(found)
            assert resumed_command(state) is (Command.DELETE if has_marker else Command.PLACE)
        elif has_marker:
            expected = Start.NOTHING if intact and not differs else Start.NEW
            assert how_to_start(found, force, "p") is expected
        elif not has_plan:
            assert how_to_start(found, force, "p") is Start.NEW
        elif differs and not force:
            with pytest.raises(PlanChanged, match="source: other"):
                how_to_start(found, force, "p")
        else:
            assert how_to_start(found, force, "p") is Start.RESUME


@given(
    st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=3, unique=True), max_size=12),
    st.randoms(use_true_random=False),
)
def test_the_ledger_records_connected_parts_once(tasks: list[list[str]], chance: random.Random) -> None:
    """Every group is closed: no task has rows of a recorded and of an unrecorded part."""
    ledger = PartLedger()
    left = {part: sum(part in parts for parts in tasks) for part in "abcdefgh"}
    groups = []
    for part in [part for part in left if not left[part]]:
        groups += ledger.ended(part)  # a part all of whose rows were dropped
    order = list(enumerate(tasks))
    chance.shuffle(order)
    for number, parts in order:
        assert ledger.wrote(parts, number) == []
        for part in parts:
            left[part] -= 1
            if not left[part]:
                groups += ledger.ended(part)
        recorded = {part for group in groups for part in group.parts}
        for group in groups:
            for result in group.results:
                assert set(tasks[result]) <= set(group.parts) <= recorded
    assert sorted(part for group in groups for part in group.parts) == list("abcdefgh")
    assert sorted(result for group in groups for result in group.results) == list(range(len(tasks)))


@given(
    st.lists(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner))), st.data()
)
def test_a_manifest_is_read_up_to_where_it_is_whole(items: list[Any], data: st.DataObject) -> None:
    lines = [frame(item) for item in items]
    whole = b"".join(lines)
    assert list(records(whole)) == items
    cut = data.draw(st.integers(0, len(whole)))
    kept = 0
    while kept < len(lines) and sum(map(len, lines[: kept + 1])) - 1 <= cut:
        kept += 1
    assert list(records(whole[:cut])) == items[:kept]


@given(st.binary(max_size=200))
def test_garbage_is_no_record(data: bytes) -> None:
    list(records(data))
    spoilt = bytearray(frame({"a": 1}))
    spoilt[20] ^= 1
    assert list(records(bytes(spoilt))) == []


def test_differences() -> None:
    assert differences({"a": 1}, {"a": 1}) == []
    assert differences({"a": 1, "b": 2}, {"b": 3, "c": 4}) == [
        "a: was 1, is not given now",
        "b: was 2, is 3",
        "c: was not given, is 4",
    ]
    many = [[f"f{number}", 1] for number in range(20)]
    assert differences({"s": []}, {"s": many}) == ["s: 20 added: f0, f1, f2, f3, f4 and 15 more"]
    assert differences({"s": ["a", "b"]}, {"s": ["b", "a"]}) == ["s: the same entries in another order"]
    assert differences({"s": [[1, 2], [3, 4]]}, {"s": [[1, 2], [3, 5]]}) == ["s[1][1]: was 4, is 5"]
    assert differences([1], [1, 2], "s") == ["s: was [1], is [1, 2]"]


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_what_differs_is_said(value: Any) -> None:
    assert differences(value, json.loads(json.dumps(value))) == []
    assert differences({"a": value}, {"a": [value, value]})


def test_plain() -> None:
    class Thing:
        pass

    found = plain({1: (2, {3, 4}, b"\x01", len, Thing(), 1.5)})
    assert json.loads(json.dumps(found)) == found
    assert plain(Thing()) == plain(Thing()), "no addresses"


def test_task_numbers() -> None:
    assert task_number("3.12") == 12
    assert task_number("7") == 7
    with pytest.raises(ValueError, match="end in a number"):
        task_number("read")
