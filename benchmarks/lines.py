"""The table of what is measured. How each line is measured stands at its workload, in its docstring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from benchmarks.workloads.scale import COUNTS

Group = Literal[
    "startup", "tasks", "actors", "objects", "concurrent", "graphs", "helpers", "spilling", "scale"
]
GROUPS: tuple[Group, ...] = get_args(Group)
"""Lines of one group share one fresh runtime; groups run in this order."""

APART: tuple[Group, ...] = ("scale",)
"""Groups whose lines have a fresh runtime each, and ten times as long until they count as hung."""

SYSTEMS = {
    "skate": "skate",
    "ray": "Ray",
    "pool": "process pool",
    "bare": "bare calls",
}
"""The last two are what `baselines` holds: pools of processes without a cluster, and plain system calls."""


@dataclass(frozen=True)
class TimesRay:
    """skate is at least `factor` times better than Ray in the same run (faster, or smaller)."""

    factor: float


@dataclass(frozen=True)
class AtMost:
    """skate's value, in the unit of the line, is no larger."""

    value: float


@dataclass(frozen=True)
class AtLeast:
    """skate's value, in the unit of the line, is no smaller."""

    value: float


@dataclass(frozen=True)
class Fraction:
    """skate's value is at least `part` of what `system` showed on `line` in the same run."""

    part: float
    system: str
    line: str
    called: str


@dataclass(frozen=True)
class Flat:
    """skate's value is at most `factor` times what it showed on `line` in the same run."""

    factor: float
    line: str
    called: str


Target = TimesRay | AtMost | AtLeast | Fraction | Flat


@dataclass(frozen=True)
class Line:
    """One row of the table. `baselines` are the systems beside skate and Ray that measure it too."""

    name: str
    title: str
    unit: str
    group: Group
    targets: tuple[Target, ...] = (TimesRay(5),)
    better: Literal["higher", "lower"] = "higher"
    baselines: tuple[str, ...] = ()
    compared: bool = True
    """False for a yardstick that is no property of the runtimes, such as memcpy: it has no ratio."""

    alone: bool = False
    """True for what only skate has."""

    def systems(self) -> tuple[str, ...]:
        return ("skate",) if self.alone else ("skate", "ray", *self.baselines)

    def factor_over_ray(self) -> float | None:
        """The target as a multiple of Ray, if it has one."""
        return next((target.factor for target in self.targets if isinstance(target, TimesRay)), None)

    def times_better(self, mine: float, other: float) -> float:
        """How many times better `mine` is than `other`, whichever direction is better here."""
        return mine / other if self.better == "higher" else other / mine


def _scale(kind: str, title: str) -> tuple[Line, ...]:
    """Lines of one kind of work, from little to much. Ray is asked for no more than 100,000."""
    least = f"scale_{kind}_10k"
    return tuple(
        Line(
            f"scale_{kind}_{name}",
            f"{title}, {count:,}",
            "us, bytes",
            "scale",
            () if count == 10_000 else (Flat(1.15, least, "10,000"),),
            better="lower",
            alone=count > 100_000,
        )
        for name, count in COUNTS.items()
    )


