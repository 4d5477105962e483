"""``skate list KIND``: rows of the state."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

from skate._base.resources import describe, to_fixed
from skate.cli import show
from skate.cli.show import duration, size
from skate.util.state import merge
from skate.util.state.columns import Row
from skate.util.state.common import (
    ActorState,
    ClusterEventState,
    JobState,
    NodeState,
    ObjectState,
    PlacementGroupState,
    RuntimeEnvState,
    TaskState,
    WorkerState,
)
from skate.util.state.source import State

Columns = list[tuple[str, Callable[[Any], Any]]]

#: Kind to how it is read, and its columns: header and how a row fills it.
KINDS: dict[str, tuple[type[Row], Callable[[State], Sequence[Any]], Columns]] = {
    "tasks": (
        TaskState,
        State.tasks,
        [
            ("task", lambda row: row.task_id),
            ("name", lambda row: row.name),
            ("state", lambda row: row.state),
            ("process", lambda row: row.worker_pid),
            ("took", lambda row: duration(_took(row))),
            ("error", lambda row: row.error_type),
            ("called at", lambda row: row.call_site),
        ],
    ),
    "actors": (
        ActorState,
        State.actors,
        [
            ("actor", lambda row: row.actor_id),
            ("class", lambda row: row.class_name),
            ("state", lambda row: row.state),
            ("name", lambda row: row.name),
            ("process", lambda row: row.pid),
            ("restarts", lambda row: row.num_restarts),
            ("why it died", lambda row: row.why_dead),
        ],
    ),
    "objects": (
        ObjectState,
        State.objects,
        [
            ("object", lambda row: row.object_id),
            ("size", lambda row: size(row.object_size)),
            ("where", lambda row: row.where),
            ("held as", lambda row: row.reference_type),
            ("by", lambda row: f"{row.process or row.type.lower()} {row.pid}"),
            ("made at", lambda row: row.call_site),
        ],
    ),
    "workers": (
        WorkerState,
        State.workers,
        [
            ("process", lambda row: row.pid),
            ("kind", lambda row: row.worker_type.lower()),
            ("state", lambda row: row.state.lower()),
            ("runs", lambda row: row.running),
            ("memory", lambda row: size(row.memory)),
            ("for", lambda row: duration(_lived(row))),
            ("worker", lambda row: row.worker_id),
            ("how it ended", lambda row: row.exit_type),
        ],
    ),
    "nodes": (
        NodeState,
        State.nodes,
        [
            ("node", lambda row: row.node_id),
            ("host", lambda row: row.node_name),
            ("state", lambda row: row.state),
            ("resources", lambda row: ", ".join(map(" ".join, show.resources(
                row.resources_total, row.resources_available)))),
        ],
    ),
    "jobs": (
        JobState,
        State.jobs,
        [
            ("job", lambda row: row.job_id),
            ("status", lambda row: row.status),
            ("for", lambda row: duration((row.end_time or time.time() * 1000) - row.start_time)),
            ("program", lambda row: row.entrypoint),
        ],
    ),
    "runtime-envs": (
        RuntimeEnvState,
        State.runtime_envs,
        [
            ("environment", lambda row: ", ".join(sorted(row.runtime_env))),
            ("state", lambda row: row.state),
            ("took", lambda row: duration(row.creation_time_ms)),
            ("workers", lambda row: row.ref_cnt),
            ("error", lambda row: row.error),
        ],
    ),
    "placement-groups": (
        PlacementGroupState,
        State.placement_groups,
        [
            ("group", lambda row: row.placement_group_id),
            ("name", lambda row: row.name),
            ("state", lambda row: row.state),
            ("bundles", lambda row: ", ".join(map(_bundle, row.bundles or ()))),
            ("why", lambda row: (row.stats or {}).get("reason")),
        ],
    ),
    "cluster-events": (
        ClusterEventState,
        State.cluster_events,
        [
            ("time", lambda row: row.time),
            ("severity", lambda row: row.severity),
            ("of", lambda row: row.source_type.lower()),
            ("what", lambda row: row.message),
        ],
    ),
}  # fmt: skip


def _bundle(bundle: dict[str, Any]) -> str:
    return describe(to_fixed(bundle["unit_resources"]))


def _since(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else max(0.0, time.time() * 1000 - milliseconds)


def _lived(row: Any) -> float | None:
    if row.end_time_ms:
        return float(row.end_time_ms - row.start_time_ms) if row.start_time_ms else None
    return _since(row.start_time_ms or None)


def _took(row: Any) -> float | None:
    if row.end_time_ms is not None and row.start_time_ms is not None:
        return float(row.end_time_ms - row.start_time_ms)
    return _since(row.creation_time_ms) if row.state not in ("FINISHED", "FAILED") else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what the command takes."""
    parser.add_argument("kind", choices=list(KINDS), type=lambda text: text.replace("_", "-"))
    parser.add_argument("--filter", "-f", action="append", default=[], metavar="COLUMN=VALUE",
                        help="only these rows; != is the opposite; columns as in --json")  # fmt: skip
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--detail", action="store_true", help="all columns, a line each")
    parser.add_argument("--format", choices=["default", "table", "json"], default="default")
    show.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """List rows, the newest last."""
    row_type, read, columns = KINDS[arguments.kind]
    with show.looking_at(arguments.address) as state:
        rows, dropped = read(state), state.dropped
    chosen = merge.select(row_type, rows, [_filter(text) for text in arguments.filter], len(rows))
    shown = chosen[-arguments.limit :] if arguments.limit else chosen
    if arguments.json or arguments.format == "json":
        show.as_json([row.asdict() for row in shown])
        return 0
    if arguments.detail:
        print("\n\n".join(show.details(row) for row in shown))
        return 0
    print(
        show.table([header for header, _ in columns], [[fill(row) for _, fill in columns] for row in shown])
    )
    if len(shown) < len(chosen):
        print(f"({len(chosen) - len(shown)} older ones; --limit shows more)")
    if dropped:
        print(f"({merge.what_is_missing(row_type, dropped)})")
    return 0


def _filter(text: str) -> tuple[str, str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise ValueError(f"a filter is written COLUMN=VALUE or COLUMN!=VALUE, got {text!r}")
    return (name[:-1], "!=", value) if name.endswith("!") else (name, "=", value)
