"""Sort, groupby, join and shuffle of more rows than the memory budget holds, from parquet to parquet.

A full run has 40 million rows of a key, a number and a text of 100 bytes: 5 GB, five times the budget. DuckDB
is given the same limit and as many threads; Polars knows no limit; Ray's is that of its object store.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.data.child import Measures, Task, sample
from benchmarks.data.engines.ray_api import RayApi
from benchmarks.measure import MIB, Sample, expect

ROWS = 40_000_000
ROW_BYTES = 124
FILES = 16
TEXT_BYTES = 100
LEAST_BUDGET = 128 * MIB


def measures(task: Task) -> Measures:
    """The one line of the session that the task names."""
    rows = max(50_000, round(ROWS * task.scale))
    budget = max(LEAST_BUDGET, rows * ROW_BYTES // 5)
    left = _table(Path(task.cache), "left", rows)
    right_rows = {"exchange_join": rows // 5, "exchange_join_small": rows // 500}.get(task.session, 0)
    right = _table(Path(task.cache), "right", right_rows) if right_rows else left

    def measure() -> Sample:
        output = task.fresh_folder()
        run = {"duckdb": _duckdb, "polars": _polars}.get(task.engine, _ray_api)
        with task.meter.section() as section:
            run(task, str(left), str(right), output, budget)
        facts = _facts(output, task.session)
        shutil.rmtree(Path(output).parent, ignore_errors=True)
        return sample(task.session, section, rows=rows, budget_mib=budget // MIB, written=facts, inputs=rows)

    yield task.session, measure


def _table(cache: Path, side: str, rows: int) -> Path:
    """A folder of parquet files, made once. Keys are below half the rows; the right side has each once."""
    folder = cache / f"table-{side}-{rows}"
    if folder.exists():
        return folder
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    part = folder.with_suffix(".part")
    part.mkdir(parents=True, exist_ok=True)
    for number in range(FILES):
        first, last = rows * number // FILES, rows * (number + 1) // FILES
        draw = np.random.default_rng([number, side == "left"])
        keys = draw.integers(0, rows // 2, last - first) if side == "left" else np.arange(first, last)
        letters = draw.integers(97, 123, (last - first) * TEXT_BYTES, dtype=np.uint8)
        offsets = np.arange(0, len(letters) + 1, TEXT_BYTES, dtype=np.int32)
        text = pa.StringArray.from_buffers(last - first, pa.py_buffer(offsets), pa.py_buffer(letters))
        columns = {"key": keys, "value": draw.random(last - first)}
        if side == "left":
            columns |= {"few": keys % 1000, "text": text}
        else:
            columns = {"key": keys, "other": columns["value"], "note": text}
        pq.write_table(pa.table(columns), part / f"{number:02d}.parquet", row_group_size=128 << 10)
    part.rename(folder)
    return folder


def _facts(output: str, session: str) -> dict[str, Any]:
    """Rows and sums of what was written, and whether it is in order."""
    import glob

    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    rows, keys, values = 0, 0, 0.0
    for path in glob.glob(f"{output}/**/*.parquet", recursive=True):
        table = pq.ParquetFile(path).read()
        rows += table.num_rows
        key = "few" if session == "exchange_few" else "key"
        keys += int(pc.sum(table.column(key)).as_py() or 0)
        numbers = [name for name in table.column_names if name in ("value", "total", "sum(value)")]
        values += float(pc.sum(table.column(numbers[0])).as_py() or 0)
        if session == "exchange_sort":
            found = table.column("key").combine_chunks()
            expect(pc.all(pc.less_equal(found[:-1], found[1:])).as_py() in (True, None), True)
    return {"rows": rows, "errors": 0, "checksum": keys % 2**64, "inexact": values}


def _ray_api(task: Task, left: str, right: str, output: str, budget: int) -> None:
    api = RayApi(task.engine)
    if task.engine == "ray":
        api.start(task.workers, object_store_memory=budget)
    else:
        api.start(task.workers)
        api.data.DataContext.get_current().memory_limit_bytes = budget
    data = api.data
    aggregates = importlib.import_module(f"{api.package}.data.aggregate")
    summed = [aggregates.Sum("value", alias_name="total"), aggregates.Count(alias_name="count")]

    def joined(made: Any) -> Any:
        parts = max(2, task.workers * 4)
        other = data.read_parquet(right)
        return made.join(other, join_type="inner", num_partitions=parts, on=("key",))

    verbs: dict[str, Callable[[Any], Any]] = {
        "exchange_sort": lambda made: made.sort("key"),
        "exchange_few": lambda made: made.groupby("few").aggregate(*summed),
        "exchange_many": lambda made: made.groupby("key").aggregate(*summed),
        "exchange_join": joined,
        "exchange_join_small": joined,
        "exchange_shuffle": lambda made: made.random_shuffle(seed=1),
    }
    verbs[task.session](data.read_parquet(left)).write_parquet(output)
    api.stop()


def _duckdb(task: Task, left: str, right: str, output: str, budget: int) -> None:
    duckdb = importlib.import_module("duckdb")
    connection = duckdb.connect()
    connection.execute(f"set threads = {task.workers}")
    connection.execute(f"set memory_limit = '{budget // MIB}MiB'")
    connection.execute(f"set temp_directory = '{Path(output).parent}/spilled'")
    if task.session != "exchange_sort":
        connection.execute("set preserve_insertion_order = false")
    rows, other = f"read_parquet('{left}/*.parquet')", f"read_parquet('{right}/*.parquet')"
    query = {
        "exchange_sort": f"select * from {rows} order by key",
        "exchange_few": f"select few, sum(value) as total, count(*) as count from {rows} group by few",
        "exchange_many": f"select key, sum(value) as total, count(*) as count from {rows} group by key",
        "exchange_join": f"select * from {rows} as a join {other} as b using (key)",
        "exchange_join_small": f"select * from {rows} as a join {other} as b using (key)",
        "exchange_shuffle": f"select * from {rows} order by random()",
    }[task.session]
    Path(output).mkdir(parents=True)
    connection.execute(f"copy ({query}) to '{output}/rows.parquet' (format parquet)")


def _polars(task: Task, left: str, right: str, output: str, budget: int) -> None:
    os.environ["POLARS_MAX_THREADS"] = str(task.workers)
    polars = importlib.import_module("polars")
    rows, other = polars.scan_parquet(f"{left}/*.parquet"), polars.scan_parquet(f"{right}/*.parquet")
    summed = [polars.col("value").sum().alias("total"), polars.len().alias("count")]
    made = {
        "exchange_sort": lambda: rows.sort("key"),
        "exchange_few": lambda: rows.group_by("few").agg(summed),
        "exchange_many": lambda: rows.group_by("key").agg(summed),
        "exchange_join": lambda: rows.join(other, on="key"),
        "exchange_join_small": lambda: rows.join(other, on="key"),
    }[task.session]()
    Path(output).mkdir(parents=True)
    made.sink_parquet(f"{output}/rows.parquet", engine="streaming")
