"""``skate memory``: who holds which objects, and since where in the code."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from skate.cli import show
from skate.util.state.common import ObjectState, WorkerState


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what the command takes."""
    parser.add_argument("--limit", type=int, default=20, help="objects shown for each line of code")
    show.add_common(parser)


class Look(NamedTuple):
    """Holds the objects and processes of one moment."""

    objects: list[ObjectState]
    workers: list[WorkerState]
    store: dict[str, Any]


def look(address: str | None) -> Look:
    """Ask the session for its objects, its processes, and its store."""
    with show.looking_at(address) as state:
        rows = [row for row in state.objects() if row.reference_type != "ACTOR_HANDLE"]
        return Look(rows, [row for row in state.workers() if row.is_alive], state.store())


def run(arguments: argparse.Namespace) -> int:
    """Show objects by the line of code that made them, the largest first, with everybody who holds them."""
    seen = look(arguments.address)
    if arguments.json:
        show.as_json({"objects": [row.asdict() for row in seen.objects], "store": seen.store,
                      "workers": [row.asdict() for row in seen.workers]})  # fmt: skip
        return 0
    for line in lines(seen, arguments.limit):
        print(line)
    return 0


def lines(seen: Look, limit: int) -> Iterator[str]:
    """Give the text that is shown.

    Args:
        seen: what there is.
        limit: objects shown for each line of code.
    """
    store = seen.store
    by_object: defaultdict[str, list[ObjectState]] = defaultdict(list)
    for row in seen.objects:
        by_object[row.object_id].append(row)
    groups: defaultdict[str, list[list[ObjectState]]] = defaultdict(list)
    for holders in by_object.values():
        owner = next((row for row in holders if row.owned), holders[0])
        groups[owner.call_site or "(made where nobody looked)"].append(holders)
    ordered = sorted(groups.items(), key=lambda item: -sum(_size(holders) for holders in item[1]))
    for site, objects in ordered:
        yield f"{site}: {_count(len(objects), 'object')}, {show.size(sum(map(_size, objects)))}"
        objects.sort(key=_size, reverse=True)
        for holders in objects[:limit]:
            first = holders[0]
            kind = f" {first.label}" if first.label else ""
            yield f"    {first.object_id}  {show.size(first.object_size)}{kind}, {first.where}"
            for row in sorted(holders, key=lambda row: not row.owned):
                yield f"        {_who(row)}: {_how(row)}"
        if len(objects) > limit:
            yield f"    ... and {len(objects) - limit} more (--limit)"
    total = sum(_size(holders) for holders in by_object.values())
    yield (
        f"\n{_count(len(by_object), 'object')}, {show.size(total)}. The store: {show.size(store['used'])} of "
        f"{show.size(store['capacity'])} in memory, {show.size(store['kept'])} kept for what comes, "
        f"{show.size(store['on_disk'])} on disk."
    )
    yield show.table(["process", "kind", "runs", "memory"], [
        [row.pid, row.worker_type.lower(), row.running, show.size(row.memory)] for row in seen.workers
    ])  # fmt: skip


def _size(holders: list[ObjectState]) -> int:
    return max((row.object_size or 0) for row in holders)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _who(row: ObjectState) -> str:
    process = f"{row.process or row.type.lower()} {row.pid}"
    return f"{'owned' if row.owned else 'held'} by {process}"


def _how(row: ObjectState) -> str:
    parts = []
    if row.local_refs:
        parts.append(_count(row.local_refs, "ref"))
    if row.pins:
        parts.append(f"needed by {_count(row.pins, 'call or value')}")
    if row.borrowers:
        parts.append(_count(row.borrowers, "borrower"))
    if row.reference_type == "PINNED_IN_MEMORY":
        parts.append("a view")
    received = f" (received in {row.received})" if row.received else ""
    return f"{', '.join(parts) or 'nothing any more'}{received}"
