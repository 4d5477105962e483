"""Explains why a result of a compiled graph is not ready, from its members' rows. Decisions only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Plain = dict[str, Any]


def name_of(graph: str, execution: int) -> str:
    """Return the name of an execution for ``why``."""
    return f"{graph}:{execution}"


def is_name(text: str) -> bool:
    """Tell whether a text is the name of an execution, and not an id of an object or task."""
    return ":" in text


def explain(name: str, members: Sequence[Plain], stacks: Mapping[int, Sequence[str]]) -> list[str]:
    """Return lines that say why an execution of a compiled graph has no result yet.

    Args:
        name: see ``name_of``.
        members: what ``snapshot`` of a ``Graph`` or ``Program`` returned, with the pids of the processes.
        stacks: of all threads, by pid.
    """
    graph, _, number = name.partition(":")
    mine = [row for row in members if row["graph"] == graph]
    driver = next((row for row in mine if not row["member"]), None)
    if not mine or not number.isdecimal():
        return [f"no process of this session has a part in a compiled graph {graph}"]
    execution = int(number)
    which = f"execution {execution} of the compiled graph {graph}"
    missing = {} if driver is None else dict(driver["missing"])
    if driver is not None and execution not in missing:
        if execution >= driver["begun"]:
            return [f"{which} has not begun"]
        return [f"{which} has finished: its value is ready, or was taken"]
    actors = [row for row in mine if row["member"]]
    makers = {number: row["makes"][number] for row in actors for number in row["makes"]}
    wanted = _names(missing.get(execution, ()), makers)
    lines = [f"{which} waits{f' for {wanted}' if wanted else ''}:"]
    for row in actors:
        if row["execution"] <= execution:
            lines += _member(row, execution, makers, stacks)
    if driver is not None and driver["why"]:
        lines.append(f"  the graph is about to end: {driver['why']}")
    return lines


def oldest(row: Plain) -> str:
    """Return the name of the execution for which a driver has waited longest, or "" if there is none."""
    return name_of(row["graph"], row["missing"][0][0]) if row["missing"] else ""


def _member(
    row: Plain, execution: int, makers: Mapping[str, str], stacks: Mapping[int, Sequence[str]]
) -> list[str]:
    which = "" if row["execution"] == execution else f", for execution {row['execution']} before it"
    if not row["running"]:
        wanted = _names(row["missing"], makers)
        return [f"  {row['step']} in process {row['pid']} waits for {wanted}{which}"]
    lines = [f"  {row['step']} runs in process {row['pid']}{which}"]
    for stack in stacks.get(row["pid"], ()):
        lines += ["    " + line for line in stack.rstrip().splitlines()]
    return lines


def _names(numbers: Sequence[int], makers: Mapping[str, str]) -> str:
    return " and ".join(dict.fromkeys(makers.get(str(number), "the graph's input") for number in numbers))
