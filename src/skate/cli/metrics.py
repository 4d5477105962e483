"""``skate metrics``: what programs counted, in the text format of Prometheus."""

from __future__ import annotations

import argparse

from skate.cli import show
from skate.util.state import prometheus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what the command takes."""
    show.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the metrics of all processes, of those that ended too."""
    with show.looking_at(arguments.address) as state:
        rows = state.metrics()
    if arguments.json:
        show.as_json(rows)
    else:
        print(prometheus.text(rows), end="")
    return 0
