"""Predicts an execution from others over a few rows: seconds, memory, and what will limit it. Pure.

The costs of a stage are ``a`` seconds for each call and ``b`` for each row. Two runs over different numbers
of rows tell them apart: a call of numpy costs as much for one row as for a thousand, a picture costs the same
in any batch::

    seconds of work
        │            ╱ the last run
        │        ╱
        │    ╱           the whole: its rows, in its batches and read tasks
        │╱ one row
        └─────────────── rows
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from skate.data._exec.execution import Execution
from skate.data._exec.hybrid_port import PATIENCE_S
from skate.data._exec.inbox import SMALL_BYTES
from skate.data._exec.shares import MOST_TASK_S
from skate.data._exec.stages import Kind, Stage
from skate.data._exec.states import StageState
from skate.data._exec.statistics import StageStatistics
from skate.data._insight.limits import BUSY

#: Seconds of a session's start, if none was measured.
START_S = 0.5
#: Tasks for each CPU from which the seconds of a run tell how well processes were used; and by how much they
#: may be longer than the work.
_TASKS_PER_CPU, _MOST_LONGER = 4, 4.0
#: By how much the seconds of two calls may differ by chance.
_SAME = 3.0
#: The part of the work that is of importance, and of the seconds of a row to which they may fall from one run
#: to the next: if they fall further, it is calls that take the time.
_LARGE, _FALL = 0.25, 0.6
#: The part of the time for which work stays in the program, above which it may become too much.
_NEAR = 0.6
#: Memory of a task below which it is that of the process, not of rows.
_NOISE_BYTES = 4 << 20
#: Blocks that a task holds at a time: its input, its output, and one between them.
_BLOCKS_HELD = 3


@dataclass(frozen=True)
class Prediction:
    """Time and memory that an execution will need. ``print`` it, or read its fields.

    Attributes:
        sample_rows: rows of the last run for it.
        total_rows: rows of the source; None: not known, and then neither are seconds.
        is_estimate: ``total_rows`` follows from the bytes of the source.
        seconds: of the whole execution, on the CPUs of this session, with processes and models as they are
            now.
        start_s: seconds more in a new session, and when models have to be loaded again.
        cpu_seconds: of work, summed over processes.
        peak_bytes: memory of tasks that run at a time, with their blocks.
        limit: what will limit, in the words of ``Why.limit``.
        stage: the stage that will limit, or with the most work.
        part: its part of the work.
    """

    sample_rows: int
    total_rows: int | None
    is_estimate: bool
    seconds: float | None
    start_s: float
    cpu_seconds: float | None
    peak_bytes: int
    limit: str
    stage: str
    part: float

    def __str__(self) -> str:
        lines = [f"From {self.sample_rows:,} row{'' if self.sample_rows == 1 else 's'}:"]
        if self.seconds is None or self.cpu_seconds is None:
            lines.append("  the source does not know its number of rows, so seconds cannot be predicted")
        else:
            about = "about " if self.is_estimate else ""
            lines.append(
                f"  {about}{self.total_rows:,} rows will take about {_seconds(self.seconds)} "
                f"({_seconds(self.cpu_seconds)} of work)"
            )
        if self.start_s >= 0.1:
            lines.append(
                f"  and {_seconds(self.start_s)} more where processes have to start and models to be loaded"
            )
        lines.append(f"  memory: about {max(1, round(self.peak_bytes / 1e6)):,} MB at a time")
        lines.append(f"  {self._limit()}")
        return "\n".join(lines)

    def _limit(self) -> str:
        part = f"it has {self.part:.0%} of the work"
        if self.limit == "driver":
            return f"the runtime will limit; of the stages {self.stage} has the most work, {self.part:.0%}"
        if self.limit == "pool":
            return f"{self.stage} will limit: {part}, more replicas would help"
        if self.limit == "tasks":
            return f"{self.stage} will limit: {part}, and waits more than it computes"
        return f"{self.stage} will limit: {part}"


def _seconds(seconds: float) -> str:
    if seconds >= 120:
        return f"{seconds / 60:,.0f} minutes" if seconds < 7200 else f"{seconds / 3600:,.1f} hours"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2f} s"


@dataclass(frozen=True)
class StageCost:
    """The needs of a stage in a run.

    Attributes:
        stage: the stage.
        rows: that it took.
        calls: of its function; of a stage without one, tasks.
        seconds: of work, and of handing on what it made.
        computing_s: the part of them in which it used a CPU, or waited for one.
        tasks: that it ran.
        bytes_out, rows_out: of its output.
        peak_bytes: most memory of a task.
    """

    stage: Stage
    rows: int
    calls: int
    seconds: float
    computing_s: float
    tasks: int
    bytes_out: int
    rows_out: int
    peak_bytes: int


@dataclass(frozen=True)
class SampleRun:
    """A run over the first rows of a source.

    Attributes:
        rows: so many.
        costs: of the stages that had tasks.
        driver_s: seconds of work in the program, without those of tasks.
        wall_s: of all of it.
        slowness: by how much work takes longer because others have the CPUs: from 1.
        processes: ids of the processes that ran tasks.
    """

    rows: int
    costs: tuple[StageCost, ...]
    driver_s: float
    wall_s: float
    slowness: float
    processes: frozenset[int]

    @property
    def seconds(self) -> float:
        """Seconds of work of its stages."""
        return sum(cost.seconds for cost in self.costs)

    def is_for_calls(self, before: SampleRun) -> bool:
        """Tell whether much of the work does not depend on the number of rows, as far as can be seen.

        Args:
            before: a run over fewer rows.
        """
        found = {cost.stage.name: cost for cost in before.costs}
        large = [cost for cost in self.costs if cost.seconds > _LARGE * self.seconds]
        return any(_falls(found.get(cost.stage.name), cost) for cost in large)


def _falls(before: StageCost | None, cost: StageCost) -> bool:
    """Tell whether rows cost less where there are more of them."""
    if before is None or before.rows >= cost.rows:
        return False
    return cost.seconds * before.rows < _FALL * before.seconds * cost.rows


def sample_run(execution: Execution, rows: int) -> SampleRun:
    """Return what an execution over some rows of a source needed.

    Args:
        execution: it has ended.
        rows: that were asked for; the source may have fewer.
    """
    stats = execution.stats
    both = zip(execution.scheduler.stages, stats.stages, strict=True)
    costs = tuple(_cost(state, stage) for state, stage in both if stage.rows_in)
    driver = stats.wall_s() - stats.waited_s - stats.consumer_s - stats.start_s
    read = next(
        (state.rows_out for state in execution.scheduler.stages if state.spec.kind is Kind.LIMIT), rows
    )
    pids = frozenset(span.pid for span in stats.spans if span.pid)
    cpu_s = sum(stage.spent_s.get("cpu", 0.0) for stage in stats.stages)
    queued_s = sum(stage.spent_s.get("queued", 0.0) for stage in stats.stages)
    slowness = min(_MOST_LONGER, 1 + queued_s / cpu_s) if cpu_s > 0 else 1.0
    return SampleRun(min(rows, read), costs, max(0.0, driver), stats.wall_s(), slowness, pids)


def _cost(state: StageState, stage: StageStatistics) -> StageCost:
    spent = stage.spent_s
    calls = tasks = stage.tasks_done + stage.tasks_cancelled
    batch = batch_rows(state.spec)
    if batch:
        calls = max(calls, -(-stage.rows_in // batch))
    return StageCost(
        state.spec,
        stage.rows_in,
        calls,
        spent.get("total", 0.0),
        spent.get("cpu", 0.0) + spent.get("queued", 0.0),
        tasks,
        state.bytes_out,
        state.rows_out,
        stage.peak_bytes,
    )


def batch_rows(stage: Stage) -> int | None:
    """Return the rows of the smallest batch that a function of a stage gets; None: it gets blocks or rows."""
    sizes = [getattr(operator, "batch_size", None) for operator in stage.operators]
    return min((size for size in sizes if size), default=None)


@dataclass(frozen=True)
class Whole:
    """The execution that is predicted.

    Attributes:
        stages: its stages.
        rows: of its source; None: not known.
        is_estimate: ``rows`` follows from the bytes of the source.
        read_tasks: tasks of its source.
        cpus: that it may use.
        is_local: it begins in the program's process.
        has_session: there is a session already.
        memory_bytes: its budget.
        target_bytes: size at which blocks are cut.
    """

    stages: Sequence[Stage]
    rows: int | None
    is_estimate: bool
    read_tasks: int
    cpus: float
    is_local: bool
    has_session: bool
    memory_bytes: int
    target_bytes: int


def predict(first: SampleRun, one: SampleRun, last: SampleRun, whole: Whole) -> Prediction:
    """Return what the whole execution will need.

    Args:
        first: the first run, with all starts.
        one: a run over one row, with everything started.
        last: the run over the most rows.
        whole: the execution.
    """
    rows = last.rows if whole.rows is None else whole.rows
    before = {cost.stage.name: cost for cost in one.costs}
    made: dict[str, _Part] = {}
    for cost in last.costs:
        stage = _of_whole(cost.stage, whole.stages)
        part = made.setdefault(stage.name, _Part(stage))
        factor = rows / max(1, last.rows)
        part.whole_tasks = max(part.whole_tasks, _tasks(cost, factor, stage, whole))
        part.add(cost, _projected(before.get(cost.stage.name), cost, factor, stage, whole))
    parts = list(made.values())
    if not parts:
        return Prediction(last.rows, whole.rows, whole.is_estimate, 0.0, 0.0, 0.0, 0, "nothing", "", 0.0)
    work = sum(part.seconds for part in parts)
    per_task = min(run.driver_s / max(1, sum(cost.tasks for cost in run.costs)) for run in (one, last))
    driver = per_task * whole.read_tasks * len(parts)
    if whole.is_local:
        limit, part, seconds = _here(parts, driver, last, whole)
        # Where it is about as long as it may stay here, a session may start.
        may_start = not whole.has_session and sum(part.seconds for part in parts) / PATIENCE_S > _NEAR
        start = START_S if may_start and seconds < PATIENCE_S / _NEAR else 0.0
    else:
        latency = max(0.0, one.wall_s - one.seconds)
        limit, part, seconds = _elsewhere(parts, driver, whole)
        seconds = latency + seconds * _calibration(parts, last, latency, whole)
        start = max(0.0, first.wall_s - one.wall_s)
    if last.rows >= rows:
        seconds = last.wall_s
    return Prediction(
        sample_rows=last.rows,
        total_rows=whole.rows,
        is_estimate=whole.is_estimate,
        seconds=None if whole.rows is None else seconds,
        start_s=start,
        cpu_seconds=None if whole.rows is None else work,
        peak_bytes=_memory(last, rows, whole),
        limit=limit,
        stage=part.stage.name,
        part=part.seconds / work if work else 0.0,
    )


@dataclass
class _Part:
    """A stage of the whole, with what it will need, and what it needed in the last run."""

    stage: Stage
    seconds: float = 0.0
    sampled_s: float = 0.0
    computing_s: float = 0.0
    tasks: int = 0
    whole_tasks: int = 1

    def add(self, cost: StageCost, seconds: float) -> None:
        """Add a stage of a sample, and the seconds that it will need."""
        self.seconds += seconds
        self.sampled_s += cost.seconds
        self.computing_s += cost.computing_s
        self.tasks += cost.tasks

    @property
    def computing(self) -> float:
        """The part of its time in which it needs a CPU."""
        return min(1.0, self.computing_s / self.sampled_s) if self.sampled_s else 1.0

    @property
    def replicas(self) -> int:
        """Calls that run at a time at most, if it is a pool."""
        return 1 if self.stage.pool is None else self.stage.pool.max_size * self.stage.pool.max_concurrency


def _of_whole(stage: Stage, stages: Sequence[Stage]) -> Stage:
    """Return the stage of the whole execution that does what one of a sample did: it may do more."""
    step = stage.name.rpartition("->")[2]
    return next((one for one in stages if step in one.name.split("->")), stage)


def _projected(one: StageCost | None, last: StageCost, factor: float, stage: Stage, whole: Whole) -> float:
    """Return the seconds of a stage in the whole execution."""
    rows = last.rows * factor
    batch = batch_rows(last.stage)
    calls = float(_tasks(last, factor, stage, whole))
    if batch:
        calls = max(calls if stage.kind is Kind.SOURCE else 0.0, rows / batch)
    call_s, row_s = _costs(one, last)
    # More rows in a call never cost more than as many more calls.
    return min(last.seconds * max(1.0, factor), call_s * max(1.0, min(calls, rows)) + row_s * rows)


def _is_same(one: StageCost, last: StageCost) -> bool:
    """Tell whether calls with more rows took about as long; chance would else be taken for a cost of rows."""
    is_longer = last.rows > one.rows * last.calls
    return is_longer and last.seconds * one.calls < _SAME * one.seconds * last.calls


def _tasks(cost: StageCost, factor: float, stage: Stage, whole: Whole) -> int:
    """Return about how many tasks a stage will have in the whole execution."""
    if stage.kind is Kind.SOURCE:
        return whole.read_tasks
    if stage.kind is Kind.BARRIER:
        return max(1, int(whole.cpus))
    if stage.unit_rows:  # its input is cut by the time of its rows
        most_units = math.ceil(cost.rows * factor / stage.unit_rows)
        return max(1, min(most_units, math.ceil(cost.seconds * factor / MOST_TASK_S * whole.cpus)))
    return max(1, min(whole.read_tasks, math.ceil(cost.bytes_out * factor / SMALL_BYTES)))


def _costs(one: StageCost | None, last: StageCost) -> tuple[float, float]:
    """Return the seconds of a call and of a row."""
    if one is None or last.rows <= one.rows:
        return 0.0, last.seconds / max(1, last.rows)
    if not batch_rows(last.stage) and _is_same(one, last):
        return last.seconds / last.calls, 0.0
    # one.seconds = call * one.calls + row * one.rows; the same for the last.
    divisor = one.calls * last.rows - last.calls * one.rows
    if divisor <= 0:
        return 0.0, last.seconds / last.rows
    row = (one.calls * last.seconds - last.calls * one.seconds) / divisor
    if row < 0:
        return last.seconds / last.calls, 0.0
    call = (last.seconds - row * last.rows) / last.calls
    return (call, row) if call > 0 else (0.0, last.seconds / last.rows)


def _here(parts: Sequence[_Part], driver: float, last: SampleRun, whole: Whole) -> tuple[str, _Part, float]:
    """Return what limits, the stage, and the seconds of an execution that begins in the program's process."""
    largest = max(parts, key=lambda part: part.seconds)
    work = sum(part.seconds for part in parts)
    seconds = work + driver
    task_s = seconds / largest.whole_tasks
    rest = largest.whole_tasks - math.ceil(PATIENCE_S / max(1e-9, task_s))
    if rest > 0:  # these go to processes of a session
        start = 0.0 if whole.has_session else START_S * min(2.0, last.slowness)
        seconds += start - rest * task_s + max(math.ceil(rest / whole.cpus) * task_s, driver)
    return ("cpus" if work >= driver else "driver"), largest, seconds


