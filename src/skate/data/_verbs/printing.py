"""Data sets as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from skate.data._plan.logical import Blocks, Node, Read
from skate.data._verbs.facts import known_rows, known_schema
from skate.data._verbs.schema import type_name

#: Rows of a materialised data set that its text shows.
SHOWN_ROWS = 10
#: Columns and characters of a cell that its text shows; ``Dataset.show`` prints rows whole.
SHOWN_COLUMNS = 12
SHOWN_WIDTH = 30


def describe(plan: Node, name: str | None, kind: str, rows: Sequence[dict[str, Any]] | None) -> str:
    """Return the text of a data set.

    Args:
        plan: what it does.
        name: the name that the user gave.
        kind: ``"Dataset"`` or ``"MaterializedDataset"``.
        rows: the first rows of a materialised data set, else None.

    Returns:
        A table if the columns are known without running it, else the tree of its operations.
    """
    schema = known_schema(plan)
    number = known_rows(plan)
    if isinstance(plan, (Read, Blocks)) and (schema is None or number == 0):
        return _leaf(plan, name, kind)
    if schema is None:
        return "\n".join(tree(plan, name))
    return _table(schema, number, rows, name)


def tree(plan: Node, name: str | None = None) -> list[str]:
    """Return the lines of a plan: each node over its inputs."""
    lines: list[str] = []
    _tree(plan, "", "", lines, name)
    return lines


def _tree(plan: Node, first: str, rest: str, lines: list[str], name: str | None) -> None:
    if isinstance(plan, (Read, Blocks)):
        lines.append(first + _leaf(plan, name, "Dataset"))
        return
    lines.append(first + plan.name)
    for index, node in enumerate(plan.inputs):
        is_last = index == len(plan.inputs) - 1
        _tree(node, rest + "+- ", rest + ("   " if is_last else "|  "), lines, name)


def _leaf(plan: Node, name: str | None, kind: str) -> str:
    number = known_rows(plan)
    schema = known_schema(plan)
    columns = (
        "Unknown schema"
        if schema is None
        else "{" + ", ".join(f"{one.name}: {type_name(one.type)}" for one in schema) + "}"
    )
    words = [f"num_rows={'?' if number is None else number}", f"schema={columns}"]
    if name is not None:
        words.insert(0, f"name={name}")
    return f"{kind}({', '.join(words)})"


def _table(
    schema: pa.Schema, number: int | None, rows: Sequence[dict[str, Any]] | None, name: str | None
) -> str:
    shown = list(schema)[:SHOWN_COLUMNS]
    cells = [[one.name, "---", _short(type_name(one.type))] for one in shown]
    for row in rows or ():
        for column, one in zip(cells, shown, strict=True):
            column.append(_short(str(row.get(one.name))))
    if len(schema) > len(shown):
        cells.append(["..."] * (3 + len(rows or ())))
    widths = [max(map(len, column)) for column in cells]

    def line(index: int) -> str:
        columns = zip(cells, widths, strict=True)
        return "│ " + " ┆ ".join(f"{column[index]:<{width}}" for column, width in columns) + " │"

    def rule(left: str, middle: str, right: str, stroke: str) -> str:
        return left + middle.join(stroke * (width + 2) for width in widths) + right

    lines = [] if name is None else [f"name: {name}"]
    lines += [
        f"shape: ({'?' if number is None else number}, {len(schema)})",
        rule("╭", "┬", "╮", "─"),
        *map(line, range(3)),
    ]
    if rows:
        lines += [rule("╞", "╪", "╡", "═"), *map(line, range(3, 3 + len(rows)))]
    lines.append(rule("╰", "┴", "╯", "─"))
    lines.append(
        "(Dataset isn't materialized)" if rows is None else f"(Showing {len(rows)} of {number} rows)"
    )
    return "\n".join(lines)


def _short(text: str) -> str:
    text = text.replace("\n", " ")
    return text if len(text) <= SHOWN_WIDTH else text[: SHOWN_WIDTH - 3] + "..."
