"""Which calls can never go on: by example, and against a simulation that tries to finish everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skate._base.waits import (
    Call,
    Deadlock,
    Graph,
    Lane,
    Situation,
    Wait,
    confirmed,
    constructor,
    deadlocks,
    maker,
    situation,
    stuck,
)


def _object(task: str) -> str:
    return task + "0000"


def _wait(
    process: str, caller: str, *tasks: str, number: int = 1, certain: bool = True, seconds: float = 2.0
) -> Wait:
    return Wait(process, number, caller, tuple(map(_object, tasks)), certain, f"{process}.py:1 in f", seconds)


def _calls(*tasks: str, worker: str = "w", **needs: tuple[str, ...]) -> dict[str, Call]:
    return {
        task: Call(task, f"name of {task}", "" if task in needs else worker, "actor",
                   tuple(map(_object, needs.get(task, ()))))
        for task in tasks
    }  # fmt: skip


#: f runs at A and waits for g; g runs at B and waits for h; h is queued behind f.
CIRCLE = Situation(
    _calls("f", "g", "h"),
    (Lane("A", 1, ("f",), ("h",)), Lane("B", 1, ("g",), ())),
    (_wait("A", "f", "g", seconds=5), _wait("B", "g", "h", seconds=2)),
)


def test_the_maker_of_an_object_is_in_its_name() -> None:
    assert maker("0011223344556677" + "000000000001" + "0002") == "0011223344556677" + "000000000001"


def test_two_actors_that_wait_for_each_other() -> None:
    (found,) = deadlocks(CIRCLE)
    assert found.waits == (("B", 1), ("A", 1)), "the wait that began last comes first"
    assert sorted(found.story) == [
        "name of f waits at A.py:1 in f for name of g",
        "name of g waits at B.py:1 in f for name of h",
        "name of h is queued behind name of f at the same actor (it runs one call at a time)",
    ]


def test_an_actor_that_waits_for_itself() -> None:
    (found,) = deadlocks(
        Situation(_calls("f", "g"), (Lane("A", 1, ("f",), ("g",)),), (_wait("A", "f", "g"),))
    )
    assert len(found.story) == 2


def test_whoever_waits_for_a_circle_is_stuck_but_no_part_of_it() -> None:
    lanes = (*CIRCLE.lanes, Lane("C", 1, ("x",), ("y",)))
    more = Situation({**CIRCLE.calls, **_calls("x", "y")}, lanes, (*CIRCLE.waits, _wait("C", "x", "f")))
    assert stuck(Graph(more)) == {"f", "g", "h", "x", "y"}
    (found,) = deadlocks(more)
    assert {process for process, _ in found.waits} == {"A", "B"}


def test_a_timeout_breaks_it() -> None:
    waits = (CIRCLE.waits[0], _wait("B", "g", "h", certain=False))
    assert deadlocks(CIRCLE._replace(waits=waits)) == []


def test_a_free_thread_breaks_it() -> None:
    lanes = (Lane("A", 2, ("f",), ("h",)), CIRCLE.lanes[1])
    assert deadlocks(CIRCLE._replace(lanes=lanes)) == []


def test_a_thread_that_works_breaks_it() -> None:
    lanes = (Lane("A", 2, ("f", "busy"), ("h",)), CIRCLE.lanes[1])
    assert deadlocks(CIRCLE._replace(lanes=lanes)) == []


def test_all_threads_in_the_circle() -> None:
    lanes = (Lane("A", 2, ("f", "f2"), ("h",)), CIRCLE.lanes[1])
    waits = (*CIRCLE.waits, _wait("A", "f2", "g", number=2))
    assert len(deadlocks(CIRCLE._replace(lanes=lanes, waits=waits))) == 1


def test_coroutines_are_never_certain() -> None:
    lanes = (Lane("A", 0, ("f",), ("h",)), CIRCLE.lanes[1])
    assert deadlocks(CIRCLE._replace(lanes=lanes)) == []


def test_two_threads_of_one_call_are_an_alternative() -> None:
    waits = (*CIRCLE.waits, _wait("A", "f", "elsewhere", number=2))
    assert deadlocks(CIRCLE._replace(waits=waits)) == []


def test_one_of_several_values_may_fail_and_end_the_wait() -> None:
    waits = (_wait("A", "f", "g", "outside"), CIRCLE.waits[1])
    assert deadlocks(CIRCLE._replace(waits=waits)) == []
    waits = (_wait("A", "f", "g", "h"), CIRCLE.waits[1])
    assert len(deadlocks(CIRCLE._replace(waits=waits))) == 1


def test_an_argument_of_a_call_may_close_it() -> None:
    """f waits for a task whose argument is what is queued behind f."""
    found = deadlocks(
        Situation(
            _calls("f", "t", "h", t=("h",)),
            (Lane("A", 1, ("f",), ("h",)),),
            (_wait("A", "f", "t"),),
        )
    )
    assert "name of t waits for its argument, the result of name of h" in found[0].story


def test_a_constructor() -> None:
    call = constructor("A")
    found = deadlocks(Situation(_calls("h"), (Lane("A", 1, (call,), ("h",)),), (_wait("A", call, "h"),)))
    assert any("the constructor of an actor waits" in line for line in found[0].story)


def test_a_second_look_must_find_the_same_waits() -> None:
    first = deadlocks(CIRCLE)
    assert confirmed([], first) == []
    assert confirmed(first, first) == first
    later = CIRCLE._replace(waits=(CIRCLE.waits[0], _wait("B", "g", "h", number=2)))
    assert confirmed(first, deadlocks(later)) == []
    assert confirmed([Deadlock((), ())], [Deadlock((), ("no wait could be ended",))]) == []


def test_rows_of_processes() -> None:
    rows = [
        {
            "process": one,
            "calls": [
                {"task_id": call.task_id, "name": call.name, "worker": call.worker, "actor": call.actor,
                 "needs": list(call.needs)}
                for call in CIRCLE.calls.values()
            ],
            "lanes": [
                {"slots": lane.slots, "running": list(lane.running), "queued": list(lane.queued)}
                for lane in CIRCLE.lanes
                if lane.process == one
            ],
            "waits": [{**wait._asdict(), "objects": list(wait.objects)} for wait in CIRCLE.waits if wait.process == one],
        }
        for one in ("A", "B")
    ]  # fmt: skip
    assert situation([*rows, {"failed": "it could not tell"}]) == CIRCLE


TASKS = [f"t{number}" for number in range(6)]


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Tasks that run on or are queued at a few actors, and wait for each other, or work."""
    lanes: list[Lane] = []
    waits: list[Wait] = []
    tasks = draw(st.permutations(TASKS))
    needs: dict[str, tuple[str, ...]] = {}
    for index, process in enumerate("ABC"):
        mine = tasks[2 * index : 2 * index + 2]
        slots = draw(st.integers(0, 2))
        split = draw(st.integers(0, slots or 2))
        lanes.append(Lane(process, slots, tuple(mine[:split]), tuple(mine[split:])))
        for number, task in enumerate(mine[:split]):
            others = draw(st.lists(st.sampled_from(TASKS), max_size=2, unique=True))
            if others:
                waits.append(_wait(process, task, *others, number=number, certain=draw(st.booleans())))
    free = draw(st.lists(st.sampled_from(["n1", "n2"]), unique=True))
    for task in free:
        needs[task] = tuple(
            draw(st.lists(st.sampled_from(TASKS + free), min_size=1, max_size=2, unique=True))
        )
    return Situation(_calls(*TASKS, *free, **needs), tuple(lanes), tuple(waits))


