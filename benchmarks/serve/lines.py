"""The table of what is measured, and the bars and goals. How each line is measured stands at its function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

API = ("skate", "ray")
HANDLES = (*API, "ray_haproxy")
FLOOR = ("uvicorn", "uvicorn_uvloop")
ALL = ("skate", *FLOOR, "ray", "ray_haproxy", "litserve", "bentoml")

SESSIONS = ("start", "echo", "paths", "batches", "updates")
"""Lines of one session share a process, and the servers that it starts."""


@dataclass(frozen=True)
class Line:
    """One thing that is measured; `fact` names the figure among its facts that stands for it."""

    name: str
    session: str
    title: str
    systems: tuple[str, ...]
    fact: str
    unit: str
    cpu_fact: str = ""
    """CPU microseconds that are shown beside it."""


LINES: tuple[Line, ...] = (
    Line("cold_start", "start", "from a cold interpreter to the first 200", ALL, "seconds", "s"),
    Line("memory", "echo", "memory of one replica and all that it needs", ALL, "pss_mb", "MB"),
    Line("echo_1", "echo", "JSON echo, 1 connection", ALL, "p50_ms", "ms"),
    Line("echo_8", "echo", "JSON echo, 8 connections", ALL, "p99_ms", "ms"),
    Line("echo_64", "echo", "JSON echo, 64 connections", ALL, "cpu_us", "us"),
    Line(
        "chunks",
        "echo",
        "StreamingResponse, one client",
        ("skate", *FLOOR, "ray", "ray_haproxy"),
        "chunks_per_s",
        "1/s",
    ),
    Line("replicas_2", "echo", "two replicas, 64 connections", ("skate", *FLOOR, "ray"), "times", "x"),
    Line("memory_more", "echo", "memory of each further replica", API, "pss_mb", "MB"),
    Line("slots", "paths", "5 slots, handler of 5 ms: 64 connections against 8", API, "times", "x"),
    Line("echo_default", "paths", "JSON echo, 64 connections, default options", API, "cpu_us", "us"),
    Line("hop", "paths", "ingress to downstream by handle", HANDLES, "added_p50_ms", "ms", "added_cpu_us"),
    Line("actor_1", "paths", "call of a plain actor, one after the other", API, "p50_ms", "ms", "cpu_us"),
    Line("handle_1", "paths", "call of a handle, one after the other", API, "p50_ms", "ms", "cpu_us"),
    Line("handle_8", "paths", "calls of a handle, 8 at once", API, "per_s", "1/s", "cpu_us"),
    Line("handle_64", "paths", "calls of a handle, 64 at once", API, "per_s", "1/s", "cpu_us"),
    Line("handle_stream", "paths", "items streamed by a handle", API, "per_s", "1/s", "cpu_us"),
    Line(
        "batch_fast",
        "batches",
        "batches of 16 in 10 ms, 64 connections",
        ("skate", "uvicorn", "ray", "litserve", "bentoml"),
        "share",
        "%",
    ),
    Line(
        "batch_slow",
        "batches",
        "batches of 16 in 100 ms, 100 requests/s",
        ("skate", "uvicorn", "ray"),
        "p99_ms",
        "ms",
    ),
    Line("redeploy", "updates", "serve.run in a running session", API, "seconds", "s"),
    Line("update", "updates", "rolling update under load", API, "failed", ""),
)
BY_NAME = {line.name: line for line in LINES}


@dataclass(frozen=True)
class Target:
    """What skate must reach (`bar`) and what the state of the art is (`goal`), of one fact of one line.

    `against`: the fact itself, its ratio to the baseline's in the same round, or what it is above that.
    """

    line: str
    fact: str
    title: str
    sense: Literal["at most", "at least"]
    bar: float
    goal: float | None = None
    against: Literal["itself", "ratio", "added"] = "itself"
    unit: str = ""

    def is_met(self, value: float, limit: float) -> bool:
        return value <= limit if self.sense == "at most" else value >= limit

    def words(self, limit: float) -> str:
        sign = "<=" if self.sense == "at most" else ">="
        unit = "x uvicorn" if self.against == "ratio" else self.unit
        return f"{sign} {limit:g} {unit}".rstrip()


BASELINE = "uvicorn"

TARGETS: tuple[Target, ...] = (
    Target("echo_64", "cpu_us", "CPU a request, JSON echo, 64 connections", "at most", 1.3, 1.0, "ratio"),
    Target("echo_64", "rps", "requests/s of one process, 64 connections", "at least", 0.7, 1.0, "ratio"),
    Target("echo_1", "p50_ms", "added p50, 1 connection", "at most", 0.3, 0.05, "added", "ms"),
    Target("echo_8", "p99_ms", "added p99, 8 connections", "at most", 2, 1, "added", "ms"),
    Target("replicas_2", "times", "two replicas against one", "at least", 1.5, 1.8, unit="x"),
    Target("slots", "times", "5 slots: rate of 64 connections to 8", "at least", 0.95, unit="x"),
    Target("slots", "p99_of_ideal", "5 slots: p99 to the ideal, 64 connections", "at most", 2, unit="x"),
    Target("hop", "added_p50_ms", "ingress to downstream, added p50", "at most", 0.4, 0.2, unit="ms"),
    Target("handle_1", "p50_ms", "call of a handle, p50", "at most", 0.3, 0.15, unit="ms"),
    Target("handle_stream", "per_s", "items streamed by a handle", "at least", 20_000, 50_000, unit="/s"),
    Target("chunks", "chunks_per_s", "StreamingResponse, chunks/s", "at least", 0.8, 0.95, "ratio"),
    Target("batch_fast", "share", "batches of 16 in 10 ms: share of 1,600/s", "at least", 90, 95, unit="%"),
    Target("batch_slow", "p99_ms", "batches of 16 in 100 ms at 100/s: p99", "at most", 250, 220, unit="ms"),
    Target("cold_start", "seconds", "cold interpreter to the first 200", "at most", 1.0, 0.5, unit="s"),
    Target("redeploy", "seconds", "serve.run in a running session", "at most", 0.3, 0.1, unit="s"),
    Target("memory", "pss_mb", "memory, one replica and all that it needs", "at most", 120, 80, unit="MB"),
    Target("memory_more", "pss_mb", "memory of each further replica", "at most", 25, 15, unit="MB"),
    Target("update", "failed", "rolling update: failed requests", "at most", 0),
    Target("update", "closed", "rolling update: closed connections", "at most", 0),
    Target("update", "p99_times", "rolling update: p99 during it to before", "at most", 2, unit="x"),
)
