"""``skate health-check``: does the session answer? For scripts and probes: the exit code says it."""

from __future__ import annotations

import argparse

from skate.util.state.source import connected


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what the command takes."""
    parser.add_argument("--address", help="the session's folder (default: the one that runs)")
    parser.add_argument("--component", help="taken for Ray's sake: control store and node daemon are asked")
    parser.add_argument("--skip-version-check", action="store_true", help="taken for Ray's sake")


def run(arguments: argparse.Namespace) -> int:
    """Ask the node daemon and the control store; fail unless both answer."""
    with connected(arguments.address) as state:
        nodes = state.nodes()
        store = state.store()
    if not nodes:
        raise RuntimeError("the control store answers, but no node is registered with it")
    print(f"healthy: {len(nodes)} node(s), {store['total'].get('CPU', 0):g} CPUs, {state.logs.parent}")
    return 0
