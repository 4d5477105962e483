"""The tasks of an execution as events for trace viewers (chrome://tracing, Perfetto)."""

from __future__ import annotations

from typing import Any

from skate.data._exec.statistics import Statistics


def trace_events(stats: Statistics) -> list[dict[str, Any]]:
    """Return complete events of Chrome's trace format: a row for each stage's replica or process.

    Args:
        stats: of an execution.

    Returns:
        Events with times in microseconds since the execution began.
    """
    events: list[dict[str, Any]] = []
    for index, stage in enumerate(stats.stages):
        name = {"name": f"{index} {stage.name}"}
        events.append({"ph": "M", "name": "process_name", "pid": index, "tid": 0, "args": name})
    for span in stats.spans:
        events.append(
            {
                "ph": "X",
                "name": span.name,
                "cat": "failed" if span.failed else "task",
                "pid": span.stage,
                "tid": span.replica if span.replica is not None else span.pid,
                "ts": span.started_s * 1e6,
                "dur": (span.ended_s - span.started_s) * 1e6,
                "args": {"rows": span.rows, "process": span.pid},
            }
        )
    return events
