"""Says what limits an execution, from its statistics: pure, no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from skate.data._exec.statistics import ProcessStatistics, StageStatistics, Statistics
from skate.data._insight.shares import TimeShares, average, split

#: A part of the time above which something counts as busy.
BUSY = 0.7
#: A part of the time of calls below which they are said to have waited rather than computed.
_IDLE_CPU = 0.3
#: Processes that a text lists one by one.
_MOST_LISTED = 8


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
        cpu_s: seconds of CPU.
        queued_s: seconds in which its tasks could have run, and others had the CPUs.
        tasks: that ended.
        idle_replicas: numbers of replicas that were given no task.
    """

    name: str
    seconds: float
    part: float
    shares: TimeShares
    replicas: dict[int, TimeShares] = field(default_factory=dict)
    rows: int = 0
    cpu_s: float = 0.0
    queued_s: float = 0.0
    tasks: int = 0
    idle_replicas: tuple[int, ...] = ()

    @property
    def computing(self) -> float:
        """The part of its work in which it used a CPU, or would have if there had been one."""
        return min(1.0, (self.cpu_s + self.queued_s) / self.seconds) if self.seconds else 0.0


@dataclass(frozen=True)
class Why:
    """The answer to what limits an execution. ``print`` it, or read its fields.

    Attributes:
        limit: what limits: ``"pool"`` (the replicas of ``stage``), ``"cpus"``, ``"tasks"`` (all CPUs are
            taken by tasks that wait themselves), ``"consumer"``, ``"driver"`` (the runtime in the program),
                ``"start"`` (of
            processes and models), ``"latency"`` (nothing was busy all the time) or ``"nothing"``.
        stage: the stage that limits, or has the largest part of the work; "" if none does.
        text: sentences for people, with what to do.
        wall_s: seconds of the execution so far.
        stages: the time of each stage with tasks.
        program: the time of the program's own process.
        workers: the time of each process that ran tasks, by process id.
    """

    limit: str
    stage: str
    text: str
    wall_s: float
    stages: tuple[StageShares, ...]
    program: TimeShares = field(default_factory=TimeShares)
    workers: dict[int, TimeShares] = field(default_factory=dict)

    def as_data(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "limit": self.limit,
            "stage": self.stage,
            "text": self.text,
            "wall_s": self.wall_s,
            "program": self.program.as_data(),
            "workers": {pid: shares.as_data() for pid, shares in self.workers.items()},
            "stages": [
                {
                    "name": one.name,
                    "seconds": one.seconds,
                    "cpu_s": one.cpu_s,
                    "queued_s": one.queued_s,
                    "part": one.part,
                    "rows": one.rows,
                    "tasks": one.tasks,
                    "shares": one.shares.as_data(),
                    "replicas": {number: shares.as_data() for number, shares in one.replicas.items()},
                }
                for one in self.stages
            ],
        }

    def __str__(self) -> str:
        lines = [self.text]
        for one in self.stages:
            what = "" if one.replicas else f": {one.shares.as_text()}"
            lines.append(f"  {one.name}, {one.seconds:.2f} s of work ({one.part:.0%} of all){what}")
            lines += _listed("    replica", one.replicas)
        lines += _listed("  worker", self.workers)
        words = {"waiting": "waiting for results", "loading": "starting a session"}
        lines.append(f"  this program: {self.program.as_text(**words)}")
        return "\n".join(lines)

    __repr__ = __str__


def _listed(what: str, processes: dict[int, TimeShares]) -> list[str]:
    shown = sorted(processes.items())[:_MOST_LISTED]
    lines = [f"{what} {number}: {shares.as_text()}" for number, shares in shown]
    if len(processes) > len(shown):
        rest = [shares for number, shares in sorted(processes.items())[_MOST_LISTED:]]
        lines.append(f"{what}s, {len(rest)} more, on average: {average(rest).as_text()}")
    return lines


def why(stats: Statistics) -> Why:
    """Return what limits, or limited, an execution.

    Args:
        stats: of the execution; it may be under way.
    """
    facts = _Facts(stats)
    limit, name, text = facts.verdict()
    return Why(limit, name, text, facts.wall, facts.shown, facts.program, facts.workers)