def _elsewhere(parts: Sequence[_Part], driver: float, whole: Whole) -> tuple[str, _Part, float]:
    """Return what limits, the stage, and the seconds of an execution in processes of the session."""
    largest = max(parts, key=lambda part: part.seconds)
    slots = sum(part.seconds * part.stage.cpus for part in parts) / whole.cpus
    computing = sum(part.seconds * part.computing for part in parts) / whole.cpus
    pools = [part for part in parts if part.stage.pool is not None]
    pool = max(pools, key=lambda part: part.seconds / part.replicas, default=None)
    pool_s = 0.0 if pool is None else pool.seconds / pool.replicas
    source_s = max((part.seconds for part in parts if part.stage.kind is Kind.SOURCE), default=0.0)
    seconds = max(slots, computing, pool_s, driver, source_s / min(whole.cpus, whole.read_tasks))
    if driver >= seconds:
        return "driver", largest, seconds
    if computing > BUSY * seconds:
        return "cpus", max(parts, key=lambda part: part.seconds * part.computing), seconds
    if pool is not None and pool_s >= BUSY * seconds:
        return "pool", pool, seconds
    return "tasks", largest, seconds


def _calibration(parts: Sequence[_Part], last: SampleRun, latency: float, whole: Whole) -> float:
    """Return by how much the last run took longer than its work says, if it had enough tasks to tell."""
    if max(parts, key=lambda part: part.seconds).tasks < _TASKS_PER_CPU * whole.cpus:
        return 1.0
    sampled = [replace(part, seconds=part.sampled_s) for part in parts]
    _, _, seconds = _elsewhere(sampled, last.driver_s, whole)
    return min(_MOST_LONGER, max(1.0, (last.wall_s - latency) / max(1e-9, seconds)))


def _memory(last: SampleRun, rows: int, whole: Whole) -> int:
    """Return the bytes of tasks that run at a time: as many as there are CPUs, and one in each replica."""
    largest = pools = 0
    for cost in last.costs:
        stage = _of_whole(cost.stage, whole.stages)
        times = rows / max(1, last.rows) / whole.read_tasks * cost.tasks
        block = min(1.5 * whole.target_bytes, cost.bytes_out / cost.tasks * times)
        used = cost.peak_bytes if cost.peak_bytes > _NOISE_BYTES else 0
        most = used + _BLOCKS_HELD * whole.target_bytes
        needed = int(max(used, min(used * max(1.0, times), most), _BLOCKS_HELD * block))
        if stage.pool is None:
            largest = max(largest, needed)
        else:
            pools += needed * stage.pool.max_size
    return min(whole.memory_bytes, largest * max(1, int(whole.cpus)) + pools)
