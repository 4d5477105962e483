"""``skate status``: the session at a glance."""

from __future__ import annotations

import argparse
from collections import Counter

from skate._launch import observe, session
from skate.cli import show

#: States of calls that have not begun, and what they wait for.
_WAITS = {"PENDING_ARGS_AVAIL": "arguments", "PENDING_NODE_ASSIGNMENT": "resources"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what the command takes."""
    show.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show sessions, nodes, resources, processes, memory."""
    path = observe.find(arguments.address)
    with show.looking_at(path) as state:
        store, nodes, jobs = state.store(), state.nodes(), state.jobs()
        workers = [row for row in state.workers() if row.is_alive]
        actors = Counter(row.state for row in state.actors())
        waiting = [row for row in state.tasks() if row.state in _WAITS]
    others = [one for one in session.living() if one != path]
    if arguments.json:
        show.as_json(
            {
                "session": path,
                "other_sessions": others,
                "nodes": [row.asdict() for row in nodes],
                "jobs": [row.asdict() for row in jobs],
                "workers": [row.asdict() for row in workers],
                "actors": dict(actors),
                "waiting_tasks": dict(Counter(row.state for row in waiting)),
                "store": store,
            }
        )
        return 0
    running = [row for row in jobs if row.status == "RUNNING"]
    busy = [row for row in workers if row.running and row.state != "ACTOR"]
    print(f"session    {path}")
    for one in others:
        print(f"           (another one runs at {one})")
    print(f"drivers    {len(running)}{': ' if running else ''}{', '.join(row.entrypoint for row in running)}")
    counts = Counter(row.state.lower() for row in workers if row.worker_type == "WORKER")
    print(f"workers    {', '.join(f'{number} {name}' for name, number in sorted(counts.items())) or 'none'}")
    for row in busy:
        print(f"           {row.running} runs in process {row.pid}")
    if waiting:
        counts = Counter(_WAITS[row.state] for row in waiting)
        print(f"waiting    {', '.join(f'{number} for {what}' for what, number in sorted(counts.items()))}")
        print(f"           `skate why {waiting[0].task_id}` says what {waiting[0].name} waits for")
    print(f"actors     {', '.join(f'{number} {name}' for name, number in sorted(actors.items())) or 'none'}")
    for name, text in show.resources(store["total"], store["available"]):
        print(f"{name:10} {text}")
    memory = f"{show.size(store['used'])} of {show.size(store['capacity'])} in memory"
    print(f"objects    {store['objects']}: {memory}, {show.size(store['on_disk'])} on disk")
    return 0
