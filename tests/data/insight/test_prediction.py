"""Predictions: costs of calls and of rows are told apart, starts are not multiplied, the limit is named."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import pytest

import skate.data
from skate.data._exec.stages import Kind, Pool, Stage
from skate.data._insight.prediction import (
    Prediction,
    SampleRun,
    StageCost,
    Whole,
    batch_rows,
    predict,
    sample_run,
)
from skate.data._operators.functions import UserFunction
from skate.data._operators.map_operators import MapBatches
from skate.data._verbs import predicting

MIB = 1 << 20
READ = Stage(0, "Read", Kind.SOURCE)
MAP = Stage(2, "Map(f)", Kind.CHAIN, (1,))
FUSED = Stage(0, "Read->Map(f)", Kind.SOURCE)


def batches(rows: int | None, pool: Pool | None = None) -> Stage:
    """Return a stage that calls a function for batches."""
    operator = MapBatches(UserFunction.of(len), batch_size=rows)
    return Stage(2, "Map(f)", Kind.CHAIN, (1,), operators=(operator,), pool=pool)


def cost(
    stage: Stage, rows: int, seconds: float, computing: float = 1.0, tasks: int = 1, **more: int
) -> StageCost:
    """Return what a stage needed."""
    size = batch_rows(stage)
    calls = max(tasks, -(-rows // size)) if size else tasks
    facts = {"bytes_out": 8 * rows, "rows_out": rows, "peak_bytes": 0, **more}
    return StageCost(stage, rows, calls, seconds, seconds * computing, tasks, **facts)


def ran(rows: int, *costs: StageCost, driver: float = 0.0, wall: float | None = None) -> SampleRun:
    """Return a run over some rows."""
    seconds = sum(one.seconds for one in costs) + driver
    return SampleRun(rows, costs, driver, seconds if wall is None else wall, 1.0, frozenset({1}))


def whole(*stages: Stage, rows: int | None = 1_000_000, **changes: Any) -> Whole:
    """Return the facts of an execution in a session with two CPUs."""
    made = Whole(stages or (FUSED,), rows, False, 100, 2.0, False, True, 1 << 30, 128 * MIB)
    return dataclasses.replace(made, **changes)


def predicted(
    one: SampleRun, last: SampleRun, all_of_it: Whole, first: SampleRun | None = None
) -> Prediction:
    """Return a prediction."""
    return predict(first or one, one, last, all_of_it)


def test_what_a_row_costs_is_multiplied_by_rows() -> None:
    one, last = ran(1, cost(MAP, 1, 0.01)), ran(100, cost(MAP, 100, 1.0))
    found = predicted(one, last, whole())
    assert found.cpu_seconds == pytest.approx(10_000)
    assert found.seconds == pytest.approx(5_000)
    assert (found.limit, found.stage, found.part) == ("cpus", "Read->Map(f)", 1.0)


def test_what_a_call_costs_is_multiplied_by_calls() -> None:
    """numpy: 1 ms for a block of any size; the whole has 100 read tasks, so 100 blocks."""
    stage = batches(None)
    one, last = ran(1, cost(stage, 1, 0.001)), ran(6_400, cost(stage, 6_400, 0.0011))
    found = predicted(one, last, whole())
    assert found.cpu_seconds == pytest.approx(0.11, rel=0.05)


def test_a_batch_that_the_sample_did_not_fill_is_known_to_be_filled() -> None:
    """0.1 s for a call and 1 ms for a row: a batch of 1,000 takes 1.1 s, not ten times 0.2 s."""
    stage = batches(1_000)
    one, last = ran(1, cost(stage, 1, 0.101)), ran(100, cost(stage, 100, 0.2))
    found = predicted(one, last, whole(stage, rows=10_000))
    assert found.cpu_seconds == pytest.approx(11.0)


def test_reading_a_chunk_for_a_few_rows_is_not_multiplied_by_rows() -> None:
    one, last = ran(1, cost(READ, 1, 0.3)), ran(100, cost(READ, 100, 0.5))
    found = predicted(one, last, whole(READ, rows=2_000_000, read_tasks=4))
    assert found.cpu_seconds == pytest.approx(2.0)


def test_more_is_never_more_than_in_proportion() -> None:
    """The first call of a pool's replica was slow: the fit would say that rows cost less than nothing."""
    stage = batches(50)
    one, last = ran(1, cost(stage, 1, 5.0)), ran(100, cost(stage, 100, 0.2))
    assert predicted(one, last, whole(stage, rows=1_000)).cpu_seconds == pytest.approx(2.0)


