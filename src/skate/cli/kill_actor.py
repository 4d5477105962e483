"""``skate kill-actor``: end an actor from outside."""

from __future__ import annotations

import argparse
import os

from skate import cluster
from skate.cli import show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what the command takes."""
    parser.add_argument("who", nargs="?", help="its id, or its name")
    parser.add_argument("--name", help="the same, as Ray has it")
    parser.add_argument("--namespace", help="of the name, if several have it")
    parser.add_argument("--no-restart", action="store_true", help="for good, even if it has restarts left")
    parser.add_argument("--force", action="store_true", help="taken for Ray's sake: it ends at once anyway")
    parser.add_argument("--address", help="the session's folder (default: the one that runs)")


def run(arguments: argparse.Namespace) -> int:
    """Kill it: its process ends at once, in the middle of a call."""
    who = arguments.who or arguments.name
    if not who:
        raise ValueError("which actor? Say its id or its name; `skate list actors` shows them")
    with show.looking_at(arguments.address) as state:
        living = [row for row in state.actors() if row.state != "DEAD"]
    found = [
        row for row in living
        if who in (row.actor_id, row.name) and arguments.namespace in (None, row.ray_namespace)
    ]  # fmt: skip
    if not found:
        raise ValueError(f"no living actor has the id or the name {who!r}")
    if len(found) > 1:
        spaces = ", ".join(sorted(str(row.ray_namespace) for row in found))
        raise ValueError(f"{len(found)} actors are named {who!r}: say --namespace, one of {spaces}")
    row = found[0]
    reason = f"it was killed by `skate kill-actor` (process {os.getpid()})"
    with cluster.observe(arguments.address) as session:
        session.kill_actor(bytes.fromhex(row.actor_id), arguments.no_restart, reason)
    print(f"actor {row.class_name} ({row.actor_id}) was asked to end")
    return 0
