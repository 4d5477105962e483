"""Executions on both ports: order, limits, pools, crashes, errors, memory; nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import skate
from skate.data._exec import hybrid_port
from skate.data._exec.execution import Execution
from skate.data._io.datasource import BlockMetadata, Datasource, ReadTask
from skate.data._io.readers.memory import RangeDatasource
from skate.data._plan.execute import execute
from skate.data._plan.logical import (
    ActorPool,
    Apply,
    Blocks,
    Exchanged,
    Limit,
    Node,
    Read,
    Resources,
    TaskPool,
    Union,
)
from skate.data._task.exchange import Exchange, ExchangeLimits
from skate.data._task.operators import Made, Operator, Replica, TaskContext
from skate.data._task.slices import BlockMeta, BlockSlice, Bundle
from skate.data.execution_options import ExecutionOptions


@dataclass
class Settings:
    """What an execution reads of a DataContext."""

    memory_limit_bytes: int | None = None
    local_limit_bytes: int = 32 << 20
    target_block_bytes: int = 128 << 20
    pool_linger_s: float = 0.0
    progress: str = "auto"
    enable_progress_bars: bool = True
    execution_options: ExecutionOptions = field(default_factory=ExecutionOptions)
    execution_no_progress_timeout_s: float | None = None
    actor_init_retry_on_errors: bool = False
    actor_init_max_retries: int = 3
    on_schema: str = "unify"
    on_conflict: str = "error"


class Numbers(Datasource):
    """Numbers from 0, in parts; ``claimed_bytes`` decides where it is read."""

    def __init__(self, count: int, parts: int, claimed_bytes: int = 0, row_bytes: int = 0) -> None:
        self.count, self.parts, self.claimed_bytes, self.row_bytes = count, parts, claimed_bytes, row_bytes

    def estimate_inmemory_data_size(self) -> int:
        return self.claimed_bytes

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: Any = None, data_context: Any = None
    ) -> Any:
        return [self.part(number) for number in range(self.parts)]

    def part(self, number: int) -> ReadTask:
        first, last = number * self.count // self.parts, (number + 1) * self.count // self.parts
        row_bytes = self.row_bytes

        def read() -> Iterator[pa.Table]:
            columns: dict[str, Any] = {"id": list(range(first, last))}
            if row_bytes:
                columns["payload"] = [b"x" * row_bytes] * (last - first)
            yield pa.table(columns)

        return ReadTask(read, BlockMetadata(last - first), name=f"part{number}")


class Map(Operator):
    """Calls a function with each block's numbers."""

    preserves_rows = True

    def __init__(self, function: Callable[[list[int]], list[int]], name: str = "Map") -> None:
        self.function, self.name = function, name

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        for block in blocks:
            yield pa.table({"id": self.function(block["id"].to_pylist())})


class Instance(Operator):
    """Holds something in its replica, and adds the process to its rows."""

    name = "Instance"

    def open(self, position: int, replica: Replica) -> None:
        replica.instances[position] = time.monotonic_ns()

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        [made] = task.replica.instances.values()
        for block in blocks:
            count = block.num_rows
            yield block.append_column("pid", pa.array([os.getpid()] * count)).append_column(
                "made", pa.array([made] * count)
            )


class Collect(Exchange):
    """Brings all rows together, by way of a partition step."""

    name = "Collect"
    is_ordered = True

    def partition(self, side: int) -> Operator:
        return Clustered()

    def plan(self, sides: Any, limits: ExchangeLimits) -> list[Bundle]:
        assert all(piece.meta.extra == {"rows": piece.meta.num_rows} for side in sides for piece in side)
        return [Bundle(tuple(piece for side in sides for piece in side), params=limits.parallelism)]

    def merge(self) -> None:
        return None


class Clustered(Operator):
    """Says how many rows its block has."""

    name = "Clustered"

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[Made]:
        for block in blocks:
            yield Made(block, {"rows": block.num_rows})


def add(count: int) -> Map:
    return Map(lambda rows: [row + count for row in rows], f"Add({count})")


def run(plan: Node, settings: Settings | None = None) -> tuple[list[int], Execution]:
    with execute(plan, settings or Settings()) as execution:
        rows = [row for piece in execution for row in execution.fetch(piece)["id"].to_pylist()]
    return rows, execution


@pytest.fixture(params=["local", "skate"])
def numbers(request: pytest.FixtureRequest) -> Any:
    """Makes reads that run in this process, or on skate."""
    if request.param == "skate":
        request.getfixturevalue("session")
    claimed = {"local": 0, "skate": 1 << 40}[request.param]
    return lambda count, parts, **more: Read(Numbers(count, parts, claimed, **more))


@pytest.fixture
def far(session: None) -> Any:
    """Makes reads that run on skate."""
    return lambda count, parts, **more: Read(Numbers(count, parts, 1 << 40, **more))


def test_rows_keep_their_order(numbers: Any) -> None:
    assert run(Apply(numbers(1000, 30), add(1)))[0] == list(range(1, 1001))


