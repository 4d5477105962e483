"""Reading files, and data sources of one's own."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, Partitioning, PathPartitionFilter, ReadTask

from .helpers import differs


@pytest.fixture
def csv(tmp_path):
    """A folder of two files."""
    (tmp_path / "a.csv").write_text("x,y\n1,a\n2,b\n")
    (tmp_path / "b.csv").write_text("x,y\n3,c\n")
    return str(tmp_path)


def column(ds, name):
    """Return the values of a column, sorted."""
    return sorted((row[name] for row in ds.take_all()), key=repr)


def test_a_path_that_is_not_there_is_an_error_at_the_call(tmp_path):
    for read in (ray.data.read_csv, ray.data.read_parquet, ray.data.read_text, ray.data.read_json):
        with pytest.raises(FileNotFoundError):
            read(str(tmp_path / "missing"))


def test_missing_paths_can_be_left_out(csv):
    ds = ray.data.read_csv([csv + "/a.csv", csv + "/missing.csv"], ignore_missing_paths=True)
    assert column(ds, "x") == [1, 2]


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(ValueError):
        ray.data.read_csv(str(tmp_path)).take_all()


def test_a_folder_a_file_and_several(csv):
    assert column(ray.data.read_csv(csv), "x") == [1, 2, 3]
    assert column(ray.data.read_csv(csv + "/a.csv"), "x") == [1, 2]
    assert column(ray.data.read_csv([csv + "/b.csv", csv + "/a.csv"]), "x") == [1, 2, 3]


@differs(on="ray", reason="A FileNotFoundError: patterns are not supported. Here they are.")
def test_patterns_in_paths(csv):
    assert column(ray.data.read_csv(csv + "/*.csv"), "x") == [1, 2, 3]


def test_files_in_folders_below(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.csv").write_text("x\n1\n")
    assert column(ray.data.read_csv(str(tmp_path)), "x") == [1]


def test_hidden_files_are_left_out(csv):
    from pathlib import Path

    Path(csv, "_c.csv").write_text("x,y\n9,z\n")
    Path(csv, ".d.csv").write_text("x,y\n9,z\n")
    assert column(ray.data.read_csv(csv), "x") == [1, 2, 3]


def test_extensions_of_files(csv):
    from pathlib import Path

    Path(csv, "notes.txt").write_text("no table")
    assert column(ray.data.read_csv(csv, file_extensions=["csv"]), "x") == [1, 2, 3]


def test_paths_as_a_column(csv):
    assert [
        path.rpartition("/")[2] for path in column(ray.data.read_csv(csv, include_paths=True), "path")
    ] == [
        "a.csv",
        "a.csv",
        "b.csv",
    ]


def test_partitions_of_folders_are_columns(tmp_path):
    for year in (2023, 2024):
        (tmp_path / f"year={year}").mkdir()
        pq.write_table(pa.table({"x": [year % 100]}), tmp_path / f"year={year}" / "a.parquet")
    rows = ray.data.read_parquet(str(tmp_path)).take_all()
    assert sorted((row["x"], str(row["year"])) for row in rows) == [(23, "2023"), (24, "2024")]


def test_partitions_by_folder_names(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.csv").write_text("x\n1\n")
    partitioning = Partitioning("dir", field_names=["class"], base_dir=str(tmp_path))
    assert column(ray.data.read_csv(str(tmp_path), partitioning=partitioning), "class") == ["cat", "dog"]


def test_a_filter_of_partitions(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / f"class={name}").mkdir()
        (tmp_path / f"class={name}" / "a.csv").write_text(f"x\n{len(name)}\n")
    only = PathPartitionFilter.of(
        style="hive", base_dir=str(tmp_path), filter_fn=lambda parts: parts["class"] == "dog"
    )
    assert len(ray.data.read_csv(str(tmp_path), partition_filter=only).take_all()) == 1


@differs(
    on="ray", reason="It comes back as the text __HIVE_DEFAULT_PARTITION__. Here as null, as it was written."
)
def test_null_as_a_partition(tmp_path):
    ray.data.from_items([{"k": None, "x": 1}, {"k": "a", "x": 2}]).write_parquet(
        str(tmp_path), partition_cols=["k"]
    )
    assert column(ray.data.read_parquet(str(tmp_path)), "k") == ["a", None]


def test_columns_of_parquet(tmp_path):
    pq.write_table(pa.table({"a": [1], "b": [2]}), tmp_path / "a.parquet")
    assert ray.data.read_parquet(str(tmp_path), columns=["b"]).take_all() == [{"b": 2}]


def test_rows_of_parquet_are_counted_without_reading(tmp_path):
    pq.write_table(pa.table({"a": list(range(100))}), tmp_path / "a.parquet")
    assert ray.data.read_parquet(str(tmp_path)).count() == 100


def test_text_has_a_row_for_each_line_that_is_not_empty(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    assert ray.data.read_text(str(tmp_path)).take_all() == [{"text": "one"}, {"text": "two"}]
    assert ray.data.read_text(str(tmp_path), drop_empty_lines=False).count() == 3


def test_json_lines_and_lists(tmp_path):
    (tmp_path / "a.json").write_text('{"x": 1}\n{"x": 2}\n')
    (tmp_path / "b.json").write_text('[{"x": 3}]')
    assert column(ray.data.read_json(str(tmp_path / "a.json")), "x") == [1, 2]
    assert column(ray.data.read_json(str(tmp_path / "b.json")), "x") == [3]


def test_binary_files(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"abc")
    assert ray.data.read_binary_files(str(tmp_path)).take_all() == [{"bytes": b"abc"}]
    (row,) = ray.data.read_binary_files(str(tmp_path), include_paths=True).take_all()
    assert row["path"].endswith("a.bin")


def test_arrays_of_numpy(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    assert column(ray.data.read_numpy(str(tmp_path)), "data") == [0, 1, 2]


def test_images(tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    (row,) = ray.data.read_images(str(tmp_path)).take_all()
    assert row["image"].shape == (3, 4, 3)
    assert row["image"].dtype == np.uint8
    (row,) = ray.data.read_images(str(tmp_path), size=(6, 8), mode="L", include_paths=True).take_all()
    assert row["image"].shape == (6, 8)
    assert row["path"].endswith("a.png")


def test_grey_images_have_two_dimensions(tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.new("L", (4, 3)).save(tmp_path / "a.png")
    assert ray.data.read_images(str(tmp_path)).take(1)[0]["image"].shape == (3, 4)


def test_an_image_that_is_none_is_an_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(Exception, match=r"a\.png"):
        ray.data.read_images(str(tmp_path)).take_all()


def test_queries_of_sql(tmp_path):
    path = str(tmp_path / "base.db")
    with sqlite3.connect(path) as connection:
        connection.execute("create table t (a integer, b text)")
        connection.execute("insert into t values (1, 'x'), (2, 'y')")
    ds = ray.data.read_sql("select * from t", lambda: sqlite3.connect(path))
    assert column(ds, "b") == ["x", "y"]


def test_archives_of_webdataset(tmp_path):
    import io
    import tarfile

    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for key, label in (("one", 1), ("two", 2)):
            for name, data in ((f"{key}.cls", str(label)), (f"{key}.json", json.dumps({"k": key}))):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data.encode()))
    rows = ray.data.read_webdataset(str(tmp_path)).take_all()
    assert [(row["__key__"], row["cls"], row["json"]["k"]) for row in rows] == [
        ("one", 1, "one"),
        ("two", 2, "two"),
    ]


class Squares(Datasource):
    """As users write them."""

    def __init__(self, count):
        super().__init__()
        self.count = count

    def estimate_inmemory_data_size(self):
        return None

    def get_read_tasks(self, parallelism, per_task_row_limit=None, data_context=None):
        def read(number):
            return [pa.table({"x": [number * number]})]

        return [
            ReadTask(
                lambda number=number: read(number),
                BlockMetadata(num_rows=1, size_bytes=8, exec_stats=None, input_files=None),
            )
            for number in range(self.count)
        ]


def test_a_source_of_ones_own():
    ds = ray.data.read_datasource(Squares(3))
    assert column(ds, "x") == [0, 1, 4]
    assert ds.count() == 3


def test_old_spellings_of_the_number_of_blocks():
    assert ray.data.range(10, parallelism=2).materialize().num_blocks() == 2