class _Facts:
    """Seconds and shares of an execution at one moment."""

    def __init__(self, stats: Statistics) -> None:
        self.stats = stats
        self.wall = max(stats.wall_s(), 1e-9)
        self.open_replicas, self.open_stages = _under_way(stats)
        working = [
            _work(stage) + self.open_stages.get(index, 0.0) for index, stage in enumerate(stats.stages)
        ]
        self.total = sum(working)
        self.shown = tuple(
            self._stage(index, stage, seconds)
            for index, (stage, seconds) in enumerate(zip(stats.stages, working, strict=True))
            if stage.tasks_started
        )
        self.workers = {pid: self._process(one, 0.0) for pid, one in list(stats.workers.items())}
        self.program = self._program()

    def _stage(self, index: int, stage: StageStatistics, seconds: float) -> StageShares:
        replicas, idle = {}, []
        for number, one in list(self.stats.replicas.items()):
            if one.stage == index:
                under_way = self.open_replicas.get(number, 0.0)
                replicas[number] = self._process(one, under_way)
                if not one.tasks and not under_way:
                    idle.append(number)
        if replicas:
            together = average(replicas.values())
        else:
            open_s = self.open_stages.get(index, 0.0)
            together = split(stage.spent_s, open_s, stage.spent_s.get("total", 0.0) + open_s, 0.0, None)
        return StageShares(
            stage.name,
            seconds,
            seconds / self.total if self.total else 0.0,
            together,
            replicas,
            self.stats.rows_in(index),
            stage.spent_s.get("cpu", 0.0),
            stage.spent_s.get("queued", 0.0),
            stage.tasks_done,
            tuple(idle),
        )

    def _process(self, one: ProcessStatistics, under_way_s: float) -> TimeShares:
        """Return the shares of a replica or worker."""
        life = max(1e-9, (one.ended_s if one.ended_s is not None else self.wall) - one.started_s)
        ready = one.ready_s if one.ready_s is not None else one.started_s + life
        loading = min(life, max(0.0, ready - one.started_s))
        return split(one.spent_s, under_way_s, life, loading, one.busy_s)

    def _program(self) -> TimeShares:
        """Return the shares of the program's own process, where small data runs and decisions are made."""
        stats = self.stats
        spent: dict[str, float] = {}
        for index, seconds in list(stats.own_s.items()):
            # Of the part of a stage's work that was done here, only the sum is known.
            stage = stats.stages[index]
            part = min(1.0, seconds / max(1e-9, _work(stage)))
            for name in ("read", "run"):
                spent[name] = spent.get(name, 0.0) + stage.spent_s.get(name, 0.0) * part
        own_s = sum(stats.own_s.values())
        if self._is_alone():  # there is nobody to wait for
            driver = self.wall - own_s - stats.consumer_s
        else:
            driver = self.wall - stats.waited_s - stats.consumer_s - stats.start_s
        spent["total"] = own_s + max(0.0, driver)
        return split(spent, 0.0, self.wall, stats.start_s, None, stats.consumer_s)

    def _is_alone(self) -> bool:
        """Tell whether all tasks ran in the program's own process."""
        return self.stats.port == "local" and not self.stats.start_s and not self.workers

    # ------------------------------------------------------------------------------------------ verdicts

    def verdict(self) -> tuple[str, str, str]:
        """Return what limits, the stage, and the sentences."""
        stats = self.stats
        if not any(stage.spent_s for stage in stats.stages):
            return self._nothing_yet()
        largest = max(self.shown, key=lambda one: one.seconds)
        share = stats.consumer_s / self.wall
        if share > BUSY:
            text = (
                f"The program that takes the rows limits: it was busy with them for {share:.0%} of "
                f"{self.wall:.2f} s. The pipeline waits for it."
            )
            return "consumer", "", text
        if self._is_alone():
            return self._own(largest)
        starting = self._starting()
        if starting > 0.5:
            text = (
                f"Starting took {starting:.0%} of {self.wall:.2f} s: processes, and models in them. The next "
                "run in this session finds them there."
            )
            return "start", largest.name, text
        limit, name, text = self._busiest(largest)
        if starting > 0.2 and limit != "pool":
            text += f" Before that, processes started for {starting:.0%} of {self.wall:.2f} s."
        return limit, name, text

    def _starting(self) -> float:
        """Return the part of the time in which processes started, and nothing else was done."""
        stats = self.stats
        processes = [*list(stats.workers.values()), *list(stats.replicas.values())]
        ready = [self.wall if one.ready_s is None else one.ready_s for one in processes]
        first = min(ready, default=self.wall if stats.start_s else 0.0)
        return max(0.0, first - sum(list(stats.own_s.values()))) / self.wall

    def _busiest(self, largest: StageShares) -> tuple[str, str, str]:
        """Return the verdict on the time in which processes were there: what was busy for most of it."""
        loading = sum(one.loading for one in self.workers.values()) * self.wall
        capacity = max(1e-9, self.stats.capacity_s() - self.stats.start_s - loading)
        cpu_s = sum(one.cpu_s for one in self.shown)
        queued_s = sum(one.queued_s for one in self.shown)
        if cpu_s + queued_s > BUSY * capacity:
            return self._cpus(cpu_s, queued_s, capacity)
        pool = max((one for one in self.shown if one.replicas), key=_pool_use, default=None)
        pool_use = 0.0 if pool is None else _pool_use(pool)
        tasks_use = _use(average(self.workers.values())) if self.workers else 0.0
        if max(pool_use, tasks_use, self.program.working) < BUSY:
            return self._latency(largest)
        if self.program.working > max(pool_use, tasks_use):
            return self._driver()
        if pool is None or tasks_use > pool_use:
            return self._tasks(tasks_use)
        return self._pool(pool)

    def _nothing_yet(self) -> tuple[str, str, str]:
        if self.stats.outcome:
            is_finished = self.stats.outcome == "finished"
            text = "Nothing limited it: rows that were there were passed on, without a task."
            return "nothing", "", text if is_finished else f"No task ran: it {self.stats.outcome}."
        if self.open_stages:
            index, seconds = max(self.open_stages.items(), key=lambda one: one[1])
            name = self.stats.stages[index].name
            return "nothing", name, f"No task has ended yet. {name} is running, for {seconds:.1f} s so far."
        loading = [one for one in list(self.stats.replicas.values()) if one.ready_s is None]
        if loading:
            name = self.stats.stages[loading[0].stage].name
            return "start", name, f"No task has begun yet: the replicas of {name} are loading."
        return "nothing", "", "No task has ended yet."

    def _own(self, largest: StageShares) -> tuple[str, str, str]:
        """Return the verdict on a run in the program's own process."""
        share = largest.seconds / self.wall
        if self.program.working - self.total / self.wall > max(share, self.program.consuming):
            text = (
                f"Small data, run in this program in {self.wall:.2f} s. Most of it is overhead of "
                f"{sum(one.tasks for one in self.shown):,} tasks: fewer of them (override_num_blocks=) have "
                "less."
            )
            return "driver", "", text
        if self.program.consuming > share:
            text = (
                f"Small data, run in this program in {self.wall:.2f} s. The code that takes the rows took "
                f"{self.program.consuming:.0%} of that."
            )
            return "consumer", "", text
        text = (
            f"Small data, run in this program in {self.wall:.2f} s. {largest.name} took {share:.0%} of that."
        )
        return "cpus", largest.name, text

    def _cpus(self, cpu_s: float, queued_s: float, capacity: float) -> tuple[str, str, str]:
        most = max(self.shown, key=lambda one: one.cpu_s)
        part = most.cpu_s / max(1e-9, cpu_s)
        text = f"The CPUs limit: {most.name if part > 0.995 else 'the stages'} used them for "
        text += f"{min(1.0, cpu_s / capacity):.0%} of the time"
        if part <= 0.995:
            text += f", {most.name} for {part:.0%} of that"
        if queued_s > 0.2 * cpu_s:
            text += (
                f". Another {min(1.0, queued_s / capacity):.0%} it waited for one: there are more threads "
                "than CPUs, of this run or of other programs."
            )
        else:
            text += f". More CPUs, or a faster {most.name}, would help."
        return "cpus", most.name, text

    def _pool(self, pool: StageShares) -> tuple[str, str, str]:
        uses = sorted((_use(one) for one in pool.replicas.values()), reverse=True)
        idle = len(pool.idle_replicas)
        busy = len(uses) - idle
        text = (
            f"{pool.name} limits: {_of(busy, len(uses), 'replica')} worked "
            f"{sum(uses[:busy]) / max(1, busy):.0%} of the time"
        )
        loading = max(one.loading for one in pool.replicas.values())
        if loading > 0.1:
            text += f" since loading, which took {loading:.0%} of {self.wall:.2f} s"
        came = f"the rows came in {_counted(pool.tasks, 'task')}, too few to be shared out"
        if idle:
            text += f", and {idle} had nothing to do: {came}."
        elif uses[0] - uses[-1] > 0.25:
            text += f", from {uses[-1]:.0%} to {uses[0]:.0%}: {came} evenly."
        elif pool.tasks and pool.computing < _IDLE_CPU:
            text += (
                f", and needed a CPU for {pool.computing:.0%} of that. More replicas would help; "
                "with num_cpus=0.1, or 0 and a part of a GPU, more of them run at a time."
            )
        else:
            text += ". More replicas would help, if there are CPUs or GPUs for them."
        return "pool", pool.name, text

    def _tasks(self, use: float) -> tuple[str, str, str]:
        stages = [one for one in self.shown if not one.replicas]
        most = max(stages, key=lambda one: one.seconds)
        part = most.seconds / max(1e-9, sum(one.seconds for one in stages))
        text = f"{most.name} limits: the workers were busy "
        if part > 0.995:
            text += f"with it for {use:.0%} of the time"
        else:
            text += f"for {use:.0%} of the time, for {part:.0%} of that with it"
        if most.computing < _IDLE_CPU:
            text += (
                f". It needed a CPU for {most.computing:.0%} of its time and waited in the rest: "
                "with num_cpus=0.1 more of its tasks run at a time."
            )
        else:
            text += ". More CPUs would help."
        return "tasks", most.name, text

    def _driver(self) -> tuple[str, str, str]:
        text = (
            f"The runtime limits: it worked in this program for {self.program.working:.0%} of "
            f"{self.wall:.2f} s. Blocks are small for what is done with them: read more in a task "
            "(override_num_blocks=), or use larger batches."
        )
        return "driver", "", text

    def _latency(self, largest: StageShares) -> tuple[str, str, str]:
        replicas = [one for stage in self.shown for one in stage.replicas.values()]
        work = average([*self.workers.values(), *replicas]).working
        text = (
            f"Nothing was busy all the time: processes worked {work:.0%} of it, and waited for each other or "
            f"for this program in the rest. {largest.name} has {largest.part:.0%} of the work."
        )
        return "latency", largest.name, text


