"""Runs a plan over a few rows, and predicts all of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from skate.data._exec.stages import Kind
from skate.data._insight.prediction import Prediction, SampleRun, Whole, predict, sample_run
from skate.data._plan.execute import execute
from skate.data._plan.logical import ActorPool, Apply, Blocks, Limit, Node, Read
from skate.data._verbs import facts, randomness, running

#: Seconds of work of a run from which costs can be measured; shorter ones are followed by one over more rows.
_ENOUGH_S = 0.1
#: A run that takes so many times as long as one over one row tells what rows cost, whatever others say.
_MANY_TIMES = 6
#: The longest run that is followed by another one, and all of those together.
_LONGEST_S, _LONGEST_IN_ALL_S = 1.0, 2.0
#: How often a run is repeated because processes took part that had not before, and the longest that is.
_REPEATS, _REPEATED_S = 3, 1.0
#: Read tasks that are counted at most: a listing of very many files takes long.
_MOST_READ_TASKS = 10_000


def predicted(plan: Node, context: Any, sample: int, verb: str) -> Prediction:
    """Return what a plan will need, from runs over its first rows.

    Args:
        plan: the plan.
        context: the settings.
        sample: rows to read; more are read where so few take no time.
        verb: name of the caller, for errors.

    Raises:
        ValueError: the plan has several sources, or none, or ``sample`` is no number from 1.
    """
    sources = [node for node in facts.nodes(plan) if isinstance(node, (Read, Blocks))]
    if len(sources) != 1:
        raise ValueError(f"{verb}(sample=) takes a data set with one source; this one has {len(sources)}")
    if isinstance(sample, bool) or not isinstance(sample, int) or sample < 1:
        raise ValueError(f"{verb}(sample={sample!r}): give a number of rows from 1")
    [source] = sources
    total = facts.known_rows(source)
    with _replicas_stay(plan):
        first = _over(plan, source, 1, context)
        one = _warm(plan, source, 1, context, first)
        before, last = one, _warm(plan, source, sample, context, one)
        until = time.perf_counter() + _LONGEST_IN_ALL_S
        while last.rows == sample and (total is None or sample < total) and time.perf_counter() < until:
            is_for_calls = last.is_for_calls(before) and last.seconds < _MANY_TIMES * one.seconds
            if (last.seconds >= _ENOUGH_S and not is_for_calls) or last.wall_s > _LONGEST_S:
                break
            most = 16 if is_for_calls or last.seconds < _ENOUGH_S / 4 else 4
            # As many times the rows, but not much longer than half a second, as far as their costs are known.
            sample *= max(2, min(most, int(0.5 / max(1e-3, last.seconds - one.seconds))))
            before, last = last, _warm(plan, source, sample, context, last)
        if total is None and last.rows < sample:
            total = last.rows  # that was all of it
        return predict(first, one, last, _whole(plan, source, total, context, last))


@contextmanager
def _replicas_stay(plan: Node) -> Iterator[None]:
    """Keep the replicas of pools from one run to the next, whatever the settings say."""
    if not any(isinstance(node, Apply) and isinstance(node.compute, ActorPool) for node in facts.nodes(plan)):
        yield
        return
    from skate.data._exec.warm import warm

    warm.hold()
    try:
        yield
    finally:
        warm.release()


def _over(plan: Node, source: Node, rows: int, context: Any) -> SampleRun:
    """Run a plan over the first rows of its source."""
    with running.run(randomness.replaced(plan, source, Limit(source, rows)), context) as execution:
        for _ in execution:
            pass
    return sample_run(execution, rows)


def _warm(plan: Node, source: Node, rows: int, context: Any, before: SampleRun) -> SampleRun:
    """Run a plan over rows in processes that have run it before: the first call of many functions is slow."""
    known = before.processes
    for _ in range(_REPEATS):
        made = _over(plan, source, rows, context)
        if made.processes <= known or made.wall_s > _REPEATED_S:
            break
        known |= made.processes
    return made


def _whole(plan: Node, source: Node, total: int | None, context: Any, last: SampleRun) -> Whole:
    """Return the facts of the whole execution, which does not begin."""
    execution = execute(randomness.for_execution(plan, context.executions), context)
    try:
        stages = execution.stages
        for stage in stages:
            if stage.kind is Kind.SOURCE:
                stage.read_tasks.make(_MOST_READ_TASKS)
        tasks = sum(len(stage.read_tasks) + len(stage.slices) for stage in stages)
        is_local = execution.port.name == "local"
        is_estimate = total is None
        if total is None:
            total = _estimated_rows(source, last)
        wanted = [rows for node in facts.nodes(plan) if (rows := _limited(node)) is not None]
        if total is not None:
            total = min([total, *wanted])
        return Whole(
            stages,
            total,
            is_estimate,
            max(1, tasks),
            float(len(os.sched_getaffinity(0))) if is_local else execution.stats.cpus,
            is_local,
            _has_session(),
            execution.stats.memory_bytes,
            execution.target_bytes,
        )
    finally:
        execution.close()


def _limited(node: Node) -> int | None:
    """Return the rows that are read of the source for a limit; None: no limit, or that is not known."""
    if not isinstance(node, Limit):
        return None
    below = facts.without_row_preserving(node.input)
    return node.rows if isinstance(below, (Read, Blocks)) else None


def _estimated_rows(source: Node, last: SampleRun) -> int | None:
    """Return the number of rows that the bytes of a source stand for."""
    size = facts.known_bytes(source)
    read = next((cost for cost in last.costs if cost.stage.kind is Kind.SOURCE), None)
    if not size or read is None or not read.bytes_out:
        return None
    return max(last.rows, round(size * read.rows_out / read.bytes_out))


def _has_session() -> bool:
    from skate import api

    return api.is_initialized()
