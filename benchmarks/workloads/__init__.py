"""What skate and Ray are asked to do. Every function takes the module `ray` or `skate` and works with either.

Remote functions and actor classes are defined inside the functions that use them: as local objects they are
pickled by value, like those of a user's script, and a worker needs no import of this package. They refer to
nothing but builtins and what they import themselves.
"""

from __future__ import annotations

from benchmarks.measure import Workload
from benchmarks.workloads import actors, concurrent, graphs, helpers, objects, scale, spilling, tasks

WORKLOADS: dict[str, dict[str, Workload]] = {
    "tasks": tasks.WORKLOADS,
    "actors": actors.WORKLOADS,
    "objects": objects.WORKLOADS,
    "concurrent": concurrent.WORKLOADS,
    "graphs": graphs.WORKLOADS,
    "helpers": helpers.WORKLOADS,
    "spilling": spilling.WORKLOADS,
    "scale": scale.WORKLOADS,
}
"""By group and line, in the order in which they run; `startup` is a sequence of its own, in `startup.py`."""
