"""How a plan is cut into stages, so that a user's function has work for all CPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skate.data
from skate.data._exec.stages import Stage
from skate.data._plan.physical import Machine, repeatable, to_stages


def call(row: Any) -> Any:
    return row


def stages_of(ds: Any, cpus: float = 2.0) -> list[Stage]:
    return to_stages(ds._plan, Machine(cpus, context=ds.context))


def names(ds: Any, cpus: float = 2.0) -> list[str]:
    return [stage.name for stage in stages_of(ds, cpus)]


@pytest.fixture
def files(tmp_path: Path) -> str:
    for number in range(3):
        pq.write_table(pa.table({"x": list(range(10))}), tmp_path / f"{number}.parquet")
    return str(tmp_path)


def test_functions_over_few_read_tasks_are_a_stage_of_their_own(files: str) -> None:
    one = skate.data.read_parquet(f"{files}/0.parquet")
    assert names(one.map(call)) == ["ReadParquet", "Map(call)"]
    assert names(one.select_columns("x")) == ["ReadParquet->Select(x)"]


def test_functions_over_enough_read_tasks_are_run_by_them(files: str) -> None:
    ds = skate.data.read_parquet(files, override_num_blocks=3).map(call)
    assert names(ds) == ["ReadParquet->Map(call)"]
    assert names(skate.data.read_parquet(files).map(call), cpus=1) == ["ReadParquet->Map(call)"]


def test_the_number_of_read_tasks_that_a_user_chose_is_the_number_of_tasks() -> None:
    assert names(skate.data.range(100, override_num_blocks=1).map(call)) == ["ReadRange->Map(call)"]


def test_functions_after_an_exchange_are_a_stage_of_their_own() -> None:
    assert names(skate.data.range(9).sort("id").select_columns("id"))[-1].endswith("->Select(id)")
    assert names(skate.data.range(9).sort("id").map(call))[-1] == "Map(call)"


@pytest.mark.parametrize(
    ("unit", "made"),
    [
        (1, lambda ds: ds.map(call)),
        (1, lambda ds: ds.filter(call).drop_columns("id")),
        (6, lambda ds: ds.map_batches(call, batch_size=2).map_batches(call, batch_size=3)),
        (0, lambda ds: ds.map_batches(call, batch_size=None)),
        (0, lambda ds: ds.select_columns("id")),
        (0, lambda ds: ds.random_sample(0.5, seed=1)),
    ],
)
def test_rows_after_which_input_may_be_cut(unit: int, made: Any) -> None:
    ds = skate.data.range(9).materialize()
    stage = stages_of(made(ds))[-1]
    assert stage.unit_rows == unit
    assert all(one.unit_rows == 0 for one in repeatable([stage]))


def test_an_operator_that_needs_whole_blocks_does_not_join_one_whose_input_is_cut() -> None:
    ds = skate.data.range(9).materialize().map(call).map_batches(call, batch_size=None)
    assert names(ds)[-2:] == ["Map(call)", "MapBatches(call)"]


def test_a_write_after_cut_input_puts_small_blocks_into_one_file(tmp_path: Path) -> None:
    ds = skate.data.range(1000).map(call)
    ds.write_parquet(str(tmp_path))
    assert len(list(tmp_path.glob("*.parquet"))) == 1