def test_reads_and_functions_are_one_stage(numbers: Any) -> None:
    _, execution = run(Apply(Apply(numbers(10, 2), add(1)), add(2)))
    assert [stage.name for stage in execution.stages] == ["ReadNumbers->Add(1)->Add(2)"]


def test_other_resources_make_another_stage(far: Any) -> None:
    rows, execution = run(Apply(far(10, 2), add(1), resources=Resources(num_cpus=0.5)))
    assert rows == list(range(1, 11))
    assert len(execution.stages) == 2


def test_a_limit_reads_no_more_than_it_needs(numbers: Any, tmp_path: Path) -> None:
    def noted(rows: list[int]) -> list[int]:
        with open(tmp_path / "rows", "a") as file:
            file.write(f"{len(rows)}\n")
        return rows

    assert run(Limit(Apply(numbers(1000, 200), Map(noted)), 1))[0] == [0]
    counts = [int(line) for line in (tmp_path / "rows").read_text().split()]
    assert set(counts) == {1}, "the rows that a task takes are limited, too"
    assert len(counts) <= 4


def test_a_union_keeps_the_order_of_its_parts(numbers: Any) -> None:
    assert run(Union((numbers(10, 3), Apply(numbers(10, 2), add(10)))))[0] == list(range(20))


def test_an_exchange_brings_rows_together(numbers: Any) -> None:
    rows, execution = run(Apply(Exchanged((numbers(100, 7),), Collect()), add(1)))
    assert rows == list(range(1, 101))
    assert [stage.name for stage in execution.stages] == ["ReadNumbers->Clustered", "Collect->Add(1)"]


def test_an_exchange_larger_than_its_memory_goes_through_files(far: Any) -> None:
    plan = Exchanged((far(400, 40, row_bytes=100_000),), Collect())
    rows, execution = run(plan, Settings(memory_limit_bytes=8 << 20))
    assert rows == list(range(400))
    assert not os.path.exists(execution._folder.path)


def test_pools_hold_an_instance_a_replica(far: Any) -> None:
    plan = Apply(far(400, 40), Instance(), ActorPool(2, 2, 2))
    with execute(plan, Settings()) as execution:
        table = pa.concat_tables(execution.fetch(piece) for piece in execution)
    assert table["id"].to_pylist() == list(range(400))
    assert execution.stats.stages[1].replicas_started == 2
    assert len(set(zip(table["pid"].to_pylist(), table["made"].to_pylist(), strict=True))) <= 2


def test_pools_stay_warm_for_the_next_execution(far: Any) -> None:
    from skate.data._exec.skate_port import warm

    settings = Settings(pool_linger_s=60)
    operator = Instance()

    def pids() -> set[int]:
        with execute(Apply(far(10, 2), operator, ActorPool(1, 1, 1)), settings) as execution:
            return {pid for piece in execution for pid in execution.fetch(piece)["pid"].to_pylist()}

    try:
        first = pids()
        assert warm.counts()["Instance"] == 1
        assert pids() == first
    finally:
        warm.clear()
    assert not warm.counts()


def test_batches_are_packed_across_blocks(far: Any) -> None:
    seen = Apply(far(10, 5), Map(lambda rows: [len(rows)] * len(rows)), ActorPool(1, 1, 1), batch_rows=4)
    sizes, _ = run(seen)
    assert len(sizes) == 10


def killed_once(marker: Path) -> Callable[[list[int]], list[int]]:
    def function(rows: list[int]) -> list[int]:
        if 55 in rows:
            try:
                marker.touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return rows

    return function


@pytest.mark.parametrize("compute", [TaskPool(), ActorPool(2, 2, 2)], ids=["tasks", "pool"])
def test_a_killed_process_loses_and_repeats_nothing(far: Any, tmp_path: Path, compute: Any) -> None:
    rows, execution = run(Apply(far(200, 20), Map(killed_once(tmp_path / "killed")), compute))
    assert rows == list(range(200))
    assert (tmp_path / "killed").exists()
    assert sum(stage.tasks_failed for stage in execution.stats.stages) >= 1


@pytest.mark.parametrize("compute", [TaskPool(), ActorPool(1, 1, 1)], ids=["tasks", "pool"])
def test_what_keeps_crashing_ends_the_execution(far: Any, compute: Any) -> None:
    def crash(rows: list[int]) -> list[int]:
        os._exit(7)

    crashed = (skate.exceptions.WorkerCrashedError, skate.exceptions.RayActorError)
    with pytest.raises(crashed) as caught:
        run(Apply(far(10, 2), Map(crash, "Crash"), compute))
    assert re.search(r"\nIt ran .*Crash of a data set, task '\d.\d'. Functions of rows, ", str(caught.value))


@pytest.mark.parametrize("compute", [TaskPool(), ActorPool(1, 1, 1)], ids=["tasks", "pool"])
def test_an_error_of_a_function_keeps_its_type(numbers: Any, compute: Any) -> None:
    def wrong(rows: list[int]) -> list[int]:
        raise KeyError("no such thing")

    with pytest.raises(KeyError, match="no such thing"):
        run(Apply(numbers(10, 2), Map(wrong), compute))


