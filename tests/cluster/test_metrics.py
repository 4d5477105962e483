"""Metrics of drivers, tasks and actors, put together; also of processes that ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import skate
from skate._worker.reporting.metrics import registry
from skate.api import RayContext as Session
from skate.util.metrics import Counter, Gauge, Histogram
from skate.util.state import list_workers

from .waiting import wait_for


@pytest.fixture(autouse=True)
def nothing_recorded_before() -> Iterator[None]:
    registry.__init__()  # type: ignore[misc]  # what other tests of this process recorded
    yield
    registry.__init__()  # type: ignore[misc]


def page(session: Session) -> list[str]:
    made = subprocess.run(
        [sys.executable, "-m", "skate", "metrics", "--address", session["session_dir"]],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return made.stdout.splitlines()


def test_counts_of_all_processes_are_added_up(session: Session) -> None:
    done = Counter("done", description="What is done", tag_keys=("by",))
    waiting = Gauge("waiting")

    @skate.remote
    def work(n: int) -> None:
        done.inc(n, {"by": "task"})  # it came along with the function

    @skate.remote
    class Actor:
        def __init__(self) -> None:
            self.took = Histogram("took", boundaries=[1, 10])

        def work(self, seconds: float) -> str:
            self.took.observe(seconds)
            waiting.set(seconds)
            done.inc(tags={"by": "actor"})
            return skate.get_runtime_context().get_worker_id()

    actors = [Actor.remote() for _ in range(2)]
    skate.get([work.remote(n) for n in (1, 2, 3)])
    workers = skate.get([actor.work.remote(5 * index) for index, actor in enumerate(actors)])
    done.inc(10, {"by": "driver"})
    lines = page(session)
    assert "# HELP ray_done_total What is done" in lines
    assert [line for line in lines if line.startswith("ray_done_total")] == [
        'ray_done_total{by="actor"} 2', 'ray_done_total{by="driver"} 10', 'ray_done_total{by="task"} 6'
    ]  # fmt: skip
    assert [
        f'ray_waiting{{WorkerId="{worker}"}} {5 * index}' in lines for index, worker in enumerate(workers)
    ]
    assert 'ray_took_bucket{le="1"} 1' in lines and 'ray_took_bucket{le="10"} 2' in lines


def test_what_a_process_counted_outlives_it(session: Session) -> None:
    done = Counter("done")

    @skate.remote
    class Actor:
        def work(self) -> int:
            done.inc(3)
            return os.getpid()

        def stop(self) -> None:
            skate.actor.exit_actor()

    actor: Any = Actor.remote()
    process = skate.get(actor.work.remote())
    with pytest.raises(skate.exceptions.ActorDiedError):
        skate.get(actor.stop.remote())
    wait_for(
        lambda: list_workers(filters=[("pid", "=", process), ("is_alive", "=", False)]),
        "the end of the actor",
    )
    assert "ray_done_total 3" in page(session)
    another: Any = Actor.remote()
    skate.get(another.work.remote())
    assert "ray_done_total 6" in page(session)


def test_metrics_without_a_session() -> None:
    Counter("early").inc()
    skate.init(num_cpus=1)
    try:
        context = skate.get_runtime_context()
        path = f"{context.get_temp_dir()}/{context.get_session_name()}"
        assert page({"session_dir": path}) == ["# TYPE ray_early_total counter", "ray_early_total 1"]  # type: ignore[arg-type]
    finally:
        skate.shutdown()