LINES: tuple[Line, ...] = (
    Line("import_time", "import", "ms", "startup", better="lower"),
    Line("init", "init", "ms", "startup", better="lower"),
    Line("first_task", "first task after init", "ms", "startup", better="lower"),
    Line(
        "init_first_task",
        "init + first task",
        "ms",
        "startup",
        (TimesRay(20),),
        better="lower",
        baselines=("pool",),
    ),
    Line(
        "inline_first_task",
        "import + init + first task, in-process",
        "ms",
        "startup",
        (AtMost(50),),
        better="lower",
        compared=False,
        alone=True,
    ),
    Line("idle_memory", "idle memory (PSS, 2 warm workers)", "MB", "startup", (AtMost(60),), better="lower"),
    Line("shutdown", "shutdown", "ms", "startup", better="lower"),
    Line("tasks_sync", "tasks, one by one", "/s", "tasks", (TimesRay(20),), baselines=("pool",)),
    Line("tasks_pipelined", "tasks, pipelined", "/s", "tasks", (TimesRay(15),), baselines=("pool",)),
    Line("nested_tasks", "tasks from 4 callers", "/s", "tasks"),
    Line("chain", "chain of 500 dependent tasks", "/s", "tasks", (TimesRay(12),)),
    Line("arg_ref_1mib", "tasks with a 1 MiB argument, by ref", "/s", "tasks"),
    Line("arg_value_1mib", "tasks with a 1 MiB argument, by value", "/s", "tasks", baselines=("pool",)),
    Line("return_1mib", "tasks that return 1 MiB", "/s", "tasks", baselines=("pool",)),
    Line("wait", "1,000 tasks, wait one by one", "/s", "tasks", (TimesRay(12),)),
    Line("wait_ready", "wait one by one, 1,000 ready refs", "/s", "tasks"),
    Line("actor_sync", "actor calls, one by one", "/s", "actors", (TimesRay(12),), baselines=("bare",)),
    Line(
        "actor_pipelined",
        "actor calls, pipelined",
        "/s",
        "actors",
        (TimesRay(15), Fraction(0.3, "bare", "actor_pipelined", "the bare loop")),
        baselines=("bare",),
    ),
    Line("actors_nn", "actor calls, 4 callers to 4 actors", "/s", "actors"),
    Line("actor_lifecycle", "actors created, called, killed", "/s", "actors", (AtLeast(150),)),
    Line("put_100mib_cold", "put 100 MiB, first ever", "GB/s", "objects"),
    Line(
        "put_100mib_warm",
        "put 100 MiB, warm",
        "GB/s",
        "objects",
        (Fraction(0.6, "skate", "memcpy_100mib", "memcpy"),),
    ),
    Line("memcpy_100mib", "(memcpy 100 MiB)", "GB/s", "objects", (), compared=False),
    Line("get_100mib", "get 100 MiB", "/s", "objects"),
    Line("put_small", "put, small", "/s", "objects", (TimesRay(30),)),
    Line("get_small", "get, small", "/s", "objects", (TimesRay(10),)),
    Line("put_1mib", "put 1 MiB", "/s", "objects", (TimesRay(6),)),
    Line("get_1mib", "get 1 MiB", "/s", "objects", (TimesRay(6),)),
    Line("refs_10k", "put and get an object of 10,000 refs", "ms", "objects", better="lower"),
    Line("async_sync", "async actor calls, one by one", "/s", "concurrent", (TimesRay(10),)),
    Line("async_pipelined", "async actor calls, pipelined", "/s", "concurrent", (TimesRay(15),)),
    Line("async_gather", "async actor calls, gathered by asyncio", "/s", "concurrent", (TimesRay(15),)),
    Line("threaded_sync", "threaded actor calls, one by one", "/s", "concurrent"),
    Line("threaded_pipelined", "threaded actor calls, pipelined", "/s", "concurrent"),
    Line("generator", "items of a streaming generator", "/s", "concurrent"),
    Line("called_chain", "actor calls, chain of 3", "/s", "graphs"),
    Line("compiled_sync", "compiled graph of 1 actor", "/s", "graphs", (TimesRay(1),)),
    Line("compiled_chain", "compiled graph, chain of 3", "/s", "graphs", (TimesRay(1),)),
    Line("compiled_pipelined", "compiled chain of 3, 10 in flight", "/s", "graphs", (TimesRay(1),)),
    Line("queue_put", "Queue.put", "/s", "helpers", (TimesRay(10),)),
    Line("queue_get", "Queue.get", "/s", "helpers", (TimesRay(10),)),
    Line(
        "pool_map",
        "Pool.map of 100,000 items",
        "/s",
        "helpers",
        (TimesRay(5), Fraction(1.0, "pool", "pool_map", "multiprocessing.Pool")),
        baselines=("pool",),
    ),
    Line(
        "joblib",
        "joblib, 5,000 calls",
        "/s",
        "helpers",
        (Fraction(0.8, "pool", "joblib", "joblib's own processes"),),
        baselines=("pool",),
    ),
    Line(
        "spill",
        "put 1 GiB into a full store",
        "GB/s",
        "spilling",
        (Fraction(0.8, "bare", "spill", "plain file writes"),),
        baselines=("bare",),
    ),
    Line("restore", "get 1 GiB that was spilled", "GB/s", "spilling", baselines=("bare",)),
    *_scale("tasks", "tasks at once"),
    *_scale("calls", "actor calls at once"),
    *_scale("puts", "puts, refs held"),
    *_scale("gets", "refs in one get"),
    *_scale("freed", "puts after results were freed"),
)

BY_NAME = {line.name: line for line in LINES}
