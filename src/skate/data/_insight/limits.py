"""Says what limits an execution, from its statistics: pure, no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from skate.data._exec.statistics import ReplicaStatistics, StageStatistics, Statistics

#: A part of the time above which something counts as busy.
BUSY = 0.8
#: Names of the parts of a task's seconds, in the order in which they are shown.
KINDS = ("loading", "reading", "running", "other", "blocked", "waiting")


@dataclass(frozen=True)
class TimeShares:
    """Shares of the time of a replica, or of all CPUs of a stage's tasks; they add up to 1.

    Attributes:
        loading: making instances of the user's classes.
        reading: reading files.
        running: the user's functions and expressions.
        other: conversions, moving of blocks, the runtime.
        blocked: waiting for somebody to take the output.
        waiting: waiting for input.
    """

    loading: float = 0.0
    reading: float = 0.0
    running: float = 0.0
    other: float = 0.0
    blocked: float = 0.0
    waiting: float = 0.0

    @property
    def working(self) -> float:
        """The part in which something was done."""
        return self.loading + self.reading + self.running + self.other

    def as_text(self) -> str:
        """Return the shares above half a percent."""
        shown = [f"{kind} {getattr(self, kind):.0%}" for kind in KINDS if getattr(self, kind) >= 0.005]
        return ", ".join(shown) or "nothing"


@dataclass(frozen=True)
class StageShares:
    """The time of one stage.

    Attributes:
        name: of the stage.
        seconds: of work, summed over its processes.
        part: its part of the work of all stages.
        shares: of a pool's replicas together; of tasks: of their own time.
        replicas: shares of each replica, by number; empty for tasks.
        rows: rows that it took.
    """

    name: str
    seconds: float
    part: float
    shares: TimeShares
    replicas: dict[int, TimeShares] = field(default_factory=dict)
    rows: int = 0


@dataclass(frozen=True)
class Why:
    """The answer to what limits an execution. ``print`` it, or read its fields.

    Attributes:
        limit: ``"pool"``, ``"cpus"``, ``"consumer"``, ``"driver"``, ``"latency"`` or ``"nothing"``.
        stage: the stage that limits, or takes the largest part of the CPUs; "" if none does.
        text: a sentence for people, with what to do.
        wall_s: seconds of the execution so far.
        stages: the time of each stage with tasks.
    """

    limit: str
    stage: str
    text: str
    wall_s: float
    stages: tuple[StageShares, ...]

    def as_data(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "limit": self.limit,
            "stage": self.stage,
            "text": self.text,
            "wall_s": self.wall_s,
            "stages": [
                {
                    "name": one.name,
                    "seconds": one.seconds,
                    "part": one.part,
                    "rows": one.rows,
                    "shares": {kind: getattr(one.shares, kind) for kind in KINDS},
                    "replicas": {
                        number: {kind: getattr(shares, kind) for kind in KINDS}
                        for number, shares in one.replicas.items()
                    },
                }
                for one in self.stages
            ],
        }

    def __str__(self) -> str:
        lines = [self.text]
        for one in self.stages:
            lines.append(
                f"  {one.name}: {one.seconds:.2f} s of work ({one.part:.0%} of all), {one.shares.as_text()}"
            )
            lines += [
                f"    replica {number}: {shares.as_text()}" for number, shares in sorted(one.replicas.items())
            ]
        return "\n".join(lines)

    __repr__ = __str__


def why(stats: Statistics) -> Why:
    """Return what limits, or limited, an execution.

    Args:
        stats: of the execution; it may be under way.
    """
    wall = max(stats.wall_s(), 1e-9)
    working = [_work(stage) for stage in stats.stages]
    total = sum(working) or 1e-9
    shown = tuple(
        _shares(stats, index, stage, seconds, seconds / total, wall)
        for index, (stage, seconds) in enumerate(zip(stats.stages, working, strict=True))
        if stage.tasks_started
    )
    if not any(stage.tasks_done for stage in stats.stages):
        return Why("nothing", "", "Nothing has run to its end yet.", wall, shown)
    limit, name, text = _limit(stats, shown, total, wall)
    return Why(limit, name, text, wall, shown)


def _work(stage: StageStatistics) -> float:
    return max(0.0, stage.spent_s.get("total", 0.0) - stage.spent_s.get("blocked", 0.0))


def _shares(
    stats: Statistics, index: int, stage: StageStatistics, seconds: float, part: float, wall: float
) -> StageShares:
    replicas = {
        number: _of_replica(one, stats.wall_s())
        for number, one in stats.replicas.items()
        if one.stage == index
    }
    if replicas:
        count = len(replicas)
        together = TimeShares(
            *(sum(getattr(one, kind) for one in replicas.values()) / count for kind in KINDS)
        )
    else:
        together = _split(stage.spent_s, stage.spent_s.get("total", 0.0), 0.0)
    return StageShares(stage.name, seconds, part, together, replicas, stage.rows_in)


def _of_replica(one: ReplicaStatistics, now: float) -> TimeShares:
    life = max(1e-9, (one.ended_s if one.ended_s is not None else now) - one.started_s)
    ready = one.ready_s if one.ready_s is not None else one.started_s + life
    return _split(one.spent_s, life, min(life, ready - one.started_s))


def _split(spent: dict[str, float], life: float, loading: float) -> TimeShares:
    """Split a time by what was spent; what does not fit into it is cut, so that the shares add up to 1."""
    if life <= 0:
        return TimeShares()
    left = life
    parts = []
    total = spent.get("total", 0.0)
    blocked = spent.get("blocked", 0.0)
    reading, running = spent.get("read", 0.0), spent.get("run", 0.0)
    other = max(0.0, total - blocked - reading - running)
    for seconds in (loading, reading, running, other, blocked):
        taken = min(left, max(0.0, seconds))
        parts.append(taken / life)
        left -= taken
    return TimeShares(**dict(zip(KINDS, [*parts, left / life], strict=True)))


def _limit(
    stats: Statistics, shown: tuple[StageShares, ...], total: float, wall: float
) -> tuple[str, str, str]:
    pools = [one for one in shown if one.replicas]
    busiest = max(pools, key=lambda one: one.shares.working, default=None)
    largest = max(shown, key=lambda one: one.seconds)
    cpus = max(1.0, stats.cpus)
    if stats.consumer_s > BUSY * wall:
        share = stats.consumer_s / wall
        return (
            "consumer",
            "",
            f"The consumer limits: it was busy with what it had taken for {share:.0%} of {wall:.2f} s. The "
            f"pipeline "
            "waits for it.",
        )
    if total > BUSY * wall * cpus:
        text = (
            f"The CPUs limit: they worked {total / (wall * cpus):.0%} of the time. {largest.name} takes the "
            f"largest part, {largest.part:.0%}."
        )
        return "cpus", largest.name, text
    if busiest is not None and busiest.shares.working > BUSY:
        count = len(busiest.replicas)
        text = (
            f"{busiest.name} limits: its {count} replica{'s' if count > 1 else ''} worked "
            f"{busiest.shares.working:.0%} of their time. More replicas would help, if there are CPUs or "
            f"GPUs "
            "for them."
        )
        return "pool", busiest.name, text
    driver = max(0.0, wall - stats.waited_s - stats.consumer_s)
    if driver > BUSY * wall:
        text = (
            f"The driver limits: it worked {driver / wall:.0%} of {wall:.2f} s. Blocks are small for what is "
            f"done "
            "with them: read more files in a task (override_num_blocks), or use larger batches."
        )
        return "driver", "", text
    if stats.port == "local":
        return "cpus", largest.name, f"{largest.name} took the most time, in this process."
    text = (
        f"Nothing was busy all the time: {largest.name} has the most work, {largest.part:.0%} of it. "
        f"Processes "
        "started, loaded or waited for each other; more rows, or fewer and larger tasks, would fill them."
    )
    return "latency", largest.name, text
