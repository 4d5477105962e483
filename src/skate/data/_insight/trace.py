"""The tasks of an execution as events for trace viewers (chrome://tracing, Perfetto)."""

from __future__ import annotations

from typing import Any

from skate.data._exec.statistics import Statistics
from skate.data._insight.lanes import lanes


def trace_events(stats: Statistics) -> list[dict[str, Any]]:
    """Return events of Chrome's trace format: a track for each process, and for each task at a time of one.

    Args:
        stats: of an execution.

    Returns:
        Events with times in microseconds since the execution began.
    """
    whole = {"name": "process_name", "args": {"name": "skate.data"}}
    events: list[dict[str, Any]] = [{"ph": "M", "pid": 1, "tid": 0, **whole}]
    for number, lane in enumerate(lanes(stats), 1):
        named = {"name": "thread_name", "args": {"name": lane.name}}
        events.append({"ph": "M", "pid": 1, "tid": number, **named})
        events.append(
            {"ph": "M", "pid": 1, "tid": number, "name": "thread_sort_index", "args": {"sort_index": number}}
        )
        for span in lane.spans:
            stage = stats.stages[span.stage].name
            events.append(
                {
                    "ph": "X",
                    "name": f"{span.name} {stage}" if span.is_start else stage,
                    "cat": "failed" if span.failed else "cancelled" if span.cancelled else "task",
                    "pid": 1,
                    "tid": number,
                    "ts": span.started_s * 1e6,
                    "dur": (span.ended_s - span.started_s) * 1e6,
                    "args": {
                        "task": span.name,
                        "rows": span.rows,
                        "process": span.pid,
                        "work_s": span.work_s,
                    },
                }
            )
    return events
