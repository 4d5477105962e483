"""Which process did what, when: the lanes of pictures and traces. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from skate.data._exec.statistics import SLACK_S, Span, Statistics

#: Seconds that a worker takes to its first task at least to be shown as starting.
_SHOWN_START_S = 0.01


@dataclass(slots=True)
class Lane:
    """Tasks that ran one after the other.

    Attributes:
        name: of the process.
        spans: its tasks; none overlap.
        is_further: its process has a lane already, and ran these at the same time.
    """

    name: str
    spans: list[Span] = field(default_factory=list)
    is_further: bool = False


def lanes(stats: Statistics) -> list[Lane]:
    """Return a lane for each process: the program, workers, tasks without a report, replicas by stage.

    A process that ran several tasks at a time has as many lanes.
    """
    found: dict[tuple[int, int, int], list[Span]] = {}
    names: dict[tuple[int, int, int], str] = {}
    for span in list(stats.spans):
        if span.replica is not None:
            key, name = (3, span.stage, span.replica), f"{stats.stages[span.stage].name} {span.replica}"
        elif span.pid == os.getpid():
            key, name = (0, 0, 0), "this program"
        elif span.pid:
            key, name = (1, 0, span.pid), f"worker {span.pid}"
        else:
            key, name = (2, 0, 0), "no report"
        found.setdefault(key, []).append(span)
        names[key] = name
    for pid, worker in list(stats.workers.items()):
        tasks = found.get((1, 0, pid))
        if tasks and worker.ready_s is not None and worker.ready_s - worker.started_s > _SHOWN_START_S:
            stage = min(tasks, key=lambda one: one.started_s).stage
            tasks.append(Span(stage, "start", worker.started_s, worker.ready_s, None, pid, 0))
    return [lane for key in sorted(found) for lane in _apart(names[key], found[key])]


def _apart(name: str, spans: Iterable[Span]) -> list[Lane]:
    made: list[Lane] = []
    for span in sorted(spans, key=lambda one: (one.started_s, one.ended_s)):
        for lane in made:
            before = lane.spans[-1]
            if before.ended_s <= span.started_s:
                lane.spans.append(span)
                break
            if before.ended_s - span.started_s <= SLACK_S and before.ended_s <= span.ended_s:
                lane.spans.append(replace(span, started_s=before.ended_s))
                break
        else:
            made.append(Lane(name, [span], is_further=bool(made)))
    return made
