"""Writing files, modes, names, and sinks of one's own."""

from __future__ import annotations

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data
from ray.data import Datasink, SaveMode
from ray.data.datasource import BlockBasedFileDatasink, FilenameProvider, RowBasedFileDatasink

from .helpers import blocks, differs


def files(folder, ending=""):
    """Return the names of the files in and below a folder, without those that readers skip."""
    return sorted(
        name
        for _, folders, names in os.walk(folder)
        for name in names
        if name.endswith(ending) and not name.startswith(("_", "."))
        if not folders.clear() or True
    )


def lines(folder, ending):
    """Return the lines of all files."""
    return [line for name in files(folder) for line in (folder / name).read_text().splitlines()]


def test_parquet_comes_back(tmp_path):
    ds = blocks({"a": [1, 2], "b": ["x", None]})
    ds.write_parquet(str(tmp_path / "out"))
    assert ray.data.read_parquet(str(tmp_path / "out")).take_all() == ds.take_all()


def test_csv_has_a_header(tmp_path):
    blocks({"a": [1], "b": ["x"]}).write_csv(str(tmp_path / "out"))
    assert lines(tmp_path / "out", "csv") == ['"a","b"', '1,"x"']


def test_json_has_a_line_for_each_row(tmp_path):
    blocks({"a": [1, 2]}).write_json(str(tmp_path / "out"))
    assert [json.loads(line) for line in lines(tmp_path / "out", "json")] == [{"a": 1}, {"a": 2}]


def test_arrays_come_back(tmp_path):
    ray.data.range_tensor(3, shape=(2,)).write_numpy(str(tmp_path / "out"), column="data")
    assert sorted(row["data"].tolist() for row in ray.data.read_numpy(str(tmp_path / "out")).take_all()) == [
        [0, 0],
        [1, 1],
        [2, 2],
    ]


def test_images_are_written_one_a_row(tmp_path):
    pytest.importorskip("PIL")
    import numpy as np

    ds = ray.data.from_items([{"image": np.zeros((4, 4, 3), np.uint8)} for _ in range(3)])
    ds.write_images(str(tmp_path / "out"), column="image")
    assert len(files(tmp_path / "out", ".png")) == 3


def test_rows_go_into_a_data_base(tmp_path):
    import sqlite3

    path = str(tmp_path / "base.db")
    with sqlite3.connect(path) as connection:
        connection.execute("create table t (a integer, b text)")
    ds = blocks({"a": [1, 2], "b": ["x", "y"]})
    ds.write_sql("insert into t values (?, ?)", lambda: sqlite3.connect(path))
    with sqlite3.connect(path) as connection:
        assert connection.execute("select * from t").fetchall() == [(1, "x"), (2, "y")]


def test_partitions_are_folders(tmp_path):
    blocks({"k": ["a", "b", "a"], "x": [1, 2, 3]}).write_parquet(str(tmp_path / "out"), partition_cols=["k"])
    assert sorted(os.listdir(tmp_path / "out")) == ["k=a", "k=b"]
    rows = ray.data.read_parquet(str(tmp_path / "out")).take_all()
    assert sorted((row["k"], row["x"]) for row in rows) == [("a", 1), ("a", 3), ("b", 2)]


def test_most_rows_of_a_file(tmp_path):
    ray.data.range(10, override_num_blocks=1).write_parquet(str(tmp_path / "out"), max_rows_per_file=4)
    found = [pq.read_metadata(tmp_path / "out" / name).num_rows for name in files(tmp_path / "out")]
    assert sum(found) == 10
    assert max(found) <= 4


def test_least_rows_of_a_file(tmp_path):
    ray.data.range(10, override_num_blocks=10).write_parquet(str(tmp_path / "out"), min_rows_per_file=5)
    assert [pq.read_metadata(tmp_path / "out" / name).num_rows for name in files(tmp_path / "out")] == [5, 5]


def test_writes_append_by_default(tmp_path):
    for _ in range(2):
        ray.data.range(3).write_parquet(str(tmp_path / "out"))
    assert ray.data.read_parquet(str(tmp_path / "out")).count() == 6


def test_overwriting(tmp_path):
    for _ in range(2):
        ray.data.range(3).write_parquet(str(tmp_path / "out"), mode=SaveMode.OVERWRITE)
    assert ray.data.read_parquet(str(tmp_path / "out")).count() == 3


