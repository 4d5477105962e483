"""Settings that an execution reads: order, limits of resources, constructors that fail, stalls, schemas."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import skate
import skate.data
from skate.data._exec.stages import Stage
from skate.data._plan.execute import execute
from skate.data._plan.physical import Machine, to_stages
from skate.data.context import DataContext
from skate.data.exceptions import ExecutionTimeoutError, SchemaMismatchError
from skate.data.execution_options import ExecutionOptions, ExecutionResources


@pytest.fixture
def context() -> Iterator[DataContext]:
    """Settings of this test alone."""
    with DataContext.current(DataContext()) as context:
        yield context


def paused() -> None:
    """Give way to other processes for a moment, where a task waits for a condition."""
    threading.Event().wait(0.005)


# ------------------------------------------------------------------------------------------------ order


def test_order_that_was_not_set_is_kept_and_reads_as_false() -> None:
    options = ExecutionOptions()
    assert (options.preserve_order, options.may_reorder) == (False, False)
    options.preserve_order = False
    assert (options.preserve_order, options.may_reorder) == (False, True)
    assert options != ExecutionOptions()
    assert ExecutionOptions(preserve_order=False) == options
    options.preserve_order = True
    assert (options.preserve_order, options.may_reorder) == (True, False)
    for wrong in (None, 1):
        with pytest.raises(TypeError, match="preserve_order must be True or False"):
            options.preserve_order = wrong  # type: ignore[assignment]


def stages_of(ds: Any, preserves_order: bool) -> list[Stage]:
    return to_stages(ds._plan, Machine(2.0, preserves_order=preserves_order, context=ds.context))


def ordered(ds: Any) -> dict[str, bool]:
    return {stage.name: stage.is_ordered for stage in stages_of(ds, False)}


def test_what_an_exchange_collects_keeps_its_order() -> None:
    pool = skate.data.ActorPoolStrategy(size=1)
    left = skate.data.range(4).map(Kept, compute=pool).union(skate.data.range(3))
    flags = ordered(left.random_shuffle(seed=1).zip(skate.data.range(7)).map(Last, compute=pool))
    assert flags["Map(Last)"] is False
    assert [name for name, flag in flags.items() if not flag and name != "Map(Last)"] == []
    assert ordered(left.sort("id"))[next(name for name in ordered(left.sort("id")) if "Sort" in name)]
    assert all(stage.is_ordered for stage in stages_of(left.map(Last, compute=pool), True))
    assert not any(ordered(left.map(Last, compute=pool)).values())


class Kept:
    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return row


class Last(Kept):
    pass


@pytest.mark.parametrize("chosen", [False, None])
def test_rows_come_as_they_are_made_if_any_order_will_do(
    session: None, context: DataContext, tmp_path: Path, chosen: bool | None
) -> None:
    context.local_limit_bytes = 0
    if chosen is not None:
        context.execution_options.preserve_order = chosen
    gate = tmp_path / "gate"

    def held(row: dict[str, Any]) -> dict[str, Any]:
        while row["id"] == 0 and not gate.exists():
            paused()
        return row

    if chosen is None:
        gate.touch()
    found = []
    for row in skate.data.range(2, override_num_blocks=2).map(held).iter_rows():
        found.append(row["id"])
        gate.touch()
    assert found == ([1, 0] if chosen is False else [0, 1])


def test_zip_pairs_the_same_rows_in_any_order(session: None, context: DataContext) -> None:
    context.local_limit_bytes = 0
    context.execution_options.preserve_order = False
    numbers = skate.data.range(200, override_num_blocks=20)
    squares = numbers.map_batches(lambda batch: {"square": batch["id"] ** 2})
    rows = numbers.zip(squares).take_all()
    assert len(rows) == 200
    assert all(row["square"] == row["id"] ** 2 for row in rows)


# ------------------------------------------------------------------------------------------------ limits


def test_limits_of_cpus_and_memory(session: None, context: DataContext) -> None:
    context.local_limit_bytes = 0
    plan = skate.data.range(4)._plan
    with execute(plan, context) as execution:
        assert execution.stats.cpus == 2.0
    context.execution_options.resource_limits = ExecutionResources.for_limits(
        cpu=1, object_store_memory=64 << 20
    )
    with execute(plan, context) as execution:
        assert (execution.stats.cpus, execution.stats.memory_bytes) == (1.0, 64 << 20)
    context.memory_limit_bytes = 32 << 20
    with execute(plan, context) as execution:
        assert execution.stats.memory_bytes == 32 << 20
    context.execution_options = ExecutionOptions(exclude_resources=ExecutionResources(cpu=1.5))
    with execute(plan, context) as execution:
        assert execution.stats.cpus == 1.0
    context.execution_options.resource_limits = ExecutionResources.for_limits(cpu=1)
    with pytest.raises(ValueError, match="CPU is in resource_limits"):
        execute(plan, context)


def test_one_cpu_runs_one_task_at_a_time(session: None, context: DataContext, tmp_path: Path) -> None:
    context.local_limit_bytes = 0
    context.execution_options.resource_limits = ExecutionResources.for_limits(cpu=1)

    def alone(row: dict[str, Any]) -> dict[str, Any]:
        own = tmp_path / str(os.getpid())
        own.touch()
        for _ in range(10):
            paused()
        others = len(list(tmp_path.iterdir())) - 1
        own.unlink()
        return {"others": others}

    # One more task than CPUs is submitted, to wait in a process; here it would run, as there are two.
    ds = skate.data.range(6, override_num_blocks=6).map(alone)
    with execute(ds._plan, context) as execution:
        assert execution.scheduler._limits.cpus == 1.0
        for _ in execution:
            assert sum(len(state.running) for state in execution.scheduler.stages) <= 2


# ------------------------------------------------------------------------------------------------ pools


class Fails:
    """Its constructor raises until there are some files in a folder."""

    def __init__(self, folder: str, times: int) -> None:
        number = len(os.listdir(folder))
        Path(folder, str(number)).touch()
        if number < times:
            raise ConnectionError(f"attempt {number}")

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return row


def failing(folder: Path, times: int) -> Any:
    pool = skate.data.ActorPoolStrategy(size=1)
    return skate.data.range(2).map(Fails, fn_constructor_args=[str(folder), times], compute=pool)


def test_constructors_that_raise_are_tried_again_if_that_is_wanted(
    session: None, context: DataContext, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConnectionError, match="attempt 0"):
        failing(tmp_path, 9).take_all()
    context.actor_init_retry_on_errors = True
    context.actor_init_max_retries = 2
    assert failing(tmp_path, 3).take_all() == [{"id": 0}, {"id": 1}]
    assert "Map(Fails): the constructor of Fails raised ConnectionError: attempt 1; a new" in caplog.text
    with pytest.raises(ConnectionError, match="attempt 6"):
        failing(tmp_path, 99).take_all()
    context.actor_init_max_retries = -1
    assert failing(tmp_path, 9).count(exact=True) == 2


# ------------------------------------------------------------------------------------------------ stalls


def test_an_execution_without_progress_says_who_waits_for_what(
    session: None, context: DataContext, tmp_path: Path
) -> None:
    context.local_limit_bytes = 0
    context.execution_no_progress_timeout_s = 1.0
    gate = tmp_path / "gate"

    def hangs(row: dict[str, Any]) -> dict[str, Any]:
        while not gate.exists():
            paused()
        return row

    ds = skate.data.range(2, override_num_blocks=1).map(hangs).sort("id")
    with pytest.raises(ExecutionTimeoutError, match=r"made no progress for \d+ s") as caught:
        ds.take_all()
    gate.touch()
    text = str(caught.value)
    assert "Map(hangs)" in text
    assert ": 1 task under way, the oldest for" in text
    assert "Sort" in text
    assert "waits for ReadRange->Map(hangs)" in text
    assert "execution_no_progress_timeout_s" in text


# ------------------------------------------------------------------------------------------------ schemas


def mixed(*columns: list[Any]) -> Any:
    return skate.data.from_arrow(
        [pa.table({"k": [n], "x": pa.array(values)}) for n, values in enumerate(columns)]
    )


def merged(ds: Any) -> list[Callable[[], Any]]:
    return [
        lambda: sorted(ds.sort("k").take_all(), key=lambda row: row["k"]),
        lambda: sorted(ds.random_shuffle(seed=3).take_all(), key=lambda row: row["k"]),
        lambda: ds.repartition(1).take_all(),
        lambda: sorted(ds.drop_duplicates("k").take_all(), key=lambda row: row["k"]),
        lambda: ds.to_pandas().to_dict("records"),
        lambda: [
            {"k": k, "x": x}
            for batch in ds.iter_batches(batch_size=2)
            for k, x in zip(batch["k"], batch["x"], strict=True)
        ],
        lambda: ds.map_batches(lambda batch: batch, batch_size=2).take_all(),
    ]


def test_conflicts_are_errors_unless_objects_are_wanted(context: DataContext) -> None:
    for run in merged(mixed([1], ["a"]))[:6]:
        with pytest.raises(SchemaMismatchError, match="'x'"):
            run()
    context.on_schema = "object"
    for run in merged(mixed([1], ["a"])):
        assert run() == [{"k": 0, "x": 1}, {"k": 1, "x": "a"}]


def test_any_difference_is_an_error_if_that_is_wanted(context: DataContext) -> None:
    ds = mixed([1], [None])
    for run in merged(ds):
        assert [row["x"] for row in run()] in ([1, None], [1.0, pytest.approx(np.nan, nan_ok=True)])
    context.on_schema = "error"
    for run in merged(mixed([1], [None])):
        with pytest.raises(SchemaMismatchError, match=r"'x'.*int64.*null"):
            run()
    assert len(mixed([1], [2]).sort("k").take_all()) == 2


def test_blocks_of_one_stage_that_differ_are_named(context: DataContext) -> None:
    context.on_schema = "error"
    ds = skate.data.range(2, override_num_blocks=2).map(lambda row: {"v": row["id"] or "none"})
    with pytest.raises(
        SchemaMismatchError,
        match=r"Map\(<lambda>\): the column 'v' is string in a block of task 0.0 and int64 in a block of task 0.1",
    ):
        ds.take_all()
    more = skate.data.range(2, override_num_blocks=2).map(
        lambda row: {"a": 1, **({"b": 2} if row["id"] else {})}
    )
    with pytest.raises(SchemaMismatchError, match="the column 'b' is missing in a block of task"):
        more.materialize()