def _use(shares: TimeShares) -> float:
    """Return the part of the time since its start in which a process worked."""
    return shares.working / max(1e-9, 1 - shares.loading)


def _pool_use(stage: StageShares) -> float:
    return max(_use(one) for one in stage.replicas.values())


def _of(number: int, count: int, noun: str) -> str:
    if number == count:
        return f"its {noun}" if count == 1 else f"its {count} {noun}s"
    return f"{number} of its {count} {noun}s"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _under_way(stats: Statistics) -> tuple[dict[int, float], dict[int, float]]:
    """Return the seconds for which tasks have been running that have not ended: by replica, and by stage."""
    now = stats.wall_s()
    replicas: dict[int, float] = {}
    stages: dict[int, float] = {}
    others = 0
    for command, submitted in stats.under_way():
        if command.replica is not None:
            one = stats.replicas.get(command.replica)
            if one is None or one.ready_s is None or command.replica in replicas:
                continue  # it waits behind another one
            begun = max(submitted, one.ready_s, one.busy_until_s)
            replicas[command.replica] = seconds = max(0.0, now - begun)
        else:
            others += 1
            if others > stats.cpus:
                continue
            seconds = max(0.0, now - submitted)
        stages[command.stage] = stages.get(command.stage, 0.0) + seconds
    return replicas, stages


def _work(stage: StageStatistics) -> float:
    return max(0.0, stage.spent_s.get("total", 0.0) - stage.spent_s.get("blocked", 0.0))
