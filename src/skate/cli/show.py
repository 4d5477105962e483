"""Tables, sizes and durations for people, and JSON for programs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from skate.util.state.columns import Row
from skate.util.state.source import State, connected


def add_common(parser: argparse.ArgumentParser) -> None:
    """Define what every command takes that looks at a session."""
    parser.add_argument("--address", help="the session's folder (default: the one that runs)")
    parser.add_argument("--json", action="store_true", help="for programs")


@contextmanager
def looking_at(address: str | None) -> Iterator[State]:
    """Give the state of the session; say in the end who did not answer."""
    with connected(address) as state:
        yield state
    if state.silent:
        pids = ", ".join(map(str, state.silent))
        print(f"(no answer within a second from process {pids}: stopped, or busy in C code)", file=sys.stderr)


def as_json(value: Any) -> None:
    """Print for programs."""
    print(json.dumps(value, indent=2, default=str))


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return aligned columns; numbers stand to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    right = [bool(rows) and all(isinstance(row[i], (int, float)) or row[i] is None for row in rows)
             for i in range(len(header))]  # fmt: skip
    widths = [max(len(line[i]) for line in [list(header), *cells]) for i in range(len(header))]
    lines = []
    for line in [list(header), *cells]:
        parts = [
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(line, widths, right, strict=True)
        ]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return " ".join(str(value).split())


def details(row: Row) -> str:
    """Return all columns of a row, a line each, as people read them."""
    shown = row.humanify(row.asdict())
    width = max(map(len, shown))
    lines = []
    for name, value in shown.items():
        text = json.dumps(value, default=str) if isinstance(value, (dict, list)) else _line(value)
        lines.append(f"{name.ljust(width)}  {text}".rstrip())
    return "\n".join(lines)


def _line(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return "\n    ".join(str(value).rstrip().splitlines())


def size(count: float | None) -> str:
    """Return bytes as people say them."""
    if count is None:
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(milliseconds: float | None) -> str:
    """Return a duration as people say it."""
    if milliseconds is None:
        return "-"
    seconds = milliseconds / 1000
    if seconds < 1:
        return f"{milliseconds:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def resources(total: dict[str, float], available: dict[str, float]) -> list[tuple[str, str]]:
    """Return each resource's use: ``CPU``, ``1 of 4 in use``."""
    lines = []
    for name, amount in sorted(total.items()):
        if name.startswith("node:") or name == "object_store_memory":
            continue
        used = amount - available.get(name, 0.0)
        write = size if name == "memory" else lambda value: f"{value:g}"
        lines.append((name, f"{write(used)} of {write(amount)} in use"))
    return lines
