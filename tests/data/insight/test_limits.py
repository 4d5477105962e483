"""What limits an execution is named, and the time of each process adds up to all of it."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import numpy as np
import pytest

import skate.data
from skate.data._exec.commands import StartReplica
from skate.data._exec.work import Report
from skate.data._insight.limits import Why, why
from skate.data._insight.shares import KINDS, TimeShares


def every_share(found: Why) -> list[TimeShares]:
    """Return all shares that an answer has."""
    replicas = [shares for stage in found.stages for shares in stage.replicas.values()]
    return [found.program, *found.workers.values(), *replicas, *(stage.shares for stage in found.stages)]


def check_shares(found: Why) -> None:
    """Check that all shares of an answer add up to all of a time, also as they are shown."""
    for shares in every_share(found):
        assert sum(shares.as_data().values()) == pytest.approx(1.0)
        assert min(shares.as_data().values()) >= 0
        assert sum(shares.percentages().values()) == 100


# ------------------------------------------------------------------------------- made-up figures


def test_a_busy_pool_is_named(run: Any) -> None:
    run.replica(0, 0.0, 1.0)
    run.task(0, 0.0, 1.0, read=0.9)
    run.task(2, 1.0, 9.5, replica=0, run=8.4, cpu=8.0)
    run.end(10.0)
    found = why(run.stats)
    assert (found.limit, found.stage) == ("pool", "Embed")
    assert "Embed limits: its replica worked 94% of the time" in found.text
    assert "More replicas would help" in found.text
    [replica] = found.stages[-1].replicas.values()
    assert replica.loading == pytest.approx(0.1)
    assert replica.running == pytest.approx(0.84)
    check_shares(found)


def test_replicas_that_wait_rather_than_compute_are_said_to(run: Any) -> None:
    run.replica(0, 0.0, 0.1)
    run.replica(1, 0.0, 0.1)
    for replica in (0, 1):
        run.task(2, 0.1, 9.9, replica=replica, run=9.7, cpu=0.2)
    run.end(10.0)
    found = why(run.stats)
    assert (found.limit, found.stage) == ("pool", "Embed")
    assert "its 2 replicas" in found.text
    assert "needed a CPU for 2% of that" in found.text


def test_replicas_without_work_are_told(run: Any) -> None:
    run.replica(0, 0.0, 0.1)
    run.replica(1, 0.0, 0.1)
    run.task(2, 0.1, 9.9, replica=0)
    run.end(10.0)
    found = why(run.stats)
    assert "1 of its 2 replicas worked 99% of the time" in found.text
    assert "1 had nothing to do: the rows came in 1 task" in found.text
    assert found.stages[0].idle_replicas == (1,)


def test_the_cpus_are_named_with_the_stage_that_takes_most(run: Any) -> None:
    run.task(1, 0.0, 9.5, pid=1, run=9.5, cpu=9.4)
    run.task(0, 0.0, 5.0, pid=2, read=5.0, cpu=4.9)
    run.task(1, 5.0, 9.9, pid=2, run=4.8, cpu=4.8)
    run.end(10.0)
    found = why(run.stats)
    assert (found.limit, found.stage) == ("cpus", "Decode")
    check_shares(found)


def test_other_work_on_the_machine_is_told(run: Any) -> None:
    for pid in (1, 2):
        run.task(0, 0.0, 9.9, pid=pid, run=9.9, cpu=4.9, queued=4.9)
    run.end(10.0)
    found = why(run.stats)
    assert (found.limit, found.stage) == ("cpus", "Read")
    assert "Another 49% it waited for one" in found.text


def test_tasks_that_wait_for_something_are_named(run: Any) -> None:
    for pid in (1, 2):
        run.task(0, 0.1, 9.8, pid=pid, read=9.7, cpu=0.1)
    run.end(10.0)
    found = why(run.stats)
    assert (found.limit, found.stage) == ("tasks", "Read")
    assert "Read limits: the workers were busy with it for 98% of the time" in found.text
    assert "needed a CPU for 1% of its time" in found.text


def test_the_consumer_and_the_driver_are_named(run: Any) -> None:
    run.task(0, 0.0, 1.0, pid=1)
    run.stats.consumer_s = 9.0
    run.end(10.0, waited=1.0)
    assert why(run.stats).limit == "consumer"
    run.stats.consumer_s = 0.0
    assert why(run.stats).limit == "driver"
    check_shares(why(run.stats))


def test_a_start_is_named(run: Any) -> None:
    run.replica(0, 0.0, 8.0)
    run.task(2, 8.0, 9.9, replica=0)
    run.end(10.0)
    found = why(run.stats)
    assert found.limit == "start"
    assert "80% of 10.00 s" in found.text


def test_what_runs_is_told_before_it_ends(run: Any) -> None:
    assert why(run.stats).limit == "nothing"
    run.stats.replica_started(StartReplica(0, 2))
    assert "replicas of Embed are loading" in why(run.stats).text
    run.submit(0)
    run.clock.now = 5.0
    found = why(run.stats)
    assert "Read is running, for 5.0 s" in found.text
    check_shares(found)


def test_a_task_under_way_counts(run: Any) -> None:
    run.replica(0, 0.0, 1.0)
    run.task(2, 1.0, 2.0, replica=0)
    for _ in range(2):  # one runs, the other waits behind it
        run.submit(2, replica=0)
    run.clock.now = 10.0
    found = why(run.stats)
    assert found.limit == "pool"
    assert found.stages[-1].replicas[0].running == pytest.approx(0.9)
    check_shares(found)


def test_a_worker_is_given_its_start_and_its_waiting(run: Any) -> None:
    task = run.submit(0)
    run.clock.now = 3.0
    spent = {"total": 2.0, "read": 0.5, "run": 1.0, "paused": 0.4, "moved": 0.1}
    run.stats.task_done(task, Report(spent_s=spent, pid=7, began=1.0, ended=3.0))
    run.end(4.0)
    assert why(run.stats).workers[7].as_data() == pytest.approx(
        {
            "loading": 0.25,
            "reading": 0.125,
            "running": 0.25,
            "other": 0.05,
            "consuming": 0.0,
            "blocked": 0.075,
            "waiting": 0.25,
        }
    )


def test_calls_at_the_same_time_do_not_make_more_than_all(run: Any) -> None:
    """A replica with max_concurrency=3 has three tasks at a time: they took 12 s in 4 s."""
    run.replica(0, 0.0, 1.0)
    for _ in range(3):
        run.task(2, 1.0, 5.0, replica=0, run=3.0)
    run.end(6.0)
    [shares] = why(run.stats).stages[-1].replicas.values()
    assert shares.running == pytest.approx(0.5)
    assert shares.waiting == pytest.approx(1 / 6)
    check_shares(why(run.stats))


def test_another_machines_clock_is_not_taken(run: Any) -> None:
    task = run.submit(0)
    run.clock.now = 3.0
    run.stats.task_done(task, Report(spent_s={"total": 2.0}, pid=7, began=5_000.0, ended=5_002.0))
    [span] = run.stats.spans
    assert (span.started_s, span.ended_s) == (1.0, 3.0)


@pytest.mark.parametrize("seed", range(60))
def test_shares_add_up_whatever_was_measured(seed: int, run: Any) -> None:
    chooser = random.Random(seed)
    for number in range(chooser.randrange(3)):
        run.replica(number, chooser.random(), 1 + chooser.random())
    for _ in range(chooser.randrange(1, 12)):
        stage = chooser.choice([0, 1, 2]) if run.stats.replicas else chooser.choice([0, 1])
        began = chooser.random() * 5
        names = ("run", "read", "paused", "moved", "cpu", "convert")
        spent = {name: chooser.random() * 2 for name in names}
        replica = chooser.choice(list(run.stats.replicas)) if stage == 2 else None
        run.task(
            stage, began, began + chooser.random() * 2, replica=replica, pid=chooser.choice([1, 2]), **spent
        )
        if chooser.random() < 0.3:
            run.submit(stage, replica)
        check_shares(why(run.stats))
    run.stats.consumer_s = chooser.random() * 9
    run.stats.start_s = chooser.random() * 9
    check_shares(why(run.stats))
    run.end(10.0, waited=chooser.random() * 10)
    check_shares(why(run.stats))
    assert str(why(run.stats))


def test_figures_can_be_had_as_data(run: Any) -> None:
    run.replica(0, 0.0, 1.0)
    run.task(2, 1.0, 2.0, replica=0)
    run.end(2.0)
    data = json.loads(json.dumps(why(run.stats).as_data()))
    assert data["stages"][0]["name"] == "Embed"
    assert sum(data["stages"][0]["replicas"]["0"].values()) == pytest.approx(1.0)
    assert list(data["program"]) == list(KINDS)
    assert json.loads(json.dumps(run.stats.as_data()))["stages"][2]["tasks_done"] == 1


def test_of_many_processes_some_are_listed(run: Any) -> None:
    for pid in range(1, 21):
        run.task(0, 0.0, 1.0, pid=pid)
    run.end(2.0)
    text = str(why(run.stats))
    assert "worker 8:" in text
    assert "worker 9:" not in text
    assert "workers, 12 more, on average: running 50%, waiting for input 50%" in text


# ------------------------------------------------------------------------------- real executions


class Model:
    """A model whose call takes a while."""

    def __init__(self) -> None:
        self.weights = np.ones(1_000)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        for _ in range(50):
            self.weights.sum()
        return batch


def test_small_data_is_told_to_run_in_this_program() -> None:
    found = skate.data.range(1_000).map(lambda row: row).materialize().why()
    check_shares(found)
    if not found.workers:  # a slow machine sends tasks to the session
        assert "in this program" in found.text
        assert set(found.program.percentages()) <= {"reading", "running", "other", "consuming"}


def test_a_run_that_has_gone_to_a_session_is_not_told_to_be_here(run: Any) -> None:
    run.stats.port = "local"
    own = Report(rows_in=1, spent_s={"total": 0.2}, pid=run.stats._pid, began=0.0, ended=0.2)
    task = run.submit(0)
    run.clock.now = 0.2
    run.stats.task_done(task, own)
    run.stats.start_s = 0.6
    run.submit(0)
    run.clock.now = 1.0
    found = why(run.stats)
    assert found.limit == "start"
    check_shares(found)
    task = run.submit(0)
    run.clock.now = 5.0
    run.stats.task_done(task, Report(spent_s={"total": 3.9}, pid=7, began=1.1, ended=5.0))
    assert why(run.stats).limit == "tasks"
    check_shares(why(run.stats))


@pytest.mark.usefixtures("session", "context")
class TestRuns:
    """Shares of all processes of real executions add up."""

    def test_tasks(self) -> None:
        rows = skate.data.range(2_000, override_num_blocks=8).map(lambda row: {"n": sum(range(row["id"]))})
        found = rows.materialize().why()
        check_shares(found)
        assert found.workers
        [stage] = found.stages
        assert stage.cpu_s > 0
        assert {"reading", "running"} <= {kind for kind, part in stage.shares.as_data().items() if part > 0}

    def test_a_pool(self) -> None:
        rows = skate.data.range(2_000, override_num_blocks=8)
        embedded = rows.map_batches(Model, batch_size=50, compute=skate.data.ActorPoolStrategy(size=2))
        made = embedded.materialize()
        found = made.why()
        check_shares(found)
        assert len(found.stages[-1].replicas) == 2
        assert ", 2 replicas, 2,000 rows in" in made.stats()
        assert found.stages[-1].shares.running > 0

    def test_an_exchange(self) -> None:
        found = (
            skate.data.range(100_000, override_num_blocks=4).sort("id", descending=True).materialize().why()
        )
        check_shares(found)
        assert [stage.name for stage in found.stages][-1].startswith("Sort")
        assert found.stages[-1].shares.running > 0.2, "sorting counts as work of the stage"

    def test_a_consumer(self) -> None:
        rows = skate.data.range(100, override_num_blocks=10)
        for batch in rows.iter_batches(batch_size=10, prefetch_batches=0):
            for _ in range(300):
                batch["id"].sum()
        check_shares(rows.why())
        assert rows.why().program.consuming > 0

    def test_async_calls_count_as_running(self) -> None:
        async def slow(row: dict[str, Any]) -> dict[str, Any]:
            import asyncio

            for _ in range(20):
                await asyncio.sleep(0)
            return row

        found = skate.data.range(200, override_num_blocks=2).map(slow).materialize().why()
        check_shares(found)
        assert found.stages[0].shares.running > 0

    def test_while_it_runs(self) -> None:
        rows = skate.data.range(2_000, override_num_blocks=20).map(lambda row: row)
        for _ in itertools.islice(rows.iter_batches(batch_size=10, prefetch_batches=0), 20):
            check_shares(rows.why())
