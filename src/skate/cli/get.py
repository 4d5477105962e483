"""``skate get KIND ID``: everything that is known of one thing."""

from __future__ import annotations

import argparse

from skate.cli import show
from skate.cli.listing import KINDS
from skate.util.state import merge

#: Kind to the column that names one of it.
IDS = {"actors": "actor_id", "cluster-events": "event_id", "jobs": "job_id", "nodes": "node_id",
       "objects": "object_id", "placement-groups": "placement_group_id", "tasks": "task_id",
       "workers": "worker_id"}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what the command takes."""
    parser.add_argument("kind", choices=list(IDS), type=_kind, help="of what; the singular will do")
    parser.add_argument("id", help="as `skate list` shows it; its beginning will do")
    show.add_common(parser)


def _kind(text: str) -> str:
    text = text.replace("_", "-")
    return text if text in IDS else text + "s"


def run(arguments: argparse.Namespace) -> int:
    """Show all columns of one row; of an object: of all who hold it."""
    row_type, read, _ = KINDS[arguments.kind]
    name = IDS[arguments.kind]
    with show.looking_at(arguments.address) as state:
        rows = list(read(state))
    found = merge.select(row_type, rows, [(name, "=", arguments.id)], len(rows)) or [
        row for row in rows if str(row[name]).startswith(arguments.id)
    ]
    if not found:
        raise ValueError(
            f"there is no {name} {arguments.id!r}; `skate list {arguments.kind}` shows what there is"
        )
    if len({row[name] for row in found}) > 1:
        raise ValueError(f"{len(found)} of them begin with {arguments.id!r}; say more of the {name}")
    if arguments.json:
        show.as_json([row.asdict() for row in found])
        return 0
    print("\n\n".join(show.details(row) for row in found))
    return 0
