"""Reads the state of this process's own session, or of another one as an observer."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from skate import cluster
from skate._base.waits import situation
from skate.util.state import group_rows, merge, reasons
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
from skate.util.state.summaries import TaskSummaries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from skate.engine.interface import StateSource


R = TypeVar("R", bound=Row)


class State:
    """The state of a session as rows."""

    def __init__(self, source: StateSource) -> None:
        self._source = source
        #: Processes that did not answer the last question.
        self.silent: list[int] = []
        #: How many rows the last answer lacks: forgotten ones, and those above its limit.
        self.dropped = 0

    def _ask(self, what: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the rows of all processes, and those of the daemon."""
        parts, silent = self._source.state(what)
        # A process whose answer failed counts as silent.
        self.silent = [*silent, *(pid for pid, _, found in parts if any("failed" in row for row in found))]
        answers = [(kind, row) for _, kind, found in parts for row in found]
        self.dropped = sum(row["dropped"] for _, row in answers if "dropped" in row)
        rows = [
            row for kind, row in answers if kind != "daemon" and "failed" not in row and "dropped" not in row
        ]
        own = [row for kind, row in answers if kind == "daemon" and "dropped" not in row]
        return rows, own

    def tasks(self) -> list[TaskState]:
        """Return all tasks that are remembered, the newest last."""
        rows, workers = self._ask("tasks")
        actors, jobs = self._source.directory("actors"), self._source.directory("jobs")
        return merge.tasks(rows, workers, actors, jobs, self._node())

    def task_summaries(self, filters: Iterable[tuple[str, str, Any]] | None = None) -> TaskSummaries:
        """Return the exact number of calls of each function and method in each state.

        Calls that are no longer remembered count, too. ``filters``: those that ``merge.can_be_counted``.
        """
        rows, own = self._ask("counts")
        counts = [row for row in (*rows, *own) if "task_id" not in row and "worker_id" not in row]
        calls = [row for row in rows if "task_id" in row]
        workers = [row for row in own if "worker_id" in row]
        actors, jobs = self._source.directory("actors"), self._source.directory("jobs")
        tasks = merge.tasks(calls, workers, actors, jobs, self._node())
        tasks = merge.select(TaskState, tasks, filters, len(tasks))
        return TaskSummaries.to_summary_by_counts(counts=merge.counted(counts, filters), tasks=tasks)

    def actors(self) -> list[ActorState]:
        """Return all actors, living and remembered."""
        _, workers = self._ask("workers")
        return merge.actors(self._source.directory("actors"), workers, self._source.directory("jobs"))

    def objects(self, object_id: str = "") -> list[ObjectState]:
        """Return the holders of each object, or of the object ``object_id`` only."""
        rows, stored = self._ask(f"objects {object_id}".rstrip())
        silent, dropped = self.silent, self.dropped
        calls, workers = self._ask("tasks")
        self.silent, self.dropped = silent, dropped
        if object_id:
            stored = [row for row in stored if row["object_id"] == object_id]
        return merge.objects(rows, stored, workers, {row["task_id"]: row["attempt"] for row in calls})

    def workers(self) -> list[WorkerState]:
        """Return drivers and workers, with their memory; the ended ones first."""
        tasks = self.tasks()
        silent = self.silent
        _, rows = self._ask("workers")
        _, dead = self._ask("dead")
        self.silent, self.dropped = silent, 0
        found = merge.workers(rows, dead, tasks, self._source.directory("jobs"), self._node())
        for row in found:
            if row.is_alive:
                row.memory = _memory(row.pid)
        return found

    def nodes(self) -> list[NodeState]:
        """Return the machines."""
        return merge.nodes(self._source.directory("nodes"))

    def jobs(self) -> list[JobState]:
        """Return all drivers, running and ended."""
        return merge.jobs(self._source.directory("jobs"), self._node())

    def runtime_envs(self) -> list[RuntimeEnvState]:
        """Return the environments that programs named."""
        return merge.runtime_envs(self._ask("runtime_envs")[1], self._node())

    def placement_groups(self) -> list[PlacementGroupState]:
        """Return all placement groups, also those that were removed lately."""
        return group_rows.placement_groups(self._source.directory("groups"))

    def cluster_events(self) -> list[ClusterEventState]:
        """Return the recent events of the session, the newest last."""
        return merge.cluster_events([*self._ask("events")[1], *self._source.directory("events")])

    def metrics(self) -> list[dict[str, Any]]:
        """Return the metrics that programs recorded: rows of all processes, also of ended ones."""
        rows, ended = self._ask("metrics")
        return [*ended, *rows]

    @property
    def logs(self) -> Path:
        """The folder of the session's logs."""
        return Path(self._source.session_dir, "logs")

    def breakpoints(self) -> list[dict[str, Any]]:
        """Return the threads that stopped at breakpoints, attached to a terminal or not."""
        return self._ask("breakpoints")[1]

    def stacks(self) -> list[tuple[int, str, list[str]]]:
        """Return the stacks of all threads: a pid, a description and the stacks for each process."""
        running = {row.worker_pid: row.name for row in self.tasks() if row.state == "RUNNING"}
        parts, self.silent = self._source.state("stacks")
        names = {row["pid"]: row.get("name") or row["state"].lower()
                 for _, kind, rows in parts if kind == "daemon" for row in rows}  # fmt: skip
        names |= {pid: name for pid, name in running.items() if pid is not None}
        stops = {row["pid"]: row["stops"] for _, kind, rows in parts if kind == "daemon"
                 for row in rows if row.get("stops")}  # fmt: skip
        for pid, places in stops.items():
            names[pid] = f"{names[pid]}, stopped at {' and '.join(places)} (attach: skate debug)"
        return [
            (pid, "driver" if kind == "driver" else names.get(pid, kind), [row["stack"] for row in rows])
            for pid, kind, rows in parts if kind != "daemon"
        ]  # fmt: skip

    def why(self, object_id: str = "") -> list[str]:
        """Return lines that say why an object or the result of a task is not ready yet.

        Without an id they say for which objects the drivers wait.
        """
        parts, silent = self._source.state("waits")
        mute = set(silent)
        rows = [row for _, kind, found in parts if kind != "daemon" for row in found]
        workers = [row for _, kind, found in parts if kind == "daemon" for row in found]
        through = [row for row in self._ask("tasks")[0] if row["state"] in ("FINISHED", "FAILED")]
        stacks = {pid: stacks for pid, _, stacks in self.stacks()}
        store = self.store()
        environments = self._ask("runtime_envs")[1]
        self.silent = silent
        facts = reasons.Facts(
            situation(rows),
            {call["task_id"]: call for row in rows for call in row.get("calls", ())},
            {row["task_id"]: row for row in through},
            {row["worker_id"]: row for row in workers},
            {row["actor_id"]: row for row in self._source.directory("actors")},
            stacks,
            store["available"],
            store["total"],
            environments,
            self.breakpoints(),
            next((one["labels"] for one in self._source.directory("nodes")), {}),
            [graph for row in rows for graph in row.get("graphs", ())],
            mute,
            {row["group_id"]: row for row in self._source.directory("groups")},
            {row["group_id"]: row for row in self._ask("groups")[1]},
            _unseen(silent, sum(row.get("left_out", 0) for row in rows)),
        )
        if object_id:
            return reasons.explain(object_id, facts)
        drivers = [row for _, kind, found in parts if kind == "driver" for row in found if "calls" in row]
        return reasons.explain_drivers(drivers, facts)

    def store(self) -> dict[str, Any]:
        """Return the node's use of object memory, disk and resources."""
        _, rows = self._ask("store")
        return rows[0]

    def _node(self) -> str:
        nodes = self._source.directory("nodes")
        return nodes[0]["node_id"] if nodes else ""