def test_a_long_chain_of_calls_beside_a_circle() -> None:
    """Each waits for the one before it, and the first for nobody; or for the circle."""
    names = [f"n{number}" for number in range(50_000)]
    needs = {name: (before,) for before, name in zip(names, names[1:], strict=False)}
    calls = {**_calls(*names, **needs), **CIRCLE.calls}
    case = CIRCLE._replace(calls=calls)
    assert stuck(Graph(case)) == {"f", "g", "h"}
    held = CIRCLE._replace(calls={**calls, **_calls(names[0], n0=("f",))})
    assert stuck(Graph(held)) == {"f", "g", "h", *names}
    assert len(deadlocks(held)) == 1


def _finishes(case: Situation) -> set[str]:
    """Return all that can end, if whatever may go on does: the least fixed point, step by step."""
    done: set[str] = set()
    waits: dict[str, list[Wait]] = {}
    for wait in case.waits:
        waits.setdefault(wait.caller, []).append(wait)
    changed = True
    while changed:
        changed = False
        for task, call in case.calls.items():
            if task in done:
                continue
            running = next((lane for lane in case.lanes if task in lane.running), None)
            queued = next((lane for lane in case.lanes if task in lane.queued), None)
            if running is not None and running.slots:
                waiting = waits.get(task, [])
                blocked = len(waiting) == 1 and waiting[0].certain
                ends = not blocked or any(maker(one) in done for one in waiting[0].objects)
            elif queued is not None and queued.slots:
                ends = len(queued.running) < queued.slots or any(one in done for one in queued.running)
            elif call.needs and not call.worker:
                ends = any(maker(one) in done for one in call.needs)
            else:
                ends = True
            if ends:
                done.add(task)
                changed = True
    return done


@given(situations())
def test_stuck_is_what_no_run_could_finish(case: Situation) -> None:
    left = stuck(Graph(case))
    assert left == set(case.calls) - _finishes(case)
    found = deadlocks(case)
    assert bool(found) == bool(left)
    for one in found:
        assert len(set(one.waits)) == len(one.waits)
        assert len(one.story) >= 1
