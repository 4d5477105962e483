"""Exact counts of calls: whatever is remembered, whatever was told, and how many names there are."""

from __future__ import annotations

from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from skate._base import counts
from skate._base.counts import OTHERS, total
from skate._worker.calls.tallies import Tallies, Tally

from ...effort import effort


def test_a_name_has_one_tally_and_is_found_by_the_shortcut() -> None:
    tallies, shortcuts = Tallies(), dict[str, Tally]()
    one = tallies.of("A.m", "A.m", "ACTOR_TASK", shortcuts, "m")
    assert tallies.of("A.m", "A.m", "ACTOR_TASK", {}, "m") is one
    assert shortcuts == {"m": one}
    one.finished += 2
    one.failed += 1
    assert tallies.rows() == [
        {"name": "A.m", "function": "A.m", "type": "ACTOR_TASK", "FINISHED": 2, "FAILED": 1}
    ]


def test_what_was_told_is_told_again_when_it_changed() -> None:
    tallies, shortcuts = Tallies(), dict[str, Tally]()
    one = tallies.of("f", "f", "NORMAL_TASK", shortcuts, "")
    tallies.of("g", "g", "NORMAL_TASK", {}, "")
    one.finished += 1
    assert [row["name"] for row in tallies.snapshot()] == ["f", "g"]
    assert shortcuts == {}, "the next call comes here"
    assert tallies.snapshot() == []
    assert tallies.of("f", "f", "NORMAL_TASK", shortcuts, "") is one
    one.finished += 1
    assert tallies.snapshot() == [
        {"name": "f", "function": "f", "type": "NORMAL_TASK", "FINISHED": 2, "FAILED": 0}
    ]


def test_beyond_so_many_names_they_count_together(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("skate._worker.calls.tallies.MAX_NAMES", 2)
    tallies, shortcuts = Tallies(), dict[str, Tally]()
    for name in "abcd":
        tallies.of(name, "f", "NORMAL_TASK", shortcuts, name).finished += 1
    assert [(row["name"], row["FINISHED"]) for row in tallies.rows()] == [("a", 1), ("b", 1), (OTHERS, 2)]
    assert sorted(shortcuts) == ["a", "b"]


def test_totals_are_bounded_too(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(counts, "MAX_NAMES", 1)
    into: dict[counts.Key, list[int]] = {}
    rows = [{"name": name, "function": "f", "type": "t", "FINISHED": 1, "FAILED": 2} for name in "aab"]
    total(rows, into)
    assert into == {("a", "f", "t"): [2, 4], (OTHERS, OTHERS, "t"): [1, 2]}


class TalliesMachine(RuleBasedStateMachine):
    """A process counts as the path of a call does; its daemon adds what it is told, newest first."""

    def __init__(self) -> None:
        super().__init__()
        self.tallies = Tallies()
        self.holders: list[dict[str, Tally]] = [{}, {}]
        self.counted: Counter[str] = Counter()
        self.daemon: dict[str, int] = {}

    @rule(holder=st.sampled_from([0, 1]), name=st.sampled_from("abc"))
    def call(self, holder: int, name: str) -> None:
        tally = self.holders[holder].get(name)
        if tally is None:
            tally = self.tallies.of(name, name, "NORMAL_TASK", self.holders[holder], name)
        tally.finished += 1
        self.counted[name] += 1

    @rule()
    def tell(self) -> None:
        self.daemon.update({row["name"]: row["FINISHED"] for row in self.tallies.snapshot()})
        assert self.daemon == self.counted

    @invariant()
    def every_call_counts_once(self) -> None:
        assert {row["name"]: row["FINISHED"] for row in self.tallies.rows()} == self.counted


TestTalliesMachine = TalliesMachine.TestCase
TestTalliesMachine.settings = effort(30)
