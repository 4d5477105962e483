"""``skate timeline``: a Chrome trace of what ran when."""

from __future__ import annotations

import argparse
import json
import time

from skate.cli import show
from skate.util.state import merge


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what the command takes."""
    parser.add_argument("file", nargs="?", help="where to (default: skate-timeline-<time>.json)")
    parser.add_argument("--address", help="the session's folder (default: the one that runs)")


def run(arguments: argparse.Namespace) -> int:
    """Write the trace."""
    with show.looking_at(arguments.address) as state:
        events = merge.timeline(state.tasks())
    name = arguments.file or time.strftime("skate-timeline-%Y%m%d-%H%M%S.json")
    with open(name, "w", encoding="utf-8") as file:
        json.dump(events, file)
    print(f"{len(events)} events in {name}: open it in https://ui.perfetto.dev or chrome://tracing")
    return 0
