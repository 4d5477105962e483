"""Watchers against a set of pairs; what ended leaves nothing behind."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from skate._control.watchers import Watchers

ACTORS, CONNECTIONS = [b"a", b"b", b"c"], ["x", "y", "z"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("watch"), st.sampled_from(ACTORS), st.sampled_from(CONNECTIONS)),
        st.tuples(st.just("actor_ended"), st.sampled_from(ACTORS)),
        st.tuples(st.just("watcher_left"), st.sampled_from(CONNECTIONS)),
    ),
    max_size=40,
)


@given(STEPS)
def test_it_is_a_set_of_pairs(steps: list[Any]) -> None:
    table: Watchers[str] = Watchers()
    pairs: list[tuple[bytes, str]] = []
    for step, *arguments in steps:
        getattr(table, step)(*arguments)
        if step == "watch":
            pairs += [tuple(arguments)] if tuple(arguments) not in pairs else []
        else:
            pairs = [pair for pair in pairs if arguments[0] not in pair]
        for actor in ACTORS:
            assert table.of(actor) == [watcher for one, watcher in pairs if one == actor]
        assert len(table) == len({actor for actor, _ in pairs}) + len({watcher for _, watcher in pairs})


def test_a_watcher_may_leave_while_its_actor_is_published() -> None:
    table: Watchers[str] = Watchers()
    for name in CONNECTIONS:
        table.watch(b"a", name)
    for name in table.of(b"a"):
        table.watcher_left(name)
    assert not len(table)
