"""Runs a plan over a few rows, and predicts all of it."""

from __future__ import annotations

import os
from typing import Any

from skate.data._insight.prediction import Prediction, predict
from skate.data._plan.logical import Blocks, Limit, Node, Read
from skate.data._verbs import facts, randomness, running


def predicted(plan: Node, context: Any, sample: int, verb: str) -> Prediction:
    """Return what a plan will need, from a run over its first rows.

    Args:
        plan: the plan.
        context: the settings.
        sample: rows to read.
        verb: name of the caller, for errors.

    Raises:
        ValueError: the plan has several sources, or none, or ``sample`` is no number from 1.
    """
    sources = [node for node in facts.nodes(plan) if isinstance(node, (Read, Blocks))]
    if len(sources) != 1:
        raise ValueError(f"{verb}(sample=) takes a data set with one source; this one has {len(sources)}")
    if isinstance(sample, bool) or not isinstance(sample, int) or sample < 1:
        raise ValueError(f"{verb}(sample={sample!r}): give a number of rows from 1")
    with running.run(randomness.replaced(plan, sources[0], Limit(sources[0], sample)), context) as execution:
        for _ in execution:
            pass
    stats = execution.stats
    rows = max((stage.rows_in for stage in stats.stages), default=0)
    cpus = float(len(os.sched_getaffinity(0)))
    return predict(stats, min(sample, rows) or sample, facts.known_rows(sources[0]), cpus)
