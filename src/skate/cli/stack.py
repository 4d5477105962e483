"""``skate stack``: what every thread of the session is doing. Each process tells: no root needed."""

from __future__ import annotations

import argparse

from skate.cli import show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what the command takes."""
    parser.add_argument("pid", nargs="?", type=int, help="only this process")
    show.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the Python stacks of drivers and workers, without the runtime's own frames."""
    with show.looking_at(arguments.address) as state:
        found = [one for one in state.stacks() if arguments.pid in (None, one[0])]
    if arguments.json:
        show.as_json([{"pid": pid, "what": what, "stacks": stacks} for pid, what, stacks in found])
        return 0
    for pid, what, stacks in found:
        print(f"== {what} (pid {pid})")
        for stack in stacks:
            print(stack)
    return 0
