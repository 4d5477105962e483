"""``skate why``: why something is not done yet."""

from __future__ import annotations

import argparse

from skate.cli import show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what the command takes."""
    parser.add_argument(
        "id", nargs="?", default="",
        help="of an object or a task, in hex, as refs and `skate list tasks` show it; an execution of a "
        "compiled graph, as GRAPH:EXECUTION; none: what the drivers of the session wait for",
    )  # fmt: skip
    show.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Say what the object (or a driver) waits for, what that waits for, and so on."""
    with show.looking_at(arguments.address) as state:
        lines = state.why(arguments.id)
    if arguments.json:
        show.as_json(lines)
    else:
        print("\n".join(lines))
    return 0