def test_a_start_is_told_apart() -> None:
    first = ran(1, cost(MAP, 1, 0.01), wall=2.5)
    one, last = ran(1, cost(MAP, 1, 0.01), wall=0.01), ran(100, cost(MAP, 100, 1.0))
    found = predicted(one, last, whole(rows=1_000), first)
    assert found.seconds == pytest.approx(5.0, abs=0.1)
    assert found.start_s == pytest.approx(2.49)
    assert "and 2.5 s more where processes have to start and models to be loaded" in str(found)


def test_a_pool_limits_by_its_replicas() -> None:
    pool = batches(50, Pool(1, 4, 1))
    one = ran(1, cost(READ, 1, 0.0), cost(pool, 1, 0.1, computing=0.1))
    last = ran(100, cost(READ, 100, 0.001), cost(pool, 100, 0.2, computing=0.1))
    found = predicted(one, last, whole(READ, dataclasses.replace(pool, cpus=0.0), rows=5_000))
    assert (found.limit, found.stage) == ("pool", "Map(f)")
    assert found.seconds == pytest.approx(10 / 4, rel=0.05)
    assert "more replicas would help" in str(found)


def test_tasks_that_wait_are_named() -> None:
    one = ran(1, cost(MAP, 1, 0.01, computing=0.1))
    last = ran(100, cost(MAP, 100, 1.0, computing=0.1))
    found = predicted(one, last, whole())
    assert found.limit == "tasks"
    assert "waits more than it computes" in str(found)


def test_the_driver_limits_where_tasks_are_tiny() -> None:
    one, last = ran(1, cost(MAP, 1, 1e-6), driver=0.02), ran(100, cost(MAP, 100, 1e-4), driver=0.01)
    found = predicted(one, last, whole(rows=10_000))
    assert found.limit == "driver"
    assert found.seconds == pytest.approx(1.0, abs=0.05)


def test_what_is_small_stays_in_the_program() -> None:
    one, last = ran(1, cost(MAP, 1, 1e-5)), ran(1_000, cost(MAP, 1_000, 0.01))
    found = predicted(one, last, whole(rows=10_000, is_local=True, has_session=False))
    assert found.seconds == pytest.approx(0.1)
    assert found.start_s == 0.0
    near = predicted(one, last, whole(rows=18_000, is_local=True, has_session=False))
    assert near.seconds == pytest.approx(0.18)
    assert near.start_s > 0.0, "it may turn out to be too much"
    slow = predicted(one, last, whole(rows=1_000_000, is_local=True, has_session=False))
    assert slow.seconds == pytest.approx(0.2 + 0.5 + 9.8 / 2), (
        "a session starts, and two processes share the rest"
    )
    alone = predicted(one, last, whole(rows=1_000_000, is_local=True, has_session=False, read_tasks=1))
    assert alone.seconds == pytest.approx(10.0), "one task cannot be shared"


def test_a_run_with_many_tasks_tells_how_well_processes_were_used() -> None:
    one = ran(1, cost(MAP, 1, 0.001))
    last = ran(1_000, cost(MAP, 1_000, 1.0, tasks=50), wall=1.0)
    assert predicted(one, last, whole(rows=10_000)).seconds == pytest.approx(10.0, rel=0.01)


def test_without_rows_there_are_no_seconds() -> None:
    one, last = ran(1, cost(MAP, 1, 0.01)), ran(100, cost(MAP, 100, 1.0))
    found = predicted(one, last, whole(rows=None))
    assert found.seconds is None
    assert "does not know its number of rows" in str(found)