def test_an_error_while_a_replica_loads_keeps_its_type(far: Any) -> None:
    class Broken(Instance):
        def open(self, position: int, replica: Replica) -> None:
            raise ValueError("no weights")

    with pytest.raises(ValueError, match="no weights"):
        run(Apply(far(10, 2), Broken(), ActorPool(2, 2, 2)))


def test_a_consumer_that_stops_stops_the_sources(far: Any, tmp_path: Path) -> None:
    def noted(rows: list[int]) -> list[int]:
        with open(tmp_path / "tasks", "a") as file:
            file.write("x")
        return rows

    class Noted(Instance):
        def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
            for block in blocks:
                noted([])
                yield block

    plan = Apply(far(800, 400, row_bytes=1 << 20), Noted())
    with execute(plan, Settings(memory_limit_bytes=64 << 20)) as execution:
        next(execution)
    assert len((tmp_path / "tasks").read_text()) < 100, "2 MiB a task, 64 MiB in all"
    with pytest.raises(StopIteration):
        next(execution)


def test_large_blocks_are_passed_by_reference_and_freed(far: Any, wait_until: Any) -> None:
    plan = Apply(far(64, 16, row_bytes=1 << 20), Instance(), ActorPool(2, 2, 2))
    with execute(plan, Settings()) as execution:
        pieces = list(execution)
        assert all(isinstance(piece.block, skate.ObjectRef) for piece in pieces)
        assert sum(piece.num_rows for piece in pieces) == 64
    del pieces, execution

    def used_bytes() -> float:
        total, free = (
            function().get("object_store_memory", 0)
            for function in (skate.cluster_resources, skate.available_resources)
        )
        return total - free

    wait_until(lambda: used_bytes() == 0)


def test_slow_functions_over_small_data_run_in_parallel(
    session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hybrid_port, "PATIENCE_S", 0.0)  # any function is a slow one
    pids, _ = run(Apply(Read(Numbers(6, 6)), Map(lambda rows: [os.getpid()] * len(rows))))
    assert pids[0] == os.getpid()
    assert len(set(pids)) >= 2


def test_small_data_needs_no_session() -> None:
    skate.shutdown()
    assert run(Apply(Read(Numbers(10, 3)), add(1)))[0] == list(range(1, 11))
    assert not skate.is_initialized()


def test_an_empty_source_gives_nothing(numbers: Any) -> None:
    rows, _ = run(Apply(numbers(0, 1), add(1)))
    assert rows == []


def test_slices_within_a_block_are_rows_of_it() -> None:
    table = pa.table({"id": list(range(10))})
    from skate.data._task.slices import BlockMeta, cut

    piece = BlockSlice.whole(table, BlockMeta(10, 80))
    parts = cut([piece, piece], [3, 12])
    assert [sum(one.num_rows for one in part) for part in parts] == [3, 9, 8]
    assert [one.start for one in parts[2]] == [2]
    assert [sum(one.num_rows for one in part) for part in cut([piece], [0, 10, 15])] == [0, 10, 0, 0]


class Sliced(Operator):
    """Makes many slices of one large block, and one block of them."""

    name = "Sliced"

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        for block in blocks:
            yield pa.concat_tables([block.slice(row, 1) for row in range(0, block.num_rows, 4)])


def test_slices_travel_without_what_they_are_slices_of(far: Any) -> None:
    plan = Apply(far(400, 1, row_bytes=10_000), Sliced(), ActorPool(1, 1, 1))
    with execute(plan, Settings()) as execution:
        [piece] = execution
        block = execution.fetch(piece)
    assert block.num_rows == 100
    assert block.get_total_buffer_size() < 3_000_000, "400 rows of 10 kB would be 4 MB, for each slice"


def test_slices_of_a_block_of_the_driver_share_one_copy(
    session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skate.data._exec import skate_port

    put, really = [], skate_port.api.put

    def counting(value: Any) -> Any:
        put.append(value)
        return really(value)

    monkeypatch.setattr(skate_port.api, "put", counting)
    table = pa.table({"id": list(range(50_000))})
    whole = BlockSlice.whole(table, BlockMeta(table.num_rows, table.nbytes))
    halves = Blocks((whole.rows(0, 30_000), whole.rows(30_000, 50_000)))
    rows, _ = run(Apply(halves, add(1), ActorPool(1, 1, 1)))
    assert rows == list(range(1, 50_001))
    assert len([value for value in put if isinstance(value, pa.Table)]) == 1


def test_read_tasks_that_have_ended_are_forgotten() -> None:
    """A driver's memory does not grow with the parts of a long listing."""
    with execute(Read(RangeDatasource(5000), 5000), Settings()) as execution:
        (stage,) = execution.stages
        rows = most = 0
        for piece in execution:
            rows += piece.num_rows
            most = max(most, sum(task.name != "done" for task in stage.read_tasks))
    assert rows == len(stage.read_tasks) == 5000
    assert most < 100
