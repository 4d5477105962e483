"""Processes die at any moment: rows come once, writes happen once, letters are written once."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cluster.waiting import end_process, first_time, wait_for_file

import skate
import skate.data
from skate.data import ActorPoolStrategy, DataContext
from skate.data._block.kernels.sorting import SortKey
from skate.data._exec.commands import Submit
from skate.data._exec.port import TaskFailed
from skate.data._exec.scheduler import Scheduler
from skate.data._exec.skate_port import SkatePort, _Running
from skate.data._exec.stages import Kind, Stage
from skate.data._exec.states import Limits
from skate.data._exec.work import Input, Output, TaskSpec, run_task
from skate.data._io.datasource import BlockMetadata, ReadTask, ReadTasks
from skate.data._operators.exchanges.join import Join
from skate.data._operators.exchanges.repartition import HashRepartition
from skate.data._operators.exchanges.shuffle import Shuffle
from skate.data._operators.exchanges.sort import Sort
from skate.data._task.exchange import ExchangeLimits
from skate.data._task.operators import Operator, Replica
from skate.data._task.slices import BlockMeta, BlockSlice, Bundle
from skate.data.aggregate import Sum

ROWS = 60
BLOCKS = 6


def killing(folder: Path, row: int, payload: int = 0) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that kills its process once, at a row."""

    def kill(given: dict[str, Any]) -> dict[str, Any]:
        if given["id"] == row and first_time(folder / f"killed-{row}"):
            end_process("SIGKILL")
        return {**given, "payload": b"x" * payload} if payload else given

    return kill


class Killing:
    """Does so in a replica."""

    def __init__(self, folder: Path, row: int) -> None:
        self.kill = killing(folder, row)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return self.kill(row)


def numbers() -> Any:
    return skate.data.range(ROWS, override_num_blocks=BLOCKS)


@pytest.mark.parametrize("payload", [0, 100_000], ids=["small blocks", "large blocks"])
@pytest.mark.parametrize("row", [0, 14, ROWS - 1])
def test_a_chain_of_tasks(far: DataContext, tmp_path: Path, row: int, payload: int) -> None:
    far.target_max_block_size = 300_000
    made = numbers().map(killing(tmp_path, row, payload)).map_batches(lambda batch: batch, batch_size=4)
    assert [one["id"] for one in made.iter_rows()] == list(range(ROWS))
    assert (tmp_path / f"killed-{row}").exists()


def test_a_batch_that_becomes_many_blocks(far: DataContext, tmp_path: Path) -> None:
    far.target_max_block_size = 100_000

    def frames(batch: dict[str, Any]) -> Any:
        for number in range(20):
            if number == 13 and batch["id"][0] == 1:
                wait_for_file(tmp_path / "seen")
                if first_time(tmp_path / "killed"):
                    end_process("SIGKILL")
            yield {"id": batch["id"], "frame": [number], "pixels": [b"x" * 200_000]}

    found = []
    made = skate.data.range(3, override_num_blocks=1).map_batches(frames, batch_size=1)
    for row in made.iter_rows():
        found.append((row["id"], row["frame"]))
        (tmp_path / "seen").touch()
    assert found == [(row, number) for row in range(3) for number in range(20)]
    assert (tmp_path / "killed").exists()


def test_replicas_of_a_pool(far: DataContext, tmp_path: Path) -> None:
    pool = ActorPoolStrategy(size=2)
    made = numbers().map(Killing, fn_constructor_args=[tmp_path, 7], compute=pool)
    made = made.map(killing(tmp_path, 33))
    assert [row["id"] for row in made.take_all()] == list(range(ROWS))
    assert (tmp_path / "killed-7").exists()
    assert (tmp_path / "killed-33").exists()


def exchanged(how: str, ds: Any) -> Any:
    if how == "sort":
        return ds.sort("id", descending=True)
    if how == "groupby":
        return ds.groupby("id").aggregate(Sum("id", alias_name="n"))
    if how == "map_groups":
        return ds.groupby("id").map_groups(lambda group: group, batch_format="pyarrow")
    if how == "join":
        return ds.join(numbers(), "inner", 2, on=("id",))
    if how == "keys":
        return ds.repartition(3, keys=["id"])
    return ds.random_shuffle(seed=1)