class StateElsewhere(State):
    """The state of a Ray cluster on which this session runs: Ray's own rows, as skate's.

    Args:
        source: the engine.
        rows: returns the cluster's rows of a kind, such as "actors", with attributes by Ray's names.
    """

    def __init__(self, source: Any, rows: Callable[[str], list[Any]]) -> None:
        super().__init__(source)
        self._rows = rows

    def _of(self, kind: type[R], what: str) -> list[R]:
        return [
            kind(**{name: getattr(row, name) for name in kind.columns() if hasattr(row, name)})
            for row in self._rows(what)
        ]

    def tasks(self) -> list[TaskState]:
        """See State."""
        return self._of(TaskState, "tasks")

    def task_summaries(self, filters: Iterable[tuple[str, str, Any]] | None = None) -> TaskSummaries:
        """See State. Ray's rows are counted."""
        tasks = self.tasks()
        return TaskSummaries.to_summary_by_func_name(
            tasks=merge.select(TaskState, tasks, filters, len(tasks))
        )

    def actors(self) -> list[ActorState]:
        """See State."""
        return self._of(ActorState, "actors")

    def objects(self, object_id: str = "") -> list[ObjectState]:
        """See State."""
        return [row for row in self._of(ObjectState, "objects") if object_id in ("", row.object_id)]

    def workers(self) -> list[WorkerState]:
        """See State."""
        return self._of(WorkerState, "workers")

    def nodes(self) -> list[NodeState]:
        """See State."""
        return self._of(NodeState, "nodes")

    def jobs(self) -> list[JobState]:
        """See State."""
        return self._of(JobState, "jobs")

    def runtime_envs(self) -> list[RuntimeEnvState]:
        """See State."""
        return self._of(RuntimeEnvState, "runtime_envs")

    def placement_groups(self) -> list[PlacementGroupState]:
        """See State."""
        return self._of(PlacementGroupState, "placement_groups")

    def cluster_events(self) -> list[ClusterEventState]:
        """See State."""
        return self._of(ClusterEventState, "cluster_events")


@contextmanager
def connected(address: str | None = None) -> Iterator[State]:
    """Yield the state of this process's own session, or of the one at the address."""
    own = cluster.state_source() if address in (None, "auto") else None
    if own is not None:
        listed = getattr(own, "listed", None)
        yield State(own) if listed is None else StateElsewhere(own, listed)
        return
    with cluster.observe(address) as source:
        yield State(source)


def _unseen(silent: list[int], left_out: int) -> str:
    """Return what an answer lacks: silent processes, and calls above the limit; "" if it is complete."""
    found = [f"process {pid} did not answer" for pid in silent]
    if left_out:
        found.append(f"{left_out} more are under way")
    return " and ".join(found)


def _memory(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), None)
