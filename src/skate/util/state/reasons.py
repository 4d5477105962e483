"""Explains why a call is not done yet, from the answers of a session's processes. Decisions only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from skate._base.resources import describe, fits, to_fixed
from skate._base.waits import Graph, Situation, Wait, constructor, maker
from skate._scheduling import requirements
from skate._scheduling.labels import NODE_ID
from skate._scheduling.placement import Infeasible, NodeView, place
from skate.util.state import graph_reasons, group_reasons

Plain = dict[str, Any]

#: How many calls are explained of those for which one call waits.
_MAX_SHOWN = 3
_MUTE = "does not answer: it is stopped, or in C code that holds the interpreter"
#: How many levels of waits are explained.
_MAX_LEVELS = 8


class Facts(NamedTuple):
    """The facts of a session at this moment."""

    situation: Situation
    #: Rows of unfinished calls by task id (see ``_worker.reporting.waits``), and of finished ones.
    calls: Mapping[str, Plain]
    finished: Mapping[str, Plain]
    #: The daemon's rows of workers, and the control store's of actors, by their ids.
    workers: Mapping[str, Plain]
    actors: Mapping[str, Plain]
    #: Process id to the stacks of its threads.
    stacks: Mapping[int, Sequence[str]]
    #: Resources by name.
    free: Mapping[str, float]
    total: Mapping[str, float]
    #: The daemon's rows of environments.
    environments: Sequence[Plain] = ()
    #: The daemon's rows of threads that stopped at a breakpoint.
    stops: Sequence[Plain] = ()
    #: The node's labels.
    labels: Mapping[str, str] = {}
    #: Rows of the members of compiled graphs.
    graphs: Sequence[Plain] = ()
    #: Processes that do not answer; their stacks may still be known.
    silent: Collection[int] = ()
    #: Rows of placement groups by id: the control store's, and the node's.
    groups: Mapping[str, Plain] = {}
    reserved: Mapping[str, Plain] = {}
    #: A description of the missing answers, among which the call may be; "" if none is missing.
    unseen: str = ""


def explain_drivers(drivers: Sequence[Plain], facts: Facts) -> list[str]:
    """Return lines that say for which objects the drivers wait, or list the running calls if none waits.

    Args:
        drivers: their rows (see ``_worker.reporting.waits.WaitReport.snapshot``).
    """
    story = _Story(facts)
    lines: list[str] = []
    for row in drivers:
        who = f"driver {row['pid']}"
        for wait in row["waits"]:
            certain = "" if wait["certain"] else " (with a timeout)"
            lines.append(f"{who} has waited {_seconds(wait['seconds'])} at {wait['where']}{certain} for:")
            lines += story.others(map(maker, wait["objects"]), 0)
        for graph in row["graphs"]:
            oldest = graph_reasons.oldest(graph)
            if oldest:
                lines += [f"{who} has begun:", *_indented(explain(oldest, facts))]
    if lines:
        return lines
    calls = sorted((call for row in drivers for call in row["calls"]), key=lambda call: -call["seconds"])
    if not calls:
        return ["no driver waits for an object, and no call is under way"]
    return ["no driver waits for an object; under way:", *story.others([one["task_id"] for one in calls], 0)]


def explain(object_id: str, facts: Facts) -> list[str]:
    """Return lines that say why an object is not ready yet.

    Args:
        object_id: of the object, or of the task that makes it; in hex. Or an execution of a compiled graph.
    """
    if graph_reasons.is_name(object_id):
        return graph_reasons.explain(object_id, facts.graphs, facts.stacks)
    task = object_id if len(object_id) < 32 else maker(object_id)
    return _Story(facts).task(task, 0)


class _Story:
    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._graph = Graph(facts.situation)
        self._explained: set[str] = set()

    def task(self, task: str, depth: int) -> list[str]:
        """Explain one call, and the calls for which it waits."""
        indent = "  " * depth
        row = self._facts.calls.get(task)
        if row is None:
            return [indent + self._not_under_way(task)]
        name = row["name"]
        if task in self._explained:
            return [f"{indent}{name} (see above)"]
        self._explained.add(task)
        called = f"{name} was called {_ago(row['seconds'])}{' at ' + row['site'] if row['site'] else ''}"
        if depth >= _MAX_LEVELS:
            return [f"{indent}{called}; it waits for more than is shown here"]
        lines = self._state(task, row, depth)
        return [f"{indent}{called}; {lines[0]}", *lines[1:]]

    def _not_under_way(self, task: str) -> str:
        row = self._facts.finished.get(task)
        if row is None and self._facts.unseen:
            return f"it is none of the calls looked at; {self._facts.unseen}"
        if row is None:
            return (
                "no unfinished task makes it: it was put(), is an item of a generator, or its task finished "
                "long ago"
            )
        if row["state"] == "FAILED":
            error = row.get("error_type") or "an error"
            return f"{row['name']} has finished: it failed ({error}); get() raises the error"
        return f"{row['name']} has finished: its value is ready"

    def _state(self, task: str, row: Plain, depth: int) -> list[str]:
        """Return the reason of a call's wait; the first line continues the line with its name."""
        if row["worker"]:
            return self._at_worker(task, row, depth)
        if row["needs"]:
            return ["it waits for its arguments:", *self.others(map(maker, row["needs"]), depth)]
        if row["actor"]:
            return self._for_actor(row, depth)
        preparing = self._for_environment(lambda one: one["key"] == row["environment"])
        if preparing:
            return [preparing]
        first, *more = self._for_resources(row["resources"], row.get("requirement", ""))
        return [first, *("  " * depth + line for line in more)]

    def others(self, tasks: Iterable[str], depth: int) -> list[str]:
        """Explain the first few of several calls, one level deeper."""
        wanted = list(dict.fromkeys(tasks))
        lines = [line for task in wanted[:_MAX_SHOWN] for line in self.task(task, depth + 1)]
        if len(wanted) > _MAX_SHOWN:
            lines.append("  " * (depth + 1) + f"and {len(wanted) - _MAX_SHOWN} more")
        return lines

    def _at_worker(self, task: str, row: Plain, depth: int) -> list[str]:
        worker = self._facts.workers.get(row["worker"], {})
        pid = worker.get("pid", 0)
        lane = self._graph.queued.get(task)
        if task in self._graph.running:
            return self._runs(task, row, pid, depth)
        if lane is not None:
            ahead = lane.queued.index(task)
            behind = f", and behind {ahead} more" if ahead else ""
            first = f"it is queued in process {pid} behind what runs there{behind}:"
            return [first, *self.others(lane.running, depth)]
        if self._is_mute(pid):
            return [f"it was sent to process {pid}, which {_MUTE}", *self._stacks(pid, depth + 1)]
        begun = worker.get("begun")
        if begun is not None and _task(*begun) != task and _task(*begun) in self._facts.calls:
            return [
                f"it was sent ahead to process {pid}, which still runs:",
                *self.others([_task(*begun)], depth),
            ]
        return [f"it is on its way to or from process {pid}"]

    def _runs(self, task: str, row: Plain, pid: int, depth: int) -> list[str]:
        lines = [f"it runs in process {pid}"]
        for stop in self._facts.stops:
            if stop["task_id"] == task:
                what = "a breakpoint" if stop["kind"] == "breakpoint" else "an exception"
                return [
                    f"it is stopped at {what} in {stop['where']} (process {pid}); attach with `skate debug`"
                ]
        waits = self._graph.waits.get(task, ())
        for wait in waits:
            lines += self._wait(wait, depth)
        if not waits:
            lines += self._stacks(pid, depth + 1)
        return lines

    def _is_mute(self, pid: int) -> bool:
        return pid in self._facts.silent or pid not in self._facts.stacks

    def _stacks(self, pid: int, depth: int) -> list[str]:
        stacks = self._facts.stacks.get(pid, ())
        return ["  " * depth + line for stack in stacks for line in stack.rstrip().splitlines()]

    def _wait(self, wait: Wait, depth: int) -> list[str]:
        indent = "  " * (depth + 1)
        limit = "" if wait.certain else " (with a timeout)"
        first = f"{indent}it has waited {_seconds(wait.seconds)} at {wait.where}{limit} for:"
        return [first, *self.others(map(maker, wait.objects), depth + 1)]

    def _for_actor(self, row: Plain, depth: int) -> list[str]:
        indent = "  " * (depth + 1)
        actor = self._facts.actors.get(row["actor"])
        if actor is None:
            return ["it waits for its actor, which this session does not know (any more)"]
        state = actor["state"]
        if state == "ALIVE":
            return ["it waits behind earlier calls of its actor, whose arguments are not ready"]
        cause = f" ({actor['death_cause']})" if actor.get("death_cause") else ""
        lines = [f"it waits for its actor {actor['class_name']}, which is {state}{cause}"]
        preparing = self._for_environment(lambda one: row["actor"] in one["actors"])
        if preparing:
            return [*lines, indent + preparing]
        if state in ("PENDING_CREATION", "RESTARTING"):
            for host in self._facts.workers.values():
                if host.get("actor_id") == row["actor"] and host.get("state") != "DEAD":
                    return [*lines, *self._constructs(host, row, depth + 1)]
            needed = to_fixed(actor["placement"])
            if fits(needed, to_fixed(self._facts.total)):  # a running actor may need less
                needed = to_fixed(actor["required_resources"])
            found = self._for_resources(needed, actor.get("requirement", ""), "the actor")
            lines += [f"{indent}{line}" for line in found]
        return lines

    def _constructs(self, host: Plain, row: Plain, depth: int) -> list[str]:
        """Explain the constructor of an actor that has its process."""
        indent, pid = "  " * depth, host["pid"]
        call = constructor(host["worker_id"])
        if self._is_mute(pid):
            return [f"{indent}process {pid} has it, and {_MUTE}", *self._stacks(pid, depth + 1)]
        _, *more = self._runs(call, row, pid, depth)
        return [f"{indent}its constructor runs in process {pid}{':' if more else ''}", *more]

    def _for_environment(self, is_its: Callable[[Plain], bool]) -> str:
        """Return that an environment is not ready, or ""."""
        for one in self._facts.environments:
            if one["state"] == "preparing" and is_its(one):
                fields = ", ".join(sorted(one["runtime_env"]))
                return f"its environment ({fields}) is being prepared; the output of that is in {one['log']}"
        return ""

    def _for_resources(self, needed: Mapping[str, int], requirement: str, who: str = "it") -> list[str]:
        free, total = to_fixed(self._facts.free), to_fixed(self._facts.total)
        labels = self._facts.labels
        here = NodeView(labels.get(NODE_ID, ""), labels, total, free)
        wanted = requirements.decode(bytes.fromhex(requirement))
        if wanted is not None and wanted.group:
            group = wanted.group.hex()
            known, reserved = self._facts.groups.get(group), self._facts.reserved.get(group)
            return group_reasons.explain(
                known, reserved, wanted.bundle, needed, (free, total), self._holders, who
            )
        found = place(wanted, needed, [here])
        if isinstance(found, Infeasible):
            return [f"{who} waits until that changes: {found.reason}"]
        needs = describe(needed) if needed else "no resources, only a process"
        if not fits(needed, total):
            has = describe(_only(total, needed))
            return [f"{who} needs {needs}, and the node has {has} in all: it waits until that changes"]
        if fits(needed, free):
            return [f"{who} needs {needs}, which is free: a process is being started for it"]
        first = (
            f"{who} waits for resources: it needs {needs}; free are {describe(_only(free, needed))}. Held by:"
        )
        return [first, *self._holders(needed, ())]

    def _holders(self, needed: Mapping[str, int], bundles: Collection[tuple[str, int]]) -> list[str]:
        """Return what holds some of these resources: of bundles, or (of none) of the node."""
        lines = []
        for worker in self._facts.workers.values():
            group, index = worker.get("place") or ("", -1)
            if (group, index) not in bundles if bundles else group:
                continue
            held = {
                name: amount for name, amount in worker.get("resources", {}).items() if to_fixed({name: 1})
            }
            if any(name in needed for name in held):
                begun = worker.get("begun")
                running = self._facts.calls.get(_task(*begun)) if begun else None
                what = running["name"] if running else worker.get("name") or "an idle lease"
                lines.append(f"  {what} in process {worker['pid']}: {describe(to_fixed(held))}")
        for one in self._facts.groups.values() if not bundles else ():
            has = {name: units for name, units in group_reasons.sum_of(one).items() if name in needed}
            if has and one["state"] == "CREATED":
                lines.append(f"  {group_reasons.called(one)}: {describe(has)}")
        return lines


def _indented(lines: Sequence[str]) -> list[str]:
    return ["  " + line for line in lines]


def _only(amounts: Mapping[str, int], names: Mapping[str, int]) -> dict[str, int]:
    return {name: amounts.get(name, 0) for name in names}


def _task(owner: str, seq: int) -> str:
    return owner + seq.to_bytes(6, "big").hex()


def _ago(seconds: float) -> str:
    return f"{_seconds(seconds)} ago"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
