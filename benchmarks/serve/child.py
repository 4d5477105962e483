"""Measures the lines of one session for one system, in a process of its own, under that system's interpreter.

This process is the driver: it starts the servers and the load generators, and counts as neither.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from benchmarks.child import Step, perform
from benchmarks.measure import Sample
from benchmarks.serve import servers
from benchmarks.serve.applications import BATCH, CHUNK, SECONDS, SLOT_S, SLOTS, WINDOW_S
from benchmarks.serve.generator import percentiles
from benchmarks.serve.lines import BY_NAME, SESSIONS
from benchmarks.serve.load import Generators, Load
from benchmarks.serve.meter import ServerMeter

CONNECTIONS = 64
WARM_UP_S = 0.3
FURTHER = 2
"""Further replicas whose memory is measured."""
SLOW_RATE = 100.0
SLOW_CONNECTIONS = 256
UPDATE_CONNECTIONS = 32
UPDATE_LOAD = 0.5
"""Of what two replicas answer: the machine must have room for the processes that start."""
STREAMED = 2000
REDEPLOYS = 5
PATHS = ("echo_default", "slots", "hop", "calls", "echo")


@dataclass
class Task:
    """What this process is asked for, and what it does it with."""

    system: str
    session: str
    lines: tuple[str, ...]
    seconds: float
    meter: ServerMeter
    generators: Generators

    @cached_property
    def server(self) -> Any:
        return servers.server(self.system)

    @property
    def is_api(self) -> bool:
        return isinstance(self.server, servers.ApiServer)

    def load(self, url: str, connections: int, app: str = "echo") -> Load:
        """A closed loop, after a short one that does not count."""
        body = servers.body_of(self.system, app)
        if not self.generators.uses_wrk:
            self.generators.closed(url, connections, min(WARM_UP_S, self.seconds), body)
        return self.generators.closed(url, connections, self.seconds, body)


class Cpu:
    """CPU time of this driver and of the servers since it was made."""

    def __init__(self, meter: ServerMeter) -> None:
        self._meter = meter
        self._servers = meter.mark()
        self._driver = time.process_time()

    def seconds(self) -> float:
        return self._meter.since(self._servers) + time.process_time() - self._driver


Measures = Iterator[tuple[str, Callable[[], Sample]]]
"""Names of lines and what measures them, in order."""


def sample(line: str, facts: dict[str, Any]) -> Sample:
    return Sample(facts[BY_NAME[line].fact], facts)


def cold_start(task: Task) -> Sample:
    """From starting an interpreter to the first 200, as a client sees it."""
    port = servers.free_port()
    command = servers.command(task.system, "echo", port)
    began = time.monotonic()
    process = subprocess.Popen(command)
    try:
        servers.wait_for_200(port, "/", servers.body_of(task.system, "echo"), process)
        took = time.monotonic() - began
    finally:
        servers.end(process)
    return sample("cold_start", {"seconds": took})


def _echo(task: Task) -> Measures:
    one: dict[str, Load] = {}

    def url(app: str = "echo") -> str:
        return str(task.server.urls([app])[0])

    def memory() -> Sample:
        url()
        size, count = task.meter.memory_mb(), len(task.meter.servers())
        idle = task.meter.learn_idle(min(1.0, task.seconds))
        return sample("memory", {"pss_mb": size, "processes": count, "idle_cpus": idle})

    def echo(connections: int) -> Sample:
        line = f"echo_{connections}"
        load = one[line] = task.load(url(), connections)
        return sample(line, {**load.facts(), "percentiles": load.percentiles})

    def chunks() -> Sample:
        where = url("chunks")
        task.generators.counted(where, 1, min(WARM_UP_S, task.seconds), CHUNK)
        load = task.generators.counted(where, 1, task.seconds, CHUNK)
        return sample("chunks", {**load.facts(), "chunks_per_s": load.counted / load.seconds})

    def replicas_2() -> Sample:
        before = one.get("echo_64") or task.load(url(), CONNECTIONS)
        load = task.load(task.server.replicas(2), CONNECTIONS)
        return sample("replicas_2", {**load.facts(), "times": load.rps / before.rps})

    def memory_more() -> Sample:
        task.server.replicas(2)
        before = task.meter.memory_mb()
        task.server.replicas(2 + FURTHER)
        return sample("memory_more", {"pss_mb": (task.meter.memory_mb() - before) / FURTHER})

    yield "memory", memory
    yield "echo_1", lambda: echo(1)
    yield "echo_8", lambda: echo(8)
    yield "echo_64", lambda: echo(CONNECTIONS)
    yield "replicas_2", replicas_2
    yield "memory_more", memory_more
    yield "chunks", chunks


def _paths(task: Task) -> Measures:
    urls = dict(zip(PATHS, task.server.urls(PATHS), strict=True))
    module, serve = task.server.module, task.server.serve
    task.meter.learn_idle(min(1.0, task.seconds))

    def slots() -> Sample:
        few = task.load(urls["slots"], 8)
        many = task.load(urls["slots"], CONNECTIONS)
        ideal_ms = 1000 * SLOT_S * CONNECTIONS / SLOTS
        facts = {
            **many.facts(),
            "times": many.rps / few.rps,
            "rps_8": few.rps,
            "p99_of_ideal": many.percentile(99) / ideal_ms,
        }
        return sample("slots", facts)

    def echo_default() -> Sample:
        return sample("echo_default", task.load(urls["echo_default"], CONNECTIONS).facts())

    def hop() -> Sample:
        alone = task.load(urls["echo"], 1)
        both = task.load(urls["hop"], 1)
        facts = both.facts()
        facts["added_p50_ms"] = both.percentile(50) - alone.percentile(50)
        # With many at once, so that what processes do while they wait does not count.
        facts["cpu_us_64"] = task.load(urls["hop"], CONNECTIONS).facts()["cpu_us"]
        facts["added_cpu_us"] = facts["cpu_us_64"] - task.load(urls["echo"], CONNECTIONS).facts()["cpu_us"]
        return sample("hop", facts)

    def found_of(took: list[float], spent: float, cpu: Cpu) -> dict[str, Any]:
        """Facts of calls that took so many milliseconds."""
        return {
            "per_s": len(took) / spent,
            "p50_ms": statistics.median(took),
            "p99_ms": dict(percentiles(took))[99],
            "cpu_us": 1e6 * cpu.seconds() / len(took),
        }

    def timed(call: Callable[[], Any]) -> dict[str, Any]:
        """One call after the other."""
        call()
        took: list[float] = []
        cpu, first = Cpu(task.meter), time.monotonic()
        while (began := time.monotonic()) < first + task.seconds:
            call()
            took.append(1000 * (time.monotonic() - began))
        return found_of(took, began - first, cpu)

    def actor_1() -> Sample:
        class Plain:
            async def echo(self, value: Any) -> Any:
                return value

        actor = module.remote(Plain).options(num_cpus=0).remote()
        found = timed(lambda: module.get(actor.echo.remote(1)))
        module.kill(actor)
        return sample("actor_1", found)

    def handle_1() -> Sample:
        handle = serve.get_app_handle("calls")
        return sample("handle_1", timed(lambda: handle.remote(1).result()))

    def at_once(count: int) -> Sample:
        handle = serve.get_app_handle("calls")
        took: list[float] = []

        async def client(end: float) -> None:
            while (began := time.monotonic()) < end:
                await handle.remote(1)
                took.append(1000 * (time.monotonic() - began))

        async def run() -> dict[str, Any]:
            await handle.remote(1)
            cpu, began = Cpu(task.meter), time.monotonic()
            await asyncio.gather(*(client(began + task.seconds) for _ in range(count)))
            return found_of(took, time.monotonic() - began, cpu)

        return sample(f"handle_{count}", asyncio.run(run()))

    def handle_stream() -> Sample:
        handle = serve.get_app_handle("calls").options(stream=True)

        def batch(items: int) -> None:
            found = sum(1 for _ in handle.items.remote(items))
            if found != items:
                raise RuntimeError(f"{found} items came of {items}")

        batch(1)
        done, cpu, began = 0, Cpu(task.meter), time.monotonic()
        while (spent := time.monotonic() - began) < task.seconds or not done:
            batch(STREAMED)
            done += STREAMED
        return sample("handle_stream", {"per_s": done / spent, "cpu_us": 1e6 * cpu.seconds() / done})

    yield "slots", slots
    yield "echo_default", echo_default
    yield "hop", hop
    yield "actor_1", actor_1
    yield "handle_1", handle_1
    yield "handle_8", lambda: at_once(8)
    yield "handle_64", lambda: at_once(CONNECTIONS)
    yield "handle_stream", handle_stream


def _batches(task: Task) -> Measures:
    def url(app: str) -> str:
        if task.is_api:
            names = [line for line in task.lines if line in SECONDS]
            return str(dict(zip(names, task.server.urls(names), strict=True))[app])
        return str(task.server.urls([app])[0])

    def batch_fast() -> Sample:
        load = task.load(url("batch_fast"), CONNECTIONS, "batch_fast")
        ideal = BATCH / SECONDS["batch_fast"]
        return sample("batch_fast", {**load.facts(), "share": 100 * load.rps / ideal})

    def batch_slow() -> Sample:
        where = url("batch_slow")
        load = task.generators.open(where, SLOW_CONNECTIONS, 2 * task.seconds, SLOW_RATE)
        return sample("batch_slow", {**load.facts(), "window_ms": 1000 * WINDOW_S})

    yield "batch_fast", batch_fast
    yield "batch_slow", batch_slow


def _updates(task: Task) -> Measures:
    server = task.server
    serve = server.serve

    def redeploy() -> Sample:
        from benchmarks.serve.applications import calls

        server.urls(["echo"])
        took: list[float] = []
        while not took or (sum(took) < task.seconds and len(took) < REDEPLOYS):
            name = f"again{len(took)}"
            began = time.monotonic()
            serve.run(calls(serve), name=name, route_prefix=f"/{name}")
            took.append(time.monotonic() - began)
            serve.delete(name)
        return sample("redeploy", {"seconds": statistics.median(took), "runs": len(took)})

    def update() -> Sample:
        server.echo(replicas=2)
        url = server.urls(["echo"])[0]
        fastest = task.generators.counted(url, UPDATE_CONNECTIONS, max(0.5, task.seconds / 3), "none")
        rate = UPDATE_LOAD * fastest.rps
        running = task.generators.begin_open(url, UPDATE_CONNECTIONS, 300.0, rate)
        time.sleep(task.seconds)
        began = time.monotonic()
        server.echo(replicas=2, version=1)
        ended = time.monotonic()
        time.sleep(min(1.0, task.seconds))
        running.stop()
        load = running.result()
        before = [ms for due, ms in load.timeline if began - task.seconds / 2 <= due < began]
        during = [ms for due, ms in load.timeline if began <= due < ended]
        p99_before, p99_during = dict(percentiles(before))[99], dict(percentiles(during))[99]
        facts = {
            "failed": load.failed,
            "closed": load.closed,
            "requests": load.requests,
            "seconds": ended - began,
            "rate": rate,
            "p99_before_ms": p99_before,
            "p99_during_ms": p99_during,
            "p99_times": p99_during / p99_before,
            "problems": load.problems,
        }
        return sample("update", facts)

    yield "redeploy", redeploy
    yield "update", update


def _measures(task: Task) -> Measures:
    if task.session == "start":
        return iter([("cold_start", lambda: cold_start(task))])
    return {"echo": _echo, "paths": _paths, "batches": _batches, "updates": _updates}[task.session](task)


def _steps(task: Task) -> Iterator[Step]:
    # The server starts with the first line, so that its failure has a name.
    if task.session != "start":
        yield Step("start of the server", lambda: (task.server, None)[1], vital=True)
    for name, measure in _measures(task):
        if name in task.lines:
            yield Step(name, measure)
    if task.session != "start":
        yield Step("stop of the server", task.server.stop)


def main() -> int:
    """Returns 0 whatever became of the single lines."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--system", required=True)
    parser.add_argument("--session", choices=SESSIONS, required=True)
    parser.add_argument("--lines", required=True, help="names, comma-separated")
    parser.add_argument("--seconds", type=float, required=True, help="of load for a line")
    parser.add_argument("--generator", choices=["wrk", "own"], required=True)
    parser.add_argument("--generator-python", required=True)
    parser.add_argument("--mark", required=True)
    parser.add_argument("--report", type=int, required=True, help="an open file descriptor")
    options = parser.parse_args()
    meter = ServerMeter(options.mark)
    generators = Generators(meter, options.generator_python, options.generator == "wrk")
    lines = tuple(options.lines.split(","))
    task = Task(options.system, options.session, lines, options.seconds, meter, generators)
    return perform(_steps(task), options.report)


if __name__ == "__main__":
    raise SystemExit(main())
