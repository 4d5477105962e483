"""Which worker ends when memory runs short."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skate._node.memory.oom import SMALL, Process, story, victim

MB = 10**6


def _process(name: str, size: int, kind: str = "task", repeatable: bool = True, began: int = 0) -> Process:
    return Process(name.encode(), 1, name, size * MB, kind, repeatable, began)


def test_the_newest_that_can_be_run_again() -> None:
    old = _process("old", 300, began=1)
    new = _process("new", 200, began=2)
    once = _process("once", 500, repeatable=False, began=3)
    assert victim([old, new, once]) == new


def test_what_cannot_be_run_again_if_nothing_else_is_left() -> None:
    first = _process("first", 300, repeatable=False, began=1)
    second = _process("second", 300, repeatable=False, began=2)
    assert victim([first, second]) == second


def test_tasks_go_before_actors() -> None:
    actor = _process("actor", 300, "actor", True, 9)
    task = _process("task", 300, "task", True, 1)
    assert victim([actor, task]) == task
    assert victim([actor, _process("once", 300, "task", False, 1)]) == actor, (
        "it comes back, the task does not"
    )


def test_idle_workers_go_first() -> None:
    assert victim([_process("idle", 100, "idle"), _process("task", 300, began=5)]) == _process(
        "idle", 100, "idle"
    )


def test_small_ones_are_spared() -> None:
    hog = _process("hog", 1000, repeatable=False, began=1)
    assert victim([hog, _process("small", 50, began=2)]) == hog


def test_the_driver_is_never_ended() -> None:
    assert victim([_process("driver", 1000, "driver")]) is None
    assert victim([]) is None


def test_the_story_names_everybody() -> None:
    hog = _process("a task", 1500)
    text = story(
        hog, [hog, _process("the driver", 12, "driver")], 3 * MB, 1515 * MB, 1400 * MB, "the session's memory"
    )
    for part in ("1.51 GB of the session's memory", "limit is 1.4 GB", "a task (process 1): 1.5 GB",
                 "the driver (process 1): 12 MB", "shared memory: 3 MB", "run again", "num_cpus"):  # fmt: skip
        assert part in text


PROCESSES = st.builds(
    Process,
    st.binary(min_size=1, max_size=2),
    st.integers(1, 9),
    st.just("x"),
    st.integers(0, 1000),
    st.sampled_from(["idle", "task", "actor", "driver"]),
    st.booleans(),
    st.integers(0, 5),
)


@given(st.lists(PROCESSES))
def test_nobody_better_is_passed_over(processes: list[Process]) -> None:
    chosen = victim(processes)
    workers = [one for one in processes if one.kind != "driver" and one.size]
    if chosen is None:
        assert not workers
        return
    assert chosen.kind != "driver"
    largest = max(one.size for one in workers)
    assert chosen.size >= largest * SMALL
    for one in workers:
        if one.size >= largest * SMALL and one.kind == chosen.kind:
            assert (one.repeatable, one.began) <= (chosen.repeatable, chosen.began) or chosen.kind == "idle"