@pytest.mark.parametrize("how", ["sort", "groupby", "map_groups", "join", "keys", "shuffle"])
def test_both_sides_of_an_exchange(far: DataContext, tmp_path: Path, how: str) -> None:
    far.target_max_block_size = 50_000
    before = numbers().map(killing(tmp_path, 25, payload=20_000))
    made = exchanged(how, before).map(killing(tmp_path, 40))
    found = [row["id"] for row in made.take_all()]
    assert Counter(found) == Counter(range(ROWS))
    assert how != "sort" or found == sorted(found, reverse=True)
    assert (tmp_path / "killed-25").exists()
    assert (tmp_path / "killed-40").exists()


@pytest.mark.parametrize("resume", [False, True])
def test_a_write(far: DataContext, tmp_path: Path, resume: bool) -> None:
    out = tmp_path / "out"
    numbers().map(killing(tmp_path, 25)).write_parquet(str(out), resume=resume)
    assert (tmp_path / "killed-25").exists()
    assert ids(out) == Counter(range(ROWS))
    kept = {"_skate/resume/done.json"} if resume else set()
    assert {str(file.relative_to(out)) for file in out.rglob("*") if hidden(file)} == kept


def hidden(file: Path) -> bool:
    return file.is_file() and file.suffix != ".parquet"


def ids(folder: Path) -> Counter[int]:
    found: Counter[int] = Counter()
    for file in folder.glob("*.parquet"):
        found.update(pq.ParquetFile(file).read()["id"].to_pylist())
    return found


@pytest.mark.parametrize("resume", [False, True])
def test_a_task_that_dies_after_its_write(far: DataContext, tmp_path: Path, resume: bool) -> None:
    """Its result was passed on; the second attempt's is left out, and its files with it."""

    def dying(batch: dict[str, Any]) -> dict[str, Any]:
        from skate.data._exec.resident import resident

        def measure() -> int:  # called at the end of a task
            if 25 in batch["id"] and first_time(tmp_path / "killed"):
                end_process("SIGKILL")
            return 0

        resident.peak = measure  # type: ignore[method-assign]
        return batch

    out = tmp_path / "out"
    numbers().map_batches(dying).write_parquet(str(out), resume=resume)
    assert (tmp_path / "killed").exists()
    assert ids(out) == Counter(range(ROWS))


def test_a_second_result_of_a_write_is_left_out() -> None:
    source = ReadTasks([ReadTask(list, BlockMetadata(1))])
    sink: Any = object()
    stage = Stage(0, "Write", Kind.SOURCE, operators=(), read_tasks=source, sink=sink)
    scheduler = Scheduler([stage], Limits(1 << 30, 2.0, 0), ExchangeLimits(1 << 20, 2))
    (submit,) = scheduler.begin()
    scheduler.block_made(submit.task, written("first"))  # type: ignore[union-attr]
    (again,) = scheduler.task_failed(submit.task, RuntimeError(), is_crash=True)  # type: ignore[union-attr]
    scheduler.block_made(again.task, written("second"))  # type: ignore[union-attr]
    scheduler.task_done(again.task)  # type: ignore[union-attr]
    assert scheduler.extras == ["first"]
    assert scheduler.is_finished


def written(result: str) -> BlockSlice:
    return BlockSlice.whole(pa.table({}), BlockMeta(0, 0, extra=result))


def test_letters_are_written_once(far: DataContext, tmp_path: Path) -> None:
    """A task passes some on, dies, and finds the same bad rows again."""

    def some(batch: dict[str, Any]) -> dict[str, Any]:
        (number,) = batch["id"]
        if number in (0, 50):
            raise ValueError(f"bad row {number}")
        if number == 40:
            wait_for_file(tmp_path / "seen")
            if first_time(tmp_path / "killed"):
                end_process("SIGKILL")
        return {**batch, "payload": [b"x" * 200_000]}

    far.target_max_block_size = 100_000
    made = skate.data.range(ROWS, override_num_blocks=1)
    made = made.map_batches(some, batch_size=1, on_error="dead_letter", max_errors=2)
    found = []
    for row in made.iter_rows():
        found.append(row["id"])
        (tmp_path / "seen").touch()
    assert found == [number for number in range(ROWS) if number not in (0, 50)]
    assert (tmp_path / "killed").exists()
    assert [row["row"]["id"] for row in made.dead_letters().take_all()] == [0, 50]


