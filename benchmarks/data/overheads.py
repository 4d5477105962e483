"""What engines cost where functions do nothing: starts, blocks, rows, pools, small data, many small files.

skate and Ray are asked by the same source: `data` is `skate.data` or `ray.data`.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.data.child import Measures, Task, sample
from benchmarks.data.engines.ray_api import RayApi
from benchmarks.measure import MIB, Sample, expect

PROGRAMS = {
    "skate": "import skate.data as data\nprint(data.range(10).map(lambda row: row).take(1))",
    "ray": "import ray, ray.data as data\n"
    "ray.init(include_dashboard=False)\n"
    "print(data.range(10).map(lambda row: row).take(1))",
    "daft": "import daft\n"
    "f = daft.func(lambda value: value, return_dtype=daft.DataType.int64())\n"
    "print(daft.from_pydict({'id': list(range(10))}).select(f(daft.col('id'))).limit(1).to_pydict())",
}
REPEATED_S = 0.5
FILE_BYTES = 4096
FILES_A_FOLDER = 1000


def measures(task: Task) -> Measures:
    """The lines of the session that the task names."""
    return {
        "first_row": first_row,
        "overheads": blocks,
        "rows": rows,
        "pools": pools,
        "small": small,
        "files": files,
        "ten_budgets": ten_budgets,
    }[task.session](task)


def first_row(task: Task) -> Measures:
    """A whole program, from the start of Python to its end, that prints one row."""

    def measure() -> Sample:
        with task.meter.section() as section:
            subprocess.run([sys.executable, "-c", PROGRAMS[task.engine]], check=True)
        return sample("first_row", section)

    yield "first_row", measure


def _started(task: Task, **options: Any) -> RayApi:
    api = RayApi(task.engine)
    api.start(task.workers, **options)
    return api


def _again(task: Task, line: str, once: Callable[[], Any], operations: float = 1, warm_up: int = 1) -> Sample:
    """Do it until half a second has passed; figures are those of one time, and of one operation of it."""
    for _ in range(warm_up):
        once()
    times = 0
    with task.meter.section() as section:
        until = time.perf_counter() + REPEATED_S
        while not times or time.perf_counter() < until:
            once()
            times += 1
    return sample(line, section, times * operations, times=times)


def _same(row: Any) -> Any:
    return row


def _same_in_list(row: Any) -> Any:
    return [row]


def _true(row: Any) -> bool:
    return True


def blocks(task: Task) -> Measures:
    """First rows and blocks of a warm session: 100 blocks, and 1,000 blocks of 1 kB in two steps."""
    api = _started(task)
    data = api.data
    count = max(50, round(1000 * task.scale))

    def chain() -> None:
        made = data.range(count * 128, override_num_blocks=count).map_batches(_same, batch_size=None)
        expect(made.materialize().count(), count * 128)

    def through_session() -> Sample:
        context = data.DataContext.get_current()
        usual, context.local_limit_bytes = context.local_limit_bytes, 0
        try:
            return _again(task, "block_session", chain, count)
        finally:
            context.local_limit_bytes = usual

    yield (
        "warm_first_row",
        lambda: _again(
            task,
            "warm_first_row",
            lambda: data.range(1000, override_num_blocks=100).map(_same).take(1),
        ),
    )
    yield "block_driver", lambda: _again(task, "block_driver", chain, count)
    if task.engine == "skate":
        yield "block_session", through_session
    api.stop()


def rows(task: Task) -> Measures:
    """Functions that return what they get, over rows that lie in memory; the result stays there."""
    count = max(20_000, round(1_000_000 * task.scale))
    if task.engine == "daft":
        yield from _rows_of_daft(task, count)
        return
    if task.engine == "plain":
        yield from _rows_in_plain_python(task, count)
        return
    api = _started(task)
    one = api.data.range(count, override_num_blocks=8).materialize()
    five = one.map_batches(_five_columns, batch_format="pyarrow", batch_size=None).materialize()

    def line(name: str, made: Callable[[], Any]) -> tuple[str, Callable[[], Sample]]:
        def once() -> None:
            expect(made().materialize().count(), count)

        return name, lambda: _again(task, name, once, count)

    def batches(form: str) -> Callable[[], Any]:
        return lambda: one.map_batches(_same, batch_size=256, batch_format=form)

    yield line("map_1", lambda: one.map(_same))
    yield line("map_5", lambda: five.map(_same))
    yield line("flat_map_1", lambda: one.flat_map(_same_in_list))
    yield line("filter_1", lambda: one.filter(_true))
    yield line("batches_numpy", batches("numpy"))
    yield line("batches_pandas", batches("pandas"))
    yield line("batches_arrow", batches("pyarrow"))
    api.stop()


def _five_columns(table: Any) -> Any:
    import pyarrow.compute as pc

    numbers = table.column("id")
    table = table.append_column("real", pc.cast(numbers, "float64"))
    table = table.append_column("text", pc.cast(numbers, "string"))
    table = table.append_column("flag", pc.equal(pc.bit_wise_and(numbers, 1), 0))
    return table.append_column("small", pc.cast(pc.bit_wise_and(numbers, 255), "int32"))


def _rows_of_daft(task: Task, count: int) -> Measures:
    daft = importlib.import_module("daft")
    frame = daft.from_pydict({"id": list(range(count))}).collect()
    whole, flag = daft.DataType.int64(), daft.DataType.bool()
    same = daft.func(_same, return_dtype=whole)
    true = daft.func(_true, return_dtype=flag)
    same_batch = daft.func.batch(return_dtype=whole, batch_size=256)(_same_array)

    def line(name: str, made: Callable[[], Any]) -> tuple[str, Callable[[], Sample]]:
        return name, lambda: _again(task, name, lambda: expect(len(made().collect()), count), count)

    yield line("map_1", lambda: frame.select(same(daft.col("id"))))
    yield line("filter_1", lambda: frame.where(true(daft.col("id"))))
    yield line("batches_numpy", lambda: frame.select(same_batch(daft.col("id"))))


def _same_array(series: Any) -> Any:
    return series.to_arrow().to_numpy()


def _rows_in_plain_python(task: Task, count: int) -> Measures:
    """From an Arrow table to dicts and back, in one process: the least that a `map` over dicts can cost."""
    import pyarrow as pa

    one = pa.table({"id": range(count)})
    five = _five_columns(one)

    def line(name: str, table: Any) -> tuple[str, Callable[[], Sample]]:
        def once() -> None:
            made = pa.Table.from_pylist([_same(row) for row in table.to_pylist()])
            expect(made.num_rows, count)

        return name, lambda: _again(task, name, once, count)

    yield line("map_1", one)
    yield line("map_5", five)


class Model:
    """Needs no time to load."""

    def __call__(self, batch: Any) -> Any:
        return batch


def pools(task: Task) -> Measures:
    """Ten rows through one replica of a class, in a session whose workers run, and the same again."""
    api = _started(task)

    def once() -> None:
        pool = api.data.ActorPoolStrategy(size=1)
        expect(len(api.data.range(10).map_batches(Model, compute=pool).take_all()), 10)

    def cold() -> Sample:
        # Workers and imports of the session are warm, the pool is not.
        expect(api.data.range(1000, override_num_blocks=4).map_batches(_same).materialize().count(), 1000)
        with task.meter.section() as section:
            once()
        return sample("pool_cold", section)

    yield "pool_cold", cold
    yield "pool_warm", lambda: _again(task, "pool_warm", once, warm_up=0)
    api.stop()


def small(task: Task) -> Measures:
    """Exchanges of ten rows and of a million, whatever the scale, in a session that has done each once."""
    count = 1_000_000
    if task.engine in ("polars", "duckdb"):
        yield from _million_of_frames(task, count)
        return
    api = _started(task)
    data = api.data
    made = data.range(count).map_batches(_thousand_groups, batch_format="pyarrow").materialize()
    ten = {
        "small_map": lambda: data.range(10).map(_same),
        "small_sort": lambda: data.range(10).sort("id"),
        "small_groupby": lambda: data.range(10).groupby("id").count(),
        "small_join": lambda: data.range(10).join(
            data.range(10), join_type="inner", num_partitions=2, on=("id",)
        ),
        "small_shuffle": lambda: data.range(10).random_shuffle(seed=1),
    }

    def line(name: str, make: Callable[[], Any], wanted: int) -> tuple[str, Callable[[], Sample]]:
        return name, lambda: _again(task, name, lambda: expect(len(make().take_all()), wanted))

    yield line("small_million", lambda: made.groupby("group").sum("id"), 1000)
    for name, make in ten.items():
        yield line(name, make, 10)
    api.stop()


def _thousand_groups(table: Any) -> Any:
    import numpy as np

    return table.append_column("group", [np.asarray(table.column("id")) % 1000])


def _million_of_frames(task: Task, count: int) -> Measures:
    import pyarrow as pa

    table = _thousand_groups(pa.table({"id": range(count)}))
    module = importlib.import_module(task.engine)
    if task.engine == "polars":
        frame = module.from_arrow(table)

        def once() -> int:
            return int(frame.group_by("group").agg(module.col("id").sum()).height)
    else:
        module.register("numbers", table)

        def once() -> int:
            return len(module.sql('select "group", sum(id) from numbers group by all').fetchall())

    yield "small_million", lambda: _again(task, "small_million", lambda: expect(once(), 1000))


def files(task: Task) -> Measures:
    """Files of 4 kB in folders of a thousand: until the first row is there, and until all bytes are."""
    count = max(200, round(100_000 * task.scale))
    folder = _small_files(Path(task.cache), count)
    wanted = count * FILE_BYTES
    api = _started(task) if task.engine in ("skate", "ray") else None

    def read() -> Any:
        assert api is not None
        return api.data.read_binary_files(str(folder))

    def all_of_frames() -> int:
        if task.engine == "daft":
            daft = importlib.import_module("daft")
            content = daft.functions.download(daft.col("path"))
            frame = daft.from_glob_path(f"{folder}/*/*").select(content.alias("bytes"))
            return sum(len(row["bytes"]) for row in frame.iter_rows())
        return sum(len(Path(path).read_bytes()) for path in _walk(folder))

    def first() -> None:
        if api is not None:
            expect(len(read().take(1)), 1)
        elif task.engine == "daft":
            daft = importlib.import_module("daft")
            content = daft.functions.download(daft.col("path"))
            next(iter(daft.from_glob_path(f"{folder}/*/*").select(content.alias("bytes")).iter_rows()))
        else:
            Path(next(_walk(folder))).read_bytes()

    def everything() -> None:
        if api is None:
            expect(all_of_frames(), wanted)
            return
        batches = read().iter_batches(batch_size=None, batch_format="pyarrow")
        expect(sum(len(it) for batch in batches for it in batch.column("bytes").to_pylist()), wanted)

    def line(name: str, do: Callable[[], None]) -> tuple[str, Callable[[], Sample]]:
        def measure() -> Sample:
            with task.meter.section() as section:
                do()
            return sample(name, section, files=count)

        return name, measure

    yield line("files_first_row", first)
    yield line("files_all", everything)
    if api is not None:
        api.stop()


def _walk(folder: Path) -> Any:
    for root, _, names in os.walk(folder):
        for name in names:
            yield os.path.join(root, name)


def _small_files(cache: Path, count: int) -> Path:
    """A folder with so many files, made once."""
    folder = cache / f"files-{count}"
    if not folder.exists():
        part = cache / f"files-{count}.part"
        for number in range(count):
            inner = part / f"{number // FILES_A_FOLDER:04d}"
            if number % FILES_A_FOLDER == 0:
                inner.mkdir(parents=True, exist_ok=True)
            (inner / f"{number:06d}.bin").write_bytes(number.to_bytes(8, "little") * (FILE_BYTES // 8))
        part.rename(folder)
    return folder


def _inflate(row: Any) -> Any:
    return {"id": row["id"], "content": bytes(MIB)}


def _touch(batch: Any) -> Any:
    return {"id": batch["id"], "content": [bytes(bytearray(it)) for it in batch["content"]]}


def _measure_rows(row: Any) -> Any:
    return {"id": row["id"], "size": len(row["content"]), "content": row["content"][: MIB // 2]}


def ten_budgets(task: Task) -> Measures:
    """Rows that become 1 MiB each, ten times the budget in all, and half of it reaches the loop.

    The budget is skate's `memory_limit_bytes`, and Ray's `object_store_memory`, which counts objects alone.
    """
    budget = max(128 * MIB, round(1024 * MIB * task.scale))
    count = 10 * budget // MIB
    api = _started(task, object_store_memory=budget) if task.engine == "ray" else _started(task)
    if task.engine == "skate":
        api.data.DataContext.get_current().memory_limit_bytes = budget

    def measure() -> Sample:
        made = api.data.range(count, override_num_blocks=count // 16).map(_inflate)
        made = made.map_batches(_touch, batch_size=8).map(_measure_rows)
        with task.meter.section() as section:
            batches = made.iter_batches(batch_size=None, batch_format="pyarrow")
            expect(sum(batch.num_rows for batch in batches), count)
        return sample("ten_budgets", section, budget_mib=budget // MIB)

    yield "ten_budgets", measure
    api.stop()
