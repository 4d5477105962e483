"""Counts tasks, actors and objects by their kind, in Ray's classes. Decisions only."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Calls below this level are listed beside each other, as readers of the tree recurse.
_MAX_LEVELS = 50


@dataclass
class StateSummary:
    """Summaries by node; of the whole cluster under ``"cluster"``."""

    node_id_to_summary: dict[str, Any]


@dataclass
class TaskSummaryPerFuncOrClassName:
    """The number of calls of one function or method in each state."""

    func_or_class_name: str
    type: str
    state_counts: dict[str, int] = field(default_factory=dict)


@dataclass
class NestedTaskSummary:
    """A task, an actor, or a group of tasks of one name, with the calls that it made."""

    name: str
    key: str
    #: The type of the task; ACTOR; or GROUP.
    type: str
    timestamp: int | None = None
    #: Of itself and of all calls under it.
    state_counts: dict[str, int] = field(default_factory=dict)
    children: list[NestedTaskSummary] = field(default_factory=list)
    #: The task or actor with further facts: ``{"type": "task" or "actor", "id": ...}``.
    link: dict[str, str] | None = None


@dataclass
class TaskSummaries:
    """Counts of tasks."""

    summary: dict[str, TaskSummaryPerFuncOrClassName] | list[NestedTaskSummary]
    total_tasks: int
    total_actor_tasks: int
    total_actor_scheduled: int
    summary_by: str = "func_name"

    @classmethod
    def to_summary_by_func_name(cls, *, tasks: Iterable[Any]) -> TaskSummaries:
        """Return the counts for each function and method. ``tasks``: rows, or dicts of them."""
        summary: dict[str, TaskSummaryPerFuncOrClassName] = {}
        kinds: Counter[str] = Counter()
        for task in tasks:
            name = task["name"] or task["func_or_class_name"]
            entry = summary.setdefault(name, TaskSummaryPerFuncOrClassName(name, task["type"]))
            _count(entry.state_counts, task["state"])
            kinds[task["type"]] += 1
        return cls._of(summary, kinds, "func_name")

    @classmethod
    def to_summary_by_counts(
        cls, *, counts: Iterable[Mapping[str, Any]], tasks: Iterable[Any] = ()
    ) -> TaskSummaries:
        """Return the counts for each function and method, from the counts of processes.

        Args:
            counts: rows of ``name``, ``type``, ``state`` and ``count``.
            tasks: rows of calls that no count includes.
        """
        found = cls.to_summary_by_func_name(tasks=tasks)
        assert isinstance(found.summary, dict)
        kinds: Counter[str] = Counter()
        for row in counts:
            name, state = row["name"], row["state"]
            entry = found.summary.setdefault(name, TaskSummaryPerFuncOrClassName(name, row["type"]))
            entry.state_counts[state] = entry.state_counts.get(state, 0) + row["count"]
            kinds[row["type"]] += row["count"]
        found.total_tasks += kinds["NORMAL_TASK"]
        found.total_actor_tasks += kinds["ACTOR_TASK"]
        return found

    @classmethod
    def to_summary_by_lineage(cls, *, tasks: Iterable[Any], actors: Iterable[Any]) -> TaskSummaries:
        """Return the tree of calls by their callers: calls of one name under one caller are a group."""
        rows = {task["task_id"]: task for task in tasks}
        kinds = Counter(task["type"] for task in rows.values())
        names = {actor["actor_id"]: actor["repr_name"] or actor["class_name"] for actor in actors}
        children: defaultdict[str, list[str]] = defaultdict(list)
        tops: list[str] = []
        for task_id, task in rows.items():
            parent = task["parent_task_id"]
            (children[parent] if parent in rows and parent != task_id else tops).append(task_id)
        return cls._of(_level(tops, rows, _flattened(tops, children), names, ""), kinds, "lineage")

    @classmethod
    def _of(cls, summary: Any, kinds: Mapping[str, int], by: str) -> TaskSummaries:
        return cls(
            summary, kinds["NORMAL_TASK"], kinds["ACTOR_TASK"], kinds["ACTOR_CREATION_TASK"], summary_by=by
        )


def _flattened(tops: list[str], children: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return the calls under each task: its own, and on the lowest level also all calls below those."""
    under: dict[str, list[str]] = {}
    places = [(task_id, task_id, 1) for task_id in tops]
    for task_id, above, depth in places:  # the list grows meanwhile
        for child in children.get(task_id, ()):
            under.setdefault(above, []).append(child)
            places.append((child, child if depth < _MAX_LEVELS else above, depth + (depth < _MAX_LEVELS)))
    return under


def _level(
    task_ids: list[str],
    rows: Mapping[str, Any],
    children: Mapping[str, list[str]],
    names: Mapping[str, str],
    path: str,
) -> list[NestedTaskSummary]:
    """Return the nodes of one level: calls of an actor under the actor, tasks of one name in a group."""
    by_actor: defaultdict[str, list[str]] = defaultdict(list)
    by_name: defaultdict[str, list[str]] = defaultdict(list)
    for task_id in task_ids:
        task = rows[task_id]
        (by_actor[task["actor_id"]] if task["actor_id"] else by_name[task["name"]]).append(task_id)
    found = []
    for actor_id, calls in by_actor.items():
        under = [_node(task_id, rows, children, names, path) for task_id in calls]
        link = {"type": "actor", "id": actor_id}
        name = names.get(actor_id, "actor")
        found.append(_around(name, f"actor:{actor_id}", "ACTOR", _grouped(under, actor_id), link))
    for name, tasks in by_name.items():
        under = [_node(task_id, rows, children, names, path) for task_id in tasks]
        found += under if len(under) == 1 else [_around(name, f"{path}{name}", "GROUP", under, None)]
    return sorted(found, key=_urgency)