def test_an_error_instead_of_a_block_fails_its_task(session: Any) -> None:
    """A task that dies between the facts of a large block and the block has not made it."""

    def dies() -> Any:
        yield Output(BlockMeta(1, 1 << 20, pa.schema([])), None, [])
        os.kill(os.getpid(), signal.SIGKILL)

    port = SkatePort()
    remote = skate.remote(num_returns="streaming", max_retries=0)(dies)
    port._running[1] = _Running(remote.remote(), 0, None)
    (event,) = port.wait(None)
    assert isinstance(event, TaskFailed)
    assert event.is_crash
    assert isinstance(event.error, skate.exceptions.WorkerCrashedError)
    assert port.wait(0) == []


def test_a_task_for_a_replica_that_has_just_died_is_run_again() -> None:
    """The death is an event behind the one for which the scheduler chose this replica."""
    port = SkatePort()
    port.open([Stage(0, "Map", Kind.CHAIN)], 1 << 20, 1 << 20, "")
    port.submit(Submit(5, 0, "0.0", Bundle(()), replica=1, skip_rows=0, to_file=False))
    (event,) = port.wait(0)
    assert isinstance(event, TaskFailed)
    assert (event.task, event.is_crash) == (5, True)


PARTITIONS: dict[str, Operator | None] = {
    "sort": Sort((SortKey("id"),)).partition(0),
    "sort at boundaries": Sort((SortKey("id"),), (10, 40)).partition(0),
    "keys": HashRepartition(("id",)).partition(0),
    "join": Join("inner", ("id",)).partition(0),
    "shuffle": Shuffle(3).partition(0),
}


@pytest.mark.parametrize("name", PARTITIONS)
def test_a_repeated_task_leaves_out_whole_runs(name: str) -> None:
    """The facts of a run hold for all its rows, so those that were passed on are left out as a whole."""
    operator = PARTITIONS[name]
    assert operator is not None
    blocks = [pa.table({"id": list(range(n, n + 10)), "x": ["x" * 50] * 10}) for n in range(0, ROWS, 10)]
    inputs = tuple(Input(block, 0, 10) for block in blocks)

    def outputs(skip: int) -> list[Output]:
        spec = TaskSpec("0.0", inputs, skip_rows=skip, target_bytes=1000, number=0)
        return [one for one in run_task([operator], spec, (), Replica()) if isinstance(one, Output)]

    whole = outputs(0)
    assert len(whole) > 2, "several runs"
    for passed in range(len(whole)):
        rows = sum(one.meta.num_rows for one in whole[:passed])
        rest = outputs(rows)
        assert [one.block.to_pydict() for one in rest] == [one.block.to_pydict() for one in whole[passed:]]
        assert [repr(one.meta.extra) for one in rest] == [repr(one.meta.extra) for one in whole[passed:]]


@pytest.mark.parametrize("compute", [None, ActorPoolStrategy(size=1)], ids=["tasks", "pool"])
@pytest.mark.parametrize("how", ["exit", "SIGSEGV"])
def test_what_always_dies_is_an_error_that_says_how(far: DataContext, how: str, compute: Any) -> None:
    def die(row: dict[str, Any]) -> dict[str, Any]:
        end_process(how)
        return row

    class Dying:
        def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
            return die(row)

    fn: Any = Dying if compute else die
    with pytest.raises(
        (skate.exceptions.WorkerCrashedError, skate.exceptions.RayActorError), match="signal|code 7"
    ):
        skate.data.range(4, override_num_blocks=1).map(fn, compute=compute).take_all()