def test_memory_grows_with_blocks_up_to_their_target() -> None:
    def peak(row_bytes: int, rows: int) -> int:
        one = ran(1, cost(MAP, 1, 0.01, bytes_out=row_bytes))
        last = ran(100, cost(MAP, 100, 1.0, bytes_out=100 * row_bytes))
        return predicted(one, last, whole(rows=rows, memory_bytes=1 << 40)).peak_bytes

    assert peak(10, 100_000) == 2 * 3 * 1_000 * 10, "two tasks, three blocks of a thousand rows each"
    assert peak(100_000, 10_000_000) == 2 * 3 * 192 * MIB
    one = ran(1, cost(MAP, 1, 0.01))
    last = ran(100, cost(MAP, 100, 1.0, peak_bytes=90 * MIB))
    assert predicted(one, last, whole(rows=10_000)).peak_bytes == 2 * 90 * MIB
    assert predicted(one, last, whole(rows=10_000, memory_bytes=MIB)).peak_bytes == MIB


def test_long_times_are_told_in_minutes_and_hours() -> None:
    one, last = ran(1, cost(MAP, 1, 0.01)), ran(100, cost(MAP, 100, 1.0))
    assert "about 83 minutes (2.8 hours of work)" in str(predicted(one, last, whole()))


# ------------------------------------------------------------------------------- real runs


def sampled_rows(rows: Any, sample: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Prediction, list[int]]:
    """Predict, and return how many rows each run was over, too."""
    seen: list[int] = []

    def noted(execution: Any, count: int) -> SampleRun:
        seen.append(count)
        return sample_run(execution, count)

    monkeypatch.setattr(predicting, "sample_run", noted)
    return rows.predict(sample), seen


def test_an_expensive_function_is_called_for_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(row: dict[str, int]) -> dict[str, int]:
        until = time.process_time() + 0.005
        while time.process_time() < until:
            pass
        return row

    found, seen = sampled_rows(skate.data.range(10_000).map(slow), 30, monkeypatch)
    assert seen[:3] == [1, 1, 30]
    assert sum(seen) < 1_000, "such rows take long enough to be measured"
    assert found.total_rows == 10_000
    assert found.cpu_seconds is not None
    assert found.cpu_seconds >= 45
    assert found.limit == "cpus"
    assert found.stage == "ReadRange->Map(slow)"


def test_a_cheap_function_is_tried_on_more_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap = skate.data.range(1_000_000).map_batches(lambda batch: {"x": np.sqrt(batch["id"])})
    found, seen = sampled_rows(cheap, 100, monkeypatch)
    assert seen[:2] == [1, 1]
    assert seen[-1] > 100
    assert found.stage == "ReadRange->MapBatches(<lambda>)"
    assert found.seconds is not None
    assert found.seconds < 60, "a call for a hundred rows takes as long as one for a block"


def test_a_source_that_ends_within_the_sample_is_known() -> None:
    found = skate.data.range(20).map(lambda row: row).predict(sample=1_000)
    assert (found.sample_rows, found.total_rows) == (20, 20)


def test_a_limit_is_known() -> None:
    assert skate.data.range(100_000).limit(50).map(lambda row: row).predict().total_rows == 50


def test_rows_of_text_files_are_estimated(tmp_path: Any) -> None:
    (tmp_path / "a.csv").write_text("a,b\n" + "".join(f"{n},word{n % 10}\n" for n in range(200_000)))
    found = skate.data.read_csv(str(tmp_path)).map_batches(lambda batch: batch).predict(sample=10)
    assert found.total_rows == pytest.approx(200_000, rel=0.5)
    assert found.seconds is not None


class Model:
    """A model that takes a while to load."""

    def __init__(self) -> None:
        until = time.process_time() + 0.3
        while time.process_time() < until:
            pass

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        until = time.process_time() + 0.01
        while time.process_time() < until:
            pass
        return batch


@pytest.mark.usefixtures("session")
def test_a_model_is_loaded_once_for_a_prediction() -> None:
    context = skate.data.DataContext.get_current().copy()
    context.pool_linger_s = 0
    with skate.data.DataContext.current(context):
        rows = skate.data.range(100_000).map_batches(
            Model, batch_size=100, compute=skate.data.ActorPoolStrategy(size=1)
        )
    found = rows.predict()
    assert found.start_s >= 0.3
    assert found.stage == "MapBatches(Model)"
    assert found.cpu_seconds is not None
    assert 10 <= found.cpu_seconds, "a thousand batches"
    assert found.cpu_seconds < 300, "loading is not multiplied by batches"