def test_ignoring(tmp_path):
    ray.data.range(3).write_parquet(str(tmp_path / "out"))
    ray.data.range(5).write_parquet(str(tmp_path / "out"), mode="ignore")
    assert ray.data.read_parquet(str(tmp_path / "out")).count() == 3


def test_creating_only(tmp_path):
    ray.data.range(3).write_parquet(str(tmp_path / "out"), mode=SaveMode.ERROR)
    with pytest.raises(ValueError):
        ray.data.range(3).write_parquet(str(tmp_path / "out"), mode=SaveMode.ERROR)


@differs(on="ray", reason="Nothing is written, not even the folder. Here an empty file with the schema.")
def test_an_empty_result_has_a_file_with_the_schema(tmp_path):
    ray.data.range(3).filter(lambda row: False).write_parquet(str(tmp_path / "out"))
    ds = ray.data.read_parquet(str(tmp_path / "out"))
    assert (ds.columns(), ds.count()) == (["id"], 0)


def fail_at_the_end(row):
    if row["id"] == 9:
        raise ValueError("on purpose")
    return row


def test_a_write_that_fails_says_why(tmp_path):
    with pytest.raises(Exception, match="on purpose"):
        ray.data.range(10).map(fail_at_the_end).write_parquet(str(tmp_path / "out"))


@differs(
    on="ray",
    reason="Files of the tasks that had finished stay, and nothing says that they are a part. Here none stays.",
)
def test_a_write_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(Exception, match="on purpose"):
        ray.data.range(10, override_num_blocks=5).map(fail_at_the_end).write_parquet(
            str(tmp_path / "out"), concurrency=1
        )
    assert files(tmp_path / "out") == []


class Names(FilenameProvider):
    """As users write them."""

    def get_filename_for_task(self, write_uuid, task_index):
        return f"part-{write_uuid}-{task_index}.parquet"


class Fixed(FilenameProvider):
    """The same names for each write."""

    def get_filename_for_task(self, write_uuid, task_index):
        return f"part-{task_index}.parquet"


def test_names_of_ones_own(tmp_path):
    ray.data.range(3, override_num_blocks=1).write_parquet(str(tmp_path / "out"), filename_provider=Names())
    assert all(name.startswith("part-") for name in files(tmp_path / "out"))


def test_names_that_come_again_are_refused_where_files_are_added(tmp_path):
    ds = ray.data.range(3, override_num_blocks=1)
    with pytest.raises(Exception, match="write_uuid"):
        ds.write_parquet(str(tmp_path / "out"), filename_provider=Fixed())
    ds.write_parquet(str(tmp_path / "out"), filename_provider=Fixed(), mode=SaveMode.OVERWRITE)
    assert all(name.startswith("part-0") for name in files(tmp_path / "out"))


class Rows(RowBasedFileDatasink):
    """A file for each row."""

    def write_row_to_file(self, row, file):
        file.write(str(row["id"]).encode())


class Counts(BlockBasedFileDatasink):
    """A file for each block."""

    def write_block_to_file(self, block, file):
        file.write(str(block.num_rows()).encode())


def test_a_sink_of_rows(tmp_path):
    ray.data.range(3).write_datasink(Rows(str(tmp_path / "out"), file_format="txt"))
    assert sorted(lines(tmp_path / "out", "txt")) == ["0", "1", "2"]


def test_a_sink_of_blocks(tmp_path):
    ray.data.range(3, override_num_blocks=1).write_datasink(Counts(str(tmp_path / "out"), file_format="txt"))
    assert lines(tmp_path / "out", "txt") == ["3"]


class Sum(Datasink):
    """As users write them."""

    def __init__(self):
        self.started = False
        self.total = None
        self.failed = None

    def on_write_start(self, *args, **kwargs):
        self.started = True

    def write(self, blocks, ctx):
        return sum(sum(pa.table(block)["id"].to_pylist()) for block in blocks)

    def on_write_complete(self, write_result):
        self.total = sum(write_result.write_returns)
        self.rows = write_result.num_rows

    def on_write_failed(self, error):
        self.failed = error


def test_a_sink_of_ones_own():
    sink = Sum()
    ray.data.range(4).write_datasink(sink)
    assert (sink.started, sink.total, sink.rows, sink.failed) == (True, 6, 4, None)


def test_a_sink_hears_of_a_failure():
    sink = Sum()
    with pytest.raises(Exception, match="on purpose"):
        ray.data.range(10).map(fail_at_the_end).write_datasink(sink)
    assert sink.failed is not None
    assert sink.total is None
