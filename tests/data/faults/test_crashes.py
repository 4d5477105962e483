"""Processes die at any moment: rows come once, writes happen once, letters are written once."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import resource
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cluster.waiting import attempt, end_process, first_time, wait_for_file

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
from skate.data._io.datasource import BlockMetadata, Datasource, ReadTask, ReadTasks
from skate.data._operators.exchanges.join import Join
from skate.data._operators.exchanges.repartition import HashRepartition
from skate.data._operators.exchanges.shuffle import Shuffle
from skate.data._operators.exchanges.sort import Sort
from skate.data._task.exchange import ExchangeLimits
from skate.data._task.operators import Operator, Replica
from skate.data._task.slices import BlockMeta, BlockSlice, Bundle
from skate.data.aggregate import AggregateFn, Sum
from skate.data.datasink import Datasink
from skate.data.datasource import FileBasedDatasource
from skate.data.exceptions import RowCrashedError, TooManyErrorsError

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
    port.open([Stage(0, "Map", Kind.CHAIN)], 1 << 20, 1 << 20, 1 << 20, "")
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


# ---------------------------------------------------------------------- rows that end their process, each time

BAD = (7, 33)
GOOD = [number for number in range(ROWS) if number not in BAD]


def end(how: str) -> None:
    """End this process as native code does, or by ``end_process``."""
    if how == "segfault":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ctypes.string_at(0)
    end_process(how)


class Ending:
    """Ends its process at bad rows."""

    def __init__(self, how: str = "segfault", payload: int = 0) -> None:
        self.how = how
        self.payload = b"x" * payload

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["id"] in BAD:
            end(self.how)
        return {**row, "payload": self.payload}

    def batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"id": [self({"id": number})["id"] for number in batch["id"]]}

    def frames(self, batch: dict[str, Any]) -> Any:
        for number in batch["id"]:
            yield {"id": [self({"id": number})["id"]]}

    def is_good(self, row: dict[str, Any]) -> bool:
        return "id" in self(row)

    def rows(self, row: dict[str, Any]) -> Any:
        yield {"id": -1 - row["id"]}
        yield self(row)

    async def wait(self, row: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        return self(row)


class EndingBatches(Ending):
    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"id": [Ending.__call__(self, {"id": number})["id"] for number in batch["id"]]}


class EndingLater(Ending):
    async def __call__(self, row: dict[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        await asyncio.sleep(0)
        return Ending.__call__(self, row)


ONE = ActorPoolStrategy(size=1)
VERBS: dict[str, Callable[..., Any]] = {
    "map": lambda ds, **more: ds.map(Ending(), **more),
    "map_batches": lambda ds, **more: ds.map_batches(Ending().batch, batch_size=8, **more),
    "map_batches, generator": lambda ds, **more: ds.map_batches(Ending().frames, **more),
    "map, async": lambda ds, **more: ds.map(Ending().wait, **more),
    "filter": lambda ds, **more: ds.filter(Ending().is_good, **more),
    "map, class": lambda ds, **more: ds.map(Ending, compute=ONE, **more),
    "map_batches, class": lambda ds, **more: ds.map_batches(EndingBatches, compute=ONE, **more),
    "map, async class": lambda ds, **more: ds.map(EndingLater, compute=ONE, **more),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_row_that_ends_its_process_becomes_a_letter(far: DataContext, verb: str) -> None:
    made = VERBS[verb](numbers(), on_error="dead_letter", max_errors=2)
    assert [row["id"] for row in made.iter_rows()] == GOOD
    letters = sorted(made.dead_letters().take_all(), key=lambda letter: letter["row"]["id"])
    assert [letter["row"]["id"] for letter in letters] == list(BAD)
    for letter in letters:
        assert letter["error_type"] == "skate.data.exceptions.RowCrashedError"
        assert "ended its process: killed by SIGSEGV" in letter["error"]
        assert " in string_at" in letter["traceback"], "where native code was called"


def test_rows_that_a_call_made_before_it_ended_its_process_are_left_out(far: DataContext) -> None:
    made = numbers().flat_map(Ending().rows, on_error="skip")
    assert [row["id"] for row in made.iter_rows()] == [one for row in GOOD for one in (-1 - row, row)]
    assert made.dead_letters().count() == 0


@pytest.mark.parametrize(
    ("how", "text"),
    [("exit", "exited with code 7"), ("SIGKILL", r"killed by SIGKILL \(too little memory\?\)")],
)
def test_a_letter_says_how_the_process_ended(far: DataContext, how: str, text: str) -> None:
    made = numbers().map(Ending(how), on_error="dead_letter")
    assert [row["id"] for row in made.iter_rows()] == GOOD
    assert [bool(re.search(text, one["error"])) for one in made.dead_letters().take_all()] == [True, True]


@pytest.mark.parametrize("verb", ["map", "map_batches", "map_batches, generator", "map_batches, class"])
def test_a_row_that_ends_its_process_is_named_by_the_error(
    far: DataContext, tmp_path: Path, verb: str
) -> None:
    (tmp_path / "rows.csv").write_text("\n".join(["id", *map(str, range(20))]))
    made = VERBS[verb](skate.data.read_csv(str(tmp_path / "rows.csv")))
    with pytest.raises(
        RowCrashedError, match=f"SIGSEGV(?s:.*) at row \\d+ of task .*, from {tmp_path}/rows.csv"
    ) as caught:
        made.take_all()
    assert caught.value.row == {"id": 7}


def test_too_many_rows_that_end_their_process(far: DataContext) -> None:
    made = numbers().map(Ending("exit"), on_error="skip", max_errors=1)
    with pytest.raises(TooManyErrorsError, match="2 of .* rows failed(?s:.*)2 x RowCrashedError"):
        made.take_all()


def test_rows_that_were_passed_on_before_come_once(far: DataContext) -> None:
    far.target_max_block_size = 200_000
    made = skate.data.range(ROWS, override_num_blocks=1).map(Ending("exit", 100_000), on_error="skip")
    assert [row["id"] for row in made.iter_rows()] == GOOD


@pytest.mark.parametrize("resume", [False, True])
def test_a_write_of_what_is_left(far: DataContext, tmp_path: Path, resume: bool) -> None:
    numbers().map(Ending("exit"), on_error="skip").write_parquet(str(tmp_path / "out"), resume=resume)
    assert ids(tmp_path / "out") == Counter(GOOD)


class EndingOften:
    """Each range of a replica has a row that ends it."""

    def __init__(self, log: Path) -> None:
        attempt(log)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["id"] % 10 == 3:
            end_process("exit")
        return row


def test_a_pool_whose_every_range_ends_a_replica(far: DataContext, tmp_path: Path) -> None:
    far.target_max_block_size = 200_000
    before = numbers().map(lambda row: {**row, "payload": b"x" * 20_000})
    made = before.map(
        EndingOften, fn_constructor_args=[tmp_path / "log"], compute=ONE, on_error="dead_letter"
    )
    found = [row["id"] for row in made.iter_rows()]
    assert found == [number for number in range(ROWS) if number % 10 != 3]
    assert made.dead_letters().count() == 6
    assert attempt(tmp_path / "log") > 6, "replicas, and processes for calls, made the class anew"


class Once:
    """Cannot be made when the calls go to a process of their own: the fourth one."""

    def __init__(self, log: Path) -> None:
        if attempt(log) > 3:
            raise OSError("no weights")

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["id"] == 7:
            end_process("exit")
        return row


def test_no_row_is_to_blame_for_a_class_that_cannot_be_made_again(far: DataContext, tmp_path: Path) -> None:
    made = numbers().map(Once, fn_constructor_args=[tmp_path / "log"], compute=ONE, on_error="skip")
    with pytest.raises(OSError, match="no weights"):
        made.take_all()
    assert attempt(tmp_path / "log") == 5


class Ages:
    def of(self, number: int) -> int:
        return number


def test_functions_hold_what_cannot_be_pickled_and_use_the_session(far: DataContext) -> None:
    kept: dict[str, Any] = {}
    added = skate.put(100)
    ages = skate.remote(Ages).options(name="ages").remote()

    def add(row: dict[str, Any]) -> dict[str, Any]:
        kept.setdefault("lock", threading.Lock())
        if row["id"] in BAD:
            end_process("exit")
        age = skate.get(skate.get_actor("ages").of.remote(row["id"]))
        return {"id": age + skate.get(added)}

    made = numbers().map(add, on_error="skip")
    assert [row["id"] for row in made.iter_rows()] == [number + 100 for number in GOOD]
    assert skate.get(ages.of.remote(5)) == 5


def in_tens(row: dict[str, Any]) -> dict[str, Any]:
    return {"tens": row["id"] // 10, **row}


def first_of(group: Any) -> Any:
    if 33 in set(group["id"]):
        end("segfault")
    return group.head(1)


class Adds:
    """Sums by plain functions, of which one ends its process."""

    def __init__(self, ends: str) -> None:
        self.ends = ends

    def row(self, total: int, row: dict[str, Any]) -> int:
        return self.end("row", row["id"] == 33, total + row["id"])

    def merge(self, one: int, other: int) -> int:
        return self.end("merge", True, one + other)

    def result(self, total: int) -> int:
        return self.end("result", total > 300, total)

    def end(self, where: str, is_bad: bool, value: int) -> int:
        if where == self.ends and is_bad:
            end_process("exit")
        return value

    def aggregate(self) -> AggregateFn:
        return AggregateFn(lambda key: 0, self.merge, self.row, finalize=self.result, name="total")


def test_a_group_that_ends_its_process_is_named_by_the_error(far: DataContext) -> None:
    grouped = numbers().map(in_tens).groupby("tens")
    with pytest.raises(
        RowCrashedError, match=r"killed by SIGSEGV(?s:.*)MapGroups\(first_of\) failed \(tens=3, id=30\)"
    ) as caught:
        grouped.map_groups(first_of).take_all()
    assert caught.value.row == {"tens": 3, "id": 30}


@pytest.mark.parametrize(
    ("where", "row"), [("row", {"tens": 3, "id": 33}), ("merge", None), ("result", None)]
)
def test_an_aggregate_that_ends_its_process_is_named_by_the_error(
    far: DataContext, where: str, row: dict[str, Any] | None
) -> None:
    # Two tasks have rows of some groups, so that their results are merged.
    rows = skate.data.range(ROWS, override_num_blocks=4).map(in_tens)
    with pytest.raises(RowCrashedError, match=r"Aggregate\(tens: total\) ended its process") as caught:
        rows.groupby("tens").aggregate(Adds(where).aggregate()).take_all()
    assert caught.value.row == row


def test_groups_and_aggregates_of_isolated_tasks_are_right(far: DataContext, tmp_path: Path) -> None:
    """Processes end by chance, twice; the third attempt makes the calls elsewhere, and has the result."""
    rows = skate.data.range(ROWS, override_num_blocks=1).map(in_tens)

    def largest(group: Any) -> Any:
        if 33 in set(group["id"]) and attempt(tmp_path / "groups") <= 2:
            end_process("exit")
        yield {"largest": [group["id"].max()]}

    found = rows.groupby("tens").map_groups(largest).take_all()
    assert sorted(row["largest"] for row in found) == [9, 19, 29, 39, 49, 59]

    class Chance(Adds):
        def row(self, total: int, row: dict[str, Any]) -> int:
            if row["id"] == 33 and attempt(tmp_path / "rows") <= 2:
                end_process("exit")
            return total + int(row["id"])

    found = rows.groupby("tens").aggregate(Chance("").aggregate()).sort("tens").take_all()
    assert [row["total"] for row in found] == [sum(range(n, n + 10)) for n in range(0, ROWS, 10)]


class Lines(Datasink[int]):
    """Writes a file for each task; some rows end its process."""

    def __init__(self, folder: Path, ends: Callable[[int], bool]) -> None:
        self.folder = folder
        self.ends = ends

    def write(self, blocks: Any, ctx: Any) -> int:
        count = 0
        with (self.folder / f"{ctx.task_idx}.txt").open("w") as file:
            for block in blocks:
                for number in block["id"].to_pylist():
                    if self.ends(number):
                        end("segfault")
                    file.write(f"{number}\n")
                    count += 1
        return count


def test_rows_whose_write_ends_its_process_are_named_by_the_error(far: DataContext, tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_text("\n".join(["id", *map(str, range(20))]))
    (tmp_path / "out").mkdir()
    with pytest.raises(
        RowCrashedError,
        match=f"Lines ended its process: killed by SIGSEGV(?s:.*) rows 0 to 19 of task .*, from {source}",
    ):
        skate.data.read_csv(str(source)).write_datasink(Lines(tmp_path / "out", lambda number: number == 7))


def test_a_write_whose_process_ended_by_chance_has_all_rows(far: DataContext, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    log = tmp_path / "chance"
    numbers().write_datasink(Lines(tmp_path / "out", lambda number: number == 33 and attempt(log) <= 2))
    written = [int(line) for file in (tmp_path / "out").iterdir() for line in file.read_text().split()]
    assert sorted(written) == list(range(ROWS))
    assert attempt(log) == 4


class Endless(FileBasedDatasource):
    """Its decoder ends the process at some files, in the middle."""

    def _read_stream(self, f: Any, path: str) -> Any:
        number = int(f.readall())
        yield {"id": [number]}
        if number in BAD:
            end("segfault")
        if number == 5:
            raise ValueError("five")
        yield {"id": [100 + number]}


@pytest.mark.parametrize("on_error", ["dead_letter", "skip", "raise"])
def test_a_file_that_ends_the_process_of_its_decoder(far: DataContext, tmp_path: Path, on_error: str) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}.txt").write_text(str(number))
    read = skate.data.read_datasource(Endless(str(tmp_path), on_error=on_error), override_num_blocks=2)
    if on_error == "raise":
        for name in ("05.txt", "33.txt"):
            (tmp_path / name).write_text("6")
        with pytest.raises(ValueError, match=r"cannot read .*/07.txt: RowCrashedError: .* SIGSEGV"):
            read.take_all()
        return
    found = [row["id"] for row in read.iter_rows()]
    assert found == [
        one for number in range(40) for one in ([number] if number in (5, *BAD) else [number, 100 + number])
    ]
    paths = sorted(Path(letter["path"]).name for letter in read.dead_letters().take_all())
    assert paths == (["05.txt", "07.txt", "33.txt"] if on_error == "dead_letter" else [])


def test_what_no_row_is_to_blame_for_says_what_else_it_may_be(far: DataContext) -> None:
    """The text holds in Python 3.10, too, which has no notes."""

    def read() -> Any:
        end_process("exit")

    tasks = [ReadTask(read, BlockMetadata(1))]

    class Source(Datasource):
        def get_read_tasks(self, *args: Any, **kwargs: Any) -> list[ReadTask]:
            return tasks

    crashed = skate.exceptions.WorkerCrashedError
    with pytest.raises(
        crashed, match=r"code 7(?s:.*)task '0.0'\. Functions of rows(?s:.*) your own datasource"
    ):
        skate.data.read_datasource(Source()).map(lambda row: row, on_error="skip").take_all()
