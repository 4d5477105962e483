"""What an execution of a compiled graph waits for, in words."""

from __future__ import annotations

from typing import Any

from skate.util.state.graph_reasons import explain, is_name, name_of, oldest

GRAPH = "ab" * 16
#: input 0 -> Reader.read makes 1 -> Scorer.score makes 2, an output.
MAKES: dict[int, dict[str, str]] = {1: {"1": "Reader.read"}, 2: {"2": "Scorer.score"}}
STACKS = {17: ["thread MainThread:\n  read at app.py:3\n"]}


def driver(*missing: int, begun: int = 9, why: str = "") -> dict[str, Any]:
    return {"graph": GRAPH, "member": 0, "begun": begun, "why": why, "pid": 16,
            "missing": [[execution, [2]] for execution in missing]}  # fmt: skip


def actor(member: int, execution: int, *missing: int) -> dict[str, Any]:
    step = next(iter(MAKES[member].values()))
    return {"graph": GRAPH, "member": member, "pid": 16 + member, "execution": execution, "step": step,
            "running": not missing, "missing": list(missing), "makes": MAKES[member]}  # fmt: skip


def told(execution: int, *rows: dict[str, Any]) -> list[str]:
    return explain(name_of(GRAPH, execution), rows, STACKS)


def test_its_name_is_no_object_s() -> None:
    assert is_name(name_of(GRAPH, 3))
    assert not is_name(GRAPH)


def test_a_step_that_runs_and_one_that_waits_for_it() -> None:
    assert told(0, driver(0), actor(1, 0), actor(2, 0, 1)) == [
        f"execution 0 of the compiled graph {GRAPH} waits for Scorer.score:",
        "  Reader.read runs in process 17",
        "    thread MainThread:",
        "      read at app.py:3",
        "  Scorer.score in process 18 waits for Reader.read",
    ]


def test_a_step_that_waits_for_the_input() -> None:
    lines = told(0, driver(0), actor(1, 0, 0), actor(2, 0, 1))
    assert lines[1] == "  Reader.read in process 17 waits for the graph's input"


def test_an_earlier_execution_is_in_the_way() -> None:
    lines = told(2, driver(1, 2), actor(1, 3, 0), actor(2, 1))
    assert lines[1:] == ["  Scorer.score runs in process 18, for execution 1 before it"]


def test_the_end_of_the_graph_is_near() -> None:
    assert told(0, driver(0, why="actor 2 hung up"))[-1] == "  the graph is about to end: actor 2 hung up"


def test_there_or_not_begun_or_unknown() -> None:
    assert "has finished: its value is ready, or was taken" in told(3, driver(4))[0]
    assert "has not begun" in told(9, driver(4))[0]
    for name in (name_of("cd" * 16, 0), f"{GRAPH}:x"):
        assert "no process of this session has a part" in explain(name, [driver(0)], {})[0]


def test_what_a_driver_has_waited_for_longest() -> None:
    assert oldest(driver(4, 5)) == name_of(GRAPH, 4)
    assert oldest(driver()) == ""
