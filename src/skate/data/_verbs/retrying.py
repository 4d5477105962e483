"""Dead letters go again to the operation that failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from skate.data._plan.logical import Apply, Node
from skate.data._plan.names import operations
from skate.data._verbs import from_memory, randomness


def retried(plan: Node, origins: Sequence[tuple[str, int | None]], rows: list[dict[str, Any]]) -> Node:
    """Return a plan in which rows stand where the operation that failed got its own.

    Args:
        plan: with the operation.
        origins: stages of the letters, each with its place in its plan, if that is known.
        rows: of the letters.

    Raises:
        ValueError: it is not clear which operation that is, or rows of other sources would come again.
    """
    if not origins:
        return from_memory.of_items([], None)
    if len(origins) > 1:
        stages = sorted({stage for stage, _ in origins})
        column = "stage" if len(stages) > 1 else "operation"
        values = stages if len(stages) > 1 else sorted(str(place) for _, place in origins)
        raise ValueError(f"retry() takes the letters of one operation; filter them by {column}: {values}")
    failed = _failed(plan, *origins[0])
    node = plan
    while node is not failed:
        if len(node.inputs) != 1:
            raise ValueError(
                f"retry(): {node.name} puts the rows of {failed.name}, which failed, together with others, "
                "which would come again. Call retry() on the data set below it"
            )
        (node,) = node.inputs
    below = tuple(one.base for one in operations(failed.input))
    source = replace(from_memory.of_items(rows, None), stands_for=below)
    return randomness.replaced(plan, failed.input, source)


def _failed(plan: Node, stage: str, place: int | None) -> Apply:
    found = operations(plan)
    names = [one.name for one in found]
    here = names.index(stage) if stage in names else -1
    failed = found[here].node if here >= 0 else None
    if failed is None:
        raise ValueError(
            f"retry(): the letters are of {stage!r}, which is no operation of this data set; it has {names}"
        )
    is_telling = "<lambda>" not in stage and sum(one.base == stage for one in found) == 1
    if place is None or place == here or is_telling:
        return failed
    there = repr(names[place]) if place < len(names) else "none"
    raise ValueError(
        f"retry(): the letters are of {stage!r}, operation {place} of its data set. In this one operation "
        f"{place} is {there}, and {stage!r} is operation {here}; whether it is the same, its name does not "
        "say. Give the function a name of its own, or repair it in the data set that the letters came from"
    )