def _grouped(nodes: list[NestedTaskSummary], path: str) -> list[NestedTaskSummary]:
    """Put nodes of one name under one node."""
    by_name: defaultdict[str, list[NestedTaskSummary]] = defaultdict(list)
    for node in nodes:
        by_name[node.name].append(node)
    return [
        same[0] if len(same) == 1 else _around(name, f"{path}/{name}", "GROUP", same, None)
        for name, same in by_name.items()
    ]


def _node(
    task_id: str,
    rows: Mapping[str, Any],
    children: Mapping[str, list[str]],
    names: Mapping[str, str],
    path: str,
) -> NestedTaskSummary:
    task = rows[task_id]
    under = _level(children.get(task_id, []), rows, children, names, f"{path}{task_id}/")
    node = _around(task["name"], task_id, task["type"], under, {"type": "task", "id": task_id})
    _count(node.state_counts, task["state"])
    node.timestamp = task["creation_time_ms"]
    return node


def _around(
    name: str, key: str, kind: str, under: list[NestedTaskSummary], link: dict[str, str] | None
) -> NestedTaskSummary:
    counts: Counter[str] = Counter()
    for one in under:
        counts.update(one.state_counts)
    times = [one.timestamp for one in under if one.timestamp is not None]
    return NestedTaskSummary(name, key, kind, min(times, default=None), dict(counts), under, link)


def _urgency(node: NestedTaskSummary) -> tuple[int, int, int]:
    """Return a key that sorts nodes with running calls first, then those with failed ones, then by time."""
    counts = node.state_counts
    return -counts.get("RUNNING", 0), -counts.get("FAILED", 0), node.timestamp or 0


@dataclass
class ActorSummaryPerClass:
    """The number of actors of one class in each state."""

    class_name: str
    state_counts: dict[str, int] = field(default_factory=dict)


@dataclass
class ActorSummaries:
    """Counts of actors."""

    summary: dict[str, ActorSummaryPerClass]
    total_actors: int
    summary_by: str = "class"

    @classmethod
    def to_summary(cls, *, actors: Iterable[Any]) -> ActorSummaries:
        """Return the counts for each class."""
        summary: dict[str, ActorSummaryPerClass] = {}
        total = 0
        for actor in actors:
            entry = summary.setdefault(actor["class_name"], ActorSummaryPerClass(actor["class_name"]))
            _count(entry.state_counts, actor["state"])
            total += 1
        return cls(summary, total)


@dataclass
class ObjectSummaryPerKey:
    """The objects that one line of code made and that are still held."""

    total_objects: int = 0
    total_size_mb: float = 0.0
    #: The number of processes that own some of them.
    total_num_workers: int = 0
    total_num_nodes: int = 0
    task_state_counts: dict[str, int] = field(default_factory=dict)
    task_attempt_number_counts: dict[str, int] = field(default_factory=dict)
    ref_type_counts: dict[str, int] = field(default_factory=dict)


@dataclass
class ObjectSummaries:
    """Counts of objects."""

    summary: dict[str, ObjectSummaryPerKey]
    total_objects: int
    total_size_mb: float
    #: Whether the places where objects were made are recorded.
    callsite_enabled: bool
    summary_by: str = "callsite"

    @classmethod
    def to_summary(cls, *, objects: Iterable[Any]) -> ObjectSummaries:
        """Return the objects that each line of code made and that are still held, the most bytes first.

        Objects count at their owner, once each; handles of actors do not count.
        """
        summary: defaultdict[str, ObjectSummaryPerKey] = defaultdict(ObjectSummaryPerKey)
        pids: defaultdict[str, set[int]] = defaultdict(set)
        nodes: defaultdict[str, set[str]] = defaultdict(set)
        known = False
        for row in objects:
            known = known or bool(row["call_site"])
            if not row["owned"] or row["reference_type"] == "ACTOR_HANDLE":
                continue
            site = row["call_site"] or "(not known)"
            entry = summary[site]
            entry.total_objects += 1
            entry.total_size_mb += (row["object_size"] or 0) / 1e6
            _count(entry.ref_type_counts, row["reference_type"])
            _count(entry.task_state_counts, row["task_status"])
            _count(entry.task_attempt_number_counts, str(row["attempt_number"]))
            pids[site].add(row["pid"])
            nodes[site].add(row["ip"])
        for site, entry in summary.items():
            entry.total_num_workers, entry.total_num_nodes = len(pids[site]), len(nodes[site])
        ordered = dict(sorted(summary.items(), key=lambda item: -item[1].total_size_mb))
        return cls(
            ordered,
            sum(entry.total_objects for entry in ordered.values()),
            sum(entry.total_size_mb for entry in ordered.values()),
            known,
        )


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1
