"""``skate summary KIND``: counts."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from skate.cli import show
from skate.util.state.summaries import ActorSummaries, ObjectSummaries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what the command takes."""
    parser.add_argument("kind", choices=["tasks", "actors", "objects"])
    show.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Count tasks by function, actors by class, objects by the line that made them."""
    found: Any
    with show.looking_at(arguments.address) as state:
        if arguments.kind == "objects":
            found = ObjectSummaries.to_summary(objects=state.objects()).summary
        elif arguments.kind == "tasks":
            found = state.task_summaries().summary
        else:
            found = ActorSummaries.to_summary(actors=state.actors()).summary
    if arguments.json:
        show.as_json({name: asdict(one) for name, one in found.items()})
    elif arguments.kind == "objects":
        rows = [[site, one.total_objects, show.size(one.total_size_mb * 1e6)] for site, one in found.items()]
        print(show.table(["made at", "objects", "size"], rows))
    else:
        states = sorted({state for one in found.values() for state in one.state_counts})
        rows = [[name, *(one.state_counts.get(state, 0) for state in states)] for name, one in found.items()]
        print(show.table([arguments.kind[:-1], *states], rows))
    return 0
