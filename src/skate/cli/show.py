"""Tables, sizes and durations for people, and JSON for programs."""

from __future__ import annotations

import argparse
import json
import shutil
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


#: A column of text is not made narrower than this to fit a terminal; rather the last one is left out.
_NARROWEST = 10
_HEX = frozenset("0123456789abcdef-")


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], terminal: int | None = None) -> str:
    """Return aligned columns; numbers stand to the right.

    Args:
        terminal: how many characters a line may have; default: as many as the terminal has, and any number
            where the output is no terminal.
    """
    if terminal is None and sys.stdout.isatty():
        terminal = shutil.get_terminal_size().columns
    cells = [[_cell(value) for value in row] for row in rows]
    right = [bool(rows) and all(isinstance(row[i], (int, float)) or row[i] is None for row in rows)
             for i in range(len(header))]  # fmt: skip
    heads, widths = [[name] for name in header], _widths([[name] for name in header], cells)
    left_out: list[str] = []
    if terminal is not None and _line_length(widths) > terminal:
        needed = _widths([[] for _ in header], cells)
        heads = [_broken(name, needed[i]) for i, name in enumerate(header)]
        widths = _widths(heads, cells)
        while not _narrow(widths, terminal, [_narrowest(i, heads, cells, right) for i in range(len(heads))]):
            if len(heads) == 1:
                break
            left_out.insert(0, header[len(heads) - 1])
            heads.pop()
            cells = [line[:-1] for line in cells]
            widths = _widths(heads, cells)
        cells = [[_cut(cell, width) for cell, width in zip(line, widths, strict=True)] for line in cells]
    tall = max(map(len, heads), default=1)
    titles = [[(head + [""] * tall)[k] for head in heads] for k in range(tall)]
    lines = []
    for line in [*titles, *cells]:
        parts = [
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(line, widths, right[: len(widths)], strict=True)
        ]
        lines.append("  ".join(parts).rstrip())
    if left_out:
        lines.append(f"(left out, for the terminal is narrow: {', '.join(left_out)})")
    return "\n".join(lines)


def _widths(heads: list[list[str]], cells: list[list[str]]) -> list[int]:
    return [max(map(len, [*head, *(line[i] for line in cells)]), default=0) for i, head in enumerate(heads)]


def _line_length(widths: list[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _broken(name: str, width: int) -> list[str]:
    """Return a long title in lines, broken behind its underscores."""
    lines = [""]
    for piece in name.replace("_", "_ ").split(" ") if "_" in name else [name]:
        if lines[-1] and len(lines[-1] + piece) > width:
            lines.append("")
        lines[-1] += piece
    return lines


def _narrowest(index: int, heads: list[list[str]], cells: list[list[str]], right: list[bool]) -> int:
    """Return how narrow a column may become. Ids stay whole, to be copied, and so do numbers."""
    texts = [line[index] for line in cells]
    if right[index] or (index == 0 and all(_HEX.issuperset(text) for text in texts)):
        return max(map(len, [*heads[index], *texts]))
    return max(_NARROWEST, *map(len, heads[index]))


def _narrow(widths: list[int], terminal: int, least: list[int]) -> bool:
    """Make columns narrower, always the widest, until they fit; return whether they do."""
    while _line_length(widths) > terminal:
        spare = [(width, i) for i, width in enumerate(widths) if width > least[i]]
        if not spare:
            return False
        widths[max(spare)[1]] -= 1
    return True


def _cut(text: str, width: int) -> str:
    """Cut what is too long behind; of a place in the code, its folder first."""
    if len(text) > width and text.startswith("/"):
        text = text.rpartition("/")[2]
    return text if len(text) <= width else text[: width - 1] + "\u2026"


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
